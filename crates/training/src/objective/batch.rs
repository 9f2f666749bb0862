//! From the rewards of a batch to one advantage and one factor per trace, in the one right order.
//!
//! 1. rewards are shaped ([`Modifiers::parts`](super::Modifiers::parts));
//! 2. each group's advantages, with what joins it ([`Weigh::advantages_of`], [`Given::joint_advantages`]);
//! 3. the batch's normalisation ([`Weigh::normalise_batch`]), over what the groups sampled;
//! 4. bounds ([`Modifiers::bound`](super::Modifiers::bound));
//! 5. the division by the whole batch ([`aggregate`]).
//!
//! Anything linear that stood before 2 would be taken out again by a standardisation, and a bound before 3
//! would not be one.
//!
//! Zero cases: a trace that cannot move anything has no weight (`None`): its advantage is zero and no
//! bonus wants it, it has no tokens, or it was cut off and is masked. It is counted in the division as
//! its tokens say: a masked one has none.

use toehold_rollout::TokenId;
use toehold_verifier::Outcome;

use super::modifier::Parts;
use super::{Ending, Given, Weigh, aggregate};
use crate::recipe::Aggregation;

/// A group as it is weighed.
#[derive(Clone, Debug, Default)]
pub struct GroupView<'a> {
    /// One reward per rollout.
    pub rewards: Vec<f64>,
    /// What the verifier said of each; may be left out without `[objective.format]`.
    pub outcomes: Vec<Outcome>,
    /// The tokens of each completion; may be left out for an objective that compares none, without
    /// `[objective.repetition]`.
    pub completions: Vec<&'a [TokenId]>,
    /// How each ended.
    pub endings: Vec<Ending>,
    /// Tokens of each stored success that joins it.
    pub stored: Vec<usize>,
    /// Advantage and tokens of its prefix, where that is learnt from.
    pub prefix: Option<(f64, usize)>,
}

/// How much a trace counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weight {
    /// Its advantage.
    pub advantage: f64,
    /// What its coefficients are multiplied by.
    pub scale: f64,
}

/// The weights of a group; none for a trace that moves nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupWeights {
    /// The rewards that the advantages were made of.
    pub rewards: Vec<f64>,
    /// What these are made of.
    pub parts: Vec<Parts>,
    /// Of its own traces.
    pub own: Vec<Option<Weight>>,
    /// Of what joined it.
    pub stored: Vec<Option<Weight>>,
    /// Of its prefix.
    pub prefix: Option<Weight>,
}

/// The weights of a batch, by group. `limit` is that of a completion in tokens.
///
/// ```
/// use toehold_rollout::StopReason;
/// use toehold_training::objective::{Ending, batch::{GroupView, weights}, reinforce::Reinforce};
/// use toehold_training::recipe::Aggregation;
/// let ended = |tokens| Ending { tokens, stop: StopReason::EndOfText };
/// let group = |rewards: [f64; 2]| GroupView {
///     rewards: rewards.to_vec(),
///     endings: vec![ended(3), ended(1)],
///     ..GroupView::default()
/// };
/// // The second group is silent; its tokens count in the division by 8.
/// let found = weights(&Reinforce {}, &[group([1.0, 0.0]), group([0.0, 0.0])], Aggregation::TokenMean, 10);
/// let failure = found[0].own[1].unwrap();
/// assert_eq!((failure.advantage, failure.scale), (-0.5, 0.125));
/// assert_eq!(found[1].own, [None, None]);
/// ```
pub fn weights(
    objective: &dyn Weigh,
    groups: &[GroupView<'_>],
    aggregation: Aggregation,
    limit: u32,
) -> Vec<GroupWeights> {
    let modifiers = objective.modifiers();
    let parts: Vec<Vec<Parts>> = groups.iter().map(|group| modifiers.parts(group, limit)).collect();
    let rewards: Vec<Vec<f64>> = parts.iter().map(|parts| parts.iter().map(Parts::reward).collect()).collect();
    let (mut own, mut joined) = (Vec::new(), Vec::new());
    for (rewards, group) in rewards.iter().zip(groups) {
        let (of_group, of_stored) = advantages(objective, objective.given(), rewards, group);
        own.extend(of_group);
        joined.push(of_stored);
    }
    let kept = |ending: &Ending| if modifiers.keeps(ending) { ending.tokens } else { 0 };
    let mut lengths: Vec<usize> = groups.iter().flat_map(|group| &group.endings).map(kept).collect();
    objective.normalise_batch(&mut own, &lengths);
    let mut rest = own.as_mut_slice();
    for group in groups {
        let (of_group, others) = rest.split_at_mut(group.rewards.len());
        modifiers.bound(&group.rewards, of_group);
        rest = others;
    }
    let prefixes = groups.iter().map(|group| group.prefix.map(|(_, tokens)| tokens));
    lengths.extend(groups.iter().flat_map(|group| group.stored.iter().copied()));
    lengths.extend(prefixes.flatten());
    // In the order of `lengths`: what the groups sampled, what joined them, their prefixes.
    let mut scales = aggregate::scales(aggregation, &lengths, limit).into_iter().zip(&lengths);
    let mut weight = |advantage: f64, hears_silence: bool| {
        let (scale, &tokens) = scales.next()?;
        let is_heard = tokens > 0 && (advantage != 0.0 || hears_silence);
        is_heard.then_some(Weight { advantage, scale })
    };
    let own: Vec<Option<Weight>> = own.into_iter().map(|own| weight(own, modifiers.hears_silence())).collect();
    let mut stored = |joined: Vec<f64>| joined.into_iter().map(|joined| weight(joined, false)).collect();
    let stored: Vec<Vec<Option<Weight>>> = joined.into_iter().map(&mut stored).collect();
    let prefixes: Vec<Option<Weight>> =
        groups.iter().map(|group| group.prefix.and_then(|(advantage, _)| weight(advantage, false))).collect();
    let mut own = own.into_iter();
    let of_group = |(((rewards, parts), stored), prefix): (((Vec<f64>, _), _), _)| {
        let own = own.by_ref().take(rewards.len()).collect();
        GroupWeights { rewards, parts, own, stored, prefix }
    };
    rewards.into_iter().zip(parts).zip(stored).zip(prefixes).map(of_group).collect()
}

fn advantages(
    objective: &dyn Weigh,
    given: Option<&dyn Given>,
    rewards: &[f64],
    group: &GroupView<'_>,
) -> (Vec<f64>, Vec<f64>) {
    let stored = group.stored.len();
    match given {
        Some(given) => given.joint_advantages(rewards, stored),
        None => (objective.advantages_of(rewards, &group.completions), vec![0.0; stored]),
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use expect_test::{Expect, expect};
    use toehold_rollout::StopReason;

    use super::{GroupView, Weight, weights};
    use crate::objective::{Ending, Objective};
    use crate::recipe::{Aggregation, Method};

    /// A group of rewards and lengths; one of ten tokens was cut off.
    fn group(rollouts: &[(f64, usize)]) -> GroupView<'static> {
        let stop = |tokens| if tokens == 10 { StopReason::Length } else { StopReason::EndOfText };
        GroupView {
            rewards: rollouts.iter().map(|&(reward, _)| reward).collect(),
            endings: rollouts.iter().map(|&(_, tokens)| Ending { tokens, stop: stop(tokens) }).collect(),
            ..GroupView::default()
        }
    }

    #[track_caller]
    fn check(kind: &str, settings: &str, groups: &[GroupView<'_>], expected: Expect) {
        let objective = Objective::read(kind, settings.parse().unwrap()).unwrap();
        let mut found = String::new();
        for group in weights(&objective, groups, Aggregation::TokenMean, 10) {
            let shown = |weight: &Option<Weight>| match weight {
                Some(weight) => format!("{:.3}/{:.0}", weight.advantage, weight.scale.recip()),
                None => "-".to_owned(),
            };
            let all = |weights: &[Option<Weight>]| weights.iter().map(shown).collect::<Vec<_>>().join(" ");
            let (own, stored, prefix) = (all(&group.own), all(&group.stored), shown(&group.prefix));
            writeln!(found, "{:?}: {own} | {stored} | {prefix}", group.rewards).unwrap();
        }
        expected.assert_eq(&found);
    }

    fn groups() -> [GroupView<'static>; 2] {
        [group(&[(1.0, 4), (0.0, 10), (0.0, 2), (0.0, 0)]), group(&[(1.0, 8), (1.0, 10)])]
    }

    #[test]
    fn each_modifier_acts_in_its_place() {
        check(
            "reinforce",
            "",
            &groups(),
            expect![[r#"
            [1.0, 0.0, 0.0, 0.0]: 0.750/34 -0.250/34 -0.250/34 - |  | -
            [1.0, 1.0]: - - |  | -
        "#]],
        );
        // The completion that was cut off stays in its group's mean and leaves the division.
        check(
            "reinforce",
            "overlong = {kind = \"mask\"}",
            &groups(),
            expect![[r#"
            [1.0, 0.0, 0.0, 0.0]: 0.750/14 - -0.250/14 - |  | -
            [1.0, 1.0]: - - |  | -
        "#]],
        );
        // The second group's lengths end its silence.
        check(
            "reinforce",
            "overlong = {kind = \"penalty\", tail = 4}",
            &groups(),
            expect![[r#"
            [1.0, -1.0, 0.0, 0.0]: 1.000/34 -1.000/34 - - |  | -
            [0.5, 0.0]: 0.250/34 -0.250/34 |  | -
        "#]],
        );
        check(
            "grpo",
            "cap = {advantage = 1.0}",
            &groups(),
            expect![[r#"
            [1.0, 0.0, 0.0, 0.0]: 1.000/34 -0.500/34 -0.500/34 - |  | -
            [1.0, 1.0]: - - |  | -
        "#]],
        );
        // The whitening comes before the bound.
        check(
            "reinforce-plus-plus",
            "cap = {advantage = 0.5}",
            &groups(),
            expect![[r#"
            [1.0, 0.0, 0.0, 0.0]: 0.500/34 -0.500/34 -0.500/34 - |  | -
            [1.0, 1.0]: 0.500/34 0.500/34 |  | -
        "#]],
        );
        check(
            "grpo",
            "cap = {successes = 2}",
            &groups(),
            expect![[r#"
            [1.0, 0.0, 0.0, 0.0]: - -0.500/34 -0.500/34 - |  | -
            [1.0, 1.0]: - - |  | -
        "#]],
        );
        // Silent traces have to be shown to the learner, those without tokens never.
        check(
            "reinforce",
            "entropy = {weight = 0.01}",
            &groups(),
            expect![[r#"
            [1.0, 0.0, 0.0, 0.0]: 0.750/34 -0.250/34 -0.250/34 - |  | -
            [1.0, 1.0]: 0.000/34 0.000/34 |  | -
        "#]],
        );
    }

    #[test]
    fn what_is_given_counts_in_the_division() {
        let mut groups = groups();
        groups[0].stored = vec![6];
        check(
            "luffy",
            "",
            &groups,
            expect![[r#"
            [1.0, 0.0, 0.0, 0.0]: 0.600/40 -0.400/40 -0.400/40 - | 0.600/40 | -
            [1.0, 1.0]: - - |  | -
        "#]],
        );
        groups[0].stored = vec![];
        groups[1].prefix = Some((0.5, 3));
        check(
            "prefix-rft",
            "",
            &groups,
            expect![[r#"
            [1.0, 0.0, 0.0, 0.0]: 1.500/37 -0.500/37 -0.500/37 - |  | -
            [1.0, 1.0]: - - |  | 0.500/37
        "#]],
        );
        // An objective that knows nothing of stored traces weighs them nothing.
        groups[0].stored = vec![6];
        check(
            "grpo",
            "",
            &groups[..1],
            expect![[r#"
            [1.0, 0.0, 0.0, 0.0]: 1.500/22 -0.500/22 -0.500/22 - | - | -
        "#]],
        );
        check("grpo", "", &[], expect![""]);
    }

    /// The completions reach an objective that compares them: of two failures the one that is like the success
    /// is learnt from.
    #[test]
    fn completions_are_compared() {
        let alike =
            GroupView { completions: vec![&[1, 2], &[3, 4], &[1, 2]], ..group(&[(1.0, 2), (0.0, 2), (0.0, 2)]) };
        check(
            "care",
            "negatives = 1",
            &[alike],
            expect![[r#"
            [1.0, 0.0, 0.0]: 1.000/6 - -0.500/6 |  | -
        "#]],
        );
    }
}
