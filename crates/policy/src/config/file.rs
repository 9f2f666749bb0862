//! Reading `config.json`: what it says of the model, and what in it is refused.

use std::path::Path;

use serde_json::{Map, Value};

use super::family::{Bias, Biases, Differences, Family, MODEL_TYPES, Window};
use super::rotary::{RopeScaling, attention_factor};
use super::{ConfigError, ModelConfig, default_epsilon, default_range, default_theta};

/// A parsed file with its name, so that every complaint can say where.
pub(super) struct File<'a> {
    pub(super) path: &'a Path,
    pub(super) value: &'a Value,
}

impl File<'_> {
    pub(super) fn config(&self) -> Result<ModelConfig, ConfigError> {
        let family = self.get("model_type").and_then(Value::as_str).and_then(Family::of);
        let family = family.ok_or_else(|| self.unsupported("model_type", MODEL_TYPES))?;
        let differences = family.differences();
        self.refuse_unsupported()?;
        self.refuse_window(differences)?;
        let heads = self.count("num_attention_heads")?;
        let hidden = self.count("hidden_size")?;
        let (rope_theta, rope_scaling) = self.rope()?;
        let told = self.count("max_position_embeddings")?;
        // Folders that turn YaRN on often leave the number of positions as it was before.
        let positions = match rope_scaling {
            RopeScaling::Yarn { factor, original_max_position_embeddings: original, .. } => {
                told.max((factor * original as f64) as usize)
            }
            _ => told,
        };
        let bias = |bias: Bias| match bias {
            Bias::Always => Ok(true),
            Bias::Never => Ok(false),
            Bias::Told(key) => self.flag(key),
        };
        Ok(ModelConfig {
            family,
            vocab_size: self.count("vocab_size")?,
            hidden_size: hidden,
            intermediate_size: self.count("intermediate_size")?,
            num_hidden_layers: self.count("num_hidden_layers")?,
            num_attention_heads: heads,
            num_key_value_heads: self.count_or("num_key_value_heads", heads)?,
            head_dim: self.count_or("head_dim", hidden / heads.max(1))?,
            max_position_embeddings: positions,
            rope_theta,
            rope_scaling,
            rms_norm_eps: self.float("rms_norm_eps", default_epsilon())?,
            tie_word_embeddings: self.flag("tie_word_embeddings")?,
            biases: Biases {
                query_key_value: bias(differences.query_key_value_bias)?,
                output: bias(differences.output_bias)?,
                feed_forward: bias(differences.feed_forward_bias)?,
            },
            initializer_range: self.float("initializer_range", default_range())?,
            eos_token_id: self.tokens("eos_token_id")?,
            bos_token_id: self.tokens("bos_token_id")?.first().copied(),
            pad_token_id: self.tokens("pad_token_id")?.first().copied(),
        })
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.value.get(key).filter(|value| !value.is_null())
    }

    fn wrong(&self, key: &'static str, expected: &'static str) -> ConfigError {
        let found = self.get(key).map_or("missing".into(), shortened);
        ConfigError::Key { path: self.path.into(), key, found, expected }
    }

    fn unsupported(&self, key: &'static str, supported: &'static str) -> ConfigError {
        let found = self.get(key).map_or("missing".into(), shortened);
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

    fn refuse_unsupported(&self) -> Result<(), ConfigError> {
        for key in ["quantization_config", "compression_config"] {
            if self.get(key).is_some() {
                return Err(self.unsupported(key, "a folder without it"));
            }
        }
        if self.get("hidden_act").is_some_and(|act| act != "silu") {
            return Err(self.unsupported("hidden_act", "\"silu\""));
        }
        for key in ["num_experts", "num_local_experts", "n_routed_experts"] {
            if self.get(key).is_some_and(|count| count != 0) {
                return Err(self.unsupported(key, "a dense model"));
            }
        }
        if self.get("partial_rotary_factor").is_some_and(|part| part.as_f64() != Some(1.0)) {
            return Err(self.unsupported("partial_rotary_factor", "1 (every number of a head is turned)"));
        }
        if self.flag("rope_interleaved")? {
            return Err(self.unsupported("rope_interleaved", "false"));
        }
        let full = |layers: &Value| {
            layers.as_array().is_some_and(|layers| layers.iter().all(|layer| layer == "full_attention"))
        };
        if self.get("layer_types").is_some_and(|layers| !full(layers)) {
            return Err(self.unsupported("layer_types", "\"full_attention\" in every layer"));
        }
        Ok(())
    }

    /// A sliding window that some layer has and that is not as wide as all positions.
    fn refuse_window(&self, differences: &Differences) -> Result<(), ConfigError> {
        let positions = self.count("max_position_embeddings")?;
        match differences.window {
            Window::Never => Ok(()),
            Window::Width => {
                // Null is no window, but transformers takes an absent key for 4096.
                let absent = if self.value.get("sliding_window").is_some() { positions } else { 4096 };
                if self.count_or("sliding_window", absent)? < positions {
                    return Err(self.unsupported("sliding_window", "null (no sliding window)"));
                }
                Ok(())
            }
            Window::Switch => {
                // Where the layers are listed, that list was looked at already.
                let listed = self.get("layer_types").is_some();
                let first = self.count_or("max_window_layers", 28)?;
                if self.flag("use_sliding_window")? && !listed && first < self.count("num_hidden_layers")? {
                    return Err(self.unsupported("use_sliding_window", "false"));
                }
                Ok(())
            }
        }
    }

    /// The base of the frequencies and what was done to them, from `rope_parameters`, or the older
    /// `rope_scaling` and `rope_theta`. As in transformers, `rope_scaling` wins.
    fn rope(&self) -> Result<(f64, RopeScaling), ConfigError> {
        let is_there = |key: &&'static str| match self.get(key) {
            Some(Value::Object(object)) => !object.is_empty(),
            value => value.is_some(),
        };
        let Some(key) = ["rope_scaling", "rope_parameters"].into_iter().find(is_there) else {
            return Ok((self.float("rope_theta", default_theta())?, RopeScaling::Default));
        };
        let object = self.get(key).and_then(Value::as_object).ok_or_else(|| self.wrong(key, "an object"))?;
        let rope = Rope { file: self, key, object };
        // transformers looks for the base in the object it takes, then beside it.
        let theta = match object.get("rope_theta") {
            Some(_) => rope.number("rope_theta")?,
            None => self.float("rope_theta", default_theta())?,
        };
        Ok((theta, rope.scaling()?))
    }
}

/// One of the two objects that describe the rotary embedding.
struct Rope<'a> {
    file: &'a File<'a>,
    key: &'static str,
    object: &'a Map<String, Value>,
}

impl Rope<'_> {
    fn scaling(&self) -> Result<RopeScaling, ConfigError> {
        let kind = self.object.get("rope_type").or_else(|| self.object.get("type"));
        let kind = kind.map_or(Some("default"), Value::as_str);
        let (scaling, keys): (_, &[&str]) = match kind {
            Some("default") => (RopeScaling::Default, &[]),
            Some("linear") => (RopeScaling::Linear { factor: self.number("factor")? }, &["factor"]),
            Some("llama3") => {
                let scaling = RopeScaling::Llama3 {
                    factor: self.number("factor")?,
                    low_freq_factor: self.number("low_freq_factor")?,
                    high_freq_factor: self.number("high_freq_factor")?,
                    original_max_position_embeddings: self.original()?,
                };
                (scaling, &["factor", "low_freq_factor", "high_freq_factor", ORIGINAL])
            }
            Some("yarn") => (self.yarn()?, &YARN),
            _ => {
                let supported = "\"rope_type\" \"default\", \"linear\", \"llama3\" or \"yarn\"";
                return Err(self.file.unsupported(self.key, supported));
            }
        };
        let known = |key: &str| keys.contains(&key) || ["rope_type", "type", "rope_theta"].contains(&key);
        let whole = |key: &str, value: &Value| key == "partial_rotary_factor" && value.as_f64() == Some(1.0);
        for (key, value) in self.object {
            // A key that is not known here would make the model compute something else somewhere.
            if !(value.is_null() || known(key) || whole(key, value)) {
                return Err(ConfigError::Rope {
                    path: self.file.path.into(),
                    key: self.key,
                    inner: key.chars().take(40).collect(),
                    found: shortened(value),
                });
            }
        }
        Ok(scaling)
    }

    fn yarn(&self) -> Result<RopeScaling, ConfigError> {
        let given = |key: &str| self.object.get(key).is_some_and(|value| !value.is_null());
        let or = |key: &str, absent: f64| if given(key) { self.number(key) } else { Ok(absent) };
        let factor = self.number("factor")?;
        let (scale, scale_all) = (or("mscale", 0.0)?, or("mscale_all_dim", 0.0)?);
        let usual = if scale != 0.0 && scale_all != 0.0 {
            attention_factor(factor, scale) / attention_factor(factor, scale_all)
        } else {
            attention_factor(factor, 1.0)
        };
        let truncate = match self.object.get("truncate") {
            Some(Value::Bool(truncate)) => *truncate,
            None | Some(Value::Null) => true,
            Some(_) => return Err(self.file.wrong(self.key, "to hold true or false as `truncate`")),
        };
        Ok(RopeScaling::Yarn {
            factor,
            attention_factor: or("attention_factor", usual)?,
            beta_fast: or("beta_fast", 32.0)?,
            beta_slow: or("beta_slow", 1.0)?,
            truncate,
            original_max_position_embeddings: self.original()?,
        })
    }

    fn number(&self, key: &str) -> Result<f64, ConfigError> {
        self.object.get(key).and_then(Value::as_f64).ok_or_else(|| {
            let expected = match key {
                "rope_theta" => "to hold a number `rope_theta`",
                "factor" => "to hold a number `factor`",
                "low_freq_factor" => "to hold a number `low_freq_factor`",
                "high_freq_factor" => "to hold a number `high_freq_factor`",
                _ => "to hold numbers",
            };
            self.file.wrong(self.key, expected)
        })
    }

    /// Positions of the training before: of the file itself, of the object, or all positions.
    fn original(&self) -> Result<usize, ConfigError> {
        if self.file.get(ORIGINAL).is_some() {
            return self.file.count(ORIGINAL);
        }
        match self.object.get(ORIGINAL).filter(|value| !value.is_null()) {
            None => self.file.count("max_position_embeddings"),
            Some(value) => {
                let count = value.as_u64().and_then(|count| usize::try_from(count).ok());
                count.ok_or_else(|| self.file.wrong(self.key, "to hold a count `original_max_position_embeddings`"))
            }
        }
    }
}

const ORIGINAL: &str = "original_max_position_embeddings";
const YARN: [&str; 8] =
    ["factor", "attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate", ORIGINAL];

/// A value as the file has it, cut where it is long.
pub(crate) fn shortened(value: &Value) -> String {
    const MOST: usize = 120;
    let text = value.to_string();
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
