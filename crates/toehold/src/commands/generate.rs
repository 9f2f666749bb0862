//! `toehold generate`: completions of a prompt, or of many, after a prefix where one is given.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroUsize};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Result, anyhow, bail};
use clap::{Args, value_parser};
use serde::Serialize;
use serde_json::{Map, Value};
use toehold_rollout::{
    Completion, PolicyVersion, ProblemId, SampleRequest, Sampler as _, SamplingParams, StartId, TokenId, TraceKey,
};

use crate::commands::traces;
use crate::interrupt::{self, Interrupted};
use crate::terminal::{self, Output, Progress};
use crate::thought_switch::SteerArgs;
use crate::token_lines::{Batch, BatchEnd, Line, Lines, Model, ModelArgs};

/// Completes one prompt, or each line of a file of JSON lines, and prints the completions in order.
///
/// A line is an object with `prompt` and perhaps `prefix`, each a text or an array of token ids
/// (`prompt_ids` and `prefix_ids` come before them). A text is taken as it is, no beginning token added;
/// with --chat the text of a prompt is what a user says, in the model's chat template, and the prefix the
/// beginning of the answer.
///
/// --penalty makes the policy keep to a thought (TIP, arXiv 2501.18585), --stop-below ends a completion that has
/// become unlikely; a prefix counts for the first and not for the second.
///
/// As text, the prefix stands between ⟦ and ⟧. With --json each completion is the line it belongs to with
/// `index`, `prompt_ids`, `prefix_ids`, `completion_ids`, `completion` (text), `logprobs` (in nats, under the
/// distribution that was drawn from) and `stop`; `toehold score` reads these lines.
///
/// The random stream of a completion is a hash of the model's weights, the seed, its index, and the prompt,
/// the prefix and the `id` of its line, as that of any trace: other lines, batches and threads change nothing.
#[derive(Debug, Args)]
pub struct GenerateArgs {
    /// Which model
    #[command(flatten)]
    pub model: ModelArgs,
    /// JSON lines [default: standard input]
    #[arg(value_name = "FILE", conflicts_with = "prompt")]
    pub file: Option<PathBuf>,
    /// Complete this text, and read no lines
    #[arg(long, value_name = "TEXT")]
    pub prompt: Option<String>,
    /// Given text after the prompt, which the completion goes on from
    #[arg(long, value_name = "TEXT", requires = "prompt")]
    pub prefix: Option<String>,
    /// Take the likeliest token always, as --temperature 0
    #[arg(long, conflicts_with_all = ["temperature", "top_k", "top_p"])]
    pub greedy: bool,
    /// Logits are divided by it
    #[arg(long, value_name = "NUMBER", default_value_t = 1.0)]
    pub temperature: f32,
    /// Only the likeliest so many tokens; 0 keeps all
    #[arg(long, value_name = "TOKENS", default_value_t = 0)]
    pub top_k: u32,
    /// Only the likeliest tokens up to this mass
    #[arg(long, value_name = "MASS", default_value_t = 1.0)]
    pub top_p: f32,
    /// Tokens of a completion at most [default: 512, or fewer where the context ends]
    #[arg(long, value_name = "TOKENS")]
    pub max_tokens: Option<NonZeroU32>,
    /// Completions of each prompt
    #[arg(short, long, value_name = "COMPLETIONS", default_value_t = 1, value_parser = value_parser!(u32).range(1..=65_536))]
    pub n: u32,
    /// Another seed gives other completions
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// What changes or ends a completion
    #[command(flatten)]
    pub steer: SteerArgs,
}

/// Runs the command.
///
/// # Errors
/// A setting out of range, a model that cannot be opened, a line that cannot be completed, or Ctrl-C.
pub fn run(args: &GenerateArgs, output: &Output) -> Result<()> {
    if !(args.temperature.is_finite() && args.temperature >= 0.0) {
        bail!("--temperature is {}, expected a number of at least 0", args.temperature);
    }
    if !(args.top_p > 0.0 && args.top_p <= 1.0) {
        bail!("--top-p is {}, expected above 0 and at most 1", args.top_p);
    }
    if let Some(text) = &args.prompt {
        let prefix = args.prefix.as_ref().map(|prefix| ("prefix".to_owned(), prefix.as_str().into()));
        let fields = [("prompt".to_owned(), text.as_str().into())].into_iter().chain(prefix).collect();
        let mut work = Work::new(args, output)?;
        let asked = Asked::read(Line { place: "--prompt".to_owned(), fields }, args, &mut work.model)?;
        work.complete(&[asked])?;
        return Ok(());
    }
    let mut lines = Lines::open(args.file.as_deref())?;
    let mut work = Work::new(args, output)?;
    let most = NonZeroUsize::new(REQUESTS / args.n as usize).unwrap_or(NonZeroUsize::MIN);
    loop {
        let Batch { items, end } = lines.batch(args.model.batch.min(most), &mut |line| {
            let asked = Asked::read(line, args, &mut work.model)?;
            // The room of keys and values is the sampler's own care.
            Ok((asked, 0))
        });
        work.complete(&items)?;
        match end {
            BatchEnd::Bad(error) => return Err(error),
            BatchEnd::Input => break,
            BatchEnd::Full => {}
        }
    }
    output.say(format!("{} completions, {} tokens", terminal::count(work.completions), terminal::count(work.tokens)));
    Ok(())
}

/// A line, and what is to be completed of it.
struct Asked {
    line: Line,
    prompt: Arc<[TokenId]>,
    prefix: Arc<[TokenId]>,
    start: StartId,
    max_tokens: u32,
}

/// What is printed of a completion as JSON.
#[derive(Serialize)]
struct Completed<'a> {
    #[serde(flatten)]
    line: &'a Map<String, Value>,
    index: u32,
    prompt_ids: &'a [TokenId],
    prefix_ids: &'a [TokenId],
    completion_ids: &'a [TokenId],
    completion: String,
    logprobs: &'a [f32],
    stop: &'static str,
}

/// Tokens of a completion where nothing is said.
const MAX_TOKENS: usize = 512;
/// Completions of one call of the sampler, unless a single line wants more.
const REQUESTS: usize = 65_536;

impl Asked {
    fn read(mut line: Line, args: &GenerateArgs, model: &mut Model) -> Result<Asked> {
        let place = &line.place;
        let Some(prompt) = model.tokens(&line, "prompt")? else { bail!("{place}: missing `prompt`") };
        let prefix = model.tokens(&line, "prefix")?.unwrap_or_default();
        if prompt.is_empty() {
            bail!("{place}: `prompt` has no token, expected at least one");
        }
        let (given, positions) = (prompt.len() + prefix.len(), model.positions());
        let room = positions.saturating_sub(given);
        let max_tokens = match args.max_tokens {
            Some(most) if most.get() as usize > room => {
                bail!("{place}: it needs {given} + {most} positions (given + new), but the model has {positions}")
            }
            Some(most) => most.get(),
            None if room == 0 => {
                bail!("{place}: it needs {given} + 1 positions (given + new), but the model has {positions}")
            }
            None => room.min(MAX_TOKENS) as u32,
        };
        let id = match line.field("id") {
            Some(Value::String(id)) => id.clone(),
            Some(id) => id.to_string(),
            None => String::new(),
        };
        let start = StartId::of(&ProblemId::from(id.as_str()), &prompt, &prefix);
        // What is told anew must not be there twice.
        for name in ["index", "prompt_ids", "prefix_ids", "completion_ids", "completion", "logprobs", "stop"] {
            line.fields.remove(name);
        }
        Ok(Asked { line, prompt: prompt.into(), prefix: prefix.into(), start, max_tokens })
    }
}

/// What completions are made with, and how many there are.
struct Work<'a> {
    args: &'a GenerateArgs,
    output: &'a Output,
    model: Model,
    policy: PolicyVersion,
    params: SamplingParams,
    progress: Progress,
    completions: u64,
    tokens: u64,
}

impl<'a> Work<'a> {
    fn new(args: &'a GenerateArgs, output: &'a Output) -> Result<Work<'a>> {
        let mut model = Model::open(&args.model, output)?;
        let tokenizer = model.tokenizer()?;
        let params = SamplingParams {
            temperature: if args.greedy { 0.0 } else { args.temperature },
            top_k: args.top_k,
            top_p: args.top_p,
            stop: tokenizer.end_tokens().to_vec(),
            ..SamplingParams::plain(1)
        };
        let params = args.steer.applied(params, tokenizer)?;
        let policy = model.policy.version();
        let progress = Progress::start(output, "generate", None, "completions");
        Ok(Work { args, output, model, policy, params, progress, completions: 0, tokens: 0 })
    }

    /// Completes these lines and prints each completion when those before it are printed.
    fn complete(&mut self, asked: &[Asked]) -> Result<()> {
        // The tokenizer was opened with the model; a copy lets the policy be lent out.
        let tokenizer = self.model.tokenizer()?.clone();
        let n = self.args.n;
        let mut requests = Vec::with_capacity(asked.len() * n as usize);
        for asked in asked {
            requests.extend((0..n).map(|index| SampleRequest {
                prompt: asked.prompt.clone(),
                prefix: asked.prefix.clone(),
                params: SamplingParams { max_tokens: asked.max_tokens, ..self.params.clone() },
                seed: self.key(asked, index).request_seed(),
            }));
        }
        let mut waiting: BTreeMap<usize, Completion> = BTreeMap::new();
        let mut next = 0;
        let mut failed = None;
        let (args, output, progress) = (self.args, self.output, &mut self.progress);
        let (completions, tokens) = (&mut self.completions, &mut self.tokens);
        self.model.policy.sample(&requests, &mut |at, completion| {
            waiting.insert(at, completion);
            while let Some(completion) = waiting.remove(&next) {
                let (asked, index) = (&asked[next / n as usize], (next % n as usize) as u32);
                *completions += 1;
                *tokens += completion.tokens.len() as u64;
                let text = |tokens: &[TokenId]| tokenizer.decode_raw(tokens);
                if let Err(error) = print(asked, index, &completion, &text, args, output) {
                    failed = Some(error);
                    return ControlFlow::Break(());
                }
                next += 1;
            }
            progress.set(*completions, &format!("{} tokens", terminal::count(*tokens)));
            interrupt::flow()
        })?;
        match failed {
            Some(error) => Err(error),
            None if next == requests.len() => Ok(()),
            None if interrupt::requested() => {
                Err(Interrupted { resume: "the same command (it begins anew)".to_owned() }.into())
            }
            None => Err(anyhow!("the sampler ended with {next} of {} requests answered", requests.len())),
        }
    }

    fn key(&self, asked: &Asked, index: u32) -> TraceKey {
        TraceKey { start: asked.start.clone(), policy: self.policy.clone(), seed: self.args.seed, index }
    }
}

fn print(
    asked: &Asked,
    index: u32,
    completion: &Completion,
    text: &dyn Fn(&[TokenId]) -> String,
    args: &GenerateArgs,
    output: &Output,
) -> Result<()> {
    let written = text(&completion.tokens);
    output.event(&Completed {
        line: &asked.line.fields,
        index,
        prompt_ids: &asked.prompt,
        prefix_ids: &asked.prefix,
        completion_ids: &completion.tokens,
        completion: written.clone(),
        logprobs: &completion.behavior,
        stop: completion.stop.as_str(),
    })?;
    let marked = traces::marked(&text(&asked.prompt), &text(&asked.prefix), &written);
    if args.prompt.is_some() && args.n == 1 {
        output.data(marked)?;
    } else {
        output.data(format!(
            "{}, completion {} of {}: {} tokens, ended by {}\n{marked}\n",
            asked.line.place,
            index + 1,
            args.n,
            completion.tokens.len(),
            completion.stop.as_str(),
        ))?;
    }
    Ok(())
}
