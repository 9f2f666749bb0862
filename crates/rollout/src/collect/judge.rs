//! Who says whether a completion is right.

use std::collections::HashMap;

use toehold_verifier::{Grader, Outcome, Question, Tally, Verdict};

use crate::{Completion, Problem, ProblemId, Prompts, Start, StartId, TokenId, TokenizerFile};

/// Says whether a completion solves its start's problem.
pub trait Judge {
    /// The verdict on prefix and completion together; depends on nothing else.
    fn judge(&self, start: &Start, completion: &Completion) -> Verdict;

    /// The verdicts on several completions, in their order; side by side where that is faster.
    fn judge_all(&self, asked: &[(&Start, &Completion)]) -> Vec<Verdict> {
        asked.iter().map(|(start, completion)| self.judge(start, completion)).collect()
    }

    /// The text of prefix and completion, where verdicts are made of it.
    fn text_of(&self, start: &Start, completion: &Completion) -> Option<String> {
        let _ = (start, completion);
        None
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

    /// Prefix and completion, where a thought begins and ends written out though these are special tokens. A
    /// thought that the prompt opened and that has no end is marked as one: nothing in it is an answer.
    fn text(&self, start: &Start, completion: &Completion) -> String {
        let tokens: Vec<TokenId> = start.prefix.iter().chain(&completion.tokens).copied().collect();
        let text = self.tokenizer.decode_open(&tokens);
        let is_thought = !text.contains("</think>") && Prompts::leaves_thought_open(&start.prompt, self.tokenizer);
        if is_thought { format!("<think>{text}") } else { text }
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

    fn text_of(&self, start: &Start, completion: &Completion) -> Option<String> {
        Some(self.text(start, completion))
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

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use toehold_verifier::Verdict;

    use super::{Judge as _, TextJudge};
    use crate::store::tests::problem;
    use crate::{Completion, Origin, Problem, ProblemId, Start, StopReason, TokenizerFile};

    #[track_caller]
    fn check_text_judge(id: &str, prefix: &str, completion: &str, expected: Expect) {
        let folder = tempfile::tempdir().unwrap();
        let words = ["1", "2", "3", "plus", "is", "answer"];
        std::fs::write(folder.path().join("tokenizer.json"), crate::synthetic::tokenizer_json(&words)).unwrap();
        let tokenizer = TokenizerFile::open(folder.path()).unwrap();
        let problems = [Problem { verifier: toehold_verifier::Verifier::Answer, ..problem("p") }];
        let judge = TextJudge::new(&problems, &tokenizer);
        let prefix = tokenizer.encode(prefix).unwrap();
        let origin = Origin { trace: Some(1), source_tokens: 9 };
        let start = Start::prefixed(ProblemId::from(id.to_owned()), vec![1], prefix, origin);
        let mut tokens = tokenizer.encode(completion).unwrap();
        tokens.push(tokenizer.end_tokens()[0]);
        let completion = Completion { behavior: vec![0.0; tokens.len()], tokens, stop: StopReason::EndOfText };
        expected.assert_eq(&match judge.check(&start) {
            Ok(()) => format!("{:?}", judge.judge(&start, &completion)),
            Err(error) => error.to_string(),
        });
    }

    #[test]
    fn text_is_prefix_and_completion() {
        check_text_judge(
            "p",
            "1 plus 1 is",
            "2 answer 2",
            expect![[r#"Verdict { outcome: Correct, extracted: Some("2") }"#]],
        );
        check_text_judge(
            "p",
            "1 plus 1 is 3 answer",
            "2",
            expect![[r#"Verdict { outcome: Correct, extracted: Some("2") }"#]],
        );
        check_text_judge(
            "p",
            "1 plus 1 is 2 answer",
            "3",
            expect![[r#"Verdict { outcome: Wrong, extracted: Some("3") }"#]],
        );
        check_text_judge("p", "1 plus 1 is", "3", expect!["Verdict { outcome: NoAnswer, extracted: None }"]);
        check_text_judge(
            "z",
            "",
            "answer 2",
            expect![
                "start 7e17f952b04575ca belongs to problem z, which is not among the 1 problems that can be judged"
            ],
        );
    }

    /// The verdict on a completion of this prompt, by a tokenizer whose ends of a thought are special tokens or not.
    #[track_caller]
    fn check_thought(special: bool, prompt: &str, completion: &str, expected: Expect) {
        let folder = tempfile::tempdir().unwrap();
        let words = ["1", "2", "3", "answer", "<think>", "</think>"];
        let mut file: serde_json::Value = serde_json::from_str(&crate::synthetic::tokenizer_json(&words)).unwrap();
        let ids = ["<think>", "</think>"].map(|word| (word, file["model"]["vocab"][word].as_u64().unwrap()));
        for (content, id) in ids {
            let added = serde_json::json!({ "id": id, "content": content, "special": special, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false });
            file["added_tokens"].as_array_mut().unwrap().push(added);
        }
        std::fs::write(folder.path().join("tokenizer.json"), file.to_string()).unwrap();
        let tokenizer = TokenizerFile::open(folder.path()).unwrap();
        let problems = [Problem { verifier: toehold_verifier::Verifier::Answer, ..problem("p") }];
        let start = Start::plain(ProblemId::from("p"), tokenizer.encode(prompt).unwrap());
        let tokens = tokenizer.encode(completion).unwrap();
        let completion = Completion { behavior: vec![0.0; tokens.len()], tokens, stop: StopReason::Length };
        let Verdict { outcome, extracted } = TextJudge::new(&problems, &tokenizer).judge(&start, &completion);
        expected.assert_eq(&format!("{outcome} {extracted:?}"));
    }

    #[test]
    fn what_a_thought_without_an_end_says_was_taken_for_an_answer() {
        for special in [false, true] {
            check_thought(special, "1 <think>", "1 answer 2", expect!["no_answer None"]);
            check_thought(special, "1 <think>", "answer 3 </think> answer 2", expect![[r#"correct Some("2")"#]]);
            check_thought(special, "1 <think>", "answer 2 </think> answer 3", expect![[r#"wrong Some("3")"#]]);
            check_thought(special, "1 <think>", "answer 2 </think> 3", expect!["no_answer None"]);
            check_thought(special, "1", "<think> answer 2", expect!["no_answer None"]);
            check_thought(special, "1", "answer 2", expect![[r#"correct Some("2")"#]]);
            // Closed by the template: there is no thought.
            check_thought(special, "<think> </think>", "answer 2", expect![[r#"correct Some("2")"#]]);
        }
    }
}
