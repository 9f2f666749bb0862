//! Products with a matrix that was packed once, for any number of rows.
//!
//! As everything in [`super::kernels`], a row's product does not depend on the rows around it: each
//! output is one chain of fused multiply-adds in the order of the inputs.

use pulp::{Arch, Simd, WithSimd};

/// A matrix `[outputs, inputs]`, laid out for products with rows of inputs.
///
/// Panels of two vectors of outputs, inputs in order inside a panel, zeros after the last output. Two
/// vectors times eight rows fill the registers of AVX-512 without spilling.
#[derive(Debug)]
pub(crate) struct Matrix {
    outputs: usize,
    inputs: usize,
    panel: usize,
    values: Vec<f32>,
}

/// Rows of inputs, reordered for [`Matrix`]; kept to reuse its memory.
#[derive(Debug, Default)]
pub(crate) struct PackedRows(Vec<f32>);

/// What a product does with what is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Into {
    /// It is overwritten.
    Replace,
    /// The product is added to it.
    Add,
}

impl Matrix {
    /// Packs matrices of equal width under each other, each row by row.
    pub(crate) fn pack(inputs: usize, parts: &[&[f32]]) -> Matrix {
        let panel = 2 * Arch::new().dispatch(Lanes);
        let rows: Vec<&[f32]> = parts.iter().flat_map(|part| part.chunks_exact(inputs)).collect();
        let mut values = vec![0.0; rows.len().div_ceil(panel) * panel * inputs];
        for (panel_values, rows) in values.chunks_exact_mut(panel * inputs).zip(rows.chunks(panel)) {
            for (column, row) in rows.iter().enumerate() {
                for (input, &value) in row.iter().enumerate() {
                    panel_values[input * panel + column] = value;
                }
            }
        }
        Matrix { outputs: rows.len(), inputs, panel, values }
    }

    /// Packs the transpose: `values: [inputs, outputs]`, in parts of whole rows under each other.
    pub(crate) fn pack_transposed(outputs: usize, parts: &[&[f32]]) -> Matrix {
        let panel = 2 * Arch::new().dispatch(Lanes);
        let inputs = parts.iter().map(|part| part.len()).sum::<usize>() / outputs;
        let mut values = vec![0.0; outputs.div_ceil(panel) * panel * inputs];
        let rows = parts.iter().flat_map(|part| part.chunks_exact(outputs));
        for (input, row) in rows.enumerate() {
            for (p, columns) in row.chunks(panel).enumerate() {
                values[(p * inputs + input) * panel..][..columns.len()].copy_from_slice(columns);
            }
        }
        Matrix { outputs, inputs, panel, values }
    }

    /// Outputs per row.
    pub(crate) fn outputs(&self) -> usize {
        self.outputs
    }

    /// `y[r] = x[r] Wᵀ` (or `+=`) for every row of `x: [rows, inputs]`, `y: [rows, outputs]`.
    pub(crate) fn multiply(&self, x: &[f32], y: &mut [f32], into: Into, packed: &mut PackedRows) {
        let order = Order::Rows;
        Arch::new().dispatch(Multiply { matrix: self, x, order, y, into, packed: &mut packed.0 });
    }

    /// The same for `x: [inputs, rows]`.
    pub(crate) fn multiply_columns(&self, x: &[f32], y: &mut [f32], into: Into, packed: &mut PackedRows) {
        let order = Order::Columns;
        Arch::new().dispatch(Multiply { matrix: self, x, order, y, into, packed: &mut packed.0 });
    }
}

struct Lanes;

impl WithSimd for Lanes {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) -> usize {
        S::F32_LANES
    }
}

/// How the left side of a product lies in memory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Rows,
    Columns,
}

struct Multiply<'a> {
    matrix: &'a Matrix,
    x: &'a [f32],
    order: Order,
    y: &'a mut [f32],
    into: Into,
    packed: &'a mut Vec<f32>,
}

impl WithSimd for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        if S::REGISTER_COUNT >= 32 { self.tiles::<S, 8>(simd) } else { self.tiles::<S, 4>(simd) }
    }
}

impl Multiply<'_> {
    #[inline(always)]
    fn tiles<S: Simd, const M: usize>(self, simd: S) {
        let Matrix { outputs, inputs, panel, ref values } = *self.matrix;
        let rows = self.x.len() / inputs;
        // One path for every number of rows: the last tile is whole, too. What is left in its unused rows
        // from earlier calls is computed with and never read.
        self.packed.resize(rows.next_multiple_of(M) * inputs, 0.0);
        let tiles = self.packed.chunks_exact_mut(M * inputs);
        match self.order {
            Order::Rows => {
                for (tile, x) in tiles.zip(self.x.chunks(M * inputs)) {
                    for (m, row) in x.chunks_exact(inputs).enumerate() {
                        for (k, &value) in row.iter().enumerate() {
                            tile[k * M + m] = value;
                        }
                    }
                }
            }
            Order::Columns => {
                for (t, tile) in tiles.enumerate() {
                    let width = M.min(rows - t * M);
                    for (tile, column) in tile.chunks_exact_mut(M).zip(self.x.chunks_exact(rows)) {
                        tile[..width].copy_from_slice(&column[t * M..][..width]);
                    }
                }
            }
        }
        for (p, columns) in values.chunks_exact(panel * inputs).enumerate() {
            let (columns, _) = S::as_simd_f32s(columns);
            let (columns, _) = columns.as_chunks::<2>();
            let from = p * panel;
            let to = outputs.min(from + panel);
            for (tile, y) in self.packed.chunks_exact(M * inputs).zip(self.y.chunks_mut(M * outputs)) {
                let (tile, _) = tile.as_chunks::<M>();
                let mut sums = [[simd.splat_f32s(0.0); 2]; M];
                for (a, b) in tile.iter().zip(columns) {
                    for m in 0..M {
                        let a = simd.splat_f32s(a[m]);
                        sums[m][0] = simd.mul_add_f32s(a, b[0], sums[m][0]);
                        sums[m][1] = simd.mul_add_f32s(a, b[1], sums[m][1]);
                    }
                }
                for (row, sums) in y.chunks_exact_mut(outputs).zip(sums) {
                    store(simd, &mut row[from..to], sums, self.into);
                }
            }
        }
    }
}

/// Writes the two vectors of a tile's row; `out` is shorter in the last panel only.
#[inline(always)]
fn store<S: Simd>(simd: S, out: &mut [f32], sums: [S::f32s; 2], into: Into) {
    let mut left = out;
    for sum in sums {
        let (part, rest) = left.split_at_mut(S::F32_LANES.min(left.len()));
        left = rest;
        if let ([whole], []) = S::as_mut_simd_f32s(part) {
            *whole = match into {
                Into::Replace => sum,
                Into::Add => simd.add_f32s(*whole, sum),
            };
            continue;
        }
        if part.is_empty() {
            return;
        }
        let sum = match into {
            Into::Replace => sum,
            Into::Add => simd.add_f32s(simd.partial_load_f32s(part), sum),
        };
        simd.partial_store_f32s(part, sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::kernels::tests::numbers;

    #[test]
    fn products_equal_plain_sums_and_do_not_depend_on_the_rows_around() {
        for (inputs, outputs) in [(1, 1), (12, 5), (64, 33), (40, 96), (3, 32), (128, 70)] {
            let weights = numbers(inputs * outputs, 1);
            let matrix = Matrix::pack(inputs, &[&weights]);
            let mut packed = PackedRows::default();
            let x = numbers(inputs * 21, 2);
            let mut all = numbers(outputs * 21, 3);
            let before = all.clone();
            matrix.multiply(&x, &mut all, Into::Add, &mut packed);
            for (row, x) in x.chunks_exact(inputs).enumerate() {
                let mut alone = before[row * outputs..][..outputs].to_vec();
                matrix.multiply(x, &mut alone, Into::Add, &mut packed);
                assert_eq!(alone, all[row * outputs..][..outputs], "row {row} of {inputs} x {outputs}");
                for (output, &found) in alone.iter().enumerate() {
                    let row_weights = &weights[output * inputs..][..inputs];
                    let sum: f64 = x.iter().zip(row_weights).map(|(&x, &w)| f64::from(x) * f64::from(w)).sum();
                    let expected = sum + f64::from(before[row * outputs + output]);
                    assert!((f64::from(found) - expected).abs() < 1e-5, "{found}, expected {expected}");
                }
            }
        }
    }

    #[test]
    fn the_transpose_and_columns_give_the_same_products() {
        let (inputs, outputs, rows) = (13, 37, 11);
        let transpose = |x: &[f32], width: usize| -> Vec<f32> {
            (0..width).flat_map(|column| x.iter().skip(column).step_by(width).copied()).collect()
        };
        let (weights, x) = (numbers(inputs * outputs, 1), numbers(inputs * rows, 2));
        let product = |matrix: &Matrix, columns: bool| {
            let (mut y, mut packed) = (vec![0.0; rows * outputs], PackedRows::default());
            if columns {
                matrix.multiply_columns(&transpose(&x, inputs), &mut y, Into::Replace, &mut packed);
            } else {
                matrix.multiply(&x, &mut y, Into::Replace, &mut packed);
            }
            y
        };
        let expected = product(&Matrix::pack(inputs, &[&weights]), false);
        let transposed = transpose(&weights, inputs);
        let (first, second) = transposed.split_at(5 * outputs);
        let transposed = Matrix::pack_transposed(outputs, &[first, second]);
        assert_eq!(product(&transposed, false), expected);
        assert_eq!(product(&transposed, true), expected);
    }
}
