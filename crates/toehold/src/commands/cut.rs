//! `toehold cut`: the second stage, prefixes out of stored traces.

use anyhow::{Result, bail};
use clap::Args;
use toehold_rollout::Start;
use toehold_training::CurriculumKind;
use toehold_training::curriculum::success_prefix::success_prefixes;

use crate::command_line::RecipeArgs;
use crate::commands::sample;
use crate::import;
use crate::material;
use crate::prepare::{self, Prepared};
use crate::terminal::{self, Output};

/// Cuts prefixes as `[curriculum]` says and keeps them in the store as starts.
#[derive(Debug, Args)]
pub struct CutArgs {
    /// Which recipe
    #[command(flatten)]
    pub recipe: RecipeArgs,
}

/// Runs the command.
///
/// # Errors
/// Bad input, nothing to cut, or a full disk.
pub fn run(args: &CutArgs, output: &Output) -> Result<()> {
    let prepared = Prepared::open(prepare::plan(&args.recipe)?, output)?;
    execute(&prepared, output)
}

/// The stage itself. The cuts follow from the seed and the traces, so doing it again changes nothing.
///
/// # Errors
/// Nothing was sampled, no trace is correct, or a full disk.
pub fn execute(prepared: &Prepared, output: &Output) -> Result<()> {
    let CurriculumKind::SuccessPrefix(settings) = &prepared.plan.curriculum else {
        output.say("nothing to cut before training with this curriculum");
        return Ok(());
    };
    let mut store = prepared.store()?;
    if sample::collection(prepared, &store)?.is_none() && import::foreign_policies(&store)?.is_empty() {
        bail!("nothing was sampled yet\nhint: `{}` comes first", prepared.resume_command("sample"));
    }
    let material = material::material(prepared, &store)?;
    let prefixes = success_prefixes(settings, &material.sources, prepared.plan.run.seed);
    if prefixes.is_empty() {
        bail!(
            "no prefix can be cut: {} correct traces of {} problems\n\
             hint: allow more attempts (--set collect.max_attempts=...), or take easier problems",
            material.sources.len(),
            material.plain.len()
        );
    }
    store.put_starts(&prefixes)?;
    let traces = material.sources.len();
    output.event(&serde_json::json!({ "event": "cut", "traces": traces, "prefixes": prefixes.len() }))?;
    output.data(table(&prefixes, traces))?;
    Ok(())
}

fn table(prefixes: &[Start], traces: usize) -> String {
    let shares: Vec<f64> = prefixes
        .iter()
        .filter_map(|start| {
            let origin = start.origin.as_ref()?;
            Some(start.prefix.len() as f64 / f64::from(origin.source_tokens.max(1)))
        })
        .collect();
    let mean = shares.iter().sum::<f64>() / shares.len().max(1) as f64;
    let least = shares.iter().copied().fold(f64::INFINITY, f64::min);
    let most = shares.iter().copied().fold(0.0, f64::max);
    terminal::table(
        &["traces", "prefixes", "share of the trace: least", "mean", "most"],
        &[vec![
            terminal::count(traces as u64),
            terminal::count(prefixes.len() as u64),
            terminal::percent(least),
            terminal::percent(mean),
            terminal::percent(most),
        ]],
    )
}
