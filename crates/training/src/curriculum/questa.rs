//! A part of the solution for every problem, less of it from stage to stage.
//!
//! ```text
//! stage s     : every problem from shares[s] of its solution, in epochs    (50 %, then 25 %)
//! next stage  : after `stage_steps` steps of this one, or when an epoch's success reaches `success`
//! kept(group) = low <= successes / attempts <= high
//! ```
//!
//! QuestA, arXiv 2507.13266, and its public code: shares 50 and 25 %, groups outside 5 to 95 % left out.
//! The last share stays to the end; a share of 0 at the end is a last stage without guidance.
//!
//! Zero cases: a problem without a solution, or whose share comes to no token, is plain in every stage. A
//! group without any verdict is dropped. When no group is kept, the step moves nothing.
//!
//! Departures: the paper writes the part into the user's turn, under a heading, cuts it by characters, and
//! can show the answer; here it is the beginning of the assistant's turn, cut by tokens, before the answer.
//! Its stages are runs of their own, each begun from the last one's checkpoint by hand, so when to go on is
//! our choice, and so is stopping early on success.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use toehold_rollout::SuccessCount;

use super::guidance::{Guide, Tally, check_shares};
use super::{
    BuildError, Curriculum, Cycle, Fate, GroupOutcome, Material, RestoreError, Selection, Traces, kept, named, refuse,
};
use crate::recipe::{RecipeError, section};

section! {
    /// Settings of QuestA.
    Questa from QuestaWritten {
        /// The share of the solution before its answer that each stage gives, in `[0, 1]` each. QuestA:
        /// 0.5, 0.25.
        shares: Vec<f64> = vec![0.5, 0.25],
        /// Steps of a stage at most, the last one's apart; at least 1. The paper does not say.
        stage_steps: u64 = 200,
        /// A stage ends when success over one of its epochs reaches this, in `(0, 1]`. Ours.
        success: f64 = 0.75,
        /// A group with less success is dropped, in `[0, high]`. QuestA: 0.05.
        low: f64 = 0.05,
        /// A group with more success is dropped, in `[low, 1]`. QuestA: 0.95.
        high: f64 = 0.95,
    }
}

impl Questa {
    pub(super) const TRACES: Traces = Traces::Solutions;

    pub(super) fn checked(self) -> Result<Questa, RecipeError> {
        check_shares("shares", &self.shares)?;
        match self {
            Questa { stage_steps: 0, .. } => refuse("stage_steps", 0, "at least 1"),
            Questa { success, .. } if !(success > 0.0 && success <= 1.0) => refuse("success", success, "in (0, 1]"),
            Questa { high, .. } if !(0.0..=1.0).contains(&high) => refuse("high", high, "in [low, 1]"),
            Questa { low, high, .. } if !(0.0..=high).contains(&low) => refuse("low", low, "in [0, high]"),
            _ => Ok(self),
        }
    }

    pub(super) fn build(&self, material: Material, seed: u64) -> Result<Box<dyn Curriculum>, BuildError> {
        let guide = Guide::new(material)?;
        let cycle = Cycle::new("guided starts", seed, guide.len());
        let (stage, tally) = (Stage::default(), Tally::default());
        Ok(Box::new(QuestaCurriculum { settings: self.clone(), guide, cycle, stage, tally }))
    }
}

/// QuestA at work.
struct QuestaCurriculum {
    settings: Questa,
    guide: Guide,
    cycle: Cycle,
    stage: Stage,
    tally: Tally,
}

/// The stage in progress.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
struct Stage {
    /// Its number.
    at: usize,
    /// Its steps begun.
    steps: u64,
    /// Groups and success of its epoch that is not complete.
    groups: usize,
    epoch: SuccessCount,
    /// The success of its last whole epoch.
    last: SuccessCount,
}

/// Its state.
#[derive(Serialize, Deserialize)]
struct Kept {
    taken: u64,
    stage: Stage,
    tally: Tally,
}

impl QuestaCurriculum {
    /// Goes over to the next stage when this one is done.
    fn advance(&mut self) {
        let is_learnt = self.stage.last.rate().is_some_and(|rate| rate >= self.settings.success);
        let is_over = self.stage.steps >= self.settings.stage_steps || is_learnt;
        if is_over && self.stage.at + 1 < self.settings.shares.len() {
            self.stage = Stage { at: self.stage.at + 1, ..Stage::default() };
        }
    }
}

impl Curriculum for QuestaCurriculum {
    fn next(&mut self, count: usize) -> Vec<Selection> {
        self.advance();
        self.stage.steps += 1;
        let (stage, share) = (self.stage.at, self.settings.shares[self.stage.at]);
        let select = |_| {
            let why = format!("stage {stage}, epoch {}", self.cycle.epoch());
            let problem = self.cycle.take()?;
            Some(self.guide.select(problem, self.guide.given(problem, share), &why))
        };
        (0..count).map_while(select).collect()
    }

    fn observe(&mut self, selection: &Selection, outcome: GroupOutcome) -> Fate {
        self.stage.epoch.merge(outcome.count);
        self.stage.groups += 1;
        if self.stage.groups >= self.guide.len() {
            self.stage.last = std::mem::take(&mut self.stage.epoch);
            self.stage.groups = 0;
        }
        let is_kept = outcome.count.rate().is_some_and(|rate| (self.settings.low..=self.settings.high).contains(&rate));
        self.tally.add(selection, outcome, if is_kept { Fate::Learnt } else { Fate::Dropped })
    }

    fn state(&self) -> Value {
        let (taken, stage, tally) = (self.cycle.taken(), self.stage, self.tally);
        kept::keep(self.guide.name(), &Kept { taken, stage, tally })
    }

    fn restore(&mut self, state: &Value) -> Result<(), RestoreError> {
        let Kept { taken, stage, tally } = kept::kept(state, &self.guide.name())?;
        if stage.at >= self.settings.shares.len() {
            let (found, stages) = (stage.at, self.settings.shares.len());
            return Err(RestoreError { reason: format!("its stage is {found}, expected less than {stages}") });
        }
        self.cycle.seek(taken);
        (self.stage, self.tally) = (stage, tally);
        Ok(())
    }

    fn metrics(&self) -> BTreeMap<String, f64> {
        let mut metrics = named([
            ("epoch", self.cycle.epoch() as f64),
            ("stage", self.stage.at as f64),
            ("share", self.settings.shares[self.stage.at]),
        ]);
        metrics.extend(self.tally.metrics());
        metrics.extend(self.guide.metrics());
        metrics
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::super::Curriculum;
    use super::super::guidance::world::{chance, learn, material, metrics};
    use super::super::simulation::{Played, check_resume, shown};
    use super::Questa;

    fn settings(stage_steps: u64, success: f64) -> Questa {
        Questa { shares: vec![0.5, 0.25], stage_steps, success, low: 0.05, high: 0.95 }
    }

    fn build(stage_steps: u64, success: f64, problems: u32) -> Box<dyn Curriculum> {
        settings(stage_steps, success).build(material(problems), 3).unwrap()
    }

    #[track_caller]
    fn check(stage_steps: u64, success: f64, steps: u64, expected: Expect) {
        let mut curriculum = build(stage_steps, success, 8);
        let steps = learn(curriculum.as_mut(), 0..steps, 8, 0.02);
        expected.assert_eq(&steps.iter().map(|step| shown(step)).collect::<Vec<_>>().join("\n"));
    }

    #[test]
    fn stages_end_after_their_steps() {
        check(
            2,
            1.0,
            4,
            expect![[r#"
            p1:50=16- p0:50=16- p6:0=9 p3:50=4 p2:50=16- p4:50=0- p7:0=0- p5:50=0-
            p2:50=15 p4:50=0- p5:50=0- p3:50=4 p1:50=16- p7:0=0- p0:50=16- p6:0=7
            p5:25=0- p4:25=0- p6:0=11 p3:25=0- p0:25=16- p7:0=0- p1:25=14 p2:25=3
            p1:25=16- p7:0=0- p4:25=0- p3:25=0- p2:25=1 p6:0=12 p5:25=0- p0:25=16-"#]],
        );
    }

    /// Of the eight problems two always fail, so success reaches 0.6 when the others are nearly solved.
    #[test]
    fn stages_end_when_they_are_learnt() {
        let mut curriculum = build(1_000, 0.6, 8);
        let steps = learn(curriculum.as_mut(), 0..60, 8, 0.02);
        let given = |step: &Vec<Played>| step.iter().map(|one| one.selection.start.prefix.len()).max();
        let first = steps.iter().position(|step| given(step) == Some(25));
        expect!["Some(9)"].assert_eq(&format!("{first:?}"));
        expect![[r#"
            dropped_rollouts 6656.000
            epoch 60.000
            given_tokens 28.750
            guided_rollouts 5760.000
            plain_rollouts 1920.000
            problems_uncuttable 1.000
            problems_without_solution 1.000
            share 0.250
            stage 1.000"#]]
        .assert_eq(&metrics(curriculum.as_ref()));
    }

    #[test]
    fn a_state_goes_on_exactly() {
        check_resume(|| build(4, 0.6, 8), build(4, 0.6, 7), 12, 5, |start, at| chance(start, 0.02 * at as f64));
    }
}
