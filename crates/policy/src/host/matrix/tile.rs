//! The loops of a product: blocks that fit the caches, tiles that fit the registers.
//!
//! A tile of a few rows by two vectors of columns is summed up in registers over one block of
//! [`DEPTH`] cells, and then added to the result. The order of additions for one number of the result
//! is thus fixed by its inputs alone: see [`super::Matrix`].

use std::ops::Range;

use pulp::Simd;

use super::Into;
use super::unit::{Cell, Cells, Sums, Unit};

/// Cells that are summed up in registers before they are added to the result.
///
/// Eight rows of them on the left are 8 KiB and stay in the first-level cache, the result is read and
/// written only once in so many multiplications. It is part of the order of additions: the same on all
/// machines.
pub(super) const DEPTH: usize = 256;

/// Columns whose cells of one block (512 KiB) should stay in the second-level cache.
const COLUMNS: usize = 512;

/// Rows that take part before the next columns are read, and that are rounded at once to bf16.
const ROWS: usize = 128;

/// Tiles of a gradient whose left side is packed at once: several cache lines of each row are read in turn.
const GROUP: usize = 16;

/// Panels of columns, ready to be multiplied: `[panels, depth, 2 vectors]`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Panels<'a, C> {
    /// All cells.
    pub(super) cells: &'a [C],
    /// Cells in a column.
    pub(super) depth: usize,
    /// Columns in use; the last panel is filled up with zeros.
    pub(super) columns: usize,
}

/// Columns in a panel.
pub(super) const fn panel_width<U: Unit>() -> usize {
    2 * <U::Simd as Simd>::F32_LANES
}

/// Rows in a full tile: as many as leave registers for the operands.
const fn tile_height<U: Unit>() -> usize {
    if <U::Simd as Simd>::REGISTER_COUNT >= 32 { 8 } else { 6 }
}

/// `y[r, c] = Σ x[r, i] · right[i, c]` (or `+=`) for `x: [rows, width]`.
#[inline(always)]
pub(super) fn multiply<U: Unit>(
    unit: U,
    x: &[f32],
    width: usize,
    right: Panels<U::Cell>,
    y: &mut [f32],
    into: Into,
    memory: &mut Cells,
) {
    let Panels { cells, depth, columns } = right;
    let panel = panel_width::<U>();
    for (x, y) in x.chunks(ROWS * width).zip(y.chunks_mut(ROWS * columns)) {
        let left = U::Cell::rows(x, width, memory);
        for first in (0..columns).step_by(COLUMNS) {
            let block = first..columns.min(first + COLUMNS);
            for from in (0..depth).step_by(DEPTH) {
                let count = DEPTH.min(depth - from);
                let into = if from == 0 { into } else { Into::Add };
                let height = tile_height::<U>();
                for (left, y) in left.chunks(height * depth).zip(y.chunks_mut(height * columns)) {
                    for column in block.clone().step_by(panel) {
                        let right = &cells[column * depth + from * panel..][..count * panel];
                        let place = Place { y, stride: columns, column, width: panel.min(block.end - column), into };
                        rows_tile(unit, &left[from..], depth, right, place);
                    }
                }
            }
        }
    }
}

/// `sum[o, i] += Σ d_y[r, o] · x[r, i]`, the rows of the sum in parts under each other.
#[inline(always)]
pub(super) fn add_outer<U: Unit>(
    unit: U,
    d_y: &[f32],
    x: &[f32],
    width: usize,
    sums: &mut [&mut [f32]],
    memory: &mut Cells,
) {
    let rows = x.len() / width;
    let outputs = sums.iter().map(|sum| sum.len()).sum::<usize>() / width;
    let (panel, height) = (panel_width::<U>(), tile_height::<U>());
    let inputs = DEPTH * U::Cell::INPUTS;
    let memory = U::Cell::of_mut(memory);
    let group = GROUP * height;
    let sizes = (DEPTH * group, DEPTH * COLUMNS.min(width.next_multiple_of(panel)));
    if memory.len() < sizes.0 + sizes.1 {
        memory.resize(sizes.0 + sizes.1, U::Cell::default());
    }
    let (left, right) = memory.split_at_mut(sizes.0);
    for first in (0..width).step_by(COLUMNS) {
        let block = first..width.min(first + COLUMNS);
        for from in (0..rows).step_by(inputs) {
            let to = rows.min(from + inputs);
            let depth = (to - from).div_ceil(U::Cell::INPUTS);
            let x = &x[from * width..to * width];
            let d_y = &d_y[from * outputs..to * outputs];
            pack_panels(x, width, block.clone(), panel, right);
            let mut output = 0;
            for sum in sums.iter_mut() {
                for y in sum.chunks_mut(group * width) {
                    let count = y.len() / width;
                    pack_panels(d_y, outputs, output..output + count, height, left);
                    output += count;
                    for (left, y) in left.chunks(depth * height).zip(y.chunks_mut(height * width)) {
                        for (right, column) in right.chunks_exact(depth * panel).zip(block.clone().step_by(panel)) {
                            let here = panel.min(block.end - column);
                            let place = Place { y: &mut *y, stride: width, column, width: here, into: Into::Add };
                            columns_tile(unit, left, height, right, place);
                        }
                    }
                }
            }
        }
    }
}

/// Packs columns of `values: [rows, stride]` as `[panels, rows in cells, panel]`, zeros after the last.
#[inline(always)]
fn pack_panels<C: Cell>(values: &[f32], stride: usize, columns: Range<usize>, panel: usize, cells: &mut [C]) {
    // Widths that the compiler knows are copied without a call for each row.
    match panel {
        8 => pack_panels_of::<C, 8>(values, stride, columns, cells),
        16 => pack_panels_of::<C, 16>(values, stride, columns, cells),
        32 => pack_panels_of::<C, 32>(values, stride, columns, cells),
        6 => pack_panels_of::<C, 6>(values, stride, columns, cells),
        _ => pack_panels_of::<C, 2>(values, stride, columns, cells),
    }
}

#[inline(always)]
fn pack_panels_of<C: Cell, const W: usize>(values: &[f32], stride: usize, columns: Range<usize>, cells: &mut [C]) {
    let (cells, _) = cells.as_chunks_mut::<W>();
    let depth = (values.len() / stride).div_ceil(C::INPUTS);
    for (k, rows) in values.chunks(C::INPUTS * stride).enumerate() {
        let (first, second) = rows.split_at(stride);
        let first = &first[columns.clone()];
        let second = second.get(columns.clone());
        let mut panel = 0;
        while let Some(whole) = first[panel * W..].first_chunk::<W>() {
            // In a local array, or the compiler copies one number at a time.
            let mut out = [C::default(); W];
            match second.and_then(|second| second[panel * W..].first_chunk::<W>()) {
                Some(second) => {
                    for i in 0..W {
                        out[i] = C::new(whole[i], second[i]);
                    }
                }
                None => {
                    for i in 0..W {
                        out[i] = C::new(whole[i], 0.0);
                    }
                }
            }
            cells[panel * depth + k] = out;
            panel += 1;
        }
        for i in panel * W..first.len().next_multiple_of(W) {
            let at = |row: Option<&[f32]>| row.and_then(|row| row.get(i)).copied().unwrap_or(0.0);
            cells[panel * depth + k][i - panel * W] = C::new(at(Some(first)), at(second));
        }
    }
}

/// Where a tile's sums go.
struct Place<'a> {
    /// The tile's rows.
    y: &'a mut [f32],
    /// Numbers in a row.
    stride: usize,
    /// The first of the tile's columns.
    column: usize,
    /// How many of the panel's columns there are.
    width: usize,
    into: Into,
}

impl Place<'_> {
    #[inline(always)]
    fn write<S: Simd, const M: usize>(self, simd: S, sums: [[S::f32s; 2]; M]) {
        for (row, sums) in self.y.chunks_exact_mut(self.stride).zip(sums) {
            store(simd, &mut row[self.column..][..self.width], sums, self.into);
        }
    }
}

/// A tile whose left side lies in rows, `stride` cells apart.
#[inline(always)]
fn rows_tile<U: Unit>(unit: U, left: &[U::Cell], stride: usize, right: &[U::Cell], place: Place) {
    match place.y.len() / place.stride {
        1 => rows_of::<U, 1>(unit, left, stride, right, place),
        2 => rows_of::<U, 2>(unit, left, stride, right, place),
        3 => rows_of::<U, 3>(unit, left, stride, right, place),
        4 => rows_of::<U, 4>(unit, left, stride, right, place),
        5 => rows_of::<U, 5>(unit, left, stride, right, place),
        6 => rows_of::<U, 6>(unit, left, stride, right, place),
        7 => rows_of::<U, 7>(unit, left, stride, right, place),
        _ => rows_of::<U, 8>(unit, left, stride, right, place),
    }
}

#[inline(always)]
fn rows_of<U: Unit, const M: usize>(unit: U, left: &[U::Cell], stride: usize, right: &[U::Cell], place: Place) {
    let (right, _) = U::vectors(right).as_chunks::<2>();
    let mut rows = [&left[..right.len()]; M];
    for m in 1..M {
        rows[m] = &left[m * stride..][..right.len()];
    }
    let sums = tile::<U, M>(unit, |k, m| rows[m][k], right);
    place.write(unit.simd(), sums);
}

/// A tile whose left side lies in columns, `[depth, height]`.
#[inline(always)]
fn columns_tile<U: Unit>(unit: U, left: &[U::Cell], height: usize, right: &[U::Cell], place: Place) {
    match height {
        6 => columns_of::<U, 6>(unit, left, right, place),
        _ => columns_of::<U, 8>(unit, left, right, place),
    }
}

#[inline(always)]
fn columns_of<U: Unit, const M: usize>(unit: U, left: &[U::Cell], right: &[U::Cell], place: Place) {
    let (right, _) = U::vectors(right).as_chunks::<2>();
    let left = &left.as_chunks::<M>().0[..right.len()];
    let sums = tile::<U, M>(unit, |k, m| left[k][m], right);
    place.write(unit.simd(), sums);
}

/// The sums of one tile over one block: each a chain from zero, in the order of the cells.
#[inline(always)]
fn tile<U: Unit, const M: usize>(
    unit: U,
    left: impl Fn(usize, usize) -> U::Cell,
    right: &[[U::Vector; 2]],
) -> [[Sums<U>; 2]; M] {
    let mut sums = [[unit.simd().splat_f32s(0.0); 2]; M];
    for (k, right) in right.iter().enumerate() {
        #[expect(clippy::needless_range_loop, reason = "in so large a function, iterators' calls are not all inlined")]
        for m in 0..M {
            let left = unit.splat(left(k, m));
            sums[m][0] = unit.multiply_add(left, right[0], sums[m][0]);
            sums[m][1] = unit.multiply_add(left, right[1], sums[m][1]);
        }
    }
    sums
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
