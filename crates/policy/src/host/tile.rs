//! Small products of blocks, for attention: rows that stand anywhere in memory times a block of rows.
//!
//! As everything in [`super::kernels`], each number that comes out is one chain of fused multiply-adds in
//! the order of the inner dimension, whatever rows are computed beside it.

use pulp::{Arch, Simd, WithSimd};

use crate::host::matrix::Into;

/// The left side: `rows × inner` numbers, that of row `r` and inner `i` at `values[r · row + i · step]`.
#[derive(Clone, Copy)]
pub(super) struct Left<'a> {
    pub(super) values: &'a [f32],
    pub(super) row: usize,
    pub(super) step: usize,
}

/// The right side: `inner × columns` numbers, rows `stride` apart.
#[derive(Clone, Copy)]
pub(super) struct Right<'a> {
    pub(super) values: &'a [f32],
    pub(super) stride: usize,
}

/// How many rows, inner numbers and columns; columns are whole [`vector_pad`](super::kernels::vector_pad)s.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub(super) rows: usize,
    pub(super) inner: usize,
    pub(super) columns: usize,
}

/// `out[r · stride + c] = Σ left[r, i] · right[i, c]`, or added to what is there.
pub(super) fn product(left: Left, right: Right, sizes: Sizes, out: &mut [f32], stride: usize, into: Into) {
    Arch::new().dispatch(Product { left, right, sizes, out, stride, into });
}

/// Rows of one register tile, and inner numbers that are packed at a time.
const TILE: usize = 8;
const INNER: usize = 64;

struct Product<'a> {
    left: Left<'a>,
    right: Right<'a>,
    sizes: Sizes,
    out: &'a mut [f32],
    stride: usize,
    into: Into,
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let mut row = 0;
        while row < self.sizes.rows {
            row += match self.sizes.rows - row {
                left if left >= 8 && S::REGISTER_COUNT >= 32 => self.rows::<S, 8>(simd, row),
                left if left >= 4 => self.rows::<S, 4>(simd, row),
                left if left >= 2 => self.rows::<S, 2>(simd, row),
                _ => self.rows::<S, 1>(simd, row),
            };
        }
    }
}

impl Product<'_> {
    /// Computes `M` rows from `first` on, and says how many.
    #[inline(always)]
    fn rows<S: Simd, const M: usize>(&mut self, simd: S, first: usize) -> usize {
        let Sizes { inner, columns, .. } = self.sizes;
        let mut packed = [0.0f32; TILE * INNER];
        // A longer inner dimension is gone through in pieces; the chain goes on from what was stored.
        let mut start = 0;
        loop {
            let count = INNER.min(inner - start);
            let (packed, _) = packed.as_chunks_mut::<M>();
            for m in 0..M {
                let from = (first + m) * self.left.row + start * self.left.step;
                let values = self.left.values[from..].iter().step_by(self.left.step);
                for (packed, &value) in packed[..count].iter_mut().zip(values) {
                    packed[m] = value;
                }
            }
            let into = if start == 0 { self.into } else { Into::Add };
            let pair = 2 * S::F32_LANES;
            let pairs = columns / pair * pair;
            for column in (0..pairs).step_by(pair) {
                self.tile::<S, M, 2>(simd, &packed[..count], (first, start, column), into);
            }
            for column in (pairs..columns).step_by(S::F32_LANES) {
                self.tile::<S, M, 1>(simd, &packed[..count], (first, start, column), into);
            }
            start += count;
            if start >= inner {
                return M;
            }
        }
    }

    /// `M` rows of `N` vectors, from row, inner number and column `at` on.
    #[inline(always)]
    fn tile<S: Simd, const M: usize, const N: usize>(
        &mut self,
        simd: S,
        packed: &[[f32; M]],
        at: (usize, usize, usize),
        into: Into,
    ) {
        let (first, start, column) = at;
        let width = N * S::F32_LANES;
        let mut sums = [[simd.splat_f32s(0.0); N]; M];
        if into == Into::Add {
            for m in 0..M {
                let (out, _) = S::as_simd_f32s(&self.out[(first + m) * self.stride + column..][..width]);
                for n in 0..N {
                    sums[m][n] = out[n];
                }
            }
        }
        let rows = self.right.values[start * self.right.stride + column..].chunks(self.right.stride);
        for (a, row) in packed.iter().zip(rows) {
            let (row, _) = S::as_simd_f32s(&row[..width]);
            for m in 0..M {
                let a = simd.splat_f32s(a[m]);
                for n in 0..N {
                    sums[m][n] = simd.mul_add_f32s(a, row[n], sums[m][n]);
                }
            }
        }
        for m in 0..M {
            let (out, _) = S::as_mut_simd_f32s(&mut self.out[(first + m) * self.stride + column..][..width]);
            for n in 0..N {
                out[n] = sums[m][n];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::kernels::tests::numbers;

    #[test]
    fn products_equal_plain_sums_whatever_rows_stand_beside() {
        for (rows, inner, columns) in [(1, 1, 16), (3, 32, 64), (64, 64, 48), (13, 7, 32), (9, 130, 16), (5, 0, 16)] {
            for (row, step) in [(inner + 3, 1), (1, rows + 2)] {
                let left = numbers(rows.max(inner + 3) * (inner + rows + 5), 1);
                let left = Left { values: &left, row, step };
                let right = numbers((inner + 1) * (columns + 16), 2);
                let right = Right { values: &right, stride: columns + 16 };
                for into in [Into::Replace, Into::Add] {
                    let before = match into {
                        Into::Replace => vec![f32::NAN; rows * columns],
                        Into::Add => numbers(rows * columns, 3),
                    };
                    let mut all = before.clone();
                    product(left, right, Sizes { rows, inner, columns }, &mut all, columns, into);
                    for r in 0..rows {
                        let mut alone = before[r * columns..][..columns].to_vec();
                        let one = Left { values: &left.values[r * row..], ..left };
                        product(one, right, Sizes { rows: 1, inner, columns }, &mut alone, columns, into);
                        assert_eq!(alone, all[r * columns..][..columns], "row {r} of {rows}, inner {inner}");
                        for (c, &found) in alone.iter().enumerate() {
                            let terms = (0..inner).map(|i| {
                                let b = right.values[i * right.stride + c];
                                f64::from(left.values[r * row + i * step]) * f64::from(b)
                            });
                            let start = if into == Into::Add { f64::from(before[r * columns + c]) } else { 0.0 };
                            let expected = start + terms.sum::<f64>();
                            assert!((f64::from(found) - expected).abs() < 1e-5, "{found}, expected {expected}");
                        }
                    }
                }
            }
        }
    }
}
