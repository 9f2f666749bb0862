//! Curricula that give a part of the solution, end to end on hidden strings, which plain RL never finds.
//!
//! Each is run for the same steps; what is shown is when the plain problems are solved, and for how many
//! rollouts. The table in docs/methods/curriculum/guidance.md is this one.
#![allow(clippy::unwrap_used)] // A test that unwraps fails, which is its purpose.

mod common;

use std::ops::ControlFlow;

use common::{HiddenStrings, plan, run};
use expect_test::{Expect, expect};
use toehold_training::Event;
use toehold_training::curriculum::Material;
use toehold_training::curriculum::nurl::with_cue;
use toehold_training::recipe::Keep;
use toehold_training::tabular::TabularPolicy;
use toehold_training::trainer::{Setup, train};

/// Steps after which a run that has not solved its problems is given up.
const STEPS: u64 = 60;

/// The step and the rollouts after which plain success was first 0.9; none if it never was.
fn solved(curriculum: &str, seed: u64) -> Option<(u64, u64)> {
    let folder = tempfile::tempdir().unwrap();
    let strings = HiddenStrings::new(2, 16);
    let mut plan = plan(&strings, STEPS, folder.path());
    plan.seed = seed;
    plan.evaluation.every = 5;
    plan.train.checkpoint_every = 0;
    plan.train.keep = Keep::None;
    let (mut step, mut rollouts, mut solved) = (0, 0, None);
    let mut listener = |event: &Event| {
        match event {
            Event::Step(event) => {
                step = event.step;
                rollouts += event.plain.count.attempts + event.prefixed.count.attempts;
            }
            Event::Evaluated(event) if event.count.rate().unwrap() >= 0.9 => solved = Some((step, rollouts)),
            _ => {}
        }
        if solved.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let mut policy = strings.policy();
    run(&strings, &mut policy, curriculum, "kind = \"grpo\"", &plan, folder.path(), &mut listener).unwrap();
    solved
}

#[track_caller]
fn check(curriculum: &str, expected: Expect) {
    let shown = |seed| match solved(curriculum, seed) {
        Some((step, rollouts)) => format!("{step}: {rollouts}"),
        None => "never".to_owned(),
    };
    expected.assert_eq(&[5, 6, 7].map(shown).join(", "));
}

#[test]
fn without_guidance_nothing_is_learnt() {
    check("kind = \"plain\"", expect!["never, never, never"]);
}

#[test]
fn a_length_that_is_looked_for_is_learnt_from() {
    check("kind = \"ghpo\"\nstart_step = 0", expect!["15: 1808, 10: 1320, 15: 1800"]);
    check("kind = \"bread\"\nparts = 16", expect!["25: 1944, 20: 1680, 25: 2136"]);
    check("kind = \"adaback\"", expect!["20: 1280, 25: 1600, 20: 1280"]);
    check("kind = \"adaprefix\"\nvisits = 2", expect!["20: 1280, 25: 1600, 25: 1600"]);
}

#[test]
fn lengths_that_stay_or_follow_the_average_need_not_be() {
    check("kind = \"pope\"\nlongest = 1.0\ncheckpoints = 16", expect!["never, never, never"]);
    check("kind = \"g2rpo-a\"\nguided_share = 0.5\nfirst = 12\nlongest = 15", expect!["never, never, 40: 2560"]);
}

#[test]
fn stages_are_learnt_from() {
    check("kind = \"questa\"\nshares = [0.8, 0.6, 0.4, 0.2, 0.0]", expect!["10: 640, 15: 960, 15: 960"]);
    check("kind = \"reverse-curriculum\"\nstages = 16", expect!["25: 1600, 25: 1600, 30: 1920"]);
    check(
        "kind = \"reverse-curriculum\"\norder = \"staged\"\nstages = 16\nstage_steps = 3",
        expect!["50: 3200, 50: 3200, 50: 3200"],
    );
}

/// One string of 15 bits and a policy of nine tokens' memory, which follows a cue at first: while it still
/// sees the cue, for nine bits, it writes the right one with 0.95. What is learnt behind the cue is learnt of
/// the plain problem from the tenth bit on, because from there on the policy sees the same.
fn solved_with_cues(curriculum: &str, seed: u64) -> Option<(u64, u64)> {
    const CUE: u32 = 3;
    let folder = tempfile::tempdir().unwrap();
    let strings = HiddenStrings::new(1, 15);
    let mut policy = TabularPolicy::uniform(4, 9, 1e9);
    policy.never([2, CUE]);
    for bit in 0..9 {
        let seen = [&[2, CUE], &strings.secrets[0][..bit]].concat();
        policy.logits_mut(&seen)[strings.secrets[0][bit] as usize] = 3.0;
    }
    let mut plan = plan(&strings, 2 * STEPS, folder.path());
    plan.seed = seed;
    plan.evaluation.every = 5;
    plan.train.checkpoint_every = 0;
    plan.train.keep = Keep::None;
    let (mut step, mut rollouts, mut solved) = (0, 0, None);
    let mut listener = |event: &Event| {
        match event {
            Event::Step(event) => {
                step = event.step;
                rollouts += event.plain.count.attempts + event.prefixed.count.attempts;
            }
            Event::Evaluated(event) if event.count.rate().unwrap() >= 0.9 => solved = Some((step, rollouts)),
            _ => {}
        }
        if solved.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let plain = strings.plain();
    let cues = vec![with_cue(&plain[0], vec![2, CUE])];
    let material = Material { plain, cues, ..Material::default() };
    let mut curriculum = common::curriculum(curriculum).build(material, seed).unwrap();
    let setup = Setup {
        store: &mut common::open_store(folder.path(), &strings),
        judge: &strings,
        curriculum: curriculum.as_mut(),
        objective: &common::objective("kind = \"grpo\""),
        plan: &plan,
        listener: &mut listener,
    };
    train(&mut policy, setup).unwrap();
    solved
}

#[test]
fn what_is_learnt_behind_a_cue_carries_back() {
    let shown = |curriculum: &str| {
        let shown =
            |seed| solved_with_cues(curriculum, seed).map_or("never".into(), |(step, all)| format!("{step}: {all}"));
        [5, 6, 7].map(shown).join(", ")
    };
    expect!["never, never, 25: 1600"].assert_eq(&shown("kind = \"plain\""));
    expect!["10: 872, 10: 1056, 40: 4984"].assert_eq(&shown("kind = \"nurl\""));
}
