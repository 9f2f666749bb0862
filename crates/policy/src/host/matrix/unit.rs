//! What a product is made of: cells, vectors of cells, and one way to multiply and add them.
//!
//! A cell is 32 bits wide and holds one input in f32 or two neighbouring inputs in bf16, so that both
//! formats share every layout and every loop of [`super::tile`].

use pulp::{Arch, Simd, WithSimd};

#[cfg(target_arch = "x86_64")]
use super::native;
use crate::dtype::Dtype;

/// Memory for cells of either format; one of the two stays empty.
#[derive(Clone, Debug, Default)]
pub(in crate::host) struct Cells {
    singles: Vec<f32>,
    pairs: Vec<u32>,
}

/// One input in f32, or two in bf16: the first in the lower half.
pub(in crate::host) trait Cell: Copy + Default {
    /// Inputs that a cell holds.
    const INPUTS: usize;

    /// The cells of this format.
    fn of(cells: &Cells) -> &[Self];

    /// The memory for cells of this format.
    fn of_mut(cells: &mut Cells) -> &mut Vec<Self>;

    /// One cell; `second` is dropped where a cell holds one input.
    fn new(first: f32, second: f32) -> Self;

    /// The inputs, of which the first [`INPUTS`](Self::INPUTS) count.
    fn inputs(self) -> [f32; 2];

    /// Cells of one or two rows of inputs, position by position; a missing second row is zeros.
    fn zip(first: &[f32], second: Option<&[f32]>, cells: &mut [Self]);

    /// Rows of `width` inputs as rows of cells, through `memory` where they are not cells already.
    fn rows<'a>(x: &'a [f32], width: usize, memory: &'a mut Cells) -> &'a [Self];
}

/// A way to multiply cells on one kind of machine.
pub(in crate::host) trait Unit: Copy {
    /// The vectors that sums are kept in.
    type Simd: Simd;
    /// The format.
    type Cell: Cell;
    /// A vector of cells, as many as there are sums in a vector.
    type Vector: Copy;

    /// The vectors that sums are kept in.
    fn simd(self) -> Self::Simd;

    /// Whole vectors of `cells`, whose count is a multiple of a vector's.
    fn vectors(cells: &[Self::Cell]) -> &[Self::Vector];

    /// The same cell everywhere.
    fn splat(self, cell: Self::Cell) -> Self::Vector;

    /// `sum + a · b`, input by input.
    fn multiply_add(self, a: Self::Vector, b: Self::Vector, sum: Sums<Self>) -> Sums<Self>;
}

/// A vector of sums.
pub(in crate::host) type Sums<U> = <<U as Unit>::Simd as Simd>::f32s;

/// Work that is written once for every unit.
pub(in crate::host) trait WithUnit {
    /// What the work gives.
    type Output;

    /// Does it; always inlined, or the unit's instructions would be calls.
    fn with_unit<U: Unit>(self, unit: U) -> Self::Output;
}

/// f32, one fused multiply-add for each input.
#[derive(Clone, Copy, Debug)]
pub(in crate::host) struct Singles<S>(pub(super) S);

/// bf16 where no instruction multiplies it: widened to f32, which is exact, and multiplied there.
///
/// The second input of a pair is added first, as `vdpbf16ps` does it.
#[derive(Clone, Copy, Debug)]
pub(in crate::host) struct Widened<S>(pub(super) S);

/// Does the work with the fastest unit that this machine has for `dtype`.
pub(in crate::host) fn dispatch<Op: WithUnit>(dtype: Dtype, op: Op) -> Op::Output {
    match dtype {
        Dtype::F32 => Arch::new().dispatch(WithSingles(op)),
        Dtype::Bf16 => {
            #[cfg(target_arch = "x86_64")]
            if let Some(pairs) = native::Pairs::detect() {
                return pairs.run(op);
            }
            Arch::new().dispatch(WithWidened(op))
        }
    }
}

/// Rounds to bf16, to nearest and ties to even; a NaN stays a (quiet) NaN.
#[inline(always)]
pub(in crate::host) fn round(value: f32) -> u32 {
    let bits = value.to_bits();
    let rounded = (bits + (0x7fff + ((bits >> 16) & 1))) >> 16;
    if bits & 0x7fff_ffff > 0x7f80_0000 { (bits >> 16) | 0x40 } else { rounded }
}

impl Cell for f32 {
    const INPUTS: usize = 1;

    fn of(cells: &Cells) -> &[f32] {
        &cells.singles
    }

    fn of_mut(cells: &mut Cells) -> &mut Vec<f32> {
        &mut cells.singles
    }

    #[inline(always)]
    fn new(first: f32, _second: f32) -> f32 {
        first
    }

    #[inline(always)]
    fn inputs(self) -> [f32; 2] {
        [self, 0.0]
    }

    #[inline(always)]
    fn zip(first: &[f32], _second: Option<&[f32]>, cells: &mut [f32]) {
        // No `copy_from_slice`: lengths known to the caller are to be copied without a call.
        for (cell, &first) in cells.iter_mut().zip(first) {
            *cell = first;
        }
    }

    #[inline(always)]
    fn rows<'a>(x: &'a [f32], _width: usize, _memory: &'a mut Cells) -> &'a [f32] {
        x
    }
}

impl Cell for u32 {
    const INPUTS: usize = 2;

    fn of(cells: &Cells) -> &[u32] {
        &cells.pairs
    }

    fn of_mut(cells: &mut Cells) -> &mut Vec<u32> {
        &mut cells.pairs
    }

    #[inline(always)]
    fn new(first: f32, second: f32) -> u32 {
        round(first) | (round(second) << 16)
    }

    #[inline(always)]
    fn inputs(self) -> [f32; 2] {
        [f32::from_bits(self << 16), f32::from_bits(self & 0xffff_0000)]
    }

    #[inline(always)]
    fn zip(first: &[f32], second: Option<&[f32]>, cells: &mut [u32]) {
        match second {
            Some(second) => {
                for ((cell, &first), &second) in cells.iter_mut().zip(first).zip(second) {
                    *cell = u32::new(first, second);
                }
            }
            None => {
                for (cell, &first) in cells.iter_mut().zip(first) {
                    *cell = round(first);
                }
            }
        }
    }

    #[inline(always)]
    fn rows<'a>(x: &'a [f32], width: usize, memory: &'a mut Cells) -> &'a [u32] {
        let cells = width.div_ceil(2);
        let memory = &mut memory.pairs;
        memory.resize(x.len() / width * cells, 0);
        for (row, cells) in x.chunks_exact(width).zip(memory.chunks_exact_mut(cells)) {
            let (pairs, odd) = row.as_chunks::<2>();
            for (cell, &[first, second]) in cells.iter_mut().zip(pairs) {
                *cell = u32::new(first, second);
            }
            if let (&[last], Some(cell)) = (odd, cells.last_mut()) {
                *cell = round(last);
            }
        }
        memory
    }
}

impl<S: Simd> Unit for Singles<S> {
    type Simd = S;
    type Cell = f32;
    type Vector = S::f32s;

    #[inline(always)]
    fn simd(self) -> S {
        self.0
    }

    #[inline(always)]
    fn vectors(cells: &[f32]) -> &[S::f32s] {
        S::as_simd_f32s(cells).0
    }

    #[inline(always)]
    fn splat(self, cell: f32) -> S::f32s {
        self.0.splat_f32s(cell)
    }

    #[inline(always)]
    fn multiply_add(self, a: S::f32s, b: S::f32s, sum: S::f32s) -> S::f32s {
        self.0.mul_add_f32s(a, b, sum)
    }
}

impl<S: Simd> Unit for Widened<S> {
    type Simd = S;
    type Cell = u32;
    type Vector = S::u32s;

    #[inline(always)]
    fn simd(self) -> S {
        self.0
    }

    #[inline(always)]
    fn vectors(cells: &[u32]) -> &[S::u32s] {
        S::as_simd_u32s(cells).0
    }

    #[inline(always)]
    fn splat(self, cell: u32) -> S::u32s {
        self.0.splat_u32s(cell)
    }

    #[inline(always)]
    fn multiply_add(self, a: S::u32s, b: S::u32s, sum: S::f32s) -> S::f32s {
        let simd = self.0;
        let first = |pair| simd.transmute_f32s_u32s(simd.wrapping_dyn_shl_u32s(pair, simd.splat_u32s(16)));
        let second = |pair| simd.transmute_f32s_u32s(simd.and_u32s(pair, simd.splat_u32s(0xffff_0000)));
        simd.mul_add_f32s(first(a), first(b), simd.mul_add_f32s(second(a), second(b), sum))
    }
}

/// Work on f32, as pulp dispatches it.
pub(in crate::host) struct WithSingles<Op>(pub(super) Op);

impl<Op: WithUnit> WithSimd for WithSingles<Op> {
    type Output = Op::Output;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Op::Output {
        self.0.with_unit(Singles(simd))
    }
}

/// Work on widened bf16, as pulp dispatches it.
pub(in crate::host) struct WithWidened<Op>(pub(super) Op);

impl<Op: WithUnit> WithSimd for WithWidened<Op> {
    type Output = Op::Output;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Op::Output {
        self.0.with_unit(Widened(simd))
    }
}
