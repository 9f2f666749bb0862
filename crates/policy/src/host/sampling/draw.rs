//! Drawing one token from its logits.

use rand_chacha::ChaCha8Rng;
use toehold_rollout::{SamplingParams, TokenId};

use crate::host::kernels::shifted_exp;
use crate::weights::uniform;

/// Memory of drawing one token.
#[derive(Default)]
pub(super) struct Drawing {
    weights: Vec<f32>,
    order: Vec<u32>,
}

impl Drawing {
    /// One token and its log-probability under the distribution it was drawn from; none where the
    /// logits are not finite.
    pub(super) fn draw(
        &mut self,
        logits: &[f32],
        params: &SamplingParams,
        rng: &mut ChaCha8Rng,
    ) -> Option<(TokenId, f32)> {
        if !logits.iter().all(|logit| logit.is_finite()) {
            return None;
        }
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
