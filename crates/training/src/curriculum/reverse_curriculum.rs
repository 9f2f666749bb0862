//! Starts that move from the end of the solution to its beginning.
//!
//! ```text
//! share of stage s = (stages − s) / stages of the solution, s = 1 ..= stages; the last is plain
//! mixed  : every problem from all stages, in epochs
//! staged : every problem from stage s, `stage_steps` steps each, the last to the end
//! ```
//!
//! R3, arXiv 2402.05808, and its public code: mixing the stages is the form that it reports, since stages
//! one after another forget the earlier ones.
//!
//! Zero cases: stages that come to the same number of tokens are one in the mixture, so that a short
//! solution weighs less there; a problem without a solution is plain in every stage, and once in the mixture.
//!
//! Departures: R3 cuts at the lines of the rationale, here shares of its tokens before the answer are cut,
//! to the same number for every problem. There a critic is trained, the group's mean is the baseline here;
//! there an answer that is wrong but can be read earns 0.2.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::guidance::{Guide, Tally};
use super::{
    BuildError, Curriculum, Cycle, Fate, GroupOutcome, Material, RestoreError, Selection, Traces, kept, named, refuse,
};
use crate::recipe::{RecipeError, section};

section! {
    /// Settings of the reverse curriculum.
    ReverseCurriculum from ReverseCurriculumWritten {
        /// Whether stages are mixed or follow one another. R3: mixed.
        order: Order = Order::Mixed,
        /// Starts per problem, the plain one included; at least 2. R3: one per line of the solution.
        stages: usize = 5,
        /// Steps of each stage, the last one's apart, when staged; at least 1. The paper does not say.
        stage_steps: u64 = 100,
    }
}

/// How stages are brought together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// All in one set.
    Mixed,
    /// One after another, from the end of the solution to its beginning.
    Staged,
}

impl ReverseCurriculum {
    pub(super) const TRACES: Traces = Traces::Solutions;

    pub(super) fn checked(self) -> Result<ReverseCurriculum, RecipeError> {
        match self {
            ReverseCurriculum { stages, .. } if stages < 2 => refuse("stages", stages, "at least 2"),
            ReverseCurriculum { stage_steps: 0, .. } => refuse("stage_steps", 0, "at least 1"),
            _ => Ok(self),
        }
    }

    pub(super) fn build(&self, material: Material, seed: u64) -> Result<Box<dyn Curriculum>, BuildError> {
        let guide = Guide::new(material)?;
        let shares: Vec<f64> = (0..self.stages).map(|stage| self.share(stage)).collect();
        let of_problem = |problem: usize| match self.order {
            Order::Mixed => [vec![0], guide.ladder(problem, &shares)].concat(),
            Order::Staged => vec![0],
        };
        let starts = |problem| of_problem(problem).into_iter().map(move |given| (problem, given));
        let pool: Vec<(usize, usize)> = (0..guide.len()).flat_map(starts).collect();
        let cycle = Cycle::new("starts", seed, pool.len());
        Ok(Box::new(ReverseCurriculumAtWork { settings: self.clone(), guide, pool, cycle, counts: Counts::default() }))
    }

    /// The share of the solution that is given in this stage, from 0.
    fn share(&self, stage: usize) -> f64 {
        (self.stages - 1 - stage) as f64 / self.stages as f64
    }
}

/// The reverse curriculum at work.
struct ReverseCurriculumAtWork {
    settings: ReverseCurriculum,
    guide: Guide,
    /// Problem and tokens to give of every start; staged, the stage says how many.
    pool: Vec<(usize, usize)>,
    cycle: Cycle,
    counts: Counts,
}

/// What happened so far.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
struct Counts {
    /// Steps begun.
    steps: u64,
    tally: Tally,
}

/// Its state.
#[derive(Serialize, Deserialize)]
struct Kept {
    taken: u64,
    counts: Counts,
}

impl ReverseCurriculumAtWork {
    /// The stage of the step in progress, from 0.
    fn stage(&self) -> usize {
        let begun = self.counts.steps.saturating_sub(1) / self.settings.stage_steps;
        begun.min(self.settings.stages as u64 - 1) as usize
    }

    fn select(&mut self) -> Option<Selection> {
        let epoch = self.cycle.epoch();
        let (problem, given) = self.cycle.take().map(|at| self.pool[at])?;
        Some(match self.settings.order {
            Order::Mixed => self.guide.select(problem, given, &format!("mixed, epoch {epoch}")),
            Order::Staged => {
                let stage = self.stage();
                let given = self.guide.given(problem, self.settings.share(stage));
                self.guide.select(problem, given, &format!("stage {stage}, epoch {epoch}"))
            }
        })
    }
}

impl Curriculum for ReverseCurriculumAtWork {
    fn next(&mut self, count: usize) -> Vec<Selection> {
        self.counts.steps += 1;
        (0..count).map_while(|_| self.select()).collect()
    }

    fn observe(&mut self, selection: &Selection, outcome: GroupOutcome) -> Fate {
        self.counts.tally.add(selection, outcome, Fate::Learnt)
    }

    fn state(&self) -> Value {
        kept::keep(self.guide.name(), &Kept { taken: self.cycle.taken(), counts: self.counts })
    }

    fn restore(&mut self, state: &Value) -> Result<(), RestoreError> {
        let Kept { taken, counts } = kept::kept(state, &self.guide.name())?;
        self.cycle.seek(taken);
        self.counts = counts;
        Ok(())
    }

    fn metrics(&self) -> BTreeMap<String, f64> {
        let mut metrics = named([("epoch", self.cycle.epoch() as f64), ("starts", self.pool.len() as f64)]);
        if self.settings.order == Order::Staged {
            metrics.extend(named([("stage", self.stage() as f64)]));
        }
        metrics.extend(self.counts.tally.metrics());
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
    use super::{Order, ReverseCurriculum};

    fn build(order: Order, problems: u32) -> Box<dyn Curriculum> {
        ReverseCurriculum { order, stages: 5, stage_steps: 2 }.build(material(problems), 3).unwrap()
    }

    #[track_caller]
    fn check(order: Order, starts: usize, steps: u64, expected: Expect) {
        let mut curriculum = build(order, 8);
        let steps = learn(curriculum.as_mut(), 0..steps, starts, 0.02);
        let lines: Vec<String> = steps.iter().map(|step| shown(step)).collect();
        expected.assert_eq(&format!("{}\n\n{}", lines.join("\n"), metrics(curriculum.as_ref())));
    }

    #[test]
    fn mixed_every_stage_comes_once_an_epoch() {
        // Six problems of five starts, and two that have no solution to give.
        check(
            Order::Mixed,
            8,
            4,
            expect![[r#"
            p4:0=0 p3:0=0 p4:40=0 p2:80=16 p2:40=8 p4:60=0 p7:0=0 p0:40=16
            p0:0=16 p1:0=0 p2:20=0 p4:20=0 p1:20=11 p1:60=16 p2:60=16 p1:40=15
            p3:60=13 p2:0=0 p5:40=0 p3:80=16 p4:80=12 p3:40=2 p6:0=12 p5:60=0
            p1:80=16 p5:0=0 p5:20=0 p0:80=16 p0:20=16 p0:60=16 p5:80=0 p3:20=0

            dropped_rollouts 0.000
            epoch 1.000
            given_tokens 50.000
            guided_rollouts 384.000
            plain_rollouts 128.000
            problems_uncuttable 1.000
            problems_without_solution 1.000
            starts 32.000"#]],
        );
    }

    #[test]
    fn staged_the_start_slides_to_the_beginning() {
        check(
            Order::Staged,
            8,
            11,
            expect![[r#"
            p5:80=0 p6:0=11 p2:80=16 p7:0=0 p1:80=16 p3:80=16 p4:80=7 p0:80=16
            p0:80=16 p3:80=16 p6:0=10 p1:80=16 p4:80=11 p7:0=0 p2:80=16 p5:80=0
            p5:60=0 p3:60=12 p0:60=16 p1:60=16 p7:0=0 p6:0=12 p2:60=15 p4:60=3
            p1:60=16 p3:60=16 p0:60=16 p4:60=2 p2:60=16 p7:0=0 p6:0=11 p5:60=0
            p4:40=0 p6:0=14 p2:40=12 p7:0=0 p3:40=1 p5:40=0 p1:40=16 p0:40=16
            p4:40=0 p3:40=1 p7:0=0 p6:0=12 p2:40=14 p5:40=0 p1:40=16 p0:40=16
            p4:20=0 p2:20=2 p5:20=0 p0:20=16 p3:20=1 p1:20=16 p6:0=14 p7:0=0
            p6:0=16 p1:20=16 p5:20=0 p2:20=3 p0:20=16 p3:20=0 p7:0=0 p4:20=0
            p6:0=15 p2:0=0 p1:0=4 p3:0=0 p4:0=0 p0:0=16 p5:0=0 p7:0=0
            p1:0=5 p6:0=15 p0:0=16 p5:0=0 p3:0=0 p4:0=0 p2:0=0 p7:0=0
            p0:0=16 p4:0=0 p2:0=0 p6:0=16 p1:0=5 p5:0=0 p7:0=0 p3:0=0

            dropped_rollouts 0.000
            epoch 11.000
            given_tokens 50.000
            guided_rollouts 768.000
            plain_rollouts 640.000
            problems_uncuttable 1.000
            problems_without_solution 1.000
            stage 4.000
            starts 8.000"#]],
        );
    }

    #[test]
    fn a_state_goes_on_exactly() {
        for order in [Order::Mixed, Order::Staged] {
            check_resume(|| build(order, 8), build(order, 7), 12, 5, |start, at| chance(start, 0.02 * at as f64));
        }
    }
}
