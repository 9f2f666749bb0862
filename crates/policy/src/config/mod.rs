//! The shape of a policy, as `config.json` of a Hugging Face folder gives it.
//!
//! Everything that would make the same weights compute something else (another model type, a sliding
//! window, experts, an unknown rotary embedding, quantised weights) is refused by name, before a weight is
//! read: a policy that is nearly the one that was asked for is worse than none.

mod family;
mod file;
mod rotary;

use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::family::{Bias, Window};
pub use self::family::{Biases, Family};
use self::file::File;
pub(crate) use self::file::shortened;
pub use self::rotary::RopeScaling;

/// Bytes of a `config.json` at most: real ones have a few thousand.
const LARGEST: u64 = 4 << 20;

/// Layers at most: a stranger's number must not fill the memory with names.
const MOST_LAYERS: usize = 4096;

/// The shape of a decoder; the names are those of `config.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// What sets it apart from other decoders.
    #[serde(default)]
    pub family: Family,
    /// Tokens in the vocabulary.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the gated feed-forward layer.
    pub intermediate_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Query heads; a multiple of `num_key_value_heads`.
    pub num_attention_heads: usize,
    /// Key and value heads, each shared by as many query heads.
    pub num_key_value_heads: usize,
    /// Width of one head; even, and free of `hidden_size / num_attention_heads`.
    pub head_dim: usize,
    /// Positions at most: prompt, prefix and completion together.
    #[serde(default = "default_positions")]
    pub max_position_embeddings: usize,
    /// Base of the rotary frequencies.
    #[serde(default = "default_theta")]
    pub rope_theta: f64,
    /// What was done to these frequencies for longer contexts.
    #[serde(default)]
    pub rope_scaling: RopeScaling,
    /// Added to the mean square before its root is taken.
    #[serde(default = "default_epsilon")]
    pub rms_norm_eps: f64,
    /// Whether the output projection is the embedding itself.
    #[serde(default)]
    pub tie_word_embeddings: bool,
    /// Where biases are added; what the family allows.
    #[serde(default)]
    pub biases: Biases,
    /// Standard deviation of random weights.
    #[serde(default = "default_range")]
    pub initializer_range: f64,
    /// Tokens that end a text, where the folder says.
    #[serde(default)]
    pub eos_token_id: Vec<u32>,
    /// Token that starts a text, where the folder says.
    #[serde(default)]
    pub bos_token_id: Option<u32>,
    /// Token that fills up, where the folder says.
    #[serde(default)]
    pub pad_token_id: Option<u32>,
}

/// Why a `config.json` cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file is no JSON object.
    #[error("{path} is not a JSON object: {reason}")]
    NotJson {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A key is missing or of the wrong type.
    #[error("{path}: `{key}` is {found}, expected {expected}")]
    Key {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// What is there.
        found: String,
        /// What is needed.
        expected: &'static str,
    },
    /// The model needs something that this policy does not compute.
    #[error("{path}: `{key}` is {found}, but only {supported} is supported")]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// What is there.
        found: String,
        /// What would be.
        supported: &'static str,
    },
    /// The rotary embedding is described by a key that is not known for its type.
    #[error("{path}: `{key}` has `{inner}`: {found}, which is not supported for its \"rope_type\"")]
    Rope {
        /// The file.
        path: PathBuf,
        /// The object.
        key: &'static str,
        /// The key in it.
        inner: String,
        /// What is there.
        found: String,
    },
    /// The numbers do not fit each other.
    #[error(transparent)]
    Shape(#[from] ShapeError),
}

/// Numbers of a config that do not fit each other.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("the model's `{key}` is {found}, expected {expected}")]
pub struct ShapeError {
    /// The key.
    pub key: &'static str,
    /// What is there.
    pub found: String,
    /// What is needed.
    pub expected: String,
}

impl ModelConfig {
    /// A Qwen3 model of this shape with tied embeddings, heads of `width / heads`, 4,096 positions and the
    /// usual constants; change the fields for anything else.
    pub fn new(
        vocabulary: usize,
        width: usize,
        layers: usize,
        heads: usize,
        key_value_heads: usize,
        feed_forward: usize,
    ) -> ModelConfig {
        ModelConfig {
            family: Family::Qwen3,
            vocab_size: vocabulary,
            hidden_size: width,
            intermediate_size: feed_forward,
            num_hidden_layers: layers,
            num_attention_heads: heads,
            num_key_value_heads: key_value_heads,
            head_dim: width / heads.max(1),
            max_position_embeddings: default_positions(),
            rope_theta: default_theta(),
            rope_scaling: RopeScaling::Default,
            rms_norm_eps: default_epsilon(),
            tie_word_embeddings: true,
            biases: Biases::default(),
            initializer_range: default_range(),
            eos_token_id: Vec::new(),
            bos_token_id: None,
            pad_token_id: None,
        }
    }

    /// Reads `config.json`.
    ///
    /// # Errors
    /// When it cannot be read, lacks a number, or describes a model that this crate does not compute.
    pub fn read(path: &Path) -> Result<ModelConfig, ConfigError> {
        ModelConfig::parse(&read_text(path)?, path)
    }

    /// Reads the text of a `config.json`; `path` is for the error.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn parse(text: &str, path: &Path) -> Result<ModelConfig, ConfigError> {
        let not_json = |reason: String| ConfigError::NotJson { path: path.into(), reason };
        let value: Value = serde_json::from_str(text).map_err(|error| not_json(error.to_string()))?;
        if !value.is_object() {
            return Err(not_json(format!("it is {}", shortened(&value))));
        }
        let config = File { path, value: &value }.config()?;
        config.check()?;
        Ok(config)
    }

    /// Whether the numbers fit each other.
    ///
    /// # Errors
    /// The first number that does not.
    pub fn check(&self) -> Result<(), ShapeError> {
        let counts = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads),
            ("head_dim", self.head_dim),
            ("max_position_embeddings", self.max_position_embeddings),
        ];
        for (key, found) in counts {
            if found == 0 {
                return Err(ShapeError { key, found: "0".into(), expected: "at least 1".into() });
            }
        }
        if self.num_hidden_layers > MOST_LAYERS {
            let (found, expected) = (self.num_hidden_layers.to_string(), format!("at most {MOST_LAYERS}"));
            return Err(ShapeError { key: "num_hidden_layers", found, expected });
        }
        if !self.num_attention_heads.is_multiple_of(self.num_key_value_heads) {
            let expected = format!("a multiple of `num_key_value_heads` = {}", self.num_key_value_heads);
            return Err(ShapeError {
                key: "num_attention_heads",
                found: self.num_attention_heads.to_string(),
                expected,
            });
        }
        if !self.head_dim.is_multiple_of(2) {
            let expected = "an even number (rotary pairs)".into();
            return Err(ShapeError { key: "head_dim", found: self.head_dim.to_string(), expected });
        }
        for (key, found) in [("rope_theta", self.rope_theta), ("rms_norm_eps", self.rms_norm_eps)] {
            if !(found.is_finite() && found > 0.0) {
                return Err(ShapeError { key, found: found.to_string(), expected: "above 0".into() });
            }
        }
        let differences = self.family.differences();
        for (key, bias, is_there) in differences.biases(self.biases) {
            if (bias == Bias::Always && !is_there) || (bias == Bias::Never && is_there) {
                let expected = format!("{} for {}", !is_there, differences.model_type);
                return Err(ShapeError { key, found: is_there.to_string(), expected });
            }
        }
        // Where one key of the file speaks of both, they cannot differ.
        let both = differences.query_key_value_bias == differences.output_bias;
        if both && self.biases.query_key_value != self.biases.output {
            let expected = format!("{}, as `query_key_value`", self.biases.query_key_value);
            return Err(ShapeError { key: "output", found: self.biases.output.to_string(), expected });
        }
        // Sizes of matrices must be numbers, too.
        let sides = [
            ("vocab_size", self.vocab_size.checked_mul(self.hidden_size)),
            ("intermediate_size", self.intermediate_size.checked_mul(self.hidden_size)),
            (
                "num_attention_heads",
                self.num_attention_heads
                    .checked_mul(self.head_dim)
                    .and_then(|width| width.checked_mul(self.hidden_size)),
            ),
        ];
        for (key, size) in sides {
            if size.is_none_or(|size| size > isize::MAX as usize / 64) {
                let expected = "a matrix that fits into memory".into();
                return Err(ShapeError { key, found: "too large".into(), expected });
            }
        }
        self.rope_scaling.check(self.rope_theta)
    }

    /// The text of a `config.json` that transformers and vLLM read.
    pub fn to_json(&self) -> String {
        // transformers 5 reads `rope_parameters` and `dtype`, earlier versions and other programs the
        // older keys: both are written, with the same content.
        let differences = self.family.differences();
        let mut value = json!({
            "architectures": [differences.architecture],
            "model_type": differences.model_type,
            "attention_dropout": 0.0,
            "hidden_act": "silu",
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "num_key_value_heads": self.num_key_value_heads,
            "head_dim": self.head_dim,
            "max_position_embeddings": self.max_position_embeddings,
            "rope_theta": self.rope_theta,
            "rope_parameters": self.rope_scaling.to_json(self.rope_theta),
            "rms_norm_eps": self.rms_norm_eps,
            "tie_word_embeddings": self.tie_word_embeddings,
            "initializer_range": self.initializer_range,
            "dtype": "float32",
            "torch_dtype": "float32",
            "eos_token_id": self.end_tokens(),
            "bos_token_id": self.bos_token_id,
            "pad_token_id": self.pad_token_id,
        });
        for (_, bias, is_there) in differences.biases(self.biases) {
            if let Bias::Told(key) = bias {
                value[key] = json!(is_there);
            }
        }
        if differences.window == Window::Switch {
            value["use_sliding_window"] = json!(false);
        }
        if differences.window != Window::Never {
            value["sliding_window"] = Value::Null;
        }
        if self.rope_scaling != RopeScaling::Default {
            value["rope_scaling"] = self.rope_scaling.to_json(self.rope_theta);
        }
        format!("{value:#}\n")
    }

    /// The text of the `generation_config.json` beside it.
    pub fn generation_json(&self) -> String {
        let value = json!({
            "do_sample": true,
            "temperature": 1.0,
            "eos_token_id": self.end_tokens(),
            "bos_token_id": self.bos_token_id,
            "pad_token_id": self.pad_token_id,
        });
        format!("{value:#}\n")
    }

    /// Whether each head of queries and of keys is normed before it is turned.
    pub(crate) fn has_head_norms(&self) -> bool {
        self.family.differences().head_norms
    }

    /// Query heads that share one key and value head.
    pub(crate) fn heads_per_group(&self) -> usize {
        self.num_attention_heads / self.num_key_value_heads
    }

    /// Width of all query heads together.
    pub(crate) fn query_width(&self) -> usize {
        self.num_attention_heads * self.head_dim
    }

    /// Width of all key heads together; the values' too.
    pub(crate) fn key_value_width(&self) -> usize {
        self.num_key_value_heads * self.head_dim
    }

    /// One token alone is written as a number, as most folders have it.
    fn end_tokens(&self) -> Value {
        match self.eos_token_id.as_slice() {
            [] => Value::Null,
            [one] => json!(one),
            several => json!(several),
        }
    }
}

/// The text of a `config.json`, which must not be larger than any real one.
pub(crate) fn read_text(path: &Path) -> Result<String, ConfigError> {
    let read = |source| ConfigError::Read { path: path.into(), source };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(read)?;
    file.take(LARGEST + 1).read_to_string(&mut text).map_err(read)?;
    if text.len() as u64 > LARGEST {
        let reason = format!("it is larger than {LARGEST} bytes");
        return Err(ConfigError::NotJson { path: path.into(), reason });
    }
    Ok(text)
}

fn default_positions() -> usize {
    4096
}

fn default_theta() -> f64 {
    10_000.0
}

fn default_epsilon() -> f64 {
    1e-6
}

fn default_range() -> f64 {
    0.02
}
