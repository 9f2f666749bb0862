//! Stopping a completion whose tokens were unlikely for a while: what DeepConf's online mode asks of a sampler.
//!
//! A completion stops with the first token at which the mean of the last `window` log-probabilities falls below
//! a bar. A completion that has not so many tokens is never stopped, and neither is one that ends by itself with
//! that token.
//!
//! Source: arXiv 2508.15260 and its code. *Departure*: the paper's confidence of a token is minus the mean
//! log-probability of the 20 likeliest tokens at its place; here it is the log-probability of the drawn token,
//! which is what a completion keeps, so that a bar can be taken from completions that are there.
//!
//! Zero case: nothing stops below minus infinity.

use serde::{Deserialize, Serialize};

/// When a completion is stopped.
///
/// ```
/// use toehold_rollout::sampler::ConfidenceStop;
/// let stop = ConfidenceStop { window: 2, below: -1.5 };
/// // The mean of the last two is −1, −2 and −6; with one token there is no window.
/// assert_eq!([1, 2, 3, 4].map(|n| stop.is_due(&[-1.0, -1.0, -3.0, -9.0][..n])), [false, false, true, true]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfidenceStop {
    /// Tokens that the mean is over, at least 1.
    pub window: u32,
    /// The bar, in nats per token; a mean that equals it goes on.
    pub below: f64,
}

impl ConfidenceStop {
    /// Whether the numbers make sense.
    ///
    /// # Errors
    /// What does not, in words.
    pub fn check(&self) -> Result<(), String> {
        match self {
            ConfidenceStop { window: 0, .. } => Err("the window of confidence is 0, expected at least 1".to_owned()),
            ConfidenceStop { below, .. } if below.is_nan() => {
                Err("the bar of confidence is NaN, expected a number".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// Whether a completion stops with the last of these tokens, given by their log-probabilities.
    pub fn is_due(&self, behavior: &[f32]) -> bool {
        let begin = behavior.len().checked_sub(self.window.max(1) as usize);
        begin.is_some_and(|begin| mean_confidence(&behavior[begin..]) < self.below)
    }
}

/// The mean of log-probabilities, added up in their order: whoever looks for where a completion stopped has to
/// find the same bits as the sampler. NaN without any.
pub fn mean_confidence(tokens: &[f32]) -> f64 {
    tokens.iter().map(|&token| f64::from(token)).sum::<f64>() / tokens.len() as f64
}

#[cfg(test)]
mod tests {
    use super::ConfidenceStop;

    #[test]
    fn it_stops_below_and_not_at_the_bar() {
        let due = |window, below, behavior: &[f32]| ConfidenceStop { window, below }.is_due(behavior);
        assert!(!due(1, -2.0, &[-2.0]));
        assert!(due(1, -2.0, &[-2.1]));
        assert!(!due(3, 0.0, &[-2.1, -9.0]));
        assert!(due(3, 0.0, &[-2.1, -9.0, 0.0]));
        // Only the last window counts.
        assert!(!due(2, -1.0, &[-90.0, -1.0, -1.0]));
        assert!(!due(1, f64::NEG_INFINITY, &[f32::MIN]));
        assert!(!due(1, 0.0, &[]));
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        assert!(ConfidenceStop { window: 0, below: -1.0 }.check().is_err());
        assert!(ConfidenceStop { window: 1, below: f64::NAN }.check().is_err());
        assert_eq!(ConfidenceStop { window: 1, below: f64::NEG_INFINITY }.check(), Ok(()));
    }
}
