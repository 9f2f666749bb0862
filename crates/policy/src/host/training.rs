//! The way forward with everything kept, and the way back, on the host's own slices.
//!
//! The sequences of a batch lie one after the other without filling, so nothing is computed in vain.
//! Every gradient is one chain of sums in the order of the rows: the same batch gives the same bits.

use std::sync::Arc;

use crate::Weights;
use crate::host::attention::Attention;
use crate::host::engine::{Angles, Engine, score_scale};
use crate::host::kernels::{gate, norm_and_rotate, rms_norm};
use crate::host::matrix::{Into, Matrix, PackedRows};
use crate::host::slopes;
use crate::learner::{Batch, GradientSums};

/// An engine with its matrices packed for the way back, too.
#[derive(Debug)]
pub(crate) struct Trainer {
    engine: Arc<Engine>,
    layers: Vec<Reverse>,
    head: Matrix,
    shapes: Vec<usize>,
    places: Places,
}

/// What the way back needs of one batch.
#[derive(Debug)]
pub(crate) struct Kept {
    batch: Batch,
    angles: Angles,
    layers: Vec<KeptLayer>,
    /// States of the picked rows, before and after the last norm.
    last: Vec<f32>,
    normed: Vec<f32>,
}

/// Transposed matrices of a layer.
#[derive(Debug)]
struct Reverse {
    query_key_value: Matrix,
    output: Matrix,
    gate_up: Matrix,
    down: Matrix,
}

/// Where each parameter's gradient stands in the list.
#[derive(Debug)]
struct Places {
    embedding: usize,
    head: usize,
    norm: usize,
    layers: Vec<LayerPlaces>,
}

#[derive(Debug)]
struct LayerPlaces {
    input_norm: usize,
    query_key_value: [usize; 3],
    query_norm: usize,
    key_norm: usize,
    output: usize,
    feed_norm: usize,
    gate_up: [usize; 2],
    down: usize,
}

/// A layer's intermediate results, each `[rows, width]`.
#[derive(Debug, Default)]
struct KeptLayer {
    input: Vec<f32>,
    normed: Vec<f32>,
    /// Queries, keys and values as projected.
    raw: Vec<f32>,
    /// Queries and keys after norm and rotation.
    turned: Vec<f32>,
    attended: Vec<f32>,
    middle: Vec<f32>,
    middle_normed: Vec<f32>,
    wide: Vec<f32>,
    gated: Vec<f32>,
}

impl Trainer {
    /// Packs the matrices of `weights`, which `engine` was made of.
    pub(crate) fn new(engine: Arc<Engine>, weights: &Weights) -> Trainer {
        let config = engine.config();
        let (width, names) =
            (config.hidden_size, |layer: usize, part: &str| format!("model.layers.{layer}.{part}.weight"));
        let attention = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"];
        let feed = ["mlp.gate_proj", "mlp.up_proj"];
        let layers = 0..config.num_hidden_layers;
        let reverse = layers.clone().map(|layer| {
            let part = |part: &str| weights.values(&names(layer, part));
            Reverse {
                query_key_value: Matrix::pack_transposed(width, &attention.map(part)),
                output: Matrix::pack_transposed(config.query_width(), &[part("self_attn.o_proj")]),
                gate_up: Matrix::pack_transposed(width, &feed.map(part)),
                down: Matrix::pack_transposed(config.intermediate_size, &[part("mlp.down_proj")]),
            }
        });
        let places = layers.map(|layer| {
            let place = |part: &str| weights.position(&names(layer, part));
            LayerPlaces {
                input_norm: place("input_layernorm"),
                query_key_value: attention.map(place),
                query_norm: place("self_attn.q_norm"),
                key_norm: place("self_attn.k_norm"),
                output: place("self_attn.o_proj"),
                feed_norm: place("post_attention_layernorm"),
                gate_up: feed.map(place),
                down: place("mlp.down_proj"),
            }
        });
        let embedding = weights.position("model.embed_tokens.weight");
        let head = if config.tie_word_embeddings { embedding } else { weights.position("lm_head.weight") };
        Trainer {
            layers: reverse.collect(),
            head: Matrix::pack_transposed(width, &[&weights.tensors[head].values]),
            shapes: weights.tensors.iter().map(|tensor| tensor.values.len()).collect(),
            places: Places { embedding, head, norm: weights.position("model.norm.weight"), layers: places.collect() },
            engine,
        }
    }

    /// Logits of the picked rows, `[picks, vocabulary]`, and what the way back needs.
    pub(crate) fn forward(&self, batch: Batch) -> (Kept, Vec<f32>) {
        let Engine { config, embedding, norm, head, .. } = &*self.engine;
        let (width, epsilon, rows) = (config.hidden_size, config.rms_norm_eps as f32, batch.tokens.len());
        let (query_width, key_width) = (config.query_width(), config.key_value_width());
        let angles = Angles::new(config, batch.lengths.iter().copied().max().unwrap_or(0));
        let attention = Attention::new(config);
        let mut packed = PackedRows::default();
        let mut residual = Vec::with_capacity(rows * width);
        for &token in &batch.tokens {
            residual.extend_from_slice(&embedding[token as usize * width..][..width]);
        }
        let mut layers = Vec::with_capacity(self.layers.len());
        for layer in &self.engine.layers {
            let mut kept = KeptLayer { input: residual.clone(), ..KeptLayer::default() };
            kept.normed = vec![0.0; rows * width];
            rms_norm(&residual, &layer.input_norm, epsilon, &mut kept.normed);
            let outputs = layer.query_key_value.outputs();
            kept.raw = vec![0.0; rows * outputs];
            layer.query_key_value.multiply(&kept.normed, &mut kept.raw, Into::Replace, &mut packed);
            kept.turned = Vec::with_capacity(rows * (query_width + key_width));
            for (raw, position) in kept.raw.chunks_exact(outputs).zip(batch.positions()) {
                let start = kept.turned.len();
                kept.turned.extend_from_slice(&raw[..query_width + key_width]);
                let (query, key) = kept.turned[start..].split_at_mut(query_width);
                let (cos, sin) = angles.at(position);
                norm_and_rotate(query, &layer.query_norm, epsilon, cos, sin);
                norm_and_rotate(key, &layer.key_norm, epsilon, cos, sin);
            }
            kept.attended = vec![0.0; rows * query_width];
            attention.forward(&batch.lengths, &kept.turned, &kept.raw, &mut kept.attended);
            layer.output.multiply(&kept.attended, &mut residual, Into::Add, &mut packed);
            kept.middle = residual.clone();
            kept.middle_normed = vec![0.0; rows * width];
            rms_norm(&residual, &layer.feed_norm, epsilon, &mut kept.middle_normed);
            kept.wide = vec![0.0; rows * layer.gate_up.outputs()];
            layer.gate_up.multiply(&kept.middle_normed, &mut kept.wide, Into::Replace, &mut packed);
            kept.gated = vec![0.0; rows * config.intermediate_size];
            gate(&kept.wide, config.intermediate_size, &mut kept.gated);
            layer.down.multiply(&kept.gated, &mut residual, Into::Add, &mut packed);
            layers.push(kept);
        }
        let last: Vec<f32> = batch.picks.iter().flat_map(|&pick| &residual[pick * width..][..width]).copied().collect();
        let mut normed = vec![0.0; last.len()];
        rms_norm(&last, norm, epsilon, &mut normed);
        let mut logits = vec![0.0; batch.picks.len() * config.vocab_size];
        head.multiply(&normed, &mut logits, Into::Replace, &mut packed);
        (Kept { batch, angles, layers, last, normed }, logits)
    }

    /// Gradients of every parameter, of the slopes of the logits.
    pub(crate) fn backward(&self, kept: Kept, d_logits: &[f32]) -> GradientSums {
        let Engine { config, norm, .. } = &*self.engine;
        let (width, epsilon) = (config.hidden_size, config.rms_norm_eps as f32);
        let (query_width, key_width) = (config.query_width(), config.key_value_width());
        let Kept { batch, angles, layers, last, normed } = kept;
        let rows = batch.tokens.len();
        let attention = Attention::new(config);
        let mut packed = PackedRows::default();
        let mut sums: GradientSums = self.shapes.iter().map(|&count| vec![0.0; count]).collect();

        add_outer(d_logits, &normed, width, &mut sums[self.places.head], &mut packed);
        let mut d_normed = vec![0.0; normed.len()];
        self.head.multiply(d_logits, &mut d_normed, Into::Replace, &mut packed);
        let mut d_last = vec![0.0; last.len()];
        slopes::rms_norm(&last, norm, epsilon, &d_normed, &mut d_last, &mut sums[self.places.norm]);
        let mut d_residual = vec![0.0; rows * width];
        for (&pick, d_last) in batch.picks.iter().zip(d_last.chunks_exact(width)) {
            add(&mut d_residual[pick * width..][..width], d_last);
        }

        let mut d_normed = vec![0.0; rows * width];
        let mut d_gated = vec![0.0; rows * config.intermediate_size];
        let mut d_wide = vec![0.0; 2 * d_gated.len()];
        let mut d_attended = vec![0.0; rows * query_width];
        let outputs = query_width + 2 * key_width;
        let mut d_raw = vec![0.0; rows * outputs];
        let parts = self.engine.layers.iter().zip(&self.layers).zip(&self.places.layers);
        for (((layer, reverse), places), kept) in parts.zip(layers).rev() {
            add_outer(&d_residual, &kept.gated, config.intermediate_size, &mut sums[places.down], &mut packed);
            reverse.down.multiply(&d_residual, &mut d_gated, Into::Replace, &mut packed);
            slopes::gate(&kept.wide, config.intermediate_size, &d_gated, &mut d_wide);
            let mut together = vec![0.0; 2 * config.intermediate_size * width];
            add_outer(&d_wide, &kept.middle_normed, width, &mut together, &mut packed);
            split(&together, &places.gate_up, &mut sums);
            reverse.gate_up.multiply(&d_wide, &mut d_normed, Into::Replace, &mut packed);
            let d_norm = &mut sums[places.feed_norm];
            slopes::rms_norm(&kept.middle, &layer.feed_norm, epsilon, &d_normed, &mut d_residual, d_norm);

            add_outer(&d_residual, &kept.attended, query_width, &mut sums[places.output], &mut packed);
            reverse.output.multiply(&d_residual, &mut d_attended, Into::Replace, &mut packed);
            attention.backward(&batch.lengths, &kept.turned, &kept.raw, &d_attended, &mut d_raw);
            let mut d_query_norm = vec![0.0; config.head_dim];
            for ((raw, d_raw), position) in
                kept.raw.chunks_exact(outputs).zip(d_raw.chunks_exact_mut(outputs)).zip(batch.positions())
            {
                let (query, key) = raw[..query_width + key_width].split_at(query_width);
                let (d_query, d_key) = d_raw[..query_width + key_width].split_at_mut(query_width);
                let angles = angles.at(position);
                slopes::norm_and_rotate(query, &layer.query_norm, epsilon, angles, d_query, &mut d_query_norm);
                let d_norm = &mut sums[places.key_norm];
                slopes::norm_and_rotate(key, &layer.key_norm, epsilon, angles, d_key, d_norm);
            }
            // The engine's norm of queries has the scale of the scores in it.
            let scaled: Vec<f32> = d_query_norm.iter().map(|d| d * score_scale(config)).collect();
            add(&mut sums[places.query_norm], &scaled);
            let mut together = vec![0.0; outputs * width];
            add_outer(&d_raw, &kept.normed, width, &mut together, &mut packed);
            split(&together, &places.query_key_value, &mut sums);
            reverse.query_key_value.multiply(&d_raw, &mut d_normed, Into::Replace, &mut packed);
            let d_norm = &mut sums[places.input_norm];
            slopes::rms_norm(&kept.input, &layer.input_norm, epsilon, &d_normed, &mut d_residual, d_norm);
        }
        let embedding = &mut sums[self.places.embedding];
        for (&token, d) in batch.tokens.iter().zip(d_residual.chunks_exact(width)) {
            add(&mut embedding[token as usize * width..][..width], d);
        }
        sums
    }
}

/// `sum += d_yᵀ x` for `d_y: [rows, outputs]` and `x: [rows, width]`: a matrix's gradient.
fn add_outer(d_y: &[f32], x: &[f32], width: usize, sum: &mut [f32], packed: &mut PackedRows) {
    if !x.is_empty() {
        Matrix::pack_transposed(width, &[x]).multiply_columns(d_y, sum, Into::Add, packed);
    }
}

/// Adds the parts of a gradient that was computed in one piece.
fn split(together: &[f32], places: &[usize], sums: &mut GradientSums) {
    let mut left = together;
    for &place in places {
        let (part, rest) = left.split_at(sums[place].len());
        add(&mut sums[place], part);
        left = rest;
    }
}

fn add(sum: &mut [f32], values: &[f32]) {
    for (sum, value) in sum.iter_mut().zip(values) {
        *sum += value;
    }
}
