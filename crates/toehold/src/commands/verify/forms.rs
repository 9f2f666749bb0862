//! What other people's trainers send to a reward server, and what they expect back.

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use toehold_verifier::Verifier;
use toehold_verifier::math::{Form as Given, Row, RowVerdict, verify_row};

use super::rows::{self, Asked, Verifiers};

/// One way to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Our own: rows in, rows out.
    Rows,
    /// OpenRLHF's `--reward.remote_url`: parallel lists.
    OpenRlhf,
    /// The arguments of verl's `compute_score`, one call or a list of them.
    Verl,
    /// Rows that name their rule, as an exported job asks.
    Judge,
}

/// OpenRLHF's request: `query` is prompt and completion together.
#[derive(Deserialize)]
struct OpenRlhf {
    query: Vec<String>,
    #[serde(default)]
    prompts: Option<Vec<String>>,
    labels: Vec<Value>,
}

/// The arguments of `compute_score`; `data_source` and `extra_info` are not read.
#[derive(Deserialize)]
struct Call {
    solution_str: String,
    ground_truth: Value,
}

/// One call or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum Calls {
    Many(Vec<Call>),
    One(Call),
}

/// Our own request.
#[derive(Deserialize)]
struct Rows {
    rows: Vec<Map<String, Value>>,
}

/// A request of an exported job.
#[derive(Deserialize)]
struct NamedRows {
    rows: Vec<Named>,
}

/// What is judged, by the rule of its name.
#[derive(Deserialize)]
struct Named {
    verifier: String,
    answer: String,
    text: String,
}

impl Named {
    /// The verdict; where nobody could judge there is no reward either.
    fn judged(&self, verifiers: &Verifiers) -> Result<Value> {
        let verifier: Verifier = self.verifier.parse()?;
        let verdict = verifiers.grader.verify(verifier, &self.answer, &self.text);
        let outcome = verdict.outcome;
        let reward = outcome.is_judged().then(|| f64::from(u8::from(outcome.is_correct())));
        Ok(json!({ "outcome": verdict.outcome, "extracted": verdict.extracted, "reward": reward }))
    }
}

impl Form {
    /// The form that is spoken at `path`.
    pub(super) fn of_path(path: &str) -> Option<Form> {
        [Form::Rows, Form::OpenRlhf, Form::Verl, Form::Judge].into_iter().find(|form| form.path() == path)
    }

    fn path(self) -> &'static str {
        match self {
            Form::Rows => "/verify",
            Form::OpenRlhf => "/openrlhf",
            Form::Verl => "/verl",
            Form::Judge => "/judge",
        }
    }

    /// The answer to one body; `count` hears how many verdicts it took.
    ///
    /// # Errors
    /// A body that is not of this form.
    pub(super) fn answer(self, body: &[u8], verifiers: &Verifiers, count: impl Fn(usize)) -> Result<Value> {
        let what = || format!("the body is not what {} takes", self.path());
        match self {
            Form::Rows => {
                let Rows { rows } = serde_json::from_slice(body).with_context(what)?;
                let read = |columns: &Map<String, Value>| rows::read(columns).with_context(what);
                let asked = rows.iter().map(read).collect::<Result<Vec<Asked>>>()?;
                count(asked.len());
                // Other requests have the other cores.
                let verdicts: Vec<_> = asked.iter().map(|asked| verifiers.answer(asked)).collect();
                let answered =
                    rows.into_iter().zip(&verdicts).map(|(columns, verdict)| rows::answered(columns, verdict));
                Ok(json!({ "rows": answered.collect::<Vec<_>>() }))
            }
            Form::OpenRlhf => {
                let request: OpenRlhf = serde_json::from_slice(body).with_context(what)?;
                let rewards: Vec<f64> = verdicts(&request.rows()?, verifiers, count).iter().map(reward).collect();
                Ok(json!({ "rewards": rewards, "scores": rewards, "extra_logs": {} }))
            }
            Form::Verl => match serde_json::from_slice(body).with_context(what)? {
                Calls::Many(calls) => {
                    let rows: Vec<Row> = calls.into_iter().map(Call::row).collect();
                    Ok(verdicts(&rows, verifiers, count).iter().map(score).collect())
                }
                Calls::One(call) => {
                    count(1);
                    Ok(score(&verify_row(&call.row(), &verifiers.options)))
                }
            },
            Form::Judge => {
                let NamedRows { rows } = serde_json::from_slice(body).with_context(what)?;
                count(rows.len());
                let verdicts = rows.iter().map(|row| row.judged(verifiers)).collect::<Result<Vec<Value>>>()?;
                Ok(json!({ "rows": verdicts }))
            }
        }
    }
}

impl OpenRlhf {
    fn rows(self) -> Result<Vec<Row>> {
        let queries = self.query.len();
        let same = |other: &str, others: usize| {
            ensure!(others == queries, "`query` has {queries} entries and `{other}` has {others}");
            Ok(())
        };
        same("labels", self.labels.len())?;
        let prompts = self.prompts.unwrap_or_else(|| vec![String::new(); queries]);
        same("prompts", prompts.len())?;
        let row = |((query, prompt), label): ((String, String), Value)| {
            // An answer format that the prompt shows as an example is not the policy's answer.
            let completion = query.strip_prefix(prompt.as_str()).unwrap_or(&query).to_owned();
            asked(text_of(label), completion)
        };
        Ok(self.query.into_iter().zip(prompts).zip(self.labels).map(row).collect())
    }
}

impl Call {
    fn row(self) -> Row {
        asked(text_of(self.ground_truth), self.solution_str)
    }
}

/// Data sets give answers as numbers too.
fn text_of(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

/// A reference as it is, and a completion in which the answer has to be found.
fn asked(gold: String, prediction: String) -> Row {
    let (gold_form, prediction_form) = (Given::Bare, Given::Text);
    Row { gold, prediction, kind: None, gold_form, prediction_form, options: None, equal: None }
}

fn score(verdict: &RowVerdict) -> Value {
    json!({ "score": reward(verdict), "acc": verdict.equal, "outcome": verdict.outcome })
}

fn reward(verdict: &RowVerdict) -> f64 {
    f64::from(u8::from(verdict.equal))
}

fn verdicts(rows: &[Row], verifiers: &Verifiers, count: impl Fn(usize)) -> Vec<RowVerdict> {
    count(rows.len());
    rows.iter().map(|row| verify_row(row, &verifiers.options)).collect()
}
