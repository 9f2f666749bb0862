//! Composed rewards on the tabular policy: what is learnt from a shape where verdicts say nothing, and what is
//! written of it.
#![allow(clippy::unwrap_used)] // A test that unwraps fails, which is its purpose.

mod common;

use std::fmt::Write as _;
use std::ops::ControlFlow;

use common::{HiddenStrings, curriculum, objective, open_store, plan};
use expect_test::{Expect, expect};
use serde_json::Value;
use toehold_rollout::collect::Judge;
use toehold_rollout::{Completion, Start, TokenId};
use toehold_training::Event;
use toehold_training::recipe::Method;
use toehold_training::tabular::TabularPolicy;
use toehold_training::trainer::event::StepEvent;
use toehold_training::trainer::{Setup, train};
use toehold_verifier::{Outcome, Verdict};

const BITS: usize = 6;

/// Gives a completion its outcome by its tokens alone.
struct By(fn(&Start, &[TokenId]) -> Outcome);

impl Judge for By {
    fn judge(&self, start: &Start, completion: &Completion) -> Verdict {
        Verdict::without_answer(self.0(start, &completion.tokens))
    }
}

/// Nothing is ever right; what begins with 1 states an answer.
fn always_wrong(_: &Start, tokens: &[TokenId]) -> Outcome {
    if tokens[0] == 1 { Outcome::Wrong } else { Outcome::NoAnswer }
}

/// As `always_wrong`, but nothing is known of the first problem, and of what ends in 1.
fn often_unknown(start: &Start, tokens: &[TokenId]) -> Outcome {
    match start.prompt[0] == 2 || tokens.last() == Some(&1) {
        true => Outcome::Infra,
        false => always_wrong(start, tokens),
    }
}

/// Everything is right, whatever it says.
fn always_right(_: &Start, _: &[TokenId]) -> Outcome {
    Outcome::Correct
}

/// The step events of a run with this objective, and the policy that it ends with.
fn run(text: &str, judge: &By, steps: u64) -> (Vec<StepEvent>, TabularPolicy) {
    let folder = tempfile::tempdir().unwrap();
    let strings = HiddenStrings::new(2, BITS);
    let mut plan = plan(&strings, steps, folder.path());
    plan.evaluation.sets.clear();
    plan.train.learning_rate = 10.0;
    let (mut store, mut policy) = (open_store(folder.path(), &strings), strings.policy());
    let mut curriculum = curriculum("kind = \"plain\"").build(strings.material(), plan.seed).unwrap();
    let mut events = Vec::new();
    let mut listener = |event: &Event| {
        if let Event::Step(event) = event {
            events.push(StepEvent::clone(event));
        }
        ControlFlow::Continue(())
    };
    let setup = Setup {
        store: &mut store,
        judge,
        curriculum: curriculum.as_mut(),
        objective: &objective(text),
        plan: &plan,
        listener: &mut listener,
    };
    train(&mut policy, setup).unwrap();
    (events, policy)
}

/// The chance that a completion of the first problem states an answer, at first a half, after 20 steps of failure.
#[track_caller]
fn stated(tables: &[&str], expected: Expect) {
    let mut found = String::new();
    for text in tables {
        let (events, policy) = run(text, &By(always_wrong), 20);
        let first = &events[0].shaping;
        let alone = first.get("alone").map_or("no table".to_owned(), |alone| format!("{alone} of 8 by shape alone"));
        let table = text.replace('\n', ", ");
        writeln!(found, "{:.2}, {alone}: {table}", policy.chances(&[2])[1]).unwrap();
        assert!(events.iter().all(|event| event.reward == 0.0 && event.plain.groups.all_fail == 8));
    }
    expected.assert_eq(&found);
}

/// Where a standardisation follows, 0.001 teaches as much as 0.5; without one it does not.
#[test]
fn where_all_fail_the_shape_is_what_is_learnt() {
    stated(
        &[
            "kind = \"grpo\"",
            "kind = \"grpo\"\nformat.weight = 0.5",
            "kind = \"grpo\"\nformat.weight = 0.001",
            "kind = \"grpo\"\nformat = {weight = 0.5, groups = \"mixed\"}",
            "kind = \"grpo\"\ndeviation = \"none\"\nformat.weight = 0.5",
            "kind = \"grpo\"\ndeviation = \"none\"\nformat.weight = 0.001",
            "kind = \"reinforce\"\nformat.weight = 0.5",
        ],
        expect![[r#"
            0.50, no table: kind = "grpo"
            0.99, 8 of 8 by shape alone: kind = "grpo", format.weight = 0.5
            0.99, 8 of 8 by shape alone: kind = "grpo", format.weight = 0.001
            0.50, 0 of 8 by shape alone: kind = "grpo", format = {weight = 0.5, groups = "mixed"}
            0.91, 8 of 8 by shape alone: kind = "grpo", deviation = "none", format.weight = 0.5
            0.50, 8 of 8 by shape alone: kind = "grpo", deviation = "none", format.weight = 0.001
            0.91, 8 of 8 by shape alone: kind = "reinforce", format.weight = 0.5
        "#]],
    );
}

/// What a verifier failed on is in no mean and moves nothing, whatever its completion looks like.
#[test]
fn what_was_not_judged_has_no_shape() {
    let text = "kind = \"grpo\"\nformat.weight = 0.5\nrepetition.weight = 0.25\nrepetition.ngram = 2";
    let (events, policy) = run(text, &By(often_unknown), 5);
    for event in &events {
        let of = |outcome| event.outcomes.get(&outcome).copied().unwrap_or(0) as f64;
        let judged = of(Outcome::Wrong) + of(Outcome::NoAnswer);
        assert!(of(Outcome::Infra) >= 32.0 && judged > 0.0 && event.trained_traces as f64 <= judged);
        let mean = |name: &str| event.shaping[&format!("{name}/mean")];
        assert!((mean("format") + 0.5 * of(Outcome::NoAnswer) / judged).abs() < 1e-12, "{event:?}");
        let sum: f64 = ["verdict", "overlong", "format", "repetition"].iter().map(|name| mean(name)).sum();
        assert!((mean("reward") - sum).abs() < 1e-12 && mean("repetition") < 0.0 && mean("verdict") == 0.0);
    }
    // Of the problem of which nothing was judged, nothing was learnt.
    assert_eq!(policy.chances(&[2])[1], 0.5);
}

/// Where all succeed, a penalty on repetition is all that is left to learn: two bits have four pairs, so that one
/// in five has to be repeated.
#[test]
fn repetition_is_unlearnt() {
    let mut found = String::new();
    for table in
        ["", "repetition = {weight = 1.0, ngram = 2}", "repetition = {weight = 1.0, ngram = 2, groups = \"mixed\"}"]
    {
        let (events, _) = run(&format!("kind = \"reinforce\"\n{table}"), &By(always_right), 60);
        let of = |step: usize| events[step].detectors["repetition/mean"];
        // The detector counts runs of three.
        let table = if table.is_empty() { "no table" } else { table };
        writeln!(found, "{:.2} then {:.2}: {table}", of(0), of(59)).unwrap();
    }
    expect![[r#"
        0.15 then 0.15: no table
        0.15 then 0.12: repetition = {weight = 1.0, ngram = 2}
        0.15 then 0.15: repetition = {weight = 1.0, ngram = 2, groups = "mixed"}
    "#]]
    .assert_eq(&found);
}

/// A run without such tables writes no such numbers, and old events are read.
#[test]
fn events_without_shaping_are_read() {
    let (events, _) = run("kind = \"grpo\"\noverlong = {kind = \"mask\"}", &By(always_wrong), 1);
    assert!(!serde_json::to_string(&events[0]).unwrap().contains("shaping"));
    let (events, _) = run("kind = \"grpo\"\noverlong = {kind = \"penalty\", tail = 3}", &By(always_wrong), 1);
    let mut written: Value = serde_json::to_value(&events[0]).unwrap();
    // All of six tokens, the limit.
    expect![[r#"{"alone":0.0,"format/mean":0.0,"overlong/mean":-1.0,"repetition/mean":0.0,"reward/mean":-1.0,"verdict/mean":0.0}"#]].assert_eq(&written["shaping"].to_string());
    written.as_object_mut().unwrap().remove("shaping").unwrap();
    let read: StepEvent = serde_json::from_value(written).unwrap();
    assert!(read.shaping.is_empty());
    assert!(toehold_training::Objective::read("rl-zvp", "format.weight = 0.1".parse().unwrap()).is_err());
}
