//! What a learner is asked: log-probabilities of completion tokens, and to move along coefficients on
//! them.
//!
//! Every objective touches the parameters only through the log-probabilities of sampled tokens, so
//! its whole effect is one number per completion token, `∂loss/∂log π`.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{PolicyVersion, Trace};

/// One number per completion token, never per prompt or prefix token.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TokenScores {
    /// Log-probability of each completion token under the current weights at temperature 1, in nats.
    pub current: Vec<f32>,
    /// Entropy of the distribution each token was drawn from, in nats, where the policy can tell.
    pub entropy: Option<Vec<f32>>,
}

/// Gives the log-probabilities of tokens that are already there.
pub trait Scorer {
    /// Scores each trace's completion under the current weights; in the order of `traces`.
    ///
    /// # Errors
    /// A trace that the policy cannot read (too long, an unknown token) or the policy's own trouble.
    fn score(&mut self, traces: &[&Trace]) -> Result<Vec<TokenScores>, ScoreError>;
}

/// A policy that learns.
pub trait Learner: Scorer {
    /// Adds the gradient of `Σ coefficient · log π(token)`, which [`step`](Self::step) descends.
    ///
    /// Each trace's coefficients are asked for once its scores are known, so one forward pass serves
    /// both; the closure is called once per trace with its index and must give one number per
    /// completion token. All zeros is allowed and skips the trace's backward pass.
    /// No division happens here: the coefficients carry it.
    ///
    /// # Errors
    /// As [`Scorer::score`], and when the closure gives a wrong number of coefficients.
    fn accumulate(
        &mut self,
        traces: &[&Trace],
        coefficients: &mut dyn FnMut(usize, &TokenScores) -> Vec<f32>,
    ) -> Result<(), LearnError>;

    /// Applies the accumulated gradient at the learning rate `rate` and clears it.
    ///
    /// # Errors
    /// When the gradient or an updated weight is not finite; the weights are then unchanged.
    fn step(&mut self, rate: f64) -> Result<StepStats, LearnError>;

    /// Makes the current weights the ones the sampler uses, and names them.
    ///
    /// # Errors
    /// When the weights cannot be handed over.
    fn publish(&mut self) -> Result<PolicyVersion, LearnError>;

    /// Writes weights and optimizer state into the folder `dir`, which exists.
    ///
    /// # Errors
    /// When a file cannot be written.
    fn save(&self, dir: &Path) -> Result<(), LearnError>;

    /// Reads back what [`save`](Self::save) wrote, to the same bits.
    ///
    /// # Errors
    /// When a file is missing, truncated or of another shape; the learner is then unchanged.
    fn restore(&mut self, dir: &Path) -> Result<(), LearnError>;

    /// Parameters that count for FLOPs (`2 N` per token sampled, `6 N` per token trained).
    fn parameter_count(&self) -> u64;
}

/// What one optimizer step did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepStats {
    /// Euclidean norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// Whether it was scaled down to the clip.
    pub clipped: bool,
    /// Moving averages of the gradient, where the learner keeps them.
    pub moments: Option<GradientMoments>,
}

/// Norm and deviation of the gradient by moving averages (PrefixRL, 12.7 to 12.10):
/// `m ← β m + (1 − β) g`, `v ← β v + (1 − β) g²`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GradientMoments {
    /// `‖m‖₂`.
    pub norm: f64,
    /// `√Σ max(0, v − m²)`.
    pub deviation: f64,
}

/// Why scoring failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScoreError {
    /// A trace is longer than the policy's positions.
    #[error("trace {index} has {tokens} tokens, but the policy has {limit} positions")]
    TooLong {
        /// Which trace.
        index: usize,
        /// Prompt, prefix and completion together.
        tokens: usize,
        /// Positions that the policy has.
        limit: usize,
    },
    /// A token that the policy does not have, or an empty prompt.
    #[error("trace {index}: {reason}")]
    BadTrace {
        /// Which trace.
        index: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// The implementation's own trouble.
    #[error("scoring failed: {0}")]
    Other(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Why learning failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LearnError {
    /// The forward pass failed.
    #[error(transparent)]
    Score(#[from] ScoreError),
    /// The closure's answer does not fit the trace.
    #[error("trace {index} has {tokens} completion tokens, but {coefficients} coefficients were given")]
    CoefficientCount {
        /// Which trace.
        index: usize,
        /// Its completion tokens.
        tokens: usize,
        /// What was given.
        coefficients: usize,
    },
    /// The gradient is NaN or infinite; the weights are unchanged.
    #[error("the gradient is not finite (norm {norm})\nhint: lower the learning rate, or look for a non-finite reward")]
    NotFinite {
        /// What its norm came out as.
        norm: f64,
    },
    /// A checkpoint could not be written or read.
    #[error("checkpoint in {dir}: {reason}")]
    Checkpoint {
        /// The folder.
        dir: std::path::PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The implementation's own trouble.
    #[error("learning failed: {0}")]
    Other(#[source] Box<dyn std::error::Error + Send + Sync>),
}
