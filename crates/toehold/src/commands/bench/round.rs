//! One round of each part: what is timed, and how much was computed.

use std::ops::ControlFlow;
use std::time::Instant;

use anyhow::{Result, bail};
use serde::Serialize;
use toehold_policy::{Policy, Sharing};
use toehold_rollout::{Learner, Sampler, TokenScores, Trace};
use toehold_training::objective::advantage::Deviation;
use toehold_training::objective::grpo::Grpo;
use toehold_training::objective::reinforce::Reinforce;
use toehold_training::objective::{Weigh, aggregate};
use toehold_training::random;
use toehold_training::recipe::Aggregation;

use super::workload::Workload;
use crate::interrupt::{self, Interrupted};

/// So small that hundreds of rounds leave the policy what it was.
const RATE: f64 = 1e-6;

/// What one round computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Work {
    /// Completions of all starts.
    Sampling,
    /// Gradient of the given traces, and the optimizer's step.
    Learning,
    /// A GRPO step: sample, gradient with the coefficients of random rewards, optimizer, publish.
    Step,
}

/// What one round took.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Round {
    /// From the first call to the last.
    pub(super) seconds: f64,
    /// Tokens sampled.
    pub(super) sampled: u64,
    /// Tokens of the traces learnt from, given ones included, each trace counted for itself.
    pub(super) learnt: u64,
    /// The same, with given tokens that were shared counted once.
    pub(super) computed: u64,
}

/// Runs round number `round` of `work`.
///
/// # Errors
/// What the policy refuses, and Ctrl-C, as [`Interrupted`] (the caller says how to go on).
pub(super) fn run(work: Work, policy: &mut Policy, workload: &Workload, sharing: Sharing, round: u64) -> Result<Round> {
    // Requests and given traces are made before the clock starts: a trainer has them in its hands.
    let requests =
        if work == Work::Learning { Vec::new() } else { workload.requests(round, policy.config().vocab_size) };
    let mut traces = if work == Work::Learning { workload.traces() } else { Vec::new() };
    let begin = Instant::now();
    if work != Work::Learning {
        traces = sample(policy, &requests)?;
    }
    let sampled = if work == Work::Learning { 0 } else { completion_tokens(&traces) };
    match work {
        Work::Sampling => {}
        Work::Learning => learn(policy, &traces, &Reinforce {}, &alternating(traces.len()))?,
        Work::Step => {
            let grpo = Grpo { clip_low: 0.2, clip_high: 0.2, deviation: Deviation::Sample, epsilon: 1e-6 };
            let advantages = advantages(&grpo, workload, round);
            learn(policy, &traces, &grpo, &advantages)?;
            policy.publish()?;
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    if work == Work::Sampling {
        return Ok(Round { seconds, sampled, learnt: 0, computed: 0 });
    }
    let completions = completion_tokens(&traces);
    let given = |sharing| match work {
        Work::Learning => workload.given(sharing, |start| start.completions.len()),
        _ => workload.given(sharing, |_| workload.group),
    };
    let (learnt, computed) = (completions + given(Sharing::Separate), completions + given(sharing));
    Ok(Round { seconds, sampled, learnt, computed })
}

/// The completion of every request, in the order of the requests.
fn sample(policy: &mut Policy, requests: &[toehold_rollout::SampleRequest]) -> Result<Vec<Trace>> {
    let version = policy.version();
    let mut traces: Vec<Option<Trace>> = vec![None; requests.len()];
    let mut done = |index: usize, completion| -> ControlFlow<()> {
        let toehold_rollout::SampleRequest { prompt, prefix, .. } = &requests[index];
        let (prompt, prefix) = (prompt.to_vec(), prefix.to_vec());
        traces[index] = Some(Trace { prompt, prefix, completion, sampled_by: version.clone() });
        interrupt::flow()
    };
    policy.sample(requests, &mut done)?;
    match traces.into_iter().collect() {
        Some(traces) => Ok(traces),
        None => bail!(Interrupted { resume: String::new() }),
    }
}

fn learn(policy: &mut Policy, traces: &[Trace], objective: &dyn Weigh, advantages: &[f64]) -> Result<()> {
    let lengths: Vec<usize> = traces.iter().map(|trace| trace.completion.tokens.len()).collect();
    let scales = aggregate::scales(Aggregation::TokenMean, &lengths, 0);
    let borrowed: Vec<&Trace> = traces.iter().collect();
    let mut coefficients = |at: usize, scores: &TokenScores| {
        let behavior = &traces[at].completion.behavior;
        let coefficients = objective.coefficients(advantages[at], &scores.current, behavior);
        coefficients.into_iter().map(|coefficient| (coefficient * scales[at]) as f32).collect()
    };
    policy.accumulate(&borrowed, &mut coefficients)?;
    policy.step(RATE)?;
    Ok(())
}

/// One advantage per rollout, from random rewards of 0 and 1.
///
/// A silent group would be left out of the update, and rounds would differ in their work: each group has
/// at least one success and one failure, and a group of one, which has no baseline, is given ±1.
fn advantages(grpo: &Grpo, workload: &Workload, round: u64) -> Vec<f64> {
    if workload.group == 1 {
        return alternating(workload.starts.len());
    }
    let mut rng = random::stream(0, "bench reward", &[round]);
    let group = |_| {
        let mut rewards: Vec<f64> = (0..workload.group).map(|_| random::below(&mut rng, 2) as f64).collect();
        (rewards[0], rewards[1]) = (1.0, 0.0);
        grpo.advantages(&rewards)
    };
    (0..workload.starts.len()).flat_map(group).collect()
}

fn alternating(count: usize) -> Vec<f64> {
    (0..count).map(|index| if index.is_multiple_of(2) { 1.0 } else { -1.0 }).collect()
}

fn completion_tokens(traces: &[Trace]) -> u64 {
    traces.iter().map(|trace| trace.completion.tokens.len() as u64).sum()
}
