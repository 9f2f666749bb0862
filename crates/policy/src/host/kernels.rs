//! The loops of the host engine, compiled for each instruction set and chosen at run time.
//!
//! The invariant that all of them keep: **what comes out for one row depends on that row alone**, never
//! on how many rows there are or where it stands among them. Each output is one chain of fused
//! multiply-adds in a fixed order, so a sequence gets the same bits alone and in any batch.

use std::array;

use pulp::{Arch, NullaryFnOnce, Simd, WithSimd};

/// Partial sums that a reduction keeps, whatever the machine's vectors are.
const LANES: usize = 16;

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

/// Maximum, logarithm of the sum and entropy of one row of logits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct LogSum {
    /// `ln Σ exp(logit)`.
    pub(crate) log_sum: f32,
    /// `−Σ p ln p`, in nats.
    pub(crate) entropy: f32,
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

    /// Outputs per row.
    pub(crate) fn outputs(&self) -> usize {
        self.outputs
    }

    /// `y[r] = x[r] Wᵀ` (or `+=`) for every row of `x: [rows, inputs]`, `y: [rows, outputs]`.
    pub(crate) fn multiply(&self, x: &[f32], y: &mut [f32], into: Into, packed: &mut PackedRows) {
        Arch::new().dispatch(Multiply { matrix: self, x, y, into, packed: &mut packed.0 });
    }
}

/// Root-mean-square normalisation of every row of `x`, times `weight`, into `y`.
pub(crate) fn rms_norm(x: &[f32], weight: &[f32], epsilon: f32, y: &mut [f32]) {
    Arch::new().dispatch(RmsNorm { x, weight, epsilon, y });
}

/// Normalises each head of `x: [heads, width]` and turns its pairs by the angles of one position.
pub(crate) fn norm_and_rotate(x: &mut [f32], weight: &[f32], epsilon: f32, cos: &[f32], sin: &[f32]) {
    Arch::new().dispatch(NormAndRotate { x, weight, epsilon, cos, sin });
}

/// `y = silu(gate) · up` for rows `x: [rows, gate | up]`, each half as wide as a row of `y`.
pub(crate) fn gate(x: &[f32], width: usize, y: &mut [f32]) {
    Arch::new().dispatch(Gate { x, width, y });
}

/// `out[j] = Σ a[i] · b[i · stride + j]`, the sum in the order of `i`.
///
/// `out` is a multiple of [`vector_pad`] long, and so many values of `b` are read from each row.
pub(crate) fn combine(a: &[f32], b: &[f32], stride: usize, out: &mut [f32]) {
    Arch::new().dispatch(Combine { a, b, stride, out });
}

/// Softmax of the first `length` scores; exact zeros after them.
pub(crate) fn softmax(scores: &mut [f32], length: usize) {
    Arch::new().dispatch(Softmax { scores, length });
}

/// Writes `exp(scale · (x − max x))` and returns the maximum; all of `x` must be finite.
pub(crate) fn shifted_exp(x: &[f32], scale: f32, y: &mut [f32]) -> f32 {
    Arch::new().dispatch(ShiftedExp { x, scale, y })
}

/// Log-sum and entropy of one row of logits; `scratch` is as long.
pub(crate) fn log_sum(logits: &[f32], scratch: &mut [f32]) -> LogSum {
    let max = shifted_exp(logits, 1.0, scratch);
    let (total, weighted) = Arch::new().dispatch(Expectation { logits, weights: scratch, max });
    let log_total = total.ln();
    LogSum { log_sum: max + log_total, entropy: log_total - weighted / total }
}

/// `length` rounded up so that whole vectors of any machine fit.
pub(crate) fn vector_pad(length: usize) -> usize {
    length.next_multiple_of(LANES)
}

struct Lanes;

impl WithSimd for Lanes {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) -> usize {
        S::F32_LANES
    }
}

struct Multiply<'a> {
    matrix: &'a Matrix,
    x: &'a [f32],
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
        // Zeros fill the last tile up: one path for every number of rows.
        self.packed.clear();
        self.packed.resize(rows.next_multiple_of(M) * inputs, 0.0);
        for (tile, x) in self.packed.chunks_exact_mut(M * inputs).zip(self.x.chunks(M * inputs)) {
            for (m, row) in x.chunks_exact(inputs).enumerate() {
                for (k, &value) in row.iter().enumerate() {
                    tile[k * M + m] = value;
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

struct RmsNorm<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    epsilon: f32,
    y: &'a mut [f32],
}

impl NullaryFnOnce for RmsNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let width = self.weight.len();
        for (x, y) in self.x.chunks_exact(width).zip(self.y.chunks_exact_mut(width)) {
            let scale = inverse_root_mean_square(x, self.epsilon);
            for ((y, &x), &weight) in y.iter_mut().zip(x).zip(self.weight) {
                *y = x * scale * weight;
            }
        }
    }
}

struct NormAndRotate<'a> {
    x: &'a mut [f32],
    weight: &'a [f32],
    epsilon: f32,
    cos: &'a [f32],
    sin: &'a [f32],
}

impl NullaryFnOnce for NormAndRotate<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let half = self.cos.len();
        let (weight1, weight2) = self.weight.split_at(half);
        for head in self.x.chunks_exact_mut(2 * half) {
            let scale = inverse_root_mean_square(head, self.epsilon);
            let (first, second) = head.split_at_mut(half);
            let angles = self.cos.iter().zip(self.sin);
            let weights = weight1.iter().zip(weight2);
            for (((x1, x2), (&cos, &sin)), (&weight1, &weight2)) in
                first.iter_mut().zip(second).zip(angles).zip(weights)
            {
                let (a, b) = (*x1 * scale * weight1, *x2 * scale * weight2);
                *x1 = a.mul_add(cos, -(b * sin));
                *x2 = b.mul_add(cos, a * sin);
            }
        }
    }
}

struct Gate<'a> {
    x: &'a [f32],
    width: usize,
    y: &'a mut [f32],
}

impl NullaryFnOnce for Gate<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for (x, y) in self.x.chunks_exact(2 * self.width).zip(self.y.chunks_exact_mut(self.width)) {
            let (gate, up) = x.split_at(self.width);
            for ((y, &gate), &up) in y.iter_mut().zip(gate).zip(up) {
                *y = gate / (1.0 + exp(-gate)) * up;
            }
        }
    }
}

struct Combine<'a> {
    a: &'a [f32],
    b: &'a [f32],
    stride: usize,
    out: &'a mut [f32],
}

impl WithSimd for Combine<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (out, _) = S::as_mut_simd_f32s(self.out);
        let (fours, ones) = out.as_chunks_mut::<4>();
        let lanes = S::F32_LANES;
        let skip = fours.len() * 4 * lanes;
        for (chunk, out) in fours.iter_mut().enumerate() {
            *out = chain(simd, self.a, self.b, self.stride, chunk * 4 * lanes);
        }
        for (chunk, out) in ones.iter_mut().enumerate() {
            [*out] = chain(simd, self.a, self.b, self.stride, skip + chunk * lanes);
        }
    }
}

/// `N` vectors of [`combine`], from column `from` on.
#[inline(always)]
fn chain<S: Simd, const N: usize>(simd: S, a: &[f32], b: &[f32], stride: usize, from: usize) -> [S::f32s; N] {
    let mut sums = [simd.splat_f32s(0.0); N];
    for (i, &a) in a.iter().enumerate() {
        let start = i * stride + from;
        let (row, _) = S::as_simd_f32s(&b[start..start + N * S::F32_LANES]);
        let a = simd.splat_f32s(a);
        for n in 0..N {
            sums[n] = simd.mul_add_f32s(a, row[n], sums[n]);
        }
    }
    sums
}

struct Softmax<'a> {
    scores: &'a mut [f32],
    length: usize,
}

impl NullaryFnOnce for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let (scores, padding) = self.scores.split_at_mut(self.length);
        padding.fill(0.0);
        let max = maximum(scores);
        for score in scores.iter_mut() {
            *score = exp(*score - max);
        }
        // The zeros of the padding may take part: they change no sum.
        let scale = 1.0 / sum_of(scores, |_, score| score);
        for score in scores {
            *score *= scale;
        }
    }
}

struct ShiftedExp<'a> {
    x: &'a [f32],
    scale: f32,
    y: &'a mut [f32],
}

impl NullaryFnOnce for ShiftedExp<'_> {
    type Output = f32;

    #[inline(always)]
    fn call(self) -> f32 {
        let max = maximum(self.x);
        for (y, &x) in self.y.iter_mut().zip(self.x) {
            *y = exp(self.scale * (x - max));
        }
        max
    }
}

struct Expectation<'a> {
    logits: &'a [f32],
    weights: &'a [f32],
    max: f32,
}

impl NullaryFnOnce for Expectation<'_> {
    type Output = (f32, f32);

    #[inline(always)]
    fn call(self) -> (f32, f32) {
        let total = sum_of(self.weights, |_, weight| weight);
        let weighted = sum_of(self.weights, |i, weight| weight * (self.logits[i] - self.max));
        (total, weighted)
    }
}

#[inline(always)]
fn inverse_root_mean_square(x: &[f32], epsilon: f32) -> f32 {
    let squares = sum_of(x, |_, x| x * x);
    1.0 / (squares / x.len() as f32 + epsilon).sqrt()
}

/// A sum in an order that depends on the length alone: [`LANES`] partial sums, then these in pairs.
#[inline(always)]
fn sum_of(x: &[f32], term: impl Fn(usize, f32) -> f32) -> f32 {
    let (chunks, rest) = x.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for (c, chunk) in chunks.iter().enumerate() {
        for lane in 0..LANES {
            sums[lane] += term(c * LANES + lane, chunk[lane]);
        }
    }
    for (lane, &x) in rest.iter().enumerate() {
        sums[lane] += term(chunks.len() * LANES + lane, x);
    }
    let eight: [f32; 8] = array::from_fn(|i| sums[i] + sums[i + 8]);
    let four: [f32; 4] = array::from_fn(|i| eight[i] + eight[i + 4]);
    (four[0] + four[2]) + (four[1] + four[3])
}

#[inline(always)]
fn maximum(x: &[f32]) -> f32 {
    let (chunks, rest) = x.as_chunks::<LANES>();
    let mut max = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        for lane in 0..LANES {
            max[lane] = if chunk[lane] > max[lane] { chunk[lane] } else { max[lane] };
        }
    }
    rest.iter().chain(&max).fold(f32::NEG_INFINITY, |max, &x| if x > max { x } else { max })
}

/// `eˣ` to about 2 units in the last place, without a branch so that it is vectorised; arguments
/// outside [−87, 88] count as these ends.
#[inline(always)]
fn exp(x: f32) -> f32 {
    // Adding it rounds to a whole number, which is then in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let whole = shifted - ROUND;
    // ln 2 in two parts, so that nothing is lost in the difference.
    let r = whole.mul_add(-0.693_145_75, x);
    let r = whole.mul_add(-1.428_606_8e-6, r);
    let p = 1.987_569_1e-4f32;
    let p = p.mul_add(r, 1.398_199_9e-3);
    let p = p.mul_add(r, 8.333_452e-3);
    let p = p.mul_add(r, 4.166_579_6e-2);
    let p = p.mul_add(r, 1.666_666_5e-1);
    let p = p.mul_add(r, 5.000_000_3e-1);
    let p = p.mul_add(r * r, r) + 1.0;
    p * f32::from_bits(shifted.to_bits().wrapping_add(127) << 23)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    #[test]
    fn exp_is_close_everywhere() {
        for step in -87_000..88_000 {
            let x = step as f32 / 1000.0;
            let exact = f64::from(x).exp();
            let error = (f64::from(exp(x)) / exact - 1.0).abs();
            assert!(error < 3e-7, "exp({x}) is {}, expected {exact}", exp(x));
        }
        assert_eq!(exp(0.0), 1.0);
    }

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
    fn log_sum_and_entropy_of_known_rows() {
        let uniform = log_sum(&[2.0; 100], &mut [0.0; 100]);
        assert!((uniform.log_sum - (2.0 + 100f32.ln())).abs() < 1e-6);
        assert!((uniform.entropy - 100f32.ln()).abs() < 1e-5);
        let sure = log_sum(&[0.0, 80.0, 0.0], &mut [0.0; 3]);
        assert!((sure.log_sum - 80.0).abs() < 1e-5 && sure.entropy.abs() < 1e-6);
    }

    #[test]
    fn the_padding_of_a_softmax_is_exactly_zero() {
        let mut scores = numbers(48, 4);
        scores[35..].fill(f32::NAN);
        softmax(&mut scores, 35);
        assert_eq!(scores[35..], [0.0; 13]);
        assert!((scores.iter().sum::<f32>() - 1.0).abs() < 1e-6);
    }
}
