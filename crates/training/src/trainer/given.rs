//! What an objective that learns from given tokens is given with each group.
//!
//! Collected successes are read from the store: of the group's own start, in the order in which they were
//! sampled from a first one on that is drawn anew in each step, where there are more than are wanted. Only those of the
//! collection, which is complete before the first step: rollouts of training would be there or not
//! depending on when a run was killed.

use toehold_rollout::store::{ReadError, Stage, TraceFilter};
use toehold_rollout::{Completion, StopReason, Store, SuccessCount, Trace};
use toehold_verifier::Outcome;

use super::Group;
use crate::curriculum::Fate;
use crate::objective::Given;
use crate::random::seed_for;

/// What goes with one group.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct GivenTraces {
    /// Collected successes that join it.
    pub(super) stored: Vec<Trace>,
    /// The collection's counts of its start.
    pub(super) campaign: SuccessCount,
    /// Its prefix, as a completion of its prompt, and the prefix's advantage.
    pub(super) prefix: Option<(Trace, f64)>,
}

/// Nothing.
pub(super) static NOTHING: GivenTraces =
    GivenTraces { stored: Vec::new(), campaign: SuccessCount { successes: 0, attempts: 0 }, prefix: None };

/// What `objective` wants, by group.
pub(super) fn gather(
    store: &Store,
    objective: &dyn Given,
    groups: &[Group],
    step: u64,
) -> Result<Vec<GivenTraces>, ReadError> {
    let of_group = |group: &Group| {
        if group.fate == Fate::Dropped {
            return Ok(NOTHING.clone());
        }
        let rewards = group.rewards();
        if !group.selection.start.is_plain() {
            let prefix = objective.prefix_advantage(&rewards, &plain_rewards(groups, group));
            let prefix = prefix.and_then(|advantage| Some((prefix_trace(group)?, advantage)));
            return Ok(GivenTraces { prefix, ..NOTHING.clone() });
        }
        let (stored, campaign) = collected(store, group, objective.wanted(&rewards), step)?;
        Ok(GivenTraces { stored, campaign, prefix: None })
    };
    groups.iter().map(of_group).collect()
}

/// The rewards of the plain groups of the same problem.
fn plain_rewards(groups: &[Group], of: &Group) -> Vec<f64> {
    let problem = &of.selection.start.problem;
    let is_plain = |group: &&Group| {
        group.fate == Fate::Learnt && group.selection.start.is_plain() && group.selection.start.problem == *problem
    };
    groups.iter().filter(is_plain).flat_map(Group::rewards).collect()
}

/// The prefix as something to be scored. Nobody's behavior is known of it, so it has none.
fn prefix_trace(group: &Group) -> Option<Trace> {
    let first = group.rollouts.first()?;
    let tokens = group.selection.start.prefix.clone();
    let completion = Completion { tokens, behavior: Vec::new(), stop: StopReason::Length };
    Some(Trace { prefix: Vec::new(), completion, ..first.trace.clone() })
}

fn collected(store: &Store, group: &Group, wanted: usize, step: u64) -> Result<(Vec<Trace>, SuccessCount), ReadError> {
    if wanted == 0 {
        return Ok(Default::default());
    }
    let start = Some(group.selection.start.id.clone());
    let all = TraceFilter { start, stage: Some(Stage::Collect), ..TraceFilter::default() };
    let campaign = store.success(&all)?;
    let correct = store.traces(&TraceFilter { outcome: Some(Outcome::Correct), ..all })?;
    let drawn = seed_for(0, group.selection.start.id.as_str(), &[step]);
    let first = (drawn as usize).checked_rem(correct.len()).unwrap_or(0);
    let (earlier, later) = correct.split_at(first);
    let turn = later.iter().chain(earlier).take(wanted);
    Ok((turn.map(|stored| stored.trace.clone()).collect(), campaign))
}
