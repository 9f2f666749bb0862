//! Plain problems, sampled again until enough groups are mixed.
//!
//! ```text
//! kept(group) = 0 < successes < attempts
//! each step: groups of the next problems, N at first and then as many as are missing,
//!            until N are kept or `rounds` rounds are done
//! ```
//!
//! DAPO, arXiv 2503.14476, algorithm 1, and its recipe in verl: `rounds` is its `max_num_gen_batches`, 10.
//! The gradient then has the same number of mixed groups in every step, at the price of more sampling:
//! with a share m of mixed groups, about 1 / m as much. All of it is counted.
//!
//! Zero cases: a silent group is dropped whatever its success; when no group of any round is mixed, the
//! step moves nothing. A group of one rollout is never mixed.
//!
//! Departures: the recipe samples three times the batch at once and throws the surplus away, and ends
//! the run when its rounds are used up; here only what is missing is sampled, and a step that stays
//! short is learnt from as it is.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use toehold_rollout::Start;

use super::{
    BuildError, Curriculum, Cycle, Fate, GroupOutcome, Material, RestoreError, Selection, Traces, kept, named, refuse,
};
use crate::recipe::{RecipeError, section};

section! {
    /// Settings of dynamic sampling.
    DynamicSampling from DynamicSamplingWritten {
        /// Rounds of sampling in a step at most, the first included; at least 1. DAPO: 10.
        rounds: u64 = 10,
    }
}

impl DynamicSampling {
    pub(super) const TRACES: Traces = Traces::None;

    pub(super) fn checked(self) -> Result<DynamicSampling, RecipeError> {
        match self {
            DynamicSampling { rounds: 0 } => refuse("rounds", 0, "at least 1"),
            _ => Ok(self),
        }
    }

    pub(super) fn build(&self, material: Material, seed: u64) -> Result<Box<dyn Curriculum>, BuildError> {
        if material.plain.is_empty() {
            return Err(BuildError::NoStart { plain: 0, prefixed: 0, plain_share: 1.0 });
        }
        let cycle = Cycle::new("plain starts", seed, material.plain.len());
        let starts = material.plain.into_iter().map(Arc::new).collect();
        Ok(Box::new(DynamicSamplingCurriculum {
            settings: self.clone(),
            starts,
            cycle,
            step: Step::default(),
            groups: Groups::default(),
        }))
    }
}

/// Dynamic sampling at work.
struct DynamicSamplingCurriculum {
    settings: DynamicSampling,
    starts: Vec<Arc<Start>>,
    cycle: Cycle,
    step: Step,
    groups: Groups,
}

/// The step in progress.
#[derive(Default)]
struct Step {
    wanted: usize,
    mixed: usize,
    rounds: u64,
}

/// Groups of all steps.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
struct Groups {
    sampled: u64,
    mixed: u64,
}

/// Its state.
#[derive(Serialize, Deserialize)]
struct Kept {
    taken: u64,
    groups: Groups,
}

impl DynamicSamplingCurriculum {
    fn select(&mut self, count: usize) -> Vec<Selection> {
        self.step.rounds += 1;
        let round = self.step.rounds;
        let select = |_| {
            let why = format!("epoch {}, round {round} of {}", self.cycle.epoch(), self.settings.rounds);
            self.cycle.take().map(|at| Selection::new(self.starts[at].clone(), why))
        };
        (0..count).map_while(select).collect()
    }

    fn material(&self) -> String {
        kept::name(self.starts.iter().map(Arc::as_ref))
    }
}

impl Curriculum for DynamicSamplingCurriculum {
    fn next(&mut self, count: usize) -> Vec<Selection> {
        self.step = Step { wanted: count, ..Step::default() };
        self.select(count)
    }

    fn observe(&mut self, _selection: &Selection, outcome: GroupOutcome) -> Fate {
        self.groups.sampled += 1;
        if !outcome.is_mixed() {
            return Fate::Dropped;
        }
        self.groups.mixed += 1;
        self.step.mixed += 1;
        Fate::Learnt
    }

    fn again(&mut self) -> Vec<Selection> {
        if self.step.rounds >= self.settings.rounds {
            return Vec::new();
        }
        self.select(self.step.wanted.saturating_sub(self.step.mixed))
    }

    fn state(&self) -> Value {
        kept::keep(self.material(), &Kept { taken: self.cycle.taken(), groups: self.groups })
    }

    fn restore(&mut self, state: &Value) -> Result<(), RestoreError> {
        let Kept { taken, groups } = kept::kept(state, &self.material())?;
        self.cycle.seek(taken);
        self.groups = groups;
        Ok(())
    }

    fn metrics(&self) -> BTreeMap<String, f64> {
        named([
            ("epoch", self.cycle.epoch() as f64),
            ("groups_sampled", self.groups.sampled as f64),
            ("groups_mixed", self.groups.mixed as f64),
        ])
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use toehold_rollout::Start;

    use super::super::simulation::{Played, check_resume, run, shown};
    use super::super::tests::plain_starts;
    use super::super::{Curriculum, Fate};
    use super::{DynamicSampling, Material};

    /// Problems 0 and 1 always fail, 2 and 3 always succeed, 4 and 5 do either.
    fn chance(start: &Start) -> f64 {
        [0.0, 0.0, 1.0, 1.0, 0.5, 0.3][start.prompt[0] as usize]
    }

    fn build(rounds: u64, problems: u32) -> Box<dyn Curriculum> {
        let material = Material { plain: plain_starts(problems), ..Material::default() };
        DynamicSampling { rounds }.build(material, 3).unwrap()
    }

    #[track_caller]
    fn check(rounds: u64, problems: u32, expected: Expect) {
        let steps = run(build(rounds, problems).as_mut(), 0..2, 2, |start, _| chance(start));
        expected.assert_eq(&steps.iter().map(|step| shown(step)).collect::<Vec<_>>().join("\n"));
    }

    #[test]
    fn it_goes_on_until_enough_groups_are_mixed() {
        check(
            10,
            6,
            expect![[r#"
            p3:0=16- p2:0=16- p0:0=0- p4:0=9 p5:0=6
            p1:0=0- p4:0=14 p0:0=0- p3:0=16- p5:0=6"#]],
        );
        check(
            1,
            6,
            expect![[r#"
            p3:0=16- p2:0=16-
            p0:0=0- p4:0=14"#]],
        );
        // No problem is ever mixed: the rounds are used up.
        check(
            3,
            4,
            expect![[r#"
            p0:0=0- p3:0=16- p2:0=16- p1:0=0- p1:0=0- p3:0=16-
            p0:0=0- p2:0=16- p0:0=0- p3:0=16- p1:0=0- p2:0=16-"#]],
        );
    }

    /// A third of the problems is mixed, so three times the groups are sampled, whatever the seed.
    #[test]
    fn its_cost_is_the_inverse_share_of_mixed_groups() {
        let mut curriculum = build(10, 6);
        let steps = run(curriculum.as_mut(), 0..30, 4, |start, _| chance(start));
        let learnt = |step: &Vec<Played>| step.iter().filter(|one| one.fate == Fate::Learnt).count();
        assert!(steps.iter().all(|step| learnt(step) == 4));
        assert_eq!(curriculum.metrics()["curriculum/groups_mixed"], 120.0);
        let sampled = curriculum.metrics()["curriculum/groups_sampled"];
        assert!((350.0..370.0).contains(&sampled), "{sampled}");
    }

    #[test]
    fn a_state_goes_on_exactly() {
        check_resume(|| build(4, 6), build(4, 5), 12, 2, |start, _| chance(start));
    }
}
