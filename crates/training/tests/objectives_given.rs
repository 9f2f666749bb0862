//! Objectives that learn from collected successes or from prefixes, in the training loop.
#![allow(clippy::unwrap_used)] // A test that unwraps fails, which is its purpose.

mod common;

use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::OnceLock;

use common::{HiddenStrings, open_store, params, plan, run};
use expect_test::expect;
use toehold_rollout::Sampler;
use toehold_rollout::collect::{Amount, Campaign, collect};
use toehold_rollout::store::{PolicyRecord, Stage};
use toehold_training::Event;
use toehold_training::trainer::event::StepEvent;
use toehold_training::trainer::{Summary, TrainPlan};

/// Strings of this many bits are found once in 2048 tries: training alone does not find them.
const BITS: usize = 11;

fn strings() -> HiddenStrings {
    HiddenStrings::new(2, BITS)
}

/// Two successes of each string, with the attempts before them, in the store of `folder`.
fn collect_successes(folder: &Path) {
    static COLLECTED: OnceLock<tempfile::TempDir> = OnceLock::new();
    let collected = COLLECTED.get_or_init(|| {
        let collected = tempfile::tempdir().unwrap();
        fill(collected.path());
        collected
    });
    for entry in std::fs::read_dir(collected.path()).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
    }
}

fn fill(folder: &Path) {
    let strings = strings();
    let (mut policy, mut store) = (strings.policy(), open_store(folder, &strings));
    let (version, model) = (policy.version(), "table".to_owned());
    let record = PolicyRecord { version, model, tokenizer_hash: "none".to_owned(), step: 0, parent: None };
    store.put_policy(&record).unwrap();
    let amount = Amount::UntilSuccess { successes: 2, at_most: 60_000 };
    let campaign = Campaign { seed: 1, stage: Stage::Collect, params: params(BITS as u32), amount, in_flight: 64 };
    collect(&mut store, &mut policy, &strings, &strings.plain(), &campaign, &mut |_| ControlFlow::Continue(()))
        .unwrap();
}

struct Ran {
    summary: Summary,
    steps: Vec<StepEvent>,
    before: f64,
    after: f64,
}

fn train(folder: &Path, curriculum: &str, objective: &str, plan: &TrainPlan) -> Ran {
    let (mut steps, mut rates) = (Vec::new(), Vec::new());
    let mut listener = |event: &Event| {
        match event {
            Event::Step(event) => steps.push(StepEvent::clone(event)),
            Event::Evaluated(event) => rates.push(event.count.rate().unwrap()),
            _ => {}
        }
        ControlFlow::Continue(())
    };
    let strings = strings();
    let summary = run(&strings, &mut strings.policy(), curriculum, objective, plan, folder, &mut listener).unwrap();
    Ran { summary, steps, before: rates.first().copied().unwrap_or(0.0), after: rates.last().copied().unwrap_or(0.0) }
}

fn plan_of(folder: &Path, steps: u64, learning_rate: f64) -> TrainPlan {
    let mut plan = plan(&strings(), steps, folder);
    plan.evaluation.every = 0;
    plan.train.learning_rate = learning_rate;
    plan
}

/// With a few successes in the store, what is never found by luck is learnt; without a collection, it is
/// not.
#[test]
fn collected_successes_are_learnt_from() {
    let mut table = String::new();
    for objective in [
        "kind = \"reinforce\"",
        "kind = \"luffy\"",
        "kind = \"rlep\"",
        "kind = \"importance-weighted\"",
        "kind = \"importance-weighted\"\nratio = \"trace\"",
        "kind = \"importance-weighted\"\nacceptance = \"unbiased\"",
    ] {
        for has_collection in [true, false] {
            let folder = tempfile::tempdir().unwrap();
            if has_collection {
                collect_successes(folder.path());
            }
            let ran = train(folder.path(), "kind = \"plain\"", objective, &plan_of(folder.path(), 12, 3000.0));
            assert!(ran.steps.iter().all(|step| step.gradient.gradient_norm.is_finite()));
            let from = if has_collection { "with a collection" } else { "without" };
            let (first, last) = (ran.steps[0].trained_traces, ran.steps[11].trained_traces);
            let objective = objective.replace('\n', ", ");
            writeln!(table, "{:.2} {:.2}, {first:>2} then {last:>2} traces: {objective} {from}", ran.before, ran.after)
                .unwrap();
        }
    }
    expect![[r#"
        0.00 0.00,  0 then  0 traces: kind = "reinforce" with a collection
        0.00 0.00,  0 then  0 traces: kind = "reinforce" without
        0.00 1.00, 72 then  0 traces: kind = "luffy" with a collection
        0.00 0.00,  0 then  0 traces: kind = "luffy" without
        0.00 1.00, 80 then  0 traces: kind = "rlep" with a collection
        0.00 0.00,  0 then  0 traces: kind = "rlep" without
        0.00 0.00,  8 then  8 traces: kind = "importance-weighted" with a collection
        0.00 0.00,  0 then  0 traces: kind = "importance-weighted" without
        0.00 0.50,  8 then  4 traces: kind = "importance-weighted", ratio = "trace" with a collection
        0.00 0.00,  0 then  0 traces: kind = "importance-weighted", ratio = "trace" without
        0.00 1.00,  8 then  0 traces: kind = "importance-weighted", acceptance = "unbiased" with a collection
        0.00 0.00,  0 then  0 traces: kind = "importance-weighted", acceptance = "unbiased" without
    "#]]
    .assert_eq(&table);
}

/// What joins a group depends on the step and on the collection alone, never on what training stored.
#[test]
fn a_run_in_pieces_ends_as_one_that_was_not() {
    let whole = |pieces: &[u64]| {
        let folder = tempfile::tempdir().unwrap();
        collect_successes(folder.path());
        let mut policy = None;
        for &steps in pieces {
            let plan = plan_of(folder.path(), steps, 30.0);
            let ran = train(folder.path(), "kind = \"plain\"", "kind = \"rlep\"\nstored = 1", &plan);
            policy = Some(ran.summary.policy);
        }
        policy
    };
    assert_eq!(whole(&[6]), whole(&[1, 4, 6]));
    assert_ne!(whole(&[6]), whole(&[5]));
}

/// A prefix is one trace more for its group; and the more it is imitated, the likelier it becomes.
#[test]
fn prefixes_are_learnt_from() {
    let mut table = String::new();
    for objective in [
        "kind = \"grpo\"",
        "kind = \"uft\"",
        "kind = \"uft\"\nweight = 1.0",
        "kind = \"prefix-rft\"",
        "kind = \"prefix-rft\"\nshare = 1.0",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut plan = plan_of(folder.path(), 20, 30.0);
        plan.train.starts = 16;
        let ran = train(folder.path(), "kind = \"success-prefix\"", objective, &plan);
        let traces: Vec<usize> = ran.steps.iter().map(|step| step.trained_traces).take(6).collect();
        let objective = objective.replace('\n', ", ");
        writeln!(table, "{:.2} {:.2}, traces {traces:?}: {objective}", ran.before, ran.after).unwrap();
    }
    expect![[r#"
        0.00 0.03, traces [32, 40, 48, 48, 64, 80]: kind = "grpo"
        0.00 0.03, traces [44, 60, 68, 60, 100, 84]: kind = "uft"
        0.00 0.34, traces [44, 44, 36, 68, 68, 60]: kind = "uft", weight = 1.0
        0.00 0.06, traces [36, 54, 63, 45, 81, 81]: kind = "prefix-rft"
        0.00 0.16, traces [36, 27, 72, 45, 45, 72]: kind = "prefix-rft", share = 1.0
    "#]]
    .assert_eq(&table);
}
