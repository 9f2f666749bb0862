//! What the detectors remember from step to step: lengths by start, and of all plain starts together.
//!
//! Invariants: whole numbers only; at most [`STARTS`] starts, those that were not seen for the longest time
//! leave first, so that a curriculum that makes new starts without end does not fill the checkpoint.
//!
//! Zero cases: a start that was never seen has no earlier successes and no first average.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use toehold_rollout::StartId;

use super::lengths::Series;

/// Starts that are remembered at most.
pub const STARTS: usize = 4096;

/// Successes of a start whose lengths are remembered, the last ones.
pub const SUCCESSES: usize = 32;

/// The lengths of a run so far. Part of its checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// Steps so far.
    steps: u64,
    /// One observation per step: the completions of all plain starts.
    plain: Series,
    starts: BTreeMap<StartId, StartHistory>,
}

/// The lengths of one start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct StartHistory {
    /// The step in which it was last seen.
    seen: u64,
    /// One observation per group.
    groups: Series,
    /// Of successes that did not skip, the newest at the end.
    successes: VecDeque<u64>,
}

impl History {
    /// Begins a step.
    pub(super) fn begin(&mut self) {
        self.steps += 1;
    }

    /// Adds a group of this start.
    pub(super) fn observe(&mut self, start: &StartId, tokens: u64, completions: u64, window: usize) {
        let known = self.starts.entry(start.clone()).or_default();
        known.seen = self.steps;
        known.groups.observe(tokens, completions, window);
    }

    /// Adds the step's completions of plain starts.
    pub(super) fn observe_plain(&mut self, tokens: u64, completions: u64, window: usize) {
        self.plain.observe(tokens, completions, window);
    }

    /// Adds successes of this start, by length.
    pub(super) fn succeed(&mut self, start: &StartId, lengths: &[u64]) {
        let Some(known) = self.starts.get_mut(start) else { return };
        known.successes.extend(lengths);
        let excess = known.successes.len().saturating_sub(SUCCESSES);
        known.successes.drain(..excess);
    }

    /// Ends a step: forgets what is too much.
    pub(super) fn end(&mut self) {
        let excess = self.starts.len().saturating_sub(STARTS);
        if excess == 0 {
            return;
        }
        let mut oldest: Vec<(u64, StartId)> = self.starts.iter().map(|(id, known)| (known.seen, id.clone())).collect();
        oldest.sort();
        for (_, id) in oldest.into_iter().take(excess) {
            self.starts.remove(&id);
        }
    }

    /// The lengths of the start's successes in earlier steps.
    pub(super) fn successes(&self, start: &StartId) -> Vec<u64> {
        self.starts.get(start).map(|known| known.successes.iter().copied().collect()).unwrap_or_default()
    }

    /// All groups of this start.
    pub(super) fn of_start(&self, start: &StartId) -> Option<&Series> {
        self.starts.get(start).map(|known| &known.groups)
    }

    /// All plain starts together.
    pub fn plain(&self) -> &Series {
        &self.plain
    }

    /// Starts that are remembered.
    pub fn starts(&self) -> usize {
        self.starts.len()
    }
}

#[cfg(test)]
mod tests {
    use toehold_rollout::{ProblemId, StartId};

    use super::{History, STARTS, SUCCESSES};

    #[test]
    fn what_was_not_seen_for_the_longest_time_is_forgotten() {
        let id = |at: u32| StartId::of(&ProblemId::from("p"), &[at], &[]);
        let mut history = History::default();
        for step in 0..STARTS as u32 + 10 {
            history.begin();
            history.observe(&id(step), 8, 2, 4);
            // The very first one comes again and again.
            history.observe(&id(0), 8, 2, 4);
            history.end();
        }
        assert_eq!(history.starts(), STARTS);
        assert!(history.of_start(&id(0)).is_some() && history.of_start(&id(STARTS as u32)).is_some());
        assert!((1..=10).all(|at| history.of_start(&id(at)).is_none()));
        history.succeed(&id(0), &[3; SUCCESSES]);
        history.succeed(&id(0), &[5]);
        assert_eq!((history.successes(&id(0)).len(), history.successes(&id(0)).last()), (SUCCESSES, Some(&5)));
        // Of what is not known, nothing.
        history.succeed(&id(1), &[5]);
        assert!(history.successes(&id(1)).is_empty());
        let text = serde_json::to_string(&history).unwrap();
        assert_eq!(serde_json::from_str::<History>(&text).unwrap(), history);
    }
}
