//! `toehold evaluate`: the fourth stage, pass@k and the prefix sweep, before and after.
//!
//! What costs more sampling and is not asked of every run is measured on request (`--measure`): in here
//! `measure` (which ones, and what they share), `vote`, `online`, `robustness`, `drift`, `perturbed`,
//! `underthinking`, `keywords`, `likelihood`, `guessing`. `docs/evaluation.md` explains each.

mod drift;
mod guessing;
mod keywords;
mod likelihood;
mod measure;
mod online;
mod perturbed;
mod robustness;
mod underthinking;
mod vote;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::{Deserialize, Serialize};
use toehold_policy::Policy;
use toehold_rollout::store::Stage;
use toehold_rollout::{Learner as _, PolicyVersion, ProblemId, Sampler, Start, SuccessCount};
use toehold_training::curriculum::Source;
use toehold_training::evaluation::prefix_sweep::{SweepPoint, prefix_sweep};
use toehold_training::evaluation::{CountPlan, PassAtK, count_successes, pass_at_k_over_problems};
use toehold_training::trainer::checkpoint;

pub use self::measure::{Measure, MeasureArgs};
use crate::command_line::RecipeArgs;
use crate::commands::train::{finished, first};
use crate::engines::{self, Engines, RemotePlan};
use crate::interrupt::{self, Interrupted};
use crate::material;
use crate::prepare::{self, Prepared};
use crate::run_folder::write_whole;
use crate::terminal::{self, Output, Progress};

/// Measures the base policy and the trained one on plain problems, and from prefixes.
#[derive(Debug, Args)]
pub struct EvaluateArgs {
    /// Which recipe
    #[command(flatten)]
    pub recipe: RecipeArgs,
    /// What else is measured
    #[command(flatten)]
    pub more: MeasureArgs,
}

/// What was measured; kept as `evaluation.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// The base policy.
    pub before: Measurement,
    /// The policy that training ended with.
    pub after: Measurement,
}

/// What was measured of one policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// Its weights.
    pub policy: PolicyVersion,
    /// On the problems that were trained on.
    pub train: SetMeasurement,
    /// On held-out problems, where there are any.
    pub held_out: Option<SetMeasurement>,
    /// Success by the share of a stored trace that is given; empty without stored successes.
    pub sweep: Vec<SweepPoint>,
}

/// Success and pass@k on one set of plain problems.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SetMeasurement {
    /// Over all problems.
    pub count: SuccessCount,
    /// pass@k with intervals over problems.
    pub pass_at_k: Vec<PassAtK>,
}

/// Runs the command.
///
/// # Errors
/// Bad input, nothing trained yet, or Ctrl-C.
pub fn run(args: &EvaluateArgs, output: &Output) -> Result<()> {
    let prepared = Prepared::open(prepare::plan(&args.recipe)?, output)?;
    execute(&prepared, output)?;
    measure::execute(&prepared, &args.more, output)
}

/// The stage itself, and its table.
///
/// # Errors
/// As [`measured`].
pub fn execute(prepared: &Prepared, output: &Output) -> Result<()> {
    let measured = measured(prepared, output)?;
    output.event(&measured)?;
    output.data(table(&measured))?;
    Ok(())
}

/// Measures what `evaluation.json` does not have, and says nothing.
///
/// # Errors
/// Training is unfinished, a policy cannot sample, or Ctrl-C.
pub fn measured(prepared: &Prepared, output: &Output) -> Result<Measured> {
    if let Some(measured) = read(prepared.folder.path())? {
        return Ok(measured);
    }
    let measured = measure_both(prepared, output)?;
    let path = prepared.folder.path().join("evaluation.json");
    write_whole(&path, serde_json::to_string(&measured)?.as_bytes())?;
    Ok(measured)
}

/// What was measured in a run's folder; none before the stage is done.
///
/// # Errors
/// When the file is there and cannot be read.
pub fn read(folder: &Path) -> Result<Option<Measured>> {
    let path = folder.join("evaluation.json");
    if !path.exists() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is no evaluation", path.display())).map(Some)
}

/// The checkpoint that training ended with.
fn last_checkpoint(prepared: &Prepared) -> Result<PathBuf> {
    if finished(prepared)?.is_none() {
        bail!("training is not finished\nhint: `{}` comes first", prepared.resume_command("train"));
    }
    match checkpoint::latest(&prepared.folder.checkpoints())? {
        Some((checkpoint, _)) => Ok(checkpoint),
        None => bail!("{} has no checkpoint", prepared.folder.checkpoints().display()),
    }
}

/// The policy of a checkpoint, in the place of another.
fn restored(mut policy: Policy, checkpoint: &Path) -> Result<Policy> {
    policy.restore(checkpoint)?;
    policy.publish()?;
    Ok(policy)
}

/// How completions of plain problems are sampled, `samples` of each.
fn count_plan(prepared: &Prepared, samples: u32) -> CountPlan {
    CountPlan {
        samples,
        params: prepared.evaluation_sampling(),
        // Apart from the seeds of collection and training.
        seed: toehold_training::random::seed_for(prepared.plan.run.seed, "final evaluation", &[]),
        in_flight: prepared.plan.collect.in_flight,
    }
}

/// The plain starts that are measured: of training problems, and of held-out ones where there are.
pub fn measured_starts(prepared: &Prepared) -> (Vec<Start>, Option<Vec<Start>>) {
    let settings = &prepared.plan.evaluate;
    let held_out = || first(prepared.held_out_starts.clone(), settings.held_out_problems);
    let train = first(prepared.starts.clone(), settings.train_problems);
    (train, (!prepared.held_out.is_empty()).then(held_out))
}

/// The sets of plain problems that are measured, by name: training ones, and held-out ones where there are.
fn plain_sets(prepared: &Prepared) -> Vec<(&'static str, Vec<Start>)> {
    let (train, held_out) = measured_starts(prepared);
    std::iter::once(("train", train)).chain(held_out.map(|starts| ("held out", starts))).collect()
}

/// The traces that succeeded, the first one of each problem, then the second one of each, and so on: a
/// part of them is of as many problems as it can be.
fn sweep_sources(sources: Vec<Source>) -> Vec<Source> {
    let mut seen: HashMap<ProblemId, usize> = HashMap::new();
    let mut ranked: Vec<(usize, Source)> = Vec::new();
    for source in sources.into_iter().filter(|source| source.is_correct) {
        let rank = seen.entry(source.problem.clone()).or_default();
        ranked.push((*rank, source));
        *rank += 1;
    }
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().map(|(_, source)| source).collect()
}

fn measure_both(prepared: &Prepared, output: &Output) -> Result<Measured> {
    let checkpoint = last_checkpoint(prepared)?;
    let store = prepared.folder.store()?;
    let sources = sweep_sources(material::successes(prepared, &store)?);
    let sources = first(sources, prepared.plan.evaluate.sweep_traces);
    let total = 2 * (2 + u64::from(!sources.is_empty()) * prepared.plan.evaluate.prefix_sweep.len() as u64);
    let mut bar = Progress::start(output, "evaluate", Some(total), "measurements");
    let mut done = 0;
    let mut tick = |label: &str| {
        bar.set(done, label);
        done += 1;
        if interrupt::requested() {
            return Err(anyhow::Error::from(Interrupted { resume: prepared.resume_command("evaluate") }));
        }
        Ok(())
    };

    let remote = RemotePlan::of(prepared, Stage::Evaluate)?;
    let mut policy = Engines::new(prepared.base.fork(), remote)?;
    let both = (|| {
        let before = measure(prepared, &mut policy, &sources, &mut tick)?;
        policy.restore(&checkpoint)?;
        policy.publish()?;
        let after = measure(prepared, &mut policy, &sources, &mut tick)?;
        policy.say(output);
        Ok(Measured { before, after })
    })();
    both.map_err(|error| engines::or_interrupted(error, &prepared.resume_command("evaluate")))
}

fn measure(
    prepared: &Prepared,
    policy: &mut dyn Sampler,
    sources: &[Source],
    tick: &mut dyn FnMut(&str) -> Result<()>,
) -> Result<Measurement> {
    let settings = &prepared.plan.evaluate;
    let problems = prepared.all_problems();
    let judge = prepared.judge(&problems);
    let plan = count_plan(prepared, settings.samples);
    let set = |starts: Vec<Start>, policy: &mut dyn Sampler| -> Result<SetMeasurement> {
        let counts: Vec<SuccessCount> =
            count_successes(policy, &judge, &starts, &plan)?.iter().map(|problem| problem.count).collect();
        let mut count = SuccessCount::default();
        counts.iter().for_each(|&one| count.merge(one));
        let pass_at_k = settings.k.iter().filter_map(|&k| pass_at_k_over_problems(&counts, k, plan.seed)).collect();
        Ok(SetMeasurement { count, pass_at_k })
    };
    tick("training problems")?;
    let (train, held_out) = measured_starts(prepared);
    let train = set(train, policy)?;
    tick("held-out problems")?;
    let held_out = held_out.map(|starts| set(starts, policy)).transpose()?;
    let mut sweep = Vec::new();
    let sweep_plan = CountPlan { samples: settings.curve_samples, ..plan.clone() };
    for &share in settings.prefix_sweep.iter().filter(|_| !sources.is_empty()) {
        tick(&format!("{} of a trace given", terminal::percent(share)))?;
        sweep.extend(prefix_sweep(policy, &judge, sources, &[share], &sweep_plan)?);
    }
    Ok(Measurement { policy: policy.version(), train, held_out, sweep })
}

fn table(measured: &Measured) -> String {
    let mut rows = Vec::new();
    for (name, measurement) in [("before", &measured.before), ("after", &measured.after)] {
        let sets = [("train", Some(&measurement.train)), ("held out", measurement.held_out.as_ref())];
        for (set, found) in sets.into_iter().filter_map(|(set, found)| found.map(|found| (set, found))) {
            let mut row = vec![name.to_owned(), set.to_owned(), rate(found.count)];
            row.extend(found.pass_at_k.iter().map(|at| terminal::percent(at.mean)));
            rows.push(row);
        }
    }
    let ks: Vec<String> = measured.before.train.pass_at_k.iter().map(|at| format!("pass@{}", at.k)).collect();
    let mut headers = vec!["policy", "problems", "success [95 %]"];
    headers.extend(ks.iter().map(String::as_str));
    let mut text = terminal::table(&headers, &rows);
    if !measured.before.sweep.is_empty() {
        let rows: Vec<Vec<String>> = measured
            .before
            .sweep
            .iter()
            .zip(&measured.after.sweep)
            .map(|(before, after)| vec![terminal::percent(before.share), rate(before.count), rate(after.count)])
            .collect();
        text.push_str("\n\n");
        text.push_str(&terminal::table(&["given", "before [95 %]", "after [95 %]"], &rows));
    }
    text
}

/// A rate with its interval.
pub fn rate(count: SuccessCount) -> String {
    let (low, high) = count.interval();
    count.rate().map_or("–".to_owned(), |rate| terminal::percent_with_interval(rate, low, high))
}

#[cfg(test)]
mod tests {
    use super::{Source, sweep_sources};

    /// A failure curriculum's material has every trace: a sweep over the first ones was over the failures
    /// and successes of a few problems.
    #[test]
    fn the_sweep_is_over_successes_of_many_problems() {
        let source = |(row, problem, is_correct): (i64, &str, bool)| Source {
            problem: problem.into(),
            prompt: vec![1],
            tokens: vec![2],
            row: Some(row),
            is_correct,
            limit: 1,
            inside: Vec::new(),
        };
        let all = [(1, "p", true), (2, "p", false), (3, "p", true), (4, "q", false), (5, "q", true), (6, "p", true)];
        let rows: Vec<i64> = sweep_sources(all.map(source).into()).iter().filter_map(|source| source.row).collect();
        assert_eq!(rows, [1, 5, 3, 6]);
        assert!(sweep_sources(Vec::new()).is_empty());
    }
}
