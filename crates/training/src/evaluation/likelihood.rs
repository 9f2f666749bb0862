//! How likely given traces are under a policy, per token.
//!
//! ```text
//! of a trace   = Σ log π(token) / tokens
//! likelihood   = mean over the traces
//! ```
//!
//! PrefixRL (arXiv 2601.18795, figure 15) follows it through training for the trace that was shown in context:
//! where success rises and the trace stays as unlikely as it was, the policy has not learnt it by heart. Its
//! figure shows the negative of this number for one trace.
//!
//! Every trace counts the same, whatever its length, so that the interval is over traces. All tokens of a trace
//! count, the answer's too, at temperature 1 and after the prompt alone.
//!
//! Zero cases: a trace without tokens is left out; without any other there is none.

use serde::{Deserialize, Serialize};

use super::{Interval, bootstrap_mean};

/// The likelihood of some traces under one policy.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Likelihood {
    /// Traces with tokens.
    pub traces: usize,
    /// All their tokens.
    pub tokens: usize,
    /// Mean log-probability of a token, in nats.
    pub per_token: f64,
    /// Its 95 % interval over traces.
    pub interval: Interval,
}

/// The likelihood of traces, given the log-probability of each of their tokens; `seed` is the interval's.
///
/// ```
/// use toehold_training::evaluation::likelihood::likelihood;
/// // −1 and −2 a token: the second trace's one token weighs as much as the two of the first.
/// let found = likelihood(&[&[-0.5, -1.5], &[-2.0]], 0).unwrap();
/// assert_eq!((found.per_token, found.traces, found.tokens), (-1.5, 2, 3));
/// assert_eq!(likelihood(&[&[]], 0), None);
/// ```
pub fn likelihood(scores: &[&[f32]], seed: u64) -> Option<Likelihood> {
    let scored: Vec<&[f32]> = scores.iter().copied().filter(|scores| !scores.is_empty()).collect();
    let mean = |scores: &&[f32]| scores.iter().map(|&score| f64::from(score)).sum::<f64>() / scores.len() as f64;
    let means: Vec<f64> = scored.iter().map(mean).collect();
    let tokens = scored.iter().map(|scores| scores.len()).sum();
    let found = bootstrap_mean(&means, seed);
    found.map(|(per_token, interval)| Likelihood { traces: means.len(), tokens, per_token, interval })
}

#[cfg(test)]
mod tests {
    use super::likelihood;

    #[test]
    fn traces_without_tokens_are_left_out() {
        let found = likelihood(&[&[], &[-3.0, -1.0], &[]], 1).unwrap();
        assert_eq!((found.traces, found.tokens, found.per_token), (1, 2, -2.0));
        // One trace has no spread to show.
        assert_eq!((found.interval.low, found.interval.high), (-2.0, -2.0));
        assert_eq!(likelihood(&[], 1), None);
    }

    #[test]
    fn a_trace_that_is_impossible_is_infinitely_unlikely() {
        let found = likelihood(&[&[f32::NEG_INFINITY, -1.0]], 1).unwrap();
        assert_eq!(found.per_token, f64::NEG_INFINITY);
    }
}
