//! How much of the solution each problem needs, held by a controller where half of the rollouts succeed.
//!
//! ```text
//! every `visits` groups of a problem, of success s together:
//!     k ← k + gain · (target − s) · W, rounded, between 0 and the part before the answer, W tokens
//! ```
//!
//! AdaPrefix-GRPO, arXiv 2607.07674, known here at second hand: a moving average of success per problem, a set
//! point of 0.5 plus an offset, a change every 10 visits, groups of 8, prefixes withdrawn late in training.
//! A group of G is mixed most often at success 0.5.
//!
//! What is learnt needs less, so k falls, to 0 in the end; `withdraw_step` ends all guidance at a time.
//!
//! Zero cases: visits without any verdict move nothing. A step that rounds to no token moves nothing, so a
//! short solution has a dead zone of W · gain < ½ / |target − s|. A problem without a solution is plain.
//!
//! Departures: the form of the step, its gain, the first length and the step of withdrawal are ours, since
//! only the parts above are known; the average is over the visits since the last change.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use toehold_rollout::SuccessCount;

use super::guidance::{Guide, Tally};
use super::{
    BuildError, Curriculum, Cycle, Fate, GroupOutcome, Material, RestoreError, Selection, Traces, kept, named, refuse,
};
use crate::recipe::{RecipeError, section};

section! {
    /// Settings of the set-point controller.
    AdaPrefix from AdaPrefixWritten {
        /// The success to hold, in `(0, 1)`. AdaPrefix-GRPO: 0.5, plus an offset that was not found.
        target: f64 = 0.5,
        /// Groups of a problem from one change to the next; at least 1. AdaPrefix-GRPO: 10.
        visits: u64 = 10,
        /// The change in share of the solution for a success that is off by 1, above 0. Ours: where success
        /// rises by b for each share of the solution, the length swings for ever from gain · b = 2 on.
        gain: f64 = 0.2,
        /// The share of the solution before its answer that is given at first, in `[0, 1]`. Ours.
        first: f64 = 0.5,
        /// Steps after which all starts are plain; never without it. The paper withdraws late, at a step
        /// that was not found.
        withdraw_step: Option<u64> = None,
    }
}

/// The tokens to give after groups of this success were `given` so many, of a solution with `worked`
/// tokens before its answer: halves are rounded away from the present length.
///
/// ```
/// use toehold_rollout::SuccessCount;
/// use toehold_training::curriculum::adaprefix::moved;
///
/// let of = |successes| SuccessCount { successes, attempts: 8 };
/// // 0.5 · (0.5 − 0.125) · 100 = 18.75 more.
/// assert_eq!(moved(40, of(1), 100, 0.5, 0.5), 59);
/// // 0.5 · (0.5 − 1) · 100 = 25 fewer.
/// assert_eq!(moved(40, of(8), 100, 0.5, 0.5), 15);
/// assert_eq!(moved(10, of(8), 100, 0.5, 0.5), 0);
/// assert_eq!(moved(40, of(4), 100, 0.5, 0.5), 40);
/// assert_eq!(moved(40, SuccessCount::default(), 100, 0.5, 0.5), 40);
/// ```
pub fn moved(given: usize, success: SuccessCount, worked: usize, target: f64, gain: f64) -> usize {
    let Some(rate) = success.rate() else { return given };
    let by = (gain * (target - rate) * worked as f64).round();
    (given as f64 + by).clamp(0.0, worked as f64) as usize
}

impl AdaPrefix {
    pub(super) const TRACES: Traces = Traces::Solutions;

    pub(super) fn checked(self) -> Result<AdaPrefix, RecipeError> {
        match self {
            AdaPrefix { target, .. } if !(target > 0.0 && target < 1.0) => refuse("target", target, "in (0, 1)"),
            AdaPrefix { visits: 0, .. } => refuse("visits", 0, "at least 1"),
            AdaPrefix { gain, .. } if !(gain > 0.0 && gain.is_finite()) => refuse("gain", gain, "above 0"),
            AdaPrefix { first, .. } if !(0.0..=1.0).contains(&first) => refuse("first", first, "in [0, 1]"),
            _ => Ok(self),
        }
    }

    pub(super) fn build(&self, material: Material, seed: u64) -> Result<Box<dyn Curriculum>, BuildError> {
        let guide = Guide::new(material)?;
        let cycle = Cycle::new("guided starts", seed, guide.len());
        let begin = |problem| Control { given: guide.given(problem, self.first), ..Control::default() };
        let controls = (0..guide.len()).map(begin).collect();
        let known = Known { steps: 0, controls, tally: Tally::default() };
        Ok(Box::new(AdaPrefixCurriculum { settings: self.clone(), guide, cycle, known }))
    }
}

/// The controller at work.
struct AdaPrefixCurriculum {
    settings: AdaPrefix,
    guide: Guide,
    cycle: Cycle,
    known: Known,
}

/// What is known of a problem.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
struct Control {
    /// Tokens to give.
    given: usize,
    /// Groups since the last change, and their success.
    visits: u64,
    success: SuccessCount,
}

/// What it knows.
#[derive(Clone, Serialize, Deserialize)]
struct Known {
    /// Steps begun.
    steps: u64,
    /// By problem.
    controls: Vec<Control>,
    tally: Tally,
}

/// Its state.
#[derive(Serialize, Deserialize)]
struct Kept {
    taken: u64,
    known: Known,
}

impl AdaPrefixCurriculum {
    fn is_withdrawn(&self) -> bool {
        self.settings.withdraw_step.is_some_and(|step| self.known.steps > step)
    }

    fn select(&mut self) -> Option<Selection> {
        let epoch = self.cycle.epoch();
        let problem = self.cycle.take()?;
        if self.is_withdrawn() {
            return Some(self.guide.select(problem, 0, &format!("guidance is withdrawn, epoch {epoch}")));
        }
        let Control { given, visits, success: SuccessCount { successes, attempts } } = self.known.controls[problem];
        let why = format!("{successes}/{attempts} in {visits} visits, epoch {epoch}");
        Some(self.guide.select(problem, given, &why))
    }

    /// The mean share of the solution that is given, over the problems that have one.
    fn mean_share(&self) -> f64 {
        let guided: Vec<usize> = (0..self.guide.len()).filter(|&problem| self.guide.has_solution(problem)).collect();
        let share = |&problem: &usize| self.guide.share(problem, self.known.controls[problem].given);
        guided.iter().map(share).sum::<f64>() / guided.len() as f64
    }
}

impl Curriculum for AdaPrefixCurriculum {
    fn next(&mut self, count: usize) -> Vec<Selection> {
        self.known.steps += 1;
        (0..count).map_while(|_| self.select()).collect()
    }

    fn observe(&mut self, selection: &Selection, outcome: GroupOutcome) -> Fate {
        let problem = self.guide.place(&selection.start).filter(|&problem| self.guide.has_solution(problem));
        if let Some(problem) = problem.filter(|_| !self.is_withdrawn()) {
            let control = &mut self.known.controls[problem];
            control.success.merge(outcome.count);
            control.visits += 1;
            if control.visits >= self.settings.visits {
                let (target, gain) = (self.settings.target, self.settings.gain);
                // The part before the answer, since all of it may be given but for a last token.
                let worked = self.guide.longest(problem);
                let given = moved(control.given, control.success, worked, target, gain);
                *control = Control { given, ..Control::default() };
            }
        }
        self.known.tally.add(selection, outcome, Fate::Learnt)
    }

    fn state(&self) -> Value {
        kept::keep(self.guide.name(), &Kept { taken: self.cycle.taken(), known: self.known.clone() })
    }

    fn restore(&mut self, state: &Value) -> Result<(), RestoreError> {
        let Kept { taken, known } = kept::kept(state, &self.guide.name())?;
        let fits = |(problem, control): (usize, &Control)| control.given <= self.guide.longest(problem);
        if known.controls.len() != self.guide.len() || !known.controls.iter().enumerate().all(fits) {
            return Err(RestoreError { reason: "`controls` is of other solutions".to_owned() });
        }
        self.cycle.seek(taken);
        self.known = known;
        Ok(())
    }

    fn metrics(&self) -> BTreeMap<String, f64> {
        let is_plain = |problem: &usize| self.known.controls[*problem].given == 0 && self.guide.has_solution(*problem);
        let mut metrics = named([
            ("epoch", self.cycle.epoch() as f64),
            ("given_share", if self.is_withdrawn() { 0.0 } else { self.mean_share() }),
            ("problems_withdrawn", (0..self.guide.len()).filter(is_plain).count() as f64),
        ]);
        metrics.extend(self.known.tally.metrics());
        metrics.extend(self.guide.metrics());
        metrics
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::super::Curriculum;
    use super::super::guidance::world::{chance, learn, material, metrics};
    use super::super::simulation::{check_resume, shown};
    use super::AdaPrefix;

    fn build(visits: u64, withdraw_step: Option<u64>, problems: u32) -> Box<dyn Curriculum> {
        let settings = AdaPrefix { target: 0.5, visits, gain: 0.2, first: 0.5, withdraw_step };
        settings.build(material(problems), 3).unwrap()
    }

    /// One step of all problems after 40 epochs, at this rise of success a step.
    #[track_caller]
    fn check(rise: f64, withdraw_step: Option<u64>, expected: Expect) {
        let mut curriculum = build(2, withdraw_step, 8);
        learn(curriculum.as_mut(), 0..40, 8, rise);
        expected.assert_eq(&shown(&learn(curriculum.as_mut(), 40..41, 8, rise)[0]));
    }

    #[test]
    fn each_problem_is_held_where_half_succeeds() {
        // Problems need 0, 20, 40, 60, 80 tokens; 5 needs more than all; 6 and 7 have nothing to give.
        check(0.0, None, expect!["p5:100=0 p4:79=9 p2:39=7 p7:0=0 p3:60=6 p0:0=16 p1:19=6 p6:0=5"]);
        // By then 40 tokens less are needed.
        check(0.01, None, expect!["p5:100=0 p4:41=10 p2:0=8 p7:0=0 p3:21=9 p0:0=16 p1:0=16 p6:0=16"]);
        check(0.0, Some(40), expect!["p5:0=0 p4:0=0 p2:0=0 p7:0=0 p3:0=0 p0:0=16 p1:0=0 p6:0=5"]);
    }

    #[test]
    fn its_cost() {
        let mut curriculum = build(2, None, 8);
        learn(curriculum.as_mut(), 0..60, 8, 0.02);
        expect![[r#"
            dropped_rollouts 0.000
            epoch 60.000
            given_share 0.167
            given_tokens 53.966
            guided_rollouts 2848.000
            plain_rollouts 4832.000
            problems_uncuttable 1.000
            problems_withdrawn 5.000
            problems_without_solution 1.000"#]]
        .assert_eq(&metrics(curriculum.as_ref()));
    }

    #[test]
    fn a_state_goes_on_exactly() {
        let build = |problems| build(2, Some(11), problems);
        check_resume(|| build(8), build(7), 16, 5, |start, at| chance(start, 0.02 * at as f64));
    }
}
