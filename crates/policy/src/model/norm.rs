//! Root-mean-square normalisation.

use burn::tensor::Tensor;

/// Divides rows by their root mean square and multiplies by a weight.
#[derive(Clone, Debug)]
pub(crate) struct RmsNorm {
    /// `[1, width]`
    pub(crate) weight: Tensor<2>,
    /// Added to the mean square.
    pub(crate) epsilon: f64,
}

impl RmsNorm {
    /// `x: [rows, width]`
    pub(crate) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let scale = (x.clone().square().mean_dim(1) + self.epsilon).sqrt().recip();
        x * scale * self.weight.clone()
    }
}
