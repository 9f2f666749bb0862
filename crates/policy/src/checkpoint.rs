//! Weights in and out of Hugging Face folders.
//!
//! A folder has one `model.safetensors`, or several files and `model.safetensors.index.json`. f32, bf16
//! and f16 are read, f32 is written. A name or shape that the config does not ask for is an error and
//! not a warning: nothing would tell later that a part of the model was random.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use crate::weights::{NamedTensor, Weights};
use crate::{ConfigError, ModelConfig};

/// Why a folder cannot be opened as a policy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenPolicyError {
    /// `config.json` is at fault.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The weights are at fault.
    #[error(transparent)]
    Weights(#[from] ReadWeightsError),
}

/// Why weights cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadWeightsError {
    /// Neither of the two layouts is there.
    #[error(
        "{dir} has neither model.safetensors nor model.safetensors.index.json\nhint: a folder with pytorch_model.bin must be saved as safetensors first"
    )]
    NoWeights {
        /// The folder.
        dir: PathBuf,
    },
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file is no safetensors file, or not a whole one.
    #[error(
        "{path} has {bytes} bytes and is not a whole safetensors file: {reason}\nhint: it may have been cut off while it was written or fetched"
    )]
    Broken {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: usize,
        /// The format's reason.
        reason: String,
    },
    /// The index is not one.
    #[error("{path} is not an index of safetensors files: {reason}")]
    BadIndex {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A tensor that the config asks for is not there.
    #[error("{path} lacks {count} of {expected} tensors, the first is `{name}`")]
    Missing {
        /// The file.
        path: PathBuf,
        /// The first that is missing, by name.
        name: String,
        /// How many are missing.
        count: usize,
        /// How many the config asks for.
        expected: usize,
    },
    /// A tensor that the config does not ask for.
    #[error("{path} has {count} tensors that the config does not ask for, the first is `{name}`")]
    Unexpected {
        /// The file.
        path: PathBuf,
        /// The first of them, by name.
        name: String,
        /// How many there are.
        count: usize,
    },
    /// A tensor has another shape.
    #[error("{path}: `{name}` has shape {found:?}, expected {expected:?} by the config")]
    Shape {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its shape.
        found: Vec<usize>,
        /// The config's.
        expected: Vec<usize>,
    },
    /// A tensor has another number format.
    #[error("{path}: `{name}` is stored as {found}, expected F32, BF16 or F16")]
    Format {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its format.
        found: String,
    },
    /// Tied embeddings, but two different ones are stored.
    #[error(
        "{path}: `lm_head.weight` differs from `model.embed_tokens.weight`, but the config ties them\nhint: set \"tie_word_embeddings\" to false"
    )]
    NotTied {
        /// The file.
        path: PathBuf,
    },
}

/// Why weights cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {path}: {reason}")]
pub struct WriteWeightsError {
    /// The file.
    pub path: PathBuf,
    /// The system's reason.
    pub reason: String,
}

/// Reads the weights of a folder, all tensors that `config` asks for and no other.
///
/// # Errors
/// See [`ReadWeightsError`].
pub(crate) fn read_folder(dir: &Path, config: &ModelConfig) -> Result<Weights, ReadWeightsError> {
    let single = dir.join("model.safetensors");
    let index = dir.join("model.safetensors.index.json");
    let expected = Weights::expected(config);
    let (mut found, named) = if single.is_file() {
        (read_file(&single)?, single)
    } else if index.is_file() {
        let mut found = BTreeMap::new();
        for shard in shards(&index)? {
            found.extend(read_file(&dir.join(shard))?);
        }
        (found, index)
    } else {
        return Err(ReadWeightsError::NoWeights { dir: dir.into() });
    };
    if config.tie_word_embeddings {
        // Some writers store the tied matrix twice; the same bits do no harm.
        if let Some(head) = found.remove("lm_head.weight")
            && found.get("model.embed_tokens.weight").is_some_and(|embedding| embedding.values != head.values)
        {
            return Err(ReadWeightsError::NotTied { path: named });
        }
    }
    select(found, expected, &named)
}

/// Reads one safetensors file that holds exactly the tensors `expected`, in that order, and the count
/// of steps in its [`Note`].
///
/// # Errors
/// See [`ReadWeightsError`].
pub(crate) fn read_exactly(
    path: &Path,
    expected: Vec<(String, Vec<usize>)>,
) -> Result<(Weights, u64), ReadWeightsError> {
    let bytes = read_bytes(path)?;
    let weights = select(parse(&bytes, path)?, expected, path)?;
    let steps = SafeTensors::read_metadata(&bytes)
        .ok()
        .and_then(|(_, metadata)| metadata.metadata().as_ref()?.get("steps")?.parse().ok());
    let reason = "its header does not say how many steps were made".to_owned();
    let broken = || ReadWeightsError::Broken { path: path.into(), bytes: bytes.len(), reason };
    Ok((weights, steps.ok_or_else(broken)?))
}

/// What the header of a file says apart from its tensors. It says one thing: the writer keeps several
/// in no fixed order, and equal weights must make equal files.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Note {
    /// Which library's tensors these are; transformers refuses a model that does not say it.
    Format,
    /// Optimizer steps done.
    Steps(u64),
}

/// Writes tensors as f32 under their names, with a note in the header. Equal tensors and notes make
/// equal bytes.
///
/// The file is written under another name first and then renamed, so that a run that is killed here
/// leaves no half of one.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn write_file<'a>(
    path: &Path,
    tensors: impl Iterator<Item = (String, &'a [usize], &'a [f32])>,
    note: Note,
) -> Result<(), WriteWeightsError> {
    let error = |reason: String| WriteWeightsError { path: path.into(), reason };
    let buffers: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .map(|(name, shape, values)| {
            (name, shape.to_vec(), values.iter().flat_map(|value| value.to_le_bytes()).collect())
        })
        .collect();
    let views = buffers
        .iter()
        .map(|(name, shape, bytes)| Ok((name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
        .map_err(|source| error(source.to_string()))?;
    let (key, value) = match note {
        Note::Format => ("format", "pt".to_owned()),
        Note::Steps(steps) => ("steps", steps.to_string()),
    };
    let metadata = [(key.to_owned(), value)].into();
    let bytes = safetensors::serialize(views, Some(metadata)).map_err(|source| error(source.to_string()))?;
    write_whole(path, &bytes)
}

/// Writes a file by way of a temporary name.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), WriteWeightsError> {
    let partial = path.with_extension("partial");
    std::fs::write(&partial, bytes)
        .and_then(|()| std::fs::rename(&partial, path))
        .map_err(|source| WriteWeightsError { path: path.into(), reason: source.to_string() })
}

/// The distinct files that an index names, in order.
fn shards(index: &Path) -> Result<BTreeSet<String>, ReadWeightsError> {
    let bad = |reason: String| ReadWeightsError::BadIndex { path: index.into(), reason };
    let text =
        std::fs::read_to_string(index).map_err(|source| ReadWeightsError::Read { path: index.into(), source })?;
    let value: Value = serde_json::from_str(&text).map_err(|error| bad(error.to_string()))?;
    let map = value
        .get("weight_map")
        .and_then(Value::as_object)
        .ok_or_else(|| bad("it has no object `weight_map`".into()))?;
    map.iter()
        .map(|(name, file)| {
            let file = file.as_str().ok_or_else(|| bad(format!("the file of `{name}` is {file}")))?;
            // An index must not lead out of its folder.
            let plain = Path::new(file).file_name().is_some_and(|plain| plain == file);
            if plain { Ok(file.to_owned()) } else { Err(bad(format!("the file of `{name}` is {file:?}"))) }
        })
        .collect()
}

fn read_file(path: &Path) -> Result<BTreeMap<String, NamedTensor>, ReadWeightsError> {
    parse(&read_bytes(path)?, path)
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, ReadWeightsError> {
    std::fs::read(path).map_err(|source| ReadWeightsError::Read { path: path.into(), source })
}

fn parse(bytes: &[u8], path: &Path) -> Result<BTreeMap<String, NamedTensor>, ReadWeightsError> {
    let broken = |reason: String| ReadWeightsError::Broken { path: path.into(), bytes: bytes.len(), reason };
    let file = SafeTensors::deserialize(bytes).map_err(|error| broken(error.to_string()))?;
    file.iter()
        .map(|(name, view)| {
            let values = to_f32(&view).ok_or_else(|| ReadWeightsError::Format {
                path: path.into(),
                name: name.into(),
                found: view.dtype().to_string(),
            })?;
            Ok((name.to_owned(), NamedTensor { name: name.to_owned(), shape: view.shape().to_vec(), values }))
        })
        .collect()
}

/// Puts what was found into the expected order and complains about every difference.
fn select(
    mut found: BTreeMap<String, NamedTensor>,
    expected: Vec<(String, Vec<usize>)>,
    path: &Path,
) -> Result<Weights, ReadWeightsError> {
    let path = || path.to_path_buf();
    let missing: Vec<&String> =
        expected.iter().map(|(name, _)| name).filter(|name| !found.contains_key(*name)).collect();
    if let Some(first) = missing.first() {
        let (name, count, expected) = (first.to_string(), missing.len(), expected.len());
        return Err(ReadWeightsError::Missing { path: path(), name, count, expected });
    }
    let mut tensors = Vec::with_capacity(expected.len());
    for (name, shape) in expected {
        let Some(tensor) = found.remove(&name) else { continue };
        if tensor.shape != shape {
            return Err(ReadWeightsError::Shape { path: path(), name, found: tensor.shape, expected: shape });
        }
        tensors.push(tensor);
    }
    if let Some(name) = found.keys().next() {
        return Err(ReadWeightsError::Unexpected { path: path(), name: name.clone(), count: found.len() });
    }
    Ok(Weights { tensors })
}

fn to_f32(view: &TensorView<'_>) -> Option<Vec<f32>> {
    let data = view.data();
    let halves = || data.chunks_exact(2).map(|bytes| u16::from_le_bytes([bytes[0], bytes[1]]));
    match view.dtype() {
        Dtype::F32 => Some(data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()),
        Dtype::BF16 => Some(halves().map(|bits| f32::from_bits(u32::from(bits) << 16)).collect()),
        Dtype::F16 => Some(halves().map(f16_to_f32).collect()),
        _ => None,
    }
}

/// IEEE half precision; every half is exactly a single.
fn f16_to_f32(bits: u16) -> f32 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let exponent = i32::from(bits >> 10 & 0x1f);
    let fraction = f32::from(bits & 0x3ff);
    sign * match exponent {
        0 => fraction * 2f32.powi(-24),
        31 if fraction == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        _ => (1024.0 + fraction) * 2f32.powi(exponent - 25),
    }
}
