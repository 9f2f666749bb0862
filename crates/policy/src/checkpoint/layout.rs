//! How a folder keeps its tensors, and the files beside them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::errors::ReadWeightsError;
use super::file::File;
use super::numbers::Format;
use crate::{ModelConfig, Weights};

/// What a folder is written by: its files, their tensors in order, and everything beside them.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    files: Vec<StoredFile>,
    /// Names and contents, the index among them; the config comes last.
    beside: Vec<(String, Vec<u8>)>,
}

#[derive(Clone, Debug)]
pub(super) struct StoredFile {
    pub(super) name: String,
    pub(super) tensors: Vec<Stored>,
}

/// A tensor in a file.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) name: String,
    pub(super) format: Format,
    pub(super) shape: Vec<usize>,
    pub(super) source: Source,
}

/// Where a tensor's content comes from.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// The model's tensor of this name; not always that in the file, where embeddings are tied.
    Weight(String),
    /// The file that was read: nothing here computes with it.
    Carried(Vec<u8>),
}

/// `model.safetensors.index.json`.
#[derive(Debug)]
pub(super) struct Index {
    path: PathBuf,
    /// By tensor: the file.
    map: BTreeMap<String, String>,
    pub(super) text: String,
}

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// What a model folder may have beside config and weights.
const BESIDE: [&str; 11] = [
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
    "chat_template.json",
    "LICENSE",
];

/// Bytes of such a file at most; the largest tokenizers have some 30 million.
const LARGEST_BESIDE: u64 = 256 << 20;

/// Bytes of an index at most; one of a thousand layers has some two million.
const LARGEST_INDEX: u64 = 64 << 20;

impl Layout {
    pub(super) fn new(files: Vec<StoredFile>, index: Option<String>) -> Layout {
        let beside = index.map(|text| (INDEX.to_owned(), text.into_bytes()));
        Layout { files, beside: beside.into_iter().collect() }
    }

    /// One file of f32, and the config's own text.
    pub(crate) fn of_model(config: &ModelConfig) -> Layout {
        let tensors = Weights::expected(config).into_iter().map(|(name, shape)| {
            let source = Source::Weight(name.clone());
            Stored { name, format: Format::F32, shape, source }
        });
        Layout {
            files: vec![StoredFile { name: SINGLE.to_owned(), tensors: tensors.collect() }],
            beside: vec![
                ("generation_config.json".to_owned(), config.generation_json().into_bytes()),
                ("config.json".to_owned(), config.to_json().into_bytes()),
            ],
        }
    }

    /// Remembers the files that stand beside the weights in `dir`, to be written as they are.
    pub(super) fn with_files_of(mut self, dir: &Path, config: String) -> Result<Layout, ReadWeightsError> {
        for name in BESIDE {
            let path = dir.join(name);
            if path.is_file() {
                self.beside.push((name.to_owned(), read_bounded(&path, LARGEST_BESIDE)?));
            }
        }
        self.beside.push(("config.json".to_owned(), config.into_bytes()));
        Ok(self)
    }

    /// Whether the folder holds every number as it is in memory.
    pub(crate) fn is_exact(&self) -> bool {
        self.files
            .iter()
            .flat_map(|file| &file.tensors)
            .all(|stored| stored.format == Format::F32 || matches!(stored.source, Source::Carried(_)))
    }

    pub(super) fn files(&self) -> &[StoredFile] {
        &self.files
    }

    pub(super) fn beside(&self) -> &[(String, Vec<u8>)] {
        &self.beside
    }
}

/// The files of a folder's weights: what to name in a complaint, the index where there is one, and their
/// names.
pub(super) fn files(dir: &Path) -> Result<(PathBuf, Option<Index>, Vec<String>), ReadWeightsError> {
    let (single, index) = (dir.join(SINGLE), dir.join(INDEX));
    if single.is_file() {
        return Ok((single, None, vec![SINGLE.to_owned()]));
    }
    if !index.is_file() {
        return Err(match pickle(dir) {
            Some(file) => ReadWeightsError::Pickle { dir: dir.into(), file },
            None => ReadWeightsError::NoWeights { dir: dir.into() },
        });
    }
    let read = Index::read(&index)?;
    let files: BTreeSet<String> = read.map.values().cloned().collect();
    Ok((index, Some(read), files.into_iter().collect()))
}

/// The first file of weights that only Python's unpickler reads.
fn pickle(dir: &Path) -> Option<String> {
    let names = fs::read_dir(dir).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let is_one = |name: &String| [".bin", ".pt", ".pth", ".ckpt"].iter().any(|ending| name.ends_with(ending));
    // Training leaves pickles of its own beside the weights.
    let weights =
        |name: &String| ["pytorch_model", "consolidated", "model"].iter().any(|begin| name.starts_with(begin));
    names.filter(|name| is_one(name) && weights(name)).min()
}

impl Index {
    fn read(path: &Path) -> Result<Index, ReadWeightsError> {
        let bad = |reason: String| ReadWeightsError::BadIndex { path: path.into(), reason };
        let text = String::from_utf8(read_bounded(path, LARGEST_INDEX)?).map_err(|_| bad("it is not UTF-8".into()))?;
        let value: Value = serde_json::from_str(&text).map_err(|error| bad(error.to_string()))?;
        let map = value
            .get("weight_map")
            .and_then(Value::as_object)
            .ok_or_else(|| bad("it has no object `weight_map`".into()))?;
        let entry = |(name, file): (&String, &Value)| {
            let file = file.as_str().ok_or_else(|| bad(format!("the file of `{name}` is no name")))?;
            // An index must not lead out of its folder.
            let plain = Path::new(file).file_name().is_some_and(|plain| plain == file);
            let plain = plain && !file.contains(['\\', ':']) && file.ends_with(".safetensors");
            if plain {
                Ok((name.clone(), file.to_owned()))
            } else {
                Err(bad(format!("the file of `{name}` is {file:?}")))
            }
        };
        let map: BTreeMap<String, String> = map.iter().map(entry).collect::<Result<_, _>>()?;
        if map.is_empty() {
            return Err(bad("its `weight_map` is empty".into()));
        }
        Ok(Index { path: path.into(), map, text })
    }

    /// That each tensor is where the index says, and that there is no other.
    pub(super) fn check(&self, files: &[File]) -> Result<(), ReadWeightsError> {
        let bad = |reason: String| Err(ReadWeightsError::BadIndex { path: self.path.clone(), reason });
        let mut found = 0;
        for file in files {
            let name = file.name();
            for listed in &file.tensors {
                match self.map.get(&listed.name) {
                    Some(said) if *said == name => found += 1,
                    Some(said) => return bad(format!("`{}` is in {name}, not in {said}", listed.name)),
                    None => return bad(format!("it does not know `{}` in {name}", listed.name)),
                }
            }
        }
        if found == self.map.len() {
            return Ok(());
        }
        let there: BTreeSet<&String> = files.iter().flat_map(|file| &file.tensors).map(|listed| &listed.name).collect();
        match self.map.iter().find(|(name, _)| !there.contains(name)) {
            Some((name, file)) => bad(format!("`{name}` is not in {file}")),
            None => Ok(()),
        }
    }
}

fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, ReadWeightsError> {
    let read = |source| ReadWeightsError::Read { path: path.into(), source };
    let mut bytes = Vec::new();
    fs::File::open(path).map_err(read)?.take(limit + 1).read_to_end(&mut bytes).map_err(read)?;
    if bytes.len() as u64 > limit {
        return Err(ReadWeightsError::TooLarge { path: path.into(), limit });
    }
    Ok(bytes)
}
