//! A decoder's weights as the host's loops want them, and the angles of its positions.

use crate::host::matrix::Matrix;
use crate::threads::on_threads;
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

/// Cosines and sines of every position, `[position, head_dim / 2]`.
#[derive(Debug)]
pub(crate) struct Angles {
    half: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
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
                let attention = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"].map(part);
                let spare = spare.map(|spare| [spare.query_key_value, spare.output, spare.gate_up, spare.down]);
                let mut spare = spare.into_iter().flatten();
                // In the order in which they were taken out.
                let mut matrix = |inputs: usize, parts: &[&[f32]]| pack(spare.next(), dtype, inputs, parts);
                // The scale of the scores is put into the queries' norm: one product less per score.
                let scale = score_scale(config);
                Layer {
                    input_norm: part("input_layernorm").to_vec(),
                    query_key_value: matrix(width, &attention),
                    query_norm: part("self_attn.q_norm").iter().map(|weight| weight * scale).collect(),
                    key_norm: part("self_attn.k_norm").to_vec(),
                    output: matrix(config.query_width(), &[part("self_attn.o_proj")]),
                    feed_norm: part("post_attention_layernorm").to_vec(),
                    gate_up: matrix(width, &["mlp.gate_proj", "mlp.up_proj"].map(part)),
                    down: matrix(config.intermediate_size, &[part("mlp.down_proj")]),
                }
            });
        embedding.clear();
        embedding.extend_from_slice(weights.values("model.embed_tokens.weight"));
        let head = if config.tie_word_embeddings { &embedding } else { weights.values("lm_head.weight") };
        Engine {
            head: pack(spare_head, dtype, width, &[head]),
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

fn pack(spare: Option<Matrix>, dtype: Dtype, inputs: usize, parts: &[&[f32]]) -> Matrix {
    Matrix::in_place_of(spare, parts, |parts| Matrix::pack(dtype, inputs, parts))
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
