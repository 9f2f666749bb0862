//! The decoder as a graph of tensors: what learning differentiates, and the reference for the host
//! engine.
//!
//! Every parameter is a matrix leaf of the graph, norms' weights and biases as one row, so that all are kept
//! in one list in the order of [`Weights`](crate::Weights).

mod attention;
mod decoder;
mod feed_forward;
mod linear;
mod norm;
mod rotary;

pub(crate) use decoder::Decoder;

use burn::tensor::Device;

/// Where the graph is computed: on the GPU that was built in, or on the host.
pub(crate) fn device() -> Device {
    #[cfg(feature = "vulkan")]
    let device = Device::vulkan(burn::tensor::DeviceKind::DefaultDevice);
    #[cfg(not(feature = "vulkan"))]
    let device = Device::flex();
    device
}
