//! From logits to log-probabilities of completion tokens, and back to slopes of the logits.
//!
//! `∂loss/∂logits = Σ coefficient · (one-hot − p)` over the tokens that a row predicts: no softmax over
//! the vocabulary is ever kept for the way back, and no objective is ever differentiated. Logits come in
//! pieces of some rows, so memory does not grow with tokens × vocabulary.

use std::ops::Range;

use toehold_rollout::TokenId;

use crate::host::{log_sum, probabilities};

/// The rows whose logits are wanted, and the tokens that they predict.
///
/// Traces that share a row share its logits; each token of each completion is one pick.
#[derive(Clone, Debug, Default)]
pub struct Outputs {
    /// Rows of the batch, ascending, each once.
    pub(crate) rows: Vec<usize>,
    /// Sorted by row; the number is the pick's.
    picks: Vec<(usize, TokenId)>,
    /// Where each row's picks begin, and the end of the last.
    starts: Vec<usize>,
}

/// What is known of each pick, in the order in which they were given.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PickScores {
    /// `ln π(token)`.
    pub current: Vec<f32>,
    /// Entropy of the distribution it was drawn from, in nats.
    pub entropy: Vec<f32>,
}

impl Outputs {
    /// `picks`: a row and the token after it, each.
    pub fn new(picks: &[(usize, TokenId)]) -> Outputs {
        let mut order: Vec<usize> = (0..picks.len()).collect();
        order.sort_by_key(|&pick| (picks[pick].0, pick));
        let mut outputs = Outputs::default();
        for (place, &pick) in order.iter().enumerate() {
            let (row, token) = picks[pick];
            if outputs.rows.last() != Some(&row) {
                outputs.rows.push(row);
                outputs.starts.push(place);
            }
            outputs.picks.push((pick, token));
        }
        outputs.starts.push(picks.len());
        outputs
    }

    /// Scores that are yet to be [`read`](Self::read).
    pub fn unread(&self) -> PickScores {
        PickScores { current: vec![0.0; self.picks.len()], entropy: vec![0.0; self.picks.len()] }
    }

    /// Reads the logits of the outputs `range`: `[range, vocabulary]`. `log_sums` gets one number per
    /// output of the range.
    pub fn read(&self, range: Range<usize>, logits: &[f32], log_sums: &mut [f32], scores: &mut PickScores) {
        let vocabulary = logits.len() / range.len().max(1);
        let mut scratch = vec![0.0; vocabulary];
        for ((output, logits), sum) in range.zip(logits.chunks_exact(vocabulary.max(1))).zip(log_sums) {
            let known = log_sum(logits, &mut scratch);
            *sum = known.log_sum;
            for &(pick, token) in self.picks_of(output) {
                scores.current[pick] = logits[token as usize] - known.log_sum;
                scores.entropy[pick] = known.entropy;
            }
        }
    }

    /// Turns the logits of the outputs `range` into their slopes; `coefficients` stand by pick.
    pub fn slopes(&self, range: Range<usize>, logits: &mut [f32], log_sums: &[f32], coefficients: &[f32]) {
        let vocabulary = logits.len() / range.len().max(1);
        for ((output, logits), &sum) in range.zip(logits.chunks_exact_mut(vocabulary.max(1))).zip(log_sums) {
            let picks = self.picks_of(output);
            let total: f32 = picks.iter().map(|&(pick, _)| coefficients[pick]).sum();
            probabilities(logits, sum, -total);
            for &(pick, token) in picks {
                logits[token as usize] += coefficients[pick];
            }
        }
    }

    fn picks_of(&self, output: usize) -> &[(usize, TokenId)] {
        &self.picks[self.starts[output]..self.starts[output + 1]]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_picks_of_one_row_by_hand() {
        // Row 4 predicts tokens 0 (twice) and 1 with probabilities 1/4 and 3/4.
        let outputs = Outputs::new(&[(4, 0), (2, 1), (4, 1), (4, 0)]);
        assert_eq!(outputs.rows, [2, 4]);
        let mut logits = [0.0, 0.0, 0.0, 3f32.ln()];
        let (mut scores, mut log_sums) = (outputs.unread(), [0.0; 2]);
        outputs.read(0..2, &logits, &mut log_sums, &mut scores);
        for (found, expected) in scores.current.iter().zip([0.25f32, 0.5, 0.75, 0.25]) {
            assert!((found.exp() - expected).abs() < 1e-6, "{found}");
        }
        assert!((scores.entropy[1] - 2f32.ln()).abs() < 1e-6);
        outputs.slopes(0..2, &mut logits, &log_sums, &[1.0, 2.0, -0.5, 3.0]);
        // 2 (one-hot(1) − ½); then (1 + 3) one-hot(0) − ½ one-hot(1) − 3.5 p.
        for (found, expected) in logits.iter().zip([-1.0, 1.0, 4.0 - 3.5 * 0.25, -0.5 - 3.5 * 0.75]) {
            assert!((found - expected).abs() < 1e-6, "{found}, expected {expected}");
        }
    }
}
