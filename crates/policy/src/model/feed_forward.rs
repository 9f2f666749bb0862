//! The gated feed-forward layer.

use burn::tensor::{Tensor, activation};

/// `down(silu(gate(x)) · up(x))`; each matrix `[output, input]`.
#[derive(Clone, Debug)]
pub(crate) struct FeedForward {
    pub(crate) gate: Tensor<2>,
    pub(crate) up: Tensor<2>,
    pub(crate) down: Tensor<2>,
}

impl FeedForward {
    /// `x: [rows, width]`
    pub(crate) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let gate = x.clone().matmul(self.gate.clone().transpose());
        let up = x.matmul(self.up.clone().transpose());
        (activation::silu(gate) * up).matmul(self.down.clone().transpose())
    }
}
