//! Prefixes of rare failures, cut where about half of the rollouts recover.
//!
//! ```text
//! problems = { collected successes / attempts >= saturated, and one failure that can be cut }
//! cuts     = i / (K + 1) of the failure before its answer, i = 1 ..= K      (K = 9: 10, 20 ... 90 %)
//! p̂(cut)   = successes / attempts of at least `rollouts` rollouts from problem + first cut tokens
//! chosen   = the cut with the least |p̂ − target|, the shorter of two; dropped unless 0 < p̂ < 1 and
//!            low <= p̂ <= high
//! starts   = every cut of every problem until p̂ is known, then the chosen cuts in epochs,
//!            and again from p̂ on at a plateau or on drift, `refreshes` times
//! ```
//!
//! Failure-prefix conditioning, arXiv 2601.20829, sections 4 and 7. A group of G at success p is mixed
//! with chance 1 − pᴳ − (1 − p)ᴳ, the most at p = 0.5; a problem solved 31 times in 32 gives little.
//!
//! A curriculum does not sample: the rollouts that estimate p̂ are groups of training steps like all
//! others, so they are paid for, stored and learnt from like them. Their number is in the metrics.
//! `progress` decides; this file says what is cut and gives the starts.
//!
//! Zero cases: a run in which no problem has a failure to cut does not begin. When no problem is left,
//! or none has a usable cut, all starts are plain. Truncated failures are not cut. A trace too short
//! for K cuts has fewer.
//!
//! Departures: the paper estimates before training and learns nothing from it; it samples new failures
//! at its refresh, where here the same failure is cut anew, because a curriculum hears counts, not
//! traces. It does not say how many rollouts estimate a cut, what a plateau is, or what is dropped.

mod progress;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use toehold_rollout::{ProblemId, Start, StartId, SuccessCount};

use self::progress::{Phase, Progress};
use super::cut::even_cuts;
use super::{
    BuildError, Curriculum, Cycle, Fate, GroupOutcome, Material, RestoreError, Selection, Source, Traces, kept, refuse,
};
use crate::random;
use crate::recipe::{RecipeError, section};

section! {
    /// Settings of the failure-prefix curriculum.
    FailurePrefix from FailurePrefixWritten {
        /// Candidate cuts per failure, at even distances. The paper: 9, at 10, 20 ... 90 %.
        cuts: usize = 9,
        /// The success that the chosen cut should have, in `(0, 1)`. The paper: 0.5.
        target: f64 = 0.5,
        /// A problem is used when at least this share of its collected attempts are correct, in `[0, 1]`.
        /// The paper: 31 of 32.
        saturated: f64 = 0.96875,
        /// Rollouts from each cut at least before one is chosen. The paper does not say; this is its
        /// group.
        rollouts: u64 = 16,
        /// A cut with less success than this is not used, in `[0, target]`.
        low: f64 = 0.2,
        /// A cut with more success than this is not used, in `[target, 1]`.
        high: f64 = 0.8,
        /// How often all cuts may be estimated again. The paper: once.
        refreshes: u64 = 1,
        /// Refresh when this share of the chosen cuts has left `[low, high]`, in `(0, 1]`.
        drift: f64 = 0.5,
        /// Refresh after so many epochs in which success did not rise.
        patience: u64 = 5,
        /// The rise of success over the best epoch so far that counts, in `[0, 1]`.
        gain: f64 = 0.01,
    }
}

/// The candidates of the problems that can be used, and how many cannot.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Screened {
    /// The starts of each problem that has any, in rising order of length; by problem.
    pub problems: Vec<Vec<Start>>,
    /// Problems that are solved too rarely.
    pub unsaturated: usize,
    /// Problems in which every collected trace is correct.
    pub without_failure: usize,
    /// Problems with failures, none of which can be cut.
    pub uncuttable: usize,
}

/// Cuts one failure of every saturated problem of `sources`, which hold its successes too. Of several
/// failures that can be cut, the seed draws one, whatever their order and rows in the store.
pub fn failure_prefixes(settings: &FailurePrefix, sources: &[Source], seed: u64) -> Screened {
    let mut of_problem: BTreeMap<&ProblemId, Vec<&Source>> = BTreeMap::new();
    sources.iter().for_each(|source| of_problem.entry(&source.problem).or_default().push(source));
    let mut screened = Screened::default();
    for traces in of_problem.values() {
        let mut count = SuccessCount::default();
        traces.iter().for_each(|source| count.add(source.is_correct));
        let failures = traces.iter().filter(|source| !source.is_correct);
        let cut = |source: &&&Source| !even_cuts(source.tokens.len(), source.limit, settings.cuts).is_empty();
        if count.successes == count.attempts {
            screened.without_failure += 1;
        } else if (count.successes as f64) < settings.saturated * count.attempts as f64 {
            screened.unsaturated += 1;
        } else if let Some(failure) =
            failures.filter(cut).min_by_key(|source| (source.lot("failure", seed), source.row))
        {
            screened.problems.push(starts_of(settings, failure));
        } else {
            screened.uncuttable += 1;
        }
    }
    screened
}

fn starts_of(settings: &FailurePrefix, source: &Source) -> Vec<Start> {
    let cuts = even_cuts(source.tokens.len(), source.limit, settings.cuts);
    cuts.into_iter().map(|length| source.start(length)).collect()
}

impl FailurePrefix {
    /// It cuts failures, and counts successes to know which problems are saturated.
    pub(super) const TRACES: Traces = Traces::All;

    pub(super) fn checked(self) -> Result<FailurePrefix, RecipeError> {
        match self {
            FailurePrefix { cuts: 0, .. } => refuse("cuts", 0, "at least 1"),
            FailurePrefix { rollouts: 0, .. } => refuse("rollouts", 0, "at least 1"),
            FailurePrefix { patience: 0, .. } => refuse("patience", 0, "at least 1"),
            FailurePrefix { target, .. } if !(target > 0.0 && target < 1.0) => refuse("target", target, "in (0, 1)"),
            FailurePrefix { saturated, .. } if !(0.0..=1.0).contains(&saturated) => {
                refuse("saturated", saturated, "in [0, 1]")
            }
            FailurePrefix { low, target, .. } if !(0.0..=target).contains(&low) => refuse("low", low, "in [0, target]"),
            FailurePrefix { high, target, .. } if !(target..=1.0).contains(&high) => {
                refuse("high", high, "in [target, 1]")
            }
            FailurePrefix { drift, .. } if !(drift > 0.0 && drift <= 1.0) => refuse("drift", drift, "in (0, 1]"),
            FailurePrefix { gain, .. } if !(0.0..=1.0).contains(&gain) => refuse("gain", gain, "in [0, 1]"),
            _ => Ok(self),
        }
    }

    pub(super) fn build(&self, material: Material, seed: u64) -> Result<Box<dyn Curriculum>, BuildError> {
        let Screened { problems, unsaturated, without_failure, uncuttable } =
            failure_prefixes(self, &material.sources, seed);
        // A problem that was never sampled has no failure either.
        let unsampled =
            material.plain.len().saturating_sub(problems.len() + unsaturated + without_failure + uncuttable);
        let without_failure = without_failure + unsampled;
        if problems.is_empty() || material.plain.is_empty() {
            let problems = material.plain.len();
            return Err(BuildError::NoFailure { problems, unsaturated, without_failure, uncuttable });
        }
        let candidates: Vec<Vec<Arc<Start>>> =
            problems.into_iter().map(|starts| starts.into_iter().map(Arc::new).collect()).collect();
        let place = |(problem, starts): (usize, &Vec<Arc<Start>>)| {
            starts.iter().enumerate().map(|(cut, start)| (start.id.clone(), (problem, cut))).collect::<Vec<_>>()
        };
        Ok(Box::new(FailurePrefixCurriculum {
            settings: self.clone(),
            seed,
            places: candidates.iter().enumerate().flat_map(place).collect(),
            progress: Progress::new(candidates.iter().map(Vec::len)),
            chosen: Vec::new(),
            chosen_cycle: Cycle::new("failure prefixes", seed, 0),
            plain_cycle: Cycle::new("plain starts", seed, material.plain.len()),
            plain: material.plain.into_iter().map(Arc::new).collect(),
            candidates,
            unusable: [unsaturated, without_failure, uncuttable],
        }))
    }
}

/// The failure-prefix curriculum at work.
struct FailurePrefixCurriculum {
    settings: FailurePrefix,
    seed: u64,
    plain: Vec<Arc<Start>>,
    /// The starts of each problem, by cut.
    candidates: Vec<Vec<Arc<Start>>>,
    /// The problem and the cut of a start.
    places: HashMap<StartId, (usize, usize)>,
    progress: Progress,
    /// The problem and the cut of every start that is trained from, and the epochs through them; both
    /// follow from `progress`.
    chosen: Vec<(usize, usize)>,
    chosen_cycle: Cycle,
    plain_cycle: Cycle,
    /// Problems not saturated, without a failure, and without one that can be cut.
    unusable: [usize; 3],
}

/// Its state.
#[derive(Serialize, Deserialize)]
struct Kept {
    progress: Progress,
    chosen_taken: u64,
    plain_taken: u64,
}

impl FailurePrefixCurriculum {
    fn follow_progress(&mut self) {
        self.chosen = self.progress.chosen();
        let seed = random::seed_for(self.seed, "failure round", &[self.progress.round]);
        self.chosen_cycle = Cycle::new("failure prefixes", seed, self.chosen.len());
    }

    fn estimates(&self, count: usize) -> Vec<Selection> {
        let wanted = self.progress.wanted(self.settings.rollouts);
        let select = |&(problem, cut): &(usize, usize)| {
            let seen = self.progress.estimate(problem, cut).attempts;
            let why = format!("estimate after {seen} rollouts, {}", self.place(problem, cut));
            Selection::new(self.candidates[problem][cut].clone(), why)
        };
        // Groups left over in the last step of a round make its first estimates surer.
        wanted.iter().cycle().take(count).map(select).collect()
    }

    fn select(&mut self) -> Option<Selection> {
        if let Some((problem, cut)) = self.chosen_cycle.take().map(|at| self.chosen[at]) {
            let SuccessCount { successes, attempts } = self.progress.estimate(problem, cut);
            let why = format!("success {successes}/{attempts} when chosen, {}", self.place(problem, cut));
            return Some(Selection::new(self.candidates[problem][cut].clone(), why));
        }
        let why = "plain, no failure prefix is usable".to_owned();
        self.plain_cycle.take().map(|at| Selection::new(self.plain[at].clone(), why))
    }

    fn place(&self, problem: usize, cut: usize) -> String {
        let start = &self.candidates[problem][cut];
        let of = start.origin.as_ref().map_or(0, |origin| origin.source_tokens);
        format!("{} of {of} tokens of a failure, round {}", start.prefix.len(), self.progress.round)
    }

    /// The mean share of its trace that a chosen prefix is; none without one.
    fn mean_share(&self) -> Option<f64> {
        let share = |&(problem, cut): &(usize, usize)| {
            let start = &self.candidates[problem][cut];
            let of = start.origin.as_ref().map_or(1, |origin| origin.source_tokens.max(1));
            start.prefix.len() as f64 / f64::from(of)
        };
        (!self.chosen.is_empty()).then(|| self.chosen.iter().map(share).sum::<f64>() / self.chosen.len() as f64)
    }

    /// Names the candidates, so that a state of other material is refused.
    fn material(&self) -> String {
        kept::name(self.candidates.iter().flatten().chain(&self.plain).map(Arc::as_ref))
    }
}

impl Curriculum for FailurePrefixCurriculum {
    fn next(&mut self, count: usize) -> Vec<Selection> {
        // Here and not while hearing, so that all groups of a step are heard in the phase they are of.
        if self.progress.advance(&self.settings) {
            self.follow_progress();
        }
        match self.progress.phase {
            Phase::Estimating => self.estimates(count),
            Phase::Training => (0..count).map_while(|_| self.select()).collect(),
        }
    }

    fn observe(&mut self, selection: &Selection, outcome: GroupOutcome) -> Fate {
        if let Some(&(problem, cut)) = self.places.get(&selection.start.id) {
            self.progress.observe(problem, cut, outcome.count, &self.settings);
        }
        Fate::Learnt
    }

    fn state(&self) -> Value {
        let (chosen_taken, plain_taken) = (self.chosen_cycle.taken(), self.plain_cycle.taken());
        kept::keep(self.material(), &Kept { progress: self.progress.clone(), chosen_taken, plain_taken })
    }

    fn restore(&mut self, state: &Value) -> Result<(), RestoreError> {
        let Kept { progress, chosen_taken, plain_taken } = kept::kept(state, &self.material())?;
        if !progress.fits(self.candidates.iter().map(Vec::len)) {
            return Err(RestoreError { reason: "`progress` is of other cuts".to_owned() });
        }
        self.progress = progress;
        self.follow_progress();
        self.chosen_cycle.seek(chosen_taken);
        self.plain_cycle.seek(plain_taken);
        Ok(())
    }

    fn metrics(&self) -> BTreeMap<String, f64> {
        let [unsaturated, without_failure, uncuttable] = self.unusable.map(|count| count as f64);
        let mut metrics = self.progress.metrics(&self.settings);
        metrics.extend([
            ("curriculum/problems_unsaturated", unsaturated),
            ("curriculum/problems_without_failure", without_failure),
            ("curriculum/problems_uncuttable", uncuttable),
        ]);
        metrics.extend(self.mean_share().map(|share| ("curriculum/prefix_share", share)));
        metrics.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}
