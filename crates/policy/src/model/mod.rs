//! The decoder as a graph of tensors: what learning differentiates, and the reference for the host
//! engine.
//!
//! Every parameter is a matrix leaf of the graph, norms' weights and biases as one row, so that all are kept
//! in one list in the order of [`Weights`](crate::Weights).

mod attention;
mod blocks;
mod decoder;
mod feed_forward;
mod linear;
mod norm;
mod rotary;

pub(crate) use decoder::{Decoder, Going};

use burn::tensor::Device;

/// There is no device for the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this build computes the graph on a GPU by way of Vulkan, and no device with a Vulkan driver was found\n\
     hint: learn on the processor, with policy.learner = \"host\", or install the GPU's Vulkan driver"
)]
pub struct NoDeviceError;

/// Whether [`Implementation::Graph`](crate::Implementation) can compute here; on the processor it always
/// can.
///
/// # Errors
/// With the feature `vulkan`, where no device with a driver is found.
pub fn check_graph_device() -> Result<(), NoDeviceError> {
    #[cfg(feature = "vulkan")]
    {
        use std::future::Future as _;
        use std::task::{Context, Poll, Waker};

        // burn panics where there is none, so it is looked for before. The future is done when it is made:
        // only browsers make it wait.
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
        let found = std::pin::pin!(instance.enumerate_adapters(wgpu::Backends::VULKAN));
        if !matches!(found.poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(found) if !found.is_empty()) {
            return Err(NoDeviceError);
        }
    }
    Ok(())
}

/// Where the graph is computed: on the GPU that was built in, or on the host.
pub(crate) fn device() -> Device {
    #[cfg(feature = "vulkan")]
    let device = Device::vulkan(burn::tensor::DeviceKind::DefaultDevice);
    #[cfg(not(feature = "vulkan"))]
    let device = Device::flex();
    device
}
