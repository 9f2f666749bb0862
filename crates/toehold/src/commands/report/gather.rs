//! From runs to what the report shows: reading only, no arithmetic but what the neighbours do.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use toehold_rollout::store::{Stage, StartKind, StoredTrace, TraceFilter};
use toehold_rollout::{Band, SuccessCount};
use toehold_training::evaluation::PassAtK;
use toehold_training::trainer::Event;
use toehold_training::trainer::event::Mixture;
use toehold_verifier::Outcome;

use super::compare::{Comparison, End, RunCurves, compare};
use super::record::RunRecord;
use super::seeds::{merge_arms, merge_collections, merge_rows};
use super::tables::tables;
use crate::commands::evaluate::{self, SetMeasurement};
use crate::commands::sample;
use crate::report::{
    Arm, BandRow, BeforeAfter, Collection, Estimate, Evaluation, Fact, GroupCounts, HeadlineRow, PlainTable,
    ReportData, StepPoint, SweepPoint, TraceView,
};

/// The data of a report on `runs`, by arms; with several seeds, over them. `target` is a rate to reach.
///
/// # Errors
/// Two runs of one name and seed, or a store that cannot be read.
pub(super) fn data(runs: &[RunRecord], target: f64) -> Result<(ReportData, Option<Comparison>)> {
    let mut arms: Vec<(&str, Vec<&RunRecord>)> = Vec::new();
    for run in runs {
        let name = run.plan.run.name.as_str();
        match arms.iter_mut().find(|arm| arm.0 == name) {
            None => arms.push((name, vec![run])),
            Some((_, seeds)) => {
                if seeds.iter().any(|other| other.plan.run.seed == run.plan.run.seed) {
                    bail!(
                        "two runs are called {name} and have seed {}, expected one run per name and seed\n\
                         hint: runs of one name are one arm, and the seeds tell them apart",
                        run.plan.run.seed
                    );
                }
                seeds.push(run);
            }
        }
    }
    let several = arms.iter().any(|(_, seeds)| seeds.len() > 1);
    let comparison = (runs.len() > 1).then(|| compare(&runs.iter().map(curves).collect::<Vec<_>>(), target));

    let mut collections: Vec<Collection> = Vec::new();
    for (name, seeds) in &arms {
        let found: Vec<Collection> = seeds.iter().map(|run| collection(run)).collect::<Result<_>>()?;
        let found = merge_collections(if runs.len() == 1 { String::new() } else { (*name).to_owned() }, &found);
        // Arms that share a collection show it once.
        if !found.bands.is_empty() && !collections.iter().any(|known| known.bands == found.bands) {
            collections.push(found);
        }
    }
    let first_seeds: Vec<&RunRecord> = arms.iter().filter_map(|(_, seeds)| seeds.first().copied()).collect();
    let mut traces = Vec::new();
    let mut outcomes = Vec::new();
    for run in &first_seeds {
        traces.extend(trace_views(run, runs.len() == 1)?);
        outcomes.extend(outcome_rows(run, runs.len() == 1)?);
    }
    let first = &runs[0];
    let data = ReportData {
        title: arms.iter().map(|arm| arm.0).collect::<Vec<_>>().join(" · "),
        summary: summary(&arms),
        facts: facts(runs),
        headline: arms.iter().map(|(_, seeds)| merge_rows(&map(seeds, headline))).collect(),
        arms: arms.iter().map(|(_, seeds)| merge_arms(&map(seeds, arm))).collect(),
        comparison: comparison.as_ref().filter(|_| several).map(tables).unwrap_or_default(),
        detail: if several {
            format!("Of one run per arm, that of seed {}.", first.plan.run.seed)
        } else {
            String::new()
        },
        collections,
        outcomes: outcome_table(outcomes),
        traces,
        recipe: first_seeds.iter().map(|run| run.recipe.trim_end()).collect::<Vec<_>>().join("\n\n\n"),
    };
    Ok((data, comparison))
}

fn map<T>(seeds: &[&RunRecord], read: fn(&RunRecord) -> T) -> Vec<T> {
    seeds.iter().map(|run| read(run)).collect()
}

/// What a comparison needs of a run.
fn curves(run: &RunRecord) -> RunCurves {
    let cost = run.cost();
    let (mut train, mut held_out) = (Vec::new(), Vec::new());
    for event in &run.events {
        if let Event::Evaluated(at) = event {
            let set = if at.set == "train" { &mut train } else { &mut held_out };
            set.extend(at.count.rate().map(|rate| (at.flops, rate)));
        }
    }
    let end = run.measured.as_ref().map(|measured| {
        let held_out = measured.after.held_out.as_ref();
        End {
            train: measured.after.train.count.rate(),
            held_out: held_out.and_then(|set| set.count.rate()),
            pass_at_k: held_out.map(|set| set.pass_at_k.iter().map(|at| (at.k, at.mean)).collect()).unwrap_or_default(),
        }
    });
    let (arm, seed) = (run.plan.run.name.clone(), run.plan.run.seed);
    RunCurves { arm, seed, collection: cost.collection, steps: cost.steps, train, held_out, end }
}

fn summary(arms: &[(&str, Vec<&RunRecord>)]) -> String {
    let line = |(name, seeds): &(&str, Vec<&RunRecord>)| {
        let set = |m: &evaluate::Measurement| m.held_out.as_ref().unwrap_or(&m.train).count;
        let (mut before, mut after) = (SuccessCount::default(), SuccessCount::default());
        for measured in seeds.iter().filter_map(|run| run.measured.as_ref()) {
            before.merge(set(&measured.before));
            after.merge(set(&measured.after));
        }
        let (before, after) = (before.rate()?, after.rate()?);
        Some(format!("{name} {} → {}", crate::terminal::percent(before), crate::terminal::percent(after)))
    };
    let lines: Vec<String> = arms.iter().filter_map(line).collect();
    match lines.is_empty() {
        true => "Not evaluated yet.".to_owned(),
        false => format!("Success without a prefix, before and after training: {}.", lines.join("; ")),
    }
}

fn facts(runs: &[RunRecord]) -> Vec<Fact> {
    // Every value once: the seeds of an arm differ in most, the arms of a seed in none.
    let fact = |name: &str, value: &dyn Fn(&RunRecord) -> String| {
        let mut values: Vec<String> = Vec::new();
        for value in runs.iter().map(value) {
            if !values.contains(&value) {
                values.push(value);
            }
        }
        Fact { name: name.to_owned(), value: values.join(", ") }
    };
    vec![
        fact("policy", &|run| format!("{} ({})", run.plan.policy.model.display(), run.identity.model)),
        fact("tokenizer", &|run| run.identity.tokenizer.clone()),
        fact("problems", &|run| run.identity.problems.clone()),
        fact("seed", &|run| run.plan.run.seed.to_string()),
    ]
}

fn headline(run: &RunRecord) -> HeadlineRow {
    let cost = run.cost();
    let after = run.measured.as_ref().map(|measured| &measured.after);
    let held_out = after.and_then(|after| after.held_out.as_ref());
    HeadlineRow {
        name: run.plan.run.name.clone(),
        flops: cost.flops,
        flops_collection: cost.collection,
        steps: cost.steps,
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
        seeds: 1,
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

/// One row for each stage that has traces: the run's name, the stage, and how many have each outcome.
fn outcome_rows(run: &RunRecord, alone: bool) -> Result<Vec<(String, BTreeMap<Outcome, u64>)>> {
    let mut rows = Vec::new();
    for stage in Stage::ALL {
        let found = run.store.outcomes(&TraceFilter { stage: Some(stage), ..TraceFilter::default() })?;
        if !found.is_empty() {
            let name = &run.plan.run.name;
            rows.push((if alone { stage.as_str().to_owned() } else { format!("{name}, {}", stage.as_str()) }, found));
        }
    }
    Ok(rows)
}

/// The rows as a table with a column for each outcome that any of them has; none without rows.
fn outcome_table(rows: Vec<(String, BTreeMap<Outcome, u64>)>) -> Option<PlainTable> {
    let found = |outcome: &Outcome| rows.iter().any(|(_, counts)| counts.contains_key(outcome));
    let columns: Vec<Outcome> = Outcome::ALL.into_iter().filter(found).collect();
    let row = |(name, counts): &(String, BTreeMap<Outcome, u64>)| {
        let count = |outcome| crate::terminal::count(counts.get(outcome).copied().unwrap_or(0));
        std::iter::once(name.clone()).chain(columns.iter().map(count)).collect()
    };
    let headers = std::iter::once("stage".to_owned()).chain(columns.iter().map(|outcome| outcome.as_str().to_owned()));
    (!rows.is_empty()).then(|| PlainTable {
        lead: "Stored traces by what the verifier said. What it could not judge (infra) counts as no attempt \
               anywhere and was not learnt from."
            .to_owned(),
        headers: headers.collect(),
        rows: rows.iter().map(row).collect(),
    })
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
            outcome: stored.verdict.outcome,
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
