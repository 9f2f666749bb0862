//! What happened, as data: one JSON object per event.
//!
//! Events carry no time and no host name, so a run that was killed and resumed has the same events as
//! one that was not. Every event has the number of optimizer steps that were done by then.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::ops::ControlFlow;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use toehold_rollout::{PolicyVersion, ProblemId, StartId, StepStats, SuccessCount};
use toehold_verifier::Outcome;

use super::Compute;
use crate::curriculum::Fate;
use crate::evaluation::{PassAtK, ProblemCount};

/// Something that happened in a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A run began with these weights.
    Started {
        /// Always 0.
        step: u64,
        /// The weights.
        policy: PolicyVersion,
        /// What was spent before.
        compute: Compute,
        /// Its price.
        flops: f64,
    },
    /// A run goes on from a checkpoint. Not part of the record: see [`EventLog`].
    Resumed {
        /// Steps done.
        step: u64,
    },
    /// One batch of imitation.
    Imitated(Imitated),
    /// One group was sampled: the curriculum's decision and what came of it.
    Group(GroupEvent),
    /// One optimizer step was done.
    Step(Box<StepEvent>),
    /// Plain problems were measured.
    Evaluated(Evaluated),
    /// A checkpoint is about to be written. Not part of the record, because an interruption makes one
    /// more.
    Checkpoint {
        /// Steps done.
        step: u64,
    },
    /// The run ended.
    Finished {
        /// Steps done.
        step: u64,
        /// Why.
        reason: StopReason,
        /// All that was spent.
        compute: Compute,
        /// Its price.
        flops: f64,
    },
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// Its steps are done.
    Steps,
    /// Its FLOPs are used up.
    Flops,
    /// The listener asked for it.
    Interrupted,
}

/// One batch of imitation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Imitated {
    /// Always 0: it comes before the first step.
    pub step: u64,
    /// Pass over the traces, from 0.
    pub epoch: u32,
    /// Batch since the beginning of the stage, from 0.
    pub batch: u64,
    /// Mean negative log-probability of a token, in nats, before the batch's step.
    pub loss: f64,
    /// Learning rate of the batch's step.
    pub learning_rate: f64,
    /// What the step did.
    pub gradient: StepStats,
    /// All that was spent on imitation so far.
    pub compute: Compute,
}

/// One group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupEvent {
    /// Steps done, this one included.
    pub step: u64,
    /// Its problem.
    pub problem: ProblemId,
    /// Its start.
    pub start: StartId,
    /// Tokens given; 0 for a plain problem.
    pub prefix_tokens: usize,
    /// Length of the trace that the prefix is from; 0 for a plain problem.
    pub source_tokens: u32,
    /// The curriculum's reason.
    pub why: String,
    /// What came of it.
    pub count: SuccessCount,
    /// Whether it was learnt from; written only when it was not.
    #[serde(default, skip_serializing_if = "is_learnt")]
    pub fate: Fate,
    /// Successes that were not learnt from because a detector flagged them; written only when there are any.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub quarantined: usize,
    /// Rollouts that the verifier could not judge, which are no attempts; written only when there are any.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub masked: usize,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

fn is_learnt(fate: &Fate) -> bool {
    *fate == Fate::Learnt
}

/// How many groups all failed, were mixed, or all succeeded. Only mixed ones say something to an
/// objective with a baseline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mixture {
    /// No success.
    pub all_fail: usize,
    /// Both.
    pub mixed: usize,
    /// No failure.
    pub all_pass: usize,
}

/// What the groups of one kind of start came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KindStats {
    /// Successes and attempts.
    pub count: SuccessCount,
    /// Its groups by outcome.
    pub groups: Mixture,
}

/// One optimizer step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepEvent {
    /// Steps done, this one included.
    pub step: u64,
    /// The weights that sampled.
    pub policy: PolicyVersion,
    /// Mean reward of all rollouts that were judged.
    pub reward: f64,
    /// Rollouts by what the verifier said, `infra` included; none in a run of a build without them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outcomes: BTreeMap<Outcome, u64>,
    /// Starts without a prefix.
    pub plain: KindStats,
    /// Starts with one.
    pub prefixed: KindStats,
    /// Entropy of the sampling distribution, in nats per token: minus the mean log-probability of the
    /// sampled tokens, which is its unbiased estimate.
    pub entropy: f64,
    /// Mean completion length, in tokens.
    pub completion_tokens: f64,
    /// Completions cut off by the limit.
    pub cut_off: usize,
    /// Traces with an advantage other than zero.
    pub trained_traces: usize,
    /// Mean of `|current − behavior|` over trained tokens: how far sampler and learner disagree. At
    /// another temperature than 1 they should.
    pub mismatch: f64,
    /// What the step did; all zeros when nothing was to be learnt, and the weights are then unmoved.
    pub gradient: StepStats,
    /// Its learning rate.
    pub learning_rate: f64,
    /// Tokens of this step.
    pub compute: Compute,
    /// Price of everything up to and with this step.
    pub flops: f64,
    /// The curriculum's own numbers.
    pub curriculum: BTreeMap<String, f64>,
    /// What the rewards of the groups that were learnt from were made of, as
    /// [`Shaping::metrics`](crate::objective::modifier::shaping::Shaping::metrics) names it: means of each part;
    /// none where rewards are verdicts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub shaping: BTreeMap<String, f64>,
    /// The detectors' numbers, as [`inspect`](crate::detector::inspect()) names them; none in a run of a build
    /// without them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub detectors: BTreeMap<String, f64>,
}

/// One measurement of one set of plain problems.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluated {
    /// Steps done.
    pub step: u64,
    /// Name of the set, such as `train` or `held_out`.
    pub set: String,
    /// Over all problems.
    pub count: SuccessCount,
    /// pass@k with intervals over problems.
    pub pass_at_k: Vec<PassAtK>,
    /// One per problem.
    pub problems: Vec<ProblemCount>,
    /// Price of the training up to here; the measurement itself is not in it.
    pub flops: f64,
}

impl Event {
    /// Optimizer steps done when it happened.
    pub fn step(&self) -> u64 {
        match self {
            Event::Started { step, .. }
            | Event::Resumed { step }
            | Event::Checkpoint { step }
            | Event::Finished { step, .. } => *step,
            Event::Imitated(event) => event.step,
            Event::Group(event) => event.step,
            Event::Step(event) => event.step,
            Event::Evaluated(event) => event.step,
        }
    }
}

/// Hears every event.
pub trait Listener {
    /// `ControlFlow::Break` asks the run to end after the current step, with a checkpoint.
    ///
    /// # Errors
    /// When the event cannot be kept; the run then ends at once, without a checkpoint, because its
    /// record would have a hole.
    fn hear(&mut self, event: &Event) -> io::Result<ControlFlow<()>>;
}

impl<F: FnMut(&Event) -> ControlFlow<()>> Listener for F {
    fn hear(&mut self, event: &Event) -> io::Result<ControlFlow<()>> {
        Ok(self(event))
    }
}

/// Appends events to a file of JSON lines, so that a resumed run's file is the same as an
/// uninterrupted one's: what came after the checkpoint is cut off, and neither checkpoints nor resuming
/// are recorded.
#[derive(Debug)]
pub struct EventLog {
    file: File,
}

impl EventLog {
    /// Opens or creates the file at `path` and cuts off what a run that goes on from `checkpoint`
    /// (steps done; none when it begins anew) will write again.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn open(path: &Path, checkpoint: Option<u64>) -> io::Result<EventLog> {
        let file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        file.set_len(length_to_keep(&file, checkpoint)?)?;
        Ok(EventLog { file })
    }
}

impl Listener for EventLog {
    fn hear(&mut self, event: &Event) -> io::Result<ControlFlow<()>> {
        if !matches!(event, Event::Resumed { .. } | Event::Checkpoint { .. }) {
            let mut line = serde_json::to_vec(event).map_err(io::Error::other)?;
            line.push(b'\n');
            // One write per line: a killed process leaves whole lines and at most one torn one.
            self.file.write_all(&line)?;
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// Bytes of the leading lines that are whole and of steps up to `checkpoint`. A `finished` line is
/// never kept: whoever goes on writes another.
fn length_to_keep(file: &File, checkpoint: Option<u64>) -> io::Result<u64> {
    let Some(checkpoint) = checkpoint else { return Ok(0) };
    let (mut reader, mut line, mut length) = (BufReader::new(file), Vec::new(), 0);
    while reader.read_until(b'\n', &mut line)? > 0 {
        let event: Value = serde_json::from_slice(&line).unwrap_or_default();
        let is_before = event["step"].as_u64().is_some_and(|step| step <= checkpoint);
        if !line.ends_with(b"\n") || !is_before || event["event"] == "finished" {
            break;
        }
        length += line.len() as u64;
        line.clear();
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use toehold_rollout::PolicyVersion;

    use super::{Compute, Event, EventLog, Listener};

    fn event(step: u64) -> Event {
        let policy = PolicyVersion { weights: "w".to_owned() };
        Event::Started { step, policy, compute: Compute::default(), flops: 0.0 }
    }

    #[test]
    fn resuming_cuts_off_what_will_be_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        let mut log = EventLog::open(&path, None).unwrap();
        for step in 1..=4 {
            for event in [event(step), Event::Resumed { step }, Event::Checkpoint { step }] {
                assert!(log.hear(&event).unwrap().is_continue());
            }
        }
        let whole = std::fs::read_to_string(&path).unwrap();
        assert_eq!(whole.lines().count(), 4);
        assert!(whole.starts_with(r#"{"event":"started","step":1,"#), "{whole}");
        // A process killed in the middle of a line.
        std::fs::write(&path, format!("{whole}{{\"event\":\"st")).unwrap();
        let mut log = EventLog::open(&path, Some(2)).unwrap();
        for step in 3..=4 {
            assert!(log.hear(&event(step)).unwrap().is_continue());
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), whole);
        EventLog::open(&path, None).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "");
    }
}
