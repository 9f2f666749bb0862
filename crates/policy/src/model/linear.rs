//! A product with a matrix, with or without a bias.

use burn::tensor::Tensor;

/// `x Wᵀ + b`.
#[derive(Clone, Debug)]
pub(crate) struct Linear {
    /// `[output, input]`
    pub(crate) weight: Tensor<2>,
    /// `[1, output]`
    pub(crate) bias: Option<Tensor<2>>,
}

impl Linear {
    /// `x: [rows, input]`
    pub(crate) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let y = x.matmul(self.weight.clone().transpose());
        match &self.bias {
            Some(bias) => y + bias.clone(),
            None => y,
        }
    }
}
