//! The shape of a policy, as `config.json` of a Hugging Face folder gives it.
//!
//! Everything that would make the same weights compute something else (another model type, a scaled
//! rotary embedding, a sliding window, biases, quantised weights) is refused by name: a policy that is
//! nearly the one that was asked for is worse than none.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The shape of a Qwen3 decoder; the names are those of `config.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
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
    /// Added to the mean square before its root is taken.
    #[serde(default = "default_epsilon")]
    pub rms_norm_eps: f64,
    /// Whether the output projection is the embedding itself.
    #[serde(default)]
    pub tie_word_embeddings: bool,
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
    /// A model of this shape with tied embeddings, heads of `width / heads`, 4,096 positions and the
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
            vocab_size: vocabulary,
            hidden_size: width,
            intermediate_size: feed_forward,
            num_hidden_layers: layers,
            num_attention_heads: heads,
            num_key_value_heads: key_value_heads,
            head_dim: width / heads.max(1),
            max_position_embeddings: default_positions(),
            rope_theta: default_theta(),
            rms_norm_eps: default_epsilon(),
            tie_word_embeddings: true,
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
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.into(), source })?;
        ModelConfig::parse(&text, path)
    }

    /// Reads the text of a `config.json`; `path` is for the error.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn parse(text: &str, path: &Path) -> Result<ModelConfig, ConfigError> {
        let not_json = |reason: String| ConfigError::NotJson { path: path.into(), reason };
        let value: Value = serde_json::from_str(text).map_err(|error| not_json(error.to_string()))?;
        if !value.is_object() {
            return Err(not_json(format!("it is {value}")));
        }
        let file = File { path, value: &value };
        file.refuse_unsupported()?;
        let heads = file.count("num_attention_heads")?;
        let hidden = file.count("hidden_size")?;
        let config = ModelConfig {
            vocab_size: file.count("vocab_size")?,
            hidden_size: hidden,
            intermediate_size: file.count("intermediate_size")?,
            num_hidden_layers: file.count("num_hidden_layers")?,
            num_attention_heads: heads,
            num_key_value_heads: file.count_or("num_key_value_heads", heads)?,
            head_dim: file.count_or("head_dim", hidden / heads.max(1))?,
            max_position_embeddings: file.count("max_position_embeddings")?,
            rope_theta: file.rope_theta()?,
            rms_norm_eps: file.float("rms_norm_eps", default_epsilon())?,
            tie_word_embeddings: file.flag("tie_word_embeddings")?,
            initializer_range: file.float("initializer_range", default_range())?,
            eos_token_id: file.tokens("eos_token_id")?,
            bos_token_id: file.tokens("bos_token_id")?.first().copied(),
            pad_token_id: file.tokens("pad_token_id")?.first().copied(),
        };
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
        Ok(())
    }

    /// The text of a `config.json` that transformers and vLLM read.
    pub fn to_json(&self) -> String {
        // transformers 5 reads `rope_parameters` and `dtype`, earlier versions and other programs the
        // older keys: both are written, with the same content.
        let value = json!({
            "architectures": ["Qwen3ForCausalLM"],
            "model_type": "qwen3",
            "attention_bias": false,
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
            "rope_parameters": { "rope_type": "default", "rope_theta": self.rope_theta },
            "rms_norm_eps": self.rms_norm_eps,
            "tie_word_embeddings": self.tie_word_embeddings,
            "initializer_range": self.initializer_range,
            "use_sliding_window": false,
            "sliding_window": null,
            "dtype": "float32",
            "torch_dtype": "float32",
            "eos_token_id": self.end_tokens(),
            "bos_token_id": self.bos_token_id,
            "pad_token_id": self.pad_token_id,
        });
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

/// A parsed file with its name, so that every complaint can say where.
struct File<'a> {
    path: &'a Path,
    value: &'a Value,
}

impl File<'_> {
    fn get(&self, key: &str) -> Option<&Value> {
        self.value.get(key).filter(|value| !value.is_null())
    }

    fn wrong(&self, key: &'static str, expected: &'static str) -> ConfigError {
        let found = self.get(key).map_or("missing".into(), Value::to_string);
        ConfigError::Key { path: self.path.into(), key, found, expected }
    }

    fn unsupported(&self, key: &'static str, supported: &'static str) -> ConfigError {
        let found = self.get(key).map_or("missing".into(), Value::to_string);
        ConfigError::Unsupported { path: self.path.into(), key, found, supported }
    }

    fn count(&self, key: &'static str) -> Result<usize, ConfigError> {
        self.get(key)
            .and_then(Value::as_u64)
            .and_then(|count| usize::try_from(count).ok())
            .ok_or_else(|| self.wrong(key, "a count"))
    }

    fn count_or(&self, key: &'static str, absent: usize) -> Result<usize, ConfigError> {
        if self.get(key).is_none() { Ok(absent) } else { self.count(key) }
    }

    fn float(&self, key: &'static str, absent: f64) -> Result<f64, ConfigError> {
        self.get(key).map_or(Ok(absent), |value| value.as_f64().ok_or_else(|| self.wrong(key, "a number")))
    }

    fn flag(&self, key: &'static str) -> Result<bool, ConfigError> {
        self.get(key).map_or(Ok(false), |value| value.as_bool().ok_or_else(|| self.wrong(key, "true or false")))
    }

    /// None, one token or a list of them.
    fn tokens(&self, key: &'static str) -> Result<Vec<u32>, ConfigError> {
        let Some(value) = self.get(key) else { return Ok(Vec::new()) };
        let one = |value: &Value| value.as_u64().and_then(|token| u32::try_from(token).ok());
        let tokens = match value {
            Value::Array(values) => values.iter().map(one).collect(),
            value => one(value).map(|token| vec![token]),
        };
        tokens.ok_or_else(|| self.wrong(key, "a token or a list of tokens"))
    }

    fn rope_theta(&self) -> Result<f64, ConfigError> {
        match self.get("rope_parameters").and_then(|rope| rope.get("rope_theta")) {
            Some(theta) => theta.as_f64().ok_or_else(|| self.wrong("rope_parameters", "to hold a number `rope_theta`")),
            None => self.float("rope_theta", default_theta()),
        }
    }

    fn refuse_unsupported(&self) -> Result<(), ConfigError> {
        if self.get("model_type").and_then(Value::as_str) != Some("qwen3") {
            return Err(self.unsupported("model_type", "\"qwen3\""));
        }
        if self.get("hidden_act").is_some_and(|act| act != "silu") {
            return Err(self.unsupported("hidden_act", "\"silu\""));
        }
        if self.flag("attention_bias")? {
            return Err(self.unsupported("attention_bias", "false"));
        }
        if self.flag("use_sliding_window")? {
            return Err(self.unsupported("use_sliding_window", "false"));
        }
        let full = |layers: &Value| {
            layers.as_array().is_some_and(|layers| layers.iter().all(|layer| layer == "full_attention"))
        };
        if self.get("layer_types").is_some_and(|layers| !full(layers)) {
            return Err(self.unsupported("layer_types", "\"full_attention\" in every layer"));
        }
        for key in ["rope_scaling", "rope_parameters"] {
            let Some(rope) = self.get(key) else { continue };
            let kind = rope.get("rope_type").or_else(|| rope.get("type"));
            if kind.is_some_and(|kind| kind != "default") || rope.get("factor").is_some() {
                return Err(self.unsupported(key, "the plain rotary embedding (\"rope_type\": \"default\")"));
            }
        }
        if self.get("quantization_config").is_some() {
            return Err(self.unsupported("quantization_config", "a folder without it"));
        }
        Ok(())
    }
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
