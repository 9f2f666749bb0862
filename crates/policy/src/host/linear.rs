//! A product with a packed matrix, with or without a bias and an adapter, and the way back through it.

use std::borrow::Cow;
use std::sync::Arc;

use crate::adapter::Adapter;
use crate::held::Held;
use crate::host::adapter::{Beside, BesideBack};
use crate::host::kernels::add_bias;
use crate::host::matrix::{Into, Matrix, PackedRows, add_outer};
use crate::host::slopes;
use crate::learner::GradientSums;
use crate::{Dtype, ModelConfig, ReadWeightsError};

/// Matrices under each other and their biases, one behind the other.
#[derive(Debug)]
pub(super) struct Linear {
    /// The same for all policies that learn adapters of these weights.
    pub(super) matrix: Arc<Matrix>,
    /// Empty where there is none.
    bias: Vec<f32>,
    beside: Option<Beside>,
}

/// What is learnt of `N` matrices that are computed in one piece.
#[derive(Debug)]
pub(super) enum Learnt<const N: usize> {
    /// The matrices themselves.
    Matrices(Places<N>),
    /// What stands beside them, if anything does.
    Beside(Option<BesideBack>),
}

/// Places of the gradients of `N` matrices.
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
        weights: &Held,
        layer: usize,
        parts: &[&str],
    ) -> Result<Linear, ReadWeightsError> {
        let mut bias = Vec::new();
        for name in parts.iter().map(|part| bias_name(layer, part)).filter(|name| weights.find(name).is_some()) {
            bias.extend_from_slice(&weights.values(&name)?);
        }
        let matrices = parts.iter().map(|part| weights.values(&matrix_name(layer, part)));
        let matrices: Vec<Cow<'_, [f32]>> = matrices.collect::<Result<_, _>>()?;
        let matrices: Vec<&[f32]> = matrices.iter().map(|values| &**values).collect();
        let matrix = Matrix::in_place_of(spare, &matrices, |parts| Matrix::pack(dtype, inputs, parts));
        Ok(Linear { matrix: Arc::new(matrix), bias, beside: None })
    }

    /// The same matrices with an adapter beside them.
    pub(super) fn with_adapter(
        &self,
        dtype: Dtype,
        config: &ModelConfig,
        adapter: &Adapter,
        layer: usize,
        parts: &[&str],
    ) -> Linear {
        let beside = Beside::new(dtype, config, adapter, layer, parts);
        Linear { matrix: self.matrix.clone(), bias: self.bias.clone(), beside }
    }

    /// Outputs per row.
    pub(super) fn outputs(&self) -> usize {
        self.matrix.outputs()
    }

    /// `y[r] = x[r] Wᵀ + b` (or `+=`) for every row, and what the adapter adds.
    pub(super) fn multiply(&self, x: &[f32], y: &mut [f32], into: Into, packed: &mut PackedRows) {
        self.matrix.multiply(x, y, into, packed);
        if !self.bias.is_empty() {
            add_bias(&self.bias, y);
        }
        if let Some(beside) = &self.beside {
            beside.add(x, y, packed);
        }
    }
}

impl<const N: usize> Learnt<N> {
    /// All of the matrices `parts` of a layer, or their adapters.
    pub(super) fn new(
        dtype: Dtype,
        config: &ModelConfig,
        weights: &Held,
        adapter: Option<&Adapter>,
        layer: usize,
        parts: [&str; N],
    ) -> Learnt<N> {
        match adapter {
            Some(adapter) => Learnt::Beside(BesideBack::new(dtype, config, adapter, layer, &parts)),
            None => Learnt::Matrices(Places::new(weights, layer, parts)),
        }
    }

    /// `d_x[r] = d_y[r] W` for every row, and what the adapter adds; `transposed` is the matrix for the way back.
    pub(super) fn back(&self, transposed: &Matrix, d_y: &[f32], d_x: &mut [f32], packed: &mut PackedRows) {
        transposed.multiply(d_y, d_x, Into::Replace, packed);
        if let Learnt::Beside(Some(beside)) = self {
            beside.add(d_y, d_x, packed);
        }
    }

    /// Adds the gradients of what is learnt for slopes `d_y` of what `linear` gave for `x`.
    pub(super) fn add(
        &self,
        dtype: Dtype,
        linear: &Linear,
        d_y: &[f32],
        x: &[f32],
        sums: &mut GradientSums,
        packed: &mut PackedRows,
    ) {
        match self {
            Learnt::Matrices(places) => {
                add_outer(dtype, d_y, x, linear.matrix.inputs(), &mut parts(sums, places.matrices), packed);
                if let Some(places) = places.biases {
                    slopes::add_bias(d_y, &mut parts(sums, places));
                }
            }
            Learnt::Beside(Some(back)) => {
                let beside = linear.beside.as_ref().expect("forward and back are made of one adapter");
                back.learn(dtype, beside, d_y, x, sums, packed);
            }
            Learnt::Beside(None) => {}
        }
    }
}

impl<const N: usize> Places<N> {
    fn new(weights: &Held, layer: usize, parts: [&str; N]) -> Places<N> {
        let biases = parts.map(|part| weights.find(&bias_name(layer, part)));
        Places {
            matrices: parts.map(|part| weights.position(&matrix_name(layer, part))),
            // A family gives a bias to all of them or to none.
            biases: biases.iter().all(Option::is_some).then(|| biases.map(Option::unwrap_or_default)),
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
