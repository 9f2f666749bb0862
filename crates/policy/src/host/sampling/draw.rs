//! Drawing one token from its logits.

use rand_chacha::ChaCha8Rng;
use toehold_rollout::{SamplingParams, TokenId};

use crate::host::kernels::shifted_exp;
use crate::weights::uniform;

/// Memory of drawing one token.
#[derive(Default)]
pub(super) struct Drawing {
    weights: Vec<f32>,
    /// Logits less the penalty on switching thoughts.
    penalised: Vec<f32>,
    order: Vec<u32>,
}

impl Drawing {
    /// One token of a thought that has `age` tokens, and its log-probability under the distribution it was
    /// drawn from; none where the logits are not finite.
    pub(super) fn draw(
        &mut self,
        logits: &[f32],
        params: &SamplingParams,
        age: u32,
        rng: &mut ChaCha8Rng,
    ) -> Option<(TokenId, f32)> {
        if !logits.iter().all(|logit| logit.is_finite()) {
            return None;
        }
        let switch = params.thought_switch.as_ref().map(|switch| (switch.penalised(age), switch.penalty));
        let Some((tokens, penalty)) = switch.filter(|(tokens, _)| !tokens.is_empty()) else {
            return self.draw_from(logits, params, rng);
        };
        // The logits may be those of a start that other requests draw from, too.
        let mut penalised = std::mem::take(&mut self.penalised);
        penalised.clear();
        penalised.extend_from_slice(logits);
        tokens.iter().for_each(|&token| penalised[token as usize] -= penalty);
        let drawn = self.draw_from(&penalised, params, rng);
        self.penalised = penalised;
        drawn
    }

    fn draw_from(&mut self, logits: &[f32], params: &SamplingParams, rng: &mut ChaCha8Rng) -> Option<(TokenId, f32)> {
        if params.temperature == 0.0 {
            let best = (0..logits.len()).reduce(|best, i| if logits[i] > logits[best] { i } else { best })?;
            return Some((best as TokenId, 0.0));
        }
        let scale = 1.0 / params.temperature;
        self.weights.resize(logits.len(), 0.0);
        let max = shifted_exp(logits, scale, &mut self.weights);
        if params.top_k > 0 || params.top_p < 1.0 {
            self.truncate(params);
        }
        let total: f64 = self.weights.iter().map(|&weight| f64::from(weight)).sum();
        let mut left = uniform(rng) * total;
        let mut token = None;
        for (i, &weight) in self.weights.iter().enumerate().filter(|(_, weight)| **weight > 0.0) {
            // The last one stays where rounding leaves a rest.
            token = Some(i);
            left -= f64::from(weight);
            if left < 0.0 {
                break;
            }
        }
        let token = token?;
        let behavior = f64::from(scale * (logits[token] - max)) - total.ln();
        Some((token as TokenId, behavior as f32))
    }

    /// Sets the weights to zero that `top_k` and then `top_p` leave out; equal weights keep the order
    /// of their tokens.
    fn truncate(&mut self, params: &SamplingParams) {
        let weights = &mut self.weights;
        self.order.clear();
        self.order.extend(0..weights.len() as u32);
        let by_weight = |a: &u32, b: &u32| weights[*b as usize].total_cmp(&weights[*a as usize]).then(a.cmp(b));
        self.order.sort_unstable_by(by_weight);
        let mut keep = self.order.len();
        if params.top_k > 0 {
            keep = keep.min(params.top_k as usize);
        }
        if params.top_p < 1.0 {
            let kept = |order: &[u32]| order.iter().map(|&i| f64::from(weights[i as usize])).sum::<f64>();
            let mut left = f64::from(params.top_p) * kept(&self.order[..keep]);
            let reached = self.order[..keep].iter().position(|&i| {
                left -= f64::from(weights[i as usize]);
                left <= 0.0
            });
            keep = reached.map_or(keep, |last| last + 1);
        }
        for &i in &self.order[keep..] {
            weights[i as usize] = 0.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use toehold_rollout::{SamplingParams, SwitchPenalty};

    use super::Drawing;

    const LOGITS: [f32; 4] = [0.5, 2.0, -1.0, 1.0];

    /// Token and log-probability of each of some draws.
    fn drawn(logits: &[f32], params: &SamplingParams, age: u32) -> Vec<(u32, f32)> {
        let mut drawing = Drawing::default();
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        (0..200).map(|_| drawing.draw(logits, params, age, &mut rng).unwrap()).collect()
    }

    fn with_penalty(penalty: f32, params: &SamplingParams) -> SamplingParams {
        let switch = SwitchPenalty { tokens: vec![1, 3], penalty, window: 2 };
        SamplingParams { thought_switch: Some(switch), ..params.clone() }
    }

    fn ways() -> [SamplingParams; 5] {
        let plain = SamplingParams::plain(1);
        [
            plain.clone(),
            SamplingParams { temperature: 0.0, ..plain.clone() },
            SamplingParams { temperature: 0.7, ..plain.clone() },
            SamplingParams { top_k: 2, ..plain.clone() },
            SamplingParams { top_p: 0.8, temperature: 1.5, ..plain },
        ]
    }

    #[test]
    fn it_is_drawn_as_from_logits_that_are_so_much_lower() {
        let lower = [0.5, 2.0 - 1.75, -1.0, 1.0 - 1.75];
        for params in ways() {
            let tip = with_penalty(1.75, &params);
            for age in [0, 1] {
                assert_eq!(drawn(&LOGITS, &tip, age), drawn(&lower, &params, 0), "{params:?}");
            }
            for age in [2, 3, u32::MAX] {
                assert_eq!(drawn(&LOGITS, &tip, age), drawn(&LOGITS, &params, 0), "{params:?}");
            }
            assert_eq!(drawn(&LOGITS, &with_penalty(0.0, &params), 0), drawn(&LOGITS, &params, 0), "{params:?}");
        }
    }

    #[test]
    fn behavior_is_the_log_softmax_of_the_penalised_logits() {
        // e^0.5 + e^1 + e^−1 + e^0 = 1.64872 + 2.71828 + 0.36788 + 1 = 5.73488, whose logarithm is 1.74657.
        let expected = [0.5 - 1.74657, 1.0 - 1.74657, -1.0 - 1.74657, -1.74657];
        let found = drawn(&LOGITS, &with_penalty(1.0, &SamplingParams::plain(1)), 0);
        for (token, behavior) in &found {
            assert!((behavior - expected[*token as usize]).abs() < 1e-5, "token {token}: {behavior}");
        }
        assert!((0..4).all(|token| found.iter().any(|(one, _)| *one == token)));
        // The likeliest one is another.
        let greedy = SamplingParams { temperature: 0.0, ..SamplingParams::plain(1) };
        assert_eq!(drawn(&LOGITS, &greedy, 0)[0], (1, 0.0));
        assert_eq!(drawn(&LOGITS, &with_penalty(1.75, &greedy), 0)[0], (0, 0.0));
    }

    #[test]
    fn the_largest_penalty_forbids() {
        let found = drawn(&LOGITS, &with_penalty(SwitchPenalty::MOST, &SamplingParams::plain(1)), 0);
        assert!(found.iter().all(|(token, behavior)| [0, 2].contains(token) && behavior.is_finite()));
    }
}
