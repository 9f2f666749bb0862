//! The way forward over a trie of tokens, with what the way back needs.
//!
//! Each layer leaves its input and five intermediate results; norms, rotations and the gate are computed
//! again on the way back, which costs little and saves half of the memory. With
//! [`Activations::Recomputed`] only the inputs stay, and each layer goes forward a second time.

use serde::{Deserialize, Serialize};

use crate::ModelConfig;
use crate::host::attention::{Attention, Scratch};
use crate::host::engine::{Angles, Engine, score_scale};
use crate::host::kernels::{gate, rms_norm};
use crate::host::matrix::{Into, PackedRows};
use crate::trie::Trie;

/// What stays of a way forward for the way back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activations {
    /// Every layer's results: the faster, while there is memory.
    #[default]
    Kept,
    /// Every layer's input; the rest is computed anew, a third more work for a fraction of the memory.
    Recomputed,
}

/// Memory of a way forward and back, reused from micro-batch to micro-batch.
#[derive(Debug, Default)]
pub(crate) struct Workspace {
    /// Each layer's input, `[rows, hidden]`.
    pub(super) inputs: Vec<Vec<f32>>,
    /// One per layer, or one for all.
    pub(super) layers: Vec<Kept>,
    /// States of the outputs before and after the last norm, `[outputs, hidden]`.
    pub(super) last: Vec<f32>,
    pub(super) normed_last: Vec<f32>,
    pub(super) logits: Vec<f32>,
    pub(super) passing: Passing,
    pub(super) back: Back,
}

/// A layer's results, each `[rows, width]`.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// Queries, keys and values as projected.
    pub(super) raw: Vec<f32>,
    pub(super) attended: Vec<f32>,
    /// `[heads, rows]`, of the attention's softmax.
    pub(super) log_sums: Vec<f32>,
    /// The residual stream between the two halves.
    pub(super) middle: Vec<f32>,
    /// Gate and up as projected.
    pub(super) wide: Vec<f32>,
}

/// What a layer needs only while it is computed.
#[derive(Debug, Default)]
pub(super) struct Passing {
    pub(super) residual: Vec<f32>,
    pub(super) normed: Vec<f32>,
    pub(super) turned: Vec<f32>,
    pub(super) gated: Vec<f32>,
    pub(super) attention: Scratch,
    pub(super) packed: PackedRows,
}

/// Slopes on the way back.
#[derive(Debug, Default)]
pub(super) struct Back {
    pub(super) residual: Vec<f32>,
    pub(super) normed: Vec<f32>,
    pub(super) wide: Vec<f32>,
    pub(super) attended: Vec<f32>,
    pub(super) raw: Vec<f32>,
    pub(super) last: Vec<f32>,
}

/// Which tokens, and where they stand.
#[derive(Clone, Copy)]
pub(crate) struct Tokens<'a> {
    pub(crate) trie: &'a Trie,
    pub(crate) angles: &'a Angles,
}

/// Which results a way forward leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leave {
    Everything,
    Inputs,
    Nothing,
}

impl Workspace {
    /// The residual stream after the last layer is left in `passing.residual`.
    pub(super) fn forward(&mut self, engine: &Engine, tokens: Tokens<'_>, leave: Leave) {
        let residual = &mut self.passing.residual;
        residual.clear();
        for &token in &tokens.trie.tokens {
            engine.embed(token, residual);
        }
        let layers = engine.layers.len();
        self.layers.resize_with(if leave == Leave::Everything { layers } else { 1 }, Kept::default);
        self.inputs.resize_with(if leave == Leave::Nothing { 0 } else { layers }, Vec::new);
        for number in 0..layers {
            if let Some(input) = self.inputs.get_mut(number) {
                input.clear();
                input.extend_from_slice(&self.passing.residual);
            }
            let kept = if leave == Leave::Everything { number } else { 0 };
            self.passing.layer(engine, number, tokens, &mut self.layers[kept]);
        }
    }

    /// States of `rows` of the residual stream after the last norm, into `normed_last`.
    pub(super) fn gather(&mut self, engine: &Engine, rows: &[usize]) {
        let width = engine.config.hidden_size;
        self.last.clear();
        for &row in rows {
            self.last.extend_from_slice(&self.passing.residual[row * width..][..width]);
        }
        self.normed_last.resize(self.last.len(), 0.0);
        rms_norm(&self.last, &engine.norm, engine.config.rms_norm_eps as f32, &mut self.normed_last);
    }
}

impl Passing {
    /// One layer: from the residual stream to the residual stream.
    pub(super) fn layer(&mut self, engine: &Engine, number: usize, tokens: Tokens<'_>, kept: &mut Kept) {
        let (config, layer, rows) = (&engine.config, &engine.layers[number], tokens.trie.tokens.len());
        let (epsilon, feed) = (config.rms_norm_eps as f32, config.intermediate_size);
        let Passing { residual, normed, gated, packed, .. } = self;
        normed.resize(residual.len(), 0.0);
        rms_norm(residual, &layer.input_norm, epsilon, normed);
        kept.raw.resize(rows * layer.query_key_value.outputs(), 0.0);
        layer.query_key_value.multiply(normed, &mut kept.raw, Into::Replace, packed);
        turn(engine, number, tokens, &kept.raw, &mut self.turned);
        kept.attended.resize(rows * config.query_width(), 0.0);
        kept.log_sums.resize(rows * config.num_attention_heads, 0.0);
        let attention = Attention::new(config);
        let Kept { raw, attended, log_sums, middle, wide } = kept;
        attention.forward(tokens.trie, &self.turned, raw, attended, log_sums, &mut self.attention);
        layer.output.multiply(attended, residual, Into::Add, packed);
        middle.clear();
        middle.extend_from_slice(residual);
        rms_norm(residual, &layer.feed_norm, epsilon, normed);
        wide.resize(rows * layer.gate_up.outputs(), 0.0);
        layer.gate_up.multiply(normed, wide, Into::Replace, packed);
        gated.resize(rows * feed, 0.0);
        gate(wide, feed, gated);
        layer.down.multiply(gated, residual, Into::Add, packed);
    }
}

/// Queries and keys after norm and rotation, `[rows, queries | keys]`, of `raw` with the values behind.
pub(super) fn turn(engine: &Engine, number: usize, tokens: Tokens<'_>, raw: &[f32], turned: &mut Vec<f32>) {
    let (config, layer) = (&engine.config, &engine.layers[number]);
    let (query_width, key_width) = (config.query_width(), config.key_value_width());
    let (epsilon, scale) = (config.rms_norm_eps as f32, score_scale(config));
    turned.clear();
    for (raw, position) in raw.chunks_exact(query_width + 2 * key_width).zip(tokens.trie.positions()) {
        let start = turned.len();
        turned.extend_from_slice(&raw[..query_width + key_width]);
        let (query, key) = turned[start..].split_at_mut(query_width);
        layer.turn(query, key, epsilon, scale, tokens.angles.at(position));
    }
}

/// Bytes that a row of a micro-batch takes, at most.
pub(crate) fn bytes_per_row(config: &ModelConfig, activations: Activations) -> u64 {
    let (width, query, key) = (config.hidden_size, config.query_width(), config.key_value_width());
    let wide = 2 * config.intermediate_size;
    let raw = query + 2 * key;
    let kept = raw + query + config.num_attention_heads + width + wide;
    let passing = 2 * width + query + key + wide / 2 + 4 * config.head_dim.next_multiple_of(16);
    let back = 2 * width + wide + query + raw;
    let layers = config.num_hidden_layers;
    let layers = layers * width + kept * if activations == Activations::Kept { layers } else { 1 };
    // The last two are the outputs' states and their slopes.
    4 * (layers + passing + back + 3 * width) as u64
}
