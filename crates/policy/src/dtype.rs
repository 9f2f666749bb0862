//! The number format of matrices and of both sides of their products.

use serde::{Deserialize, Serialize};

/// The number format of matrices and of both sides of their products; every sum is kept in f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dtype {
    /// 32 bits, 24 of them significant.
    #[default]
    F32,
    /// The upper half of f32: its range, 8 significant bits, half the memory. Values are rounded to
    /// nearest, ties to even.
    Bf16,
}
