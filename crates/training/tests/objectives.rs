//! Every objective in the training loop, on hidden strings that are found by luck now and then.
#![allow(clippy::unwrap_used)] // A test that unwraps fails, which is its purpose.

mod common;

use std::fmt::Write as _;
use std::ops::ControlFlow;

use common::{HiddenStrings, plan, run};
use expect_test::{Expect, expect};
use toehold_training::recipe::{Aggregation, Method};
use toehold_training::trainer::event::StepEvent;
use toehold_training::{Event, Objective};

/// The steps of a run in groups of `group` on two strings of `bits` bits, and success before and after.
fn steps(objective: &str, bits: usize, group: u32, steps: u64) -> (Vec<StepEvent>, f64, f64) {
    let folder = tempfile::tempdir().unwrap();
    let strings = HiddenStrings::new(2, bits);
    let mut plan = plan(&strings, steps, folder.path());
    plan.evaluation.every = 0;
    plan.train.learning_rate = 30.0;
    plan.train.group = group;
    if objective.contains("gspo") || objective.contains("gmpo") {
        plan.train.aggregation = Aggregation::TraceMean;
    }
    let (mut events, mut rates) = (Vec::new(), Vec::new());
    let mut listener = |event: &Event| {
        match event {
            Event::Step(event) => events.push(StepEvent::clone(event)),
            Event::Evaluated(event) => rates.push(event.count.rate().unwrap()),
            _ => {}
        }
        ControlFlow::Continue(())
    };
    let mut policy = strings.policy();
    run(&strings, &mut policy, "kind = \"plain\"", objective, &plan, folder.path(), &mut listener).unwrap();
    (events, rates[0], rates[1])
}

/// Success after 30 steps on strings of three bits, found once in eight tries at first.
#[track_caller]
fn check(objectives: &[&str], expected: Expect) {
    let mut table = String::new();
    for settings in objectives {
        let (events, before, after) = steps(&settings.replace(", ", "\n"), 3, 8, 30);
        assert!(events.iter().all(|event| event.gradient.gradient_norm.is_finite()), "{settings}");
        writeln!(table, "{before:.2} {after:.2} {settings}").unwrap();
    }
    expected.assert_eq(&table);
}

#[test]
fn what_is_found_now_and_then_is_learnt() {
    let kinds: Vec<String> = Objective::KINDS.iter().map(|kind| format!("kind = \"{kind}\"")).collect();
    let variants = [
        "kind = \"grpo\", deviation = \"none\"",
        "kind = \"grpo\", clip_high = 0.28",
        "kind = \"reinforce-plus-plus\", baseline = \"group\"",
        "kind = \"w-reinforce\", success = 1.0, failure = 0.0",
        "kind = \"w-reinforce\", success = 0.0, failure = 1.0",
        "kind = \"weighted-grpo\", hard_success = 2.0, easy_failure = 2.0",
        "kind = \"weighted-grpo\", statistics = \"batch\"",
        "kind = \"asymmetric-prompt-weighting\", weighting = \"sqrt\"",
        "kind = \"asymmetric-prompt-weighting\", weighting = \"uniform\"",
        "kind = \"noisy-verifier\", correction = \"forward\", false_negative = 0.1",
        "kind = \"noisy-verifier\", correction = \"backward\", false_negative = 0.1, false_positive = 0.05",
    ];
    // It has a setting that must be written, and stands among the variants.
    let kinds = kinds.iter().map(String::as_str).filter(|kind| !kind.contains("noisy-verifier"));
    check(
        &kinds.chain(variants).collect::<Vec<_>>(),
        expect![[r#"
        0.03 1.00 kind = "imitation"
        0.03 1.00 kind = "reinforce"
        0.03 0.97 kind = "grpo"
        0.03 1.00 kind = "rloo"
        0.03 0.97 kind = "reinforce-plus-plus"
        0.03 0.97 kind = "gspo"
        0.03 0.97 kind = "gmpo"
        0.03 0.97 kind = "cispo"
        0.03 1.00 kind = "w-reinforce"
        0.03 1.00 kind = "rl-zvp"
        0.03 0.97 kind = "weighted-grpo"
        0.03 1.00 kind = "asymmetric-prompt-weighting"
        0.03 1.00 kind = "grpo", deviation = "none"
        0.03 0.97 kind = "grpo", clip_high = 0.28
        0.03 1.00 kind = "reinforce-plus-plus", baseline = "group"
        0.03 1.00 kind = "w-reinforce", success = 1.0, failure = 0.0
        0.03 1.00 kind = "w-reinforce", success = 0.0, failure = 1.0
        0.03 1.00 kind = "weighted-grpo", hard_success = 2.0, easy_failure = 2.0
        0.03 1.00 kind = "weighted-grpo", statistics = "batch"
        0.03 1.00 kind = "asymmetric-prompt-weighting", weighting = "sqrt"
        0.03 1.00 kind = "asymmetric-prompt-weighting", weighting = "uniform"
        0.03 1.00 kind = "noisy-verifier", correction = "forward", false_negative = 0.1
        0.03 0.97 kind = "noisy-verifier", correction = "backward", false_negative = 0.1, false_positive = 0.05
    "#]],
    );
}

/// The training loop hands the entropy on: groups of one are silent, and where one succeeds its tokens
/// are reinforced by how open they were.
#[test]
fn rl_zvp_hears_the_entropy_of_silent_groups() {
    let gradient = |kind: &str| {
        let (events, ..) = steps(&format!("kind = \"{kind}\""), 1, 1, 1);
        assert!(events[0].plain.groups.all_pass > 0 && events[0].plain.groups.mixed == 0);
        events[0].gradient.gradient_norm
    };
    assert_eq!(gradient("grpo"), 0.0);
    assert!(gradient("rl-zvp") > 0.0);
}

/// Twelve bits are not found in the 64 rollouts of one step: every group is silent. Who learns from it?
#[test]
fn only_objectives_without_a_group_baseline_hear_silent_groups() {
    let mut table = String::new();
    for kind in Objective::KINDS {
        let settings = if *kind == "noisy-verifier" { "\nfalse_negative = 0.1" } else { "" };
        let (events, ..) = steps(&format!("kind = \"{kind}\"{settings}"), 12, 8, 1);
        assert_eq!(events[0].plain.groups.all_fail, 8);
        let moved = if events[0].gradient.gradient_norm > 0.0 { "moves" } else { "stays" };
        writeln!(table, "{:>2} traces, {moved}: {kind}", events[0].trained_traces).unwrap();
    }
    expect![[r#"
         0 traces, stays: imitation
         0 traces, stays: reinforce
         0 traces, stays: grpo
         0 traces, stays: rloo
         0 traces, stays: reinforce-plus-plus
         0 traces, stays: gspo
         0 traces, stays: gmpo
         0 traces, stays: cispo
        64 traces, moves: w-reinforce
        64 traces, stays: rl-zvp
         0 traces, stays: weighted-grpo
        64 traces, moves: asymmetric-prompt-weighting
        64 traces, moves: noisy-verifier
    "#]]
    .assert_eq(&table);
}
