//! One length of guidance for all problems, longer when success falls and shorter when it rises.
//!
//! ```text
//! every third step: length ← ⌊length · mean(success of the two steps before) / success of this step⌋,
//!                   between 1 and `longest` tokens
//! of the starts, `guided_share` are given that many tokens of the solution
//! ```
//!
//! G²RPO-A, arXiv 2508.13023, after its public trainer: 2 of 12 rollouts are guided, the length begins at
//! 3072, is cut to whole tokens and changes every three steps. It follows changes of success, not success
//! itself: a policy that improves steadily shortens it, one that stands still leaves it.
//!
//! Zero cases: when the two steps before, or this one, had no success, the length stays. Cutting to whole
//! tokens makes 1 hard to leave: success has to halve. A problem without a solution is plain.
//!
//! Departures: there, 2 rollouts of each group of 12 are guided and share its baseline; here a group has one
//! start, so one group in six is guided and has a baseline of its own. There, what was given is part of the
//! completion and is trained on; here never. No length goes past the answer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use toehold_rollout::SuccessCount;

use super::cycle::is_among;
use super::guidance::{Guide, Tally};
use super::{
    BuildError, Curriculum, Cycle, Fate, GroupOutcome, Material, RestoreError, Selection, Traces, kept, named, refuse,
};
use crate::recipe::{RecipeError, section};

section! {
    /// Settings of G²RPO-A's guidance.
    G2rpoA from G2rpoAWritten {
        /// Share of the starts that are guided, in `(0, 1]`. G²RPO-A: 2 of 12 rollouts.
        guided_share: f64 = 1.0 / 6.0,
        /// Tokens given at first, in `[1, longest]`. G²RPO-A: 3072.
        first: usize = 3072,
        /// Tokens given at most; at least 1. G²RPO-A: 3072.
        longest: usize = 3072,
    }
}

/// The length after three steps of these successes, the oldest first.
///
/// ```
/// use toehold_rollout::SuccessCount;
/// use toehold_training::curriculum::g2rpo_a::next_length;
///
/// let of = |successes| SuccessCount { successes, attempts: 12 };
/// // Success fell from a mean of 4/12 to 2/12: twice the length, at most the longest.
/// assert_eq!(next_length(100, [of(3), of(5), of(2)], 3072), 200);
/// assert_eq!(next_length(100, [of(3), of(5), of(2)], 150), 150);
/// // It rose from 4/12 to 9/12: 100 · 4 / 9 = 44.4.
/// assert_eq!(next_length(100, [of(3), of(5), of(9)], 3072), 44);
/// assert_eq!(next_length(1, [of(3), of(5), of(9)], 3072), 1);
/// // No ratio: it stays.
/// assert_eq!(next_length(100, [of(3), of(5), of(0)], 3072), 100);
/// assert_eq!(next_length(100, [of(0), of(0), of(2)], 3072), 100);
/// ```
pub fn next_length(length: usize, steps: [SuccessCount; 3], longest: usize) -> usize {
    let [Some(first), Some(second), Some(now)] = steps.map(|count| count.rate()) else { return length };
    let before = (first + second) / 2.0;
    if before <= 0.0 || now <= 0.0 {
        return length;
    }
    ((length as f64 * before / now) as usize).clamp(1, longest.max(1))
}

impl G2rpoA {
    pub(super) const TRACES: Traces = Traces::Solutions;

    pub(super) fn checked(self) -> Result<G2rpoA, RecipeError> {
        match self {
            G2rpoA { guided_share, .. } if !(guided_share > 0.0 && guided_share <= 1.0) => {
                refuse("guided_share", guided_share, "in (0, 1]")
            }
            G2rpoA { longest: 0, .. } => refuse("longest", 0, "at least 1"),
            G2rpoA { first, longest, .. } if !(1..=longest).contains(&first) => {
                refuse("first", first, "in [1, longest]")
            }
            _ => Ok(self),
        }
    }

    pub(super) fn build(&self, material: Material, seed: u64) -> Result<Box<dyn Curriculum>, BuildError> {
        let guide = Guide::new(material)?;
        let cycle = Cycle::new("starts", seed, guide.len());
        let known = Known { length: self.first, steps: Vec::new(), tally: Tally::default() };
        Ok(Box::new(G2rpoACurriculum { settings: self.clone(), guide, cycle, known }))
    }
}

/// G²RPO-A's guidance at work.
struct G2rpoACurriculum {
    settings: G2rpoA,
    guide: Guide,
    cycle: Cycle,
    known: Known,
}

/// What it knows.
#[derive(Clone, Serialize, Deserialize)]
struct Known {
    /// Tokens to give.
    length: usize,
    /// The success of the steps since the length changed, at most three.
    steps: Vec<SuccessCount>,
    tally: Tally,
}

/// Its state.
#[derive(Serialize, Deserialize)]
struct Kept {
    taken: u64,
    known: Known,
}

impl G2rpoACurriculum {
    fn select(&mut self) -> Option<Selection> {
        let is_guided = is_among(self.settings.guided_share, self.cycle.taken());
        let why = format!("length {}, epoch {}", self.known.length, self.cycle.epoch());
        let problem = self.cycle.take()?;
        let given = self.known.length.min(self.guide.longest(problem));
        Some(self.guide.select(problem, if is_guided { given } else { 0 }, &why))
    }
}

impl Curriculum for G2rpoACurriculum {
    fn next(&mut self, count: usize) -> Vec<Selection> {
        if let [first, second, now] = self.known.steps[..] {
            self.known.length = next_length(self.known.length, [first, second, now], self.settings.longest);
            self.known.steps.clear();
        }
        self.known.steps.push(SuccessCount::default());
        (0..count).map_while(|_| self.select()).collect()
    }

    fn observe(&mut self, selection: &Selection, outcome: GroupOutcome) -> Fate {
        if let Some(step) = self.known.steps.last_mut() {
            step.merge(outcome.count);
        }
        self.known.tally.add(selection, outcome, Fate::Learnt)
    }

    fn state(&self) -> Value {
        kept::keep(self.guide.name(), &Kept { taken: self.cycle.taken(), known: self.known.clone() })
    }

    fn restore(&mut self, state: &Value) -> Result<(), RestoreError> {
        let Kept { taken, known } = kept::kept(state, &self.guide.name())?;
        let longest = self.settings.longest;
        if !(1..=longest).contains(&known.length) {
            return Err(RestoreError { reason: format!("its length is {}, expected 1 to {longest}", known.length) });
        }
        if known.steps.len() > 3 {
            return Err(RestoreError { reason: format!("it has {} steps, expected at most 3", known.steps.len()) });
        }
        self.cycle.seek(taken);
        self.known = known;
        Ok(())
    }

    fn metrics(&self) -> BTreeMap<String, f64> {
        let mut metrics = named([("epoch", self.cycle.epoch() as f64), ("guidance_length", self.known.length as f64)]);
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
    use super::super::simulation::{check_resume, run, shown};
    use super::G2rpoA;

    fn build(first: usize, problems: u32) -> Box<dyn Curriculum> {
        G2rpoA { guided_share: 0.25, first, longest: 90 }.build(material(problems), 3).unwrap()
    }

    /// The length every third step, when success changes by this rise a step.
    #[track_caller]
    fn check(rise: impl Fn(u64) -> f64, expected: Expect) {
        let mut curriculum = build(60, 8);
        let mut lengths = Vec::new();
        for at in 0..13 {
            run(curriculum.as_mut(), 3 * at..3 * at + 3, 32, |start, step| chance(start, rise(step)));
            lengths.push(curriculum.metrics()["curriculum/guidance_length"].to_string());
        }
        expected.assert_eq(&lengths.join(" "));
    }

    #[test]
    fn the_length_follows_changes_of_success() {
        check(|_| 0.0, expect!["60 66 59 68 76 80 70 81 82 69 66 52 58"]);
        check(|step| 0.03 * step as f64, expect!["60 55 47 48 48 47 39 40 40 37 36 35 34"]);
        // What was learnt is lost again.
        check(|step| 1.2 - 0.03 * step as f64, expect!["60 60 60 60 60 62 58 64 67 68 75 69 72"]);
    }

    #[test]
    fn a_share_of_the_starts_is_guided() {
        let mut curriculum = build(60, 8);
        let steps = learn(curriculum.as_mut(), 0..2, 8, 0.0);
        let steps: Vec<String> = steps.iter().map(|step| shown(step)).collect();
        expect![[r#"
            p5:0=0 p6:0=11 p2:0=0 p7:0=0 p1:0=1 p3:0=0 p4:0=0 p0:60=16
            p0:0=16 p3:0=0 p6:0=8 p1:60=16 p4:0=0 p7:0=0 p2:0=0 p5:60=0"#]]
        .assert_eq(&steps.join("\n"));
        learn(curriculum.as_mut(), 2..60, 8, 0.02);
        expect![[r#"
            dropped_rollouts 0.000
            epoch 60.000
            given_tokens 33.103
            guidance_length 22.000
            guided_rollouts 1392.000
            plain_rollouts 6288.000
            problems_uncuttable 1.000
            problems_without_solution 1.000"#]]
        .assert_eq(&metrics(curriculum.as_ref()));
    }

    #[test]
    fn a_state_goes_on_exactly() {
        check_resume(|| build(60, 8), build(60, 7), 14, 5, |start, at| chance(start, 0.02 * at as f64));
    }
}
