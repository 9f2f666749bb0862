//! AdamW with decoupled weight decay, clipping by the global norm, and moving averages of the gradient.
//!
//! All state is host lists beside [`Weights`], so that it is saved and restored to the same bits and a
//! step is one pass over memory.

use pulp::NullaryFnOnce;
use serde::{Deserialize, Serialize};
use toehold_rollout::{GradientMoments, LearnError, StepStats};

use crate::Weights;
use crate::host::{arch, sum_of};
use crate::threads::on_threads;

/// Settings of the optimizer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdamW {
    /// Decay of the first moment, in [0, 1).
    pub beta1: f64,
    /// Decay of the second moment, in [0, 1).
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Each step a matrix shrinks by `rate · weight_decay`; norms do not.
    pub weight_decay: f64,
    /// Largest norm of the whole gradient; longer ones are scaled down to it. Infinite: never.
    pub clip: f64,
}

impl Default for AdamW {
    /// 0.9, 0.95, 1e-8, no decay, clip 1. The second moment forgets faster than Adam's 0.999 because
    /// runs are a few hundred steps long.
    fn default() -> AdamW {
        AdamW { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weight_decay: 0.0, clip: 1.0 }
    }
}

/// Decay of the averages that [`GradientMoments`] is made of (PrefixRL's).
const MOMENTS_BETA: f64 = 0.9;

/// What the optimizer remembers: four lists as long as the weights, and how many steps it made.
#[derive(Clone, Debug, PartialEq)]
pub struct OptimizerState {
    pub(crate) steps: u64,
    /// Adam's moments of the clipped gradient.
    pub(crate) first: Vec<Vec<f32>>,
    pub(crate) second: Vec<Vec<f32>>,
    /// Averages of the gradient before clipping, for [`GradientMoments`].
    pub(crate) mean: Vec<Vec<f32>>,
    pub(crate) square: Vec<Vec<f32>>,
}

impl OptimizerState {
    /// No step made yet.
    pub fn new(weights: &Weights) -> OptimizerState {
        let counts: Vec<usize> = weights.tensors.iter().map(|tensor| tensor.values.len()).collect();
        OptimizerState::of_counts(&counts)
    }

    /// Whether it is that of no tensors.
    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    /// Moves it out, and leaves one of no tensors.
    pub(crate) fn take(&mut self) -> OptimizerState {
        std::mem::replace(self, OptimizerState::of_counts(&[]))
    }

    /// As [`new`](Self::new), for tensors of so many numbers each.
    pub(crate) fn of_counts(counts: &[usize]) -> OptimizerState {
        // Fresh lists, not clones: zeros that nobody has written yet take no memory.
        let zeros = || zeros(counts);
        OptimizerState { steps: 0, first: zeros(), second: zeros(), mean: zeros(), square: zeros() }
    }

    /// Applies `gradient` to `weights`, in place and in one pass over memory.
    ///
    /// Where the gradient or the rate is not finite, or so large that its square is not, weights and state
    /// stay as they are. Otherwise every update is at most `rate` times a small number, so it is finite.
    pub fn step(
        &mut self,
        weights: &mut Weights,
        gradient: &[Vec<f32>],
        rate: f64,
        settings: &AdamW,
        threads: usize,
    ) -> Result<StepStats, LearnError> {
        let pieces: Vec<&[f32]> = gradient.iter().flat_map(|list| list.chunks(PIECE)).collect();
        let squares = on_threads(pieces, threads, SHARE, square_sum);
        let norm = squares.into_iter().sum::<f64>().sqrt();
        let largest = f64::from(f32::MAX).sqrt();
        if !(norm < largest && rate.is_finite()) {
            return Err(LearnError::NotFinite { norm });
        }
        let clipped = norm > settings.clip;
        let scale = if clipped { settings.clip / norm } else { 1.0 };
        self.steps += 1;
        let steps = self.steps;
        let corrected = |beta: f64| 1.0 / (1.0 - beta.powf(steps as f64));
        let update = Update {
            scale: scale as f32,
            beta1: settings.beta1 as f32,
            beta2: settings.beta2 as f32,
            rate: (rate * corrected(settings.beta1)) as f32,
            correction2: corrected(settings.beta2) as f32,
            epsilon: settings.epsilon as f32,
        };
        let mut pieces = Vec::new();
        let lists = self.first.iter_mut().zip(&mut self.second).zip(self.mean.iter_mut().zip(&mut self.square));
        for ((tensor, gradient), ((first, second), (mean, square))) in
            weights.tensors.iter_mut().zip(gradient).zip(lists)
        {
            let decay = if tensor.shape.len() > 1 { rate * settings.weight_decay } else { 0.0 };
            let state = first.chunks_mut(PIECE).zip(second.chunks_mut(PIECE));
            let moments = mean.chunks_mut(PIECE).zip(square.chunks_mut(PIECE));
            let values = tensor.values.chunks_mut(PIECE).zip(gradient.chunks(PIECE));
            for (((first, second), (mean, square)), (weights, gradient)) in state.zip(moments).zip(values) {
                pieces.push(Piece { keep: (1.0 - decay) as f32, gradient, first, second, mean, square, weights });
            }
        }
        let moments = on_threads(pieces, threads, SHARE, |piece| update.apply(piece));
        let (norm_squares, deviations): (Vec<f64>, Vec<f64>) = moments.into_iter().unzip();
        let moments = GradientMoments {
            norm: norm_squares.iter().sum::<f64>().sqrt(),
            deviation: deviations.iter().sum::<f64>().sqrt(),
        };
        Ok(StepStats { gradient_norm: norm, clipped, moments: Some(moments) })
    }
}

/// One list of zeros per tensor.
pub(crate) fn zeros(counts: &[usize]) -> Vec<Vec<f32>> {
    counts.iter().map(|&count| vec![0.0; count]).collect()
}

/// Numbers that one thread takes at a time. Sums are made by piece and added in order, so they do not
/// depend on the threads.
const PIECE: usize = 1 << 16;

/// Pieces below which another thread costs more than it does.
const SHARE: usize = 8;

/// One stretch of a parameter and all that belongs to it.
struct Piece<'a> {
    /// What decay leaves of a weight.
    keep: f32,
    gradient: &'a [f32],
    first: &'a mut [f32],
    second: &'a mut [f32],
    mean: &'a mut [f32],
    square: &'a mut [f32],
    weights: &'a mut [f32],
}

/// The numbers of one step, corrected for the start.
struct Update {
    scale: f32,
    beta1: f32,
    beta2: f32,
    rate: f32,
    correction2: f32,
    epsilon: f32,
}

impl Update {
    /// Moves weights and averages on; gives the sums of the gradient moments' squares.
    fn apply(&self, piece: Piece<'_>) -> (f64, f64) {
        arch().dispatch(Apply { update: self, piece })
    }
}

struct Apply<'a> {
    update: &'a Update,
    piece: Piece<'a>,
}

impl NullaryFnOnce for Apply<'_> {
    type Output = (f64, f64);

    #[inline(always)]
    fn call(self) -> (f64, f64) {
        let Update { scale, beta1, beta2, rate, correction2, epsilon } = *self.update;
        let Piece { keep, gradient, first, second, mean, square, weights } = self.piece;
        for (((&g, m), v), w) in gradient.iter().zip(first).zip(second).zip(weights) {
            let g = g * scale;
            *m = beta1 * *m + (1.0 - beta1) * g;
            *v = beta2 * *v + (1.0 - beta2) * g * g;
            let root = (*v * correction2).sqrt() + epsilon;
            *w = *w * keep - rate * (*m / root);
        }
        let (stay, add) = (MOMENTS_BETA as f32, (1.0 - MOMENTS_BETA) as f32);
        for ((&g, m), v) in gradient.iter().zip(mean.iter_mut()).zip(square.iter_mut()) {
            *m = stay * *m + add * g;
            *v = stay * *v + add * g * g;
        }
        let norm = sum_of(mean, |_, m| m * m);
        let deviation = sum_of(mean, |i, m| (square[i] - m * m).max(0.0));
        (f64::from(norm), f64::from(deviation))
    }
}

/// The sum of squares of at most [`PIECE`] numbers, in `f64`: a gradient may be longer than the root of
/// the largest `f32`.
fn square_sum(values: &[f32]) -> f64 {
    arch().dispatch(SquareSum(values))
}

struct SquareSum<'a>(&'a [f32]);

impl NullaryFnOnce for SquareSum<'_> {
    type Output = f64;

    #[inline(always)]
    fn call(self) -> f64 {
        let (chunks, rest) = self.0.as_chunks::<16>();
        let mut sums = [0.0f64; 16];
        for chunk in chunks {
            for (sum, &value) in sums.iter_mut().zip(chunk) {
                *sum += f64::from(value) * f64::from(value);
            }
        }
        rest.iter().map(|&value| f64::from(value) * f64::from(value)).sum::<f64>() + sums.iter().sum::<f64>()
    }
}
