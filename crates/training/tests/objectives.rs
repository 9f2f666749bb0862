//! Every objective in the training loop, on hidden strings that are found by luck now and then.
#![allow(clippy::unwrap_used)] // A test that unwraps fails, which is its purpose.

mod common;

use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::path::Path;

use common::{HiddenStrings, plan, run};
use expect_test::{Expect, expect};
use toehold_training::recipe::{Aggregation, Method};
use toehold_training::trainer::event::StepEvent;
use toehold_training::trainer::{Setup, train_with_reference};
use toehold_training::{Event, Objective, Plan, Recipe};

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
        "kind = \"grpo\", overlong.kind = \"penalty\", overlong.tail = 2",
        "kind = \"grpo\", format.weight = 0.1",
        "kind = \"grpo\", repetition.weight = 0.1, repetition.ngram = 1",
        "kind = \"grpo\", cap.advantage = 1.0",
        "kind = \"grpo\", cap.successes = 2",
        "kind = \"grpo\", mismatch.beyond = \"mask\", mismatch.level = \"trace\"",
        "kind = \"grpo\", entropy.weight = 0.01",
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
            0.03 1.00 kind = "erpo"
            0.03 0.97 kind = "weighted-grpo"
            0.03 1.00 kind = "care"
            0.03 1.00 kind = "asymmetric-prompt-weighting"
            0.03 1.00 kind = "importance-weighted"
            0.03 1.00 kind = "luffy"
            0.03 0.97 kind = "rlep"
            0.03 0.97 kind = "prefix-rft"
            0.03 0.97 kind = "uft"
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
            0.03 0.97 kind = "grpo", overlong.kind = "penalty", overlong.tail = 2
            0.03 0.97 kind = "grpo", format.weight = 0.1
            0.03 0.97 kind = "grpo", repetition.weight = 0.1, repetition.ngram = 1
            0.03 1.00 kind = "grpo", cap.advantage = 1.0
            0.03 1.00 kind = "grpo", cap.successes = 2
            0.03 0.97 kind = "grpo", mismatch.beyond = "mask", mismatch.level = "trace"
            0.03 1.00 kind = "grpo", entropy.weight = 0.01
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
         0 traces, stays: erpo
         0 traces, stays: weighted-grpo
         0 traces, stays: care
        64 traces, moves: asymmetric-prompt-weighting
        64 traces, moves: noisy-verifier
         0 traces, stays: importance-weighted
         0 traces, stays: luffy
         0 traces, stays: rlep
         0 traces, stays: prefix-rft
         0 traces, stays: uft
    "#]]
    .assert_eq(&table);
}

/// The policy has no end token here: everything is cut off, and a mask leaves nothing to learn from.
#[test]
fn a_mask_takes_out_what_was_cut_off() {
    let (events, ..) = steps("kind = \"grpo\"\noverlong = {kind = \"mask\"}", 3, 8, 5);
    let stays = |event: &StepEvent| event.trained_traces == 0 && event.gradient.gradient_norm == 0.0;
    assert!(events.iter().all(|event| stays(event) && event.cut_off == 64 && event.plain.groups.mixed > 0));
}

/// Where every group is silent, a bonus is all there is: it holds the entropy of the uniform policy, ln 2 per
/// bit, and with the other sign it takes it away.
#[test]
fn an_entropy_bonus_hears_silent_groups() {
    let mut table = String::new();
    for weight in [0.0, 3.0, -3.0] {
        let (events, ..) = steps(&format!("kind = \"grpo\"\nentropy = {{weight = {weight:.1}}}"), 12, 8, 30);
        let (traces, entropy) = (events[0].trained_traces, events[29].entropy);
        writeln!(table, "{weight}: {traces} traces, entropy {:.3} then {entropy:.3}", events[0].entropy).unwrap();
    }
    expect![[r#"
        0: 64 traces, entropy 0.693 then 0.693
        3: 64 traces, entropy 0.693 then 0.693
        -3: 64 traces, entropy 0.693 then 0.502
    "#]]
    .assert_eq(&table);
}

/// The steps of a run on two strings of three bits beside a reference, which is the policy it began with.
fn beside_reference(objective: &Objective, steps: u64, aggregation: Aggregation) -> Vec<StepEvent> {
    let folder = tempfile::tempdir().unwrap();
    let strings = HiddenStrings::new(2, 3);
    let mut plan = plan(&strings, steps, folder.path());
    plan.evaluation.every = 0;
    plan.train.learning_rate = 30.0;
    plan.train.aggregation = aggregation;
    let mut events = Vec::new();
    let mut listener = |event: &Event| {
        if let Event::Step(event) = event {
            events.push(StepEvent::clone(event));
        }
        ControlFlow::Continue(())
    };
    let mut curriculum = common::curriculum("kind = \"plain\"").build(strings.material(), 5).unwrap();
    let mut store = common::open_store(folder.path(), &strings);
    let setup = Setup {
        store: &mut store,
        judge: &strings,
        curriculum: curriculum.as_mut(),
        objective,
        plan: &plan,
        listener: &mut listener,
    };
    train_with_reference(&mut strings.policy(), &mut strings.policy(), setup).unwrap();
    events
}

/// A tie to the policy that training began with keeps it near: here to a uniform one, of ln 2 per bit.
#[test]
fn a_tie_keeps_the_policy_near_its_reference() {
    let mut table = String::new();
    for (estimator, weight) in [("k2", 0.0), ("k2", 0.1), ("k2", 0.3), ("k3", 0.1), ("k3", 0.3)] {
        let text = format!("kind = \"grpo\"\nkl = {{estimator = \"{estimator}\", weight = {weight:.1}}}");
        let events = beside_reference(&common::objective(&text), 30, Aggregation::TokenMean);
        // Every trace is learnt from, and scored: 4 tokens each, beside the prompts and completions sampled.
        assert!(events.iter().all(|event| event.trained_traces == 64));
        assert_eq!(events[0].compute.sampled_tokens, 8 + 64 * 3 + 64 * 4);
        let (first, last) = (events[0].entropy, events[29].entropy);
        writeln!(table, "{estimator}, {weight}: entropy {first:.3} then {last:.3}").unwrap();
    }
    expect![[r#"
        k2, 0: entropy 0.693 then 0.002
        k2, 0.1: entropy 0.693 then 0.001
        k2, 0.3: entropy 0.693 then 0.060
        k3, 0.1: entropy 0.693 then 0.089
        k3, 0.3: entropy 0.693 then 0.423
    "#]]
    .assert_eq(&table);
}

/// Without a reference such an objective is refused before anything is sampled.
#[test]
fn a_tie_needs_a_reference() {
    let folder = tempfile::tempdir().unwrap();
    let strings = HiddenStrings::new(2, 3);
    let objective = "kind = \"grpo\"\nkl = {estimator = \"k2\", weight = 0.1}";
    let mut listener = |_: &Event| ControlFlow::Continue(());
    let plan = plan(&strings, 3, folder.path());
    let error =
        run(&strings, &mut strings.policy(), "kind = \"plain\"", objective, &plan, folder.path(), &mut listener);
    expect!["the objective has the table [objective.kl], but there is no reference policy"]
        .assert_eq(&error.unwrap_err().to_string());
}

/// Every recipe's objective, with the aggregation it asks for, moves something.
#[test]
fn the_projects_own_recipes_train() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes");
    let mut recipes: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    recipes.sort();
    for path in recipes {
        let recipe: Plan = Recipe::read(&path, &[]).and_then(|recipe| recipe.resolve()).unwrap();
        let events = beside_reference(&recipe.objective, 3, recipe.train.aggregation);
        let moves = |event: &StepEvent| event.gradient.gradient_norm > 0.0 && event.gradient.gradient_norm.is_finite();
        assert!(events.len() == 3 && events.iter().all(moves), "{path:?}");
    }
}
