//! A decoder over rows: each row is one token of one sequence, with its place in that sequence's K/V
//! cache.
//!
//! Prefilling a prompt is a call with many rows of one sequence, decoding a call with one row of each
//! of many sequences. What a row gets depends on its own sequence alone, see [`super::kernels`].

use crate::host::kernels::{combine, gate, norm_and_rotate, rms_norm, softmax, vector_pad};
use crate::host::matrix::{Into, Matrix, PackedRows};
use crate::{Dtype, ModelConfig, Weights};

/// A model's weights, packed for [`Matrix`].
#[derive(Debug)]
pub(crate) struct Engine {
    pub(super) config: ModelConfig,
    /// Of its matrices and of their products' sides.
    pub(super) dtype: Dtype,
    pub(super) embedding: Vec<f32>,
    pub(super) layers: Vec<Layer>,
    pub(super) norm: Vec<f32>,
    pub(super) head: Matrix,
}

/// Keys and values of one sequence.
///
/// A head's keys are stored by dimension, `[layer, head, dimension, position]`, and its values by
/// position, `[layer, head, position, dimension]`: both products of attention then run along vectors.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cache {
    keys: Vec<f32>,
    values: Vec<f32>,
    capacity: usize,
}

/// One token to compute.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) token: u32,
    /// Which of the caches given is its sequence's.
    pub(crate) cache: usize,
    /// From 0; the cache holds all positions before it, or earlier rows of this call do.
    pub(crate) position: usize,
}

/// Cosines and sines of every position, `[position, head_dim / 2]`.
#[derive(Debug)]
pub(crate) struct Angles {
    half: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

/// Memory of a forward pass, reused from call to call.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    packed: PackedRows,
    residual: Vec<f32>,
    normed: Vec<f32>,
    wide: Vec<f32>,
    attended: Vec<f32>,
    scores: Vec<f32>,
    head: Vec<f32>,
    /// Final hidden states of the rows of the last call, normalised: `[rows, hidden]`.
    pub(crate) hidden: Vec<f32>,
}

#[derive(Debug)]
pub(super) struct Layer {
    pub(super) input_norm: Vec<f32>,
    pub(super) query_key_value: Matrix,
    /// With the scale of the scores in it.
    pub(super) query_norm: Vec<f32>,
    pub(super) key_norm: Vec<f32>,
    pub(super) output: Matrix,
    pub(super) feed_norm: Vec<f32>,
    pub(super) gate_up: Matrix,
    pub(super) down: Matrix,
}

impl Engine {
    /// Packs a copy of the weights.
    pub(crate) fn new(config: &ModelConfig, weights: &Weights, dtype: Dtype) -> Engine {
        let width = config.hidden_size;
        let layers = (0..config.num_hidden_layers)
            .map(|layer| {
                let part = |name: &str| weights.values(&format!("model.layers.{layer}.{name}.weight"));
                let attention = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"].map(part);
                // The scale of the scores is put into the queries' norm: one product less per score.
                let scale = score_scale(config);
                Layer {
                    input_norm: part("input_layernorm").to_vec(),
                    query_key_value: Matrix::pack(dtype, width, &attention),
                    query_norm: part("self_attn.q_norm").iter().map(|weight| weight * scale).collect(),
                    key_norm: part("self_attn.k_norm").to_vec(),
                    output: Matrix::pack(dtype, config.query_width(), &[part("self_attn.o_proj")]),
                    feed_norm: part("post_attention_layernorm").to_vec(),
                    gate_up: Matrix::pack(dtype, width, &["mlp.gate_proj", "mlp.up_proj"].map(part)),
                    down: Matrix::pack(dtype, config.intermediate_size, &[part("mlp.down_proj")]),
                }
            })
            .collect();
        let embedding = weights.values("model.embed_tokens.weight").to_vec();
        let head = if config.tie_word_embeddings { &embedding } else { weights.values("lm_head.weight") };
        Engine {
            head: Matrix::pack(dtype, width, &[head]),
            norm: weights.values("model.norm.weight").to_vec(),
            config: config.clone(),
            dtype,
            embedding,
            layers,
        }
    }

    pub(crate) fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// A cache for sequences of up to `positions` tokens.
    pub(crate) fn cache(&self, positions: usize) -> Cache {
        let capacity = vector_pad(positions);
        let heads = self.config.num_hidden_layers * self.config.num_key_value_heads;
        Cache {
            keys: vec![0.0; heads * self.config.head_dim * capacity],
            values: vec![0.0; heads * capacity * vector_pad(self.config.head_dim)],
            capacity,
        }
    }

    /// Copies the first `length` positions of `from`.
    pub(crate) fn copy_cache(&self, from: &Cache, into: &mut Cache, length: usize) {
        let pairs = from.keys.chunks_exact(from.capacity).zip(into.keys.chunks_exact_mut(into.capacity));
        for (from, into) in pairs {
            into[..length].copy_from_slice(&from[..length]);
        }
        let width = vector_pad(self.config.head_dim);
        let from_heads = from.values.chunks_exact(from.capacity * width);
        for (from, into) in from_heads.zip(into.values.chunks_exact_mut(into.capacity * width)) {
            into[..length * width].copy_from_slice(&from[..length * width]);
        }
    }

    /// Computes `rows`, leaves their keys and values in `caches` and their final states in
    /// `scratch.hidden`. Rows of one sequence must be in the order of their positions.
    pub(crate) fn forward(&self, rows: &[Row], caches: &mut [Cache], angles: &Angles, scratch: &mut Scratch) {
        let config = &self.config;
        let (width, count, epsilon) = (config.hidden_size, rows.len(), config.rms_norm_eps as f32);
        let query_width = config.query_width();
        let Scratch { packed, residual, normed, wide, attended, scores, head, hidden } = scratch;
        residual.clear();
        for row in rows {
            residual.extend_from_slice(&self.embedding[row.token as usize * width..][..width]);
        }
        normed.resize(count * width, 0.0);
        attended.resize(count * query_width, 0.0);
        for (number, layer) in self.layers.iter().enumerate() {
            rms_norm(residual, &layer.input_norm, epsilon, normed);
            let outputs = layer.query_key_value.outputs();
            wide.resize(count * outputs, 0.0);
            layer.query_key_value.multiply(normed, wide, Into::Replace, packed);
            for (row, wide) in rows.iter().zip(wide.chunks_exact_mut(outputs)) {
                let (query, rest) = wide.split_at_mut(query_width);
                let (key, value) = rest.split_at_mut(config.key_value_width());
                let (cos, sin) = angles.at(row.position);
                norm_and_rotate(query, &layer.query_norm, epsilon, cos, sin);
                norm_and_rotate(key, &layer.key_norm, epsilon, cos, sin);
                self.remember(&mut caches[row.cache], number, row.position, key, value);
            }
            let queries = wide.chunks_exact(outputs).map(|wide| &wide[..query_width]);
            for ((row, query), out) in rows.iter().zip(queries).zip(attended.chunks_exact_mut(query_width)) {
                self.attend(&caches[row.cache], number, row.position + 1, query, out, scores, head);
            }
            layer.output.multiply(attended, residual, Into::Add, packed);
            rms_norm(residual, &layer.feed_norm, epsilon, normed);
            wide.resize(count * layer.gate_up.outputs(), 0.0);
            layer.gate_up.multiply(normed, wide, Into::Replace, packed);
            // `hidden` is free until the last layer is done.
            let feed = config.intermediate_size;
            hidden.resize(count * feed, 0.0);
            gate(wide, feed, hidden);
            layer.down.multiply(hidden, residual, Into::Add, packed);
        }
        hidden.resize(count * width, 0.0);
        rms_norm(residual, &self.norm, epsilon, hidden);
    }

    /// Logits of states as [`forward`](Self::forward) leaves them: `[rows, vocabulary]`.
    pub(crate) fn logits(&self, hidden: &[f32], logits: &mut Vec<f32>, packed: &mut PackedRows) {
        let rows = hidden.len() / self.config.hidden_size;
        logits.resize(rows * self.config.vocab_size, 0.0);
        self.head.multiply(hidden, logits, Into::Replace, packed);
    }

    /// Logits of all rows of the last call.
    pub(crate) fn logits_of_last(&self, scratch: &mut Scratch, logits: &mut Vec<f32>) {
        let Scratch { hidden, packed, .. } = scratch;
        self.logits(hidden, logits, packed);
    }

    /// Puts one position's keys and values into the cache.
    fn remember(&self, cache: &mut Cache, layer: usize, position: usize, key: &[f32], value: &[f32]) {
        let (dim, width) = (self.config.head_dim, vector_pad(self.config.head_dim));
        let first = layer * self.config.num_key_value_heads;
        for (head, (key, value)) in key.chunks_exact(dim).zip(value.chunks_exact(dim)).enumerate() {
            let keys = &mut cache.keys[(first + head) * dim * cache.capacity..][..dim * cache.capacity];
            for (column, &key) in keys.chunks_exact_mut(cache.capacity).zip(key) {
                column[position] = key;
            }
            let start = ((first + head) * cache.capacity + position) * width;
            cache.values[start..start + dim].copy_from_slice(value);
        }
    }

    /// Attention of one row over the first `length` positions.
    #[expect(clippy::too_many_arguments, reason = "the scratch of the innermost loop is passed, not allocated")]
    fn attend(
        &self,
        cache: &Cache,
        layer: usize,
        length: usize,
        query: &[f32],
        out: &mut [f32],
        scores: &mut Vec<f32>,
        summed: &mut Vec<f32>,
    ) {
        let (dim, width) = (self.config.head_dim, vector_pad(self.config.head_dim));
        let first = layer * self.config.num_key_value_heads;
        let per_group = self.config.heads_per_group();
        scores.resize(vector_pad(length), 0.0);
        summed.resize(width, 0.0);
        for (head, (query, out)) in query.chunks_exact(dim).zip(out.chunks_exact_mut(dim)).enumerate() {
            let group = first + head / per_group;
            let keys = &cache.keys[group * dim * cache.capacity..][..dim * cache.capacity];
            let values = &cache.values[group * cache.capacity * width..][..length * width];
            combine(query, keys, cache.capacity, scores);
            softmax(scores, length);
            combine(&scores[..length], values, width, summed);
            out.copy_from_slice(&summed[..dim]);
        }
    }
}

/// What scores are multiplied by.
pub(super) fn score_scale(config: &ModelConfig) -> f32 {
    1.0 / (config.head_dim as f32).sqrt()
}

impl Angles {
    /// Angles of the positions below `positions`.
    ///
    /// In `f32` up to the angle, as transformers computes them; at 10,000 positions the rounding of the
    /// angle is visible, and it is the checkpoint's own.
    pub(crate) fn new(config: &ModelConfig, positions: usize) -> Angles {
        let half = config.head_dim / 2;
        let frequencies: Vec<f32> =
            (0..half).map(|pair| (1.0 / config.rope_theta.powf(pair as f64 / half as f64)) as f32).collect();
        let angles = (0..positions)
            .flat_map(|position| frequencies.iter().map(move |&frequency| f64::from(position as f32 * frequency)));
        let (cos, sin) = angles.map(|angle| (angle.cos() as f32, angle.sin() as f32)).unzip();
        Angles { half, cos, sin }
    }

    /// Cosines and sines of one position.
    pub(super) fn at(&self, position: usize) -> (&[f32], &[f32]) {
        let range = position * self.half..(position + 1) * self.half;
        (&self.cos[range.clone()], &self.sin[range])
    }

    /// All cosines and all sines.
    pub(crate) fn tables(&self) -> (&[f32], &[f32]) {
        (&self.cos, &self.sin)
    }
}
