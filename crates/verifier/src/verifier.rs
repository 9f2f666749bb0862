//! The rules by name, and what they return.
//!
//! A problem's reference answer is checked once, before a run, by [`Verifier::check_reference`];
//! then [`Verifier::verify`] is total: an unreadable reference makes every verdict `Unreadable`
//! rather than a panic or a success.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::math::{Finding, Form, Gold, Input, Options};
use crate::number::Rational;
use crate::{answer, chain, countdown, math};

/// The version of all rules, stored beside each verdict. It grows when any text's verdict changes.
pub const VERSION: &str = "1";

/// A rule that compares a text with a reference answer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verifier {
    /// The last `\boxed{…}`, else what follows the last word "answer" on its line: equal as exact
    /// numbers if both are numbers, else as text after normalisation.
    #[default]
    Answer,
    /// The whole text is the answer: equal to the reference but for white space.
    Exact,
    /// The answer is found as by `answer` and holds exactly one number, maybe among words and units;
    /// it is compared exactly. The reference is a number.
    Number,
    /// `answer A 3 B 0 C 2`: every part equals the reference's value (`3 0 2`), in order.
    Chain,
    /// `answer EXPRESSION`: it has the reference's value and uses its numbers (`24 from 3 5 8 8`),
    /// each at most once.
    Countdown,
    /// The answer is found by box, tag, phrase or place and compared as mathematics; see
    /// [`crate::math`]. For evaluation.
    Math,
    /// As `math`, but only a `\boxed{…}` states an answer. For training: a number that is merely
    /// mentioned earns nothing.
    MathBoxed,
}

impl Verifier {
    /// Every rule, in the order of documentation.
    pub const ALL: [Verifier; 7] = [
        Verifier::Answer,
        Verifier::Exact,
        Verifier::Number,
        Verifier::Chain,
        Verifier::Countdown,
        Verifier::Math,
        Verifier::MathBoxed,
    ];

    /// The name in problem files.
    pub fn as_str(self) -> &'static str {
        match self {
            Verifier::Answer => "answer",
            Verifier::Exact => "exact",
            Verifier::Number => "number",
            Verifier::Chain => "chain",
            Verifier::Countdown => "countdown",
            Verifier::Math => "math",
            Verifier::MathBoxed => "math_boxed",
        }
    }

    /// Whether this rule can compare anything with this reference.
    ///
    /// # Errors
    /// The reference is empty, or not in the form that the rule reads.
    pub fn check_reference(self, reference: &str) -> Result<(), ReferenceError> {
        let reference = reference.trim();
        if reference.is_empty() {
            return Err(ReferenceError::Empty);
        }
        let unreadable =
            |reason: String| ReferenceError::Unreadable { verifier: self, reference: shorten(reference), reason };
        match self {
            Verifier::Answer | Verifier::Exact => Ok(()),
            Verifier::Number => match Rational::read(reference) {
                Some(_) => Ok(()),
                None => Err(unreadable("it is not a number of at most 36 digits".to_owned())),
            },
            Verifier::Chain => chain::read_reference(reference).map(drop).map_err(unreadable),
            Verifier::Countdown => countdown::read_reference(reference).map(drop).map_err(unreadable),
            Verifier::Math | Verifier::MathBoxed => {
                let options = Options::default();
                Gold::read(reference, Form::Bare, &options).map(drop).map_err(|error| unreadable(error.to_string()))
            }
        }
    }

    /// Compares the answer that `text` states (prefix and completion, decoded) with the reference.
    ///
    /// A reference that [`Verifier::check_reference`] refuses gives `Unreadable`.
    pub fn verify(self, reference: &str, text: &str) -> Verdict {
        // Reading a gold is most of the work, and these rules do it themselves.
        let reads_itself = matches!(self, Verifier::Math | Verifier::MathBoxed);
        if !reads_itself && self.check_reference(reference).is_err() {
            return Verdict { outcome: Outcome::Unreadable, extracted: None };
        }
        let reference = reference.trim();
        match self {
            Verifier::Answer => answer::verify(reference, text),
            Verifier::Exact => answer::verify_exact(reference, text),
            Verifier::Number => answer::verify_number(reference, text),
            Verifier::Chain => chain::verify(reference, text),
            Verifier::Countdown => countdown::verify(reference, text),
            Verifier::Math => mathematics(reference, text, false),
            Verifier::MathBoxed => mathematics(reference, text, true),
        }
    }
}

/// The rules of `Verifier::Math` and `Verifier::MathBoxed`.
fn mathematics(reference: &str, text: &str, strict_boxed: bool) -> Verdict {
    let options = Options { strict_boxed, ..Options::default() };
    let Ok(gold) = Gold::read(reference, Form::Bare, &options) else {
        return Verdict { outcome: Outcome::Unreadable, extracted: None };
    };
    let found = math::compare(&gold, text, Form::Text, &options);
    let outcome = match (found.finding, &found.extracted) {
        (Finding::Equal, _) => Outcome::Correct,
        (Finding::NotEqual, _) => Outcome::Wrong,
        (Finding::Unparsed(Input::Prediction), None) => Outcome::NoAnswer,
        (Finding::Unparsed(_) | Finding::Budget, _) => Outcome::Unreadable,
    };
    Verdict { outcome, extracted: found.extracted }
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Verifier {
    type Err = UnknownVerifier;

    fn from_str(name: &str) -> Result<Verifier, UnknownVerifier> {
        Verifier::ALL
            .into_iter()
            .find(|verifier| verifier.as_str() == name)
            .ok_or_else(|| UnknownVerifier { name: shorten(name) })
    }
}

/// What a verifier found.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Verdict {
    /// Its judgement.
    pub outcome: Outcome,
    /// The answer as the text states it, trimmed; none where none was found.
    pub extracted: Option<String>,
}

/// A verifier's judgement of one text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The answer equals the reference.
    Correct,
    /// The answer was read and differs.
    Wrong,
    /// The text states no answer.
    NoAnswer,
    /// The text states an answer that the rule cannot read, or the reference cannot be read.
    Unreadable,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Outcome; 4] = [Outcome::Correct, Outcome::Wrong, Outcome::NoAnswer, Outcome::Unreadable];

    /// The word that is stored and printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Correct => "correct",
            Outcome::Wrong => "wrong",
            Outcome::NoAnswer => "no_answer",
            Outcome::Unreadable => "unreadable",
        }
    }

    /// Whether a reward of 1 is due; every other outcome earns 0.
    pub fn is_correct(self) -> bool {
        self == Outcome::Correct
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The byte offset in `text` where its answer begins to show, or none where no answer shows.
///
/// A prefix cut at or after it would give the answer away. It is early rather than late: the first
/// `\boxed`, `</think>`, `####` or phrase such as "the answer is", whichever comes first. For
/// [`Verifier::Exact`] the whole text is the answer and no place separates it, so there is none.
pub fn answer_begins(verifier: Verifier, text: &str) -> Option<usize> {
    match verifier {
        Verifier::Answer | Verifier::Number => answer::begins(text),
        Verifier::Math | Verifier::MathBoxed => {
            [answer::begins(text), math::answer_begins(text)].into_iter().flatten().min()
        }
        Verifier::Exact => None,
        Verifier::Chain | Verifier::Countdown => answer::after_first_word(text).map(|(begins, _)| begins),
    }
}

/// A reference answer that its verifier cannot compare anything with.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReferenceError {
    /// Nothing but white space.
    #[error("the reference answer is empty")]
    Empty,
    /// Not in the form that the rule reads.
    #[error("the `{verifier}` verifier cannot read the reference answer `{reference}`: {reason}")]
    Unreadable {
        /// The rule.
        verifier: Verifier,
        /// The reference, shortened.
        reference: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// A name that no verifier has.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("unknown verifier `{name}`, expected one of answer, exact, number, chain, countdown, math, math_boxed")]
pub struct UnknownVerifier {
    /// The name, shortened.
    pub name: String,
}

/// At most 60 characters, so that a hostile file cannot flood a message.
fn shorten(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
