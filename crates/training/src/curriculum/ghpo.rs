//! A part of the solution where a group failed, more and more of it within the same step.
//!
//! ```text
//! group of the plain problem, all of it failed → group from 25 % of the solution
//!                                     still so → from 50 %, and then from 75 %
//! learnt: the first group in which one succeeds, or the last where none does
//! ```
//!
//! GHPO, arXiv 2507.10628, and its public trainer: shares 25, 50 and 75 %, the first 20 steps without
//! guidance. A problem that is solved at all is never guided, so guidance withdraws itself.
//!
//! Rewritten without two faults of the public code, which here cannot be written down, because a start
//! holds prompt and prefix together and a group belongs to its start: there a group that was solved at
//! 25 % is learnt with the prompt of the plain problem while others go on to 50 %, and ids of the plain
//! prompt stay in use when a batch is learnt from twice.
//!
//! Zero cases: a group without any verdict is not taken for failed. Shares that come to the same number
//! of tokens are tried once. The plain group of a problem without a solution is learnt as it is.
//!
//! Departures: the paper writes the part into the user's turn, after a sentence that introduces it, and
//! cuts it by characters; here it is the beginning of the assistant's turn, cut by tokens, before the
//! answer. Failed groups that were replaced are dropped and counted in the cost.

use std::collections::BTreeMap;

use serde_json::Value;

use super::guidance::{Guide, KeptRescues, Rescues, check_shares, is_all_fail};
use super::{
    BuildError, Curriculum, Cycle, Fate, GroupOutcome, Material, RestoreError, Selection, Traces, kept, named,
};
use crate::recipe::{RecipeError, section};

section! {
    /// Settings of GHPO.
    Ghpo from GhpoWritten {
        /// Shares of the solution before its answer, given one after another in rising order, in `[0, 1]`
        /// each. GHPO: 0.25, 0.5, 0.75.
        shares: Vec<f64> = vec![0.25, 0.5, 0.75],
        /// Steps at the beginning without guidance. GHPO: 20.
        start_step: u64 = 20,
    }
}

impl Ghpo {
    pub(super) const TRACES: Traces = Traces::Solutions;

    pub(super) fn checked(self) -> Result<Ghpo, RecipeError> {
        check_shares("shares", &self.shares)?;
        Ok(self)
    }

    pub(super) fn build(&self, material: Material, seed: u64) -> Result<Box<dyn Curriculum>, BuildError> {
        let guide = Guide::new(material)?;
        let cycle = Cycle::new("plain starts", seed, guide.len());
        let (settings, counts) = (self.clone(), Rescues::default());
        Ok(Box::new(GhpoCurriculum { settings, guide, cycle, counts, failed: Vec::new() }))
    }
}

/// GHPO at work.
struct GhpoCurriculum {
    settings: Ghpo,
    guide: Guide,
    cycle: Cycle,
    counts: Rescues,
    /// Problem and tokens to give of the groups of this round that failed.
    failed: Vec<(usize, usize)>,
}

impl GhpoCurriculum {
    /// Problem and tokens of the group that replaces this one; none when it stays.
    fn replacement(&self, selection: &Selection, outcome: GroupOutcome) -> Option<(usize, usize)> {
        if !is_all_fail(outcome) || self.counts.steps <= self.settings.start_step {
            return None;
        }
        let problem = self.guide.place(&selection.start)?;
        let ladder = self.guide.ladder(problem, &self.settings.shares);
        let more = ladder.into_iter().find(|&given| given > selection.start.prefix.len())?;
        Some((problem, more))
    }
}

impl Curriculum for GhpoCurriculum {
    fn next(&mut self, count: usize) -> Vec<Selection> {
        self.counts.steps += 1;
        self.failed.clear();
        let select = |_| {
            let why = format!("epoch {}", self.cycle.epoch());
            self.cycle.take().map(|problem| self.guide.select(problem, 0, &why))
        };
        (0..count).map_while(select).collect()
    }

    fn observe(&mut self, selection: &Selection, outcome: GroupOutcome) -> Fate {
        let replacement = self.replacement(selection, outcome);
        self.failed.extend(replacement);
        self.counts.add(selection, outcome, replacement.is_some())
    }

    fn again(&mut self) -> Vec<Selection> {
        let failed = std::mem::take(&mut self.failed);
        failed.into_iter().map(|(problem, given)| self.guide.select(problem, given, "all failed with less")).collect()
    }

    fn state(&self) -> Value {
        kept::keep(self.guide.name(), &KeptRescues { taken: self.cycle.taken(), counts: self.counts })
    }

    fn restore(&mut self, state: &Value) -> Result<(), RestoreError> {
        let KeptRescues { taken, counts } = kept::kept(state, &self.guide.name())?;
        self.cycle.seek(taken);
        self.counts = counts;
        Ok(())
    }

    fn metrics(&self) -> BTreeMap<String, f64> {
        let mut metrics = named([("epoch", self.cycle.epoch() as f64)]);
        metrics.extend(self.counts.metrics());
        metrics.extend(self.guide.metrics());
        metrics
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::super::Curriculum;
    use super::super::guidance::world::{chance, learn, material, metrics, rows};
    use super::super::simulation::{check_resume, step};
    use super::Ghpo;

    fn build(start_step: u64, problems: u32) -> Box<dyn Curriculum> {
        Ghpo { shares: vec![0.25, 0.5, 0.75], start_step }.build(material(problems), 3).unwrap()
    }

    /// One step of all eight problems, after `rise` was learnt.
    #[track_caller]
    fn check(rise: f64, expected: Expect) {
        let mut curriculum = build(0, 8);
        let played = step(curriculum.as_mut(), 0, 8, |start| chance(start, rise));
        expected.assert_eq(&rows(&played));
    }

    #[test]
    fn a_group_that_failed_is_given_more_until_one_succeeds() {
        check(
            0.0,
            expect![[r#"
            p7:0=0 p2:0=0- p6:0=9 p0:0=16 p3:0=0- p5:0=0- p4:0=0- p1:0=0-
            p2:25=1 p3:25=0- p5:25=0- p4:25=0- p1:25=12 p3:50=5 p5:50=0- p4:50=0-
            p5:75=0 p4:75=9"#]],
        );
        // What was learnt is no longer guided.
        check(
            0.5,
            expect![[r#"
            p7:0=0 p2:0=15 p6:0=16 p0:0=16 p3:0=3 p5:0=0- p4:0=0- p1:0=16
            p5:25=0- p4:25=4 p5:50=0- p5:75=0"#]],
        );
    }

    #[test]
    fn it_begins_when_it_is_told_to() {
        let mut curriculum = build(2, 8);
        let steps = learn(curriculum.as_mut(), 0..3, 8, 0.0);
        assert_eq!(steps.iter().map(Vec::len).collect::<Vec<_>>()[..2], [8, 8]);
        assert!(steps[2].len() > 8);
    }

    /// Success rises by 0.02 a step: guidance is withdrawn from every problem that it could help.
    #[test]
    fn its_cost() {
        let mut curriculum = build(0, 8);
        learn(curriculum.as_mut(), 0..60, 8, 0.02);
        expect![[r#"
            dropped_rollouts 4576.000
            epoch 60.000
            given_tokens 44.755
            groups_failed 128.000
            groups_rescued 68.000
            guided_rollouts 4576.000
            plain_rollouts 7680.000
            problems_uncuttable 1.000
            problems_without_solution 1.000"#]]
        .assert_eq(&metrics(curriculum.as_ref()));
        let late = learn(curriculum.as_mut(), 60..70, 8, 0.02);
        let starts = late.iter().flatten().map(|one| &one.selection.start);
        let mut problems: Vec<&str> =
            starts.filter(|start| !start.prefix.is_empty()).map(|start| start.problem.as_str()).collect();
        problems.dedup();
        assert_eq!(problems, ["p5"]);
    }

    #[test]
    fn a_state_goes_on_exactly() {
        check_resume(|| build(3, 8), build(3, 7), 12, 5, |start, at| chance(start, 0.02 * at as f64));
    }
}
