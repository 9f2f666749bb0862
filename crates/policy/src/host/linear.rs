//! A product with a packed matrix, with or without a bias, and where its gradients stand.

use crate::host::kernels::add_bias;
use crate::host::matrix::{Into, Matrix, PackedRows, add_outer};
use crate::host::slopes;
use crate::learner::GradientSums;
use crate::{Dtype, Weights};

/// Matrices under each other and their biases, one behind the other.
#[derive(Debug)]
pub(super) struct Linear {
    pub(super) matrix: Matrix,
    /// Empty where there is none.
    bias: Vec<f32>,
}

/// Places of the gradients of `N` matrices that are computed in one piece.
#[derive(Debug)]
pub(super) struct Places<const N: usize> {
    matrices: [usize; N],
    biases: Option<[usize; N]>,
}

impl Linear {
    /// The matrices `parts` of a layer, in the memory of `spare` where there is an equal one.
    pub(super) fn new(
        spare: Option<Matrix>,
        dtype: Dtype,
        inputs: usize,
        weights: &Weights,
        layer: usize,
        parts: &[&str],
    ) -> Linear {
        let matrices: Vec<&[f32]> = parts.iter().map(|part| weights.values(&matrix_name(layer, part))).collect();
        let biases = parts.iter().filter_map(|part| weights.find(&bias_name(layer, part)));
        Linear {
            matrix: Matrix::in_place_of(spare, &matrices, |parts| Matrix::pack(dtype, inputs, parts)),
            bias: biases.flat_map(|place| weights.tensors[place].values.iter().copied()).collect(),
        }
    }

    /// Outputs per row.
    pub(super) fn outputs(&self) -> usize {
        self.matrix.outputs()
    }

    /// `y[r] = x[r] Wᵀ + b` (or `+=`) for every row.
    pub(super) fn multiply(&self, x: &[f32], y: &mut [f32], into: Into, packed: &mut PackedRows) {
        self.matrix.multiply(x, y, into, packed);
        if !self.bias.is_empty() {
            add_bias(&self.bias, y);
        }
    }
}

impl<const N: usize> Places<N> {
    pub(super) fn new(weights: &Weights, layer: usize, parts: [&str; N]) -> Places<N> {
        let biases = parts.map(|part| weights.find(&bias_name(layer, part)));
        Places {
            matrices: parts.map(|part| weights.position(&matrix_name(layer, part))),
            // A family gives a bias to all of them or to none.
            biases: biases.iter().all(Option::is_some).then(|| biases.map(Option::unwrap_or_default)),
        }
    }

    /// Adds the gradients of matrices and biases for slopes `d_y` of what they gave for `x`, rows of
    /// `width`.
    pub(super) fn add(
        &self,
        dtype: Dtype,
        d_y: &[f32],
        x: &[f32],
        width: usize,
        sums: &mut GradientSums,
        packed: &mut PackedRows,
    ) {
        add_outer(dtype, d_y, x, width, &mut parts(sums, self.matrices), packed);
        if let Some(places) = self.biases {
            slopes::add_bias(d_y, &mut parts(sums, places));
        }
    }
}

fn matrix_name(layer: usize, part: &str) -> String {
    format!("model.layers.{layer}.{part}.weight")
}

fn bias_name(layer: usize, part: &str) -> String {
    format!("model.layers.{layer}.{part}.bias")
}

/// Gradients that are computed in one piece.
fn parts<const N: usize>(sums: &mut GradientSums, places: [usize; N]) -> [&mut [f32]; N] {
    let parts = sums.get_disjoint_mut(places).expect("each tensor has a place of its own");
    parts.map(Vec::as_mut_slice)
}
