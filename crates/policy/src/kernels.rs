//! The matrix products that everything here is made of, and what the machine could do at most: for
//! benchmarks, and to see how far from the ceiling a product is.
//!
//! All of it runs on the calling thread alone, but for the two that are told how many threads.

pub use crate::host::ceilings::{bytes_read_per_second, measure_bandwidth, measure_products, multiply_adds_per_second};
pub use crate::host::matrix::{Into, Matrix, PackedRows, add_outer};
