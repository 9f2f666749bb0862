//! The one division by a count: of the whole batch, never of a group or a micro-batch.
//!
//! `loss = Σ scale(trace) · Σ loss(token)`. Dividing here, before the learner splits the batch as
//! its memory allows, is what makes the split invisible in the gradient.
//!
//! Zero cases: silent traces are counted (they were sampled, and leaving them out would raise the
//! step's size whenever few groups speak); an empty completion counts as a trace without tokens and
//! is given the scale 0 by the per-trace mean.

use crate::recipe::Aggregation;

/// The factor of each trace's coefficients, given the completion lengths of the whole batch.
/// `max_tokens` is the limit of a completion, which only the constant asks for.
///
/// ```
/// use toehold_training::{objective::aggregate::scales, recipe::Aggregation};
/// // 1 + 3 tokens; then 2 traces, each over its own tokens; then 2 traces of at most 10 tokens.
/// assert_eq!(scales(Aggregation::TokenMean, &[1, 3], 10), [0.25, 0.25]);
/// assert_eq!(scales(Aggregation::TraceMean, &[1, 4], 10), [0.5, 0.125]);
/// assert_eq!(scales(Aggregation::Constant, &[1, 3], 10), [0.05, 0.05]);
/// ```
pub fn scales(aggregation: Aggregation, lengths: &[usize], max_tokens: u32) -> Vec<f64> {
    let traces = lengths.len() as f64;
    let tokens = lengths.iter().sum::<usize>().max(1) as f64;
    let scale = |&length: &usize| match aggregation {
        Aggregation::TokenMean => 1.0 / tokens,
        Aggregation::TraceMean if length == 0 => 0.0,
        Aggregation::TraceMean => 1.0 / (traces * length as f64),
        Aggregation::Constant => 1.0 / (traces * f64::from(max_tokens.max(1))),
    };
    lengths.iter().map(scale).collect()
}

#[cfg(test)]
mod tests {
    use super::scales;
    use crate::recipe::Aggregation::{Constant, TokenMean, TraceMean};

    #[test]
    fn a_mean_of_ones_is_one() {
        let lengths = [3, 1, 0, 8];
        let total = |aggregation| {
            let scales = scales(aggregation, &lengths, 8);
            scales.iter().zip(&lengths).map(|(scale, &length)| scale * length as f64).sum::<f64>()
        };
        assert!((total(TokenMean) - 1.0).abs() < 1e-12);
        // Three of the four traces have tokens: verl leaves the fourth out of the count, we keep it.
        assert!((total(TraceMean) - 0.75).abs() < 1e-12);
        assert!((total(Constant) - 12.0 / 32.0).abs() < 1e-12);
    }

    #[test]
    fn nothing_gives_nothing() {
        for aggregation in [TokenMean, TraceMean, Constant] {
            assert_eq!(scales(aggregation, &[], 8), Vec::<f64>::new());
            assert!(scales(aggregation, &[0], 0).iter().all(|scale| scale.is_finite()));
        }
    }
}
