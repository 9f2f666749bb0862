//! The loops of the host engine, compiled for each instruction set and chosen at run time.
//!
//! The invariant that all of them keep: **what comes out for one row depends on that row alone**, never
//! on how many rows there are or where it stands among them. Each output is one chain of fused
//! multiply-adds, or a fixed number of them, in a fixed order, so a sequence gets the same bits alone and in any batch.

use pulp::{Arch, NullaryFnOnce};

/// Partial sums that a reduction keeps, whatever the machine's vectors are.
const LANES: usize = 16;

/// Maximum, logarithm of the sum and entropy of one row of logits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogSum {
    /// `ln Σ exp(logit)`.
    pub log_sum: f32,
    /// `−Σ p ln p`, in nats.
    pub entropy: f32,
}

/// Root-mean-square normalisation of every row of `x`, times `weight`, into `y`.
pub fn rms_norm(x: &[f32], weight: &[f32], epsilon: f32, y: &mut [f32]) {
    arch().dispatch(RmsNorm { x, weight, epsilon, y });
}

/// Normalises each head of `x: [heads, width]` and turns its pairs by the angles of one position.
pub fn norm_and_rotate(x: &mut [f32], weight: &[f32], epsilon: f32, cos: &[f32], sin: &[f32]) {
    arch().dispatch(NormAndRotate { x, weight, epsilon, cos, sin });
}

/// Turns the pairs of each head of `x: [heads, width]` by the angles of one position, and multiplies by
/// `scale`.
pub fn rotate(x: &mut [f32], scale: f32, cos: &[f32], sin: &[f32]) {
    arch().dispatch(Rotate { x, scale, cos, sin });
}

/// Adds `bias` to every row of `y`.
pub fn add_bias(bias: &[f32], y: &mut [f32]) {
    arch().dispatch(AddBias { bias, y });
}

/// `y = silu(gate) · up` for rows `x: [rows, gate | up]`, each half as wide as a row of `y`.
pub fn gate(x: &[f32], width: usize, y: &mut [f32]) {
    arch().dispatch(Gate { x, width, y });
}

/// Makes a block of scores, rows `stride` apart, into weights of a softmax that is not finished: of row
/// `r` the first `seen(r)` scores count, the others become 0.
///
/// `largest` and `total` are each row's greatest score and sum of weights over the blocks so far,
/// `sums: [rows, width]` what it has summed of values; all three are brought to the new greatest score.
pub fn merge_softmax(
    scores: &mut [f32],
    stride: usize,
    seen: impl Fn(usize) -> usize,
    largest: &mut [f32],
    total: &mut [f32],
    sums: &mut [f32],
) {
    arch().dispatch(MergeSoftmax { scores, stride, seen, largest, total, sums });
}

/// Writes `exp(scale · (x − max x))` and returns the maximum; all of `x` must be finite.
pub fn shifted_exp(x: &[f32], scale: f32, y: &mut [f32]) -> f32 {
    arch().dispatch(ShiftedExp { x, scale, y })
}

/// Log-sum and entropy of one row of logits; `scratch` is as long.
pub fn log_sum(logits: &[f32], scratch: &mut [f32]) -> LogSum {
    let max = shifted_exp(logits, 1.0, scratch);
    let (total, weighted) = arch().dispatch(Expectation { logits, weights: scratch, max });
    let log_total = total.ln();
    LogSum { log_sum: max + log_total, entropy: log_total - weighted / total }
}

/// Turns logits into `scale · exp(logit − log_sum)`.
pub fn probabilities(logits: &mut [f32], log_sum: f32, scale: f32) {
    arch().dispatch(Probabilities { logits, log_sum, scale });
}

/// The instruction set that the loops run on: the best that this machine has.
#[cfg(not(test))]
#[inline]
pub(crate) fn arch() -> Arch {
    Arch::new()
}

/// In tests the one that [`on_every_machine`](crate::host::kernel_tests::on_every_machine) has chosen.
#[cfg(test)]
pub(crate) fn arch() -> Arch {
    crate::host::kernel_tests::chosen().unwrap_or_default()
}

/// Adds `values` to `sum`, number by number.
#[inline(always)]
pub(crate) fn add(sum: &mut [f32], values: &[f32]) {
    for (sum, value) in sum.iter_mut().zip(values) {
        *sum += value;
    }
}

/// `length` rounded up so that whole vectors of any machine fit.
pub(crate) fn vector_pad(length: usize) -> usize {
    length.next_multiple_of(LANES)
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

struct Rotate<'a> {
    x: &'a mut [f32],
    scale: f32,
    cos: &'a [f32],
    sin: &'a [f32],
}

impl NullaryFnOnce for Rotate<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let half = self.cos.len();
        for head in self.x.chunks_exact_mut(2 * half) {
            let (first, second) = head.split_at_mut(half);
            for (((x1, x2), &cos), &sin) in first.iter_mut().zip(second).zip(self.cos).zip(self.sin) {
                let (a, b) = (*x1 * self.scale, *x2 * self.scale);
                *x1 = a.mul_add(cos, -(b * sin));
                *x2 = b.mul_add(cos, a * sin);
            }
        }
    }
}

struct AddBias<'a> {
    bias: &'a [f32],
    y: &'a mut [f32],
}

impl NullaryFnOnce for AddBias<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for y in self.y.chunks_exact_mut(self.bias.len()) {
            add(y, self.bias);
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

struct MergeSoftmax<'a, F> {
    scores: &'a mut [f32],
    stride: usize,
    seen: F,
    largest: &'a mut [f32],
    total: &'a mut [f32],
    sums: &'a mut [f32],
}

impl<F: Fn(usize) -> usize> NullaryFnOnce for MergeSoftmax<'_, F> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let width = self.sums.len() / self.largest.len();
        let rows = self.scores.chunks_exact_mut(self.stride).zip(self.sums.chunks_exact_mut(width));
        let states = self.largest.iter_mut().zip(self.total.iter_mut());
        for (row, ((scores, sums), (largest, total))) in rows.zip(states).enumerate() {
            let (scores, rest) = scores.split_at_mut((self.seen)(row));
            rest.fill(0.0);
            let max = maximum(scores);
            if max > *largest {
                // Nothing was summed before the first block: what `exp` makes of −∞ there is no matter.
                let factor = exp(*largest - max);
                *largest = max;
                *total *= factor;
                for sum in sums {
                    *sum *= factor;
                }
            }
            for score in scores.iter_mut() {
                *score = exp(*score - *largest);
            }
            *total += sum_of(scores, |_, score| score);
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

struct Probabilities<'a> {
    logits: &'a mut [f32],
    log_sum: f32,
    scale: f32,
}

impl NullaryFnOnce for Probabilities<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for logit in self.logits {
            *logit = self.scale * exp(*logit - self.log_sum);
        }
    }
}

#[inline(always)]
pub(super) fn inverse_root_mean_square(x: &[f32], epsilon: f32) -> f32 {
    let squares = sum_of(x, |_, x| x * x);
    1.0 / (squares / x.len() as f32 + epsilon).sqrt()
}

/// A sum in an order that depends on the length alone: [`LANES`] partial sums, then these in pairs.
#[inline(always)]
pub(crate) fn sum_of(x: &[f32], term: impl Fn(usize, f32) -> f32) -> f32 {
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
    for half in [8, 4, 2, 1] {
        for lane in 0..half {
            sums[lane] += sums[lane + half];
        }
    }
    sums[0]
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
    for (max, &x) in max.iter_mut().zip(rest) {
        *max = if x > *max { x } else { *max };
    }
    let mut largest = f32::NEG_INFINITY;
    for x in max {
        largest = if x > largest { x } else { largest };
    }
    largest
}

/// `eˣ` to about 2 units in the last place, without a branch so that it is vectorised; arguments
/// outside [−87, 88] count as these ends.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
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
pub(crate) mod tests {
    use super::*;

    pub(crate) fn numbers(count: usize, seed: u32) -> Vec<f32> {
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
    fn log_sum_and_entropy_of_known_rows() {
        let uniform = log_sum(&[2.0; 100], &mut [0.0; 100]);
        assert!((uniform.log_sum - (2.0 + 100f32.ln())).abs() < 1e-6);
        assert!((uniform.entropy - 100f32.ln()).abs() < 1e-5);
        let sure = log_sum(&[0.0, 80.0, 0.0], &mut [0.0; 3]);
        assert!((sure.log_sum - 80.0).abs() < 1e-5 && sure.entropy.abs() < 1e-6);
    }
}
