//! What a verifier says of a text.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a verifier found.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Verdict {
    /// Its judgement.
    pub outcome: Outcome,
    /// The answer as the text states it, trimmed; none where none was found. Of a program how its tests
    /// went, and of [`Outcome::Infra`] what failed.
    pub extracted: Option<String>,
}

/// A verifier's judgement of one text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The answer equals the reference; a program passed every test.
    Correct,
    /// The answer was read and differs; a program ended well with another output or value.
    Wrong,
    /// The text states no answer.
    NoAnswer,
    /// The text states an answer that the rule cannot read, or the reference cannot be read.
    Unreadable,
    /// The steps or the numbers that a comparison may take were used up: nothing was shown.
    Budget,
    /// A program ran out of wall time or processor time.
    Timeout,
    /// A program ran out of memory.
    Memory,
    /// A program ended with an error.
    Runtime,
    /// A program could not be compiled.
    Compile,
    /// A program put out more than it may.
    OutputLimit,
    /// The verifier itself failed: nothing is known of the text, and no reward is due, neither 0 nor 1.
    Infra,
}

impl Verdict {
    /// An outcome without an answer.
    pub fn without_answer(outcome: Outcome) -> Verdict {
        Verdict { outcome, extracted: None }
    }

    /// That the verifier failed, and why.
    pub fn infra(reason: impl Into<String>) -> Verdict {
        Verdict { outcome: Outcome::Infra, extracted: Some(reason.into()) }
    }
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Outcome; 11] = [
        Outcome::Correct,
        Outcome::Wrong,
        Outcome::NoAnswer,
        Outcome::Unreadable,
        Outcome::Budget,
        Outcome::Timeout,
        Outcome::Memory,
        Outcome::Runtime,
        Outcome::Compile,
        Outcome::OutputLimit,
        Outcome::Infra,
    ];

    /// The word that is stored and printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Correct => "correct",
            Outcome::Wrong => "wrong",
            Outcome::NoAnswer => "no_answer",
            Outcome::Unreadable => "unreadable",
            Outcome::Budget => "budget",
            Outcome::Timeout => "timeout",
            Outcome::Memory => "memory",
            Outcome::Runtime => "runtime",
            Outcome::Compile => "compile",
            Outcome::OutputLimit => "output_limit",
            Outcome::Infra => "infra",
        }
    }

    /// Whether a reward of 1 is due; every other judged outcome earns 0.
    pub fn is_correct(self) -> bool {
        self == Outcome::Correct
    }

    /// Whether it says anything about the text. What is not judged is no attempt, and is not learnt from.
    pub fn is_judged(self) -> bool {
        self != Outcome::Infra
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
