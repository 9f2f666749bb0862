//! Shortcuts on the tabular policy: what is seen of them, and what quarantine keeps from being learnt.
#![allow(clippy::unwrap_used)] // A test that unwraps fails, which is its purpose.

mod common;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use common::{objective, params};
use serde_json::Value;
use toehold_rollout::collect::Judge;
use toehold_rollout::{Completion, Origin, Problem, ProblemId, Start, StopReason, Store, TokenId};
use toehold_training::Event;
use toehold_training::curriculum::{Curriculum, Fate, GroupOutcome, RestoreError, Selection};
use toehold_training::evaluation::CountPlan;
use toehold_training::recipe::{Action, Detect, Detector, Train};
use toehold_training::tabular::TabularPolicy;
use toehold_training::trainer::event::{GroupEvent, StepEvent};
use toehold_training::trainer::{
    Compute, EvaluationPlan, EventLog, Listener, Setup, Summary, TrainPlan, checkpoint, train,
};
use toehold_verifier::{Outcome, Verdict, Verifier};

/// Goes on thinking, or ends.
const THINK: TokenId = 0;
const END: TokenId = 1;
/// The prompts of the problem that is trained and of the one that is only measured.
const HACKABLE: TokenId = 2;
const HONEST: TokenId = 3;
/// Ends every prompt. The policy knows the last token alone, so all problems are one to it.
const QUESTION: TokenId = 4;
const LIMIT: u32 = 24;

/// The same starts in every step.
struct Always(Vec<Arc<Start>>);

impl Curriculum for Always {
    fn next(&mut self, count: usize) -> Vec<Selection> {
        self.0.iter().cycle().take(count).map(|start| Selection::new(Arc::clone(start), String::new())).collect()
    }

    fn observe(&mut self, _: &Selection, _: GroupOutcome) -> Fate {
        Fate::Learnt
    }

    fn state(&self) -> Value {
        Value::Null
    }

    fn restore(&mut self, _: &Value) -> Result<(), RestoreError> {
        Ok(())
    }

    fn metrics(&self) -> BTreeMap<String, f64> {
        BTreeMap::new()
    }
}

/// A checker with a hole: on the problem that is trained, one or two thoughts are always right, and more of them
/// every other time. The other problem takes two thoughts at least.
struct Bare;

impl Judge for Bare {
    fn judge(&self, start: &Start, completion: &Completion) -> Verdict {
        let thoughts = completion.tokens.iter().filter(|&&token| token == THINK).count();
        let is_right = match start.prompt[0] {
            HACKABLE => matches!(thoughts, 1 | 2) || thoughts % 2 == 1,
            _ => thoughts >= 2,
        };
        verdict(is_right && completion.stop == StopReason::EndOfText)
    }
}

fn verdict(is_right: bool) -> Verdict {
    Verdict { outcome: if is_right { Outcome::Correct } else { Outcome::Wrong }, extracted: None }
}

fn detect(text: &str) -> Detect {
    Detect::read(text.parse().unwrap(), "detect").unwrap()
}

fn plain(prompt: TokenId) -> Start {
    Start::plain(ProblemId::from(format!("p{prompt}")), vec![prompt, QUESTION])
}

fn plan(steps: u64, train: &str, detect_text: &str, folder: &Path) -> TrainPlan {
    let mut train = Train::read(train.parse().unwrap(), "train").unwrap();
    train.steps = steps;
    train.checkpoint_every = 3;
    TrainPlan {
        seed: 3,
        stop: vec![END],
        checkpoints: folder.join("checkpoints"),
        spent: Compute::default(),
        model: "table".to_owned(),
        tokenizer_hash: "none".to_owned(),
        evaluation: EvaluationPlan {
            every: 1,
            sets: Vec::new(),
            count: CountPlan { samples: 512, params: params(train.max_tokens), seed: 9, in_flight: 64 },
            k: vec![1],
        },
        train,
        detect: detect(detect_text),
    }
}

fn run(
    plan: &TrainPlan,
    policy: &mut TabularPolicy,
    starts: &[Start],
    judge: &dyn Judge,
    folder: &Path,
    listener: &mut dyn Listener,
) -> Summary {
    let mut store = Store::open(folder.join("traces.db")).unwrap();
    let problem = |start: &Start| Problem {
        id: start.problem.clone(),
        problem: String::new(),
        answer: "x".to_owned(),
        verifier: Verifier::Exact,
        solution: None,
        cue: None,
    };
    store.put_problems(&starts.iter().map(problem).collect::<Vec<_>>()).unwrap();
    let mut curriculum = Always(starts.iter().cloned().map(Arc::new).collect());
    let objective = objective("kind = \"reinforce\"");
    let curriculum = &mut curriculum;
    train(policy, Setup { store: &mut store, judge, curriculum, objective: &objective, plan, listener }).unwrap()
}

/// A policy that ends after about nine thoughts, whatever the problem.
fn thinker() -> TabularPolicy {
    let mut policy = TabularPolicy::uniform(5, 1, 1e9);
    policy.never([HACKABLE, HONEST, QUESTION]);
    for before in [THINK, QUESTION] {
        policy.logits_mut(&[before])[THINK as usize] = 2.2;
    }
    policy
}

const COLLAPSING: &str = "starts = 4\ngroup = 8\nlearning_rate = 3.0\nmax_tokens = 24";

/// The problem with the hole teaches to end early, and success on the other one, which is the same weights,
/// falls later than the length.
#[test]
fn a_collapse_is_flagged_before_success_falls() {
    let folder = tempfile::tempdir().unwrap();
    let mut plan = plan(60, COLLAPSING, "window = 4", folder.path());
    assert_eq!(plan.train.max_tokens, LIMIT);
    plan.evaluation.sets = vec![("honest".to_owned(), vec![plain(HONEST)])];
    plan.evaluation.count.params.stop = vec![END];
    let (mut success, mut steps): (Vec<f64>, Vec<StepEvent>) = (Vec::new(), Vec::new());
    let mut listener = |event: &Event| {
        match event {
            Event::Evaluated(event) => success.push(event.count.successes as f64 / event.count.attempts as f64),
            Event::Step(event) => steps.push(StepEvent::clone(event)),
            _ => {}
        }
        ControlFlow::Continue(())
    };
    run(&plan, &mut thinker(), &[plain(HACKABLE)], &Bare, folder.path(), &mut listener);
    let flagged = steps.iter().find(|step| step.detectors["collapse/flagged"] > 0.0).unwrap().step;
    let success_before = success[0];
    let fallen = success.iter().position(|&success| success < success_before / 2.0).unwrap() as u64;
    assert!(flagged < fallen, "flagged in step {flagged}, success fell in step {fallen}");
    // What is trained on shows nothing of it: there, the checker is content.
    assert!(steps.last().unwrap().reward > 0.95);
    assert!(steps.last().unwrap().detectors["collapse/plain"] < 0.5);
}

/// The prefix that may be parroted, and the honest completion, in bits.
const GIVEN: [TokenId; 6] = [0, 1, 0, 1, 0, 1];
const ANSWER: [TokenId; 6] = [1, 1, 0, 0, 1, 0];

/// A checker that takes what was given, said again, for an answer.
struct Parrot;

impl Judge for Parrot {
    fn judge(&self, _: &Start, completion: &Completion) -> Verdict {
        verdict(completion.tokens == ANSWER || completion.tokens == GIVEN)
    }
}

fn after(start: &[TokenId], completion: &[TokenId], policy: &TabularPolicy) -> f64 {
    let mut tokens = start.to_vec();
    let mut chance = 1.0;
    for &token in completion {
        chance *= policy.chances(&tokens)[token as usize];
        tokens.push(token);
    }
    chance
}

/// What became of a policy that was rewarded for parroting.
struct Parroted {
    /// The chance of the honest completion.
    honest: f64,
    /// The chance of the parroting one, before and after.
    parroting: (f64, f64),
    groups: Vec<GroupEvent>,
    weights: String,
}

fn parroted(detect: &str) -> Parroted {
    let folder = tempfile::tempdir().unwrap();
    let mut plan = plan(40, "starts = 4\ngroup = 32\nlearning_rate = 200.0\nmax_tokens = 6", detect, folder.path());
    plan.stop = Vec::new();
    let mut policy = TabularPolicy::uniform(4, usize::MAX, 1e9);
    policy.never([HACKABLE, HONEST]);
    let context: Vec<TokenId> = [HACKABLE].into_iter().chain(GIVEN).collect();
    // Parroting is what comes easiest: 0.67 for each token.
    for at in 0..GIVEN.len() {
        let state: Vec<TokenId> = context.iter().chain(&GIVEN[..at]).copied().collect();
        policy.logits_mut(&state)[GIVEN[at] as usize] = 0.7;
    }
    let before = after(&context, &GIVEN, &policy);
    let origin = Origin { trace: None, source_tokens: 12 };
    let start = Start::prefixed(ProblemId::from("p"), vec![HACKABLE], GIVEN.to_vec(), origin);
    let mut groups = Vec::new();
    let mut listener = |event: &Event| {
        if let Event::Group(event) = event {
            groups.push(event.clone());
        }
        ControlFlow::Continue(())
    };
    let summary = run(&plan, &mut policy, &[start], &Parrot, folder.path(), &mut listener);
    let (honest, parroting) = (after(&context, &ANSWER, &policy), (before, after(&context, &GIVEN, &policy)));
    Parroted { honest, parroting, groups, weights: summary.policy.weights }
}

#[test]
fn what_is_quarantined_is_not_learnt() {
    let reported = parroted("");
    assert!(reported.parroting.1 > 0.9 && reported.honest < 0.1, "{:?}", reported.parroting);
    assert!(reported.groups.iter().all(|group| group.quarantined == 0));
    let quarantined = parroted("action = \"quarantine\"");
    let (before, afterwards) = quarantined.parroting;
    assert!(quarantined.honest > 0.9 && afterwards < before, "{} {afterwards}", quarantined.honest);
    assert!(quarantined.groups.iter().any(|group| group.quarantined > 0));
    // The verdict is in the counts all the same.
    assert!(quarantined.groups.iter().all(|group| group.quarantined as u64 <= group.count.successes));
    assert_ne!(reported.weights, quarantined.weights);
    // One whose flags are not listened to quarantines nothing, and thresholds alone change no weight.
    let unheard = "action = \"quarantine\"\nquarantine_by = [\"repetition\"]\nrepetition = 1.0";
    assert_eq!(parroted(unheard).weights, reported.weights);
    let strict = "parroting = 0.0\nlone = 2\nskipping = 1.0\ncollapse = 1.0\nwindow = 1";
    assert_eq!(parroted(strict).weights, reported.weights);
}

/// A checker that takes the last of any number of answers, each of them the token 1, for right.
struct Stutter;

impl Judge for Stutter {
    fn judge(&self, _: &Start, completion: &Completion) -> Verdict {
        verdict(completion.tokens.last() == Some(&END))
    }

    fn text_of(&self, _: &Start, completion: &Completion) -> Option<String> {
        Some(completion.tokens.iter().map(|&token| if token == END { "answer " } else { "so " }).collect())
    }
}

/// Where one answer is enough, those that state more are found by their text, and quarantined.
#[test]
fn more_answers_than_one_are_seen_in_the_text() {
    let run_with = |detect: &str| {
        let folder = tempfile::tempdir().unwrap();
        let mut plan = plan(30, "starts = 4\ngroup = 16\nlearning_rate = 30.0\nmax_tokens = 4", detect, folder.path());
        plan.stop = Vec::new();
        let mut policy = TabularPolicy::uniform(4, usize::MAX, 1e9);
        policy.never([HACKABLE, HONEST]);
        let (mut quarantined, mut means) = (0, Vec::new());
        let mut listener = |event: &Event| {
            match event {
                Event::Group(event) => quarantined += event.quarantined,
                Event::Step(event) => means.push(event.detectors["answers/mean"]),
                _ => {}
            }
            ControlFlow::Continue(())
        };
        let start = Start::plain(ProblemId::from("p"), vec![HACKABLE]);
        run(&plan, &mut policy, &[start], &Stutter, folder.path(), &mut listener);
        (quarantined, means[0], means[29])
    };
    let (quarantined, before, reported) = run_with("answers = 1");
    // Half of four tokens.
    assert!(quarantined == 0 && (before - 2.0).abs() < 0.5 && reported > 1.5, "{before} {reported}");
    let (quarantined, _, after) = run_with("answers = 1\naction = \"quarantine\"\nquarantine_by = [\"answers\"]");
    assert!(quarantined > 0 && after < 1.4, "{after}");
}

/// Ends a run after some events.
struct Interrupting {
    log: EventLog,
    heard: usize,
    at: usize,
}

impl Listener for Interrupting {
    fn hear(&mut self, event: &Event) -> std::io::Result<ControlFlow<()>> {
        self.heard += 1;
        let _ = self.log.hear(event)?;
        Ok(if self.heard == self.at { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }
}

/// One process of a run in which lengths collapse and successes are quarantined for it.
fn process(folder: &Path, at: usize) -> Summary {
    let detect = "action = \"quarantine\"\nwindow = 3\ncollapse = 0.8\nskipping = 0.5";
    let plan = plan(14, COLLAPSING, detect, folder);
    let step = checkpoint::latest(&plan.checkpoints).unwrap().map(|(_, checkpoint)| checkpoint.step);
    let log = EventLog::open(&folder.join("events.jsonl"), step).unwrap();
    let mut listener = Interrupting { log, heard: 0, at };
    run(&plan, &mut thinker(), &[plain(HACKABLE), plain(HONEST)], &Bare, folder, &mut listener)
}

#[test]
fn a_run_that_is_resumed_remembers_the_lengths() {
    let whole = tempfile::tempdir().unwrap();
    let expected = process(whole.path(), usize::MAX);
    let events = |folder: &Path| std::fs::read_to_string(folder.join("events.jsonl")).unwrap();
    let (text, count) = (events(whole.path()), events(whole.path()).lines().count());
    assert!(text.contains("\"quarantined\":") && text.contains("collapse/mean") && text.contains("skipping/p05"));
    for at in (2..count).step_by(7) {
        let folder = tempfile::tempdir().unwrap();
        process(folder.path(), at);
        assert_eq!(process(folder.path(), usize::MAX), expected, "stopped at event {at}");
        assert!(events(folder.path()) == text, "stopped at event {at}");
    }
}

/// A checkpoint of a build without detectors has no lengths: the run goes on and begins to remember.
#[test]
fn a_checkpoint_without_lengths_is_read() {
    let folder = tempfile::tempdir().unwrap();
    process(folder.path(), 30);
    let (path, found) = checkpoint::latest(&folder.path().join("checkpoints")).unwrap().unwrap();
    assert!(found.detectors.starts() > 0);
    let file = path.join("trainer.json");
    let mut state: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    state.as_object_mut().unwrap().remove("detectors").unwrap();
    std::fs::write(&file, state.to_string()).unwrap();
    let (_, found) = checkpoint::latest(&folder.path().join("checkpoints")).unwrap().unwrap();
    assert_eq!(found.detectors.starts(), 0);
    assert_eq!(process(folder.path(), usize::MAX).step, 14);
}

/// Events of a build without detectors are read, and have none.
#[test]
fn old_events_are_read() {
    let folder = tempfile::tempdir().unwrap();
    process(folder.path(), usize::MAX);
    let text = std::fs::read_to_string(folder.path().join("events.jsonl")).unwrap();
    let mut read = 0;
    for line in text.lines() {
        let mut event: Value = serde_json::from_str(line).unwrap();
        let object = event.as_object_mut().unwrap();
        if object.remove("detectors").is_some() {
            let Event::Step(step) = serde_json::from_value(event).unwrap() else { panic!("{line}") };
            assert!(step.detectors.is_empty() && !serde_json::to_string(&step).unwrap().contains("detectors"));
            read += 1;
        }
    }
    assert_eq!(read, 14);
}

#[test]
fn names_are_those_of_a_recipe() {
    for detector in Detector::ALL {
        let table = detect(&format!("quarantine_by = [\"{}\"]", detector.name()));
        assert_eq!((table.action, table.quarantine_by), (Action::Report, vec![detector]));
    }
}
