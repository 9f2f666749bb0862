//! JSON lines in, the same lines with their verdicts out.

use anyhow::{Result, anyhow};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use toehold_verifier::math::{Options, Row, RowVerdict, verify_row};
use toehold_verifier::{Grader, Question, Verifier};

/// What a line asks.
#[derive(Debug)]
pub(super) enum Asked {
    /// Are the two equal as mathematics?
    Mathematics(Row),
    /// What does the verifier of this name say?
    Named(Named),
}

/// A line with the column `verifier`.
#[derive(Debug, Deserialize)]
pub(super) struct Named {
    /// A name of problem files.
    verifier: Verifier,
    /// The reference, as a problem file's `answer` has it.
    gold: String,
    /// Prefix and completion together.
    prediction: String,
    #[serde(default)]
    kind: Option<String>,
    #[serde(default)]
    equal: Option<bool>,
}

/// What a line is answered.
#[derive(Clone, Debug)]
pub(super) struct Answered {
    /// Whether it is right; none where the verifier itself failed.
    pub(super) equal: Option<bool>,
    /// The finding's or the outcome's word.
    pub(super) outcome: String,
    extracted: Option<String>,
}

/// Everything that gives verdicts.
#[derive(Debug)]
pub(super) struct Verifiers {
    /// Of mathematics, for lines without options.
    pub(super) options: Options,
    /// Of every other kind.
    pub(super) grader: Grader,
}

/// What a line asks.
///
/// # Errors
/// A column that is missing, or of another type; an unknown verifier.
pub(super) fn read(columns: &Map<String, Value>) -> Result<Asked> {
    match columns.get("verifier").filter(|name| !name.is_null()) {
        None => Ok(Asked::Mathematics(Row::deserialize(columns)?)),
        Some(Value::String(name)) => {
            let _: Verifier = name.parse()?;
            Ok(Asked::Named(Named::deserialize(columns)?))
        }
        Some(other) => Err(anyhow!("`verifier` is {other}, expected one of {}", Verifier::names())),
    }
}

/// The line with `equal`, `outcome` and `extracted`; an `equal` that it came with is kept as `expected`.
pub(super) fn answered(mut columns: Map<String, Value>, verdict: &Answered) -> Map<String, Value> {
    if let Some(expected) = columns.remove("equal") {
        columns.insert("expected".to_owned(), expected);
    }
    columns.insert("equal".to_owned(), json!(verdict.equal));
    columns.insert("outcome".to_owned(), json!(verdict.outcome));
    columns.insert("extracted".to_owned(), json!(verdict.extracted));
    columns
}

impl Asked {
    /// The kind that it is counted under, and the truth, where the line has them.
    pub(super) fn known(&self) -> (Option<&str>, Option<bool>) {
        match self {
            Asked::Mathematics(row) => (row.kind.as_deref(), row.equal),
            Asked::Named(row) => (row.kind.as_deref(), row.equal),
        }
    }

    /// Bytes of the texts.
    pub(super) fn size(&self) -> usize {
        match self {
            Asked::Mathematics(row) => row.gold.len() + row.prediction.len(),
            Asked::Named(row) => row.gold.len() + row.prediction.len(),
        }
    }

    /// The verifier, where it runs something.
    pub(super) fn runs(&self) -> Option<Verifier> {
        match self {
            Asked::Named(row) => Some(row.verifier).filter(|verifier| verifier.runs()),
            Asked::Mathematics(_) => None,
        }
    }
}

impl Verifiers {
    /// One answer, on this thread.
    pub(super) fn answer(&self, asked: &Asked) -> Answered {
        match asked {
            Asked::Mathematics(row) => verify_row(row, &self.options).into(),
            Asked::Named(row) => self.grader.verify(row.verifier, &row.gold, &row.prediction).into(),
        }
    }

    /// All answers in their order, on all cores.
    pub(super) fn answers(&self, asked: &[&Asked]) -> Vec<Answered> {
        let rows: Vec<&Row> = asked
            .iter()
            .filter_map(|asked| if let Asked::Mathematics(row) = asked { Some(row) } else { None })
            .collect();
        let questions: Vec<Question<'_>> = asked
            .iter()
            .filter_map(|asked| match asked {
                Asked::Named(row) => {
                    Some(Question { verifier: row.verifier, reference: &row.gold, text: &row.prediction })
                }
                Asked::Mathematics(_) => None,
            })
            .collect();
        let mut of_rows = self.on_all_cores(&rows).into_iter();
        let mut named = self.grader.verify_batch(&questions).into_iter();
        let next = |asked: &&Asked| match asked {
            Asked::Mathematics(_) => of_rows.next().map(Answered::from),
            Asked::Named(_) => named.next().map(Answered::from),
        };
        asked.iter().filter_map(next).collect()
    }

    fn on_all_cores(&self, rows: &[&Row]) -> Vec<RowVerdict> {
        let share = rows.len().div_ceil(self.grader.threads()).max(1);
        std::thread::scope(|scope| {
            let judge = |part: &[&Row]| part.iter().map(|row| verify_row(row, &self.options)).collect();
            let parts: Vec<_> = rows.chunks(share).map(|part| scope.spawn(move || -> Vec<_> { judge(part) })).collect();
            // The verifier panics on no input, which is fuzzed.
            parts.into_iter().flat_map(|part| part.join().expect("a verdict is no panic")).collect()
        })
    }
}

impl From<RowVerdict> for Answered {
    fn from(verdict: RowVerdict) -> Answered {
        Answered { equal: Some(verdict.equal), outcome: verdict.outcome, extracted: verdict.extracted }
    }
}

impl From<toehold_verifier::Verdict> for Answered {
    fn from(verdict: toehold_verifier::Verdict) -> Answered {
        let outcome = verdict.outcome;
        let equal = outcome.is_judged().then(|| outcome.is_correct());
        Answered { equal, outcome: outcome.as_str().to_owned(), extracted: verdict.extracted }
    }
}
