//! Adapters as Hugging Face's PEFT keeps them: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! Only what is computed here is read: LoRA with one rank on whole matrices of every layer. Every other
//! feature that a config switches on is refused by its name, a key that is not known too, unless it says null,
//! false or nothing at all. `lora_dropout` acts while PEFT trains and not in the model that comes of it, so it
//! is read over; nothing is dropped here.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::{Adapter, Lora, LoraError, Scaling, Target};
use crate::checkpoint::{self, Format, Note, Piece, ReadWeightsError, WriteWeightsError};
use crate::config::{read_text, shortened};
use crate::weights::{NamedTensor, Weights};
use crate::{ConfigError, ModelConfig};

/// Why a folder is no adapter for a model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadAdapterError {
    /// There is no `adapter_config.json`, or it is no JSON object.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The adapter needs something that is not computed here, or a key makes no sense.
    #[error("{path}: `{key}` is {found}, but only {supported} is supported")]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// What is there.
        found: String,
        /// What would be.
        supported: String,
    },
    /// The model that it is for is not where it says.
    #[error(
        "{path}: `base_model_name_or_path` is {found}, expected the folder of the model, seen from here\n\
         hint: `toehold merge ADAPTER OUT --base MODEL` makes one model of the two"
    )]
    Base {
        /// The file.
        path: PathBuf,
        /// What is there.
        found: String,
    },
    /// Its numbers make no sense.
    #[error(transparent)]
    Lora(#[from] LoraError),
    /// The weights are at fault.
    #[error(transparent)]
    Weights(#[from] ReadWeightsError),
}

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";

/// What PEFT puts before the names of tensors.
const BEFORE: &str = "base_model.model.";

/// Keys that say nothing about what is computed.
const SAYS_NOTHING: [&str; 11] = [
    "auto_mapping",
    "base_model_name_or_path",
    "inference_mode",
    "lora_dropout",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    // These are read for what they are.
    "r",
    "lora_alpha",
    "target_modules",
];

/// Ways to begin that leave the base as it is; the others store an adapter that fits another base.
const BEGINNINGS: [&str; 3] = ["gaussian", "eva", "orthogonal"];

/// Whether a folder holds an adapter and no model.
pub(crate) fn is_adapter_folder(dir: &Path) -> bool {
    dir.join(CONFIG).is_file() && !dir.join("config.json").is_file()
}

/// The folder of the model that an adapter is for, as its config names it.
pub(crate) fn base_of(dir: &Path) -> Result<PathBuf, ReadAdapterError> {
    let path = dir.join(CONFIG);
    let file = File { path: &path, keys: &object(&path)? };
    match file.get("base_model_name_or_path").as_str() {
        Some(base) if Path::new(base).is_dir() => Ok(base.into()),
        _ => Err(ReadAdapterError::Base { found: shortened(file.get("base_model_name_or_path")), path }),
    }
}

pub(super) fn read(dir: &Path, config: &ModelConfig) -> Result<Adapter, ReadAdapterError> {
    let path = dir.join(CONFIG);
    let lora = File { path: &path, keys: &object(&path)? }.lora(config)?;
    let expected = Adapter::expected(config, &lora);
    let stored = expected.iter().map(|(name, shape)| (format!("{BEFORE}{name}"), shape.clone())).collect();
    let lists = checkpoint::read_tensors(&dir.join(WEIGHTS), stored)?;
    let tensors = expected.into_iter().zip(lists).map(|((name, shape), values)| NamedTensor { name, shape, values });
    Ok(Adapter { lora, weights: Weights { tensors: tensors.collect() } })
}

pub(super) fn write(dir: &Path, adapter: &Adapter, base: Option<&Path>) -> Result<(), WriteWeightsError> {
    let Lora { rank, alpha, targets, scaling } = adapter.lora();
    let config = json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base.map(|base| base.display().to_string()),
        "r": rank,
        "lora_alpha": whole(*alpha),
        "use_rslora": *scaling == Scaling::ByRootOfRank,
        "target_modules": targets,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": false,
        "inference_mode": true,
        "init_lora_weights": true,
    });
    checkpoint::write_whole(&dir.join(CONFIG), format!("{config:#}\n").as_bytes())?;
    let pieces = adapter.weights().tensors.iter().map(|tensor| Piece::Numbers {
        name: format!("{BEFORE}{}", tensor.name),
        format: Format::F32,
        shape: &tensor.shape,
        values: &tensor.values,
    });
    checkpoint::write_file(&dir.join(WEIGHTS), pieces.collect(), Note::Format)
}

/// A whole number as one: PEFT's own type for `lora_alpha`.
fn whole(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 1e9 { json!(value as i64) } else { json!(value) }
}

fn object(path: &Path) -> Result<Map<String, Value>, ReadAdapterError> {
    let not_json = |reason: String| ConfigError::NotJson { path: path.into(), reason };
    match serde_json::from_str(&read_text(path)?).map_err(|error| not_json(error.to_string()))? {
        Value::Object(keys) => Ok(keys),
        other => Err(not_json(format!("it is {}", shortened(&other))).into()),
    }
}

/// The keys of a config, and where they stand.
struct File<'a> {
    path: &'a Path,
    keys: &'a Map<String, Value>,
}

impl File<'_> {
    fn get(&self, key: &str) -> &Value {
        self.keys.get(key).unwrap_or(&Value::Null)
    }

    fn lora(&self, config: &ModelConfig) -> Result<Lora, ReadAdapterError> {
        self.one_of("peft_type", |value| value == "LORA", "\"LORA\"")?;
        self.one_of("task_type", |value| value.is_null() || value == "CAUSAL_LM", "\"CAUSAL_LM\" or null")?;
        self.one_of("bias", |value| value.is_null() || value == "none", "\"none\"")?;
        let begins = |value: &Value| match value {
            Value::Null | Value::Bool(_) => true,
            value => value.as_str().is_some_and(|name| BEGINNINGS.contains(&name)),
        };
        self.one_of("init_lora_weights", begins, "true, false, \"gaussian\", \"eva\" or \"orthogonal\"")?;
        self.one_of("use_rslora", |value| value.is_null() || value.is_boolean(), "true or false")?;
        let read = ["peft_type", "task_type", "bias", "init_lora_weights", "use_rslora"];
        for (key, value) in self.keys {
            let is_off = match value {
                Value::Null | Value::Bool(false) => true,
                Value::Array(items) => items.is_empty(),
                Value::Object(keys) => keys.is_empty(),
                _ => false,
            };
            let key = key.as_str();
            if !(is_off || read.contains(&key) || SAYS_NOTHING.contains(&key)) {
                return Err(self.unsupported(key, "null, false or nothing"));
            }
        }
        let rank = self.get("r").as_u64().ok_or_else(|| self.unsupported("r", "a whole number"))?;
        let alpha = self.get("lora_alpha").as_f64().ok_or_else(|| self.unsupported("lora_alpha", "a number"))?;
        let scaling = if self.get("use_rslora") == true { Scaling::ByRootOfRank } else { Scaling::ByRank };
        let rank = usize::try_from(rank).unwrap_or(usize::MAX);
        let lora = Lora { rank, alpha, targets: self.targets(config.num_hidden_layers)?, scaling };
        lora.check()?;
        Ok(lora)
    }

    /// The matrices that `target_modules` names: by the end of their names, or one by one, in all layers.
    fn targets(&self, layers: usize) -> Result<Vec<Target>, ReadAdapterError> {
        let key = "target_modules";
        let value = self.get(key);
        if value == "all-linear" {
            return Ok(Target::ALL.to_vec());
        }
        let supported = "\"all-linear\" or a list of q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj and down_proj";
        let names: Option<Vec<&str>> = value.as_array().and_then(|list| list.iter().map(Value::as_str).collect());
        let names = names.ok_or_else(|| self.unsupported(key, supported))?;
        let (mut targets, mut known) = (Vec::new(), 0);
        for target in Target::ALL {
            // A name stands for every module whose own name ends with it, at a dot.
            let ends = |name: &str| target.part() == name || target.part().ends_with(&format!(".{name}"));
            if let Some(found) = names.iter().filter(|name| ends(name)).count().checked_sub(1) {
                known += found + 1;
                targets.push(target);
                continue;
            }
            let one = |name: &&str| {
                let name = name.strip_prefix("model.").unwrap_or(name);
                let (layer, part) = name.strip_prefix("layers.")?.split_once('.')?;
                (part == target.part()).then(|| layer.parse::<usize>().ok()).flatten()
            };
            let found: std::collections::BTreeSet<usize> =
                names.iter().filter_map(one).filter(|&layer| layer < layers).collect();
            known += found.len();
            match found.len() {
                0 => {}
                all if all == layers => targets.push(target),
                some => {
                    let part = target.part();
                    let found = format!("{part} in {some} of {layers} layers");
                    let (path, key, supported) = (self.path.into(), key.into(), "each matrix in all layers".into());
                    return Err(ReadAdapterError::Unsupported { path, key, found, supported });
                }
            }
        }
        if known < names.len() { Err(self.unsupported(key, supported)) } else { Ok(targets) }
    }

    fn one_of(&self, key: &str, is: impl Fn(&Value) -> bool, supported: &str) -> Result<(), ReadAdapterError> {
        if is(self.get(key)) { Ok(()) } else { Err(self.unsupported(key, supported)) }
    }

    fn unsupported(&self, key: &str, supported: &str) -> ReadAdapterError {
        let (path, found) = (self.path.into(), shortened(self.get(key)));
        ReadAdapterError::Unsupported { path, key: key.into(), found, supported: supported.into() }
    }
}
