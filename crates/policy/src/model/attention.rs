//! Grouped-query attention, for some families with a norm on each head's queries and keys.
//!
//! The graph knows what leads to attention and what follows it; attention itself is [`super::blocks`].

use burn::tensor::{Device, Tensor};

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
///
/// Sequences are filled up on the right. No token that counts looks there, and the filling's own results are
/// never read, so it needs no mask.
#[derive(Clone, Debug)]
pub(crate) struct Positions {
    batch: usize,
    length: usize,
    rotary: Rotary,
}

impl Positions {
    /// Positions `0 .. length` for `batch` sequences.
    pub(crate) fn new(config: &ModelConfig, batch: usize, length: usize, device: &Device) -> Positions {
        Positions { batch, length, rotary: Rotary::new(config, length, device) }
    }
}

impl Attention {
    /// Queries, scaled, `[batch, heads, length, dim]`, keys and values, `[batch, groups, length, dim]`, of `x:
    /// [batch · length, width]`.
    pub(crate) fn project(&self, x: Tensor<2>, config: &ModelConfig, positions: &Positions) -> [Tensor<4>; 3] {
        let Positions { batch, length, rotary } = positions;
        let (batch, length, dim) = (*batch, *length, config.head_dim);
        let (heads, groups) = (config.num_attention_heads, config.num_key_value_heads);
        let (query, key, value) = (self.query.forward(x.clone()), self.key.forward(x.clone()), self.value.forward(x));
        let mut query = query.reshape([batch * length * heads, dim]);
        let mut key = key.reshape([batch * length * groups, dim]);
        if let Some((of_queries, of_keys)) = &self.head_norms {
            (query, key) = (of_queries.forward(query), of_keys.forward(key));
        }
        let query = rotary.turn(query.reshape([batch, length, heads, dim])) * (dim as f64).powf(-0.5);
        let key = rotary.turn(key.reshape([batch, length, groups, dim]));
        [query, key, value.reshape([batch, length, groups, dim])].map(|heads| heads.swap_dims(1, 2))
    }

    /// What a layer adds to its input, of what attention gave: `[batch, heads, length, dim]`.
    pub(crate) fn output(&self, attended: Tensor<4>) -> Tensor<2> {
        let [batch, heads, length, dim] = attended.dims();
        self.output.forward(attended.swap_dims(1, 2).reshape([batch * length, heads * dim]))
    }
}
