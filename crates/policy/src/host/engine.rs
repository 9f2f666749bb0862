//! A decoder's weights as the host's loops want them, and the angles of its positions.

use std::borrow::Cow;
use std::sync::Arc;

use crate::adapter::Adapter;
use crate::held::Held;
use crate::host::kernels::{norm_and_rotate, rotate};
use crate::host::linear::Linear;
use crate::host::matrix::Matrix;
use crate::threads::on_threads;
use crate::{Dtype, ModelConfig, ReadWeightsError};

/// Matrices of a layer that are computed in one piece.
pub(super) const QUERY_KEY_VALUE: [&str; 3] = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"];
pub(super) const OUTPUT: [&str; 1] = ["self_attn.o_proj"];
pub(super) const GATE_UP: [&str; 2] = ["mlp.gate_proj", "mlp.up_proj"];
pub(super) const DOWN: [&str; 1] = ["mlp.down_proj"];

/// A model's weights, packed for [`Matrix`]. What is large is shared by all engines that differ in their
/// adapters alone.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(super) config: ModelConfig,
    /// Of its matrices and of their products' sides.
    pub(super) dtype: Dtype,
    embedding: Embedding,
    pub(super) layers: Vec<Layer>,
    pub(super) norm: Vec<f32>,
    pub(super) head: Arc<Matrix>,
}

/// Where a token's own vector is read.
#[derive(Clone, Debug)]
enum Embedding {
    /// `[vocabulary, hidden]`
    Own(Arc<Vec<f32>>),
    /// In the head that it is tied to, whose packed numbers are the same to the bit.
    Head,
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
#[derive(Clone, Debug)]
pub(super) struct HeadNorms {
    /// With the scale of the scores in it.
    pub(super) query: Vec<f32>,
    pub(super) key: Vec<f32>,
}

impl Engine {
    /// Packs a copy of the weights, in the memory of `spare` where there is an engine of the same model.
    ///
    /// # Errors
    /// When weights that are in files cannot be read.
    pub(crate) fn new(
        config: &ModelConfig,
        weights: &Held,
        dtype: Dtype,
        threads: usize,
        spare: Option<Engine>,
    ) -> Result<Engine, ReadWeightsError> {
        let width = config.hidden_size;
        let (mut layers, mut spare_head, mut embedding) = (Vec::new(), None, Vec::new());
        if let Some(spare) = spare {
            layers = spare.layers.into_iter().map(Some).collect();
            spare_head = Arc::into_inner(spare.head);
            if let Embedding::Own(values) = spare.embedding {
                embedding = Arc::into_inner(values).unwrap_or_default();
            }
        }
        layers.resize_with(config.num_hidden_layers, || None);
        let layers = layers.into_iter().enumerate().collect();
        let layers =
            on_threads(layers, threads, layers_per_thread(config), |(layer, spare): (usize, Option<Layer>)| {
                let part = |name: &str| -> Result<Vec<f32>, ReadWeightsError> {
                    Ok(weights.values(&format!("model.layers.{layer}.{name}.weight"))?.into_owned())
                };
                let spare = spare.map(|spare| [spare.query_key_value, spare.output, spare.gate_up, spare.down]);
                let mut spare = spare.into_iter().flatten().map(|spare| Arc::into_inner(spare.matrix));
                // In the order in which they were taken out.
                let mut linear = |inputs: usize, parts: &[&str]| {
                    Linear::new(spare.next().flatten(), dtype, inputs, weights, layer, parts)
                };
                // The scale of the scores is put into the queries' norm: one product less per score.
                let scale = score_scale(config);
                let head_norms = || -> Result<HeadNorms, ReadWeightsError> {
                    let query = part("self_attn.q_norm")?.into_iter().map(|weight| weight * scale).collect();
                    Ok(HeadNorms { query, key: part("self_attn.k_norm")? })
                };
                Ok(Layer {
                    input_norm: part("input_layernorm")?,
                    query_key_value: linear(width, &QUERY_KEY_VALUE)?,
                    head_norms: config.has_head_norms().then(head_norms).transpose()?,
                    output: linear(config.query_width(), &OUTPUT)?,
                    feed_norm: part("post_attention_layernorm")?,
                    gate_up: linear(width, &GATE_UP)?,
                    down: linear(config.intermediate_size, &DOWN)?,
                })
            });
        let values = weights.values("model.embed_tokens.weight")?;
        let pack =
            |values: &[f32]| Matrix::in_place_of(spare_head, &[values], |parts| Matrix::pack(dtype, width, parts));
        let head = match config.tie_word_embeddings {
            true => pack(&values),
            false => pack(&weights.values("lm_head.weight")?),
        };
        let is_exact = dtype == Dtype::F32 || values.iter().all(|value| value.to_bits() & 0xffff == 0);
        let embedding = match values {
            _ if config.tie_word_embeddings && is_exact => Embedding::Head,
            Cow::Owned(values) => Embedding::Own(Arc::new(values)),
            Cow::Borrowed(values) => {
                embedding.clear();
                embedding.extend_from_slice(values);
                Embedding::Own(Arc::new(embedding))
            }
        };
        Ok(Engine {
            head: Arc::new(head),
            norm: weights.values("model.norm.weight")?.into_owned(),
            config: config.clone(),
            dtype,
            embedding,
            layers: layers.into_iter().collect::<Result<_, ReadWeightsError>>()?,
        })
    }

    /// The same weights with an adapter beside them; only the adapter takes memory.
    pub(crate) fn with_adapter(&self, adapter: &Adapter) -> Engine {
        let layers = self.layers.iter().enumerate().map(|(number, layer)| {
            let with = |linear: &Linear, parts| linear.with_adapter(self.dtype, &self.config, adapter, number, parts);
            Layer {
                input_norm: layer.input_norm.clone(),
                query_key_value: with(&layer.query_key_value, &QUERY_KEY_VALUE),
                head_norms: layer.head_norms.clone(),
                output: with(&layer.output, &OUTPUT),
                feed_norm: layer.feed_norm.clone(),
                gate_up: with(&layer.gate_up, &GATE_UP),
                down: with(&layer.down, &DOWN),
            }
        });
        Engine {
            layers: layers.collect(),
            config: self.config.clone(),
            dtype: self.dtype,
            embedding: self.embedding.clone(),
            norm: self.norm.clone(),
            head: self.head.clone(),
        }
    }

    /// Appends a token's own vector to `rows`.
    pub(super) fn embed(&self, token: u32, rows: &mut Vec<f32>) {
        let (token, width) = (token as usize, self.config.hidden_size);
        match &self.embedding {
            Embedding::Own(values) => rows.extend_from_slice(&values[token * width..][..width]),
            Embedding::Head => self.head.read_output(token, rows),
        }
    }

    pub(crate) fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Whether everything that is large is there once for both.
    #[cfg(test)]
    pub(crate) fn shares_with(&self, other: &Engine) -> bool {
        let matrices = |layer: &Layer| {
            [&layer.query_key_value, &layer.output, &layer.gate_up, &layer.down].map(|linear| linear.matrix.clone())
        };
        let pairs = self.layers.iter().zip(&other.layers);
        let mut matrices = pairs.flat_map(|(a, b)| matrices(a).into_iter().zip(matrices(b)));
        let is_one = match (&self.embedding, &other.embedding) {
            (Embedding::Own(a), Embedding::Own(b)) => Arc::ptr_eq(a, b),
            (Embedding::Head, Embedding::Head) => true,
            _ => false,
        };
        matrices.all(|(a, b)| Arc::ptr_eq(&a, &b)) && is_one && Arc::ptr_eq(&self.head, &other.head)
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
