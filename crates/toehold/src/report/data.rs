//! What a report shows, in plain numbers.
//!
//! Rates and their bounds are in [0, 1]; compute is in floating-point operations; a number that is not
//! finite counts as missing. Every list may be empty and every `Option` none.

use serde::{Deserialize, Serialize};
use toehold_rollout::SuccessCount;
use toehold_verifier::Outcome;

/// All that a report shows, in the order in which it shows it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReportData {
    /// The page's title: the run's name, or what is compared.
    pub title: String,
    /// The outcome in one sentence.
    pub summary: String,
    /// What was run: problems, policy, seeds, hashes.
    pub facts: Vec<Fact>,
    /// The table at the top, one row per arm; rows without training (a base policy) are welcome.
    pub headline: Vec<HeadlineRow>,
    /// What is drawn against compute and against steps. Colours are told apart up to seven arms.
    pub arms: Vec<Arm>,
    /// What was computed over seeds, as tables.
    pub comparison: Vec<PlainTable>,
    /// Which runs the sections on steps and traces show, when they do not show all; may be empty.
    pub detail: String,
    /// How hard the problems were for the policy that collected traces.
    pub collections: Vec<Collection>,
    /// Stored traces by outcome, where there are any.
    pub outcomes: Option<PlainTable>,
    /// A few traces in full.
    pub traces: Vec<TraceView>,
    /// The resolved recipe, TOML; with several arms, one after the other.
    pub recipe: String,
}

/// One thing that was run, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// What it is: `policy`, `problems`, `seed`.
    pub name: String,
    /// Its value as printed.
    pub value: String,
}

/// A table of words, the first column naming its rows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PlainTable {
    /// What it shows, in a sentence or two.
    pub lead: String,
    /// Its columns.
    pub headers: Vec<String>,
    /// Its rows, as long as `headers`.
    pub rows: Vec<Vec<String>>,
}

/// One row of the table at the top.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HeadlineRow {
    /// The arm; a row with the name of an [`Arm`] gets its colour.
    pub name: String,
    /// Compute in all, collection included, in FLOPs.
    pub flops: f64,
    /// The share of it that found prefixes, in FLOPs.
    pub flops_collection: f64,
    /// Optimizer steps.
    pub steps: u64,
    /// On the plain training problems, at the end.
    pub train: Option<Success>,
    /// On the plain held-out problems, at the end.
    pub held_out: Option<Success>,
    /// pass@k on the plain held-out problems (on training problems if none are held out), at the end.
    pub pass_at_k: Vec<Estimate>,
}

/// One way of training, or one run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Arm {
    /// Its name, short enough for a legend.
    pub name: String,
    /// Runs that it is over, one per seed; 0 is read as 1. The intervals of several are over seeds.
    pub seeds: usize,
    /// Evaluations on plain problems, by compute.
    pub evaluations: Vec<Evaluation>,
    /// What each training step told, by step.
    pub steps: Vec<StepPoint>,
    /// Success by the share of a prefix that is given.
    pub prefix_sweep: PrefixSweep,
    /// pass@k by k.
    pub pass_at_k: PassAtK,
}

/// Successes and attempts with an interval.
///
/// `From<SuccessCount>` gives Wilson's; a bootstrap over problems may say something else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Success {
    /// Attempts that the verifier accepted.
    pub successes: u64,
    /// Attempts with a verdict.
    pub attempts: u64,
    /// Lower bound of the rate at 95 %.
    pub low: f64,
    /// Upper bound of the rate at 95 %.
    pub high: f64,
}

impl Success {
    /// Successes over attempts; none without attempts.
    pub fn rate(&self) -> Option<f64> {
        SuccessCount { successes: self.successes, attempts: self.attempts }.rate()
    }
}

impl From<SuccessCount> for Success {
    fn from(count: SuccessCount) -> Success {
        let (low, high) = count.interval();
        Success { successes: count.successes, attempts: count.attempts, low, high }
    }
}

/// One evaluation during training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Evaluation {
    /// Optimizer steps done before it.
    pub step: u64,
    /// Compute spent before it, collection included and evaluation not, in FLOPs.
    pub flops: f64,
    /// On the plain training problems.
    pub train: Option<Success>,
    /// On the plain held-out problems.
    pub held_out: Option<Success>,
}

/// What one training step told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StepPoint {
    /// Which step, from 1.
    pub step: u64,
    /// Groups that began at plain problems.
    pub plain: GroupCounts,
    /// Groups that began at prefixed problems.
    pub prefixed: GroupCounts,
    /// Mean entropy per sampled token, in nats.
    pub entropy: Option<f64>,
    /// Mean reward of the step's completions.
    pub reward: Option<f64>,
    /// Norm of the gradient before clipping.
    pub gradient_norm: Option<f64>,
    /// Deviation of the gradient by moving averages.
    pub gradient_deviation: Option<f64>,
    /// Mean length of a completion, in tokens.
    pub completion_tokens: Option<f64>,
}

/// A step's groups by what their rewards were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GroupCounts {
    /// Every completion failed.
    pub all_fail: u64,
    /// Some succeeded, some failed: the groups that teach.
    pub mixed: u64,
    /// Every completion succeeded.
    pub all_pass: u64,
}

/// A measurement at both ends of training; an empty list was not measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BeforeAfter<T> {
    /// The policy that training began with.
    pub before: Vec<T>,
    /// The policy that training ended with.
    pub after: Vec<T>,
}

/// Success by the share of a prefix that is given.
pub type PrefixSweep = BeforeAfter<SweepPoint>;

/// pass@k by k.
pub type PassAtK = BeforeAfter<Estimate>;

/// Success when a share of a prefix is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SweepPoint {
    /// The share of the source trace that is given, in [0, 1].
    pub fraction: f64,
    /// Success from there.
    pub success: Success,
}

/// An estimate of pass@k: the chance that at least one of k attempts succeeds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// How many attempts, at least 1.
    pub k: u32,
    /// The estimate, in [0, 1].
    pub value: f64,
    /// Lower bound at 95 %.
    pub low: f64,
    /// Upper bound at 95 %.
    pub high: f64,
}

/// One collection of traces, by bands of success.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Collection {
    /// What was collected, by whom; may be empty when there is only one.
    pub name: String,
    /// The bands that occur, from the hardest to the easiest.
    pub bands: Vec<BandRow>,
}

/// The problems of one band.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BandRow {
    /// The band's word: unsolved, hard, medium, brittle, saturated.
    pub band: String,
    /// How many problems.
    pub problems: u64,
    /// Attempts at them.
    pub attempts: u64,
    /// Attempts that succeeded.
    pub successes: u64,
}

/// One trace in full.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceView {
    /// The problem's id.
    pub problem_id: String,
    /// The problem's statement.
    pub problem: String,
    /// What the policy was given before the prefix, template included.
    pub prompt: String,
    /// The given text of the assistant's turn; empty for a plain problem.
    pub prefix: String,
    /// What the policy wrote after it.
    pub completion: String,
    /// What the verifier said.
    pub outcome: Outcome,
    /// The answer that the verifier read, if it found one.
    pub extracted: Option<String>,
    /// The right answer.
    pub reference: String,
    /// The arm it belongs to; may be empty.
    pub arm: String,
    /// The training step it was sampled in; none outside training.
    pub step: Option<u64>,
    /// The weights that sampled it.
    pub policy: String,
}
