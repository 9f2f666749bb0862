//! Rollouts that the verifier itself failed on: stored, paid for, and no part of anything else.
#![allow(clippy::unwrap_used)] // A test that unwraps fails, which is its purpose.

mod common;

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};

use common::{HiddenStrings, curriculum, objective, open_store, plan};
use toehold_rollout::collect::{Judge, JudgeError};
use toehold_rollout::store::TraceFilter;
use toehold_rollout::{Completion, Start, StartId};
use toehold_training::CurriculumKind;
use toehold_training::curriculum::Source;
use toehold_training::curriculum::nurl::with_cue;
use toehold_training::recipe::Method;
use toehold_training::trainer::event::Event;
use toehold_training::trainer::{Setup, Summary, TrainError, train};
use toehold_verifier::{Outcome, Verdict};

/// Judges hidden strings, but for completions that begin with the token 1 under a share of all problems.
struct Failing<'a> {
    strings: &'a HiddenStrings,
    /// Of problems below it nothing is judged; of the others, nothing that begins with 1.
    blind: usize,
    /// Failures after which it is not healthy.
    most: u64,
    failed: AtomicU64,
}

impl Judge for Failing<'_> {
    fn judge(&self, start: &Start, completion: &Completion) -> Verdict {
        if (start.prompt[0] as usize) < 2 + self.blind || completion.tokens.first() == Some(&1) {
            self.failed.fetch_add(1, Ordering::Relaxed);
            return Verdict::infra("the machine is gone");
        }
        self.strings.judge(start, completion)
    }

    fn healthy(&self) -> Result<(), JudgeError> {
        match self.failed.load(Ordering::Relaxed) > self.most {
            true => Err(JudgeError::Other {
                start: StartId::from_stored("x".to_owned()),
                reason: "too many failures".to_owned(),
            }),
            false => Ok(()),
        }
    }
}

/// A run of the objective and curriculum under a judge that fails; with the outcomes in its events.
fn run(
    kind: &str,
    objective_kind: &str,
    blind: usize,
    most: u64,
) -> (Result<Summary, TrainError>, Vec<Event>, [u64; 2]) {
    let folder = tempfile::tempdir().unwrap();
    let strings = HiddenStrings::new(4, 3);
    let judge = Failing { strings: &strings, blind, most, failed: AtomicU64::new(0) };
    let mut plan = plan(&strings, 4, folder.path());
    plan.evaluation.sets.clear();
    let mut store = open_store(folder.path(), &strings);
    let mut material = strings.material();
    // One failure among many, for those that cut failures of problems that are mostly solved; every other
    // problem the other way round, for those that want hard ones.
    let failures = material.sources.iter().flat_map(|source| vec![source.clone(); 41]).enumerate();
    let failures = failures.map(|(at, source)| Source {
        row: Some(100 + at as i64),
        is_correct: (at % 41 > 0) == (at / 41 % 2 == 0),
        ..source
    });
    material.sources.extend(failures.collect::<Vec<_>>());
    material.cues = material.plain.iter().map(|start| with_cue(start, start.prompt.clone())).collect();
    let mut curriculum = curriculum(kind).build(material, plan.seed).unwrap();
    let objective = objective(objective_kind);
    let mut events = Vec::new();
    let mut listener = |event: &Event| {
        events.push(event.clone());
        ControlFlow::Continue(())
    };
    let setup = Setup {
        store: &mut store,
        judge: &judge,
        curriculum: curriculum.as_mut(),
        objective: &objective,
        plan: &plan,
        listener: &mut listener,
    };
    let summary = train(&mut strings.policy(), setup);
    let stored = store.outcomes(&TraceFilter::default()).unwrap();
    let success = store.success(&TraceFilter::default()).unwrap();
    let infra = stored.get(&Outcome::Infra).copied().unwrap_or(0);
    assert_eq!(success.attempts + infra, stored.values().sum::<u64>());
    (summary, events, [success.attempts, infra])
}

#[test]
fn they_are_counted_apart_and_learnt_from_by_no_method() {
    for objective in ["reinforce", "grpo", "rloo", "reinforce-plus-plus", "gspo", "rl-zvp", "weighted-grpo"] {
        let (summary, events, [attempts, infra]) =
            run("kind = \"plain\"", &format!("kind = {objective:?}"), 1, u64::MAX);
        assert_eq!(summary.unwrap().step, 4, "{objective}");
        let (mut counted, mut masked, mut in_steps) = (0, 0, 0);
        for event in &events {
            match event {
                Event::Group(group) => {
                    counted += group.count.attempts;
                    masked += group.masked as u64;
                    let blind = group.problem.as_str() == "secret-0";
                    assert!(!blind || group.count.attempts == 0, "{objective}: {group:?}");
                }
                Event::Step(step) => {
                    in_steps += step.outcomes.get(&Outcome::Infra).copied().unwrap_or(0);
                    assert!(step.gradient.gradient_norm.is_finite() && step.reward.is_finite(), "{objective}");
                    let judged = step.plain.count.attempts as usize;
                    assert!(step.trained_traces <= judged, "{objective}: {} of {judged}", step.trained_traces);
                }
                _ => {}
            }
        }
        assert_eq!((counted, masked, in_steps), (attempts, infra, infra), "{objective}");
        assert!(infra > 0 && attempts > 0);
    }
}

/// No curriculum stumbles over a group without a verdict.
#[test]
fn every_curriculum_hears_of_groups_without_a_verdict() {
    for kind in <CurriculumKind as Method>::KINDS {
        let (summary, ..) = run(&format!("kind = {kind:?}"), "kind = \"grpo\"", 4, u64::MAX);
        assert_eq!(summary.unwrap().step, 4, "{kind}");
    }
}

#[test]
fn too_many_end_the_run_with_what_was_sampled_kept() {
    let (summary, events, [_, infra]) = run("kind = \"plain\"", "kind = \"reinforce\"", 4, 0);
    assert_eq!(summary.unwrap_err().to_string(), "start x: too many failures");
    assert!(!events.iter().any(|event| matches!(event, Event::Step(_))), "nothing was learnt");
    assert_eq!(infra, 64, "8 groups of 8 were stored");
}
