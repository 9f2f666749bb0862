//! Rotary position embedding: pairs of dimensions `(i, i + half)` are turned by an angle that grows with
//! the position.

use burn::tensor::{Device, Tensor, TensorData};

use crate::ModelConfig;
use crate::host::Angles;

/// Cosines and sines of a batch's positions.
#[derive(Clone, Debug)]
pub(crate) struct Rotary {
    /// `[1, positions, 1, half]`
    cos: Tensor<4>,
    sin: Tensor<4>,
    half: usize,
}

impl Rotary {
    /// Of the positions `0 .. positions`.
    pub(crate) fn new(config: &ModelConfig, positions: usize, device: &Device) -> Rotary {
        let half = config.head_dim / 2;
        let angles = Angles::new(config, positions);
        let (cos, sin) = angles.tables();
        let table =
            |values: &[f32]| Tensor::from_data(TensorData::new(values.to_vec(), [1, positions, 1, half]), device);
        Rotary { cos: table(cos), sin: table(sin), half }
    }

    /// `x: [batch, positions, heads, head_dim]`
    pub(crate) fn turn(&self, x: Tensor<4>) -> Tensor<4> {
        let first = x.clone().narrow(3, 0, self.half);
        let second = x.narrow(3, self.half, self.half);
        let turned_first = first.clone() * self.cos.clone() - second.clone() * self.sin.clone();
        let turned_second = second * self.cos.clone() + first * self.sin.clone();
        Tensor::cat(vec![turned_first, turned_second], 3)
    }
}
