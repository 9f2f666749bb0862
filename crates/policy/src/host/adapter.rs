//! Adapters beside packed matrices: forward, and the way back to A, B and what went in.
//!
//! Matrices that are computed in one piece have their As under each other, one product for all, and their Bs as
//! blocks of one matrix that is zero elsewhere: the zeros cost less than rows of their own would. With `t = s ·
//! A x` and `u = s · Bᵀ d_y`: `y += B t`, `d_x += Aᵀ u`, `d_A += uᵀ x` and `d_B += d_yᵀ t`. Each of them is a product
//! with a packed matrix, so what a row gets depends on that row alone here, too.

use std::ops::Range;

use crate::ModelConfig;
use crate::adapter::Adapter;
use crate::dtype::Dtype;
use crate::host::matrix::{Into, Matrix, PackedRows, add_outer};
use crate::learner::GradientSums;
use crate::weights::matrices;

/// The adapters of matrices that are computed in one piece.
#[derive(Debug)]
pub(super) struct Beside {
    /// `[ranks, inputs]`
    down: Matrix,
    /// `[outputs, ranks]`
    up: Matrix,
    scale: f32,
}

/// The same for the way back.
#[derive(Debug)]
pub(super) struct BesideBack {
    /// `[inputs, ranks]`
    down: Matrix,
    /// `[ranks, outputs]`
    up: Matrix,
    scale: f32,
    rank: usize,
    /// Those that have an adapter, as they stand under each other.
    parts: Vec<Part>,
}

/// The adapter of one matrix.
#[derive(Debug)]
struct Part {
    /// Places of A and B in the list of gradients.
    down: usize,
    up: usize,
    /// Where the matrix's outputs stand among those of all.
    outputs: Range<usize>,
}

/// Adapters as they are packed.
struct Laid<'a> {
    /// As, in the order of their matrices.
    downs: Vec<&'a [f32]>,
    /// `[outputs, ranks]`
    up: Vec<f32>,
    parts: Vec<Part>,
    inputs: usize,
}

impl Beside {
    /// Those beside the matrices `parts` of a layer; none where no matrix has one.
    pub(super) fn new(
        dtype: Dtype,
        config: &ModelConfig,
        adapter: &Adapter,
        layer: usize,
        parts: &[&str],
    ) -> Option<Beside> {
        let laid = Laid::new(config, adapter, layer, parts)?;
        let ranks = laid.parts.len() * adapter.lora().rank;
        Some(Beside {
            down: Matrix::pack(dtype, laid.inputs, &laid.downs),
            up: Matrix::pack(dtype, ranks, &[&laid.up]),
            scale: adapter.lora().scale(),
        })
    }

    /// `y += s · B (A x)` for every row.
    pub(super) fn add(&self, x: &[f32], y: &mut [f32], packed: &mut PackedRows) {
        let mut rows = std::mem::take(&mut packed.narrow.rows);
        self.narrow(x, &mut rows, packed);
        self.up.multiply(&rows, y, Into::Add, packed);
        packed.narrow.rows = rows;
    }

    /// `s · A x`
    fn narrow(&self, x: &[f32], rows: &mut Vec<f32>, packed: &mut PackedRows) {
        between(&self.down, self.scale, x, rows, packed);
    }
}

impl BesideBack {
    /// Those beside the matrices `parts` of a layer; none where no matrix has one.
    pub(super) fn new(
        dtype: Dtype,
        config: &ModelConfig,
        adapter: &Adapter,
        layer: usize,
        parts: &[&str],
    ) -> Option<BesideBack> {
        let laid = Laid::new(config, adapter, layer, parts)?;
        let rank = adapter.lora().rank;
        Some(BesideBack {
            down: Matrix::pack_transposed(dtype, laid.inputs, &laid.downs),
            up: Matrix::pack_transposed(dtype, laid.parts.len() * rank, &[&laid.up]),
            scale: adapter.lora().scale(),
            rank,
            parts: laid.parts,
        })
    }

    /// `d_x += Aᵀ (s · Bᵀ d_y)` for every row.
    pub(super) fn add(&self, d_y: &[f32], d_x: &mut [f32], packed: &mut PackedRows) {
        let mut slopes = std::mem::take(&mut packed.narrow.slopes);
        between(&self.up, self.scale, d_y, &mut slopes, packed);
        self.down.multiply(&slopes, d_x, Into::Add, packed);
        packed.narrow.slopes = slopes;
    }

    /// Adds the gradients of every A and B for slopes `d_y` of what came out for `x`.
    pub(super) fn learn(
        &self,
        dtype: Dtype,
        forward: &Beside,
        d_y: &[f32],
        x: &[f32],
        sums: &mut GradientSums,
        packed: &mut PackedRows,
    ) {
        let mut narrow = std::mem::take(&mut packed.narrow);
        forward.narrow(x, &mut narrow.rows, packed);
        between(&self.up, self.scale, d_y, &mut narrow.slopes, packed);
        let (ranks, inputs, outputs) = (self.up.outputs(), self.down.outputs(), self.up.inputs());

        // All of `d_yᵀ t` at once; what belongs to the B of another matrix is left out.
        narrow.up.clear();
        narrow.up.resize(outputs * ranks, 0.0);
        add_outer(dtype, d_y, &narrow.rows, ranks, &mut [&mut narrow.up], packed);
        for (number, part) in self.parts.iter().enumerate() {
            let blocks = narrow.up.chunks_exact(ranks).skip(part.outputs.start);
            for (sum, block) in sums[part.up].chunks_exact_mut(self.rank).zip(blocks) {
                for (sum, value) in sum.iter_mut().zip(&block[number * self.rank..]) {
                    *sum += value;
                }
            }
        }
        // The places of the As rise as those of their matrices do in no fixed order, so they are taken out.
        let mut downs: Vec<Vec<f32>> = self.parts.iter().map(|part| std::mem::take(&mut sums[part.down])).collect();
        let mut views: Vec<&mut [f32]> = downs.iter_mut().map(Vec::as_mut_slice).collect();
        add_outer(dtype, &narrow.slopes, x, inputs, &mut views, packed);
        for (part, down) in self.parts.iter().zip(downs) {
            sums[part.down] = down;
        }
        packed.narrow = narrow;
    }
}

/// `scale · matrix x` for every row.
fn between(matrix: &Matrix, scale: f32, x: &[f32], rows: &mut Vec<f32>, packed: &mut PackedRows) {
    rows.clear();
    rows.resize(x.len() / matrix.inputs() * matrix.outputs(), 0.0);
    matrix.multiply(x, rows, Into::Replace, packed);
    for value in rows {
        *value *= scale;
    }
}

impl<'a> Laid<'a> {
    fn new(config: &ModelConfig, adapter: &'a Adapter, layer: usize, parts: &[&str]) -> Option<Laid<'a>> {
        let rank = adapter.lora().rank;
        let all = matrices(config);
        let sizes = parts.iter().filter_map(|part| all.iter().find(|matrix| matrix.part == *part));
        let (mut laid, mut inputs, mut outputs) = (Vec::new(), 0, 0);
        for matrix in sizes {
            if let (Some([down, up]), Some(places)) =
                (adapter.pair(layer, matrix.part), adapter.places(layer, matrix.part))
            {
                let range = outputs..outputs + matrix.outputs;
                laid.push((down, up, Part { down: places[0], up: places[1], outputs: range }));
            }
            (inputs, outputs) = (matrix.inputs, outputs + matrix.outputs);
        }
        let ranks = laid.len() * rank;
        let mut all_up = vec![0.0; outputs * ranks];
        for (number, (_, up, part)) in laid.iter().enumerate() {
            let rows = all_up.chunks_exact_mut(ranks).skip(part.outputs.start);
            for (row, up) in rows.zip(up.chunks_exact(rank)) {
                row[number * rank..][..rank].copy_from_slice(up);
            }
        }
        let (downs, parts): (Vec<&[f32]>, Vec<Part>) = laid.into_iter().map(|(down, _, part)| (down, part)).unzip();
        (!parts.is_empty()).then_some(Laid { downs, up: all_up, parts, inputs })
    }
}
