//! `toehold traces`: what was sampled, listed, filtered and shown with the prefix marked.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use serde::Serialize;
use toehold_rollout::store::{Stage, StartKind, StoredTrace, TraceFilter};
use toehold_rollout::{Problem, ProblemId, SamplingParams, Store, TokenId, TokenizerFile};
use toehold_verifier::Outcome;

use crate::terminal::{self, Output};

/// Lists the traces of a run, or shows one whole.
///
/// In a listing each line is a trace; with --show N it is printed in full, the prefix, which was given
/// and never trained on, between ⟦ and ⟧.
#[derive(Debug, Args)]
pub struct TracesArgs {
    /// A run's folder, or a traces.db
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
    /// Show the trace of this row (the listing's first column) in full
    #[arg(long, value_name = "ROW")]
    pub show: Option<i64>,
    /// Only traces of this problem
    #[arg(long, value_name = "ID")]
    pub problem: Option<String>,
    /// Only traces with this outcome
    #[arg(long, value_parser = outcome_parser())]
    pub outcome: Option<Outcome>,
    /// Only traces sampled in this stage
    #[arg(long, value_enum)]
    pub stage: Option<StageArg>,
    /// Only traces that began at plain problems, or after a prefix
    #[arg(long, value_enum)]
    pub from: Option<FromArg>,
    /// List at most so many
    #[arg(long, default_value_t = 20, value_name = "TRACES")]
    pub limit: u64,
    /// Leave out so many at the beginning
    #[arg(long, default_value_t = 0, value_name = "TRACES")]
    pub offset: u64,
}

/// A stage on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
#[allow(missing_docs, reason = "each is the stage of the same name")]
pub enum StageArg {
    Collect,
    Train,
    Evaluate,
}

/// The kind of start on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
#[allow(missing_docs, reason = "each is the kind of the same name")]
pub enum FromArg {
    Plain,
    Prefixed,
}

/// Runs the command.
///
/// # Errors
/// No such store, run or row.
pub fn run(args: &TracesArgs, output: &Output) -> Result<()> {
    let (store, tokenizer) = open(&args.run)?;
    let problems = store.problems()?;
    if let Some(row) = args.show {
        let Some(stored) = store.trace(row)? else {
            bail!("{} has no trace in row {row}", store.path().display());
        };
        output.event(&line(&stored, tokenizer.as_ref()))?;
        output.data(shown(&stored, tokenizer.as_ref(), &problems))?;
        return Ok(());
    }
    if let Some(id) = &args.problem
        && !problems.iter().any(|problem| problem.id.as_str() == id)
    {
        bail!("{} has no problem `{id}`, but {} others", store.path().display(), problems.len());
    }
    let filter = filter(args);
    let total = store.success(&filter)?;
    let outcomes = store.outcomes(&filter)?;
    let listed = store.traces(&filter)?;
    let mut rows = Vec::with_capacity(listed.len());
    for stored in &listed {
        let line = line(stored, tokenizer.as_ref());
        output.event(&line)?;
        rows.push(vec![
            line.row.to_string(),
            line.problem,
            line.stage.to_owned(),
            line.policy.chars().take(8).collect(),
            line.outcome.to_owned(),
            line.prefix_tokens.to_string(),
            line.completion_tokens.to_string(),
            shorten(&line.completion, 60),
        ]);
    }
    let headers = ["row", "problem", "stage", "policy", "outcome", "prefix", "tokens", "completion"];
    output.data(terminal::table(&headers, &rows))?;
    let all: u64 = outcomes.values().sum();
    output.say(format!("{} of {} traces; {total}", listed.len(), terminal::count(all)));
    if all > 0 {
        output.say(format!("outcomes: {}", terminal::outcomes(&outcomes)));
    }
    Ok(())
}

/// One trace as a JSON line: everything that is stored of it, and its tokens as text.
#[derive(Debug, Serialize)]
struct TraceLine {
    row: i64,
    problem: String,
    start: String,
    stage: &'static str,
    policy: String,
    seed: u64,
    index: u32,
    outcome: &'static str,
    extracted: Option<String>,
    stop: &'static str,
    prompt_tokens: usize,
    prefix_tokens: usize,
    completion_tokens: usize,
    log_probability: f64,
    verifier_version: String,
    sampling: SamplingParams,
    prompt_ids: Vec<TokenId>,
    prefix_ids: Vec<TokenId>,
    completion_ids: Vec<TokenId>,
    log_probabilities: Vec<f32>,
    prompt: String,
    prefix: String,
    completion: String,
}

fn line(stored: &StoredTrace, tokenizer: Option<&TokenizerFile>) -> TraceLine {
    let trace = &stored.trace;
    TraceLine {
        row: stored.row,
        problem: stored.problem.as_str().to_owned(),
        start: stored.key.start.as_str().to_owned(),
        stage: stored.stage.as_str(),
        policy: stored.key.policy.weights.clone(),
        seed: stored.key.seed,
        index: stored.key.index,
        outcome: stored.verdict.outcome.as_str(),
        extracted: stored.verdict.extracted.clone(),
        stop: trace.completion.stop.as_str(),
        prompt_tokens: trace.prompt.len(),
        prefix_tokens: trace.prefix.len(),
        completion_tokens: trace.completion.tokens.len(),
        log_probability: trace.completion.behavior.iter().copied().map(f64::from).sum(),
        verifier_version: stored.verifier_version.clone(),
        sampling: stored.params.clone(),
        prompt_ids: trace.prompt.clone(),
        prefix_ids: trace.prefix.clone(),
        completion_ids: trace.completion.tokens.clone(),
        log_probabilities: trace.completion.behavior.clone(),
        prompt: text(tokenizer, &trace.prompt),
        prefix: text(tokenizer, &trace.prefix),
        completion: text(tokenizer, &trace.completion.tokens),
    }
}

fn shown(stored: &StoredTrace, tokenizer: Option<&TokenizerFile>, problems: &[Problem]) -> String {
    let line = line(stored, tokenizer);
    let reference = problems.iter().find(|problem| problem.id == stored.problem).map_or("", |problem| &problem.answer);
    format!(
        "row {} of problem {}, stage {}, policy {}, seed {}, index {}\n\
         {}, extracted {}, reference {}\n\
         {} + {} + {} tokens (prompt, prefix, completion), log-probability {:.2}, ended by {}\n\n{}",
        line.row,
        line.problem,
        line.stage,
        line.policy,
        line.seed,
        line.index,
        line.outcome,
        line.extracted.as_deref().map_or("nothing".to_owned(), plain),
        plain(reference),
        line.prompt_tokens,
        line.prefix_tokens,
        line.completion_tokens,
        line.log_probability,
        line.stop,
        marked(&line.prompt, &line.prefix, &line.completion),
    )
}

/// A prompt, and after it the prefix, marked as given, and the completion.
pub(crate) fn marked(prompt: &str, prefix: &str, completion: &str) -> String {
    let (open, close) = if std::io::stdout().is_terminal() { ("\x1b[7m⟦", "⟧\x1b[0m") } else { ("⟦", "⟧") };
    let given = if prefix.is_empty() { String::new() } else { format!("{open}{}{close}", plain(prefix)) };
    format!("{}\n{given} {}", plain(prompt), plain(completion))
}

/// Text as the tokenizer writes it, or the ids when the model folder is gone.
fn text(tokenizer: Option<&TokenizerFile>, tokens: &[u32]) -> String {
    match tokenizer {
        Some(tokenizer) => tokenizer.decode_raw(tokens),
        None => tokens.iter().map(u32::to_string).collect::<Vec<_>>().join(" "),
    }
}

/// A model may write anything: control characters must not move the reader's cursor.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

fn shorten(text: &str, most: usize) -> String {
    let text = text.replace('\n', " ");
    if text.chars().count() <= most { text } else { text.chars().take(most - 1).chain(['…']).collect() }
}

/// Outcomes by the words that are stored and printed.
fn outcome_parser() -> impl TypedValueParser<Value = Outcome> {
    PossibleValuesParser::new(Outcome::ALL.map(Outcome::as_str)).try_map(|word| {
        Outcome::ALL.into_iter().find(|outcome| outcome.as_str() == word).ok_or("no outcome has this name")
    })
}

fn filter(args: &TracesArgs) -> TraceFilter {
    TraceFilter {
        problem: args.problem.as_deref().map(ProblemId::from),
        outcome: args.outcome,
        stage: args.stage.map(|stage| match stage {
            StageArg::Collect => Stage::Collect,
            StageArg::Train => Stage::Train,
            StageArg::Evaluate => Stage::Evaluate,
        }),
        kind: args.from.map(|from| match from {
            FromArg::Plain => StartKind::Plain,
            FromArg::Prefixed => StartKind::Prefixed,
        }),
        limit: Some(args.limit),
        offset: args.offset,
        ..TraceFilter::default()
    }
}

/// Opens the store of a run and, where the recipe's model folder is still there, its tokenizer.
fn open(run: &std::path::Path) -> Result<(Store, Option<TokenizerFile>)> {
    let path = if run.is_dir() { run.join("traces.db") } else { run.to_owned() };
    if !path.exists() {
        bail!("{} has no traces.db\nhint: name a run's folder, such as runs/demo/prefix-rl", run.display());
    }
    let store = Store::open_read_only(&path)?;
    let model = store.policies()?.into_iter().find(|policy| policy.parent.is_none()).map(|policy| policy.model);
    let tokenizer = model.and_then(|model| TokenizerFile::open(&crate::hub::local(std::path::Path::new(&model))).ok());
    Ok((store, tokenizer))
}
