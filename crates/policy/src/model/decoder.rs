//! The whole decoder: tokens in, logits of chosen positions out.
//!
//! The graph is cut at every attention: what leads to it ends in queries, keys and values, and what follows
//! begins with new leaves. The way back goes through the pieces from the last to the first, and through
//! attention itself by [`super::blocks`], so that no graph holds a matrix of scores.

use burn::tensor::{Device, Gradients, Int, Tensor, TensorData};

use crate::adapter::Adapter;
use crate::learner::GradientSums;
use crate::model::attention::{Attention, Positions};
use crate::model::blocks::{Attended, BLOCK};
use crate::model::feed_forward::FeedForward;
use crate::model::linear::{Adapted, Linear};
use crate::model::norm::RmsNorm;
use crate::packing::Batch;
use crate::{ModelConfig, NamedTensor, Weights};

/// A model whose parameters are leaves of the graph.
#[derive(Clone, Debug)]
pub(crate) struct Decoder {
    config: ModelConfig,
    device: Device,
    /// Everything that is learnt once, in the order of the weights or of the adapter's.
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

/// A batch on its way: the pieces of the graph.
#[derive(Debug)]
pub(crate) struct Going {
    /// One per layer.
    cuts: Vec<Cut>,
    /// Logits of the outputs: `[outputs, vocabulary]`.
    pub(crate) logits: Tensor<2>,
}

/// Where a layer's attention parts the graph.
#[derive(Debug)]
struct Cut {
    /// The residual stream and what attention takes, ends of the piece before.
    residual: Tensor<2>,
    taken: [Tensor<4>; 3],
    attention: Attended,
    /// The same residual stream and what attention gave, leaves of the piece after.
    residual_after: Tensor<2>,
    given: Tensor<4>,
}

impl Decoder {
    /// Makes leaves of the weights, or of the adapter, on `device`, which decides whether a graph is kept.
    pub(crate) fn new(config: &ModelConfig, weights: &Weights, adapter: Option<&Adapter>, device: &Device) -> Decoder {
        let tensor = |tensor: &NamedTensor| {
            let shape = match tensor.shape[..] {
                [rows, columns] => [rows, columns],
                _ => [1, tensor.values.len()],
            };
            Tensor::<2>::from_data(TensorData::new(tensor.values.clone(), shape), device)
        };
        let learn = |weights: &Weights| weights.tensors.iter().map(|one| tensor(one).require_grad()).collect();
        let frozen = |weights: &Weights| weights.tensors.iter().map(tensor).collect();
        let (parameters, leaves): (Vec<Tensor<2>>, Vec<Tensor<2>>) = match adapter {
            Some(adapter) => (frozen(weights), learn(&adapter.weights)),
            None => (learn(weights), Vec::new()),
        };
        let leaf = |name: &str| parameters[weights.position(name)].clone();
        let norm = |name: &str| RmsNorm { weight: leaf(name), epsilon: config.rms_norm_eps };
        let layers = (0..config.num_hidden_layers)
            .map(|layer| {
                let name = |part: &str| format!("model.layers.{layer}.{part}.weight");
                let linear = |part: &str| Linear {
                    weight: leaf(&name(part)),
                    bias: weights
                        .find(&format!("model.layers.{layer}.{part}.bias"))
                        .map(|place| parameters[place].clone()),
                    adapter: adapter.and_then(|adapter| {
                        let [down, up] = adapter.places(layer, part)?.map(|place| leaves[place].clone());
                        Some(Adapted { down, up, scale: adapter.lora().scale() })
                    }),
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
        let leaves = if adapter.is_some() { leaves } else { parameters };
        Decoder { config: config.clone(), device: device.clone(), embedding, layers, norm, head, leaves }
    }

    pub(crate) fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Takes a batch forward.
    pub(crate) fn forward(&self, batch: &Batch) -> Going {
        let indices = |values: &[i32]| {
            Tensor::<1, Int>::from_data(TensorData::new(values.to_vec(), [values.len()]), &self.device)
        };
        let (tokens, picks, length) = fill_up(batch);
        let positions = Positions::new(&self.config, batch.trie.nodes.len(), length, &self.device);
        let mut x = self.embedding.clone().select(0, indices(&tokens));
        if !self.embedding.is_require_grad() {
            // The first piece must lead somewhere, whichever of its matrices is learnt.
            x = x.require_grad();
        }
        let mut cuts = Vec::new();
        for layer in &self.layers {
            let taken = layer.attention.project(layer.input_norm.forward(x.clone()), &self.config, &positions);
            let [queries, keys, values] = taken.clone().map(Tensor::inner);
            let attention = Attended::new(queries, keys, values, BLOCK);
            let residual_after = Tensor::from_inner(x.clone().inner()).require_grad();
            let given = Tensor::from_inner(attention.out.clone()).require_grad();
            let middle = residual_after.clone() + layer.attention.output(given.clone());
            cuts.push(Cut { residual: x, taken, attention, residual_after, given });
            let fed = layer.feed_forward.forward(layer.feed_norm.forward(middle.clone()));
            x = middle + fed;
        }
        // Only what is asked for goes through the vocabulary, by far the widest matrix.
        let x = self.norm.forward(x.select(0, indices(&picks)));
        Going { cuts, logits: x.matmul(self.head.clone().transpose()) }
    }

    /// Back from `∂loss/∂logits` (`[outputs, vocabulary]`, row by row) to every parameter.
    pub(crate) fn backward(&self, going: Going, slopes: Vec<f32>) -> GradientSums {
        let Going { cuts, logits } = going;
        let mut sums: GradientSums = self.leaves.iter().map(|leaf| vec![0.0; leaf.shape().num_elements()]).collect();
        let slopes = Tensor::from_data(TensorData::new(slopes, logits.dims()), &self.device);
        // The piece's ends times their slopes, whose own slopes are the parameters'.
        let mut ends = (logits * slopes).sum();
        for cut in cuts.into_iter().rev() {
            let mut gradients = ends.backward();
            self.add(&mut gradients, &mut sums);
            let (residual, given) =
                (cut.residual_after.grad_remove(&mut gradients), cut.given.grad_remove(&mut gradients));
            let residual = residual.expect("the residual stream leads to the piece's end");
            let slopes = cut.attention.back(given.expect("attention is added to the residual stream"));
            let taken =
                cut.taken.into_iter().zip(slopes).map(|(taken, slope)| (taken * Tensor::from_inner(slope)).sum());
            ends = taken.fold((cut.residual * Tensor::from_inner(residual)).sum(), |ends, taken| ends + taken);
        }
        self.add(&mut ends.backward(), &mut sums);
        sums
    }

    /// Adds the leaves' gradients of one piece.
    fn add(&self, gradients: &mut Gradients, sums: &mut GradientSums) {
        for (leaf, sum) in self.leaves.iter().zip(sums) {
            let Some(gradient) = leaf.grad_remove(gradients) else { continue };
            let values: Vec<f32> = gradient.into_data().try_into_vec().expect("the graph is computed in f32");
            for (sum, value) in sum.iter_mut().zip(values) {
                *sum += value;
            }
        }
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
