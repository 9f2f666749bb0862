//! How much of the solution each problem needs, by a random binary search that never ends.
//!
//! ```text
//! each problem has an interval [least, most] of tokens, at first [given(ema), all]
//! k ~ U{least ..= most}, but 0 with chance `plain_chance`; a group from k tokens, of success s
//!     s < threshold → least = max(least, k)      otherwise → most = k, least = 0
//! ema = rate · least / W + (1 − rate) · ema      (W: tokens of the solution before its answer)
//! ```
//!
//! AdaBack, arXiv 2506.18110: thresholds from 0.1 to 0.9 end alike there; one start in ten is plain. As a
//! problem is learnt its `most` falls to 0, which withdraws the guidance; `ema` hands on what was found to
//! problems that were not seen yet.
//!
//! Zero cases: a group without any verdict changes nothing. A plain start that fails moves no bound. When
//! the interval has shrunk to a point that fails, `most` rises by a token, so that it is never stuck. A
//! problem without a solution is plain.
//!
//! Departures: the interval is in whole tokens, where the paper's is in shares that are rounded down; k is
//! at most the part before the answer. The paper does not say what an exploring plain start does to the
//! interval, nor the rate of the average.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use toehold_rollout::SuccessCount;

use super::guidance::{Guide, Tally};
use super::{
    BuildError, Curriculum, Cycle, Fate, GroupOutcome, Material, RestoreError, Selection, Traces, kept, named, refuse,
};
use crate::random;
use crate::recipe::{RecipeError, section};

section! {
    /// Settings of AdaBack.
    AdaBack from AdaBackWritten {
        /// Success from which a group counts as solved, in `(0, 1]`. AdaBack: 0.1 to 0.9 end alike.
        threshold: f64 = 0.5,
        /// Chance that a start is plain whatever the interval, in `[0, 1]`. AdaBack: 0.1.
        plain_chance: f64 = 0.1,
        /// Share of the newest in the average for problems not seen yet, in `(0, 1]`. The paper's was not
        /// found.
        rate: f64 = 0.1,
    }
}

/// The tokens between which a problem's need is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interval {
    /// The fewest to give.
    pub least: usize,
    /// The most to give, at least `least`.
    pub most: usize,
}

impl Interval {
    /// The interval after a group that was `given` so many tokens of at most `longest`.
    ///
    /// ```
    /// use toehold_rollout::SuccessCount;
    /// use toehold_training::curriculum::adaback::Interval;
    ///
    /// let of = |successes| SuccessCount { successes, attempts: 8 };
    /// let all = Interval { least: 0, most: 100 };
    /// // 40 tokens are too few: at least so many.
    /// let after = all.after(40, of(1), 0.5, 100);
    /// assert_eq!(after, Interval { least: 40, most: 100 });
    /// // 70 are enough: at most so many, and perhaps none.
    /// let after = after.after(70, of(4), 0.5, 100);
    /// assert_eq!(after, Interval { least: 0, most: 70 });
    /// // A plain start that fails says nothing new; one that succeeds ends the guidance.
    /// assert_eq!(after.after(0, of(0), 0.5, 100), after);
    /// assert_eq!(after.after(0, of(8), 0.5, 100), Interval { least: 0, most: 0 });
    /// // What was enough once, and is not any more.
    /// assert_eq!(after.after(70, of(0), 0.5, 100), Interval { least: 70, most: 71 });
    /// ```
    pub fn after(self, given: usize, group: SuccessCount, threshold: f64, longest: usize) -> Interval {
        match group.rate() {
            None => self,
            Some(rate) if rate >= threshold => Interval { least: 0, most: given },
            // Plain starts explore: with nothing given there is no bound to learn, unless it was the bound.
            Some(_) if given == 0 && self.most > 0 => self,
            Some(_) => {
                let least = self.least.max(given);
                Interval { least, most: self.most.max(least + 1).min(longest) }
            }
        }
    }
}

impl AdaBack {
    pub(super) const TRACES: Traces = Traces::Solutions;

    pub(super) fn checked(self) -> Result<AdaBack, RecipeError> {
        match self {
            AdaBack { threshold, .. } if !(threshold > 0.0 && threshold <= 1.0) => {
                refuse("threshold", threshold, "in (0, 1]")
            }
            AdaBack { plain_chance, .. } if !(0.0..=1.0).contains(&plain_chance) => {
                refuse("plain_chance", plain_chance, "in [0, 1]")
            }
            AdaBack { rate, .. } if !(rate > 0.0 && rate <= 1.0) => refuse("rate", rate, "in (0, 1]"),
            _ => Ok(self),
        }
    }

    pub(super) fn build(&self, material: Material, seed: u64) -> Result<Box<dyn Curriculum>, BuildError> {
        let guide = Guide::new(material)?;
        let cycle = Cycle::new("guided starts", seed, guide.len());
        let known = Known { intervals: vec![None; guide.len()], unseen: 0.0, tally: Tally::default() };
        Ok(Box::new(AdaBackCurriculum { settings: self.clone(), seed, guide, cycle, known }))
    }
}

/// AdaBack at work.
struct AdaBackCurriculum {
    settings: AdaBack,
    seed: u64,
    guide: Guide,
    cycle: Cycle,
    known: Known,
}

/// What it knows.
#[derive(Clone, Serialize, Deserialize)]
struct Known {
    /// By problem; none for one that was not chosen yet.
    intervals: Vec<Option<Interval>>,
    /// The share of the solution that a problem is at least given at first.
    #[serde(with = "kept::bits")]
    unseen: f64,
    tally: Tally,
}

/// Its state.
#[derive(Serialize, Deserialize)]
struct Kept {
    taken: u64,
    known: Known,
}

impl AdaBackCurriculum {
    fn select(&mut self) -> Option<Selection> {
        let mut rng = random::stream(self.seed, "tokens of the solution", &[self.cycle.taken()]);
        let why = format!("epoch {}", self.cycle.epoch());
        let problem = self.cycle.take()?;
        if !self.guide.has_solution(problem) {
            return Some(self.guide.select(problem, 0, &why));
        }
        let fresh = Interval { least: self.guide.given(problem, self.known.unseen), most: self.guide.longest(problem) };
        let Interval { least, most } = *self.known.intervals[problem].get_or_insert(fresh);
        let is_exploring = random::unit(&mut rng) < self.settings.plain_chance;
        let drawn = least + random::below(&mut rng, (most - least + 1) as u64) as usize;
        let given = if is_exploring { 0 } else { drawn };
        Some(self.guide.select(problem, given, &format!("interval {least} to {most}, {why}")))
    }

    /// The mean number of tokens that may be given at most, as a share; problems not seen count as all.
    fn mean_most(&self) -> f64 {
        let guided: Vec<usize> = (0..self.guide.len()).filter(|&problem| self.guide.has_solution(problem)).collect();
        let most = |&problem: &usize| match self.known.intervals[problem] {
            Some(interval) => self.guide.share(problem, interval.most),
            None => 1.0,
        };
        guided.iter().map(most).sum::<f64>() / guided.len() as f64
    }
}

impl Curriculum for AdaBackCurriculum {
    fn next(&mut self, count: usize) -> Vec<Selection> {
        (0..count).map_while(|_| self.select()).collect()
    }

    fn observe(&mut self, selection: &Selection, outcome: GroupOutcome) -> Fate {
        let given = selection.start.prefix.len();
        if let Some(problem) = self.guide.place(&selection.start)
            && let Some(interval) = self.known.intervals[problem]
            && outcome.count.attempts > 0
        {
            let longest = self.guide.longest(problem);
            let after = interval.after(given, outcome.count, self.settings.threshold, longest);
            let newest = self.guide.share(problem, after.least);
            self.known.intervals[problem] = Some(after);
            self.known.unseen += self.settings.rate * (newest - self.known.unseen);
        }
        self.known.tally.add(selection, outcome, Fate::Learnt)
    }

    fn state(&self) -> Value {
        kept::keep(self.guide.name(), &Kept { taken: self.cycle.taken(), known: self.known.clone() })
    }

    fn restore(&mut self, state: &Value) -> Result<(), RestoreError> {
        let Kept { taken, known } = kept::kept(state, &self.guide.name())?;
        let fits = |(problem, interval): (usize, &Option<Interval>)| {
            interval.is_none_or(|Interval { least, most }| least <= most && most <= self.guide.longest(problem))
        };
        if known.intervals.len() != self.guide.len() || !known.intervals.iter().enumerate().all(fits) {
            return Err(RestoreError { reason: "`intervals` is of other solutions".to_owned() });
        }
        self.cycle.seek(taken);
        self.known = known;
        Ok(())
    }

    fn metrics(&self) -> BTreeMap<String, f64> {
        let is_done = |interval: &&Interval| interval.most == 0;
        let mut metrics = named([
            ("epoch", self.cycle.epoch() as f64),
            ("most_share", self.mean_most()),
            ("unseen_share", self.known.unseen),
            ("problems_withdrawn", self.known.intervals.iter().flatten().filter(is_done).count() as f64),
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
    use super::AdaBack;

    fn build(problems: u32) -> Box<dyn Curriculum> {
        AdaBack { threshold: 0.5, plain_chance: 0.1, rate: 0.1 }.build(material(problems), 3).unwrap()
    }

    /// The intervals after 40 epochs at this rise of success a step.
    #[track_caller]
    fn check(rise: f64, expected: Expect) {
        let mut curriculum = build(8);
        learn(curriculum.as_mut(), 0..40, 8, rise);
        let state = curriculum.state();
        let shown = |interval: &serde_json::Value| format!("{}-{}", interval["least"], interval["most"]);
        let intervals = state["state"]["known"]["intervals"].as_array().unwrap();
        expected.assert_eq(&intervals.iter().map(shown).collect::<Vec<_>>().join(" "));
    }

    #[test]
    fn intervals_close_on_what_each_problem_needs() {
        // Problems need 0, 20, 40, 60, 80 tokens; 5 needs more than all; 6 and 7 have nothing to give.
        check(0.0, expect!["0-0 15-18 35-40 58-59 78-79 100-100 null-null null-null"]);
        // By then 80 tokens less are needed.
        check(0.02, expect!["0-0 0-0 0-0 0-0 0-7 100-100 null-null null-null"]);
    }

    #[test]
    fn its_cost() {
        let mut curriculum = build(8);
        let steps = learn(curriculum.as_mut(), 0..60, 8, 0.02);
        let first: Vec<String> = steps[..3].iter().map(|step| shown(step)).collect();
        expect![[r#"
            p1:43=16 p0:16=16 p6:0=9 p3:67=13 p2:54=16 p4:25=0 p7:0=0 p5:46=0
            p2:3=0 p4:73=9 p5:78=0 p3:16=0 p1:34=16 p7:0=0 p0:14=16 p6:0=7
            p5:96=0 p4:29=0 p6:0=11 p3:49=0 p0:14=16 p7:0=0 p1:6=1 p2:28=3"#]]
        .assert_eq(&first.join("\n"));
        expect![[r#"
            dropped_rollouts 0.000
            epoch 60.000
            given_tokens 50.268
            guided_rollouts 2384.000
            most_share 0.167
            plain_rollouts 5296.000
            problems_uncuttable 1.000
            problems_withdrawn 5.000
            problems_without_solution 1.000
            unseen_share 0.188"#]]
        .assert_eq(&metrics(curriculum.as_ref()));
    }

    #[test]
    fn a_state_goes_on_exactly() {
        check_resume(|| build(8), build(7), 14, 5, |start, at| chance(start, 0.02 * at as f64));
    }
}
