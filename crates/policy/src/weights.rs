//! The weights on the host: one list of named `f32` tensors, in the order of their names.
//!
//! This list is the truth; the tensors of the learning graph and the packed matrices of the sampler are
//! made from it. A policy's version is a hash of exactly this list, so the order and the names (those
//! of Hugging Face checkpoints) are part of what a version means.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use toehold_rollout::PolicyVersion;

use crate::{Biases, ModelConfig};

/// One tensor of a checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedTensor {
    /// Its name in the checkpoint.
    pub name: String,
    /// Rows first; a matrix is `[output, input]`.
    pub shape: Vec<usize>,
    /// Row by row, as many as the shape says.
    pub values: Vec<f32>,
}

/// All tensors of a model, sorted by name, each name once.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    /// The tensors.
    pub tensors: Vec<NamedTensor>,
}

impl Weights {
    /// Names and shapes of a model, sorted by name.
    pub fn expected(config: &ModelConfig) -> Vec<(String, Vec<usize>)> {
        let width = config.hidden_size;
        let mut expected = vec![
            ("model.embed_tokens.weight".to_owned(), vec![config.vocab_size, width]),
            ("model.norm.weight".to_owned(), vec![width]),
        ];
        if !config.tie_word_embeddings {
            expected.push(("lm_head.weight".to_owned(), vec![config.vocab_size, width]));
        }
        for layer in 0..config.num_hidden_layers {
            for Projection { part, outputs, inputs, bias } in matrices(config) {
                expected.push((format!("model.layers.{layer}.{part}.weight"), vec![outputs, inputs]));
                if bias {
                    expected.push((format!("model.layers.{layer}.{part}.bias"), vec![outputs]));
                }
            }
            let mut norms = vec![("input_layernorm", width), ("post_attention_layernorm", width)];
            if config.has_head_norms() {
                norms.extend(["self_attn.q_norm", "self_attn.k_norm"].map(|norm| (norm, config.head_dim)));
            }
            for (norm, width) in norms {
                expected.push((format!("model.layers.{layer}.{norm}.weight"), vec![width]));
            }
        }
        expected.sort();
        expected
    }

    /// Random weights: norms 1, biases 0, everything else normal with deviation `initializer_range`, the two
    /// projections back into the residual stream smaller by `√(2 · layers)` so that its size at the
    /// start does not grow with depth. The same seed gives the same bits everywhere.
    pub fn random(config: &ModelConfig, seed: u64) -> Weights {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        let mut rng = ChaCha8Rng::from_seed(key);
        let depth = (2.0 * config.num_hidden_layers as f64).sqrt();
        let tensors = Weights::expected(config)
            .into_iter()
            .map(|(name, shape)| {
                let count = shape.iter().product();
                let into_residual = name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight");
                let deviation = config.initializer_range / if into_residual { depth } else { 1.0 };
                let values = match shape.len() {
                    1 if name.ends_with(".bias") => vec![0.0; count],
                    1 => vec![1.0; count],
                    _ => normal(&mut rng, count, deviation),
                };
                NamedTensor { name, shape, values }
            })
            .collect();
        Weights { tensors }
    }

    /// The values of one tensor.
    ///
    /// # Panics
    /// When there is none of that name: every list is checked against
    /// [`expected`](Self::expected) when it is made.
    pub(crate) fn values(&self, name: &str) -> &[f32] {
        &self.tensors[self.position(name)].values
    }

    /// Where one tensor stands in the list; panics as [`values`](Self::values).
    pub(crate) fn position(&self, name: &str) -> usize {
        self.find(name).expect("every list of weights has exactly the model's names")
    }

    /// Where a tensor stands in the list that not every model has.
    pub(crate) fn find(&self, name: &str) -> Option<usize> {
        self.tensors.binary_search_by(|tensor| tensor.name.as_str().cmp(name)).ok()
    }

    /// Numbers in all tensors together; tied embeddings are one tensor.
    pub fn count(&self) -> u64 {
        self.tensors.iter().map(|tensor| tensor.values.len() as u64).sum()
    }

    /// The name of these weights: 16 hexadecimal digits of a hash over name, shape and bits of every
    /// tensor, in the order of the names.
    pub fn version(&self) -> PolicyVersion {
        let mut hash = Hash::default();
        for tensor in &self.tensors {
            hash.add(&tensor.name, &tensor.shape, &tensor.values);
        }
        hash.version()
    }
}

/// Makes the name of weights, tensor by tensor in the order of their names.
#[derive(Debug, Default)]
pub(crate) struct Hash(blake3::Hasher);

impl Hash {
    pub(crate) fn add(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        // In pieces that stay in the nearest cache.
        const PIECE: usize = 4096;
        let (hasher, mut bytes) = (&mut self.0, vec![0; 4 * PIECE]);
        hasher.update(&(name.len() as u64).to_le_bytes());
        hasher.update(name.as_bytes());
        hasher.update(&(shape.len() as u64).to_le_bytes());
        for &side in shape {
            hasher.update(&(side as u64).to_le_bytes());
        }
        for values in values.chunks(PIECE) {
            let (bytes, _) = bytes[..4 * values.len()].as_chunks_mut();
            for (bytes, value) in bytes.iter_mut().zip(values) {
                *bytes = value.to_le_bytes();
            }
            hasher.update(bytes.as_flattened());
        }
    }

    pub(crate) fn version(self) -> PolicyVersion {
        PolicyVersion { weights: self.0.finalize().to_hex()[..16].to_owned() }
    }
}

/// A matrix that every layer has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Projection {
    /// Its name in its layer.
    pub(crate) part: &'static str,
    pub(crate) outputs: usize,
    pub(crate) inputs: usize,
    /// Whether a bias is added.
    pub(crate) bias: bool,
}

/// The matrices of a layer.
pub(crate) fn matrices(config: &ModelConfig) -> [Projection; 7] {
    let (width, query, key, feed) =
        (config.hidden_size, config.query_width(), config.key_value_width(), config.intermediate_size);
    let Biases { query_key_value, output, feed_forward } = config.biases;
    [
        ("self_attn.q_proj", query, width, query_key_value),
        ("self_attn.k_proj", key, width, query_key_value),
        ("self_attn.v_proj", key, width, query_key_value),
        ("self_attn.o_proj", width, query, output),
        ("mlp.gate_proj", feed, width, feed_forward),
        ("mlp.up_proj", feed, width, feed_forward),
        ("mlp.down_proj", width, feed, feed_forward),
    ]
    .map(|(part, outputs, inputs, bias)| Projection { part, outputs, inputs, bias })
}

/// Nearly normal numbers: sums of twelve uniform ones, which need no logarithm or cosine and so have the
/// same bits with every mathematical library.
fn normal(rng: &mut ChaCha8Rng, count: usize, deviation: f64) -> Vec<f32> {
    let mut one = || (0..12).map(|_| uniform(rng)).sum::<f64>() - 6.0;
    (0..count).map(|_| (deviation * one()) as f32).collect()
}

/// A number in [0, 1) from the upper 53 bits of one draw.
pub(crate) fn uniform(rng: &mut ChaCha8Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}
