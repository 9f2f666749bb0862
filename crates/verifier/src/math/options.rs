//! What a verdict may depend on besides the two texts.

use serde::{Deserialize, Serialize};

/// Settings of a comparison. The default is meant for evaluation; for training set `strict_boxed`.
///
/// Serialised, it is the `options` object of a row; an unknown key is an error.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Only a `\boxed{…}` states an answer; tags, phrases and trailing numbers do not.
    #[serde(skip_serializing_if = "is_false")]
    pub strict_boxed: bool,
    /// A quantity without the gold's unit is wrong.
    #[serde(skip_serializing_if = "is_false")]
    pub strict_units: bool,
    /// Where a decimal takes part, both sides are rounded to so many places.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub float_rounding: Option<u32>,
    /// The prediction is rounded to the places that the gold is written with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gold_precision: Option<GoldPrecision>,
    /// Numbers may differ by so much: one bound, or one for each item of a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub abs_tol: Option<Tolerance>,
    /// Numbers may differ by so much of the gold's size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rel_tol: Option<Tolerance>,
    /// The letters of a multiple choice, such as `ABCD`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub choices: Option<String>,
    /// Several letters may be right; their order says nothing.
    #[serde(skip_serializing_if = "is_false")]
    pub multi_select: bool,
    /// What kind of answer is expected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer_type: Option<AnswerType>,
    /// A predicted inequality may stand for a gold set. Off, since echoing the question could pass.
    #[serde(skip_serializing_if = "is_false")]
    pub allow_set_relation_comp: bool,
    /// Whether names of variables count; they do by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strict: Option<bool>,
    /// Read for compatibility and ignored: which notations may be extracted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub targets: Option<Vec<String>>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_false(value: &bool) -> bool {
    !*value
}

/// Where the number of decimals comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GoldPrecision {
    /// From the gold as it is written.
    Infer,
}

/// A kind of answer that is not mathematics.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnswerType {
    /// `yes`, `true`, `y`, and their opposites.
    Bool,
}

/// One bound, or one for each item.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Tolerance {
    /// For every number.
    Same(f64),
    /// For each item in order; the last one stands for any further item.
    Each(Vec<f64>),
}

impl Tolerance {
    /// The bound of an item; a bound that is no number, or negative, is 0.
    pub(crate) fn of(&self, item: usize) -> f64 {
        let bound = match self {
            Tolerance::Same(bound) => *bound,
            Tolerance::Each(bounds) => bounds.get(item).or(bounds.last()).copied().unwrap_or(0.0),
        };
        if bound.is_finite() && bound > 0.0 { bound } else { 0.0 }
    }
}
