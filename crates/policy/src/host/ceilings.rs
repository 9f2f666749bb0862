//! What one thread of this machine can do at most, measured.
//!
//! Products are counted in floating-point operations, two for each multiply-add. Each function measures
//! `repeats` times, some milliseconds each, and gives the best: what else runs on the machine can only
//! take time away.

use std::hint::black_box;
use std::time::Instant;

use pulp::{Arch, Simd, WithSimd};

use crate::dtype::Dtype;
use crate::host::matrix::{Cell, Into, Matrix, PackedRows, Unit, WithUnit, dispatch};

/// Sums in flight: more than the latency of any unit's multiply-add.
const CHAINS: usize = 12;

/// Multiply-adds in registers, in operations per second: no product of `dtype` can be faster.
pub fn multiply_adds_per_second(dtype: Dtype, repeats: usize) -> f64 {
    const STEPS: usize = 400_000;
    best(repeats, || dispatch(dtype, MultiplyAdds { steps: STEPS }) as f64)
}

/// Bytes per second that can be read from `bytes` of memory, read again and again.
pub fn bytes_read_per_second(bytes: usize, repeats: usize) -> f64 {
    let values = vec![1.0_f32; bytes.div_ceil(4)];
    let rounds = (1_usize << 28).div_ceil(bytes.max(1));
    best(repeats, || {
        for _ in 0..rounds {
            black_box(Arch::new().dispatch(Sum(black_box(&values))));
        }
        (rounds * 4 * values.len()) as f64
    })
}

/// FLOP/s of matrix products on `threads` threads at once, each its own of 1024 × 1024 by 1024 × 1024: the best
/// of a few, in `dtype`.
pub fn measure_products(dtype: Dtype, threads: usize) -> f64 {
    const SIDE: usize = 1024;
    let x = vec![0.5; SIDE * SIDE];
    let matrix = Matrix::pack(dtype, SIDE, &[&x]);
    let once = || {
        let (mut y, mut packed) = (vec![0.0; SIDE * SIDE], PackedRows::default());
        let multiply = |y: &mut Vec<f32>, packed: &mut PackedRows| {
            matrix.multiply(black_box(&x), y, Into::Replace, packed);
        };
        multiply(&mut y, &mut packed);
        let start = Instant::now();
        for _ in 0..4 {
            multiply(&mut y, &mut packed);
        }
        4.0 * 2.0 * (SIDE * SIDE * SIDE) as f64 / start.elapsed().as_secs_f64()
    };
    together(threads, once)
}

/// Bytes per second that `threads` threads read from memory, far more than any cache holds.
pub fn measure_bandwidth(threads: usize) -> f64 {
    together(threads, || bytes_read_per_second(256 << 20, 1))
}

/// The best sum over all threads of what each of them measures at the same time.
fn together(threads: usize, once: impl Fn() -> f64 + Sync) -> f64 {
    let round = || {
        std::thread::scope(|scope| {
            let handles: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(&once)).collect();
            handles.into_iter().map(|handle| handle.join().unwrap_or(0.0)).sum::<f64>()
        })
    };
    (0..5).map(|_| round()).fold(0.0, f64::max)
}

fn best(repeats: usize, mut work: impl FnMut() -> f64) -> f64 {
    let rates = (0..repeats).map(|_| {
        let start = Instant::now();
        let amount = work();
        amount / start.elapsed().as_secs_f64()
    });
    rates.fold(0.0, f64::max)
}

struct MultiplyAdds {
    steps: usize,
}

impl WithUnit for MultiplyAdds {
    type Output = usize;

    #[inline(always)]
    fn with_unit<U: Unit>(self, unit: U) -> usize {
        let simd = unit.simd();
        let cell = black_box(U::Cell::new(0.5, 0.5));
        let (a, b) = (unit.splat(cell), unit.splat(cell));
        let mut sums = [simd.splat_f32s(0.0); CHAINS];
        for _ in 0..self.steps {
            for sum in &mut sums {
                *sum = unit.multiply_add(a, b, *sum);
            }
        }
        let total = sums.into_iter().fold(simd.splat_f32s(0.0), |total, sum| simd.add_f32s(total, sum));
        black_box(simd.reduce_sum_f32s(total));
        self.steps * CHAINS * <U::Simd as Simd>::F32_LANES * U::Cell::INPUTS * 2
    }
}

struct Sum<'a>(&'a [f32]);

impl WithSimd for Sum<'_> {
    type Output = f32;

    /// In as many partial sums as hide the additions' latency.
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        let (chunks, _) = S::as_simd_f32s(self.0).0.as_chunks::<8>();
        let mut sums = [simd.splat_f32s(0.0); 8];
        for chunk in chunks {
            for i in 0..8 {
                sums[i] = simd.add_f32s(sums[i], chunk[i]);
            }
        }
        simd.reduce_sum_f32s(sums.into_iter().fold(simd.splat_f32s(0.0), |total, sum| simd.add_f32s(total, sum)))
    }
}
