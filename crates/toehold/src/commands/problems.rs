//! `toehold problems`: a recipe's problems as JSON lines, as they are or with other numbers.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use toehold_rollout::Problem;
use toehold_rollout::synthetic::{Family, Perturbation};
use toehold_training::Plan;
use toehold_training::recipe::Source;

use crate::command_line::RecipeArgs;
use crate::prepare;
use crate::terminal::Output;

/// Writes a recipe's problems to standard output, one JSON object a line, as `[problems] file` reads them.
///
/// Nothing of the recipe has to be run before. With --perturb each problem that has one is replaced by
/// a variant with other numbers: to find out whether a policy computes or remembers.
#[derive(Debug, Args)]
pub struct ProblemsArgs {
    /// Which recipe
    #[command(flatten)]
    pub recipe: RecipeArgs,
    /// The held-out problems instead of those to learn
    #[arg(long)]
    pub held_out: bool,
    /// Leave out the problems whose ids this file has, one a line, such as a run's guessable.txt
    #[arg(long, value_name = "FILE")]
    pub except: Option<PathBuf>,
    /// Change the numbers of each problem; of a synthetic family only
    #[arg(long, value_enum, value_name = "WAY")]
    pub perturb: Option<Way>,
    /// Seed of the changes
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

/// A perturbation on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Way {
    /// The same template with all numbers drawn anew
    Renumbered,
    /// One quantity is another one, and the answer follows
    Changed,
    /// One quantity is taken out; the reference stays, so that success is memory or luck
    Removed,
}

/// Runs the command.
///
/// # Errors
/// A recipe or a file that cannot be read, an id of no problem, or problems of no synthetic family.
pub fn run(args: &ProblemsArgs, output: &Output) -> Result<()> {
    let plan = prepare::plan(&args.recipe)?;
    let (problems, held_out) = prepare::problems(&plan, output)?;
    let except = args.except.as_deref().map(|path| ids(path, &[&problems.problems, &held_out])).transpose()?;
    let mut problems = if args.held_out { held_out } else { problems.problems };
    if let Some(except) = except {
        problems.retain(|problem| !except.contains(problem.id.as_str()));
        if problems.is_empty() {
            output.warn("no problem is left");
        }
    }
    if let Some(way) = args.perturb {
        let perturbed = family(&plan)?.perturbed(&problems, way.perturbation(), args.seed)?;
        if perturbed.len() < problems.len() {
            output.warn(format!(
                "{} of {} problems have no such variant",
                problems.len() - perturbed.len(),
                problems.len()
            ));
        }
        problems = perturbed;
    }
    for problem in &problems {
        print(problem, output)?;
    }
    Ok(())
}

/// The ids that a file has, one a line, each of a problem in `sets`.
fn ids(path: &Path, sets: &[&[Problem]]) -> Result<HashSet<String>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let known: HashSet<&str> = sets.iter().flat_map(|set| set.iter()).map(|problem| problem.id.as_str()).collect();
    let lines = text.lines().enumerate().filter(|(_, line)| !line.is_empty());
    let id = |(at, line): (usize, &str)| match known.contains(line) {
        true => Ok(line.to_owned()),
        false => {
            bail!("{}:{}: `{line}` is the id of none of the recipe's {} problems", path.display(), at + 1, known.len())
        }
    };
    lines.map(id).collect()
}

/// The synthetic family of a plan's problems.
///
/// # Errors
/// When the problems are of a file.
pub fn family(plan: &Plan) -> Result<&Family> {
    match plan.problems.source() {
        Some(Source::Synthetic(family)) => Ok(family),
        _ => bail!(
            "the problems are of a file, and only those of a synthetic family can be perturbed\n\
             hint: write the variants yourself and evaluate them as [problems] held_out_file"
        ),
    }
}

/// One line, the same in every mode.
fn print(problem: &Problem, output: &Output) -> Result<()> {
    output.event(problem)?;
    output.data(serde_json::to_string(problem)?)?;
    Ok(())
}

impl Way {
    fn perturbation(self) -> Perturbation {
        match self {
            Way::Renumbered => Perturbation::Renumbered,
            Way::Changed => Perturbation::Changed,
            Way::Removed => Perturbation::Removed,
        }
    }
}
