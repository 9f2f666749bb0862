//! What the beginning of a stored trace does to a policy: robustness to wrong ones, adherence to right
//! ones, and whether their meaning matters.
//!
//! A policy is asked to go on from 10 … 90 % of a trace that failed (does it recover?) and of one that
//! succeeded (does it keep to it?). The change is each trace's success from there minus the same
//! problem's plain success, `p(share) − p(0)`, averaged over traces, its interval over traces.
//!
//! Source: failure-prefix conditioning (arXiv 2601.20829, §6): at 30 % of a failure the paper's policy
//! loses 11.5 points and its baselines 22 to 24; at 30 % of a success they gain 5.0 and 8.4.
//!
//! Controls: the same tokens in random order ([`Condition::Shuffled`]), as many tokens of another
//! problem's trace of the same outcome ([`Condition::OtherProblem`]), and the later half of the
//! prefix alone, as if its beginning had been lost ([`Condition::Truncated`]). Where a control does as
//! much as the intact prefix, it is not what the prefix says that matters. The source names the
//! controls and does not define them; these definitions are ours.
//!
//! Zero cases: a share that gives no token is the plain problem; a trace for which no other problem has
//! as many tokens is left out of that control; without traces there is no point.

use serde::{Deserialize, Serialize};
use toehold_rollout::collect::Judge;
use toehold_rollout::{Origin, Sampler, Start, SuccessCount, TokenId};

use super::count::{CountError, CountPlan, count_successes};
use super::prefix_sweep::start_at;
use super::{Interval, bootstrap_mean};
use crate::curriculum::Source;
use crate::random;

/// What is done to a prefix before it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// Nothing.
    Intact,
    /// Its tokens in random order.
    Shuffled,
    /// As many first tokens of a trace of another problem.
    OtherProblem,
    /// Its later half alone.
    Truncated,
}

/// Success from one share of some traces.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RobustnessPoint {
    /// Share that was given of each trace's part before the answer, in `[0, 1)`.
    pub share: f64,
    /// What was done to it.
    pub condition: Condition,
    /// Traces.
    pub traces: usize,
    /// Successes from there.
    pub count: SuccessCount,
    /// Mean of success from there minus plain success, in `[−1, 1]`.
    pub change: f64,
    /// Its 95 % interval over traces.
    pub change_interval: Interval,
}

impl Condition {
    /// The intact prefix, then the controls.
    pub const ALL: [Condition; 4] =
        [Condition::Intact, Condition::Shuffled, Condition::OtherProblem, Condition::Truncated];

    /// The words that are printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Condition::Intact => "intact",
            Condition::Shuffled => "shuffled",
            Condition::OtherProblem => "another problem's",
            Condition::Truncated => "later half",
        }
    }
}

/// The tokens that stand for `prefix`, the first ones of `sources[at]`; none where no other problem has
/// as many. Random order depends on the seed, the problem and the prefix's length.
///
/// ```
/// use toehold_training::evaluation::robustness::{Condition, corrupted};
/// use toehold_training::curriculum::Source;
/// let source = |problem: &str, tokens| Source::uncut(problem.into(), vec![0], tokens, Some(1));
/// let sources = [source("p", vec![1, 2, 3, 4]), source("q", vec![5, 6, 7])];
/// let given = |condition| corrupted(condition, &sources, 0, &[1, 2, 3], 0);
/// assert_eq!(given(Condition::Intact), Some(vec![1, 2, 3]));
/// assert_eq!(given(Condition::OtherProblem), Some(vec![5, 6, 7]));
/// assert_eq!(given(Condition::Truncated), Some(vec![2, 3]));
/// ```
pub fn corrupted(
    condition: Condition,
    sources: &[Source],
    at: usize,
    prefix: &[TokenId],
    seed: u64,
) -> Option<Vec<TokenId>> {
    let source = sources.get(at)?;
    match condition {
        Condition::Intact => Some(prefix.to_vec()),
        Condition::Shuffled => {
            let mut tokens = prefix.to_vec();
            // Not by the trace's row, which depends on what else the store has.
            let purpose = format!("shuffled prefix of {}", source.problem);
            let mut rng = random::stream(seed, &purpose, &[prefix.len() as u64]);
            random::shuffle(&mut rng, &mut tokens);
            Some(tokens)
        }
        Condition::OtherProblem => {
            // The next one in the circle, so that each trace stands in for about one other.
            let others = (1..sources.len()).map(|step| &sources[(at + step) % sources.len()]);
            let fits = |other: &&Source| {
                other.problem != source.problem && other.limit.min(other.tokens.len()) >= prefix.len()
            };
            others.into_iter().find(fits).map(|other| other.tokens[..prefix.len()].to_vec())
        }
        Condition::Truncated => Some(prefix[prefix.len() / 2..].to_vec()),
    }
}

/// Success from `share` of each trace under `condition`, against `plain`, the success of the same
/// traces' plain problems, in their order; none where no trace is left.
///
/// # Errors
/// The sampler's trouble.
pub fn robustness_point(
    sampler: &mut dyn Sampler,
    judge: &dyn Judge,
    sources: &[Source],
    plain: &[SuccessCount],
    (share, condition): (f64, Condition),
    plan: &CountPlan,
) -> Result<Option<RobustnessPoint>, CountError> {
    let start = |(at, source): (usize, &Source)| {
        let intact = start_at(source, share);
        let tokens = corrupted(condition, sources, at, &intact.prefix, plan.seed)?;
        let start = match tokens.is_empty() {
            true => intact,
            false => {
                let origin = Origin { trace: source.row, source_tokens: source.tokens.len() as u32 };
                Start::prefixed(source.problem.clone(), source.prompt.clone(), tokens, origin)
            }
        };
        Some((start, *plain.get(at)?))
    };
    let (starts, plain): (Vec<Start>, Vec<SuccessCount>) = sources.iter().enumerate().filter_map(start).unzip();
    let counts = count_successes(sampler, judge, &starts, plan)?;
    let mut count = SuccessCount::default();
    counts.iter().for_each(|one| count.merge(one.count));
    let change = |(from, plain): (&super::ProblemCount, &SuccessCount)| Some(from.count.rate()? - plain.rate()?);
    let changes: Vec<f64> = counts.iter().zip(&plain).filter_map(change).collect();
    let point = |(change, change_interval)| RobustnessPoint {
        share,
        condition,
        traces: starts.len(),
        count,
        change,
        change_interval,
    };
    Ok(bootstrap_mean(&changes, plan.seed).map(point))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use toehold_rollout::collect::Judge;
    use toehold_rollout::{Completion, ProblemId, SamplingParams, Start, SuccessCount, TokenId};
    use toehold_verifier::{Outcome, Verdict};

    use super::super::count::{CountPlan, count_successes};
    use super::{Condition, Source, corrupted, robustness_point};
    use crate::tabular::TabularPolicy;

    fn source(problem: &str, tokens: Vec<TokenId>, row: i64) -> Source {
        Source::uncut(ProblemId::from(problem), vec![2], tokens, Some(row))
    }

    /// Right is four times the token 1, the prefix included.
    struct Ones;

    impl Judge for Ones {
        fn judge(&self, start: &Start, completion: &Completion) -> Verdict {
            let is_right = start.prefix.iter().chain(&completion.tokens).take(4).eq(&[1; 4]);
            Verdict { outcome: if is_right { Outcome::Correct } else { Outcome::Wrong }, extracted: None }
        }
    }

    #[test]
    fn success_follows_what_is_given() {
        let mut policy = TabularPolicy::uniform(3, 1, 1.0);
        policy.never([2]);
        let params = SamplingParams::plain(4);
        let plan = CountPlan { samples: 400, params, seed: 3, in_flight: 64 };
        let right = [source("p", vec![1, 1, 1, 1], 1), source("q", vec![1, 1, 1, 1], 2)];
        let wrong = [source("p", vec![0, 1, 1, 1], 3), source("q", vec![1, 1, 0, 1], 4)];
        let mut text = String::new();
        for (name, sources) in [("right", &right), ("wrong", &wrong)] {
            let starts: Vec<Start> = sources.iter().map(|source| super::start_at(source, 0.0)).collect();
            let counts = count_successes(&mut policy, &Ones, &starts, &plan).unwrap();
            let plain: Vec<SuccessCount> = counts.iter().map(|count| count.count).collect();
            for share in [0.0, 0.25, 0.5, 0.75] {
                for condition in [Condition::Intact, Condition::Truncated] {
                    let point =
                        robustness_point(&mut policy, &Ones, sources, &plain, (share, condition), &plan).unwrap();
                    let point = point.unwrap();
                    text += &format!("{name} {share} {}: {}, {:+.3}\n", condition.as_str(), point.count, point.change);
                }
            }
        }
        expect![[r#"
            right 0 intact: 37/800 = 4.6 % [3.4, 6.3], +0.000
            right 0 later half: 37/800 = 4.6 % [3.4, 6.3], +0.000
            right 0.25 intact: 101/800 = 12.6 % [10.5, 15.1], +0.080
            right 0.25 later half: 101/800 = 12.6 % [10.5, 15.1], +0.080
            right 0.5 intact: 194/800 = 24.2 % [21.4, 27.3], +0.196
            right 0.5 later half: 101/800 = 12.6 % [10.5, 15.1], +0.080
            right 0.75 intact: 402/800 = 50.2 % [46.8, 53.7], +0.456
            right 0.75 later half: 194/800 = 24.2 % [21.4, 27.3], +0.196
            wrong 0 intact: 37/800 = 4.6 % [3.4, 6.3], +0.000
            wrong 0 later half: 37/800 = 4.6 % [3.4, 6.3], +0.000
            wrong 0.25 intact: 57/800 = 7.1 % [5.5, 9.1], +0.025
            wrong 0.25 later half: 57/800 = 7.1 % [5.5, 9.1], +0.025
            wrong 0.5 intact: 105/800 = 13.1 % [11.0, 15.6], +0.085
            wrong 0.5 later half: 101/800 = 12.6 % [10.5, 15.1], +0.080
            wrong 0.75 intact: 0/800 = 0.0 % [0.0, 0.5], -0.046
            wrong 0.75 later half: 89/800 = 11.1 % [9.1, 13.5], +0.065
        "#]]
        .assert_eq(&text);
        let point = robustness_point(&mut policy, &Ones, &[], &[], (0.5, Condition::Intact), &plan);
        assert_eq!(point.unwrap(), None);
    }

    #[test]
    fn controls_keep_the_tokens_or_the_length() {
        let sources =
            [source("p", (10..20).collect(), 1), source("p", (20..30).collect(), 2), source("q", vec![7; 6], 3)];
        let given = |condition, at: usize, length: usize, seed| {
            corrupted(condition, &sources, at, &sources[at].tokens[..length], seed)
        };
        let mut shuffled = given(Condition::Shuffled, 0, 8, 0).unwrap();
        assert_eq!(Some(&shuffled), given(Condition::Shuffled, 0, 8, 0).as_ref());
        assert_ne!(Some(&shuffled), given(Condition::Shuffled, 0, 8, 1).as_ref());
        assert_ne!(shuffled, (10..18).collect::<Vec<_>>());
        shuffled.sort_unstable();
        assert_eq!(shuffled, (10..18).collect::<Vec<_>>());
        // Never another trace of the same problem, and never more than it has.
        assert_eq!(given(Condition::OtherProblem, 0, 6, 0), Some(vec![7; 6]));
        assert_eq!(given(Condition::OtherProblem, 0, 7, 0), None);
        assert_eq!(given(Condition::OtherProblem, 2, 3, 0), Some(vec![10, 11, 12]));
        assert_eq!(given(Condition::Truncated, 0, 5, 0), Some(vec![12, 13, 14]));
        assert_eq!(given(Condition::Truncated, 0, 0, 0), Some(vec![]));
        assert_eq!(corrupted(Condition::Intact, &sources, 9, &[], 0), None);
    }
}
