//! The groups of one step: sampled, judged and ready to be stored.

use std::collections::HashMap;
use std::ops::ControlFlow;

use toehold_rollout::collect::Judge;
use toehold_rollout::store::{Stage, TraceRecord};
use toehold_rollout::{
    Completion, PolicyVersion, SampleRequest, Sampler, SamplingParams, StartId, SuccessCount, Trace, TraceKey,
};
use toehold_verifier::Verdict;

use super::{Compute, TrainError};
use crate::curriculum::{Fate, GroupOutcome, Selection};

/// The traces of one start under one policy version.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// The start, and why it was chosen.
    pub selection: Selection,
    /// What was sampled from it and judged, by index.
    pub rollouts: Vec<Rollout>,
    /// What was sampled from it and could not be judged, by index. It is stored and paid for, and takes part
    /// in nothing else: no count, no baseline, no coefficient.
    pub masked: Vec<Rollout>,
    /// Whether it is learnt from.
    pub fate: Fate,
}

/// One rollout with its verdict.
#[derive(Clone, Debug, PartialEq)]
pub struct Rollout {
    /// What makes it unique in the store.
    pub key: TraceKey,
    /// Its tokens.
    pub trace: Trace,
    /// What the verifier said.
    pub verdict: Verdict,
}

impl Group {
    /// One reward per rollout: 1 for a correct one, 0 otherwise.
    pub fn rewards(&self) -> Vec<f64> {
        self.rollouts.iter().map(|rollout| f64::from(u8::from(rollout.verdict.outcome.is_correct()))).collect()
    }

    /// Its successes and attempts.
    pub fn count(&self) -> SuccessCount {
        let mut count = SuccessCount::default();
        self.rollouts.iter().for_each(|rollout| count.add(rollout.verdict.outcome.is_correct()));
        count
    }

    /// Everything that was sampled from it, by index.
    pub fn sampled(&self) -> Vec<&Rollout> {
        let mut all: Vec<&Rollout> = self.rollouts.iter().chain(&self.masked).collect();
        all.sort_by_key(|rollout| rollout.key.index);
        all
    }

    /// What the curriculum hears of it.
    pub fn outcome(&self) -> GroupOutcome {
        GroupOutcome { count: self.count(), completion_tokens: self.completion_tokens() }
    }

    fn completion_tokens(&self) -> u64 {
        let all = self.rollouts.iter().chain(&self.masked);
        all.map(|rollout| rollout.trace.completion.tokens.len() as u64).sum()
    }

    /// Tokens that sampling it took: prompt and prefix once, and every completion.
    pub fn compute(&self) -> Compute {
        let start = &self.selection.start;
        let given = (start.prompt.len() + start.prefix.len()) as u64;
        Compute { sampled_tokens: given + self.completion_tokens(), trained_tokens: 0 }
    }
}

/// Samples `size` rollouts from each selection and judges them; in the order of `selections`.
///
/// `seed` belongs to the step: a policy that did not move in a step would otherwise be asked for the
/// very same rollouts again, and never move.
pub(super) fn sample_groups(
    sampler: &mut impl Sampler,
    judge: &dyn Judge,
    selections: Vec<Selection>,
    size: u32,
    params: &SamplingParams,
    seed: u64,
) -> Result<Vec<Group>, TrainError> {
    let policy = sampler.version();
    let keys = keys(&selections, size, &policy, seed);
    let requests: Vec<SampleRequest> =
        selections.iter().zip(&keys).flat_map(|(selection, keys)| requests(selection, keys, params)).collect();
    let mut completions: Vec<Option<Completion>> = vec![None; requests.len()];
    sampler.sample(&requests, &mut |at, completion| {
        completions[at] = Some(completion);
        ControlFlow::Continue(())
    })?;
    let given = completions.iter().flatten().count();
    if given != requests.len() {
        return Err(TrainError::Incomplete { given, asked: requests.len() });
    }
    let completions: Vec<Completion> = completions.into_iter().flatten().collect();
    // All at once, so that verdicts that take time are given side by side.
    let starts = selections.iter().flat_map(|selection| std::iter::repeat_n(&*selection.start, size as usize));
    let verdicts = judge.judge_all(&starts.zip(&completions).collect::<Vec<_>>());
    let mut judged = completions.into_iter().zip(verdicts);
    let group = |(selection, keys): (Selection, Vec<TraceKey>)| {
        let rollout = |(key, (completion, verdict)): (TraceKey, (Completion, Verdict))| {
            let (prompt, prefix) = (selection.start.prompt.clone(), selection.start.prefix.clone());
            Rollout { key, trace: Trace { prompt, prefix, completion, sampled_by: policy.clone() }, verdict }
        };
        let is_judged = |rollout: &Rollout| rollout.verdict.outcome.is_judged();
        let (rollouts, masked) = keys.into_iter().zip(&mut judged).map(rollout).partition(is_judged);
        Group { selection, rollouts, masked, fate: Fate::Learnt }
    };
    Ok(selections.into_iter().zip(keys).map(group).collect())
}

/// One key per rollout. A start that was chosen twice in a step goes on counting where it stopped, so
/// that its second group is not a copy of the first.
fn keys(selections: &[Selection], size: u32, policy: &PolicyVersion, seed: u64) -> Vec<Vec<TraceKey>> {
    let mut next: HashMap<&StartId, u32> = HashMap::new();
    let group = |selection| {
        let Selection { start, .. }: &Selection = selection;
        let first = *next.entry(&start.id).and_modify(|next| *next += size).or_insert(0);
        let key = |index| TraceKey { start: start.id.clone(), policy: policy.clone(), seed, index };
        (first..first + size).map(key).collect()
    };
    selections.iter().map(group).collect()
}

fn requests(selection: &Selection, keys: &[TraceKey], params: &SamplingParams) -> Vec<SampleRequest> {
    let request = SampleRequest {
        prompt: selection.start.prompt.as_slice().into(),
        prefix: selection.start.prefix.as_slice().into(),
        params: params_of(selection, params),
        seed: 0,
    };
    keys.iter().map(|key| SampleRequest { seed: key.request_seed(), ..request.clone() }).collect()
}

/// The groups as the store keeps them.
pub(super) fn records(groups: &[Group], params: &SamplingParams, verifier_version: &str) -> Vec<TraceRecord> {
    let record = |(group, rollout): (&Group, &Rollout)| TraceRecord {
        key: rollout.key.clone(),
        stage: Stage::Train,
        completion: rollout.trace.completion.clone(),
        params: params_of(&group.selection, params),
        verdict: rollout.verdict.clone(),
        verifier_version: verifier_version.to_owned(),
    };
    groups
        .iter()
        .flat_map(|group| group.sampled().into_iter().map(move |rollout| (group, rollout)))
        .map(record)
        .collect()
}

/// The run's own parameters, at the selection's temperature where it has one.
fn params_of(selection: &Selection, params: &SamplingParams) -> SamplingParams {
    let temperature = selection.temperature.unwrap_or(params.temperature);
    SamplingParams { temperature, ..params.clone() }
}
