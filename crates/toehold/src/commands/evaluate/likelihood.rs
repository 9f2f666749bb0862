//! How likely stored traces are under the base policy and under each checkpoint that the run has kept.

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use toehold_rollout::Store;
use toehold_rollout::store::StoredTrace;
use toehold_training::curriculum::Source;
use toehold_training::evaluation::drift::score_sources;
use toehold_training::evaluation::likelihood::{Likelihood, likelihood};
use toehold_training::trainer::checkpoint;

use super::measure::Workplace;
use super::robustness::{Stored, stored_traces};
use super::{count_plan, restored};
use crate::collector;
use crate::prepare::Prepared;
use crate::terminal;

/// The likelihood of one kind of traces after so many steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Point {
    /// Optimizer steps done; 0 for the base policy.
    pub(super) step: u64,
    /// `wrong`, `right`, or the row of the one trace.
    pub(super) traces: String,
    /// What was found.
    pub(super) likelihood: Likelihood,
}

pub(super) fn measure(place: &mut Workplace<'_>, rows: &[i64]) -> Result<Vec<Point>> {
    let prepared = place.prepared;
    let kinds = if rows.is_empty() { kinds(prepared)? } else { given(prepared, rows)? };
    let seed = count_plan(prepared, 0).seed;
    let mut found = Vec::new();
    let checkpoints = checkpoint::list(&prepared.folder.checkpoints())?;
    for (step, path) in std::iter::once((0, None)).chain(checkpoints.into_iter().map(|(step, path)| (step, Some(path))))
    {
        place.tick(&format!("step {step}"))?;
        let mut policy = prepared.base.fork();
        if let Some(path) = path {
            policy = restored(policy, &path)?;
        }
        for (name, sources) in &kinds {
            let scores = score_sources(&mut policy, sources)?;
            let scores: Vec<&[f32]> = scores.iter().map(Vec::as_slice).collect();
            let point = |likelihood| Point { step, traces: name.clone(), likelihood };
            found.extend(likelihood(&scores, seed).map(point));
        }
    }
    Ok(found)
}

/// One trace of each outcome per problem, by outcome.
fn kinds(prepared: &Prepared) -> Result<Vec<(String, Vec<Source>)>> {
    let sources = |stored: Vec<Stored>| stored.into_iter().map(|one| one.source).collect();
    let kinds = stored_traces(prepared)?.into_iter();
    Ok(kinds.map(|(name, stored)| (name.to_owned(), sources(stored))).collect())
}

/// The traces of these rows, each by itself.
fn given(prepared: &Prepared, rows: &[i64]) -> Result<Vec<(String, Vec<Source>)>> {
    let store = prepared.folder.store()?;
    let given = |&row: &i64| {
        let Some(stored) = store.trace(row)? else {
            bail!(
                "{} has no trace in row {row}\nhint: `toehold traces {}` lists them",
                store.path().display(),
                store.path().display()
            );
        };
        let stored = own(prepared, &store, stored)?;
        let tokens: Vec<u32> = stored.trace.prefix.iter().chain(&stored.trace.completion.tokens).copied().collect();
        let source = Source::uncut(stored.problem, stored.trace.prompt, tokens, Some(row));
        Ok((format!("row {row}"), vec![source]))
    };
    rows.iter().map(given).collect()
}

/// The trace as the run's own policy reads it.
fn own(prepared: &Prepared, store: &Store, stored: StoredTrace) -> Result<StoredTrace> {
    let row = stored.row;
    if prepared.collector.is_none() || stored.trace.sampled_by != collector::version(prepared) {
        return Ok(stored);
    }
    match collector::in_own_tokens(prepared, store, vec![stored], &prepared.starts)?.pop() {
        Some(stored) => Ok(stored),
        None => bail!("the trace in row {row} was left out: the policy's tokenizer does not give its text back"),
    }
}

pub(super) fn table(found: &[Point]) -> String {
    let row = |point: &Point| {
        let Likelihood { traces, tokens, per_token, interval } = point.likelihood;
        vec![
            terminal::count(point.step),
            point.traces.clone(),
            terminal::count(traces as u64),
            terminal::count(tokens as u64),
            format!("{per_token:.4} [{:.4}, {:.4}]", interval.low, interval.high),
        ]
    };
    let rows: Vec<Vec<String>> = found.iter().map(row).collect();
    terminal::table(&["step", "traces", "number", "tokens", "log p per token [95 %]"], &rows)
}
