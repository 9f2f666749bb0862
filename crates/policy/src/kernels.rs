//! The matrix products that everything here is made of, and what the machine could do at most: for
//! benchmarks, and to see how far from the ceiling a product is.
//!
//! All of it runs on the calling thread alone.

pub use crate::host::ceilings::{bytes_read_per_second, multiply_adds_per_second};
pub use crate::host::matrix::{Into, Matrix, PackedRows, add_outer};
