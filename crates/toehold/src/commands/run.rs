//! `toehold run`: all stages of a recipe, each skipped when it is done.

use anyhow::Result;
use clap::Args;

use crate::command_line::RecipeArgs;
use crate::commands::{cut, evaluate, report, sample, train};
use crate::interrupt::Interrupted;
use crate::prepare::{self, Prepared};
use crate::terminal::Output;

/// Runs a recipe from its first unfinished stage on.
///
/// A run is a folder, runs/NAME: the recipe as resolved, every trace (traces.db), every event
/// (events.jsonl), the checkpoints and the report. Stop it at any moment and run it again: it goes on
/// where it was, and ends with the same store and the same weights.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Which recipe
    #[command(flatten)]
    pub recipe: RecipeArgs,
    /// Print the recipe with every value explicit, and do nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// Runs the command.
///
/// # Errors
/// Bad input, a full disk, or Ctrl-C.
pub fn run(args: &RunArgs, output: &Output) -> Result<()> {
    let plan = prepare::plan(&args.recipe)?;
    if args.dry_run {
        output.data(prepare::plan_text(&plan)?.trim_end())?;
        output.event(&plan)?;
        return Ok(());
    }
    let mut prepared = Prepared::open(plan, output)?;
    execute(&mut prepared, output).map_err(|error| match error.downcast::<Interrupted>() {
        // A stage names itself; whoever ran all of them goes on with all of them.
        Ok(_) => Interrupted { resume: prepared.resume_command("run") }.into(),
        Err(error) => error,
    })?;
    let path = report::write(&[prepared.folder.path()], &prepared.folder.report())?;
    output.say(format!("report: {}", path.display()));
    Ok(())
}

/// All stages but the report.
///
/// # Errors
/// As the stages.
pub fn execute(prepared: &mut Prepared, output: &Output) -> Result<()> {
    if prepare::uses_collection(&prepared.plan) {
        output.say(format!("{}: sample", prepared.plan.run.name));
        sample::execute(prepared, output)?;
        cut::execute(prepared, output)?;
    }
    output.say(format!("{}: train", prepared.plan.run.name));
    train::execute(prepared, output)?;
    output.say(format!("{}: evaluate", prepared.plan.run.name));
    evaluate::execute(prepared, output)
}
