//! Problems that differ from known ones in their numbers: does a policy compute, or remember?
//!
//! * [`Perturbation::Renumbered`]: the same template with all numbers drawn anew. Who learnt the kind of
//!   problem solves it as often as the original; who remembers answers does not.
//! * [`Perturbation::Changed`]: one quantity is another one. What it changes, the answer follows.
//! * [`Perturbation::Removed`]: one quantity is gone that the answer depends on. Its reference is the
//!   original's answer, which the statement does not give any more: who still states it remembers it,
//!   or guesses well. Here success is the bad sign.
//!
//! Invariants: a problem's perturbation depends on the settings, the seed, the way and the problem (and
//! on the statements to be avoided), not on its place in a set; its statement is none of the given
//! problems' and none of the set's; its id is the original's with the way behind it. A quantity that
//! changes nothing (0 in a sum, a number that no way to the target needs) is never the one removed.
//!
//! Zero cases: a problem in which nothing can be changed or removed gives none, as does one whose
//! variants are all taken after a hundred draws.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::draw::generator;
use super::{Family, SyntheticError};
use crate::{Problem, ProblemId};

/// What is done to a problem's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Perturbation {
    /// All are drawn anew.
    Renumbered,
    /// One is another one.
    Changed,
    /// One is taken out.
    Removed,
}

impl Perturbation {
    /// Every way.
    pub const ALL: [Perturbation; 3] = [Perturbation::Renumbered, Perturbation::Changed, Perturbation::Removed];

    /// The word that is printed, and that ids end in.
    pub fn as_str(self) -> &'static str {
        match self {
            Perturbation::Renumbered => "renumbered",
            Perturbation::Changed => "changed",
            Perturbation::Removed => "removed",
        }
    }
}

/// Draws for one problem before it is given up.
const MAX_TRIES: u32 = 100;

impl Family {
    /// One perturbed problem for each of `problems` that has one, in their order.
    ///
    /// The reference of a removed quantity's problem is the original's answer, and it has no solution.
    ///
    /// # Errors
    /// A setting outside its range, or a problem that is not of this family.
    pub fn perturbed(
        &self,
        problems: &[Problem],
        way: Perturbation,
        seed: u64,
    ) -> Result<Vec<Problem>, SyntheticError> {
        self.check()?;
        let mut taken: HashSet<String> = problems.iter().map(|problem| problem.problem.clone()).collect();
        let mut perturbed = Vec::with_capacity(problems.len());
        for problem in problems {
            let mut rng = generator(seed_of(seed, way, &problem.id));
            let id = ProblemId::from(format!("{}-{}", problem.id, way.as_str()));
            for _ in 0..MAX_TRIES {
                let drawn = match self {
                    Family::Chain(chain) => chain.perturbed(problem, id.clone(), way, &mut rng),
                    Family::Countdown(countdown) => countdown.perturbed(problem, id.clone(), way, &mut rng),
                };
                let drawn = drawn.map_err(|reason| SyntheticError::NotOfFamily {
                    id: problem.id.clone(),
                    family: self.name(),
                    reason,
                })?;
                let Some(drawn) = drawn else { continue };
                if taken.insert(drawn.problem.clone()) {
                    perturbed.push(drawn);
                    break;
                }
            }
        }
        Ok(perturbed)
    }
}

/// A seed that belongs to this problem and way alone.
fn seed_of(seed: u64, way: Perturbation, id: &ProblemId) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.update(way.as_str().as_bytes());
    hasher.update(b"\0");
    hasher.update(id.as_str().as_bytes());
    let mut bytes = [0; 8];
    hasher.finalize_xof().fill(&mut bytes);
    u64::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use expect_test::{Expect, expect};

    use super::super::{Chain, Countdown, Family, SyntheticError};
    use super::Perturbation;
    use crate::ProblemSet;

    #[track_caller]
    fn check(family: &Family, expected: Expect) {
        let problems = family.problems(7, 2).unwrap();
        let mut text = String::new();
        for problem in &problems {
            writeln!(text, "{}: {} | {}", problem.id, problem.problem, problem.answer).unwrap();
        }
        for way in Perturbation::ALL {
            for problem in family.perturbed(&problems, way, 0).unwrap() {
                writeln!(text, "{}: {} | {}", problem.id, problem.problem, problem.answer).unwrap();
            }
        }
        expected.assert_eq(&text);
    }

    #[test]
    fn perturbed_problems_read_like_this() {
        check(
            &Family::Chain(Chain { steps: (2, 4), ..Chain::default() }),
            expect![[r#"
            chain-7-00001: from 1 a1 0 a2 1 b1 1 b2 1 c1 1 c2 0 d1 2 d2 3 | 2 0 1 2
            chain-7-00002: from 2 a1 1 a2 0 b1 3 b2 2 c1 1 c2 0 | 3 0 1
            chain-7-00001-renumbered: from 3 a1 0 a2 1 b1 3 b2 3 c1 1 c2 2 d1 0 d2 1 | 0 2 1 2
            chain-7-00002-renumbered: from 2 a1 2 a2 3 b1 3 b2 1 c1 0 c2 2 | 3 3 1
            chain-7-00001-changed: from 1 a1 0 a2 1 b1 1 b2 1 c1 1 c2 0 d1 3 d2 3 | 2 0 1 3
            chain-7-00002-changed: from 2 a1 1 a2 0 b1 3 b2 2 c1 0 c2 0 | 3 0 0
            chain-7-00001-removed: from 1 a1 0 a2 1 b1 1 b2 1 c1 1 c2 0 d2 3 | 2 0 1 2
            chain-7-00002-removed: from 2 a2 0 b1 3 b2 2 c1 1 c2 0 | 3 0 1
        "#]],
        );
        check(
            &Family::Countdown(Countdown::default()),
            expect![[r#"
            countdown-7-00001: reach 11 from 5 1 3 4 | 11 from 5 1 3 4
            countdown-7-00002: reach 66 from 9 6 6 4 | 66 from 9 6 6 4
            countdown-7-00001-renumbered: reach 7 from 8 2 5 8 | 7 from 8 2 5 8
            countdown-7-00002-renumbered: reach 19 from 9 2 6 3 | 19 from 9 2 6 3
            countdown-7-00001-changed: reach 11 from 7 1 3 4 | 11 from 7 1 3 4
            countdown-7-00002-changed: reach 66 from 9 6 8 4 | 66 from 9 6 8 4
            countdown-7-00001-removed: reach 11 from 5 1 4 | 11 from 5 1 3 4
            countdown-7-00002-removed: reach 66 from 6 6 4 | 66 from 9 6 6 4
        "#]],
        );
    }

    #[test]
    fn references_are_what_the_statements_say() {
        for family in [Family::Chain(Chain::default()), Family::Countdown(Countdown::default())] {
            let problems = family.problems(3, 200).unwrap();
            for way in Perturbation::ALL {
                let perturbed = family.perturbed(&problems, way, 1).unwrap();
                assert!(perturbed.len() > 100, "{} {way:?}: {}", family.name(), perturbed.len());
                let set = ProblemSet::from_problems(problems.iter().chain(&perturbed).cloned().collect()).unwrap();
                let mut statements: Vec<&str> = set.problems.iter().map(|problem| problem.problem.as_str()).collect();
                statements.sort_unstable();
                statements.dedup();
                assert_eq!(statements.len(), set.problems.len(), "no statement twice");
                for problem in &perturbed {
                    let original = problem.id.as_str().strip_suffix(&format!("-{}", way.as_str())).unwrap();
                    let original = problems.iter().find(|one| one.id.as_str() == original).unwrap();
                    match &problem.solution {
                        Some(solution) => {
                            let right =
                                |reference: &str| problem.verifier.verify(reference, solution).outcome.is_correct();
                            assert!(right(&problem.answer), "{problem:?}");
                            assert_ne!(way, Perturbation::Removed);
                        }
                        None => {
                            assert_eq!(way, Perturbation::Removed);
                            assert_eq!(problem.answer, original.answer);
                            assert!(problem.problem.len() < original.problem.len());
                        }
                    }
                    if way == Perturbation::Changed {
                        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
                        let (one, other) = (words(&problem.problem), words(&original.problem));
                        assert_eq!(one.iter().zip(&other).filter(|(a, b)| a != b).count(), 1, "{problem:?}");
                        assert_eq!(one.len(), other.len());
                        assert_ne!(problem.answer, original.answer);
                    }
                }
            }
        }
    }

    #[test]
    fn they_follow_from_the_seed_and_the_problem() {
        let family = Family::Chain(Chain::default());
        let problems = family.problems(3, 40).unwrap();
        for way in Perturbation::ALL {
            let all = family.perturbed(&problems, way, 1).unwrap();
            assert_eq!(family.perturbed(&problems, way, 1).unwrap(), all);
            assert_ne!(family.perturbed(&problems, way, 2).unwrap(), all);
            let last = family.perturbed(&problems[39..], way, 1).unwrap();
            assert_eq!(last.last(), all.last());
            assert_eq!(family.perturbed(&[], way, 1), Ok(vec![]));
        }
    }

    #[test]
    fn what_cannot_be_perturbed_is_left_out_and_what_is_foreign_refused() {
        // Four statements in all, and all of them are taken.
        let family = Family::Chain(Chain { modulus: 2, operands: 1, steps: (1, 1), ..Chain::default() });
        let problems = family.problems(0, 4).unwrap();
        assert_eq!(family.perturbed(&problems, Perturbation::Renumbered, 0), Ok(vec![]));
        assert_eq!(family.perturbed(&problems, Perturbation::Changed, 0), Ok(vec![]));
        // `from 0 a1 0` has nothing that could be missed.
        let removed = family.perturbed(&problems, Perturbation::Removed, 0).unwrap();
        let originals: Vec<&str> = problems.iter().map(|problem| problem.problem.as_str()).collect();
        let left: Vec<&str> = removed.iter().map(|problem| problem.problem.as_str()).collect();
        expect!["from 1 a1 0, from 0 a1 0, from 0 a1 1, from 1 a1 1 → from 0, from 1"].assert_eq(&format!(
            "{} → {}",
            originals.join(", "),
            left.join(", ")
        ));
        let foreign = Family::Countdown(Countdown::default()).perturbed(&problems, Perturbation::Changed, 0);
        assert!(matches!(foreign, Err(SyntheticError::NotOfFamily { .. })), "{foreign:?}");
    }
}
