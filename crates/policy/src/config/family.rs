//! The families of models, as a table of what sets them apart.
//!
//! All of them are one decoder: root-mean-square norms before both halves of a layer, grouped-query
//! attention with rotated pairs `(i, i + half)`, and a gated feed-forward layer. What differs is a norm on
//! each head, where biases stand, and how a sliding window is written in `config.json`.
//!
//! SmolLM2 and the distillations of R1 are no families of their own: their folders say `llama` or `qwen2`.

use serde::{Deserialize, Serialize};

/// Which table row a model belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// Llama 2 and 3, SmolLM2, and what is distilled into them.
    Llama,
    /// Mistral and Mistral Nemo, without a sliding window.
    Mistral,
    /// Qwen2, Qwen2.5, and what is distilled into them.
    Qwen2,
    /// Qwen3, dense.
    #[default]
    Qwen3,
}

/// Where biases are added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Biases {
    /// To queries, keys and values.
    pub query_key_value: bool,
    /// To what attention gives back to the residual stream.
    pub output: bool,
    /// To all three products of the feed-forward layer.
    pub feed_forward: bool,
}

/// What sets a family apart.
#[derive(Debug)]
pub(crate) struct Differences {
    pub(super) family: Family,
    /// `model_type` in `config.json`.
    pub(super) model_type: &'static str,
    /// The class of transformers.
    pub(super) architecture: &'static str,
    /// Whether each head of queries and of keys is normed before it is turned.
    pub(super) head_norms: bool,
    pub(super) query_key_value_bias: Bias,
    pub(super) output_bias: Bias,
    pub(super) feed_forward_bias: Bias,
    pub(super) window: Window,
}

/// Whether a bias is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bias {
    Always,
    Never,
    /// As a key of `config.json` says, false where it is absent.
    Told(&'static str),
}

/// How `config.json` speaks of a sliding window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Window {
    /// Not at all.
    Never,
    /// `sliding_window` is its width, null none; 4096 where it is absent.
    Width,
    /// Layers from `max_window_layers` on have one where `use_sliding_window` is true.
    Switch,
}

const ATTENTION: Bias = Bias::Told("attention_bias");

/// A row per family.
const TABLE: [Differences; 4] = [
    Differences {
        family: Family::Llama,
        model_type: "llama",
        architecture: "LlamaForCausalLM",
        head_norms: false,
        query_key_value_bias: ATTENTION,
        output_bias: ATTENTION,
        feed_forward_bias: Bias::Told("mlp_bias"),
        window: Window::Never,
    },
    Differences {
        family: Family::Mistral,
        model_type: "mistral",
        architecture: "MistralForCausalLM",
        head_norms: false,
        query_key_value_bias: Bias::Never,
        output_bias: Bias::Never,
        feed_forward_bias: Bias::Never,
        window: Window::Width,
    },
    Differences {
        family: Family::Qwen2,
        model_type: "qwen2",
        architecture: "Qwen2ForCausalLM",
        head_norms: false,
        query_key_value_bias: Bias::Always,
        output_bias: Bias::Never,
        feed_forward_bias: Bias::Never,
        window: Window::Switch,
    },
    Differences {
        family: Family::Qwen3,
        model_type: "qwen3",
        architecture: "Qwen3ForCausalLM",
        head_norms: true,
        query_key_value_bias: ATTENTION,
        output_bias: ATTENTION,
        feed_forward_bias: Bias::Never,
        window: Window::Switch,
    },
];

/// What `model_type` may be, for messages.
pub(super) const MODEL_TYPES: &str = "\"llama\", \"mistral\", \"qwen2\" or \"qwen3\"";

impl Family {
    /// Its row.
    pub(crate) fn differences(self) -> &'static Differences {
        match self {
            Family::Llama => &TABLE[0],
            Family::Mistral => &TABLE[1],
            Family::Qwen2 => &TABLE[2],
            Family::Qwen3 => &TABLE[3],
        }
    }

    /// The family of a `model_type`.
    pub(super) fn of(model_type: &str) -> Option<Family> {
        TABLE.iter().find(|row| row.model_type == model_type).map(|row| row.family)
    }
}

impl Differences {
    /// Each bias: what it is called, whether it may be there, and whether it is in `biases`.
    pub(super) fn biases(&self, biases: Biases) -> [(&'static str, Bias, bool); 3] {
        [
            ("query_key_value", self.query_key_value_bias, biases.query_key_value),
            ("output", self.output_bias, biases.output),
            ("feed_forward", self.feed_forward_bias, biases.feed_forward),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_its_familys() {
        for row in &TABLE {
            assert_eq!(row.family.differences().model_type, row.model_type);
            assert_eq!(Family::of(row.model_type), Some(row.family));
            assert_eq!(serde_json::to_value(row.family).unwrap(), row.model_type);
            assert!(MODEL_TYPES.contains(row.model_type));
        }
    }
}
