//! JSON lines in, the same lines with their verdicts out.

use serde::Deserialize as _;
use serde_json::{Map, Value, json};
use toehold_verifier::math::{Row, RowVerdict};

/// What a line asks.
///
/// # Errors
/// A column that is missing, or of another type.
pub(super) fn read(columns: &Map<String, Value>) -> serde_json::Result<Row> {
    Row::deserialize(columns)
}

/// The line with `equal`, `outcome` and `extracted`; an `equal` that it came with is kept as `expected`.
pub(super) fn answered(mut columns: Map<String, Value>, verdict: &RowVerdict) -> Map<String, Value> {
    if let Some(expected) = columns.remove("equal") {
        columns.insert("expected".to_owned(), expected);
    }
    columns.insert("equal".to_owned(), json!(verdict.equal));
    columns.insert("outcome".to_owned(), json!(verdict.outcome));
    columns.insert("extracted".to_owned(), json!(verdict.extracted));
    columns
}
