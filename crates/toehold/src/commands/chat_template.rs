//! `toehold chat-template`: exactly the text and the ids that a problem becomes.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde::Serialize;
use toehold_rollout::{Problem, Prompts, Store, TokenId, TokenizerFile};

use crate::chat_args::ChatArgs;
use crate::command_line::RecipeArgs;
use crate::commands::traces;
use crate::hub;
use crate::prepare;
use crate::terminal::Output;

/// Shows exactly the text and the ids that a problem becomes, with the prefix marked.
///
/// TARGET is a model's folder or its name on the hub, whose chat template is then used with the settings given here; or a recipe
/// or a run's folder, whose `[template]` is used with its first problems. Nothing is sampled and no weight is
/// read. A template that does not render, that opens no assistant's turn or that closes it is refused, as it
/// is at the start of a run.
///
/// A prefix stands between ⟦ and ⟧. With --json each prompt is a line with `prompt`, `prompt_ids`, `prefix`
/// and `prefix_ids`, which `toehold generate` goes on from.
#[derive(Debug, Args)]
pub struct ChatTemplateArgs {
    /// A model's folder or name on the hub, a recipe, or a run's folder
    #[arg(value_name = "TARGET")]
    pub target: PathBuf,
    /// This statement instead of the recipe's problems; for a model, instead of `What is 12 + 30?`
    #[arg(long, value_name = "TEXT", conflicts_with = "trace")]
    pub problem: Option<String>,
    /// A prefix, encoded by itself
    #[arg(long, value_name = "TEXT", conflicts_with = "trace")]
    pub prefix: Option<String>,
    /// A stored trace of the run: the row that `toehold traces` lists, its prefix and completion as they were
    #[arg(long, value_name = "ROW")]
    pub trace: Option<i64>,
    /// How many of the recipe's problems
    #[arg(long, value_name = "PROBLEMS", default_value_t = 1)]
    pub limit: usize,
    /// Change one value of the recipe, e.g. `--set template.kind=chat`; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// What the model's template is told
    #[command(flatten)]
    pub chat: ChatArgs,
}

/// Runs the command.
///
/// # Errors
/// Nothing there by that name, or a prompt that cannot be made.
pub fn run(args: &ChatTemplateArgs, output: &Output) -> Result<()> {
    let is_recipe = args.target.is_file() || args.target.join("recipe.toml").is_file();
    if is_recipe { of_recipe(args, output) } else { of_model(args, output) }
}

/// One problem in tokens.
#[derive(Serialize)]
struct Shown {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    prompt: String,
    prompt_ids: Vec<TokenId>,
    prefix: String,
    prefix_ids: Vec<TokenId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    completion: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    completion_ids: Option<Vec<TokenId>>,
}

const EXAMPLE: &str = "What is 12 + 30?";

fn of_model(args: &ChatTemplateArgs, output: &Output) -> Result<()> {
    let model = &hub::folder(&args.target, output)?;
    if !model.is_dir() {
        bail!("{} is neither a model's folder nor a recipe", model.display());
    }
    if args.trace.is_some() || !args.set.is_empty() {
        bail!("--trace and --set are of runs and recipes, but {} is a model's folder", model.display());
    }
    let tokenizer = TokenizerFile::open(model)?;
    let prompts = args.chat.prompts(model, &tokenizer)?;
    describe(&prompts, &tokenizer, output)?;
    let problem = args.problem.as_deref().unwrap_or(EXAMPLE);
    show(&prompt(None, problem, args, &prompts, &tokenizer)?, &tokenizer, output)
}

fn of_recipe(args: &ChatTemplateArgs, output: &Output) -> Result<()> {
    args.chat.refuse_any("model's folder: a recipe has its own (`--set template.system=...`)")?;
    let recipe = RecipeArgs { recipe: args.target.clone(), set: args.set.clone(), runs: None };
    let plan = prepare::plan(&recipe)?;
    let model = &hub::folder(&plan.policy.model, output)?;
    let tokenizer = TokenizerFile::open(model)?;
    let prompts = prepare::prompts(&plan, model)?;
    prompts.check(&tokenizer)?;
    describe(&prompts, &tokenizer, output)?;
    if let Some(row) = args.trace {
        return show(&stored(&prepare::folder_of(&plan), row, &prompts, &tokenizer, output)?, &tokenizer, output);
    }
    if let Some(text) = &args.problem {
        return show(&prompt(None, text, args, &prompts, &tokenizer)?, &tokenizer, output);
    }
    for Problem { id, problem, .. } in prepare::problems(&plan, output)?.0.problems.iter().take(args.limit) {
        let shown = prompt(Some(id.as_str()), problem, args, &prompts, &tokenizer);
        show(&shown.with_context(|| format!("problem `{id}`"))?, &tokenizer, output)?;
    }
    Ok(())
}

fn prompt(
    id: Option<&str>,
    problem: &str,
    args: &ChatTemplateArgs,
    prompts: &Prompts,
    tokenizer: &TokenizerFile,
) -> Result<Shown> {
    let prompt = prompts.prompt(problem, tokenizer)?;
    let prefix = args.prefix.clone().unwrap_or_default();
    Ok(Shown {
        id: id.map(str::to_owned),
        prompt: prompt.text,
        prompt_ids: prompt.tokens,
        prefix_ids: tokenizer.encode(&prefix)?,
        prefix,
        completion: None,
        completion_ids: None,
    })
}

/// A trace as it was sampled: its prompt is the stored one, whatever the template would make today.
fn stored(run: &Path, row: i64, prompts: &Prompts, tokenizer: &TokenizerFile, output: &Output) -> Result<Shown> {
    let path = run.join("traces.db");
    if !path.exists() {
        bail!("{} has no traces.db, so nothing was sampled yet", run.display());
    }
    let store = Store::open_read_only(&path)?;
    let Some(stored) = store.trace(row)? else { bail!("{} has no trace in row {row}", path.display()) };
    let (trace, id) = (stored.trace, stored.problem);
    let problem = store.problems()?.into_iter().find(|problem| problem.id == id);
    if let Some(problem) = problem
        && prompts.prompt(&problem.problem, tokenizer)?.tokens != trace.prompt
    {
        output
            .warn(format!("row {row} was sampled after another prompt than the template now makes of problem `{id}`"));
    }
    Ok(Shown {
        id: Some(id.to_string()),
        prompt: tokenizer.decode_raw(&trace.prompt),
        prompt_ids: trace.prompt,
        prefix: tokenizer.decode_raw(&trace.prefix),
        prefix_ids: trace.prefix,
        completion: Some(tokenizer.decode_raw(&trace.completion.tokens)),
        completion_ids: Some(trace.completion.tokens),
    })
}

/// What is true of every prompt, said once.
fn describe(prompts: &Prompts, tokenizer: &TokenizerFile, output: &Output) -> Result<()> {
    let ends = tokenizer.end_tokens();
    let named = |&id: &TokenId| format!("{} ({id})", tokenizer.token_text(id).unwrap_or_default());
    output.say(format!("template: {}", prompts.place()));
    output.say(format!("end tokens: {}", ends.iter().map(named).collect::<Vec<_>>().join(", ")));
    if let Some(closing) = prompts.closing() {
        output.say(format!("the template closes an assistant's turn with {closing:?}"));
        let first = tokenizer.encode(&closing)?.first().copied();
        if first.is_some_and(|first| !ends.contains(&first)) {
            output.warn("what closes a turn is no end token: completions go on after it");
        }
    }
    Ok(())
}

fn show(shown: &Shown, tokenizer: &TokenizerFile, output: &Output) -> Result<()> {
    output.event(shown)?;
    let id = shown.id.as_ref().map(|id| format!("problem {id}: ")).unwrap_or_default();
    let thought = if Prompts::opens_thought(&shown.prompt) { "; the prompt opens a thought" } else { "" };
    let (prompt, prefix) = (shown.prompt_ids.len(), shown.prefix_ids.len());
    let mut parts = vec![format!("prompt:     {}", pieces(&shown.prompt_ids, tokenizer))];
    if prefix > 0 {
        parts.push(format!("prefix:     {}", pieces(&shown.prefix_ids, tokenizer)));
    }
    let mut counts = format!("{prompt} + {prefix} tokens (prompt, prefix)");
    if let Some(ids) = &shown.completion_ids {
        parts.push(format!("completion: {}", pieces(ids, tokenizer)));
        counts = format!("{prompt} + {prefix} + {} tokens (prompt, prefix, completion)", ids.len());
    }
    let text = traces::marked(&shown.prompt, &shown.prefix, shown.completion.as_deref().unwrap_or_default());
    output.data(format!("{id}{counts}{thought}\n\n{}\n\n{}\n", text.trim_end_matches(' '), parts.join("\n")))?;
    Ok(())
}

/// Each id with the text it stands for.
fn pieces(ids: &[TokenId], tokenizer: &TokenizerFile) -> String {
    ids.iter().map(|&id| format!("{id} {:?}", tokenizer.decode_raw(&[id]))).collect::<Vec<_>>().join(", ")
}
