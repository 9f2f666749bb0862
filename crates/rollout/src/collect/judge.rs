//! Who says whether a completion is right.

use std::collections::HashMap;

use toehold_verifier::{Outcome, Verdict};

use crate::{Completion, Problem, ProblemId, Start, StartId, TokenId, TokenizerFile};

/// Says whether a completion solves its start's problem.
pub trait Judge {
    /// The verdict on prefix and completion together; depends on nothing else.
    fn judge(&self, start: &Start, completion: &Completion) -> Verdict;

    /// Version of the rules, stored beside each verdict.
    fn version(&self) -> &str {
        toehold_verifier::VERSION
    }

    /// Whether this start can be judged; asked of each before anything is sampled.
    ///
    /// # Errors
    /// Says why not.
    fn check(&self, start: &Start) -> Result<(), JudgeError> {
        let _ = start;
        Ok(())
    }
}

/// Decodes prefix and completion and asks the problem's verifier.
pub struct TextJudge<'a> {
    problems: HashMap<&'a str, &'a Problem>,
    tokenizer: &'a TokenizerFile,
}

impl<'a> TextJudge<'a> {
    /// A judge of these problems, whose starts are in this tokenizer's ids.
    pub fn new(problems: &'a [Problem], tokenizer: &'a TokenizerFile) -> TextJudge<'a> {
        let problems = problems.iter().map(|problem| (problem.id.as_str(), problem)).collect();
        TextJudge { problems, tokenizer }
    }
}

impl Judge for TextJudge<'_> {
    /// A problem that is not among the judge's is `Unreadable`; [`check`](Judge::check) finds it before.
    fn judge(&self, start: &Start, completion: &Completion) -> Verdict {
        let Some(problem) = self.problems.get(start.problem.as_str()) else {
            return Verdict { outcome: Outcome::Unreadable, extracted: None };
        };
        let tokens: Vec<TokenId> = start.prefix.iter().chain(&completion.tokens).copied().collect();
        problem.verifier.verify(&problem.answer, &self.tokenizer.decode(&tokens))
    }

    fn check(&self, start: &Start) -> Result<(), JudgeError> {
        match self.problems.contains_key(start.problem.as_str()) {
            true => Ok(()),
            false => Err(JudgeError::UnknownProblem {
                start: start.id.clone(),
                problem: start.problem.clone(),
                known: self.problems.len(),
            }),
        }
    }
}

/// Why a start cannot be judged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JudgeError {
    /// Its problem is not among the judge's.
    #[error("start {start} belongs to problem {problem}, which is not among the {known} problems that can be judged")]
    UnknownProblem {
        /// Which start.
        start: StartId,
        /// Its problem.
        problem: ProblemId,
        /// How many problems the judge knows.
        known: usize,
    },
    /// An implementation's own reason.
    #[error("start {start}: {reason}")]
    Other {
        /// Which start.
        start: StartId,
        /// The reason.
        reason: String,
    },
}
