//! Text in, verdict out: decides whether a completion's answer equals the reference answer.
//!
//! A verdict depends on the two texts and on [`VERSION`] alone: nothing is evaluated by an
//! interpreter, no clock is read, nothing is random. Work is linear in the text's length and its
//! recursion is bounded, whatever a policy wrote; no input panics.
//!
//! Two modules are of another kind, since they start processes and wait for them: [`program`] runs a
//! program against tests in a sandbox, and [`command`] asks a program of the user's own.
//!
//! The modules, in reading order: [`Verifier`] names a rule and a [`Verdict`] is what it says; a
//! [`Grader`] gives verdicts by every rule, since it has what those need that run something; `answer` finds where a text states its
//! answer; `number` is exact arithmetic; `chain` and `countdown` read the project's own problems;
//! [`pattern`] and [`tolerance`] are verifiers with a setting.
//! [`math`] reads and compares mathematics.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test fails by panicking"))]

mod answer;
mod chain;
pub mod command;
mod countdown;
mod grader;
pub mod math;
mod number;
pub mod pattern;
pub mod program;
pub mod tolerance;
mod verdict;
mod verifier;

pub use answer::after_thought;
pub use grader::{Code, Grader, NotReady, Question, Resources, Runtime, Tally};
pub use verdict::{Outcome, Verdict};
pub use verifier::{ReferenceError, UnknownVerifier, VERSION, Verifier, answer_begins};
