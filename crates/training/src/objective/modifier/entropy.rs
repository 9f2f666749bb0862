//! A bonus for entropy, estimated on the sampled tokens.
//!
//! ```text
//! loss(token) = … − weight · H,   H the entropy of the policy at the token
//! coefficient = … + weight · (log π(token) + H), both held constant
//! ```
//!
//! The gradient of `H` goes through every token of the vocabulary, not only through the sampled one, so it
//! is not a coefficient. But `∇H = −E[(log π(a) + b) ∇ log π(a)]` for a token `a` drawn from the policy and
//! any constant `b`, so the sampled token gives an estimate; `b = H` makes the factor's mean zero, and a
//! peaked policy's estimate small. This is the score-function estimate: right on average, noisier than
//! what libraries do that differentiate `H` itself.
//!
//! Zero cases: traces of advantage zero get the bonus too, so none may be skipped: every trace is handed
//! to the learner, silent groups included. Where the policy does not tell its entropy, `b = 0`: still right
//! on average, and noisier. A certain token has `log π = H = 0` and no coefficient.
//!
//! Departures: as in verl and TRL, the states are held fixed: how a token changes the entropy of later
//! ones is left out. Right on average only where tokens are drawn from the policy itself: at temperature 1,
//! without top-k and top-p. The bonus is divided like everything else (`[train] aggregation`).

use serde::{Deserialize, Serialize};

use super::Fault;

/// A bonus for entropy.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entropy {
    /// Weight of a nat; below 0 it is a penalty. LUFFY's script: 0.001.
    pub weight: f64,
}

impl Entropy {
    pub(super) fn fault(&self) -> Option<Fault> {
        (!self.weight.is_finite()).then_some(("entropy.weight", self.weight, "a finite number"))
    }

    /// What the bonus adds to each token's coefficient.
    ///
    /// ```
    /// use toehold_training::objective::modifier::Entropy;
    /// // A token of chance e^−2 where the entropy is 1 nat is pushed up (a coefficient below 0), one of
    /// // chance e^−0.5 down.
    /// let found = Entropy { weight: 0.5 }.coefficients(&[-2.0, -0.5], Some(&[1.0, 1.0]));
    /// assert_eq!(found, [-0.5, 0.25]);
    /// ```
    pub fn coefficients(&self, current: &[f32], entropy: Option<&[f32]>) -> Vec<f64> {
        // A token that is as good as impossible would otherwise be pushed up without limit.
        let log = |current: f32| f64::from(current).max(-20.0);
        let at = |token: usize| entropy.and_then(|entropy| entropy.get(token)).map_or(0.0, |&nats| f64::from(nats));
        current.iter().enumerate().map(|(token, &current)| self.weight * (log(current) + at(token))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Entropy;

    fn chances(logits: &[f64]) -> Vec<f64> {
        let total: f64 = logits.iter().map(|logit| logit.exp()).sum();
        logits.iter().map(|logit| logit.exp() / total).collect()
    }

    fn entropy(logits: &[f64]) -> f64 {
        chances(logits).iter().map(|p| -p * p.ln()).sum()
    }

    /// Over all tokens that may be drawn, the mean of coefficient times score is the derivative of
    /// `−weight · H` in each logit, with the entropy told or not.
    #[test]
    fn its_mean_is_the_derivative() {
        let (logits, bonus) = ([0.3, -1.2, 2.0, 0.0], Entropy { weight: 0.7 });
        let p = chances(&logits);
        let current: Vec<f32> = p.iter().map(|p| p.ln() as f32).collect();
        let told = vec![entropy(&logits) as f32; p.len()];
        for entropies in [None, Some(&told[..])] {
            let coefficients = bonus.coefficients(&current, entropies);
            for logit in 0..logits.len() {
                let score = |token: usize| f64::from(u8::from(token == logit)) - p[logit];
                let mean: f64 = (0..p.len()).map(|token| p[token] * coefficients[token] * score(token)).sum();
                let moved = |step: f64| {
                    let mut logits = logits;
                    logits[logit] += step;
                    -bonus.weight * entropy(&logits)
                };
                let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                assert!((mean - slope).abs() < 1e-6, "logit {logit}: {mean}, expected {slope}");
            }
        }
    }

    #[test]
    fn certain_and_impossible_tokens() {
        let bonus = Entropy { weight: 1.0 };
        assert_eq!(bonus.coefficients(&[0.0], Some(&[0.0])), [0.0]);
        assert!(bonus.coefficients(&[f32::NEG_INFINITY], Some(&[0.5]))[0].is_finite());
        assert!(bonus.coefficients(&[], Some(&[])).is_empty());
    }
}
