//! Each step is made of pairs: a hard problem that is solvable, and an easy one that is brittle.
//!
//! ```text
//! hard    = problems with a success, solved in at most the share `hard` of the collected attempts
//! brittle = problems with a failure, solved in at least the share `brittle` of them
//! pools   = the `problems` hardest of the hard, and the `problems` surest of the brittle
//! starts  = hard, brittle, hard, brittle ..., each pool in epochs
//! ```
//!
//! "Beyond Variance", arXiv 2602.03452: a rare success on the one and a rare failure on the other are what
//! a standardised group amplifies. There each update is one pair, chosen before training: `problems = 1`
//! and two starts. The objective that goes with it is `weighted-grpo`, which weighs the two roles.
//!
//! Zero cases: without a problem in either pool the run does not begin. A problem always or never solved is
//! in no pool, nor is one that was not collected. With an odd number of starts a pair is begun in one step
//! and completed in the next. A problem can be in both pools where `hard` exceeds `brittle`.
//!
//! Departures: the paper's text was not to be had. Its brittle problems have a success in `[1 − c/G, 1 − 1/G]`
//! whose c is not known, and how it picks one of them is not said: here the share is a setting, and the rarest
//! outcome is taken. Pools are not looked at again, as there.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use toehold_rollout::{ProblemId, Start, SuccessCount};

use super::{
    BuildError, Curriculum, Cycle, Fate, GroupOutcome, Material, RestoreError, Selection, Traces, kept, named, refuse,
};
use crate::random;
use crate::recipe::{RecipeError, section};

section! {
    /// Settings of pairing.
    Pairing from PairingWritten {
        /// A problem is hard when it was solved, in at most this share of the collected attempts, in `(0, 1)`.
        hard: f64 = 0.25,
        /// A problem is brittle when it was missed, and solved in at least this share, in `(0, 1)`.
        brittle: f64 = 0.75,
        /// Problems in each pool at most, those with the rarest outcomes; at least 1. The paper: 1.
        problems: usize = 1,
    }
}

impl Pairing {
    /// It counts successes and failures.
    pub(super) const TRACES: Traces = Traces::All;

    pub(super) fn checked(self) -> Result<Pairing, RecipeError> {
        let is_inside = |share: f64| share > 0.0 && share < 1.0;
        match self {
            Pairing { hard, .. } if !is_inside(hard) => refuse("hard", hard, "in (0, 1)"),
            Pairing { brittle, .. } if !is_inside(brittle) => refuse("brittle", brittle, "in (0, 1)"),
            Pairing { problems: 0, .. } => refuse("problems", 0, "at least 1"),
            _ => Ok(self),
        }
    }

    pub(super) fn build(&self, material: Material, seed: u64) -> Result<Box<dyn Curriculum>, BuildError> {
        let problems = material.plain.len();
        let [hard, brittle] = self.pools(material, seed);
        if hard.is_empty() || brittle.is_empty() {
            return Err(BuildError::NoPair { problems, hard: hard.len(), brittle: brittle.len() });
        }
        let pool = |name, mut of: Vec<Candidate>| {
            of.truncate(self.problems);
            Pool { cycle: Cycle::new(name, seed, of.len()), candidates: of, groups: Groups::default() }
        };
        let pools = [pool("hard problems", hard), pool("brittle problems", brittle)];
        Ok(Box::new(PairingCurriculum { pools }))
    }

    /// All hard problems, hardest first, and all brittle ones, surest first.
    fn pools(&self, material: Material, seed: u64) -> [Vec<Candidate>; 2] {
        let mut counts: HashMap<ProblemId, SuccessCount> = HashMap::new();
        for source in &material.sources {
            counts.entry(source.problem.clone()).or_default().add(source.is_correct);
        }
        let [mut hard, mut brittle] = [Vec::new(), Vec::new()];
        for start in material.plain.into_iter().map(Arc::new) {
            let count = counts.get(&start.problem).copied().unwrap_or_default();
            let Some(rate) = count.rate().filter(|_| count.successes > 0 && count.successes < count.attempts) else {
                continue;
            };
            let lot = random::seed_for(seed, &format!("pair {}", start.problem.as_str()), &[]);
            let candidate = Candidate { start, count, rate, lot };
            if rate <= self.hard {
                hard.push(candidate.clone());
            }
            if rate >= self.brittle {
                brittle.push(candidate);
            }
        }
        hard.sort_by(|a, b| a.rate.total_cmp(&b.rate).then(a.lot.cmp(&b.lot)));
        brittle.sort_by(|a, b| b.rate.total_cmp(&a.rate).then(a.lot.cmp(&b.lot)));
        [hard, brittle]
    }
}

/// A problem of a pool.
#[derive(Clone)]
struct Candidate {
    start: Arc<Start>,
    count: SuccessCount,
    rate: f64,
    /// Decides between problems that are alike.
    lot: u64,
}

struct Pool {
    candidates: Vec<Candidate>,
    cycle: Cycle,
    groups: Groups,
}

/// What came of a pool's groups.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
struct Groups {
    rollouts: SuccessCount,
    mixed: u64,
}

/// Pairing at work: the hard pool and the brittle one.
struct PairingCurriculum {
    pools: [Pool; 2],
}

/// Its state, of both pools.
#[derive(Serialize, Deserialize)]
struct Kept {
    taken: [u64; 2],
    groups: [Groups; 2],
}

const ROLES: [&str; 2] = ["hard", "brittle"];

impl PairingCurriculum {
    fn select(&mut self) -> Option<Selection> {
        let [hard, brittle] = [self.pools[0].cycle.taken(), self.pools[1].cycle.taken()];
        let role = usize::from(brittle < hard);
        let pair = brittle;
        let pool = &mut self.pools[role];
        let Candidate { start, count, .. } = &pool.candidates[pool.cycle.take()?];
        let why = format!("{} of pair {pair}: collected {}/{}", ROLES[role], count.successes, count.attempts);
        Some(Selection::new(start.clone(), why))
    }

    fn material(&self) -> String {
        kept::name(self.pools.iter().flat_map(|pool| &pool.candidates).map(|candidate| candidate.start.as_ref()))
    }
}

impl Curriculum for PairingCurriculum {
    fn next(&mut self, count: usize) -> Vec<Selection> {
        (0..count).map_while(|_| self.select()).collect()
    }

    fn observe(&mut self, selection: &Selection, outcome: GroupOutcome) -> Fate {
        // By the start, not by the order: a problem that is in both pools counts for both.
        let is_of = |pool: &&mut Pool| pool.candidates.iter().any(|one| one.start.id == selection.start.id);
        for pool in self.pools.iter_mut().filter(is_of) {
            pool.groups.rollouts.merge(outcome.count);
            pool.groups.mixed += u64::from(outcome.is_mixed());
        }
        Fate::Learnt
    }

    fn state(&self) -> Value {
        let taken = self.pools.each_ref().map(|pool| pool.cycle.taken());
        kept::keep(self.material(), &Kept { taken, groups: self.pools.each_ref().map(|pool| pool.groups) })
    }

    fn restore(&mut self, state: &Value) -> Result<(), RestoreError> {
        let Kept { taken, groups } = kept::kept(state, &self.material())?;
        for ((pool, taken), groups) in self.pools.iter_mut().zip(taken).zip(groups) {
            pool.cycle.seek(taken);
            pool.groups = groups;
        }
        Ok(())
    }

    fn metrics(&self) -> BTreeMap<String, f64> {
        let mut metrics = named([("pairs", self.pools[1].cycle.taken() as f64)]);
        for (role, pool) in ROLES.iter().zip(&self.pools) {
            metrics.insert(format!("curriculum/{role}_problems"), pool.candidates.len() as f64);
            metrics.insert(format!("curriculum/{role}_rollouts"), pool.groups.rollouts.attempts as f64);
            metrics.insert(format!("curriculum/{role}_successes"), pool.groups.rollouts.successes as f64);
            metrics.insert(format!("curriculum/{role}_mixed"), pool.groups.mixed as f64);
        }
        metrics
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use toehold_rollout::Start;

    use super::super::simulation::{check_resume, run, shown};
    use super::super::tests::{plain_starts, sources};
    use super::super::{BuildError, Curriculum, Material};
    use super::Pairing;

    /// Collected successes of 16 of each problem, which are also its chance.
    const SUCCESSES: [u32; 8] = [0, 1, 2, 8, 13, 15, 16, 1];

    fn material(successes: &[u32]) -> Material {
        let mut given = Vec::new();
        for (at, source) in sources(successes.len() as u32, 5, 5).into_iter().enumerate() {
            given.extend((0..16).map(|row| super::super::Source {
                is_correct: row < successes[at],
                row: Some(i64::from(row)),
                ..source.clone()
            }));
        }
        Material { plain: plain_starts(successes.len() as u32), sources: given, ..Material::default() }
    }

    fn chance(start: &Start) -> f64 {
        f64::from(SUCCESSES[start.prompt[0] as usize]) / 16.0
    }

    fn build(problems: usize) -> Box<dyn Curriculum> {
        Pairing { hard: 0.25, brittle: 0.75, problems }.build(material(&SUCCESSES), 3).unwrap()
    }

    #[track_caller]
    fn check(problems: usize, starts: usize, expected: Expect) {
        let mut curriculum = build(problems);
        let steps = run(curriculum.as_mut(), 0..3, starts, |start, _| chance(start));
        let metrics: Vec<String> = curriculum
            .metrics()
            .into_iter()
            .map(|(name, value)| format!("{} {value}", name.trim_start_matches("curriculum/")))
            .collect();
        let steps: Vec<String> = steps.iter().map(|step| shown(step)).collect();
        expected.assert_eq(&format!("{}\n{}", steps.join("\n"), metrics.join(", ")));
    }

    #[test]
    fn every_step_is_made_of_pairs() {
        // The paper's: one pair, the rarest success (of two alike, one by lot) and the rarest failure.
        check(
            1,
            2,
            expect![[r#"
            p1:0=0 p5:0=15
            p1:0=1 p5:0=16
            p1:0=0 p5:0=15
            brittle_mixed 2, brittle_problems 1, brittle_rollouts 48, brittle_successes 46, hard_mixed 1, hard_problems 1, hard_rollouts 48, hard_successes 1, pairs 3"#]],
        );
        // Problem 0 is never solved and 6 always: both are left out, as is 3, which is neither.
        check(
            9,
            6,
            expect![[r#"
            p7:0=0 p4:0=13 p1:0=2 p5:0=16 p2:0=4 p4:0=12
            p1:0=1 p5:0=16 p7:0=0 p4:0=11 p2:0=0 p5:0=16
            p1:0=0 p4:0=13 p2:0=3 p5:0=15 p7:0=0 p4:0=13
            brittle_mixed 6, brittle_problems 2, brittle_rollouts 144, brittle_successes 125, hard_mixed 4, hard_problems 3, hard_rollouts 144, hard_successes 10, pairs 9"#]],
        );
        // An odd step begins a pair that the next one completes.
        check(
            2,
            3,
            expect![[r#"
            p7:0=0 p4:0=13 p1:0=2
            p5:0=15 p7:0=1 p4:0=11
            p1:0=0 p5:0=15 p1:0=3
            brittle_mixed 4, brittle_problems 2, brittle_rollouts 64, brittle_successes 54, hard_mixed 3, hard_problems 2, hard_rollouts 80, hard_successes 6, pairs 4"#]],
        );
    }

    /// Groups that are mixed among 200 of pairs and 200 of all problems in turn.
    #[test]
    fn its_groups_are_rarely_silent() {
        let mixed = |mut curriculum: Box<dyn Curriculum>| {
            let steps = run(curriculum.as_mut(), 0..50, 4, |start, _| chance(start));
            steps.iter().flatten().filter(|one| one.outcome.is_mixed()).count()
        };
        let plain = super::super::plain::Plain {}.build(material(&SUCCESSES), 3).unwrap();
        expect!["149 115"].assert_eq(&format!("{} {}", mixed(build(9)), mixed(plain)));
    }

    #[test]
    fn without_one_of_the_pools_the_run_does_not_begin() {
        let error = |successes: &[u32]| -> BuildError {
            Pairing { hard: 0.25, brittle: 0.75, problems: 4 }.build(material(successes), 0).err().unwrap()
        };
        expect![[r#"
            no pair can be made: of 4 problems, 1 are hard but solvable, 0 easy but brittle
            hint: collect more (until = "max-attempts"), or widen [curriculum] hard and brittle"#]]
        .assert_eq(&error(&[0, 1, 8, 16]).to_string());
        assert!(matches!(error(&[0, 15]), BuildError::NoPair { problems: 2, hard: 0, brittle: 1 }));
    }

    #[test]
    fn a_state_goes_on_exactly() {
        let other = Pairing { hard: 0.25, brittle: 0.75, problems: 1 }.build(material(&SUCCESSES), 3).unwrap();
        check_resume(|| build(9), other, 9, 3, |start, _| chance(start));
    }
}
