//! A world whose success is known, to try curricula on: each start has a chance, and a group is that
//! many coins.

use toehold_rollout::{Start, SuccessCount};

use super::{Curriculum, Fate, GroupOutcome, Selection};
use crate::random;

/// Rollouts per group.
pub(crate) const GROUP: u64 = 16;

/// One group as it was chosen, and what came of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Played {
    pub(crate) selection: Selection,
    pub(crate) outcome: GroupOutcome,
    pub(crate) fate: Fate,
}

/// Step number `step` of a run: `starts` groups of [`GROUP`] rollouts, and those that the curriculum asks
/// for again, of completions of 10 tokens. `chance` is the success of a rollout from a start.
pub(crate) fn step(
    curriculum: &mut dyn Curriculum,
    step: u64,
    starts: usize,
    chance: impl Fn(&Start) -> f64,
) -> Vec<Played> {
    let mut played = Vec::new();
    let mut selections = curriculum.next(starts);
    while !selections.is_empty() {
        for selection in std::mem::take(&mut selections) {
            let mut rng = random::stream(11, "world", &[step, played.len() as u64]);
            let mut count = SuccessCount::default();
            (0..GROUP).for_each(|_| count.add(random::unit(&mut rng) < chance(&selection.start)));
            let outcome = GroupOutcome { count, completion_tokens: 10 * GROUP };
            let fate = curriculum.observe(&selection, outcome);
            played.push(Played { selection, outcome, fate });
        }
        selections = curriculum.again();
        assert!(played.len() < 10_000, "it asks for ever");
    }
    played
}

/// Steps `from .. to`, one after another.
pub(crate) fn run(
    curriculum: &mut dyn Curriculum,
    steps: std::ops::Range<u64>,
    starts: usize,
    chance: impl Fn(&Start, u64) -> f64,
) -> Vec<Vec<Played>> {
    steps.map(|at| step(curriculum, at, starts, |start| chance(start, at))).collect()
}

/// Checks that a state taken after any of `steps` steps goes on exactly, and that one of other material,
/// and none, are refused.
#[track_caller]
pub(crate) fn check_resume(
    build: impl Fn() -> Box<dyn Curriculum>,
    mut other: Box<dyn Curriculum>,
    steps: u64,
    starts: usize,
    chance: impl Fn(&Start, u64) -> f64,
) {
    let whole = run(build().as_mut(), 0..steps, starts, &chance);
    for at in 0..steps {
        let mut before = build();
        run(before.as_mut(), 0..at, starts, &chance);
        // As a checkpoint keeps it: what does not come back from text to the bit shows here.
        let state: serde_json::Value = serde_json::from_str(&before.state().to_string()).unwrap();
        let mut after = build();
        after.restore(&state).unwrap();
        assert_eq!(after.state(), state, "after {at}");
        assert_eq!(run(after.as_mut(), at..steps, starts, &chance), whole[at as usize..], "after {at}");
        assert_eq!(after.metrics().len(), before.metrics().len());
        other.restore(&state).unwrap_err();
    }
    build().restore(&serde_json::Value::Null).unwrap_err();
}

/// The groups in a few words each: problem, tokens given, successes, `-` if dropped.
pub(crate) fn shown(played: &[Played]) -> String {
    let shown = |one: &Played| {
        let (start, dropped) = (&one.selection.start, if one.fate == Fate::Dropped { "-" } else { "" });
        format!("{}:{}={}{dropped}", start.problem.as_str(), start.prefix.len(), one.outcome.count.successes)
    };
    played.iter().map(shown).collect::<Vec<_>>().join(" ")
}
