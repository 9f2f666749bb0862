//! Problems that the project makes itself, with worked solutions by a solver that errs.
//!
//! A family makes distinct problems from a seed, writes worked solutions of them (for a small base
//! policy to be trained on), and names the words it uses, of which [`tokenizer_json`] makes an
//! ordinary Hugging Face tokenizer. `perturb` changes the numbers of problems that were made. Text is words between single spaces throughout, so that every
//! word is one token.
//!
//! Everything follows from the seed through ChaCha8 and the arithmetic in `draw`: the same settings
//! and seed make the same text in every release, and more problems of a seed begin with the fewer.

mod chain;
mod countdown;
mod draw;
mod perturb;
mod words;

use std::collections::HashSet;

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

pub use chain::{Chain, Methods};
pub use countdown::Countdown;
pub use draw::generator;
pub use perturb::Perturbation;
pub use words::{END_OF_TEXT, TOKENIZER_CONFIG_JSON, UNKNOWN, tokenizer_json};

use crate::{Problem, ProblemId};

/// A family of problems with its settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "family", rename_all = "snake_case")]
pub enum Family {
    /// A chain of sums modulo a small number, with a choice of method at each step.
    Chain(Chain),
    /// Reach a target from given numbers.
    Countdown(Countdown),
}

impl Family {
    /// The family's name, with which the ids of its problems begin.
    pub fn name(&self) -> &'static str {
        match self {
            Family::Chain(_) => "chain",
            Family::Countdown(_) => "countdown",
        }
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// A setting is outside its range.
    pub fn check(&self) -> Result<(), SyntheticError> {
        match self {
            Family::Chain(chain) => chain.check(),
            Family::Countdown(countdown) => countdown.check(),
        }
    }

    /// `count` problems with distinct statements, and ids `chain-<seed>-00001` and on. Each has a
    /// right worked solution.
    ///
    /// Sets that must not overlap are made by one call and split.
    ///
    /// # Errors
    /// A setting is outside its range, or there are too few distinct problems.
    pub fn problems(&self, seed: u64, count: usize) -> Result<Vec<Problem>, SyntheticError> {
        self.problems_except(seed, count, &[])
    }

    /// As [`Family::problems`], without the statements of `except` (held-out problems, for example).
    ///
    /// # Errors
    /// As [`Family::problems`].
    pub fn problems_except(&self, seed: u64, count: usize, except: &[Problem]) -> Result<Vec<Problem>, SyntheticError> {
        self.check()?;
        let mut rng = generator(seed);
        let mut seen: HashSet<String> = except.iter().map(|problem| problem.problem.clone()).collect();
        let mut problems: Vec<Problem> = Vec::new();
        let mut repeats = 0;
        while problems.len() < count {
            let id = ProblemId::from(format!("{}-{seed}-{:05}", self.name(), problems.len() + 1));
            let drawn = match self {
                Family::Chain(chain) => Some(chain.problem(id, &mut rng)),
                Family::Countdown(countdown) => countdown.problem(id, &mut rng),
            };
            match drawn.filter(|problem| seen.insert(problem.problem.clone())) {
                Some(problem) => {
                    problems.push(problem);
                    repeats = 0;
                }
                None if repeats == MAX_REPEATS => {
                    return Err(SyntheticError::Exhausted { found: problems.len(), count });
                }
                None => repeats += 1,
            }
        }
        Ok(problems)
    }

    /// One worked solution by the noisy solver; it ends before the end-of-text token. It is right or
    /// wrong as it happens: the problem's verifier tells.
    ///
    /// # Errors
    /// A setting is outside its range, or the problem is not of this family.
    pub fn solution(&self, problem: &Problem, rng: &mut ChaCha8Rng) -> Result<String, SyntheticError> {
        self.check()?;
        let written = match self {
            Family::Chain(chain) => chain.solution(&problem.problem, rng),
            Family::Countdown(countdown) => countdown.solution(&problem.problem, rng),
        };
        written.map_err(|reason| SyntheticError::NotOfFamily { id: problem.id.clone(), family: self.name(), reason })
    }

    /// What a solution of this problem turns on, without the answer; none where the family knows nothing of the
    /// kind. A chain's is the method to begin with, where there are two; countdown has none, since the first
    /// number of a way to the target is a part of the answer.
    ///
    /// It is made on demand and not kept with the problem, so that problems of a seed are what they were.
    ///
    /// # Errors
    /// A setting is outside its range, or the problem is not of this family.
    pub fn cue(&self, problem: &Problem) -> Result<Option<String>, SyntheticError> {
        self.check()?;
        let found = match self {
            Family::Chain(chain) => chain.cue(&problem.problem),
            Family::Countdown(_) => Ok(None),
        };
        found.map_err(|reason| SyntheticError::NotOfFamily { id: problem.id.clone(), family: self.name(), reason })
    }

    /// Every word of its problems and solutions, fewer than 256. It depends on the settings of size
    /// alone; for words that serve several sizes take the largest.
    pub fn vocabulary(&self) -> Vec<String> {
        match self {
            Family::Chain(chain) => chain.vocabulary(),
            Family::Countdown(countdown) => countdown.vocabulary(),
        }
    }
}

/// Why no problem or solution was made.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SyntheticError {
    /// A setting outside its range.
    #[error("{setting} is {found}, expected {expected}")]
    Setting {
        /// The setting's name.
        setting: &'static str,
        /// Its value.
        found: String,
        /// Its range.
        expected: &'static str,
    },
    /// The settings allow too few distinct problems, or nearly.
    #[error(
        "found {found} distinct problems, expected {count}\nhint: more steps, more numbers or a larger range make more problems"
    )]
    Exhausted {
        /// How many were found.
        found: usize,
        /// How many were asked for.
        count: usize,
    },
    /// A problem that this family cannot have made.
    #[error("problem `{id}` is not of the family {family}: {reason}")]
    NotOfFamily {
        /// The problem.
        id: ProblemId,
        /// The family.
        family: &'static str,
        /// What does not fit.
        reason: String,
    },
}

/// So many draws in a row that give nothing new end the search: fewer than one problem in a few
/// thousand is then left.
const MAX_REPEATS: usize = 10_000;

/// Refuses a setting outside its range.
fn require(
    holds: bool,
    setting: &'static str,
    found: impl std::fmt::Debug,
    expected: &'static str,
) -> Result<(), SyntheticError> {
    if holds { Ok(()) } else { Err(SyntheticError::Setting { setting, found: format!("{found:?}"), expected }) }
}

#[cfg(test)]
mod tests;
