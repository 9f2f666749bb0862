//! One comparison as a row of JSON lines: the columns of the case table.

use serde::{Deserialize, Serialize};

use super::{Finding, Form, Gold, Input, Options, Reading, compare};

/// A comparison to make. Further columns are allowed and ignored.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Row {
    /// The reference answer.
    pub gold: String,
    /// What is judged.
    pub prediction: String,
    /// What kind of answer it is; for counting alone, no verdict depends on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// How the gold is given.
    #[serde(default)]
    pub gold_form: Form,
    /// How the prediction is given.
    #[serde(default)]
    pub prediction_form: Form,
    /// Settings of this row; none for the defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<Options>,
    /// The verdict to reach, where it is known; for counting alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub equal: Option<bool>,
}

/// What became of a row.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct RowVerdict {
    /// Whether the answers are equal.
    pub equal: bool,
    /// The finding's word: `equal`, `not_equal`, `unparsed_gold`, `unparsed_prediction`, `budget`.
    pub outcome: String,
    /// The answer as the prediction states it.
    pub extracted: Option<String>,
    /// What it was read as.
    pub read_as: Option<Reading>,
    /// Steps taken, those of the gold included.
    pub steps: u64,
}

/// Compares one row; `options` stand in where the row has none.
pub fn verify_row(row: &Row, options: &Options) -> RowVerdict {
    let options = row.options.as_ref().unwrap_or(options);
    let Ok(gold) = Gold::read(&row.gold, row.gold_form, options) else {
        // An unreadable gold equals nothing, not even its own text.
        return RowVerdict {
            equal: false,
            outcome: Finding::Unparsed(Input::Gold).as_str().to_owned(),
            extracted: None,
            read_as: None,
            steps: 0,
        };
    };
    let found = compare(&gold, &row.prediction, row.prediction_form, options);
    RowVerdict {
        equal: found.finding.is_equal(),
        outcome: found.finding.as_str().to_owned(),
        extracted: found.extracted,
        read_as: found.read_as,
        steps: found.steps + gold.steps(),
    }
}
