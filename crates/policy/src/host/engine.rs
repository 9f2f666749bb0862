//! A decoder's weights as the host's loops want them, and the angles of its positions.

use crate::host::kernels::{norm_and_rotate, rotate};
use crate::host::linear::Linear;
use crate::host::matrix::Matrix;
use crate::threads::on_threads;
use crate::{Dtype, ModelConfig, Weights};

/// Matrices of a layer that are computed in one piece.
pub(super) const QUERY_KEY_VALUE: [&str; 3] = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"];
pub(super) const OUTPUT: [&str; 1] = ["self_attn.o_proj"];
pub(super) const GATE_UP: [&str; 2] = ["mlp.gate_proj", "mlp.up_proj"];
pub(super) const DOWN: [&str; 1] = ["mlp.down_proj"];

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

/// Cosines and sines of every position, `[position, head_dim / 2]`; with YaRN times its factor.
#[derive(Debug)]
pub(crate) struct Angles {
    half: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

#[derive(Debug)]
pub(super) struct Layer {
    pub(super) input_norm: Vec<f32>,
    pub(super) query_key_value: Linear,
    pub(super) head_norms: Option<HeadNorms>,
    pub(super) output: Linear,
    pub(super) feed_norm: Vec<f32>,
    pub(super) gate_up: Linear,
    pub(super) down: Linear,
}

/// Norms on each head of queries and of keys, in the families that have them.
#[derive(Debug)]
pub(super) struct HeadNorms {
    /// With the scale of the scores in it.
    pub(super) query: Vec<f32>,
    pub(super) key: Vec<f32>,
}

impl Engine {
    /// Packs a copy of the weights, in the memory of `spare` where there is an engine of the same model.
    pub(crate) fn new(
        config: &ModelConfig,
        weights: &Weights,
        dtype: Dtype,
        threads: usize,
        spare: Option<Engine>,
    ) -> Engine {
        let width = config.hidden_size;
        let (mut layers, mut spare_head, mut embedding) = (Vec::new(), None, Vec::new());
        if let Some(spare) = spare {
            layers = spare.layers.into_iter().map(Some).collect();
            (spare_head, embedding) = (Some(spare.head), spare.embedding);
        }
        layers.resize_with(config.num_hidden_layers, || None);
        let layers = layers.into_iter().enumerate().collect();
        let layers =
            on_threads(layers, threads, layers_per_thread(config), |(layer, spare): (usize, Option<Layer>)| {
                let part = |name: &str| weights.values(&format!("model.layers.{layer}.{name}.weight"));
                let spare = spare.map(|spare| [spare.query_key_value, spare.output, spare.gate_up, spare.down]);
                let mut spare = spare.into_iter().flatten().map(|spare| spare.matrix);
                // In the order in which they were taken out.
                let mut linear =
                    |inputs: usize, parts: &[&str]| Linear::new(spare.next(), dtype, inputs, weights, layer, parts);
                // The scale of the scores is put into the queries' norm: one product less per score.
                let scale = score_scale(config);
                Layer {
                    input_norm: part("input_layernorm").to_vec(),
                    query_key_value: linear(width, &QUERY_KEY_VALUE),
                    head_norms: config.has_head_norms().then(|| HeadNorms {
                        query: part("self_attn.q_norm").iter().map(|weight| weight * scale).collect(),
                        key: part("self_attn.k_norm").to_vec(),
                    }),
                    output: linear(config.query_width(), &OUTPUT),
                    feed_norm: part("post_attention_layernorm").to_vec(),
                    gate_up: linear(width, &GATE_UP),
                    down: linear(config.intermediate_size, &DOWN),
                }
            });
        embedding.clear();
        embedding.extend_from_slice(weights.values("model.embed_tokens.weight"));
        let head = if config.tie_word_embeddings { &embedding } else { weights.values("lm_head.weight") };
        Engine {
            head: Matrix::in_place_of(spare_head, &[head], |parts| Matrix::pack(dtype, width, parts)),
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
}

impl Layer {
    /// Norms, where there are norms on heads, and turns the queries and the keys of one row; `scale`, that
    /// of the scores, goes into the queries.
    pub(super) fn turn(
        &self,
        query: &mut [f32],
        key: &mut [f32],
        epsilon: f32,
        scale: f32,
        (cos, sin): (&[f32], &[f32]),
    ) {
        match &self.head_norms {
            Some(norms) => {
                norm_and_rotate(query, &norms.query, epsilon, cos, sin);
                norm_and_rotate(key, &norms.key, epsilon, cos, sin);
            }
            None => {
                rotate(query, scale, cos, sin);
                rotate(key, 1.0, cos, sin);
            }
        }
    }
}

/// Layers below which packing them on another thread costs more than it saves: a million numbers.
pub(super) fn layers_per_thread(config: &ModelConfig) -> usize {
    let layer = config.hidden_size * (3 * config.intermediate_size + 2 * config.query_width());
    (1 << 20) / layer.max(1) + 1
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
        let (half, size, frequencies) = (config.head_dim / 2, config.rotary_size(), config.frequencies());
        let angles = (0..positions)
            .flat_map(|position| frequencies.iter().map(move |&frequency| f64::from(position as f32 * frequency)));
        let (cos, sin) = angles.map(|angle| (angle.cos() as f32 * size, angle.sin() as f32 * size)).unzip();
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
