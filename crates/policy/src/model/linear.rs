//! A product with a matrix, with or without a bias and an adapter.

use burn::tensor::Tensor;

/// `x Wᵀ + b`, and with an adapter `+ scale · (x Aᵀ) Bᵀ`.
#[derive(Clone, Debug)]
pub(crate) struct Linear {
    /// `[output, input]`
    pub(crate) weight: Tensor<2>,
    /// `[1, output]`
    pub(crate) bias: Option<Tensor<2>>,
    pub(crate) adapter: Option<Adapted>,
}

/// A product of two narrow matrices beside a frozen one.
#[derive(Clone, Debug)]
pub(crate) struct Adapted {
    /// A: `[rank, input]`
    pub(crate) down: Tensor<2>,
    /// B: `[output, rank]`
    pub(crate) up: Tensor<2>,
    pub(crate) scale: f32,
}

impl Linear {
    /// `x: [rows, input]`
    pub(crate) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let mut y = x.clone().matmul(self.weight.clone().transpose());
        if let Some(bias) = &self.bias {
            y = y + bias.clone();
        }
        match &self.adapter {
            Some(Adapted { down, up, scale }) => {
                let narrow = x.matmul(down.clone().transpose()) * *scale;
                y + narrow.matmul(up.clone().transpose())
            }
            None => y,
        }
    }
}
