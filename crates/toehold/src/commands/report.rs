//! `toehold report`: the HTML report of one run, or of several side by side.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use toehold_rollout::store::{Stage, StartKind, StoredTrace, TraceFilter};
use toehold_rollout::{Band, Store, SuccessCount, TokenizerFile};
use toehold_training::evaluation::PassAtK;
use toehold_training::trainer::Event;
use toehold_training::trainer::event::Mixture;
use toehold_training::{Plan, Recipe};
use toehold_verifier::Outcome;

use crate::commands::evaluate::{self, Measured, SetMeasurement};
use crate::commands::sample;
use crate::report::{
    Arm, BandRow, BeforeAfter, Collection, Estimate, Evaluation, Fact, GroupCounts, HeadlineRow, ReportData, StepPoint,
    SweepPoint, TraceView, Verdict, render,
};
use crate::run_folder::{Identity, read_events, write_whole};
use crate::terminal::Output;

/// Writes one self-contained HTML file: it needs no network and can be mailed.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Run folders; several are drawn side by side
    #[arg(value_name = "RUN", required = true)]
    pub runs: Vec<PathBuf>,
    /// The file to write [default: report.html in the only run, or in the folder above the first]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// A folder that is no run, or a file that cannot be written.
pub fn run(args: &ReportArgs, output: &Output) -> Result<()> {
    let folders: Vec<&Path> = args.runs.iter().map(PathBuf::as_path).collect();
    let first = folders[0];
    let above = if folders.len() == 1 { first } else { first.parent().unwrap_or(first) };
    let out = args.out.clone().unwrap_or_else(|| above.join("report.html"));
    let path = write(&folders, &out)?;
    output.event(&serde_json::json!({ "report": path }))?;
    output.data(path.display())?;
    Ok(())
}

/// Writes the report of the runs in `folders` to `out`.
///
/// # Errors
/// As [`run`].
pub fn write(folders: &[&Path], out: &Path) -> Result<PathBuf> {
    let runs: Vec<RunRecord> = folders.iter().map(|folder| RunRecord::read(folder)).collect::<Result<_>>()?;
    let html = render(&data(&runs)?)?;
    write_whole(out, html.as_bytes())?;
    Ok(out.to_owned())
}

/// Everything a finished or unfinished run left behind.
pub struct RunRecord {
    /// Its plan.
    pub plan: Plan,
    /// Its plan as text.
    pub recipe: String,
    /// What it was made with.
    pub identity: Identity,
    /// What happened.
    pub events: Vec<Event>,
    /// What was measured, once the stage is done.
    pub measured: Option<Measured>,
    /// Its store.
    pub store: Store,
    /// The base policy's tokenizer, while the model folder is there.
    pub tokenizer: Option<TokenizerFile>,
}

impl RunRecord {
    /// Reads a run's folder.
    ///
    /// # Errors
    /// When it is none.
    pub fn read(folder: &Path) -> Result<RunRecord> {
        let path = folder.join("recipe.toml");
        if !path.exists() {
            bail!("{} is no run: it has no recipe.toml\nhint: a run's folder is runs/NAME", folder.display());
        }
        let recipe = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let plan: Plan = Recipe::parse(&recipe, &[])?.resolve().with_context(|| path.display().to_string())?;
        let identity = folder.join("identity.json");
        let identity =
            std::fs::read_to_string(&identity).with_context(|| format!("cannot read {}", identity.display()))?;
        Ok(RunRecord {
            tokenizer: TokenizerFile::open(&plan.policy.model).ok(),
            identity: serde_json::from_str(&identity)?,
            events: read_events(&folder.join("events.jsonl"))?,
            measured: evaluate::read(folder)?,
            store: Store::open(folder.join("traces.db"))?,
            plan,
            recipe,
        })
    }

    /// FLOPs in all, FLOPs before the first step, optimizer steps.
    pub fn cost(&self) -> (f64, f64, u64) {
        let mut cost = (0.0, 0.0, 0);
        for event in &self.events {
            match event {
                Event::Started { flops, .. } => cost = (*flops, *flops, 0),
                Event::Step(at) => cost = (at.flops, cost.1, at.step),
                _ => {}
            }
        }
        cost
    }
}

fn data(runs: &[RunRecord]) -> Result<ReportData> {
    let first = &runs[0];
    let title = match runs {
        [only] => only.plan.run.name.clone(),
        _ => runs.iter().map(|run| run.plan.run.name.as_str()).collect::<Vec<_>>().join(" · "),
    };
    let mut collections: Vec<Collection> = Vec::new();
    for run in runs {
        let found = collection(run)?;
        // Runs that share a collection show it once.
        if !found.bands.is_empty() && !collections.iter().any(|known| known.bands == found.bands) {
            collections.push(Collection { name: if runs.len() == 1 { String::new() } else { found.name }, ..found });
        }
    }
    let mut traces = Vec::new();
    for run in runs {
        traces.extend(trace_views(run, runs.len() == 1)?);
    }
    Ok(ReportData {
        title,
        summary: summary(runs),
        facts: facts(first),
        headline: runs.iter().map(headline).collect(),
        arms: runs.iter().map(arm).collect(),
        collections,
        traces,
        recipe: runs.iter().map(|run| run.recipe.trim_end()).collect::<Vec<_>>().join("\n\n\n"),
    })
}

fn summary(runs: &[RunRecord]) -> String {
    let line = |run: &RunRecord| {
        let measured = run.measured.as_ref()?;
        let set = |m: &evaluate::Measurement| m.held_out.as_ref().unwrap_or(&m.train).count;
        let (before, after) = (set(&measured.before), set(&measured.after));
        Some(format!(
            "{}: {} before, {} after",
            run.plan.run.name,
            crate::terminal::percent(before.rate()?),
            crate::terminal::percent(after.rate()?)
        ))
    };
    let lines: Vec<String> = runs.iter().filter_map(line).collect();
    match lines.is_empty() {
        true => "Not evaluated yet.".to_owned(),
        false => format!("Success on plain problems. {}.", lines.join("; ")),
    }
}

fn facts(run: &RunRecord) -> Vec<Fact> {
    let fact = |name: &str, value: String| Fact { name: name.to_owned(), value };
    vec![
        fact("policy", format!("{} ({})", run.plan.policy.model.display(), run.identity.model)),
        fact("tokenizer", run.identity.tokenizer.clone()),
        fact("problems", run.identity.problems.clone()),
        fact("seed", run.plan.run.seed.to_string()),
    ]
}

fn headline(run: &RunRecord) -> HeadlineRow {
    let (flops, before, steps) = run.cost();
    let after = run.measured.as_ref().map(|measured| &measured.after);
    let held_out = after.and_then(|after| after.held_out.as_ref());
    HeadlineRow {
        name: run.plan.run.name.clone(),
        flops,
        flops_collection: before,
        steps,
        train: after.map(|after| after.train.count.into()),
        held_out: held_out.map(|set| set.count.into()),
        pass_at_k: after.map(|after| estimates(held_out.unwrap_or(&after.train))).unwrap_or_default(),
    }
}

fn estimates(set: &SetMeasurement) -> Vec<Estimate> {
    let estimate = |at: &PassAtK| Estimate { k: at.k, value: at.mean, low: at.interval.low, high: at.interval.high };
    set.pass_at_k.iter().map(estimate).collect()
}

fn arm(run: &RunRecord) -> Arm {
    let mut evaluations: BTreeMap<u64, Evaluation> = BTreeMap::new();
    let mut steps = Vec::new();
    for event in &run.events {
        match event {
            Event::Evaluated(at) => {
                let point = evaluations.entry(at.step).or_default();
                (point.step, point.flops) = (at.step, at.flops);
                match at.set.as_str() {
                    "train" => point.train = Some(at.count.into()),
                    _ => point.held_out = Some(at.count.into()),
                }
            }
            Event::Step(at) => steps.push(StepPoint {
                step: at.step,
                plain: groups(at.plain.groups),
                prefixed: groups(at.prefixed.groups),
                entropy: Some(at.entropy),
                reward: Some(at.reward),
                gradient_norm: Some(at.gradient.gradient_norm),
                gradient_deviation: at.gradient.moments.map(|moments| moments.deviation),
                completion_tokens: Some(at.completion_tokens),
            }),
            _ => {}
        }
    }
    let measured = run.measured.as_ref();
    let sweep = |m: &evaluate::Measurement| {
        m.sweep.iter().map(|at| SweepPoint { fraction: at.share, success: at.count.into() }).collect()
    };
    let pass = |m: &evaluate::Measurement| estimates(m.held_out.as_ref().unwrap_or(&m.train));
    Arm {
        name: run.plan.run.name.clone(),
        evaluations: evaluations.into_values().collect(),
        steps,
        prefix_sweep: measured
            .map(|m| BeforeAfter { before: sweep(&m.before), after: sweep(&m.after) })
            .unwrap_or_default(),
        pass_at_k: measured.map(|m| BeforeAfter { before: pass(&m.before), after: pass(&m.after) }).unwrap_or_default(),
    }
}

fn groups(mixture: Mixture) -> GroupCounts {
    GroupCounts { all_fail: mixture.all_fail as u64, mixed: mixture.mixed as u64, all_pass: mixture.all_pass as u64 }
}

fn collection(run: &RunRecord) -> Result<Collection> {
    let base = run.identity.model.clone();
    let version = toehold_rollout::PolicyVersion { weights: base };
    let counts = run.store.counts(&version, Some(run.plan.run.seed))?;
    // A problem's collection is that of its plain start; the store knows which starts are plain.
    let plain: std::collections::HashSet<_> = run
        .store
        .starts(&toehold_rollout::store::StartFilter { problem: None, kind: Some(StartKind::Plain) })?
        .into_iter()
        .map(|start| start.id)
        .collect();
    let counts = counts.into_iter().filter(|(start, _)| plain.contains(start)).map(|(_, count)| count.success);
    let bands = sample::bands(counts);
    let row = |band: &Band| {
        let (problems, count): &(u64, SuccessCount) = bands.get(band)?;
        Some(BandRow {
            band: band.as_str().to_owned(),
            problems: *problems,
            attempts: count.attempts,
            successes: count.successes,
        })
    };
    Ok(Collection { name: run.plan.run.name.clone(), bands: Band::ALL.iter().filter_map(row).collect() })
}

/// A few traces that tell the run's story: a success that prefixes were cut from, an early and a late
/// rollout from a prefix, a late plain one.
fn trace_views(run: &RunRecord, all: bool) -> Result<Vec<TraceView>> {
    let problems = run.store.problems()?;
    let steps: BTreeMap<String, u64> =
        run.store.policies()?.into_iter().map(|policy| (policy.version.weights, policy.step)).collect();
    let mut chosen: Vec<StoredTrace> = Vec::new();
    let one = |filter: TraceFilter| -> Result<Option<StoredTrace>> {
        Ok(run.store.traces(&TraceFilter { limit: Some(1), ..filter })?.into_iter().next())
    };
    if all {
        let found = TraceFilter { stage: Some(Stage::Collect), outcome: Some(Outcome::Correct), ..Default::default() };
        chosen.extend(one(found)?);
    }
    let trained = TraceFilter { stage: Some(Stage::Train), ..Default::default() };
    let from = |kind| TraceFilter { kind: Some(kind), ..trained.clone() };
    chosen.extend(one(TraceFilter { outcome: Some(Outcome::Correct), ..from(StartKind::Prefixed) })?);
    for kind in [StartKind::Prefixed, StartKind::Plain] {
        let count = run.store.success(&from(kind))?.attempts;
        if count > 0 {
            chosen.extend(one(TraceFilter { offset: count - 1, ..from(kind) })?);
        }
    }
    let text = |tokens: &[u32]| match &run.tokenizer {
        Some(tokenizer) => tokenizer.decode_raw(tokens),
        None => tokens.iter().map(u32::to_string).collect::<Vec<_>>().join(" "),
    };
    let view = |stored: StoredTrace| {
        let problem = problems.iter().find(|problem| problem.id == stored.problem);
        TraceView {
            problem_id: stored.problem.as_str().to_owned(),
            problem: problem.map(|problem| problem.problem.clone()).unwrap_or_default(),
            prompt: text(&stored.trace.prompt),
            prefix: text(&stored.trace.prefix),
            completion: text(&stored.trace.completion.tokens),
            verdict: match stored.verdict.outcome {
                Outcome::Correct => Verdict::Correct,
                Outcome::Wrong => Verdict::Wrong,
                Outcome::NoAnswer => Verdict::NoAnswer,
                Outcome::Unreadable => Verdict::Unreadable,
            },
            extracted: stored.verdict.extracted,
            reference: problem.map(|problem| problem.answer.clone()).unwrap_or_default(),
            arm: run.plan.run.name.clone(),
            step: (stored.stage == Stage::Train)
                .then(|| steps.get(&stored.key.policy.weights).map(|step| step + 1))
                .flatten(),
            policy: stored.key.policy.weights,
        }
    };
    Ok(chosen.into_iter().map(view).collect())
}
