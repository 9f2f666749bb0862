//! The whole decoder: tokens in, logits of chosen positions out.

use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::learner::GradientSums;
use crate::model::attention::{Attention, Positions};
use crate::model::feed_forward::FeedForward;
use crate::model::linear::Linear;
use crate::model::norm::RmsNorm;
use crate::packing::Batch;
use crate::{ModelConfig, Weights};

/// A model whose parameters are leaves of the graph.
#[derive(Clone, Debug)]
pub(crate) struct Decoder {
    config: ModelConfig,
    device: Device,
    /// Every parameter once, in the order of the weights.
    leaves: Vec<Tensor<2>>,
    embedding: Tensor<2>,
    layers: Vec<Layer>,
    norm: RmsNorm,
    head: Tensor<2>,
}

#[derive(Clone, Debug)]
struct Layer {
    input_norm: RmsNorm,
    attention: Attention,
    feed_norm: RmsNorm,
    feed_forward: FeedForward,
}

impl Decoder {
    /// Makes leaves of the weights on `device`, which decides whether a graph is kept.
    pub(crate) fn new(config: &ModelConfig, weights: &Weights, device: &Device) -> Decoder {
        let leaves: Vec<Tensor<2>> = weights
            .tensors
            .iter()
            .map(|tensor| {
                let shape = match tensor.shape[..] {
                    [rows, columns] => [rows, columns],
                    _ => [1, tensor.values.len()],
                };
                Tensor::from_data(TensorData::new(tensor.values.clone(), shape), device).require_grad()
            })
            .collect();
        let leaf = |name: &str| leaves[weights.position(name)].clone();
        let norm = |name: &str| RmsNorm { weight: leaf(name), epsilon: config.rms_norm_eps };
        let layers = (0..config.num_hidden_layers)
            .map(|layer| {
                let name = |part: &str| format!("model.layers.{layer}.{part}.weight");
                let linear = |part: &str| Linear {
                    weight: leaf(&name(part)),
                    bias: weights.find(&format!("model.layers.{layer}.{part}.bias")).map(|place| leaves[place].clone()),
                };
                Layer {
                    input_norm: norm(&name("input_layernorm")),
                    attention: Attention {
                        query: linear("self_attn.q_proj"),
                        key: linear("self_attn.k_proj"),
                        value: linear("self_attn.v_proj"),
                        output: linear("self_attn.o_proj"),
                        head_norms: config
                            .has_head_norms()
                            .then(|| (norm(&name("self_attn.q_norm")), norm(&name("self_attn.k_norm")))),
                    },
                    feed_norm: norm(&name("post_attention_layernorm")),
                    feed_forward: FeedForward {
                        gate: linear("mlp.gate_proj"),
                        up: linear("mlp.up_proj"),
                        down: linear("mlp.down_proj"),
                    },
                }
            })
            .collect();
        let embedding = leaf("model.embed_tokens.weight");
        let head = if config.tie_word_embeddings { embedding.clone() } else { leaf("lm_head.weight") };
        let norm = norm("model.norm.weight");
        Decoder { config: config.clone(), device: device.clone(), embedding, layers, norm, head, leaves }
    }

    pub(crate) fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Logits of the outputs: `[outputs, vocabulary]`.
    pub(crate) fn forward(&self, batch: &Batch) -> Tensor<2> {
        let indices = |values: &[i32]| {
            Tensor::<1, Int>::from_data(TensorData::new(values.to_vec(), [values.len()]), &self.device)
        };
        let (tokens, picks, length) = fill_up(batch);
        let positions = Positions::new(&self.config, batch.trie.nodes.len(), length, &self.device);
        let mut x = self.embedding.clone().select(0, indices(&tokens));
        for layer in &self.layers {
            let attended = layer.attention.forward(layer.input_norm.forward(x.clone()), &self.config, &positions);
            x = x + attended;
            let fed = layer.feed_forward.forward(layer.feed_norm.forward(x.clone()));
            x = x + fed;
        }
        // Only what is asked for goes through the vocabulary, by far the widest matrix.
        let x = self.norm.forward(x.select(0, indices(&picks)));
        x.matmul(self.head.clone().transpose())
    }

    /// Back from `∂loss/∂logits` (`[outputs, vocabulary]`, row by row) to every parameter.
    pub(crate) fn backward(&self, logits: Tensor<2>, slopes: Vec<f32>) -> GradientSums {
        let slopes = Tensor::from_data(TensorData::new(slopes, logits.dims()), &self.device);
        let mut gradients = (logits * slopes).sum().backward();
        let mut values = |leaf: &Tensor<2>| match leaf.grad_remove(&mut gradients) {
            Some(gradient) => gradient.into_data().try_into_vec().expect("the graph is computed in f32"),
            None => vec![0.0; leaf.shape().num_elements()],
        };
        self.leaves.iter().map(&mut values).collect()
    }
}

/// Fills all sequences up on the right to the longest: tokens, outputs and that length. The batch's trie
/// must not be shared: a node is a sequence.
fn fill_up(batch: &Batch) -> (Vec<i32>, Vec<i32>, usize) {
    let nodes = &batch.trie.nodes;
    let length = nodes.iter().map(|node| node.rows.len()).max().unwrap_or(0);
    let mut tokens = vec![0; nodes.len() * length];
    let mut places = Vec::with_capacity(batch.trie.tokens.len());
    for (sequence, node) in nodes.iter().enumerate() {
        for (i, &token) in batch.trie.tokens[node.rows.clone()].iter().enumerate() {
            tokens[sequence * length + i] = token as i32;
            places.push((sequence * length + i) as i32);
        }
    }
    (tokens, batch.outputs.rows.iter().map(|&row| places[row]).collect(), length)
}
