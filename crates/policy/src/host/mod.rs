//! The forward pass on the host's own slices: sampling and scoring.
//!
//! For small models the cost of a tensor library is in the operations' overhead and in fresh
//! temporaries, not in arithmetic; here one forward pass allocates nothing and each thread works on
//! sequences of its own. The tensor graph in [`crate::model`] is the reference that this is tested
//! against.

mod engine;
mod kernels;
mod sampling;
mod scoring;

pub(crate) use engine::{Angles, Engine};
pub(crate) use kernels::log_sum;
pub(crate) use sampling::sample;
pub(crate) use scoring::score;
