//! The loops that everything here is made of, their plain references, and what the machine could do at
//! most: for benchmarks, and to see how far from the ceiling a loop is.
//!
//! All of it runs on the calling thread alone, but for the optimizer's step and the measures that are told
//! how many threads.

pub use crate::host::attention::{Attention, Scratch};
pub use crate::host::ceilings::{bytes_read_per_second, measure_bandwidth, measure_products, multiply_adds_per_second};
pub use crate::host::kernels::{
    LogSum, add_bias, gate, log_sum, merge_softmax, norm_and_rotate, probabilities, rms_norm, rotate, shifted_exp,
};
pub use crate::host::matrix::{Into, Matrix, PackedRows, add_outer};
pub use crate::host::reference;
pub use crate::optimizer::OptimizerState;
pub use crate::outputs::{Outputs, PickScores};
pub use crate::trie::Trie;

/// The way back through the loops of the same names.
pub mod slopes {
    pub use crate::host::slopes::{add_bias, gate, norm_and_rotate, rms_norm, rotate, tree_softmax};
}
