//! Mathematical answers: whether a prediction equals a gold, exactly and within a bound of work.
//!
//! A [`Gold`] is read once; [`compare`] finds the answer in a prediction, reads it as LaTeX or plain
//! syntax, and compares the two by their shapes: numbers exactly, decimals by fixed rules, expressions by
//! a canonical residue and then by their values at fixed points with bounds on every error. Nothing is
//! evaluated by an interpreter; there is no randomness and no clock. A step budget bounds the work, so
//! the same two texts give the same verdict everywhere. The rules are in `docs/verifier.md`.
//!
//! The modules, in reading order: `extract` and `choice` find the answer, `clean` strips it, `token`,
//! `lex`, `names`, `parse`, `suffix`, `atom`, `bracket` and `matrix` make a `tree`, `value` gives it a shape; `evaluate` runs over
//! it in `exact` fractions, residues (`modular`) and intervals (`numeric` over `float` and `big`, which
//! rests on `fixed`); `scalar`, `units`, `region` and `compare` decide.

mod atom;
mod batch;
mod big;
mod bracket;
mod budget;
mod choice;
mod clean;
mod compare;
mod evaluate;
mod exact;
mod extract;
mod fixed;
mod float;
mod lex;
mod matrix;
mod modular;
mod names;
mod numeric;
mod options;
mod parse;
mod region;
mod row;
mod scalar;
mod suffix;
mod token;
mod tree;
mod units;
mod value;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use batch::{Pair, verify_batch};
pub use options::{AnswerType, GoldPrecision, Options, Tolerance};
pub use row::{Row, RowVerdict, verify_row};

use budget::Budget;
use extract::{Found, Search};
use scalar::{Judge, Match};
use token::Commas;
use tree::Tree;
use value::Value;

/// Steps that one comparison may take; a step is about 20 ns of work.
pub const STEP_LIMIT: u64 = Budget::LIMIT;

/// Bytes of an answer that is read at all; one that is longer than `clean::MAX_ANSWER` is a text.
const MAX_STATED: usize = 64 * 1024;

/// How an answer is given.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// The string is the answer.
    #[default]
    Bare,
    /// The answer is somewhere in the text.
    Text,
}

/// One of the two texts of a comparison.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// The reference.
    Gold,
    /// What is judged.
    Prediction,
}

/// What a comparison found.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// The answers are equal.
    Equal,
    /// Both were read, and they are not shown to be equal.
    NotEqual,
    /// One states no answer, or none that can be read.
    Unparsed(Input),
    /// The steps ran out, or the numbers are too large to decide; not shown to be equal.
    Budget,
}

impl Finding {
    /// Whether a reward of 1 is due; every other finding earns 0.
    pub fn is_equal(self) -> bool {
        self == Finding::Equal
    }

    /// The word that is printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Finding::Equal => "equal",
            Finding::NotEqual => "not_equal",
            Finding::Unparsed(Input::Gold) => "unparsed_gold",
            Finding::Unparsed(Input::Prediction) => "unparsed_prediction",
            Finding::Budget => "budget",
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What an answer was read as.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reading {
    /// A number or an expression.
    Expression,
    /// A list without brackets.
    List,
    /// A set in braces.
    Set,
    /// A tuple or an interval.
    Tuple,
    /// Sets joined by ∪, ∩ or ∖, or a named set.
    Region,
    /// A matrix.
    Matrix,
    /// An equation, an inequality or a chain of them.
    Relation,
    /// A number with a base.
    Based,
    /// A ratio.
    Ratio,
    /// A letter of a multiple choice.
    Choice,
    /// Words.
    Text,
}

/// A comparison's result.
#[derive(Clone, PartialEq, Debug)]
pub struct Comparison {
    /// What was found.
    pub finding: Finding,
    /// The answer as the prediction states it, trimmed; none where none was found.
    pub extracted: Option<String>,
    /// What it was read as; none where it was not read.
    pub read_as: Option<Reading>,
    /// Steps taken, of at most [`STEP_LIMIT`].
    pub steps: u64,
}

/// A gold, read.
#[derive(Clone, Debug)]
pub struct Gold {
    stated: String,
    answer: Answer,
    steps: u64,
}

/// A gold that nothing can be compared with.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GoldError {
    /// Nothing but white space, or a text without an answer.
    #[error("the gold states no answer")]
    Empty,
    /// It is neither mathematics that is read here nor words.
    #[error("the gold `{gold}` is neither words nor mathematics that can be read")]
    Unreadable {
        /// The answer, shortened.
        gold: String,
    },
}

/// An answer, read.
#[derive(Clone, Debug)]
struct Answer {
    /// For comparison as a text.
    key: String,
    mathematics: Option<Mathematics>,
    /// `2,74` read with a decimal comma, where it can be.
    decimal: Option<Box<Mathematics>>,
}

/// The mathematics of an answer.
#[derive(Clone, Debug)]
struct Mathematics {
    tree: Tree,
    value: Value,
    /// The solutions, if it is an inequality in one variable.
    solved: Option<region::Solved>,
}

impl Gold {
    /// Reads a gold.
    ///
    /// # Errors
    /// It states no answer, or one that is neither words nor mathematics that can be read.
    pub fn read(text: &str, form: Form, options: &Options) -> Result<Gold, GoldError> {
        let mut budget = Budget::new();
        let stated = match form {
            Form::Bare => text.trim().to_owned(),
            Form::Text => {
                let search = Search { boxed_only: false, list: true, words: None };
                match extract::find(text, search, &mut |candidate| readable(candidate, &mut budget)) {
                    Found::Stated(stated) => stated,
                    Found::Nothing if text.len() <= 200 => text.trim().to_owned(),
                    Found::Nothing => return Err(GoldError::Empty),
                }
            }
        };
        if stated.is_empty() {
            return Err(GoldError::Empty);
        }
        if stated.len() > MAX_STATED {
            return Err(GoldError::Unreadable { gold: shorten(&stated) });
        }
        let mut budget = Budget::new();
        let answer = read_answer(&stated, Commas::Group, &mut budget, options);
        let chosen = options.choices.is_some() || options.answer_type.is_some();
        if answer.mathematics.is_none() && !chosen && clean::words(&clean::clean(&stated)).is_none() {
            return Err(GoldError::Unreadable { gold: shorten(&stated) });
        }
        Ok(Gold { stated, answer, steps: budget.used() })
    }

    /// The answer as the gold states it.
    pub fn stated(&self) -> &str {
        &self.stated
    }

    /// What it was read as.
    pub fn read_as(&self) -> Reading {
        reading(&self.answer)
    }

    /// Steps that reading took.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    fn value(&self) -> Option<&Value> {
        self.answer.mathematics.as_ref().map(|mathematics| &mathematics.value)
    }

    fn is_list(&self) -> bool {
        match self.value() {
            Some(Value::List(_) | Value::Set(_) | Value::Tuple { .. } | Value::Operation(..)) => true,
            Some(Value::Relation { sides, .. }) => sides.iter().any(|side| {
                matches!(side.value, Value::List(_) | Value::Set(_) | Value::Tuple { .. } | Value::Operation(..))
            }),
            _ => false,
        }
    }
}

/// Compares a prediction with a gold.
pub fn compare(gold: &Gold, prediction: &str, form: Form, options: &Options) -> Comparison {
    let mut budget = Budget::new();
    if let Some(choices) = &options.choices {
        return chosen(gold, prediction, form, choices, options.multi_select);
    }
    let stated = match form {
        Form::Bare if prediction.len() > 2 * MAX_STATED => String::new(),
        Form::Bare => prediction.trim().to_owned(),
        Form::Text => {
            let words = gold.answer.mathematics.is_none() || matches!(gold.value(), Some(Value::Text(_)));
            let search = Search {
                boxed_only: options.strict_boxed,
                list: gold.is_list(),
                words: words.then_some(gold.answer.key.as_str()),
            };
            match extract::find(prediction, search, &mut |candidate| readable(candidate, &mut budget)) {
                Found::Stated(stated) => stated,
                Found::Nothing => String::new(),
            }
        }
    };
    // A whole text in place of an answer is looked at no further.
    if stated.is_empty() || stated.len() > MAX_STATED {
        return Comparison {
            finding: Finding::Unparsed(Input::Prediction),
            extracted: None,
            read_as: None,
            steps: budget.used(),
        };
    }
    if options.answer_type == Some(AnswerType::Bool) {
        let finding = match (truth(&gold.stated), truth(&stated)) {
            (Some(left), Some(right)) if left == right => Finding::Equal,
            (Some(_), None) => Finding::Unparsed(Input::Prediction),
            _ => Finding::NotEqual,
        };
        return Comparison { finding, extracted: Some(stated), read_as: Some(Reading::Text), steps: budget.used() };
    }
    let commas = if gold.is_list() { Commas::Separate } else { Commas::Group };
    let mut answer = read_answer(&stated, commas, &mut budget, options);
    let mut found = judge(gold, &answer, options, &mut budget);
    if found == Match::No && commas == Commas::Separate && stated.contains(',') {
        // `1,000 and 2,000` against a list: groups, if that makes the gold's number of items.
        let grouped = read_answer(&stated, Commas::Group, &mut budget, options);
        if count(&grouped) == count(&gold.answer) && count(&grouped) != count(&answer) {
            found = judge(gold, &grouped, options, &mut budget);
            answer = grouped;
        }
    }
    let finding = match found {
        Match::Yes => Finding::Equal,
        _ if budget.is_spent() => Finding::Budget,
        Match::Unknown => Finding::Budget,
        Match::No if answer.mathematics.is_none() && gold.answer.mathematics.is_some() => {
            Finding::Unparsed(Input::Prediction)
        }
        Match::No => Finding::NotEqual,
    };
    let read_as = Some(reading(&answer)).filter(|_| finding != Finding::Unparsed(Input::Prediction));
    Comparison { finding, extracted: Some(stated), read_as, steps: budget.used() }
}

/// The byte offset at which the answer that [`compare`] would find begins to show; none where it finds none.
///
/// It is early rather than late: the first marker of any kind, whether or not the answer follows it.
pub fn answer_begins(text: &str) -> Option<usize> {
    if let Some(marker) = extract::first_marker(text) {
        return Some(marker);
    }
    let mut budget = Budget::new();
    let search = Search { boxed_only: false, list: true, words: Some("") };
    let Found::Stated(stated) = extract::find(text, search, &mut |candidate| readable(candidate, &mut budget)) else {
        return None;
    };
    let part = stated.split(" , ").next().unwrap_or(&stated);
    let bare = part.trim_matches(['-', '%'].as_slice());
    text.find(part).or_else(|| text.rfind(bare)).or(Some(0))
}

fn judge(gold: &Gold, answer: &Answer, options: &Options, budget: &mut Budget) -> Match {
    let mut judge = Judge { options, budget, item: 0 };
    let scalar = |answer: &Answer| {
        matches!(answer.mathematics.as_ref().map(|mathematics| &mathematics.value), Some(Value::Scalar(_)))
    };
    // `2,74` against a single number is a decimal; against anything else it is a list.
    if let Some(decimal) = &answer.decimal
        && scalar(&gold.answer)
    {
        let read = Answer { key: String::new(), mathematics: Some((**decimal).clone()), decimal: None };
        return compare::answers(&mut judge, &gold.answer, &read);
    }
    if let Some(decimal) = &gold.answer.decimal
        && scalar(answer)
    {
        let read = Answer { key: gold.answer.key.clone(), mathematics: Some((**decimal).clone()), decimal: None };
        return compare::answers(&mut judge, &read, answer);
    }
    compare::answers(&mut judge, &gold.answer, answer)
}

fn count(answer: &Answer) -> usize {
    match answer.mathematics.as_ref().map(|mathematics| &mathematics.value) {
        Some(Value::List(items) | Value::Set(items) | Value::Tuple { items, .. }) => items.len(),
        _ => 1,
    }
}

fn chosen(gold: &Gold, prediction: &str, form: Form, choices: &str, several: bool) -> Comparison {
    let steps = u64::try_from(prediction.len() / 16).unwrap_or(u64::MAX).min(STEP_LIMIT);
    let expected =
        choice::letters(&gold.stated, choices, several).or_else(|| choice::find(&gold.stated, choices, several));
    let found = match form {
        Form::Bare => {
            choice::letters(prediction, choices, several).or_else(|| choice::find(prediction, choices, several))
        }
        Form::Text => choice::find(prediction, choices, several),
    };
    let finding = match (&expected, &found) {
        (None, _) => Finding::Unparsed(Input::Gold),
        (_, None) => Finding::Unparsed(Input::Prediction),
        (Some(left), Some(right)) if left == right => Finding::Equal,
        _ => Finding::NotEqual,
    };
    Comparison { finding, read_as: found.as_ref().map(|_| Reading::Choice), extracted: found, steps }
}

fn truth(text: &str) -> Option<bool> {
    match clean::key(text).to_lowercase().as_str() {
        "y" | "yes" | "true" | "t" | "1" | "correct" => Some(true),
        "n" | "no" | "false" | "f" | "0" | "incorrect" => Some(false),
        _ => None,
    }
}

/// Whether a candidate is mathematics rather than prose.
fn readable(candidate: &str, budget: &mut Budget) -> bool {
    let text = clean::clean(candidate);
    if text.is_empty() || text.len() > clean::MAX_ANSWER || names::is_prose(&text) {
        return false;
    }
    let Some(parsed) = parse::parse(&text, Commas::Group, budget) else { return false };
    !matches!(parsed.tree.node(parsed.root), tree::Node::Text(_))
}

fn read_answer(stated: &str, commas: Commas, budget: &mut Budget, options: &Options) -> Answer {
    let text = clean::clean(stated);
    let key = clean::key(&text);
    if text.len() > clean::MAX_ANSWER {
        return Answer { key, mathematics: None, decimal: None };
    }
    let mathematics = read_mathematics(&text, commas, budget, options);
    let decimal =
        decimal_comma(&text).and_then(|text| read_mathematics(&text, Commas::Group, budget, options)).map(Box::new);
    Answer { key, mathematics, decimal }
}

fn read_mathematics(text: &str, commas: Commas, budget: &mut Budget, options: &Options) -> Option<Mathematics> {
    let parse::Parsed { mut tree, root } = parse::parse(text, commas, budget)?;
    let value = value::shape(&tree, root)?;
    exact::fill(&mut tree, budget);
    let mut judge = Judge { options, budget, item: 0 };
    let solved = region::solve_value(&mut tree, &value, &mut judge);
    Some(Mathematics { tree, value, solved })
}

/// `2,74` or `-0,125` with a point: what a number with a decimal comma looks like.
fn decimal_comma(text: &str) -> Option<String> {
    let plain = text.trim_matches(['$', ' ']).trim_end_matches("\\%").trim_end_matches('%');
    let (whole, places) = plain.split_once(',')?;
    let digits = whole.trim_start_matches(['-', '+']);
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !number(digits) || !number(places) || (places.len() == 3 && !digits.starts_with('0')) {
        return None;
    }
    Some(format!("{whole}.{places}"))
}

fn reading(answer: &Answer) -> Reading {
    match answer.mathematics.as_ref().map(|mathematics| &mathematics.value) {
        None | Some(Value::Text(_)) => Reading::Text,
        Some(Value::Scalar(_) | Value::Ellipsis) => Reading::Expression,
        Some(Value::List(_)) => Reading::List,
        Some(Value::Set(_)) => Reading::Set,
        Some(Value::Tuple { .. }) => Reading::Tuple,
        Some(Value::Operation(..) | Value::Reals | Value::NamedSet(_)) => Reading::Region,
        Some(Value::Matrix { .. }) => Reading::Matrix,
        Some(Value::Relation { .. }) => Reading::Relation,
        Some(Value::Based(..)) => Reading::Based,
        Some(Value::Ratio(_)) => Reading::Ratio,
    }
}

/// At most 60 characters, so that a hostile file cannot flood a message.
fn shorten(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
