//! `toehold score`: log-probabilities of tokens that are already there, to compare with any other engine.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value};
use toehold_rollout::{Completion, Sampler as _, Scorer as _, StopReason, TokenId, TokenScores, Trace};

use crate::interrupt::{self, Interrupted};
use crate::terminal::{self, Output, Progress};
use crate::token_lines::{BatchEnd, Line, Lines, Model, ModelArgs};

/// Gives each completion token's log-probability and the entropy where it stands, as JSON lines.
///
/// A line is an object with `tokens`, an array of ids of which all but the first are scored; or with
/// `prompt`, perhaps `prefix`, and `completion`, each a text or an array of ids, of which the completion is
/// scored. `prompt_ids`, `prefix_ids` and `completion_ids` come before these, so that lines of `toehold
/// traces --json` and `toehold generate --json` can be scored as they are. A text is taken as it is, no
/// beginning or end token added; with --chat the text of a prompt is what a user says, in the model's chat
/// template.
///
/// Each line comes back in its place with `logprobs` and `entropies`, in nats, by the model's own
/// distribution (temperature 1), and with the ids of what was text. A line that has `logprobs` already,
/// another engine's, also gets `difference`, the largest one between the two.
///
/// A line that cannot be scored ends the command; those before it are printed.
#[derive(Debug, Args)]
pub struct ScoreArgs {
    /// Which model
    #[command(flatten)]
    pub model: ModelArgs,
    /// JSON lines [default: standard input]
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// A model that cannot be opened, a line that cannot be scored, or Ctrl-C.
pub fn run(args: &ScoreArgs, output: &Output) -> Result<()> {
    let mut lines = Lines::open(args.file.as_deref())?;
    let mut model = Model::open(&args.model, output)?;
    let mut progress = Progress::start(output, "score", None, "lines");
    let mut total = Total::default();
    loop {
        let batch = lines.batch(args.model.batch, &mut |line| {
            let asked = Asked::read(line, &mut model)?;
            let tokens = asked.length();
            Ok((asked, tokens))
        });
        let traces: Vec<&Trace> = batch.items.iter().map(|asked| &asked.trace).collect();
        for (asked, scores) in batch.items.iter().zip(model.policy.score(&traces)?) {
            asked.print(&scores, &mut total, output)?;
        }
        progress.set(total.lines, &format!("{} tokens", terminal::count(total.tokens)));
        match batch.end {
            BatchEnd::Bad(error) => return Err(error),
            BatchEnd::Input => break,
            BatchEnd::Full if interrupt::requested() => {
                return Err(Interrupted { resume: "the same command (it begins anew)".to_owned() }.into());
            }
            BatchEnd::Full => {}
        }
    }
    progress.finish();
    output.say(total.sentence());
    Ok(())
}

/// A line, and what is scored of it.
struct Asked {
    line: Line,
    trace: Trace,
    /// Whether prompt, prefix and completion were named apart, so that their ids are told.
    parts: bool,
    /// What another engine says.
    theirs: Option<Vec<f64>>,
}

/// The ids of what was scored.
#[derive(Serialize)]
struct Ids<'a> {
    prompt_ids: &'a [TokenId],
    prefix_ids: &'a [TokenId],
    completion_ids: &'a [TokenId],
}

/// What is printed: the line, and what is known of it.
#[derive(Serialize)]
struct Scored<'a> {
    #[serde(flatten)]
    line: &'a Map<String, Value>,
    #[serde(flatten)]
    ids: Option<Ids<'a>>,
    logprobs: &'a [f32],
    entropies: &'a [f32],
    #[serde(skip_serializing_if = "Option::is_none")]
    difference: Option<f64>,
}

/// What was scored so far.
#[derive(Default)]
struct Total {
    lines: u64,
    tokens: u64,
    log_probability: f64,
    difference: Option<f64>,
}

const PARTS: [&str; 6] = ["prompt", "prefix", "completion", "prompt_ids", "prefix_ids", "completion_ids"];

impl Asked {
    fn read(mut line: Line, model: &mut Model) -> Result<Asked> {
        let place = line.place.clone();
        let part = line.first_of(&PARTS);
        let (prompt, prefix, completion) = match (line.field("tokens"), part) {
            (Some(_), Some(part)) => bail!("{place}: found `tokens` and `{part}`, expected one of them"),
            (Some(value), None) => {
                let mut tokens = model.ids(&line, "tokens", value)?;
                let completion = tokens.split_off(tokens.len().min(1));
                (tokens, Vec::new(), completion)
            }
            (None, _) => {
                let Some(completion) = model.tokens(&line, "completion")? else {
                    bail!("{place}: missing `completion`\nhint: or give all ids as `tokens`");
                };
                let prompt = model.tokens(&line, "prompt")?.unwrap_or_default();
                (prompt, model.tokens(&line, "prefix")?.unwrap_or_default(), completion)
            }
        };
        if prompt.is_empty() {
            let name = if part.is_some() { "prompt" } else { "tokens" };
            bail!("{place}: `{name}` has no token, expected at least one before what is scored");
        }
        let (length, positions) = (prompt.len() + prefix.len() + completion.len(), model.positions());
        if length > positions {
            bail!("{place}: it has {length} tokens, but the model has {positions} positions");
        }
        let theirs = theirs(&line, completion.len())?;
        // What is told anew must not be there twice.
        for name in ["logprobs", "entropies", "difference", "prompt_ids", "prefix_ids", "completion_ids"] {
            line.fields.remove(name);
        }
        let behavior = vec![0.0; completion.len()];
        let completion = Completion { tokens: completion, behavior, stop: StopReason::Length };
        let trace = Trace { prompt, prefix, completion, sampled_by: model.policy.version() };
        Ok(Asked { line, trace, parts: part.is_some(), theirs })
    }

    fn length(&self) -> usize {
        self.trace.prompt.len() + self.trace.prefix.len() + self.trace.completion.tokens.len()
    }

    fn print(&self, scores: &TokenScores, total: &mut Total, output: &Output) -> Result<()> {
        let ours = &scores.current;
        let entropies = scores.entropy.as_deref().unwrap_or_default();
        if let Some(at) = ours.iter().zip(entropies).position(|(a, b)| !(a.is_finite() && b.is_finite())) {
            bail!("{}: the log-probability of token {at} is {}, expected a number", self.line.place, ours[at]);
        }
        let differences = self.theirs.as_deref().map(|theirs| {
            let pairs = ours.iter().zip(theirs);
            pairs.map(|(&ours, theirs)| (f64::from(ours) - theirs).abs()).fold(0.0, f64::max)
        });
        let ids = self.parts.then_some(Ids {
            prompt_ids: &self.trace.prompt,
            prefix_ids: &self.trace.prefix,
            completion_ids: &self.trace.completion.tokens,
        });
        let scored = Scored { line: &self.line.fields, ids, logprobs: ours, entropies, difference: differences };
        output.event(&scored)?;
        output.data(serde_json::to_string(&scored)?)?;
        total.lines += 1;
        total.tokens += ours.len() as u64;
        total.log_probability += ours.iter().copied().map(f64::from).sum::<f64>();
        total.difference = total.difference.into_iter().chain(differences).reduce(f64::max);
        Ok(())
    }
}

/// Another engine's log-probabilities, where the line has some.
fn theirs(line: &Line, tokens: usize) -> Result<Option<Vec<f64>>> {
    let Some(value) = line.field("logprobs") else { return Ok(None) };
    let numbers = value.as_array().and_then(|items| items.iter().map(Value::as_f64).collect::<Option<Vec<f64>>>());
    match numbers {
        Some(numbers) if numbers.len() == tokens => Ok(Some(numbers)),
        Some(numbers) => {
            bail!("{}: `logprobs` has {} numbers, expected {tokens}", line.place, numbers.len())
        }
        None => bail!("{}: `logprobs` is no array of numbers", line.place),
    }
}

impl Total {
    fn sentence(&self) -> String {
        let mean = match self.tokens {
            0 => String::new(),
            tokens => format!(", {:.4} nats a token", self.log_probability / tokens as f64),
        };
        let difference = self.difference.map(|most| format!("; largest difference {most:.1e}")).unwrap_or_default();
        format!("{} lines, {} tokens{mean}{difference}", terminal::count(self.lines), terminal::count(self.tokens))
    }
}
