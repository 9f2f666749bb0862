//! Products of bf16 by AVX-512's own instruction.
//!
//! `vdpbf16ps` adds the second product of each pair to the sum, then the first, each rounded to nearest
//! even as a fused multiply-add would be; unlike those it takes denormal inputs, and gives denormal
//! sums, as zero.

#![expect(unsafe_code, reason = "no safe wrapper of vdpbf16ps exists")]

use std::arch::x86_64::{__m512, __m512bh, _mm512_dpbf16_ps};
use std::mem::transmute;

use pulp::x86::V4;
use pulp::{NullaryFnOnce, Simd, f32x16, u32x16};

use super::unit::{Unit, WithUnit};

pulp::simd_type! {
    /// Proof that the machine has all that pulp's `V4` needs, and `avx512_bf16`.
    struct Features {
        sse: "sse", sse2: "sse2", fxsr: "fxsr", sse3: "sse3", ssse3: "ssse3", sse4_1: "sse4.1",
        sse4_2: "sse4.2", popcnt: "popcnt", avx: "avx", avx2: "avx2", bmi1: "bmi1", bmi2: "bmi2",
        fma: "fma", lzcnt: "lzcnt", avx512f: "avx512f", avx512bw: "avx512bw", avx512cd: "avx512cd",
        avx512dq: "avx512dq", avx512vl: "avx512vl", avx512bf16: "avx512bf16",
    }
}

/// bf16, one `vdpbf16ps` for each pair of inputs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pairs {
    simd: V4,
    features: Features,
}

impl Pairs {
    /// The unit, where the machine has the instruction.
    pub(super) fn detect() -> Option<Pairs> {
        Some(Pairs { simd: V4::try_new()?, features: Features::try_new()? })
    }

    /// Does the work in a function that is compiled for this machine.
    pub(super) fn run<Op: WithUnit>(self, op: Op) -> Op::Output {
        self.features.vectorize(Work { pairs: self, op })
    }
}

impl Unit for Pairs {
    type Simd = V4;
    type Cell = u32;
    type Vector = u32x16;

    #[inline(always)]
    fn simd(self) -> V4 {
        self.simd
    }

    #[inline(always)]
    fn vectors(cells: &[u32]) -> &[u32x16] {
        V4::as_simd_u32s(cells).0
    }

    #[inline(always)]
    fn splat(self, cell: u32) -> u32x16 {
        self.simd.splat_u32s(cell)
    }

    #[inline(always)]
    fn multiply_add(self, a: u32x16, b: u32x16, sum: f32x16) -> f32x16 {
        // SAFETY: `self.features` exists, so the machine has avx512f and avx512bf16; and all of these types
        // are 64 bytes in which every pattern of bits is a value.
        unsafe {
            let sum = transmute::<f32x16, __m512>(sum);
            let (a, b) = (transmute::<u32x16, __m512bh>(a), transmute::<u32x16, __m512bh>(b));
            transmute::<__m512, f32x16>(_mm512_dpbf16_ps(sum, a, b))
        }
    }
}

struct Work<Op> {
    pairs: Pairs,
    op: Op,
}

impl<Op: WithUnit> NullaryFnOnce for Work<Op> {
    type Output = Op::Output;

    #[inline(always)]
    fn call(self) -> Op::Output {
        self.op.with_unit(self.pairs)
    }
}
