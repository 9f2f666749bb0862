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

use burn::tensor::{Device, Tensor, TensorData};

/// The graph cannot be computed here.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum GraphDeviceError {
    /// There is no device for it.
    #[error(
        "this build computes the graph on a GPU by way of Vulkan, and no device with a Vulkan driver was found\n\
         hint: learn on the processor, with policy.learner = \"host\", or install the GPU's Vulkan driver"
    )]
    Missing,
    /// The device gets sums wrong.
    #[error(
        "the device that the graph is computed on multiplies matrices wrongly: an element is {found}, expected {expected}\n\
         hint: its driver lacks what the kernels need; use another one, or learn on the processor, with \
         policy.learner = \"host\""
    )]
    Wrong {
        /// An element of its product.
        found: f32,
        /// What it is.
        expected: f32,
    },
}

/// Whether [`Implementation::Graph`](crate::Implementation) can compute here: with the feature `vulkan` where a
/// device with a driver is found, and everywhere if the device multiplies as it should. A driver that lacks a
/// feature of the kernels may give wrong numbers and no error (SwiftShader does).
///
/// # Errors
/// See [`GraphDeviceError`].
pub fn check_graph_device() -> Result<(), GraphDeviceError> {
    #[cfg(feature = "vulkan")]
    {
        use std::future::Future as _;
        use std::task::{Context, Poll, Waker};

        // burn panics where there is none, so it is looked for before. The future is done when it is made:
        // only browsers make it wait.
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
        let found = std::pin::pin!(instance.enumerate_adapters(wgpu::Backends::VULKAN));
        if !matches!(found.poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(found) if !found.is_empty()) {
            return Err(GraphDeviceError::Missing);
        }
    }
    check_products(&device())
}

/// Compares a product with the sums that it is made of. Its numbers are small and whole, so there is no rounding;
/// its sides are odd, so the kernels' last tiles are not full.
fn check_products(device: &Device) -> Result<(), GraphDeviceError> {
    const ROWS: usize = 37;
    const INNER: usize = 65;
    const COLUMNS: usize = 43;
    let number = |at: usize| (at * 7 % 11) as f32 - 5.0;
    let [left, right]: [Vec<f32>; 2] =
        [ROWS * INNER, COLUMNS * INNER].map(|count| (0..count).map(|at| number(at + count)).collect());
    let tensor = |values: &[f32], rows| Tensor::<2>::from_data(TensorData::new(values.to_vec(), [rows, INNER]), device);
    let product = tensor(&left, ROWS).matmul(tensor(&right, COLUMNS).transpose());
    let found: Vec<f32> = product.into_data().try_into_vec().expect("the graph is computed in f32");
    let rows = left.chunks_exact(INNER).flat_map(|row| right.chunks_exact(INNER).map(move |column| (row, column)));
    for ((row, column), found) in rows.zip(found) {
        let expected = row.iter().zip(column).map(|(a, b)| a * b).sum();
        if found != expected {
            return Err(GraphDeviceError::Wrong { found, expected });
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

#[cfg(test)]
mod tests {
    #[test]
    fn the_processor_multiplies() {
        assert_eq!(super::check_products(&burn::tensor::Device::flex()), Ok(()));
    }
}
