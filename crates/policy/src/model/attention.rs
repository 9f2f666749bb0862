//! Grouped-query attention, for some families with a norm on each head's queries and keys.

use burn::tensor::{Device, Tensor, TensorData, activation};

use crate::ModelConfig;
use crate::model::linear::Linear;
use crate::model::norm::RmsNorm;
use crate::model::rotary::Rotary;

/// One layer's attention.
#[derive(Clone, Debug)]
pub(crate) struct Attention {
    pub(crate) query: Linear,
    pub(crate) key: Linear,
    pub(crate) value: Linear,
    pub(crate) output: Linear,
    /// Of each head of queries and of keys.
    pub(crate) head_norms: Option<(RmsNorm, RmsNorm)>,
}

/// What all layers share in one forward pass.
#[derive(Clone, Debug)]
pub(crate) struct Positions {
    batch: usize,
    length: usize,
    rotary: Rotary,
    /// 0 where a position may look, far below any score where it may not:
    /// `[1, 1, heads per group · length, length]`.
    mask: Tensor<4>,
}

impl Positions {
    /// Causal positions `0 .. length` for `batch` sequences.
    ///
    /// Sequences are filled up on the right. No token that counts looks there, and the filling's own
    /// results are never read, so it needs no mask of its own.
    pub(crate) fn new(config: &ModelConfig, batch: usize, length: usize, device: &Device) -> Positions {
        let group = config.heads_per_group();
        let mut mask = vec![0.0; group * length * length];
        for (row, mask) in mask.chunks_exact_mut(length).enumerate() {
            // Its exponential is exactly 0 beside any real score.
            mask[row % length + 1..].fill(-1e30f32);
        }
        let mask = Tensor::from_data(TensorData::new(mask, [1, 1, group * length, length]), device);
        Positions { batch, length, rotary: Rotary::new(config, length, device), mask }
    }
}

impl Attention {
    /// `x: [batch · length, width]`
    pub(crate) fn forward(&self, x: Tensor<2>, config: &ModelConfig, positions: &Positions) -> Tensor<2> {
        let Positions { batch, length, rotary, mask } = positions;
        let (batch, length, dim) = (*batch, *length, config.head_dim);
        let (heads, groups, per_group) =
            (config.num_attention_heads, config.num_key_value_heads, config.heads_per_group());
        let (query, key, value) = (self.query.forward(x.clone()), self.key.forward(x.clone()), self.value.forward(x));
        let mut query = query.reshape([batch * length * heads, dim]);
        let mut key = key.reshape([batch * length * groups, dim]);
        if let Some((of_queries, of_keys)) = &self.head_norms {
            (query, key) = (of_queries.forward(query), of_keys.forward(key));
        }
        let query = rotary.turn(query.reshape([batch, length, heads, dim])).swap_dims(1, 2);
        let key = rotary.turn(key.reshape([batch, length, groups, dim])).swap_dims(1, 2);
        let value = value.reshape([batch, length, groups, dim]).swap_dims(1, 2);

        // The heads of a group stand under each other, so that no key or value is repeated.
        let query = query.reshape([batch, groups, per_group * length, dim]) * (dim as f64).powf(-0.5);
        let scores = query.matmul(key.swap_dims(2, 3)) + mask.clone();
        let attended = activation::softmax(scores, 3).matmul(value);
        let attended = attended.reshape([batch, heads, length, dim]).swap_dims(1, 2);
        self.output.forward(attended.reshape([batch * length, heads * dim]))
    }
}
