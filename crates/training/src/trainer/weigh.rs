//! From the groups of a step to the gradient, and to the numbers of its event.

use std::collections::BTreeMap;
use std::rc::Rc;

use toehold_rollout::{
    LearnError, Learner, PolicyVersion, ScoreError, Scorer, StopReason, SuccessCount, TokenScores, Trace,
};

use super::event::{GroupEvent, KindStats, StepEvent};
use super::given::{GivenTraces, NOTHING};
use super::{Compute, Group};
use crate::curriculum::Fate;
use crate::objective::batch::{self, GroupView, Weight};
use crate::objective::given::{GivenView, Origin};
use crate::objective::modifier::shaping::Shaping;
use crate::objective::{Ending, TraceView, Weigh};
use crate::recipe::Aggregation;

/// A trace that says something.
pub(super) struct Weighed<'a> {
    trace: &'a Trace,
    of: Of,
    weight: Weight,
}

/// Whose tokens they are.
enum Of {
    /// A group's, with the rewards that its advantages were made of.
    Group(Rc<[f64]>),
    /// A collected trace's, with the counts of its start.
    Stored(SuccessCount),
    /// A prefix.
    Prefix,
}

/// What the learner was given.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Learnt {
    pub(super) traces: usize,
    /// Prompt, prefix and completion of each.
    pub(super) tokens: u64,
    /// The same of what a reference scored.
    pub(super) scored: u64,
    /// Mean of `|current − behavior|` over the tokens that their own group sampled.
    pub(super) mismatch: f64,
}

/// The traces that may move something, with the factor that divides by the whole batch: each group's, then
/// what was given with it; and what the rewards were made of. `given` is by group; empty for an objective that
/// wants nothing.
pub(super) fn weigh<'a>(
    objective: &dyn Weigh,
    groups: &'a [Group],
    given: &'a [GivenTraces],
    aggregation: Aggregation,
    max_tokens: u32,
) -> (Vec<Weighed<'a>>, Shaping) {
    let given = |at: usize| given.get(at).unwrap_or(&NOTHING);
    let learnt = || groups.iter().enumerate().filter(|(_, group)| group.fate == Fate::Learnt);
    let views: Vec<GroupView<'_>> = learnt().map(|(at, group)| view(group, given(at))).collect();
    let weights = batch::weights(objective, &views, aggregation, max_tokens);
    let (mut all, mut shaping): (Vec<Weighed<'a>>, Shaping) = Default::default();
    for ((at, group), weights) in learnt().zip(weights) {
        shaping.add(&weights.parts);
        let rewards: Rc<[f64]> = weights.rewards.into();
        let mut add = |trace: &'a Trace, of: Of, weight: Option<Weight>| {
            all.extend(weight.map(|weight| Weighed { trace, of, weight }));
        };
        for (rollout, weight) in group.rollouts.iter().zip(weights.own) {
            add(&rollout.trace, Of::Group(Rc::clone(&rewards)), weight);
        }
        for (trace, weight) in given(at).stored.iter().zip(weights.stored) {
            add(trace, Of::Stored(given(at).campaign), weight);
        }
        if let Some((trace, _)) = &given(at).prefix {
            add(trace, Of::Prefix, weights.prefix);
        }
    }
    (all, shaping)
}

fn view<'a>(group: &'a Group, given: &GivenTraces) -> GroupView<'a> {
    let length = |trace: &Trace| trace.completion.tokens.len();
    let ending = |trace: &Trace| Ending { tokens: length(trace), stop: trace.completion.stop };
    GroupView {
        rewards: group.rewards(),
        outcomes: group.rollouts.iter().map(|rollout| rollout.verdict.outcome).collect(),
        completions: group.rollouts.iter().map(|rollout| rollout.trace.completion.tokens.as_slice()).collect(),
        endings: group.rollouts.iter().map(|rollout| ending(&rollout.trace)).collect(),
        stored: given.stored.iter().map(length).collect(),
        prefix: given.prefix.as_ref().map(|(trace, advantage)| (*advantage, length(trace))),
    }
}

/// Adds the gradient of the weighed traces; asks the learner for nothing when there are none. `reference`
/// is asked where the objective has a tie to it.
pub(super) fn accumulate(
    learner: &mut impl Learner,
    reference: Option<&mut (dyn Scorer + '_)>,
    objective: &dyn Weigh,
    weighed: &[Weighed<'_>],
) -> Result<Learnt, LearnError> {
    if weighed.is_empty() {
        return Ok(Learnt::default());
    }
    let reference = match reference.filter(|_| objective.modifiers().kl.is_some()) {
        Some(reference) => of_reference(reference, weighed)?,
        None => vec![None; weighed.len()],
    };
    let scored = weighed.iter().zip(&reference).filter(|(_, scores)| scores.is_some());
    let scored = scored.map(|(weighed, _)| length(weighed.trace)).sum();
    let traces: Vec<&Trace> = weighed.iter().map(|weighed| weighed.trace).collect();
    let (mut distance, mut tokens) = (0.0, 0);
    learner.accumulate(&traces, &mut |at, scores: &TokenScores| {
        let Weighed { trace, of, weight } = &weighed[at];
        if matches!(of, Of::Group(_)) {
            let apart = |(current, behavior): (&f32, &f32)| f64::from((current - behavior).abs());
            distance += scores.current.iter().zip(&trace.completion.behavior).map(apart).sum::<f64>();
            tokens += scores.current.len();
        }
        let coefficients = coefficients(objective, &weighed[at], scores, reference[at].as_deref());
        coefficients.into_iter().map(|coefficient| (coefficient * weight.scale) as f32).collect()
    })?;
    let mismatch = distance / tokens.max(1) as f64;
    let tokens = traces.iter().map(|trace| length(trace)).sum();
    Ok(Learnt { traces: traces.len(), tokens, scored, mismatch })
}

/// Prompt, prefix and completion.
fn length(trace: &Trace) -> u64 {
    (trace.prompt.len() + trace.prefix.len() + trace.completion.tokens.len()) as u64
}

/// The log-probabilities of what the groups sampled under the reference; none of what was given.
fn of_reference(
    reference: &mut (dyn Scorer + '_),
    weighed: &[Weighed<'_>],
) -> Result<Vec<Option<Vec<f32>>>, ScoreError> {
    let is_sampled = |weighed: &&Weighed<'_>| matches!(weighed.of, Of::Group(_));
    let sampled: Vec<&Trace> = weighed.iter().filter(is_sampled).map(|weighed| weighed.trace).collect();
    let mut scores = reference.score(&sampled)?.into_iter();
    let of = |weighed: &Weighed<'_>| is_sampled(&weighed).then(|| scores.next().map(|scores| scores.current));
    Ok(weighed.iter().map(of).map(Option::flatten).collect())
}

fn coefficients(
    objective: &dyn Weigh,
    weighed: &Weighed<'_>,
    scores: &TokenScores,
    reference: Option<&[f32]>,
) -> Vec<f64> {
    let Weighed { trace, of, weight } = weighed;
    let (advantage, behavior) = (weight.advantage, trace.completion.behavior.as_slice());
    let (current, entropy) = (scores.current.as_slice(), scores.entropy.as_deref());
    let origin = match of {
        Of::Group(rewards) => {
            let view = TraceView { advantage, rewards, current, behavior, entropy };
            return objective.modifiers().coefficients(objective, &view, reference);
        }
        Of::Stored(campaign) => Origin::Stored { behavior, campaign: *campaign },
        Of::Prefix => Origin::Prefix,
    };
    let view = GivenView { origin, advantage, current, entropy };
    objective.given().map_or_else(|| vec![0.0; current.len()], |given| given.given_coefficients(&view))
}

/// The record of one group, of which so many successes were `quarantined`.
pub(super) fn group_event(step: u64, group: &Group, quarantined: usize) -> GroupEvent {
    let start = &group.selection.start;
    GroupEvent {
        step,
        problem: start.problem.clone(),
        start: start.id.clone(),
        prefix_tokens: start.prefix.len(),
        source_tokens: start.origin.as_ref().map_or(0, |origin| origin.source_tokens),
        why: group.selection.why.clone(),
        count: group.count(),
        fate: group.fate,
        quarantined,
        masked: group.masked.len(),
    }
}

/// The record of one step, without what only the loop knows (rate, gradient, price, curriculum, shaping,
/// detectors).
pub(super) fn step_event(step: u64, policy: PolicyVersion, groups: &[Group], learnt: &Learnt) -> StepEvent {
    let (mut plain, mut prefixed) = (KindStats::default(), KindStats::default());
    let mut compute = Compute { sampled_tokens: learnt.scored, trained_tokens: learnt.tokens };
    for group in groups {
        let kind = if group.selection.start.is_plain() { &mut plain } else { &mut prefixed };
        let count = group.count();
        kind.count.merge(count);
        compute.add(group.compute());
        if count.attempts == 0 {
            // Nothing of it was judged.
            continue;
        }
        *match count.successes {
            0 => &mut kind.groups.all_fail,
            successes if successes == count.attempts => &mut kind.groups.all_pass,
            _ => &mut kind.groups.mixed,
        } += 1;
    }
    let mut outcomes = BTreeMap::new();
    let sampled = || groups.iter().flat_map(Group::sampled);
    sampled().for_each(|rollout| *outcomes.entry(rollout.verdict.outcome).or_default() += 1);
    let attempts = (plain.count.attempts + prefixed.count.attempts).max(1) as f64;
    let completions: Vec<_> = sampled().map(|rollout| &rollout.trace.completion).collect();
    let traces = completions.len().max(1) as f64;
    let tokens: usize = completions.iter().map(|completion| completion.tokens.len()).sum();
    let surprise: f64 = completions.iter().flat_map(|c| &c.behavior).map(|&logp| -f64::from(logp)).sum();
    StepEvent {
        step,
        policy,
        reward: (plain.count.successes + prefixed.count.successes) as f64 / attempts,
        outcomes,
        plain,
        prefixed,
        entropy: surprise / tokens.max(1) as f64,
        completion_tokens: tokens as f64 / traces,
        cut_off: completions.iter().filter(|completion| completion.stop == StopReason::Length).count(),
        trained_traces: learnt.traces,
        mismatch: learnt.mismatch,
        gradient: Default::default(),
        learning_rate: 0.0,
        compute,
        flops: 0.0,
        curriculum: Default::default(),
        shaping: Default::default(),
        detectors: Default::default(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use expect_test::{Expect, expect};
    use toehold_rollout::{Completion, PolicyVersion, ProblemId, Start, StopReason, Trace, TraceKey};
    use toehold_verifier::{Outcome, Verdict};

    use super::super::{Group, Rollout};
    use super::{step_event, weigh};
    use crate::curriculum::{Fate, Selection};
    use crate::objective::Objective;
    use crate::objective::reinforce_plus_plus::{Baseline, ReinforcePlusPlus};
    use crate::objective::{Weigh, imitation::Imitation, reinforce::Reinforce};
    use crate::recipe::{Aggregation, Method as _};

    /// A group from rollouts that are correct or not and have so many tokens.
    fn group(prefix: &[u32], rollouts: &[(bool, usize)]) -> Group {
        let policy = PolicyVersion { weights: "w".to_owned() };
        let mut start = Start::plain(ProblemId::from("p"), vec![1, 2]);
        start.prefix = prefix.to_vec();
        let rollout = |(index, &(is_correct, tokens)): (usize, &(bool, usize))| {
            let behavior = vec![-0.5; tokens];
            let completion = Completion { tokens: vec![3; tokens], behavior, stop: StopReason::Length };
            let (key_start, sampled_by) = (start.id.clone(), policy.clone());
            Rollout {
                key: TraceKey { start: key_start, policy: policy.clone(), seed: 0, index: index as u32 },
                trace: Trace { prompt: vec![1, 2], prefix: prefix.to_vec(), completion, sampled_by },
                verdict: Verdict {
                    outcome: if is_correct { Outcome::Correct } else { Outcome::Wrong },
                    extracted: None,
                },
            }
        };
        let rollouts = rollouts.iter().enumerate().map(rollout).collect();
        let selection = Selection::new(Arc::new(start), String::new());
        Group { selection, rollouts, masked: Vec::new(), fate: Fate::Learnt }
    }

    fn groups() -> Vec<Group> {
        vec![
            group(&[], &[(true, 4), (false, 2)]),
            group(&[], &[(false, 1), (false, 1)]),
            group(&[7; 5], &[(true, 2), (true, 0)]),
        ]
    }

    #[track_caller]
    fn check(objective: &dyn Weigh, aggregation: Aggregation, expected: Expect) {
        let groups = groups();
        let weighed: Vec<String> = weigh(objective, &groups, &[], aggregation, 10)
            .0
            .iter()
            .map(|w| {
                format!(
                    "{} tokens: {} / {:.4}",
                    w.trace.completion.tokens.len(),
                    w.weight.advantage,
                    w.weight.scale.recip()
                )
            })
            .collect();
        expected.assert_eq(&weighed.join(", "));
    }

    /// Silent groups are left out, and are counted in what the others are divided by.
    #[test]
    fn traces_that_speak_are_divided_by_the_whole_batch() {
        check(&Reinforce {}, Aggregation::TokenMean, expect!["4 tokens: 0.5 / 10.0000, 2 tokens: -0.5 / 10.0000"]);
        check(&Reinforce {}, Aggregation::TraceMean, expect!["4 tokens: 0.5 / 24.0000, 2 tokens: -0.5 / 12.0000"]);
        check(&Reinforce {}, Aggregation::Constant, expect!["4 tokens: 0.5 / 60.0000, 2 tokens: -0.5 / 60.0000"]);
        // Imitation has no baseline: the third group speaks, but for its empty completion.
        check(&Imitation {}, Aggregation::TokenMean, expect!["4 tokens: 1 / 10.0000, 2 tokens: 1 / 10.0000"]);
    }

    /// What the verifier failed on changes no weight of the others; it is paid for, and no attempt.
    #[test]
    fn what_was_not_judged_takes_no_part() {
        let with_masked = || {
            let mut groups = groups();
            for group in &mut groups {
                let mut masked = group.rollouts[0].clone();
                masked.key.index = 9;
                masked.verdict = Verdict::infra("no sandbox");
                group.masked.push(masked);
            }
            groups
        };
        let by = |objective: &dyn Weigh, groups: &[Group]| -> Vec<String> {
            let (weighed, shaping) = weigh(objective, groups, &[], Aggregation::TokenMean, 10);
            let weights = weighed.iter().map(|w| format!("{:?}", w.weight));
            weights.chain([format!("{shaping:?}")]).collect()
        };
        let shown = |groups: &[Group]| by(&Reinforce {}, groups);
        assert_eq!(shown(&with_masked()), shown(&groups()));
        let tables = "format = {weight = 0.5}\nrepetition = {weight = 0.5, ngram = 1}";
        let composed = Objective::read("grpo", tables.parse().unwrap()).unwrap();
        assert_eq!(by(&composed, &with_masked()), by(&composed, &groups()));
        assert_ne!(by(&composed, &groups()), shown(&groups()));
        let mut groups = with_masked();
        groups[1].rollouts.clear();
        groups[1].fate = Fate::Dropped;
        assert_eq!(shown(&groups).len(), 2 + 1, "a group of which nothing was judged says nothing");
        let event = step_event(1, PolicyVersion { weights: "w".to_owned() }, &groups, &Default::default());
        assert_eq!((event.plain.count.successes, event.plain.count.attempts, event.reward), (1, 2, 0.75));
        assert_eq!((event.plain.groups.all_fail, event.plain.groups.mixed), (0, 1));
        let outcomes: Vec<String> =
            event.outcomes.iter().map(|(outcome, count)| format!("{count} {outcome}")).collect();
        assert_eq!(outcomes.join(", "), "3 correct, 1 wrong, 3 infra");
        // As below, with the masked ones' 4 + 1 + 2 tokens and without the 2 of the cleared group.
        assert_eq!(event.compute.sampled_tokens, 3 * 2 + 5 + 10 + 7 - 2);
    }

    /// Of the batch's 10 tokens 6 are of successes: mean 0.6, variance (6 · 0.16 + 4 · 0.36) / 9 = 0.2667,
    /// so 0.4 / 0.5164 and −0.6 / 0.5164, in every group.
    #[test]
    fn a_batch_is_normalised_over_all_its_groups() {
        let objective = ReinforcePlusPlus { baseline: Baseline::None, clip_low: 0.2, clip_high: 0.2 };
        let groups = groups();
        let found: Vec<String> = weigh(&objective, &groups, &[], Aggregation::TokenMean, 10)
            .0
            .iter()
            .map(|w| format!("{}: {:.4}", w.trace.completion.tokens.len(), w.weight.advantage))
            .collect();
        expect!["4: 0.7746, 2: -1.1619, 1: -1.1619, 1: -1.1619, 2: 0.7746"].assert_eq(&found.join(", "));
    }

    #[test]
    fn groups_are_counted_by_kind_and_outcome() {
        let event = step_event(1, PolicyVersion { weights: "w".to_owned() }, &groups(), &Default::default());
        assert_eq!((event.plain.count.successes, event.plain.count.attempts), (1, 4));
        assert_eq!((event.prefixed.count.successes, event.prefixed.count.attempts), (2, 2));
        let mixture = |kind: super::KindStats| (kind.groups.all_fail, kind.groups.mixed, kind.groups.all_pass);
        assert_eq!((mixture(event.plain), mixture(event.prefixed)), ((1, 1, 0), (0, 0, 1)));
        assert_eq!((event.reward, event.entropy, event.cut_off), (0.5, 0.5, 6));
        // Prompts of 2 tokens once per group, the prefix of 5 once, and 10 completion tokens.
        assert_eq!(event.compute.sampled_tokens, 3 * 2 + 5 + 10);
    }
}
