//! Who says whether a completion is right.

use std::collections::HashMap;

use toehold_verifier::{Grader, Outcome, Question, Tally, Verdict};

use crate::{Completion, Problem, ProblemId, Start, StartId, TokenId, TokenizerFile};

/// Says whether a completion solves its start's problem.
pub trait Judge {
    /// The verdict on prefix and completion together; depends on nothing else.
    fn judge(&self, start: &Start, completion: &Completion) -> Verdict;

    /// The verdicts on several completions, in their order; side by side where that is faster.
    fn judge_all(&self, asked: &[(&Start, &Completion)]) -> Vec<Verdict> {
        asked.iter().map(|(start, completion)| self.judge(start, completion)).collect()
    }

    /// How many completions are worth waiting for, to be judged together; 1 where verdicts take no time. No
    /// trace depends on it.
    fn together(&self) -> usize {
        1
    }

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

    /// Whether verdicts can still be had; asked after some were given.
    ///
    /// # Errors
    /// Too many had to be [`Outcome::Infra`]: going on would spend sampling on nothing.
    fn healthy(&self) -> Result<(), JudgeError> {
        Ok(())
    }
}

/// Decodes prefix and completion and asks the problem's verifier.
pub struct TextJudge<'a> {
    problems: HashMap<&'a str, &'a Problem>,
    tokenizer: &'a TokenizerFile,
    grader: Option<&'a Grader>,
    infra_share: f64,
    runs: bool,
}

impl<'a> TextJudge<'a> {
    /// A judge of these problems, whose starts are in this tokenizer's ids. It runs nothing: of a verifier
    /// that does, every verdict is `Infra`.
    pub fn new(problems: &'a [Problem], tokenizer: &'a TokenizerFile) -> TextJudge<'a> {
        let runs = problems.iter().any(|problem| problem.verifier.runs());
        let problems = problems.iter().map(|problem| (problem.id.as_str(), problem)).collect();
        TextJudge { problems, tokenizer, grader: None, infra_share: 1.0, runs }
    }

    /// The same judge, with what verifiers need that run something. It is [`healthy`](Judge::healthy) while
    /// at most `infra_share` of the grader's verdicts, of 20 at least, had to be `Infra`.
    #[must_use]
    pub fn with_grader(self, grader: &'a Grader, infra_share: f64) -> TextJudge<'a> {
        TextJudge { grader: Some(grader), infra_share, ..self }
    }

    fn text(&self, start: &Start, completion: &Completion) -> String {
        let tokens: Vec<TokenId> = start.prefix.iter().chain(&completion.tokens).copied().collect();
        self.tokenizer.decode(&tokens)
    }
}

impl Judge for TextJudge<'_> {
    /// A problem that is not among the judge's is `Unreadable`; [`check`](Judge::check) finds it before.
    fn judge(&self, start: &Start, completion: &Completion) -> Verdict {
        let Some(problem) = self.problems.get(start.problem.as_str()) else {
            return Verdict::without_answer(Outcome::Unreadable);
        };
        let text = self.text(start, completion);
        match self.grader {
            Some(grader) => grader.verify(problem.verifier, &problem.answer, &text),
            None => problem.verifier.verify(&problem.answer, &text),
        }
    }

    fn judge_all(&self, asked: &[(&Start, &Completion)]) -> Vec<Verdict> {
        let problems = || asked.iter().map(|(start, _)| self.problems.get(start.problem.as_str()).copied());
        let (Some(grader), true) = (self.grader, problems().all(|problem| problem.is_some())) else {
            return asked.iter().map(|(start, completion)| self.judge(start, completion)).collect();
        };
        let texts: Vec<String> = asked.iter().map(|(start, completion)| self.text(start, completion)).collect();
        let questions: Vec<Question<'_>> = problems()
            .flatten()
            .zip(&texts)
            .map(|(problem, text)| Question { verifier: problem.verifier, reference: &problem.answer, text })
            .collect();
        grader.verify_batch(&questions)
    }

    fn together(&self) -> usize {
        // A few for each thread, so that a slow one keeps no other waiting for long.
        self.grader.filter(|_| self.runs).map_or(1, |grader| 4 * grader.threads())
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

    fn healthy(&self) -> Result<(), JudgeError> {
        let tally = self.grader.map(Grader::tally).unwrap_or_default();
        if !tally.exceeds(self.infra_share) {
            return Ok(());
        }
        let Tally { asked, failed, reason } = tally;
        Err(JudgeError::Infra { failed, asked, share: self.infra_share, reason })
    }
}

/// Why a start cannot be judged, or nothing can any more.
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
    /// The verifier itself fails too often.
    #[error(
        "the verifier failed on {failed} of {asked} completions, more than the share of {share} that is put up with; the last time: {reason}"
    )]
    Infra {
        /// Verdicts that could not be given.
        failed: u64,
        /// Verdicts that were asked for.
        asked: u64,
        /// The share of failures that is put up with.
        share: f64,
        /// Why the last one failed.
        reason: String,
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
