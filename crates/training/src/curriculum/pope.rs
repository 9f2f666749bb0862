//! The shortest part of the solution that helps at all, beside the plain problem.
//!
//! ```text
//! checkpoints = i / K of the first `longest` of the solution, i = 1 ..= K
//! prefix      = the first checkpoint from which a rollout succeeds, within `rollouts` of them;
//!               the last checkpoint if none does
//! starts      = checkpoints to try, then each problem with its prefix and without, 1 : 1
//! ```
//!
//! POPE, arXiv 2601.18779: prefixes of at most a quarter of the solution, guided and plain versions of the
//! same hard problems in one mixture. The prefix stays as it is; what withdraws guidance is the plain half.
//! Which problems are hard is not asked here: `[problems] band = "unsolved"` says so.
//!
//! The groups that try a checkpoint are groups of training steps: paid for, stored and learnt from like all
//! others. A step tries one checkpoint of each problem at most, since the next depends on it.
//!
//! Zero cases: checkpoints that come to the same number of tokens are one; a solution of which no checkpoint
//! is a token, and no solution, leave the problem plain in both halves.
//!
//! Departures: the paper finds the prefixes before training, and writes problem, prefix and an instruction
//! to go on from it into the user's turn; here the prefix begins the assistant's turn. How many checkpoints
//! and rollouts it uses is not known.

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
    /// Settings of POPE.
    Pope from PopeWritten {
        /// The longest prefix, as a share of the solution before its answer, in `(0, 1]`. POPE: 0.25.
        longest: f64 = 0.25,
        /// Lengths to try, at even distances up to the longest; at least 1. The paper does not say.
        checkpoints: usize = 5,
        /// Rollouts without a success after which the next length is tried; at least 1. The paper does not
        /// say.
        rollouts: u64 = 16,
        /// Share of the starts without a prefix once there is nothing to try, in `[0, 1]`. POPE: 0.5.
        plain_share: f64 = 0.5,
    }
}

/// Where the search for a problem's prefix stands; checkpoints are counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Search {
    /// A checkpoint is being tried, and has not succeeded in so many rollouts.
    Trying {
        /// Its number.
        checkpoint: usize,
        /// Rollouts from it.
        failures: u64,
    },
    /// The first checkpoint from which a rollout succeeded.
    Helps(usize),
    /// None succeeded; the last one is given all the same.
    Unhelped(usize),
}

impl Search {
    /// The search after a group from its checkpoint, one of `checkpoints`, each tried `rollouts` times.
    ///
    /// ```
    /// use toehold_rollout::SuccessCount;
    /// use toehold_training::curriculum::pope::Search;
    ///
    /// let [none, one] = [0, 1].map(|successes| SuccessCount { successes, attempts: 8 });
    /// let first = Search::Trying { checkpoint: 0, failures: 0 };
    /// // 8 failures of 16: not enough to give it up. 16: the next one.
    /// assert_eq!(first.after(none, 2, 16), Search::Trying { checkpoint: 0, failures: 8 });
    /// let second = first.after(none, 2, 16).after(none, 2, 16);
    /// assert_eq!(second, Search::Trying { checkpoint: 1, failures: 0 });
    /// assert_eq!(second.after(one, 2, 16), Search::Helps(1));
    /// assert_eq!(second.after(none, 2, 8), Search::Unhelped(1));
    /// ```
    pub fn after(self, group: SuccessCount, checkpoints: usize, rollouts: u64) -> Search {
        let Search::Trying { checkpoint, failures } = self else { return self };
        let failures = failures + group.attempts;
        if group.successes > 0 {
            Search::Helps(checkpoint)
        } else if failures < rollouts {
            Search::Trying { checkpoint, failures }
        } else if checkpoint + 1 < checkpoints {
            Search::Trying { checkpoint: checkpoint + 1, failures: 0 }
        } else {
            Search::Unhelped(checkpoint)
        }
    }

    /// The checkpoint to start from.
    pub fn checkpoint(self) -> usize {
        match self {
            Search::Trying { checkpoint, .. } | Search::Helps(checkpoint) | Search::Unhelped(checkpoint) => checkpoint,
        }
    }

    fn is_open(self) -> bool {
        matches!(self, Search::Trying { .. })
    }
}

impl Pope {
    pub(super) const TRACES: Traces = Traces::Solutions;

    pub(super) fn checked(self) -> Result<Pope, RecipeError> {
        match self {
            Pope { longest, .. } if !(longest > 0.0 && longest <= 1.0) => refuse("longest", longest, "in (0, 1]"),
            Pope { checkpoints: 0, .. } => refuse("checkpoints", 0, "at least 1"),
            Pope { rollouts: 0, .. } => refuse("rollouts", 0, "at least 1"),
            Pope { plain_share, .. } if !(0.0..=1.0).contains(&plain_share) => {
                refuse("plain_share", plain_share, "in [0, 1]")
            }
            _ => Ok(self),
        }
    }

    pub(super) fn build(&self, material: Material, seed: u64) -> Result<Box<dyn Curriculum>, BuildError> {
        let guide = Guide::new(material)?;
        let share = |at: usize| self.longest * (at + 1) as f64 / self.checkpoints as f64;
        let shares: Vec<f64> = (0..self.checkpoints).map(share).collect();
        let ladders: Vec<Vec<usize>> = (0..guide.len()).map(|problem| guide.ladder(problem, &shares)).collect();
        let begin = |ladder: &Vec<usize>| (!ladder.is_empty()).then_some(Search::Trying { checkpoint: 0, failures: 0 });
        Ok(Box::new(PopeCurriculum {
            settings: self.clone(),
            searches: ladders.iter().map(begin).collect(),
            ladders,
            plain_cycle: Cycle::new("plain starts", seed, guide.len()),
            guided_cycle: Cycle::new("guided starts", seed, guide.len()),
            guide,
            counts: Counts::default(),
        }))
    }
}

/// POPE at work.
struct PopeCurriculum {
    settings: Pope,
    guide: Guide,
    /// The lengths to try of each problem.
    ladders: Vec<Vec<usize>>,
    /// None for a problem of which nothing can be given.
    searches: Vec<Option<Search>>,
    plain_cycle: Cycle,
    guided_cycle: Cycle,
    counts: Counts,
}

/// What was sampled so far.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
struct Counts {
    /// Rollouts that tried a checkpoint.
    trying: u64,
    tally: Tally,
}

/// Its state.
#[derive(Serialize, Deserialize)]
struct Kept {
    searches: Vec<Option<Search>>,
    plain_taken: u64,
    guided_taken: u64,
    counts: Counts,
}

impl PopeCurriculum {
    /// The problem with its prefix, or with the checkpoint that is tried.
    fn guided(&self, problem: usize, why: &str) -> Selection {
        let Some(search) = self.searches[problem] else { return self.guide.select(problem, 0, why) };
        let why = match search {
            Search::Trying { failures, .. } => format!("tried after {failures} failures"),
            Search::Helps(_) => format!("the first length that helped, {why}"),
            Search::Unhelped(_) => format!("no length helped, {why}"),
        };
        self.guide.select(problem, self.ladders[problem][search.checkpoint()], &why)
    }

    /// The next start of the mixture.
    fn mixed(&mut self) -> Option<Selection> {
        let is_plain = is_among(self.settings.plain_share, self.plain_cycle.taken() + self.guided_cycle.taken());
        let cycle = if is_plain { &mut self.plain_cycle } else { &mut self.guided_cycle };
        let why = format!("epoch {}", cycle.epoch());
        let problem = cycle.take()?;
        Some(if is_plain { self.guide.select(problem, 0, &why) } else { self.guided(problem, &why) })
    }

    fn count(&self, is_such: impl Fn(Search) -> bool) -> f64 {
        self.searches.iter().flatten().filter(|&&search| is_such(search)).count() as f64
    }
}

impl Curriculum for PopeCurriculum {
    fn next(&mut self, count: usize) -> Vec<Selection> {
        let is_open = |problem: &usize| self.searches[*problem].is_some_and(Search::is_open);
        let open: Vec<usize> = (0..self.guide.len()).filter(is_open).take(count).collect();
        let mut selections: Vec<Selection> = open.into_iter().map(|problem| self.guided(problem, "")).collect();
        while selections.len() < count {
            let Some(selection) = self.mixed() else { break };
            selections.push(selection);
        }
        selections
    }

    fn observe(&mut self, selection: &Selection, outcome: GroupOutcome) -> Fate {
        let (problem, given) = (self.guide.place(&selection.start), selection.start.prefix.len());
        if let Some((problem, search)) = problem.and_then(|at| self.searches[at].map(|search| (at, search)))
            // A group of the same step may have settled it, or moved it on.
            && search.is_open()
            && self.ladders[problem][search.checkpoint()] == given
        {
            self.counts.trying += outcome.count.attempts;
            let checkpoints = self.ladders[problem].len();
            self.searches[problem] = Some(search.after(outcome.count, checkpoints, self.settings.rollouts));
        }
        self.counts.tally.add(selection, outcome, Fate::Learnt)
    }

    fn state(&self) -> Value {
        let (plain_taken, guided_taken) = (self.plain_cycle.taken(), self.guided_cycle.taken());
        let searches = self.searches.clone();
        kept::keep(self.guide.name(), &Kept { searches, plain_taken, guided_taken, counts: self.counts })
    }

    fn restore(&mut self, state: &Value) -> Result<(), RestoreError> {
        let Kept { searches, plain_taken, guided_taken, counts } = kept::kept(state, &self.guide.name())?;
        let fits = |(search, ladder): (&Option<Search>, &Vec<usize>)| {
            search.map_or(ladder.is_empty(), |search| search.checkpoint() < ladder.len())
        };
        if searches.len() != self.ladders.len() || !searches.iter().zip(&self.ladders).all(fits) {
            return Err(RestoreError { reason: "`searches` is of other checkpoints".to_owned() });
        }
        self.searches = searches;
        self.plain_cycle.seek(plain_taken);
        self.guided_cycle.seek(guided_taken);
        self.counts = counts;
        Ok(())
    }

    fn metrics(&self) -> BTreeMap<String, f64> {
        let mut metrics = named([
            ("epoch", self.plain_cycle.epoch() as f64),
            ("problems_open", self.count(Search::is_open)),
            ("problems_helped", self.count(|search| matches!(search, Search::Helps(_)))),
            ("problems_unhelped", self.count(|search| matches!(search, Search::Unhelped(_)))),
            ("trying_rollouts", self.counts.trying as f64),
        ]);
        metrics.extend(self.counts.tally.metrics());
        metrics.extend(self.guide.metrics());
        metrics
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use expect_test::{Expect, expect};

    use super::super::Curriculum;
    use super::super::guidance::world::{chance, learn, material, metrics};
    use super::super::simulation::{check_resume, shown};
    use super::Pope;

    fn build(longest: f64, problems: u32) -> Box<dyn Curriculum> {
        let settings = Pope { longest, checkpoints: 5, rollouts: 32, plain_share: 0.5 };
        settings.build(material(problems), 3).unwrap()
    }

    #[track_caller]
    fn check(longest: f64, steps: u64, expected: Expect) {
        let steps = learn(build(longest, 8).as_mut(), 0..steps, 8, 0.0);
        expected.assert_eq(&steps.iter().map(|step| shown(step)).collect::<Vec<_>>().join("\n"));
    }

    #[test]
    fn the_shortest_length_that_helps_is_found() {
        check(
            0.25,
            4,
            expect![[r#"
            p0:5=16 p1:5=1 p2:5=0 p3:5=0 p4:5=0 p5:5=0 p1:5=0 p7:0=0
            p2:5=0 p3:5=0 p4:5=0 p5:5=0 p0:5=16 p2:0=0 p6:0=9 p6:0=7
            p2:10=0 p3:10=0 p4:10=0 p5:10=0 p3:10=0 p0:0=16 p2:10=0 p3:0=0
            p2:15=0 p3:15=0 p4:10=0 p5:10=0 p4:10=0 p5:0=0 p7:0=0 p4:0=0"#]],
        );
    }

    /// With all of the solution to try: problem 5 is beyond help, and gets the last length.
    #[test]
    fn what_it_finds_and_its_cost() {
        let mut curriculum = build(1.0, 8);
        learn(curriculum.as_mut(), 0..12, 8, 0.0);
        expect![[r#"
            dropped_rollouts 0.000
            epoch 4.000
            given_tokens 43.200
            guided_rollouts 800.000
            plain_rollouts 736.000
            problems_helped 5.000
            problems_open 0.000
            problems_uncuttable 1.000
            problems_unhelped 1.000
            problems_without_solution 1.000
            trying_rollouts 400.000"#]]
        .assert_eq(&metrics(curriculum.as_ref()));
        // Half of the starts are plain, and the prefixes stay, whatever was learnt.
        let later = learn(curriculum.as_mut(), 12..28, 8, 0.1);
        let mut groups: BTreeMap<String, u64> = BTreeMap::new();
        for start in later.iter().flatten().map(|one| &one.selection.start) {
            *groups.entry(format!("{}:{}", start.problem.as_str(), start.prefix.len())).or_default() += 1;
        }
        let groups: Vec<String> = groups.into_iter().map(|(start, groups)| format!("{start} x{groups}")).collect();
        expect![[r#"
            p0:0 x8 p0:20 x8 p1:0 x7 p1:20 x8 p2:0 x8 p2:40 x7
            p3:0 x8 p3:40 x9 p4:0 x8 p4:80 x7 p5:0 x7 p5:100 x9
            p6:0 x17 p7:0 x17"#]]
        .assert_eq(&groups.chunks(6).map(|groups| groups.join(" ")).collect::<Vec<_>>().join("\n"));
    }

    #[test]
    fn a_state_goes_on_exactly() {
        check_resume(|| build(1.0, 8), build(1.0, 7), 14, 5, |start, at| chance(start, 0.02 * at as f64));
    }
}
