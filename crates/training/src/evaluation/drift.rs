//! How far a policy has moved from what is stored.
//!
//! A prefix was likely under the policy that sampled it. The further the current one has moved, the
//! less a prefix is a state that it would come to, and what was learnt from it says the less about
//! plain problems. Of stored tokens with log-probability `then` (under the policy that sampled them)
//! and `now` (under the current one), with `d = now − then`:
//!
//! * `k1 = −Σ d`: unbiased for `KL(then ‖ now)` of whole prefixes, over prefixes that were all sampled
//!   and not chosen by their outcome;
//! * `k3 = Σ (exp(d) − 1 − d) ≥ 0`: the same by tokens, never negative and of less variance.
//!
//! Source: Schulman's estimators (`kl-approx`), drift of prefixes as in PrefixRL §3. Wrong and right
//! traces are chosen by their outcome, so both numbers compare policies on those traces; they are no
//! estimate of the policies' divergence.
//!
//! Both log-probabilities must be of one distribution: at temperature 1 without top-k or top-p. Traces
//! that were sampled otherwise are scored anew by the policy that sampled them.
//!
//! Zero cases: no trace gives none; a prefix of no tokens drifts by 0.

use serde::{Deserialize, Serialize};
use toehold_rollout::{Completion, ScoreError, Scorer, Trace};

use super::{Interval, bootstrap_mean};
use crate::curriculum::Source;

/// The drift of some prefixes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Drift {
    /// Prefixes.
    pub prefixes: usize,
    /// Their mean length, in tokens.
    pub tokens: f64,
    /// Mean log-probability of a prefix under the policy that sampled it, in nats.
    pub then: f64,
    /// The same under the current policy.
    pub now: f64,
    /// Mean k1 of a prefix, in nats.
    pub k1: f64,
    /// Its 95 % interval over prefixes.
    pub k1_interval: Interval,
    /// Mean k3 of a prefix, in nats.
    pub k3: f64,
}

/// Why drift cannot be measured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DriftError {
    /// One number per token on both sides.
    #[error(
        "trace {index} has {then} stored log-probabilities and {now} current ones, expected at least {length} of both"
    )]
    Length {
        /// Which trace.
        index: usize,
        /// Stored ones.
        then: usize,
        /// Current ones.
        now: usize,
        /// The prefix's tokens.
        length: usize,
    },
    /// A different number of traces.
    #[error("there are stored log-probabilities of {then} traces, current ones of {now} and {lengths} lengths")]
    Count {
        /// Stored.
        then: usize,
        /// Current.
        now: usize,
        /// Lengths.
        lengths: usize,
    },
}

/// The drift of each trace's first `lengths[i]` tokens; none without traces.
///
/// ```
/// use toehold_training::evaluation::drift::drift;
/// // One prefix of two tokens; each became half as likely: d = −ln 2.
/// let (then, now) = ([-1.0_f32, -1.0, -9.0], [-1.693147, -1.693147, 0.0]);
/// let found = drift(&[&then], &[&now], &[2], 0).unwrap().unwrap();
/// assert!((found.k1 - 2.0 * 2f64.ln()).abs() < 1e-5);
/// assert!((found.k3 - 2.0 * (0.5 - 1.0 + 2f64.ln())).abs() < 1e-5);
/// ```
///
/// # Errors
/// Numbers that do not go together.
pub fn drift(then: &[&[f32]], now: &[&[f32]], lengths: &[usize], seed: u64) -> Result<Option<Drift>, DriftError> {
    if then.len() != now.len() || then.len() != lengths.len() {
        return Err(DriftError::Count { then: then.len(), now: now.len(), lengths: lengths.len() });
    }
    let (mut sums, mut k1) = ([0.0; 4], Vec::with_capacity(then.len()));
    for (index, ((then, now), &length)) in then.iter().zip(now).zip(lengths).enumerate() {
        let (Some(then_given), Some(now_given)) = (then.get(..length), now.get(..length)) else {
            return Err(DriftError::Length { index, then: then.len(), now: now.len(), length });
        };
        let sum = |tokens: &[f32]| tokens.iter().map(|&token| f64::from(token)).sum::<f64>();
        let k3 = |(&then, &now): (&f32, &f32)| {
            let d = f64::from(now) - f64::from(then);
            d.exp_m1() - d
        };
        let (before, after) = (sum(then_given), sum(now_given));
        k1.push(before - after);
        let k3 = then_given.iter().zip(now_given).map(k3).sum::<f64>();
        sums.iter_mut().zip([length as f64, before, after, k3]).for_each(|(sum, one)| *sum += one);
    }
    let [tokens, before, after, k3] = sums.map(|sum| sum / then.len().max(1) as f64);
    Ok(bootstrap_mean(&k1, seed).map(|(mean, k1_interval)| Drift {
        prefixes: then.len(),
        tokens,
        then: before,
        now: after,
        k1: mean,
        k1_interval,
        k3,
    }))
}

/// The log-probability of every token of these traces under the scorer's policy, after the prompt alone.
///
/// # Errors
/// As [`Scorer::score`].
pub fn score_sources(scorer: &mut dyn Scorer, sources: &[Source]) -> Result<Vec<Vec<f32>>, ScoreError> {
    // So many at once that they share what they begin with, and so few that memory stays small.
    const AT_ONCE: usize = 64;
    let sampled_by = toehold_rollout::PolicyVersion { weights: String::new() };
    let trace = |source: &Source| Trace {
        prompt: source.prompt.clone(),
        prefix: Vec::new(),
        completion: Completion { tokens: source.tokens.clone(), ..Completion::default() },
        sampled_by: sampled_by.clone(),
    };
    let mut scores = Vec::with_capacity(sources.len());
    for chunk in sources.chunks(AT_ONCE) {
        let traces: Vec<Trace> = chunk.iter().map(trace).collect();
        let found = scorer.score(&traces.iter().collect::<Vec<_>>())?;
        scores.extend(found.into_iter().map(|one| one.current));
    }
    Ok(scores)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use toehold_rollout::{Learner as _, ProblemId};

    use super::{Source, drift, score_sources};
    use crate::tabular::TabularPolicy;

    #[track_caller]
    fn check(then: &[&[f32]], now: &[&[f32]], lengths: &[usize], expected: Expect) {
        let text = match drift(then, now, lengths, 0) {
            Ok(Some(found)) => format!(
                "{} × {:.1} tokens, {:.3} then, {:.3} now, k1 {:.3} [{:.3}, {:.3}], k3 {:.3}",
                found.prefixes,
                found.tokens,
                found.then,
                found.now,
                found.k1,
                found.k1_interval.low,
                found.k1_interval.high,
                found.k3
            ),
            Ok(None) => "none".to_owned(),
            Err(error) => error.to_string(),
        };
        expected.assert_eq(&text);
    }

    #[test]
    fn prefixes_drift_by_what_their_tokens_lost() {
        check(
            &[&[-1.0, -1.0]],
            &[&[-1.0, -1.0]],
            &[2],
            expect!["1 × 2.0 tokens, -2.000 then, -2.000 now, k1 0.000 [0.000, 0.000], k3 0.000"],
        );
        check(
            &[&[-1.0, -1.0]],
            &[&[-2.0, -1.0]],
            &[2],
            expect!["1 × 2.0 tokens, -2.000 then, -3.000 now, k1 1.000 [1.000, 1.000], k3 0.368"],
        );
        // Only the given part counts.
        check(
            &[&[-1.0, -1.0]],
            &[&[-1.0, -9.0]],
            &[1],
            expect!["1 × 1.0 tokens, -1.000 then, -1.000 now, k1 0.000 [0.000, 0.000], k3 0.000"],
        );
        // A prefix that became likelier has a negative k1 and a positive k3.
        check(
            &[&[-1.0], &[-1.0]],
            &[&[-0.5], &[-1.5]],
            &[1, 1],
            expect!["2 × 1.0 tokens, -1.000 then, -1.000 now, k1 0.000 [-0.500, 0.500], k3 0.128"],
        );
        check(
            &[&[-1.0], &[-1.0]],
            &[&[-0.5], &[-0.5]],
            &[1, 1],
            expect!["2 × 1.0 tokens, -1.000 then, -0.500 now, k1 -0.500 [-0.500, -0.500], k3 0.149"],
        );
        check(
            &[&[]],
            &[&[]],
            &[0],
            expect!["1 × 0.0 tokens, 0.000 then, 0.000 now, k1 0.000 [0.000, 0.000], k3 0.000"],
        );
        check(&[], &[], &[], expect!["none"]);
        check(
            &[&[-1.0]],
            &[&[-1.0, -1.0]],
            &[2],
            expect!["trace 0 has 1 stored log-probabilities and 2 current ones, expected at least 2 of both"],
        );
        check(
            &[&[-1.0]],
            &[],
            &[1],
            expect!["there are stored log-probabilities of 1 traces, current ones of 0 and 1 lengths"],
        );
    }

    /// k3's mean over what the old policy samples is the exact divergence.
    #[test]
    fn a_learnt_policy_has_drifted() {
        let mut policy = TabularPolicy::uniform(3, usize::MAX, 1e9);
        policy.never([2]);
        let source = |tokens| Source::uncut(ProblemId::from("p"), vec![2], tokens, Some(1));
        let sources = [source(vec![0, 1]), source(vec![1, 1])];
        let then = score_sources(&mut policy, &sources).unwrap();
        assert!(then.iter().flatten().all(|logp| (logp + 2f32.ln()).abs() < 1e-6), "{then:?}");
        policy.logits_mut(&[2])[0] = 1.0;
        policy.publish().unwrap();
        let now = score_sources(&mut policy, &sources).unwrap();
        let [then, now] = [&then, &now].map(|scores| scores.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let found = drift(&then, &now, &[1, 1], 0);
        // The two first tokens are as likely as the old policy made them: the mean is the divergence.
        let chance = 1.0 / (1.0 + (-1f64).exp());
        let exact = -(2.0 * chance).ln() / 2.0 - (2.0 * (1.0 - chance)).ln() / 2.0;
        let found = found.unwrap().unwrap();
        assert!((found.k1 - exact).abs() < 1e-6 && (found.k3 - exact).abs() < 1e-6, "{found:?}, {exact}");
    }
}
