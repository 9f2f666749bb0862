//! What the detectors say of a step's groups, and what is kept from being learnt.
//!
//! With `detect.action = "quarantine"` a success that one of `detect.quarantine_by` flags is taken out of its
//! group before anything is made of the rewards: it has no advantage, and the group's statistics, the
//! batch's normalisation and the division are those of the others. It is out of the statistics because its
//! verdict is what is doubted: left in the mean, it would push every failure of its group down, and what a
//! policy loses there it gains elsewhere, at the flagged completion too. So a group whose only success is
//! flagged is silent, as one that failed.
//!
//! Invariants: with `report`, and wherever nothing is flagged, the groups go on as they were. The store, the
//! curriculum and the counts of the events keep the verifier's verdict in any case.
//!
//! Zero cases: a group of which nothing is left is left out, with what an objective would have given it.

use std::collections::BTreeMap;

use toehold_rollout::collect::Judge;

use super::{Group, Rollout};
use crate::curriculum::Fate;
use crate::detector::answers::statements;
use crate::detector::{self, CompletionView, GroupView, History};
use crate::recipe::{Action, Detect, Detector};

/// What was found in a step.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Inspection {
    /// The detectors' numbers, by name.
    pub(super) metrics: BTreeMap<String, f64>,
    /// By group: successes that are not learnt from.
    pub(super) quarantined: Vec<usize>,
    /// The groups without them; none where they are as they were.
    without: Option<Vec<Group>>,
}

impl Inspection {
    /// What may be learnt from: `groups`, which are those that were inspected, without the quarantined.
    pub(super) fn trusted<'a>(&'a self, groups: &'a [Group]) -> &'a [Group] {
        self.without.as_deref().unwrap_or(groups)
    }
}

/// Inspects the groups of a step, whose texts `judge` may know, and adds their lengths to `history`.
pub(super) fn inspect(settings: &Detect, history: &mut History, judge: &dyn Judge, groups: &[Group]) -> Inspection {
    let views: Vec<GroupView<'_>> = groups.iter().map(|group| view(group, judge)).collect();
    let found = detector::inspect(settings, history, &views);
    // By group and rollout; of a group that is dropped nothing is learnt anyway.
    let in_quarantine = |(group, flags): (&Group, &Vec<Vec<Detector>>)| -> Vec<bool> {
        let rollouts = group.rollouts.iter().zip(flags);
        rollouts.map(|(rollout, flags)| group.fate == Fate::Learnt && is_doubted(settings, rollout, flags)).collect()
    };
    let in_quarantine: Vec<Vec<bool>> = groups.iter().zip(&found.flags).map(in_quarantine).collect();
    let count = |group: &Vec<bool>| group.iter().filter(|is| **is).count();
    let quarantined: Vec<usize> = in_quarantine.iter().map(count).collect();
    let without = quarantined.iter().any(|&count| count > 0).then(|| without(groups, &in_quarantine));
    Inspection { metrics: found.metrics, quarantined, without }
}

fn view<'a>(group: &'a Group, judge: &dyn Judge) -> GroupView<'a> {
    let start = &group.selection.start;
    let completion = |rollout: &'a Rollout| {
        let Rollout { trace, verdict, .. } = rollout;
        let answers = judge.text_of(start, &trace.completion).map(|text| statements(&text));
        CompletionView { tokens: &trace.completion.tokens, is_correct: verdict.outcome.is_correct(), answers }
    };
    GroupView {
        start: &start.id,
        is_plain: start.is_plain(),
        prefix: &start.prefix,
        completions: group.rollouts.iter().map(completion).collect(),
    }
}

fn is_doubted(settings: &Detect, rollout: &Rollout, flags: &[Detector]) -> bool {
    settings.action == Action::Quarantine
        && rollout.verdict.outcome.is_correct()
        && flags.iter().any(|flag| settings.quarantine_by.contains(flag))
}

fn without(groups: &[Group], in_quarantine: &[Vec<bool>]) -> Vec<Group> {
    let trusted = |(group, in_quarantine): (&Group, &Vec<bool>)| {
        let rollouts = group.rollouts.iter().zip(in_quarantine).filter(|(_, is)| !**is);
        let rollouts: Vec<Rollout> = rollouts.map(|(rollout, _)| rollout.clone()).collect();
        (!rollouts.is_empty()).then(|| Group { rollouts, ..group.clone() })
    };
    groups.iter().zip(in_quarantine).filter_map(trusted).collect()
}
