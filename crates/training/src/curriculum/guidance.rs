//! A part of a problem's own worked solution, given as the beginning of the assistant's turn.
//!
//! ```text
//! W           = tokens of the solution before its answer
//! given(x)    = ⌊x · W + ½⌋ tokens, at most all but the last of the solution
//! ```
//!
//! Shares are of the part before the answer, as in `cut`, so that no share shows it. A problem without a
//! solution, or whose solution answers at once, is given nothing: its starts are plain.
//!
//! What several curricula count is counted here in one way, so that their costs can be compared.

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(super) mod world;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use toehold_rollout::{ProblemId, Start, SuccessCount};

use super::{BuildError, Fate, GroupOutcome, Material, Selection, Source, kept, named, refuse};
use crate::recipe::RecipeError;

/// The problems, each with its solution where it has one that can be cut.
pub(super) struct Guide {
    plain: Vec<Arc<Start>>,
    solutions: Vec<Option<Source>>,
    places: HashMap<ProblemId, usize>,
    without_solution: usize,
    uncuttable: usize,
}

impl Guide {
    /// The problems of `material`, in its order.
    ///
    /// # Errors
    /// When no problem has a solution of which a part can be given.
    pub(super) fn new(material: Material) -> Result<Guide, BuildError> {
        let mut given: HashMap<ProblemId, Source> = HashMap::new();
        material.solutions.into_iter().for_each(|source| {
            given.insert(source.problem.clone(), source);
        });
        let mut guide = Guide {
            plain: Vec::new(),
            solutions: Vec::new(),
            places: HashMap::new(),
            without_solution: 0,
            uncuttable: 0,
        };
        for (at, start) in material.plain.into_iter().enumerate() {
            let solution = given.remove(&start.problem);
            guide.without_solution += usize::from(solution.is_none());
            let cuttable = solution.filter(|source| longest(source) > 0);
            guide.uncuttable += usize::from(cuttable.is_none());
            guide.places.insert(start.problem.clone(), at);
            guide.plain.push(Arc::new(start));
            guide.solutions.push(cuttable);
        }
        // So far it counts those without a solution too.
        guide.uncuttable -= guide.without_solution;
        if guide.solutions.iter().all(Option::is_none) {
            return Err(BuildError::NoSolution {
                problems: guide.len(),
                without_solution: guide.without_solution,
                uncuttable: guide.uncuttable,
            });
        }
        Ok(guide)
    }

    /// Problems.
    pub(super) fn len(&self) -> usize {
        self.plain.len()
    }

    /// The number of this start's problem; none for a stranger.
    pub(super) fn place(&self, start: &Start) -> Option<usize> {
        self.places.get(&start.problem).copied()
    }

    /// Whether a part of this problem's solution can be given.
    pub(super) fn has_solution(&self, problem: usize) -> bool {
        self.solutions[problem].is_some()
    }

    /// The most tokens that may be given; 0 without a solution.
    pub(super) fn longest(&self, problem: usize) -> usize {
        self.solutions[problem].as_ref().map_or(0, longest)
    }

    /// The tokens that are this share of the solution before its answer.
    pub(super) fn given(&self, problem: usize, share: f64) -> usize {
        let worked = self.solutions[problem].as_ref().map_or(0, worked) as f64;
        ((share * worked + 0.5).floor().max(0.0) as usize).min(self.longest(problem))
    }

    /// What share of the solution before its answer so many tokens are; 0 without a solution.
    pub(super) fn share(&self, problem: usize, given: usize) -> f64 {
        self.solutions[problem].as_ref().map_or(0.0, |source| given as f64 / worked(source) as f64)
    }

    /// The different lengths above 0 that these shares come to, in rising order.
    pub(super) fn ladder(&self, problem: usize, shares: &[f64]) -> Vec<usize> {
        let mut lengths: Vec<usize> = shares.iter().map(|&share| self.given(problem, share)).collect();
        lengths.sort_unstable();
        lengths.dedup();
        lengths.retain(|&length| length > 0);
        lengths
    }

    /// The problem with so many tokens of its solution, and why.
    pub(super) fn select(&self, problem: usize, given: usize, why: &str) -> Selection {
        match &self.solutions[problem] {
            Some(source) if given > 0 => {
                let why = format!("{given} of {} tokens of the solution, {why}", source.tokens.len());
                Selection::new(Arc::new(source.start(given)), why)
            }
            _ => Selection::new(self.plain[problem].clone(), format!("plain, {why}")),
        }
    }

    /// Names problems and solutions, so that a state of others is refused.
    pub(super) fn name(&self) -> String {
        let whole: Vec<Start> = self.solutions.iter().flatten().map(|source| source.start(longest(source))).collect();
        kept::name(self.plain.iter().map(Arc::as_ref).chain(&whole))
    }

    /// How many problems cannot be guided.
    pub(super) fn metrics(&self) -> BTreeMap<String, f64> {
        named([
            ("problems_without_solution", self.without_solution as f64),
            ("problems_uncuttable", self.uncuttable as f64),
        ])
    }
}

fn worked(source: &Source) -> usize {
    source.limit.min(source.tokens.len())
}

fn longest(source: &Source) -> usize {
    worked(source).min(source.tokens.len().saturating_sub(1))
}

/// What was sampled so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Tally {
    /// Rollouts from plain starts.
    plain: SuccessCount,
    /// Rollouts that were given a part of a solution, or a cue.
    guided: SuccessCount,
    /// Tokens given, summed over the guided rollouts.
    given: u64,
    /// Rollouts of groups that were dropped, plain and guided.
    dropped: u64,
}

impl Tally {
    /// Counts a group, and hands on what becomes of it.
    pub(super) fn add(&mut self, selection: &Selection, outcome: GroupOutcome, fate: Fate) -> Fate {
        let given = given_tokens(&selection.start);
        let count = if given > 0 { &mut self.guided } else { &mut self.plain };
        count.merge(outcome.count);
        self.given += given * outcome.count.attempts;
        if fate == Fate::Dropped {
            self.dropped += outcome.count.attempts;
        }
        fate
    }

    /// Its numbers.
    pub(super) fn metrics(&self) -> BTreeMap<String, f64> {
        let mut metrics = named([
            ("plain_rollouts", self.plain.attempts as f64),
            ("guided_rollouts", self.guided.attempts as f64),
            ("dropped_rollouts", self.dropped as f64),
        ]);
        let given = (self.guided.attempts > 0).then(|| self.given as f64 / self.guided.attempts as f64);
        metrics.extend(named([("given_tokens", given.unwrap_or(0.0))]));
        metrics
    }
}

/// What happened in all steps where a group that failed is replaced by one that is given more.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Rescues {
    /// Steps begun.
    pub(super) steps: u64,
    /// Plain groups that failed and were replaced.
    pub(super) failed: u64,
    /// Groups that were given more in which one succeeded.
    pub(super) rescued: u64,
    /// What was sampled.
    pub(super) tally: Tally,
}

impl Rescues {
    /// Counts a group, whose plain one is `replaced` or not, and says what becomes of it.
    pub(super) fn add(&mut self, selection: &Selection, outcome: GroupOutcome, replaced: bool) -> Fate {
        let is_plain = given_tokens(&selection.start) == 0;
        self.failed += u64::from(is_plain && replaced);
        self.rescued += u64::from(!is_plain && outcome.count.successes > 0);
        self.tally.add(selection, outcome, if replaced { Fate::Dropped } else { Fate::Learnt })
    }

    /// Its numbers.
    pub(super) fn metrics(&self) -> BTreeMap<String, f64> {
        let mut metrics = named([("groups_failed", self.failed as f64), ("groups_rescued", self.rescued as f64)]);
        metrics.extend(self.tally.metrics());
        metrics
    }
}

/// The state of a curriculum that takes plain problems in turn and counts [`Rescues`].
#[derive(Serialize, Deserialize)]
pub(super) struct KeptRescues {
    /// Problems taken.
    pub(super) taken: u64,
    /// What happened.
    pub(super) counts: Rescues,
}

/// The tokens that are given beside the problem: of a prefix, or of what stands in the prompt.
fn given_tokens(start: &Start) -> u64 {
    let in_prompt = || start.origin.as_ref().map_or(0, |origin| u64::from(origin.source_tokens));
    if start.prefix.is_empty() { in_prompt() } else { start.prefix.len() as u64 }
}

/// Whether every rollout of the group failed; not when there is none with a verdict.
pub(super) fn is_all_fail(outcome: GroupOutcome) -> bool {
    outcome.count.attempts > 0 && outcome.count.successes == 0
}

/// Shares to give, as a setting: refused when there is none or one is outside `[0, 1]`.
pub(super) fn check_shares(key: &'static str, shares: &[f64]) -> Result<(), RecipeError> {
    match shares.iter().find(|share| !(0.0..=1.0).contains(*share)) {
        _ if shares.is_empty() => refuse(key, "[]", "at least one share"),
        Some(share) => refuse(key, share, "in [0, 1] each"),
        None => Ok(()),
    }
}
