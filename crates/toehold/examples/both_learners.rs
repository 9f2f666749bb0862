//! The same traces, learnt by a server of the Tinker API and by the policy of this process, from one adapter:
//!
//! ```text
//! cargo run --release --workspace --example both_learners -- RUN ADAPTER
//! ```
//!
//! RUN is a run that learnt on a server: its recipe, its server, and the traces that were sampled there. ADAPTER is
//! what that server begins with (`interop/skyrl/start.py`), as a folder of PEFT's. A new model on the server and
//! ADAPTER learn from RUN's traces, step by step; each makes its coefficients of its own log-probabilities.
//! A line per step says how far they are apart:
//!
//! * *apart*: largest difference of the log-probabilities of all tokens of the step, before it;
//! * *loss*: `Σ coefficient · log π`, whose gradient a step applies; *norm*: of the gradient, as the learner says;
//! * *change*: what the step did to the log-probabilities of these tokens; its mean size, the correlation of the
//!   two learners' changes, and the share of tokens that both move the same way, of those moved by 1e-4 and more.
//!
//! A step in which no group is mixed moves nothing and is left out.
#![allow(clippy::print_stdout, reason = "an example may print")]

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use toehold::engines::tinker_options;
use toehold::policy::{Policy, PolicyOptions};
use toehold::rollout::remote::tinker::Tinker;
use toehold::rollout::store::{Stage, StoredTrace, TraceFilter};
use toehold::rollout::{Learner, Store, Trace};
use toehold::training::objective::batch::{self, GroupView, Weight};
use toehold::training::objective::{Ending, TraceView, Weigh as _};
use toehold::training::recipe::{self, GradientReduction, ScoringPasses};
use toehold::training::{Plan, Recipe};
use toehold::verifier::Outcome;

fn main() -> Result<()> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [run, adapter] = &arguments[..] else { anyhow::bail!("expected RUN ADAPTER") };
    let plan: Plan = Recipe::read(&run.join("recipe.toml"), &[])?.resolve()?;
    let filter = TraceFilter { stage: Some(Stage::Train), ..TraceFilter::default() };
    let stored = Store::open_read_only(run.join("traces.db"))?.traces(&filter)?;
    let mut here = here(&plan, adapter)?;
    let mut there = there(&plan, &here)?;
    println!("step traces  apart     loss here     there    norm here     there    change   correlation  same sign");
    let mut steps = Vec::new();
    for (step, traces) in stored.chunks(plan.train.starts * plan.train.group as usize).enumerate() {
        let weighed = weigh(&plan, traces)?;
        if weighed.is_empty() {
            continue;
        }
        let all: Vec<&Trace> = traces.iter().map(|stored| &stored.trace).collect();
        let here = learn(&plan, &mut here, &all, &weighed)?;
        let there = learn(&plan, &mut there, &all, &weighed)?;
        let apart = largest(&here.before, &there.before);
        let (correlation, same) = (correlation(&here.change, &there.change), same_sign(&here.change, &there.change));
        println!(
            "{:4} {:6}  {apart:.1e}  {:10.5}{:10.5}  {:10.5}{:10.5}  {:8.4}  {correlation:12.5}  {:8.2} %",
            step + 1,
            weighed.len(),
            here.loss,
            there.loss,
            here.norm,
            there.norm,
            mean_size(&here.change),
            100.0 * same
        );
        steps.push((correlation, same));
    }
    let least = |of: fn(&(f64, f64)) -> f64| steps.iter().map(of).fold(f64::INFINITY, f64::min);
    println!(
        "{} steps that moved something: the changes' correlation is at least {:.5}, the same sign have at least {:.2} %",
        steps.len(),
        least(|step| step.0),
        100.0 * least(|step| step.1)
    );
    Ok(())
}

/// The policy of this process, with the optimizer of the server.
fn here(plan: &Plan, adapter: &Path) -> Result<Policy> {
    let learner = plan.learner.as_ref().context("the run did not learn on a server")?;
    let mut options = PolicyOptions::default();
    options.optimizer.beta1 = learner.beta1;
    options.optimizer.beta2 = learner.beta2;
    options.optimizer.epsilon = learner.eps;
    options.optimizer.weight_decay = learner.weight_decay;
    // The API has no clipping.
    options.optimizer.clip = f64::INFINITY;
    Ok(Policy::open(adapter, options)?)
}

/// A new model on the run's server.
fn there(plan: &Plan, here: &Policy) -> Result<Tinker> {
    let learner = plan.learner.as_ref().context("the run did not learn on a server")?;
    ensure!(learner.base_model.is_some(), "the run does not name its base");
    // Every trace is scored, and how the server adds up is measured, whatever the run did.
    let learner = recipe::Learner {
        key_env: None,
        passes: ScoringPasses::Two,
        reduction: GradientReduction::Measure,
        ..learner.clone()
    };
    Ok(Tinker::connect(tinker_options(plan, here, &learner)?)?)
}

/// A trace that moves something.
struct Weighed<'a> {
    trace: &'a Trace,
    rewards: Vec<f64>,
    weight: Weight,
}

/// The weights of one step's traces, which stand group after group.
fn weigh<'a>(plan: &Plan, traces: &'a [StoredTrace]) -> Result<Vec<Weighed<'a>>> {
    let groups: Vec<&[StoredTrace]> = traces.chunks(plan.train.group as usize).collect();
    let view = |group: &&'a [StoredTrace]| {
        let first = &group[0].key;
        let is_one = group.iter().all(|one| (&one.key.start, &one.key.policy) == (&first.start, &first.policy));
        ensure!(is_one, "row {} begins no group", group[0].row);
        Ok(GroupView {
            rewards: group.iter().map(|one| f64::from(u8::from(one.verdict.outcome == Outcome::Correct))).collect(),
            completions: group.iter().map(|one| one.trace.completion.tokens.as_slice()).collect(),
            endings: group.iter().map(|one| &one.trace.completion).map(ending).collect(),
            ..GroupView::default()
        })
    };
    let views = groups.iter().map(view).collect::<Result<Vec<_>>>()?;
    let train = &plan.train;
    let weights = batch::weights(&plan.objective, &views, train.aggregation, train.max_tokens);
    let mut weighed = Vec::new();
    for (group, weights) in groups.iter().zip(weights) {
        for (one, weight) in group.iter().zip(weights.own) {
            weighed.extend(weight.map(|weight| Weighed {
                trace: &one.trace,
                rewards: weights.rewards.clone(),
                weight,
            }));
        }
    }
    Ok(weighed)
}

fn ending(completion: &toehold::rollout::Completion) -> Ending {
    Ending { tokens: completion.tokens.len(), stop: completion.stop }
}

/// What one step of one learner was.
struct Step {
    /// Log-probabilities of all the tokens before it.
    before: Vec<f64>,
    /// What it changed of these.
    change: Vec<f64>,
    loss: f64,
    norm: f64,
}

fn learn(plan: &Plan, learner: &mut impl Learner, all: &[&Trace], weighed: &[Weighed<'_>]) -> Result<Step> {
    let before = scores(learner, all)?;
    let traces: Vec<&Trace> = weighed.iter().map(|weighed| weighed.trace).collect();
    let mut loss = 0.0;
    learner.accumulate(&traces, &mut |at, scores| {
        let Weighed { trace, rewards, weight } = &weighed[at];
        let view = TraceView {
            advantage: weight.advantage,
            rewards,
            current: &scores.current,
            behavior: &trace.completion.behavior,
            entropy: scores.entropy.as_deref(),
        };
        let coefficients = plan.objective.modifiers().coefficients(&plan.objective, &view, None);
        let coefficients: Vec<f64> = coefficients.into_iter().map(|coefficient| coefficient * weight.scale).collect();
        loss += coefficients.iter().zip(&scores.current).map(|(c, current)| c * f64::from(*current)).sum::<f64>();
        coefficients.into_iter().map(|coefficient| coefficient as f32).collect()
    })?;
    let norm = learner.step(plan.train.learning_rate)?.gradient_norm;
    let change = scores(learner, all)?.iter().zip(&before).map(|(after, before)| after - before).collect();
    Ok(Step { before, change, loss, norm })
}

fn scores(learner: &mut impl Learner, traces: &[&Trace]) -> Result<Vec<f64>> {
    Ok(learner.score(traces)?.into_iter().flat_map(|scores| scores.current).map(f64::from).collect())
}

fn largest(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

fn mean_size(values: &[f64]) -> f64 {
    values.iter().map(|value| value.abs()).sum::<f64>() / values.len().max(1) as f64
}

fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
    let (of_a, of_b) = (mean(a), mean(b));
    let product =
        |x: &[f64], of_x: f64, y: &[f64], of_y: f64| x.iter().zip(y).map(|(x, y)| (x - of_x) * (y - of_y)).sum::<f64>();
    product(a, of_a, b, of_b) / (product(a, of_a, a, of_a) * product(b, of_b, b, of_b)).sqrt()
}

fn same_sign(a: &[f64], b: &[f64]) -> f64 {
    let moved: Vec<(&f64, &f64)> = a.iter().zip(b).filter(|(a, b)| a.abs().max(b.abs()) >= 1e-4).collect();
    moved.iter().filter(|(a, b)| *a * *b > 0.0).count() as f64 / moved.len().max(1) as f64
}
