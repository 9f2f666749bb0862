//! Small products of blocks, for attention: nothing is packed, both sides are read where they stand.
//!
//! As everything in [`super::kernels`], each number that comes out is one chain of fused multiply-adds in
//! the order of the inner dimension, whatever rows are computed beside it.

#![expect(
    clippy::manual_memcpy,
    clippy::needless_range_loop,
    reason = "sums that are copied as a whole, or whose address an iterator takes, are kept in memory, not in registers"
)]

use pulp::{Simd, WithSimd};

use crate::host::kernels::arch;
use crate::host::matrix::Into;

/// The left side, `rows × inner` numbers.
#[derive(Clone, Copy)]
pub(super) enum Left<'a> {
    /// Row by row, the rows so many numbers apart.
    Rows(&'a [f32], usize),
    /// Column by column, the columns so many numbers apart.
    Columns(&'a [f32], usize),
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
    arch().dispatch(Product { left, right, sizes, out, stride, into });
}

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
        let inner = self.sizes.inner;
        if inner == 0 {
            self.tiles::<S, M>(simd, first, |_| Some([0.0; M]));
            return M;
        }
        match self.left {
            Left::Rows(values, stride) => {
                let mut rows = [&values[first * stride..][..inner]; M];
                for m in 1..M {
                    rows[m] = &values[(first + m) * stride..][..inner];
                }
                self.tiles::<S, M>(simd, first, |i| {
                    let mut column = [0.0; M];
                    for m in 0..M {
                        column[m] = rows[m][i];
                    }
                    Some(column)
                });
            }
            Left::Columns(values, stride) => {
                let values = &values[first..];
                self.tiles::<S, M>(simd, first, |i| values.get(i * stride..)?.first_chunk::<M>().copied());
            }
        }
        M
    }

    #[inline(always)]
    fn tiles<S: Simd, const M: usize>(&mut self, simd: S, first: usize, left: impl Fn(usize) -> Option<[f32; M]>) {
        let columns = self.sizes.columns;
        let pair = 2 * S::F32_LANES;
        let pairs = columns / pair * pair;
        for column in (0..pairs).step_by(pair) {
            self.tile::<S, M, 2>(simd, (first, column), &left);
        }
        for column in (pairs..columns).step_by(S::F32_LANES) {
            self.tile::<S, M, 1>(simd, (first, column), &left);
        }
    }

    /// `M` rows of `N` vectors, from row and column `at` on.
    #[inline(always)]
    fn tile<S: Simd, const M: usize, const N: usize>(
        &mut self,
        simd: S,
        at: (usize, usize),
        left: &impl Fn(usize) -> Option<[f32; M]>,
    ) {
        let (first, column) = at;
        let width = N * S::F32_LANES;
        let mut sums = [[simd.splat_f32s(0.0); N]; M];
        if self.into == Into::Add {
            for m in 0..M {
                let (out, _) = S::as_simd_f32s(&self.out[(first + m) * self.stride + column..][..width]);
                for n in 0..N {
                    sums[m][n] = out[n];
                }
            }
        }
        let mut rows = self.right.values.get(column..).unwrap_or_default().chunks(self.right.stride);
        for i in 0..self.sizes.inner {
            // Never none: but to leave the loop costs nothing, and to panic keeps the sums in memory.
            let (Some(left), Some(right)) = (left(i), rows.next().and_then(|row| row.get(..width))) else { break };
            let (right, _) = S::as_simd_f32s(right);
            for m in 0..M {
                let a = simd.splat_f32s(left[m]);
                for n in 0..N {
                    sums[m][n] = simd.mul_add_f32s(a, right[n], sums[m][n]);
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
            for by_rows in [true, false] {
                let values = numbers((rows + 3) * (inner + 3), 1);
                let stride = if by_rows { inner + 3 } else { rows + 3 };
                let from = |row: usize| match by_rows {
                    true => Left::Rows(&values[row * stride..], stride),
                    false => Left::Columns(&values[row..], stride),
                };
                let number = |row: usize, i: usize| values[if by_rows { row * stride + i } else { i * stride + row }];
                let left = from(0);
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
                        product(from(r), right, Sizes { rows: 1, inner, columns }, &mut alone, columns, into);
                        assert_eq!(alone, all[r * columns..][..columns], "row {r} of {rows}, inner {inner}");
                        for (c, &found) in alone.iter().enumerate() {
                            let terms = (0..inner).map(|i| {
                                let b = right.values[i * right.stride + c];
                                f64::from(number(r, i)) * f64::from(b)
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
