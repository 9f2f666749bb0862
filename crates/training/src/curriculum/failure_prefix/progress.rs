//! Rounds of estimating, choosing and training, in counts alone.
//!
//! Invariants: everything is whole numbers, so that a state written as text comes back to the bit;
//! phases change in [`Progress::advance`] only, between steps.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use toehold_rollout::SuccessCount;

use super::FailurePrefix;

/// What the rollouts of now are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Phase {
    /// To know the success of every cut.
    Estimating,
    /// To learn from the chosen cuts.
    Training,
}

/// What is made of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Standing {
    /// Its cuts are being estimated.
    Open,
    /// The cut of this number is trained from.
    Chosen(usize),
    /// No cut of it was usable; it does not come back.
    Dropped,
}

/// What is known of a problem.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Known {
    standing: Standing,
    /// The success of each cut, of this round.
    estimates: Vec<SuccessCount>,
    /// Training rollouts since the success was last compared with `[low, high]`.
    recent: SuccessCount,
    /// The success of the chosen cut was outside `[low, high]` when last compared.
    is_stale: bool,
}

/// Where the curriculum stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Progress {
    /// What is being done.
    pub(super) phase: Phase,
    /// Refreshes begun.
    pub(super) round: u64,
    problems: Vec<Known>,
    /// Training rollouts and groups of the epoch that is not complete.
    epoch: SuccessCount,
    epoch_groups: u64,
    /// The epoch of this round with the most success, and epochs since without a rise.
    best: SuccessCount,
    flat_epochs: u64,
    /// All rollouts that estimated, and all that trained from chosen cuts.
    estimating: SuccessCount,
    training: SuccessCount,
}

impl Progress {
    /// The beginning, with problems of so many cuts.
    pub(super) fn new(cuts: impl Iterator<Item = usize>) -> Progress {
        let none = SuccessCount::default();
        let known =
            |cuts| Known { standing: Standing::Open, estimates: vec![none; cuts], recent: none, is_stale: false };
        Progress {
            phase: Phase::Estimating,
            round: 0,
            problems: cuts.map(known).collect(),
            epoch: none,
            epoch_groups: 0,
            best: none,
            flat_epochs: 0,
            estimating: none,
            training: none,
        }
    }

    /// Whether it is of problems with so many cuts.
    pub(super) fn fits(&self, cuts: impl Iterator<Item = usize>) -> bool {
        let is_of = |known: &Known, cuts: usize| {
            let chosen = if let Standing::Chosen(cut) = known.standing { cut } else { 0 };
            known.estimates.len() == cuts && chosen < cuts
        };
        let cuts: Vec<usize> = cuts.collect();
        cuts.len() == self.problems.len() && self.problems.iter().zip(cuts).all(|(known, cuts)| is_of(known, cuts))
    }

    /// What is known of a cut's success in this round.
    pub(super) fn estimate(&self, problem: usize, cut: usize) -> SuccessCount {
        self.problems[problem].estimates[cut]
    }

    /// The problem and cut of every estimate that has fewer than `rollouts`. Problem by problem, so that
    /// the cuts of one are compared under nearly the same policy.
    pub(super) fn wanted(&self, rollouts: u64) -> Vec<(usize, usize)> {
        let is_open = |(_, known): &(usize, &Known)| known.standing == Standing::Open;
        let open = self.problems.iter().enumerate().filter(is_open);
        open.flat_map(|(problem, known)| {
            let few = known.estimates.iter().enumerate().filter(|(_, count)| count.attempts < rollouts);
            few.map(move |(cut, _)| (problem, cut)).collect::<Vec<_>>()
        })
        .collect()
    }

    /// The problem and cut of every start that is trained from.
    pub(super) fn chosen(&self) -> Vec<(usize, usize)> {
        let cut = |(problem, known): (usize, &Known)| match known.standing {
            Standing::Chosen(cut) => Some((problem, cut)),
            Standing::Open | Standing::Dropped => None,
        };
        self.problems.iter().enumerate().filter_map(cut).collect()
    }

    /// Goes over to the next phase if this one is complete, and says whether it did.
    pub(super) fn advance(&mut self, settings: &FailurePrefix) -> bool {
        match self.phase {
            Phase::Estimating if self.wanted(settings.rollouts).is_empty() => self.choose(settings),
            Phase::Training if self.round < settings.refreshes && self.has_to_refresh(settings) => self.refresh(),
            _ => return false,
        }
        true
    }

    /// Hears of a group from this cut.
    pub(super) fn observe(&mut self, problem: usize, cut: usize, outcome: SuccessCount, settings: &FailurePrefix) {
        let known = &mut self.problems[problem];
        match (self.phase, known.standing) {
            (Phase::Estimating, Standing::Open) => {
                self.estimating.merge(outcome);
                known.estimates[cut].merge(outcome);
            }
            (Phase::Training, Standing::Chosen(chosen)) if chosen == cut => {
                self.training.merge(outcome);
                known.recent.merge(outcome);
                if known.recent.attempts >= settings.rollouts {
                    known.is_stale = !is_usable(std::mem::take(&mut known.recent), settings);
                }
                self.epoch.merge(outcome);
                self.epoch_groups += 1;
                if self.epoch_groups >= self.chosen().len() as u64 {
                    self.end_epoch(settings);
                }
            }
            // A start that was asked for in a phase that is over.
            _ => {}
        }
    }

    /// Numbers that are worth a curve, by name.
    pub(super) fn metrics(&self, settings: &FailurePrefix) -> BTreeMap<&'static str, f64> {
        let chosen = self.chosen();
        let is_dropped = |known: &&Known| known.standing == Standing::Dropped;
        let mut metrics = BTreeMap::from([
            ("curriculum/round", self.round as f64),
            ("curriculum/cuts_to_estimate", self.wanted(settings.rollouts).len() as f64),
            ("curriculum/problems_in_use", chosen.len() as f64),
            ("curriculum/problems_stale", self.stale() as f64),
            ("curriculum/problems_dropped", self.problems.iter().filter(is_dropped).count() as f64),
            ("curriculum/flat_epochs", self.flat_epochs as f64),
            ("curriculum/estimating_rollouts", self.estimating.attempts as f64),
            ("curriculum/training_rollouts", self.training.attempts as f64),
        ]);
        let mut estimate = SuccessCount::default();
        chosen.iter().for_each(|&(problem, cut)| estimate.merge(self.estimate(problem, cut)));
        metrics.extend(estimate.rate().map(|rate| ("curriculum/success_when_chosen", rate)));
        metrics
    }

    fn choose(&mut self, settings: &FailurePrefix) {
        for known in self.problems.iter_mut().filter(|known| known.standing == Standing::Open) {
            known.standing = nearest(&known.estimates, settings).map_or(Standing::Dropped, Standing::Chosen);
        }
        self.phase = Phase::Training;
        self.forget_epochs();
    }

    fn refresh(&mut self) {
        for known in self.problems.iter_mut().filter(|known| known.standing != Standing::Dropped) {
            let cuts = known.estimates.len();
            known.standing = Standing::Open;
            known.estimates = vec![SuccessCount::default(); cuts];
            known.recent = SuccessCount::default();
            known.is_stale = false;
        }
        self.phase = Phase::Estimating;
        self.round += 1;
        self.forget_epochs();
    }

    fn forget_epochs(&mut self) {
        (self.epoch, self.epoch_groups) = (SuccessCount::default(), 0);
        (self.best, self.flat_epochs) = (SuccessCount::default(), 0);
    }

    /// Compares an epoch with the best of its round. The best of many noisy epochs is too high, so that
    /// a slow rise can pass for a plateau; with many problems the noise is small.
    fn end_epoch(&mut self, settings: &FailurePrefix) {
        let epoch = std::mem::take(&mut self.epoch);
        self.epoch_groups = 0;
        let has_risen = match (epoch.rate(), self.best.rate()) {
            (Some(rate), Some(best)) => rate >= best + settings.gain,
            (_, None) => true,
            (None, Some(_)) => false,
        };
        if has_risen {
            (self.best, self.flat_epochs) = (epoch, 0);
        } else {
            self.flat_epochs += 1;
        }
    }

    fn has_to_refresh(&self, settings: &FailurePrefix) -> bool {
        let chosen = self.chosen().len();
        let has_drifted = self.stale() as f64 >= settings.drift * chosen as f64;
        chosen > 0 && (has_drifted || self.flat_epochs >= settings.patience)
    }

    fn stale(&self) -> usize {
        self.problems.iter().filter(|known| known.is_stale).count()
    }
}

/// The cut whose success is nearest the target, the shorter of two; none where it is not usable.
fn nearest(estimates: &[SuccessCount], settings: &FailurePrefix) -> Option<usize> {
    // Rounding must not decide between 3/10 and 7/10.
    const EQUAL: f64 = 1e-9;
    let mut best: Option<(usize, f64)> = None;
    for (cut, estimate) in estimates.iter().enumerate() {
        let Some(rate) = estimate.rate() else { continue };
        let distance = (rate - settings.target).abs();
        if best.is_none_or(|(_, least)| distance < least - EQUAL) {
            best = Some((cut, distance));
        }
    }
    best.map(|(cut, _)| cut).filter(|&cut| is_usable(estimates[cut], settings))
}

fn is_usable(count: SuccessCount, settings: &FailurePrefix) -> bool {
    let is_mixed = count.successes > 0 && count.successes < count.attempts;
    is_mixed && count.rate().is_some_and(|rate| rate >= settings.low && rate <= settings.high)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use toehold_rollout::SuccessCount;

    use super::super::FailurePrefix;
    use super::super::tests::PAPER;
    use super::{Phase, Progress, nearest};

    #[track_caller]
    fn check(successes: &[u64], attempts: u64, expected: Expect) {
        let estimates: Vec<SuccessCount> =
            successes.iter().map(|&successes| SuccessCount { successes, attempts }).collect();
        expected.assert_eq(&format!("{:?}", nearest(&estimates, &PAPER)));
    }

    #[test]
    fn the_nearest_cut_is_taken() {
        check(&[15, 12, 9, 3, 0], 16, expect!["Some(2)"]);
        // Of two at the same distance the shorter, also where 0.5 − 0.3 and 0.7 − 0.5 differ in the last bit.
        check(&[14, 11, 5, 2], 16, expect!["Some(1)"]);
        check(&[9, 7, 3], 10, expect!["Some(1)"]);
        check(&[9, 3, 7], 10, expect!["Some(1)"]);
        // Not monotone: noise, or a trace that recovers on its own.
        check(&[2, 16, 8, 1], 16, expect!["Some(2)"]);
    }

    #[test]
    fn a_cut_outside_the_range_is_no_cut() {
        check(&[16, 16, 16], 16, expect!["None"]);
        check(&[0, 0, 0], 16, expect!["None"]);
        check(&[15, 0], 16, expect!["None"]);
        check(&[8, 1], 10, expect!["Some(0)"]);
        check(&[0], 0, expect!["None"]);
        check(&[], 16, expect!["None"]);
    }

    /// After each epoch of one cut with so many successes in 100: epochs without a rise, or a refresh.
    #[track_caller]
    fn check_epochs(settings: &FailurePrefix, epochs: &[u64], expected: Expect) {
        let mut progress = Progress::new([1].into_iter());
        progress.observe(0, 0, SuccessCount { successes: 50, attempts: 100 }, settings);
        assert!(progress.advance(settings));
        let mut seen = Vec::new();
        for &successes in epochs {
            progress.observe(0, 0, SuccessCount { successes, attempts: 100 }, settings);
            progress.advance(settings);
            let is_training = progress.phase == Phase::Training;
            seen.push(if is_training { progress.flat_epochs.to_string() } else { "refresh".to_owned() });
        }
        expected.assert_eq(&seen.join(" "));
    }

    #[test]
    fn a_plateau_or_drift_refreshes() {
        let settings = FailurePrefix { patience: 3, gain: 0.02, ..PAPER };
        check_epochs(&settings, &[50, 52, 55, 60, 64, 70, 75], expect!["0 0 0 0 0 0 0"]);
        // A rise by less than the gain is none; one after a fall has to pass the best.
        check_epochs(&settings, &[50, 51, 40, 52, 53, 52, 53], expect!["0 1 2 0 1 2 refresh"]);
        check_epochs(&settings, &[50, 60, 70, 81], expect!["0 0 0 refresh"]);
        check_epochs(&settings, &[50, 30, 19], expect!["0 1 refresh"]);
        let never = FailurePrefix { refreshes: 0, ..settings };
        check_epochs(&never, &[50, 50, 50, 50, 50, 100, 100], expect!["0 1 2 3 4 0 1"]);
    }
}
