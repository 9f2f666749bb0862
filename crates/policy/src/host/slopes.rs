//! The way back through the element-wise loops of [`super::kernels`].
//!
//! `d` of a name is the slope of the loss by it. Weights' slopes are added to, everything else is
//! written.

use pulp::NullaryFnOnce;

use crate::host::kernels::{add, arch, exp, inverse_root_mean_square, sum_of};

/// Back through `rms_norm`: adds to `d_x` and `d_weight`.
pub fn rms_norm(x: &[f32], weight: &[f32], epsilon: f32, d_y: &[f32], d_x: &mut [f32], d_weight: &mut [f32]) {
    arch().dispatch(RmsNorm { x, weight, epsilon, d_y, d_x, d_weight });
}

/// Back through `norm_and_rotate` for heads `x` before it: overwrites the slopes `d` of what came out
/// with those of what went in.
pub fn norm_and_rotate(
    x: &[f32],
    weight: &[f32],
    epsilon: f32,
    (cos, sin): (&[f32], &[f32]),
    d: &mut [f32],
    d_weight: &mut [f32],
) {
    arch().dispatch(NormAndRotate { x, weight, epsilon, cos, sin, d, d_weight });
}

/// Back through `rotate`: overwrites the slopes `d` of what came out with those of what went in.
pub fn rotate(scale: f32, (cos, sin): (&[f32], &[f32]), d: &mut [f32]) {
    arch().dispatch(Rotate { scale, cos, sin, d });
}

/// Back through `add_bias`, for biases one behind the other: adds each column of `d_y` to its own.
pub fn add_bias(d_y: &[f32], d_biases: &mut [&mut [f32]]) {
    arch().dispatch(AddBias { d_y, d_biases });
}

/// Back through `gate`: `d_x` is laid out as `x`. Turns `d_y` into `y`, which was not kept.
pub fn gate(x: &[f32], width: usize, d_y: &mut [f32], d_x: &mut [f32]) {
    arch().dispatch(Gate { x, width, d_y, d_x });
}

/// Back through a softmax over blocks, for one block with rows `stride` apart: makes `scores` the weights
/// `p = exp(score − log_sum)` of the first `seen(row)` columns, 0 after them, and `d`, the slopes of
/// the weights, those of the scores: `p · (d − along)`.
pub fn tree_softmax(
    scores: &mut [f32],
    d: &mut [f32],
    stride: usize,
    seen: impl Fn(usize) -> usize,
    log_sums: &[f32],
    along: &[f32],
) {
    arch().dispatch(TreeSoftmax { scores, d, stride, seen, log_sums, along });
}

/// `Σ out · d_out` of each row, of rows of `d_out` that are `padded` wide, zeros at their end, and rows of `out`
/// that are `stride` apart: what the slopes of a softmax's scores have in common.
pub(crate) fn along(out: &[f32], stride: usize, d_out: &[f32], padded: usize, along: &mut Vec<f32>) {
    along.resize(d_out.len() / padded, 0.0);
    arch().dispatch(Along { out, stride, d_out, padded, along });
}

struct Along<'a> {
    out: &'a [f32],
    stride: usize,
    d_out: &'a [f32],
    padded: usize,
    along: &'a mut [f32],
}

impl NullaryFnOnce for Along<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let rows = self.out.chunks(self.stride).zip(self.d_out.chunks_exact(self.padded));
        for ((out, d_out), along) in rows.zip(self.along) {
            // Past the head's own numbers the slopes are zeros.
            let width = self.padded.min(out.len());
            *along = sum_of(&out[..width], |i, out| out * d_out[i]);
        }
    }
}

struct RmsNorm<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    epsilon: f32,
    d_y: &'a [f32],
    d_x: &'a mut [f32],
    d_weight: &'a mut [f32],
}

impl NullaryFnOnce for RmsNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let width = self.weight.len();
        let rows = self.x.chunks_exact(width).zip(self.d_y.chunks_exact(width));
        for ((x, d_y), d_x) in rows.zip(self.d_x.chunks_exact_mut(width)) {
            let scale = inverse_root_mean_square(x, self.epsilon);
            let along = sum_of(x, |i, x| x * d_y[i] * self.weight[i]);
            let pull = along * scale * scale * scale / width as f32;
            let weights = self.weight.iter().zip(self.d_weight.iter_mut());
            for (((d_x, &x), &d_y), (&weight, d_weight)) in d_x.iter_mut().zip(x).zip(d_y).zip(weights) {
                *d_x += d_y * weight * scale - x * pull;
                *d_weight += d_y * x * scale;
            }
        }
    }
}

struct NormAndRotate<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    epsilon: f32,
    cos: &'a [f32],
    sin: &'a [f32],
    d: &'a mut [f32],
    d_weight: &'a mut [f32],
}

impl NullaryFnOnce for NormAndRotate<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let half = self.cos.len();
        for (x, d) in self.x.chunks_exact(2 * half).zip(self.d.chunks_exact_mut(2 * half)) {
            let (first, second) = d.split_at_mut(half);
            for (((d1, d2), &cos), &sin) in first.iter_mut().zip(second).zip(self.cos).zip(self.sin) {
                (*d1, *d2) = (*d1 * cos + *d2 * sin, *d2 * cos - *d1 * sin);
            }
            let scale = inverse_root_mean_square(x, self.epsilon);
            let slopes: &[f32] = d;
            let along = sum_of(x, |i, x| x * slopes[i] * self.weight[i]);
            let pull = along * scale * scale * scale / x.len() as f32;
            let weights = self.weight.iter().zip(self.d_weight.iter_mut());
            for ((d, &x), (&weight, d_weight)) in d.iter_mut().zip(x).zip(weights) {
                *d_weight += *d * x * scale;
                *d = *d * weight * scale - x * pull;
            }
        }
    }
}

struct Rotate<'a> {
    scale: f32,
    cos: &'a [f32],
    sin: &'a [f32],
    d: &'a mut [f32],
}

impl NullaryFnOnce for Rotate<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let half = self.cos.len();
        for head in self.d.chunks_exact_mut(2 * half) {
            let (first, second) = head.split_at_mut(half);
            for (((d1, d2), &cos), &sin) in first.iter_mut().zip(second).zip(self.cos).zip(self.sin) {
                let (a, b) = (*d1 * self.scale, *d2 * self.scale);
                (*d1, *d2) = (a * cos + b * sin, b * cos - a * sin);
            }
        }
    }
}

struct AddBias<'a, 'b> {
    d_y: &'a [f32],
    d_biases: &'a mut [&'b mut [f32]],
}

impl NullaryFnOnce for AddBias<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let width: usize = self.d_biases.iter().map(|bias| bias.len()).sum();
        for mut d_y in self.d_y.chunks_exact(width) {
            for d_bias in self.d_biases.iter_mut() {
                let (own, rest) = d_y.split_at(d_bias.len());
                add(d_bias, own);
                d_y = rest;
            }
        }
    }
}

struct Gate<'a> {
    x: &'a [f32],
    width: usize,
    d_y: &'a mut [f32],
    d_x: &'a mut [f32],
}

impl NullaryFnOnce for Gate<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let width = self.width;
        let rows = self.x.chunks_exact(2 * width).zip(self.d_y.chunks_exact_mut(width));
        for ((x, d_y), d_x) in rows.zip(self.d_x.chunks_exact_mut(2 * width)) {
            let (gate, up) = x.split_at(width);
            let (d_gate, d_up) = d_x.split_at_mut(width);
            let slopes = d_gate.iter_mut().zip(d_up);
            for (((&gate, &up), d_y), (d_gate, d_up)) in gate.iter().zip(up).zip(d_y).zip(slopes) {
                let open = 1.0 / (1.0 + exp(-gate));
                *d_gate = *d_y * up * open * (1.0 + gate * (1.0 - open));
                *d_up = *d_y * gate * open;
                *d_y = gate * open * up;
            }
        }
    }
}

struct TreeSoftmax<'a, F> {
    scores: &'a mut [f32],
    d: &'a mut [f32],
    stride: usize,
    seen: F,
    log_sums: &'a [f32],
    along: &'a [f32],
}

impl<F: Fn(usize) -> usize> NullaryFnOnce for TreeSoftmax<'_, F> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let rows = self.scores.chunks_exact_mut(self.stride).zip(self.d.chunks_exact_mut(self.stride));
        let known = self.log_sums.iter().zip(self.along);
        for (row, ((scores, d), (&log_sum, &along))) in rows.zip(known).enumerate() {
            let seen = (self.seen)(row);
            scores[seen..].fill(0.0);
            d[seen..].fill(0.0);
            for (score, d) in scores[..seen].iter_mut().zip(&mut d[..seen]) {
                let p = exp(*score - log_sum);
                *score = p;
                *d = p * (*d - along);
            }
        }
    }
}
