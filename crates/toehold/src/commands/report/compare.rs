//! Arms over seeds, in plain numbers: how far each is at the same compute, and what it needs to get
//! somewhere.
//!
//! Invariants: the seeds of a comparison are matched one by one. What finding prefixes costs is luck,
//! so each seed has its own budget, which is the compute that all of its arms have used up, and success
//! is compared there. What an arm needs to reach a target is looked for on its whole curve; a run that
//! never reaches it has no cost.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use toehold_training::evaluation::compare::{
    Arm, Curve, SeedMean, common_budget, flops_to_reach, mean_over_seeds, value_at,
};

/// A run ends with the step that uses up its budget, so arms of one budget end this close together.
const SLACK: f64 = 1.02;

/// What a comparison needs of one run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunCurves {
    /// The arm: the run's name.
    pub arm: String,
    /// Its seed.
    pub seed: u64,
    /// FLOPs that collecting took; part of the FLOPs of every point.
    pub collection: f64,
    /// Optimizer steps.
    pub steps: u64,
    /// FLOPs and success on plain training problems.
    pub train: Vec<(f64, f64)>,
    /// FLOPs and success on plain held-out problems; empty where none are held out.
    pub held_out: Vec<(f64, f64)>,
    /// What was measured at the end, with more attempts than the curves have.
    pub end: Option<End>,
}

/// The last measurement of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct End {
    /// Success on plain training problems.
    pub train: Option<f64>,
    /// Success on plain held-out problems.
    pub held_out: Option<f64>,
    /// pass@k on held-out problems, by k.
    pub pass_at_k: Vec<(u32, f64)>,
}

/// Arms over seeds, in the order in which they were given.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// The seeds that occur.
    pub seeds: Vec<u64>,
    /// What the arms are asked to reach on held-out problems: the best of the baseline's mean over
    /// seeds, then a fixed rate. The first is missing when the baseline never had a success.
    pub targets: Vec<Target>,
    /// One line per arm.
    pub arms: Vec<ArmLine>,
}

/// A rate to reach.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Target {
    /// The rate, in (0, 1].
    pub rate: f64,
    /// The arm whose best it is; none for a fixed rate.
    pub best_of: Option<String>,
}

/// One arm.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ArmLine {
    /// Its name.
    pub arm: String,
    /// Compute in all, collection included, up to the budget.
    pub flops: Option<SeedMean>,
    /// The part of it that collecting took.
    pub collection: Option<SeedMean>,
    /// Optimizer steps.
    pub steps: Option<SeedMean>,
    /// On plain training problems, at the budget.
    pub train: OverSeeds,
    /// On plain held-out problems, at the budget.
    pub held_out: OverSeeds,
    /// pass@k on held-out problems, of runs that ended at the budget.
    pub pass_at_k: BTreeMap<u32, OverSeeds>,
    /// For each of the comparison's targets.
    pub reached: Vec<Reached>,
}

/// One number per seed.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct OverSeeds {
    /// Seed by seed; a seed without a measurement is missing.
    pub values: BTreeMap<u64, f64>,
    /// Their mean with Student's interval.
    pub mean: Option<SeedMean>,
    /// This minus the first arm's, over the seeds that both have; none for the first arm.
    pub minus_first: Option<SeedMean>,
}

/// What it took to reach a target.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reached {
    /// Seeds that reached it.
    pub seeds: usize,
    /// All seeds.
    pub of: usize,
    /// FLOPs when it was first reached, over the seeds that did.
    pub flops: Option<SeedMean>,
    /// The same without the collection.
    pub without_collection: Option<SeedMean>,
}

/// Compares runs: those of one name are one arm. The baseline is `plain-rl`, or else the second arm,
/// or else the only one.
pub fn compare(runs: &[RunCurves], target: f64) -> Comparison {
    let mut names: Vec<&str> = Vec::new();
    runs.iter().for_each(|run| {
        if !names.contains(&run.arm.as_str()) {
            names.push(&run.arm)
        }
    });
    let of = |name: &str| runs.iter().filter(|run| run.arm == name).collect::<Vec<_>>();
    let mut seeds: Vec<u64> = runs.iter().map(|run| run.seed).collect();
    seeds.sort_unstable();
    seeds.dedup();

    let baseline = names.iter().find(|name| **name == "plain-rl").or(names.get(1)).or(names.first());
    let best = baseline.and_then(|name| {
        let rate = best_of_mean(&of(name))?;
        Some(Target { rate, best_of: Some((*name).to_owned()) })
    });
    let targets: Vec<Target> = best.into_iter().chain([Target { rate: target, best_of: None }]).collect();
    let budgets: BTreeMap<u64, f64> = seeds.iter().filter_map(|&seed| Some((seed, budget(runs, seed)?))).collect();
    let mut arms: Vec<ArmLine> = Vec::new();
    for name in names {
        let line = arm_line(name, &of(name), &budgets, &targets, arms.first());
        arms.push(line);
    }
    Comparison { seeds, targets, arms }
}

fn arm_line(
    name: &str,
    runs: &[&RunCurves],
    budgets: &BTreeMap<u64, f64>,
    targets: &[Target],
    first: Option<&ArmLine>,
) -> ArmLine {
    let with_budget = || runs.iter().filter_map(|run| Some((*run, *budgets.get(&run.seed)?)));
    let mean = |read: &dyn Fn(&RunCurves, f64) -> f64| {
        mean_over_seeds(&with_budget().map(|(run, budget)| read(run, budget)).collect::<Vec<_>>())
    };
    let over_seeds = |first: Option<&OverSeeds>, read: &dyn Fn(&RunCurves, f64) -> Option<f64>| {
        let values: BTreeMap<u64, f64> =
            with_budget().filter_map(|(run, budget)| Some((run.seed, read(run, budget)?))).collect();
        let minus_first = first.and_then(|first| {
            let pairs = values.iter().filter_map(|(seed, value)| Some(value - first.values.get(seed)?));
            mean_over_seeds(&pairs.collect::<Vec<_>>())
        });
        let mean = mean_over_seeds(&values.values().copied().collect::<Vec<_>>());
        OverSeeds { values, mean, minus_first }
    };
    let ended = |run: &RunCurves, budget: f64| run.end.clone().filter(|_| end_of(run) <= Some(budget * SLACK));
    let ks: BTreeSet<u32> =
        runs.iter().filter_map(|run| run.end.as_ref()).flat_map(|end| end.pass_at_k.iter().map(|at| at.0)).collect();
    ArmLine {
        arm: name.to_owned(),
        flops: mean(&|run, budget| end_of(run).map_or(budget, |end| end.min(budget * SLACK))),
        collection: mean(&|run, _| run.collection),
        steps: mean(&|run, _| run.steps as f64),
        train: over_seeds(first.map(|first| &first.train), &|run, budget| {
            ended(run, budget).and_then(|end| end.train).or_else(|| at(&run.train, budget))
        }),
        held_out: over_seeds(first.map(|first| &first.held_out), &|run, budget| {
            ended(run, budget).and_then(|end| end.held_out).or_else(|| at(&run.held_out, budget))
        }),
        pass_at_k: ks
            .into_iter()
            .map(|k| {
                let value =
                    |run: &RunCurves, budget| ended(run, budget)?.pass_at_k.iter().find(|at| at.0 == k).map(|at| at.1);
                (k, over_seeds(first.and_then(|first| first.pass_at_k.get(&k)), &value))
            })
            .collect(),
        reached: targets.iter().map(|target| reached(runs, target.rate)).collect(),
    }
}

fn reached(runs: &[&RunCurves], rate: f64) -> Reached {
    let costs: Vec<(f64, f64)> = runs
        .iter()
        .filter_map(|run| Some((flops_to_reach(&curve(run.seed, goal(run)), rate)?, run.collection)))
        .collect();
    Reached {
        seeds: costs.len(),
        of: runs.len(),
        flops: mean_over_seeds(&costs.iter().map(|cost| cost.0).collect::<Vec<_>>()),
        without_collection: mean_over_seeds(&costs.iter().map(|cost| cost.0 - cost.1).collect::<Vec<_>>()),
    }
}

/// The largest value of an arm's mean over seeds, wherever all of its seeds were measured; none when
/// that is 0, which everything reaches before it began.
fn best_of_mean(runs: &[&RunCurves]) -> Option<f64> {
    let curves: Vec<Curve> = runs.iter().map(|run| curve(run.seed, goal(run))).collect();
    let grid = curves.iter().flat_map(|curve| curve.points.iter().map(|point| point.0));
    let mean = |flops: f64| {
        let values: Option<Vec<f64>> = curves.iter().map(|curve| value_at(curve, flops)).collect();
        Some(mean_over_seeds(&values?)?.mean)
    };
    grid.filter_map(mean).reduce(f64::max).filter(|best| *best > 0.0)
}

/// What all arms of a seed have used up.
fn budget(runs: &[RunCurves], seed: u64) -> Option<f64> {
    let of_seed = runs.iter().filter(|run| run.seed == seed);
    let curves = of_seed.map(|run| curve(seed, goal(run))).collect();
    common_budget(&[Arm { name: String::new(), curves }])
}

/// Held-out problems count; where there are none, those that were trained on.
fn goal(run: &RunCurves) -> &[(f64, f64)] {
    if run.held_out.is_empty() { &run.train } else { &run.held_out }
}

fn end_of(run: &RunCurves) -> Option<f64> {
    goal(run).last().map(|point| point.0)
}

fn at(points: &[(f64, f64)], budget: f64) -> Option<f64> {
    value_at(&curve(0, points), budget * SLACK)
}

fn curve(seed: u64, points: &[(f64, f64)]) -> Curve {
    Curve { seed, points: points.to_vec() }
}
