//! Plain problems of medium success, and some others to see what has become of them.
//!
//! ```text
//! success(problem) = successes / attempts of its groups, each counting `keep` of what it did at the next one
//! medium           = problems with low <= success <= high
//! a step           = explore · starts of the other problems, the rest of the medium ones;
//!                    in both, those that waited longest
//! ```
//!
//! The common practice of keeping a band of difficulty, with moving estimates from training itself. That
//! medium problems teach the most, and problems never solved in eight attempts harm, is what
//! arXiv 2605.28388 found in three settings; a band of 40 to 60 % is used elsewhere.
//!
//! Zero cases: a problem that was not tried is one of the others, before all that were, so that a run begins
//! by trying every problem. Where one of the two kinds has too few, the other fills the step, and where there
//! are fewer problems than starts, they come up again.
//!
//! Departures: none of one paper; the estimate, the share that explores and the order are our choice.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use toehold_rollout::{Start, StartId};

use super::cycle::is_among;
use super::faded::Faded;
use super::{
    BuildError, Curriculum, Fate, GroupOutcome, Material, RestoreError, Selection, Traces, kept, named, refuse,
};
use crate::random;
use crate::recipe::{RecipeError, section};

section! {
    /// Settings of the difficulty pool. All are our choice.
    DifficultyPool from DifficultyPoolWritten {
        /// The least success of a medium problem, in `[0, high]`.
        low: f64 = 0.25,
        /// The most success of a medium problem, in `[low, 1]`.
        high: f64 = 0.75,
        /// Share of the starts that are given to the other problems, in `[0, 1]`.
        explore: f64 = 0.2,
        /// How much an estimate keeps of its old counts at each new group, in `[0, 1]`; 0 is the last group alone.
        keep: f64 = 0.5,
    }
}

impl DifficultyPool {
    pub(super) const TRACES: Traces = Traces::None;

    pub(super) fn checked(self) -> Result<DifficultyPool, RecipeError> {
        match self {
            DifficultyPool { high, .. } if !(0.0..=1.0).contains(&high) => refuse("high", high, "in [low, 1]"),
            DifficultyPool { low, high, .. } if !(0.0..=high).contains(&low) => refuse("low", low, "in [0, high]"),
            DifficultyPool { explore, .. } if !(0.0..=1.0).contains(&explore) => {
                refuse("explore", explore, "in [0, 1]")
            }
            DifficultyPool { keep, .. } if !(0.0..=1.0).contains(&keep) => refuse("keep", keep, "in [0, 1]"),
            _ => Ok(self),
        }
    }

    pub(super) fn build(&self, material: Material, seed: u64) -> Result<Box<dyn Curriculum>, BuildError> {
        if material.plain.is_empty() {
            return Err(BuildError::NoStart { plain: 0, prefixed: 0, plain_share: 1.0 });
        }
        let starts: Vec<Arc<Start>> = material.plain.into_iter().map(Arc::new).collect();
        let lot = |start: &Arc<Start>| random::seed_for(seed, &format!("pool {}", start.problem.as_str()), &[]);
        Ok(Box::new(DifficultyPoolCurriculum {
            settings: self.clone(),
            lots: starts.iter().map(lot).collect(),
            places: starts.iter().enumerate().map(|(at, start)| (start.id.clone(), at)).collect(),
            pool: Pool::new(starts.len()),
            starts,
        }))
    }
}

/// The difficulty pool at work.
struct DifficultyPoolCurriculum {
    settings: DifficultyPool,
    starts: Vec<Arc<Start>>,
    /// Decide between problems that waited as long.
    lots: Vec<u64>,
    places: HashMap<StartId, usize>,
    pool: Pool,
}

/// Its state.
#[derive(Clone, Serialize, Deserialize)]
struct Pool {
    /// Starts given so far.
    taken: u64,
    /// Starts given to problems that were not medium, of those.
    explored: u64,
    /// The number that each problem's last start had, from 1; 0 for a problem that was not given.
    given: Vec<u64>,
    estimates: Vec<Faded>,
}

impl Pool {
    fn new(problems: usize) -> Pool {
        Pool { taken: 0, explored: 0, given: vec![0; problems], estimates: vec![Faded::default(); problems] }
    }
}

impl DifficultyPoolCurriculum {
    fn is_medium(&self, at: usize) -> bool {
        let DifficultyPool { low, high, .. } = self.settings;
        self.pool.estimates[at].ratio().is_some_and(|success| (low..=high).contains(&success))
    }

    /// Medium problems and the others, those that waited longest first.
    fn waiting(&self) -> [Vec<usize>; 2] {
        let mut all: Vec<usize> = (0..self.starts.len()).collect();
        all.sort_by_key(|&at| (self.pool.given[at], self.lots[at]));
        let (medium, others) = all.into_iter().partition(|&at| self.is_medium(at));
        [medium, others]
    }

    /// Whether start number `at` of the run explores.
    fn explores(&self, at: u64) -> bool {
        is_among(self.settings.explore, at)
    }

    fn give(&mut self, at: usize) -> Selection {
        let success = self.pool.estimates[at].ratio().map_or("not tried".to_owned(), |p| format!("success {p:.2}"));
        let is_medium = self.is_medium(at);
        let why = format!("{}, {success}", if is_medium { "medium" } else { "explored" });
        self.pool.taken += 1;
        self.pool.explored += u64::from(!is_medium);
        self.pool.given[at] = self.pool.taken;
        Selection::new(self.starts[at].clone(), why)
    }

    fn material(&self) -> String {
        kept::name(self.starts.iter().map(Arc::as_ref))
    }
}

impl Curriculum for DifficultyPoolCurriculum {
    fn next(&mut self, count: usize) -> Vec<Selection> {
        let mut selections = Vec::with_capacity(count);
        let [mut medium, mut others] = [Vec::new().into_iter(), Vec::new().into_iter()];
        while selections.len() < count {
            if medium.len() + others.len() == 0 {
                [medium, others] = self.waiting().map(Vec::into_iter);
            }
            let explores = self.explores(self.pool.taken);
            let at = if explores {
                others.next().or_else(|| medium.next())
            } else {
                medium.next().or_else(|| others.next())
            };
            selections.extend(at.map(|at| self.give(at)));
        }
        selections
    }

    fn observe(&mut self, selection: &Selection, outcome: GroupOutcome) -> Fate {
        let Some(&at) = self.places.get(&selection.start.id) else { return Fate::Learnt };
        if outcome.count.attempts > 0 {
            let attempts = outcome.count.attempts as f64;
            self.pool.estimates[at].fade(self.settings.keep);
            self.pool.estimates[at].add(outcome.count.successes as f64, attempts, attempts);
        }
        Fate::Learnt
    }

    fn state(&self) -> Value {
        kept::keep(self.material(), &self.pool)
    }

    fn restore(&mut self, state: &Value) -> Result<(), RestoreError> {
        let pool: Pool = kept::kept(state, &self.material())?;
        let problems = self.starts.len();
        if [pool.given.len(), pool.estimates.len()] != [problems; 2] {
            let reason = format!("`estimates` are of {} problems, expected {problems}", pool.estimates.len());
            return Err(RestoreError { reason });
        }
        self.pool = pool;
        Ok(())
    }

    fn metrics(&self) -> BTreeMap<String, f64> {
        let rates: Vec<Option<f64>> = self.pool.estimates.iter().map(|estimate| estimate.ratio()).collect();
        let count = |of: &dyn Fn(f64) -> bool| rates.iter().filter(|rate| rate.is_some_and(of)).count() as f64;
        let DifficultyPool { low, high, .. } = self.settings;
        named([
            ("problems_below", count(&|rate| rate < low)),
            ("problems_medium", count(&|rate| (low..=high).contains(&rate))),
            ("problems_above", count(&|rate| rate > high)),
            ("problems_untried", rates.iter().filter(|rate| rate.is_none()).count() as f64),
            ("starts_explored", self.pool.explored as f64),
        ])
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use toehold_rollout::Start;

    use super::super::simulation::{Played, check_resume, run, shown};
    use super::super::tests::plain_starts;
    use super::super::{Curriculum, Material};
    use super::DifficultyPool;

    const OURS: DifficultyPool = DifficultyPool { low: 0.25, high: 0.75, explore: 0.2, keep: 0.5 };

    /// Of twenty problems six never succeed, six always do, and eight are medium.
    fn chance(start: &Start) -> f64 {
        match start.prompt[0] {
            0..6 => 0.0,
            6..12 => 1.0,
            _ => 0.5,
        }
    }

    fn build(settings: &DifficultyPool, problems: u32) -> Box<dyn Curriculum> {
        settings.build(Material { plain: plain_starts(problems), ..Material::default() }, 3).unwrap()
    }

    fn number(one: &Played) -> u32 {
        one.selection.start.prompt[0]
    }

    #[test]
    fn it_tries_all_and_stays_with_the_medium_ones() {
        let mut curriculum = build(&OURS, 20);
        let steps = run(curriculum.as_mut(), 0..6, 10, |start, _| chance(start));
        let lines: Vec<String> = steps.iter().map(|step| shown(step)).collect();
        expect![[r#"
            p10:0=16 p5:0=0 p2:0=0 p9:0=16 p6:0=16 p18:0=10 p8:0=16 p7:0=16 p19:0=10 p14:0=7
            p18:0=5 p19:0=14 p14:0=8 p1:0=0 p12:0=10 p15:0=8 p13:0=9 p16:0=7 p3:0=0 p11:0=16
            p18:0=11 p14:0=10 p12:0=11 p15:0=8 p0:0=0 p13:0=10 p16:0=6 p17:0=10 p4:0=0 p10:0=16
            p18:0=9 p14:0=10 p12:0=8 p15:0=10 p5:0=0 p13:0=8 p16:0=9 p17:0=6 p2:0=0 p9:0=16
            p18:0=10 p14:0=10 p12:0=6 p15:0=5 p6:0=16 p13:0=6 p16:0=9 p17:0=10 p8:0=16 p7:0=16
            p18:0=8 p14:0=6 p12:0=6 p15:0=5 p19:0=5 p13:0=11 p16:0=9 p17:0=9 p1:0=0 p3:0=0"#]]
        .assert_eq(&lines.join("\n"));
        let why: Vec<String> = steps[5].iter().map(|one| one.selection.why.clone()).collect();
        expect!["medium, success 0.60; medium, success 0.61; medium, success 0.47; medium, success 0.43; explored, success 0.79; medium, success 0.45; medium, success 0.53; medium, success 0.55; explored, success 0.00; explored, success 0.00"].assert_eq(&why.join("; "));
    }

    /// Of 1,000 groups: those of medium problems, those that were mixed, and the most and the fewest that
    /// a medium problem and another one had.
    #[track_caller]
    fn check(settings: &DifficultyPool, expected: Expect) {
        let mut curriculum = build(settings, 20);
        let steps = run(curriculum.as_mut(), 0..100, 10, |start, _| chance(start));
        let played: Vec<&Played> = steps.iter().flatten().collect();
        let of = |problem: u32| played.iter().filter(|one| number(one) == problem).count();
        let range = |from: u32, to: u32| {
            let counts: Vec<usize> = (from..to).map(of).collect();
            format!("{:?}-{:?}", counts.iter().min().unwrap(), counts.iter().max().unwrap())
        };
        let medium: usize = (12..20).map(of).sum();
        let mixed = played.iter().filter(|one| one.outcome.is_mixed()).count();
        expected.assert_eq(&format!("{medium} {mixed} {} {}", range(12, 20), range(0, 12)));
    }

    #[test]
    fn most_rollouts_go_to_medium_problems() {
        check(&OURS, expect!["791 791 97-100 17-18"]);
        check(&DifficultyPool { explore: 0.5, ..OURS }, expect!["501 501 62-64 41-42"]);
        check(&DifficultyPool { explore: 1.0, ..OURS }, expect!["9 9 1-2 82-83"]);
        // Without exploring, the others get what eight medium problems leave of ten starts.
        check(&DifficultyPool { explore: 0.0, keep: 0.0, ..OURS }, expect!["749 749 88-98 20-21"]);
        // No band: all problems in turn.
        check(&DifficultyPool { low: 0.0, high: 1.0, ..OURS }, expect!["398 398 48-51 48-52"]);
    }

    /// Problems that begin to be solved at step 30: after how many steps all six are in the pool.
    #[test]
    fn what_becomes_medium_is_found() {
        let chance = |start: &Start, step: u64| match start.prompt[0] {
            0..6 if step >= 30 => 0.5,
            _ => chance(start),
        };
        let mut curriculum = build(&OURS, 20);
        run(curriculum.as_mut(), 0..30, 10, chance);
        assert_eq!(curriculum.metrics()["curriculum/problems_below"], 6.0);
        let mut at = 30;
        while curriculum.metrics()["curriculum/problems_below"] > 0.0 {
            run(curriculum.as_mut(), at..at + 1, 10, chance);
            at += 1;
        }
        expect!["10"].assert_eq(&(at - 30).to_string());
    }

    #[test]
    fn fewer_problems_than_starts_come_up_again() {
        let mut curriculum = build(&OURS, 3);
        assert_eq!(curriculum.next(7).len(), 7);
        assert!(OURS.build(Material::default(), 0).is_err());
    }

    #[test]
    fn a_state_goes_on_exactly() {
        check_resume(|| build(&OURS, 20), build(&OURS, 19), 14, 7, |start, _| chance(start));
    }
}
