//! `toehold demo`: the whole job on problems and a base policy that it makes itself.
//!
//! Three methods from the same base and the same problems, at the same compute: PrefixRL runs first
//! and what it spent, the sampling of its prefixes included, is the budget of the other two.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use toehold_training::{Plan, Recipe};

use crate::commands::evaluate::rate;
use crate::commands::pretrain::{self, BaseFamily};
use crate::commands::report::{self, RunRecord};
use crate::commands::{run as run_command, sample};
use crate::prepare::{Prepared, folder_of};
use crate::run_folder::beside;
use crate::terminal::{self, Output};

/// Makes hard problems and a small base policy, samples until most problems have one success, and
/// trains from prefixes, plainly, and after imitation, at the same compute.
///
/// Nothing is downloaded. It takes minutes, can be stopped and started again at any moment, and ends
/// in a table and an HTML report.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// The folder to work in
    #[arg(long, value_name = "DIR", default_value = "runs/demo")]
    pub out: PathBuf,
    /// Seed of everything
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Problems to learn (and half as many held out)
    #[arg(long, default_value_t = 96)]
    pub problems: usize,
    /// Optimizer steps of PrefixRL
    #[arg(long, default_value_t = 80)]
    pub steps: u64,
}

/// The arms, in the order of the table; the first one sets the budget.
const ARMS: [(&str, &str); 3] = [
    ("prefix-rl", include_str!("../../../../recipes/prefix-rl.toml")),
    ("plain-rl", include_str!("../../../../recipes/plain-rl.toml")),
    ("sft-then-rl", include_str!("../../../../recipes/sft-then-rl.toml")),
];

/// Runs the command.
///
/// # Errors
/// A folder that cannot be written, or Ctrl-C.
pub fn run(args: &DemoArgs, output: &Output) -> Result<()> {
    output.say(format!(
        "toehold demo: {} problems that the base policy solves about once in a thousand tries",
        args.problems
    ));
    let base = args.out.join("base");
    if !base.is_dir() {
        fs::create_dir_all(&args.out).with_context(|| format!("cannot make {}", args.out.display()))?;
        pretrain::make(&BaseFamily::Chain.spec(args.seed, pretrain::CAREFUL), &base, output)?;
    }

    let [(name, text), others @ ..] = ARMS;
    let mut prepared = Prepared::open(plan(args, name, text, None)?)?;
    let mut folders = vec![prepared.folder.path().to_owned()];
    sample::execute(&mut prepared, output)?;
    for (name, text) in others {
        // Their folders are known before their budget is.
        share_collection(&folders[0], &folder_of(&plan(args, name, text, None)?))?;
    }
    run_command::execute(&mut prepared, output)?;
    let (budget, ..) = RunRecord::read(prepared.folder.path())?.cost();
    drop(prepared);
    for (name, text) in others {
        let mut prepared = Prepared::open(plan(args, name, text, Some(budget))?)?;
        run_command::execute(&mut prepared, output)?;
        folders.push(prepared.folder.path().to_owned());
    }

    let runs: Vec<RunRecord> = folders.iter().map(|folder| RunRecord::read(folder)).collect::<Result<_>>()?;
    for run in &runs {
        let (flops, before, steps) = run.cost();
        output.event(&serde_json::json!({
            "event": "demo", "arm": run.plan.run.name, "flops": flops, "flops_before_training": before,
            "steps": steps, "measured": run.measured,
        }))?;
    }
    output.data(table(&runs))?;
    let paths: Vec<&Path> = folders.iter().map(PathBuf::as_path).collect();
    let path = report::write(&paths, &args.out.join("report.html"))?;
    output.data(format!("report: {}", path.display()))?;
    Ok(())
}

fn plan(args: &DemoArgs, name: &str, text: &str, flops: Option<f64>) -> Result<Plan> {
    let mut set = vec![
        format!("run.name=\"{name}\""),
        format!("run.folder={}", toml::Value::from(args.out.display().to_string())),
        format!("run.seed={}", args.seed),
        format!("policy.model={}", toml::Value::from(args.out.join("base").display().to_string())),
        format!("problems.seed={}", args.seed),
        format!("problems.count={}", args.problems),
        format!("problems.held_out={}", args.problems.div_ceil(2)),
        "evaluate.samples=32".to_owned(),
        "evaluate.k=[1, 4, 16]".to_owned(),
        "evaluate.curve_samples=8".to_owned(),
        "evaluate.sweep_traces=48".to_owned(),
    ];
    match flops {
        // As many steps as the budget allows.
        Some(flops) => set.extend([format!("train.flops={flops:e}"), "train.steps=100000".to_owned()]),
        None => set.push(format!("train.steps={}", args.steps)),
    }
    Ok(Recipe::parse(text, &set)?.resolve()?)
}

/// Gives the run in `to` the traces that the run in `from` collected, unless it has a store already.
/// They are of the same policy, problems and seed, so sampling them again would give the same rows.
fn share_collection(from: &Path, to: &Path) -> Result<()> {
    let (source, target) = (from.join("traces.db"), to.join("traces.db"));
    if target.exists() || !source.exists() {
        return Ok(());
    }
    fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
    let beside = beside(&target);
    fs::copy(&source, &beside).with_context(|| format!("cannot copy {}", source.display()))?;
    fs::rename(&beside, &target).with_context(|| format!("cannot rename {}", beside.display()))
}

fn table(runs: &[RunRecord]) -> String {
    let row = |run: &RunRecord| {
        let (flops, before, steps) = run.cost();
        let mut row =
            vec![run.plan.run.name.clone(), terminal::flops(flops), terminal::flops(before), terminal::count(steps)];
        if let Some(measured) = &run.measured {
            row.push(rate(measured.before.train.count));
            row.push(rate(measured.after.train.count));
            row.push(measured.after.held_out.as_ref().map_or("–".to_owned(), |set| rate(set.count)));
        }
        row
    };
    let rows: Vec<Vec<String>> = runs.iter().map(row).collect();
    let headers = ["method", "compute", "before training", "steps", "train before", "train after", "held out after"];
    terminal::table(&headers, &rows)
}
