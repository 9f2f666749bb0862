//! Successes and attempts on a list of starts.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};
use toehold_rollout::collect::{Judge, JudgeError};
use toehold_rollout::{
    Completion, ProblemId, SampleError, SampleRequest, Sampler, SamplingParams, Start, SuccessCount, TraceKey,
};
use toehold_verifier::Verdict;

/// How much is sampled, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct CountPlan {
    /// Completions per start.
    pub samples: u32,
    /// How they are sampled.
    pub params: SamplingParams,
    /// Seed of the measurement: another one than the training's, so that no rollout is seen twice.
    pub seed: u64,
    /// Requests handed to the sampler at once; the counts do not depend on it.
    pub in_flight: usize,
}

/// One problem's count.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProblemCount {
    /// The problem.
    pub problem: ProblemId,
    /// Its successes and attempts.
    pub count: SuccessCount,
    /// Completion tokens sampled.
    pub tokens: u64,
}

/// Why a measurement failed or ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CountError {
    /// The sampler's trouble.
    #[error(transparent)]
    Sample(#[from] SampleError),
    /// A start that cannot be judged, before anything is sampled, or a verifier that fails too often.
    #[error(transparent)]
    Judge(#[from] JudgeError),
    /// The sampler ended without answering every request.
    #[error("the sampler gave {given} of {asked} completions")]
    Incomplete {
        /// Completions that came.
        given: usize,
        /// Requests made.
        asked: usize,
    },
}

/// Samples `plan.samples` completions of each start and counts those that the judge accepts; in the
/// order of `starts`. What the verifier itself failed on is no attempt.
///
/// # Errors
/// A start that cannot be judged, and the sampler's trouble.
pub fn count_successes(
    sampler: &mut dyn Sampler,
    judge: &dyn Judge,
    starts: &[Start],
    plan: &CountPlan,
) -> Result<Vec<ProblemCount>, CountError> {
    let empty = |start: &Start| ProblemCount { problem: start.problem.clone(), count: Default::default(), tokens: 0 };
    let mut counts: Vec<ProblemCount> = starts.iter().map(empty).collect();
    sample_each(sampler, judge, starts, plan, &mut |at, _, completion, verdict| {
        if verdict.outcome.is_judged() {
            counts[at].count.add(verdict.outcome.is_correct());
        }
        counts[at].tokens += completion.tokens.len() as u64;
    })?;
    Ok(counts)
}

/// Samples `plan.samples` completions of each start and hands each over once: with its start's place
/// in `starts`, its index among that start's completions, and its verdict. In the order in which they
/// end, which says nothing.
///
/// # Errors
/// As [`count_successes`].
pub fn sample_each(
    sampler: &mut dyn Sampler,
    judge: &dyn Judge,
    starts: &[Start],
    plan: &CountPlan,
    each: &mut dyn FnMut(usize, u32, Completion, Verdict),
) -> Result<(), CountError> {
    starts.iter().try_for_each(|start| judge.check(start))?;
    let asked: Vec<(usize, u32)> =
        (0..starts.len()).flat_map(|start| (0..plan.samples).map(move |index| (start, index))).collect();
    sample_asked(sampler, judge, starts, &templates(starts, &plan.params), &asked, plan, each)
}

/// Samples `asked`, completions by their start and their index, each start as its template says; the starts
/// can be judged. Otherwise as [`sample_each`].
pub(super) fn sample_asked(
    sampler: &mut dyn Sampler,
    judge: &dyn Judge,
    starts: &[Start],
    templates: &[SampleRequest],
    asked: &[(usize, u32)],
    plan: &CountPlan,
    each: &mut dyn FnMut(usize, u32, Completion, Verdict),
) -> Result<(), CountError> {
    let policy = sampler.version();
    let request = |&(at, index): &(usize, u32)| {
        let key = TraceKey { start: starts[at].id.clone(), policy: policy.clone(), seed: plan.seed, index };
        SampleRequest { seed: key.request_seed(), ..templates[at].clone() }
    };
    for chunk in asked.chunks(plan.in_flight.max(1)) {
        let requests: Vec<SampleRequest> = chunk.iter().map(request).collect();
        let (mut given, mut waiting) = (0, Vec::new());
        let mut judge_waiting = |waiting: &mut Vec<(usize, Completion)>| {
            let asked: Vec<_> = waiting.iter().map(|(at, completion)| (&starts[chunk[*at].0], completion)).collect();
            let verdicts = judge.judge_all(&asked);
            for ((at, completion), verdict) in waiting.drain(..).zip(verdicts) {
                let (start, index) = chunk[at];
                each(start, index, completion, verdict);
            }
        };
        sampler.sample(&requests, &mut |at: usize, completion: Completion| {
            waiting.push((at, completion));
            if waiting.len() >= judge.together() {
                judge_waiting(&mut waiting);
            }
            given += 1;
            ControlFlow::Continue(())
        })?;
        judge_waiting(&mut waiting);
        judge.healthy()?;
        if given != chunk.len() {
            return Err(CountError::Incomplete { given, asked: chunk.len() });
        }
    }
    Ok(())
}

/// Each start once as a request, whose tokens all of its completions share.
pub(super) fn templates(starts: &[Start], params: &SamplingParams) -> Vec<SampleRequest> {
    let template = |start: &Start| SampleRequest {
        prompt: start.prompt.as_slice().into(),
        prefix: start.prefix.as_slice().into(),
        params: params.clone(),
        seed: 0,
    };
    starts.iter().map(template).collect()
}
