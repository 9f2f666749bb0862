//! A run that was killed anywhere ends as one that was not: same weights, store and events.
#![allow(clippy::unwrap_used)] // A test that unwraps fails, which is its purpose.

mod common;

use std::io;
use std::ops::ControlFlow;
use std::path::Path;

use common::{HiddenStrings, open_store, plan, run};
use toehold_rollout::store::TraceFilter;
use toehold_training::Event;
use toehold_training::trainer::{Compute, EventLog, Listener, StopReason, Summary, TrainError, TrainPlan, checkpoint};

const STEPS: u64 = 7;
const PREFIX: &str = "kind = \"success-prefix\"\nfrom = 0.25\n";

/// How a run is stopped.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stop {
    /// Asked to end, it writes a checkpoint first.
    Politely,
    /// It ends at once, as if killed.
    Killed,
}

/// Keeps the events, and stops at the `at`-th.
struct Stopping {
    log: EventLog,
    heard: usize,
    at: usize,
    stop: Stop,
}

impl Listener for Stopping {
    fn hear(&mut self, event: &Event) -> io::Result<ControlFlow<()>> {
        self.heard += 1;
        if self.heard == self.at && self.stop == Stop::Killed {
            return Err(io::Error::other("killed"));
        }
        let _ = self.log.hear(event)?;
        Ok(if self.heard == self.at { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }
}

/// Starts the run in `folder`, or goes on with it, as a new process would.
fn process(folder: &Path, plan: &TrainPlan, at: usize, stop: Stop) -> Result<Summary, TrainError> {
    let strings = strings();
    let step = checkpoint::latest(&plan.checkpoints).unwrap().map(|(_, checkpoint)| checkpoint.step);
    let log = EventLog::open(&folder.join("events.jsonl"), step).unwrap();
    let mut listener = Stopping { log, heard: 0, at, stop };
    run(&strings, &mut strings.policy(), PREFIX, "kind = \"reinforce\"", plan, folder, &mut listener)
}

fn strings() -> HiddenStrings {
    HiddenStrings::new(3, 6)
}

/// Everything that a run leaves behind and that has to be equal.
fn remains(folder: &Path, summary: &Summary) -> (Summary, String, String, String) {
    let store = open_store(folder, &strings());
    let traces = format!("{:?}", store.traces(&TraceFilter::default()).unwrap());
    let policies = format!("{:?}", store.policies().unwrap());
    let events = std::fs::read_to_string(folder.join("events.jsonl")).unwrap();
    (summary.clone(), traces, policies, events)
}

/// What is in `folder`, sorted.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn uninterrupted() -> (Summary, String, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(&strings(), STEPS, folder.path());
    let summary = process(folder.path(), &plan, usize::MAX, Stop::Killed).unwrap();
    remains(folder.path(), &summary)
}

#[test]
fn a_run_may_be_stopped_at_every_event() {
    let whole = uninterrupted();
    assert_eq!(whole.0.reason, StopReason::Steps);
    let events = whole.3.lines().count();
    assert!(events > 8 * STEPS as usize, "{events}");
    for stop in [Stop::Politely, Stop::Killed] {
        for at in (1..events).step_by(3) {
            let folder = tempfile::tempdir().unwrap();
            let plan = plan(&strings(), STEPS, folder.path());
            let first = process(folder.path(), &plan, at, stop);
            match stop {
                Stop::Killed => assert!(matches!(first, Err(TrainError::Listener(_)))),
                Stop::Politely => assert!(first.is_ok()),
            }
            let summary = process(folder.path(), &plan, usize::MAX, stop).unwrap();
            assert!(remains(folder.path(), &summary) == whole, "{stop:?} at event {at}");
        }
    }
}

#[test]
fn a_run_may_be_stopped_again_and_again() {
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(&strings(), STEPS, folder.path());
    let mut processes = 0;
    let summary = loop {
        processes += 1;
        let summary = process(folder.path(), &plan, 5, Stop::Politely).unwrap();
        if summary.reason == StopReason::Steps {
            break summary;
        }
    };
    assert!(processes >= STEPS, "{processes}");
    assert!(remains(folder.path(), &summary) == uninterrupted());
}

#[test]
fn a_finished_run_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(&strings(), STEPS, folder.path());
    let first = process(folder.path(), &plan, usize::MAX, Stop::Killed).unwrap();
    let remained = remains(folder.path(), &first);
    let again = process(folder.path(), &plan, usize::MAX, Stop::Killed).unwrap();
    assert!(remains(folder.path(), &again) == remained);
}

#[test]
fn only_the_newest_checkpoints_are_kept_and_another_seed_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut plan = plan(&strings(), STEPS, folder.path());
    process(folder.path(), &plan, usize::MAX, Stop::Killed).unwrap();
    assert_eq!(names(&plan.checkpoints), ["step-000006", "step-000007"]);
    plan.seed += 1;
    let error = process(folder.path(), &plan, usize::MAX, Stop::Killed).unwrap_err();
    assert!(error.to_string().contains("is of seed 5, expected 6"), "{error}");
}

/// A kill while the third newest was being removed left a folder with half of its files for good.
#[test]
fn what_a_kill_left_of_an_old_checkpoint_goes_when_the_run_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(&strings(), STEPS, folder.path());
    process(folder.path(), &plan, usize::MAX, Stop::Killed).unwrap();
    for left in ["step-000005", ".step-000004.discarded", ".step-000008.unfinished"] {
        let left = plan.checkpoints.join(left);
        std::fs::create_dir(&left).unwrap();
        std::fs::write(left.join("trainer.json"), "{").unwrap();
    }
    process(folder.path(), &plan, usize::MAX, Stop::Killed).unwrap();
    assert_eq!(names(&plan.checkpoints), ["step-000006", "step-000007"]);
}

#[test]
fn a_budget_of_flops_ends_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let mut plan = plan(&strings(), 1_000, folder.path());
    plan.spent.sampled_tokens = 1_000;
    let flops = plan.spent.flops(25);
    plan.train.flops = Some(20.0 * flops);
    let summary = process(folder.path(), &plan, usize::MAX, Stop::Killed).unwrap();
    assert_eq!(summary.reason, StopReason::Flops);
    assert!(summary.flops >= 20.0 * flops && summary.flops < 40.0 * flops, "{summary:?}");
    // A budget that collection used up leaves nothing for training.
    let folder = tempfile::tempdir().unwrap();
    plan.checkpoints = folder.path().join("checkpoints");
    plan.train.flops = Some(flops);
    assert_eq!(process(folder.path(), &plan, usize::MAX, Stop::Killed).unwrap().step, 0);
}

#[test]
fn a_budget_that_collecting_used_up_still_ends_in_a_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let mut plan = plan(&strings(), STEPS, folder.path());
    plan.spent = Compute { sampled_tokens: 1_000_000, trained_tokens: 0 };
    plan.train.flops = Some(1.0);
    let summary = process(folder.path(), &plan, usize::MAX, Stop::Killed).unwrap();
    assert_eq!((summary.step, summary.reason), (0, StopReason::Flops));
    assert_eq!(checkpoint::latest(&plan.checkpoints).unwrap().unwrap().1.step, 0);
}
