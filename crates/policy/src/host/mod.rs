//! The decoder on the host's own slices: sampling, scoring and learning.
//!
//! For small models the cost of a tensor library is in the operations' overhead and in fresh
//! temporaries, not in arithmetic; here one forward pass allocates nothing and each thread works on
//! sequences of its own. The tensor graph in [`crate::model`] is the reference that this is tested
//! against.

mod adapter;
pub(crate) mod attention;
pub(crate) mod ceilings;
mod engine;
#[cfg(test)]
mod kernel_tests;
pub(crate) mod kernels;
mod layers;
mod linear;
pub(crate) mod matrix;
pub mod reference;
mod sampling;
mod scoring;
pub(crate) mod slopes;
mod tile;
mod training;

pub(crate) use engine::{Angles, Engine};
pub(crate) use kernels::{arch, log_sum, probabilities, sum_of};
pub use layers::Activations;
pub(crate) use layers::{Workspace, bytes_per_row};
pub use sampling::SamplingStats;
pub(crate) use sampling::{SamplingPlan, Store, sample};
pub(crate) use scoring::{logits, score};
pub(crate) use training::{Going, Trainer, Transposed, logits_bytes};
