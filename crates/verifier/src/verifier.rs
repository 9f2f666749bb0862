//! The rules by name, and what they return.
//!
//! A problem's reference answer is checked once, before a run, by [`Verifier::check_reference`];
//! then [`Verifier::verify`] is total: an unreadable reference makes every verdict `Unreadable`
//! rather than a panic or a success. A rule's setting stands in its reference (`9.81 +- 1%`,
//! `24 from 3 5 8 8`, a list of tests), so a name and two texts say all there is to say; how programs
//! are run is not the problem's affair and comes from whoever runs them.

use std::cell::RefCell;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::math::{Finding, Form, Gold, Input, Options};
use crate::number::Rational;
use crate::pattern::{Pattern, PatternError, Span};
use crate::program::{Tests, code_begins};
use crate::{Outcome, Verdict, answer, chain, countdown, math, tolerance};

/// The version of all rules, stored beside each verdict. It grows when any text's verdict changes.
pub const VERSION: &str = "2";

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
    /// The answer is found as by `answer` and is one number, maybe with a unit, near the reference:
    /// `9.81 +- 0.01` or `9.81 ± 1%`.
    Tolerance,
    /// The answer is found as by `answer`, and all of it matches the reference, a regular expression.
    Pattern,
    /// The whole text matches the reference, a regular expression.
    PatternText,
    /// The text holds a program that passes the tests which the reference lists; see
    /// [`crate::program::Tests`]. Only a [`Grader`](crate::Grader) can run it.
    Program,
    /// A program of the user's own compares text and reference; see [`crate::command`]. Only a
    /// [`Grader`](crate::Grader) can ask it.
    Command,
}

impl Verifier {
    /// Every rule, in the order of documentation.
    pub const ALL: [Verifier; 12] = [
        Verifier::Answer,
        Verifier::Exact,
        Verifier::Number,
        Verifier::Chain,
        Verifier::Countdown,
        Verifier::Math,
        Verifier::MathBoxed,
        Verifier::Tolerance,
        Verifier::Pattern,
        Verifier::PatternText,
        Verifier::Program,
        Verifier::Command,
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
            Verifier::Tolerance => "tolerance",
            Verifier::Pattern => "pattern",
            Verifier::PatternText => "pattern_text",
            Verifier::Program => "program",
            Verifier::Command => "command",
        }
    }

    /// All names, with commas, for messages.
    pub fn names() -> String {
        Verifier::ALL.map(Verifier::as_str).join(", ")
    }

    /// Whether it runs something, which takes what only a [`Grader`](crate::Grader) has.
    pub fn runs(self) -> bool {
        matches!(self, Verifier::Program | Verifier::Command)
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
            Verifier::Answer | Verifier::Exact | Verifier::Command => Ok(()),
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
            Verifier::Tolerance => tolerance::read_reference(reference).map(drop).map_err(unreadable),
            Verifier::Pattern | Verifier::PatternText => {
                with_pattern(reference, |pattern| pattern.map(drop).map_err(|error| unreadable(error.reason())))
            }
            Verifier::Program => Tests::read(reference).map(drop).map_err(unreadable),
        }
    }

    /// Compares the answer that `text` states (prefix and completion, decoded) with the reference.
    ///
    /// A reference that [`Verifier::check_reference`] refuses gives `Unreadable`; a rule that
    /// [runs](Verifier::runs) something gives `Infra`, since nothing is run here.
    pub fn verify(self, reference: &str, text: &str) -> Verdict {
        // Reading the reference is most of the work, and these rules do it themselves.
        let reads_itself =
            matches!(self, Verifier::Math | Verifier::MathBoxed | Verifier::Pattern | Verifier::PatternText);
        if reference.trim().is_empty() || !reads_itself && self.check_reference(reference).is_err() {
            return Verdict::without_answer(Outcome::Unreadable);
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
            Verifier::Tolerance => match tolerance::read_reference(reference) {
                Ok((number, tolerance)) => answer::verify_with(text, |stated| tolerance.verify_stated(number, stated)),
                Err(_) => Verdict::without_answer(Outcome::Unreadable),
            },
            Verifier::Pattern => {
                matched(reference, |pattern| answer::verify_with(text, |stated| pattern.verify(stated)))
            }
            Verifier::PatternText => matched(reference, |pattern| pattern.verify(text)),
            Verifier::Program | Verifier::Command => Verdict::without_answer(Outcome::Infra),
        }
    }
}

/// The rules of `Verifier::Math` and `Verifier::MathBoxed`.
fn mathematics(reference: &str, text: &str, strict_boxed: bool) -> Verdict {
    let options = Options { strict_boxed, ..Options::default() };
    let Ok(gold) = Gold::read(reference, Form::Bare, &options) else {
        return Verdict::without_answer(Outcome::Unreadable);
    };
    let found = math::compare(&gold, text, Form::Text, &options);
    let outcome = match (found.finding, &found.extracted) {
        (Finding::Equal, _) => Outcome::Correct,
        (Finding::NotEqual, _) => Outcome::Wrong,
        (Finding::Unparsed(Input::Prediction), None) => Outcome::NoAnswer,
        (Finding::Unparsed(_), _) => Outcome::Unreadable,
        (Finding::Budget, _) => Outcome::Budget,
    };
    Verdict { outcome, extracted: found.extracted }
}

/// The rules of `Verifier::Pattern` and `Verifier::PatternText`.
fn matched(reference: &str, verify: impl FnOnce(&Pattern) -> Verdict) -> Verdict {
    with_pattern(reference, |pattern| match pattern {
        Ok(pattern) => verify(pattern),
        Err(_) => Verdict::without_answer(Outcome::Unreadable),
    })
}

/// Compiles the pattern `reference`, unless this thread compiled it just before: the completions of one
/// problem are judged one after the other, and compiling takes longer than matching.
fn with_pattern<T>(reference: &str, then: impl FnOnce(Result<&Pattern, &PatternError>) -> T) -> T {
    thread_local! {
        static LAST: RefCell<Option<(String, Result<Pattern, PatternError>)>> = const { RefCell::new(None) };
    }
    let kept = LAST.take().filter(|(pattern, _)| pattern == reference);
    let (pattern, compiled) = kept.unwrap_or_else(|| (reference.to_owned(), Pattern::new(reference, Span::Whole)));
    let result = then(compiled.as_ref());
    LAST.set(Some((pattern, compiled)));
    result
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

/// The byte offset in `text` where its answer begins to show, or none where no answer shows.
///
/// A prefix cut at or after it would give the answer away. It is early rather than late: the first
/// `\boxed`, `</think>`, `####` or phrase such as "the answer is", whichever comes first; of a program the
/// first code fence. For [`Verifier::Exact`] and [`Verifier::PatternText`] the whole text is the answer and
/// no place separates it, so there is none. What a command reads is not known: it is treated as `math`.
pub fn answer_begins(verifier: Verifier, text: &str) -> Option<usize> {
    match verifier {
        Verifier::Answer | Verifier::Number | Verifier::Tolerance | Verifier::Pattern => answer::begins(text),
        Verifier::Math | Verifier::MathBoxed | Verifier::Command => {
            [answer::begins(text), math::answer_begins(text)].into_iter().flatten().min()
        }
        Verifier::Exact | Verifier::PatternText => None,
        Verifier::Program => code_begins(text),
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
#[error("unknown verifier `{name}`, expected one of {}", Verifier::names())]
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
