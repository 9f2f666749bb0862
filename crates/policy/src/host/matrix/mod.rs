//! Products with a matrix that was packed once, for any number of rows, in f32 and in bf16.
//!
//! `unit` says what one multiplication is on each kind of machine, `tile` holds the loops.
//!
//! Two invariants:
//! - **What comes out for one row of [`Matrix::multiply`] depends on that row alone**, as everything in
//!   [`super::kernels`]: never on how many rows there are or where it stands among them.
//! - The order of additions is one and the same for every output, row count and machine. Inputs are cut
//!   in blocks, 256 in f32 and 512 in bf16; a block's sum is one chain of fused multiply-adds from zero in
//!   the order of the inputs (in bf16 the second of each pair of inputs comes first); the first block's sum
//!   is written, or added to what was there, and those of later blocks are added to it in turn. Machines
//!   therefore agree in every bit, but for bf16 below 2⁻¹²⁶: AVX-512's own instruction takes it as zero.

#[cfg(target_arch = "x86_64")]
mod native;
#[cfg(test)]
mod tests;
mod tile;
mod unit;

use self::tile::{Panels, panel_width};
use self::unit::Cells;
pub(in crate::host) use self::unit::{Cell, Unit, WithUnit, dispatch};
use crate::dtype::Dtype;

/// A matrix `[outputs, inputs]`, laid out for products with rows of inputs.
///
/// Panels of two vectors of outputs, inputs in order inside a panel, zeros after the last output. Two
/// vectors times eight rows fill the registers of AVX-512 without spilling.
#[derive(Debug)]
pub struct Matrix {
    dtype: Dtype,
    outputs: usize,
    inputs: usize,
    order: Order,
    cells: Cells,
}

/// Memory for cache-sized parts of a product's sides; kept to be used again.
#[derive(Debug, Default)]
pub struct PackedRows {
    cells: Cells,
    /// What lies between the two matrices of an adapter, for one at a time.
    pub(in crate::host) narrow: Narrow,
}

/// Rows as wide as an adapter's rank, their slopes, and slopes of B in one piece.
#[derive(Debug, Default)]
pub(in crate::host) struct Narrow {
    pub(in crate::host) rows: Vec<f32>,
    pub(in crate::host) slopes: Vec<f32>,
    pub(in crate::host) up: Vec<f32>,
}

/// What a product does with what is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Into {
    /// It is overwritten.
    Replace,
    /// The product is added to it.
    Add,
}

impl Matrix {
    /// Packs matrices of equal width under each other, each `[outputs, inputs]`, row by row.
    pub fn pack(dtype: Dtype, inputs: usize, parts: &[&[f32]]) -> Matrix {
        let outputs = parts.iter().map(|part| part.len()).sum::<usize>() / inputs;
        Matrix::new(dtype, outputs, inputs, Order::Outputs, parts)
    }

    /// Packs the transpose: `values: [inputs, outputs]`, in parts of whole rows under each other.
    pub fn pack_transposed(dtype: Dtype, outputs: usize, parts: &[&[f32]]) -> Matrix {
        let inputs = parts.iter().map(|part| part.len()).sum::<usize>() / outputs;
        Matrix::new(dtype, outputs, inputs, Order::Inputs, parts)
    }

    /// Packs other values in the place of these, in the order and of the shape that they had.
    pub fn repack(&mut self, parts: &[&[f32]]) {
        let Matrix { dtype, outputs, inputs, order, ref mut cells } = *self;
        dispatch(dtype, Pack { outputs, inputs, order, parts, cells });
    }

    /// A matrix of these values in the memory of `spare`, which was packed as `fresh` would be, or else
    /// `fresh`.
    pub(in crate::host) fn in_place_of(
        spare: Option<Matrix>,
        parts: &[&[f32]],
        fresh: impl FnOnce(&[&[f32]]) -> Matrix,
    ) -> Matrix {
        match spare {
            Some(mut matrix) => {
                matrix.repack(parts);
                matrix
            }
            None => fresh(parts),
        }
    }

    /// Outputs per row.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Inputs per row.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Appends the inputs of one output to `values`, as they were when they were packed but for rounding to bf16.
    pub(in crate::host) fn read_output(&self, output: usize, values: &mut Vec<f32>) {
        dispatch(self.dtype, ReadOutput { matrix: self, output, values });
    }

    /// `y[r] = x[r] Wᵀ` (or `+=`) for every row of `x: [rows, inputs]`, `y: [rows, outputs]`.
    pub fn multiply(&self, x: &[f32], y: &mut [f32], into: Into, packed: &mut PackedRows) {
        dispatch(self.dtype, Multiply { matrix: self, x, y, into, memory: &mut packed.cells });
    }

    fn new(dtype: Dtype, outputs: usize, inputs: usize, order: Order, parts: &[&[f32]]) -> Matrix {
        let mut matrix = Matrix { dtype, outputs, inputs, order, cells: Cells::default() };
        matrix.repack(parts);
        matrix
    }
}

/// `sum[o, i] += Σ_r d_y[r, o] · x[r, i]`: a matrix's gradient, in parts of whole outputs under each other.
///
/// `x: [rows, width]`, `d_y: [rows, outputs]`, and `sums` together `[outputs, width]`. In bf16 both sides
/// are rounded, and sums are kept in f32. Only blocks that fit the caches are copied.
pub fn add_outer(dtype: Dtype, d_y: &[f32], x: &[f32], width: usize, sums: &mut [&mut [f32]], packed: &mut PackedRows) {
    dispatch(dtype, AddOuter { d_y, x, width, sums, memory: &mut packed.cells });
}

/// How the values of a matrix lay in memory before they were packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// Output by output.
    Outputs,
    /// Input by input.
    Inputs,
}

struct Pack<'a> {
    outputs: usize,
    inputs: usize,
    order: Order,
    parts: &'a [&'a [f32]],
    cells: &'a mut Cells,
}

impl WithUnit for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn with_unit<U: Unit>(self, _unit: U) {
        let Pack { outputs, inputs, order, parts, cells } = self;
        let panel = panel_width::<U>();
        let depth = inputs.div_ceil(U::Cell::INPUTS);
        let cells = U::Cell::of_mut(cells);
        cells.resize(outputs.next_multiple_of(panel) * depth, U::Cell::default());
        let width = if order == Order::Outputs { inputs } else { outputs };
        let rows: Vec<&[f32]> = parts.iter().flat_map(|part| part.chunks_exact(width)).collect();
        match order {
            Order::Outputs => {
                for (cells, rows) in cells.chunks_exact_mut(panel * depth).zip(rows.chunks(panel)) {
                    for (k, cells) in cells.chunks_exact_mut(panel).enumerate() {
                        let first = k * U::Cell::INPUTS;
                        for (cell, row) in cells.iter_mut().zip(rows) {
                            *cell = U::Cell::new(row[first], row.get(first + 1).copied().unwrap_or(0.0));
                        }
                    }
                }
            }
            Order::Inputs => {
                for (k, rows) in rows.chunks(U::Cell::INPUTS).enumerate() {
                    for (p, first) in rows[0].chunks(panel).enumerate() {
                        let second = rows.get(1).map(|row| &row[p * panel..][..first.len()]);
                        U::Cell::zip(first, second, &mut cells[(p * depth + k) * panel..][..first.len()]);
                    }
                }
            }
        }
    }
}

struct ReadOutput<'a> {
    matrix: &'a Matrix,
    output: usize,
    values: &'a mut Vec<f32>,
}

impl WithUnit for ReadOutput<'_> {
    type Output = ();

    #[inline(always)]
    fn with_unit<U: Unit>(self, _unit: U) {
        let Matrix { inputs, ref cells, .. } = *self.matrix;
        let panel = panel_width::<U>();
        let depth = inputs.div_ceil(U::Cell::INPUTS);
        let first = self.output / panel * panel * depth + self.output % panel;
        let end = self.values.len() + inputs;
        for cell in U::Cell::of(cells)[first..].iter().step_by(panel).take(depth) {
            self.values.extend_from_slice(&cell.inputs()[..U::Cell::INPUTS]);
        }
        // The last pair may have been filled up.
        self.values.truncate(end);
    }
}

struct Multiply<'a> {
    matrix: &'a Matrix,
    x: &'a [f32],
    y: &'a mut [f32],
    into: Into,
    memory: &'a mut Cells,
}

impl WithUnit for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn with_unit<U: Unit>(self, unit: U) {
        let Matrix { outputs, inputs, ref cells, .. } = *self.matrix;
        let cells = U::Cell::of(cells);
        let right = Panels { cells, depth: inputs.div_ceil(U::Cell::INPUTS), columns: outputs };
        tile::multiply(unit, self.x, inputs, right, self.y, self.into, self.memory);
    }
}

struct AddOuter<'a, 'b> {
    d_y: &'a [f32],
    x: &'a [f32],
    width: usize,
    sums: &'a mut [&'b mut [f32]],
    memory: &'a mut Cells,
}

impl WithUnit for AddOuter<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_unit<U: Unit>(self, unit: U) {
        tile::add_outer(unit, self.d_y, self.x, self.width, self.sums, self.memory);
    }
}
