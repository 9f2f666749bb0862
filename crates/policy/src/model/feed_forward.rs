//! The gated feed-forward layer.

use burn::tensor::{Tensor, activation};

use crate::model::linear::Linear;

/// `down(silu(gate(x)) · up(x))`
#[derive(Clone, Debug)]
pub(crate) struct FeedForward {
    pub(crate) gate: Linear,
    pub(crate) up: Linear,
    pub(crate) down: Linear,
}

impl FeedForward {
    /// `x: [rows, width]`
    pub(crate) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let gate = self.gate.forward(x.clone());
        self.down.forward(activation::silu(gate) * self.up.forward(x))
    }
}
