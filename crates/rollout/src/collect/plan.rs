//! What is still to be sampled, in the canonical order.
//!
//! Plain numbers: what each start has, and from that the next round. Nothing here depends on the order
//! in which completions end.

use std::collections::BTreeMap;

use super::{Amount, Campaign, CollectError};
use crate::store::Stage;
use crate::{PolicyVersion, SamplingParams, Start, Store};

/// Until success, a start gets at most this many indices a round, or as many as it has had: so a campaign that is
/// not interrupted discards less than this or than it keeps, start by start, and its last starts still fill a batch.
const FIRST_CHUNK: u32 = 8;

/// One trace to be made: which of the starts, and its index.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) start: usize,
    pub(super) index: u32,
}

/// What one start has.
#[derive(Default)]
pub(super) struct Standing {
    /// Every index below it is there.
    pub(super) next: u32,
    /// Successes below `next`.
    pub(super) successes: u32,
    /// Indices above `next` that are there (made by some other campaign), and whether they are correct.
    pub(super) ahead: BTreeMap<u32, bool>,
    /// Of all that were there when the campaign began, those that the verifier could not judge.
    pub(super) masked: u64,
}

impl Standing {
    /// Adds an index that is there now.
    pub(super) fn record(&mut self, index: u32, correct: bool) {
        self.ahead.insert(index, correct);
        while let Some(correct) = self.ahead.remove(&self.next) {
            self.next += 1;
            self.successes += u32::from(correct);
        }
    }

    fn needs(&self, index: u32) -> bool {
        index >= self.next && !self.ahead.contains_key(&index)
    }

    /// Whether this start needs no more traces.
    pub(super) fn is_finished(&self, amount: Amount) -> bool {
        match amount {
            Amount::Fixed { attempts } => self.next >= attempts,
            Amount::UntilSuccess { successes, at_most } => self.successes >= successes || self.next >= at_most,
        }
    }
}

/// What the store has of these starts, which must have been sampled as the campaign would.
pub(super) fn standings(
    store: &Store,
    policy: &PolicyVersion,
    starts: &[&Start],
    campaign: &Campaign,
) -> Result<Vec<Standing>, CollectError> {
    if let Some(with) = campaign.params.local_only() {
        return Err(CollectError::LocalOnly { with });
    }
    let known = store.known(policy, campaign.seed)?;
    let sampling = store.sampling_row(&campaign.params)?;
    let mut standings = Vec::with_capacity(starts.len());
    for start in starts {
        let mut standing = Standing::default();
        for trace in known.get(&start.id).into_iter().flatten() {
            if trace.stage != campaign.stage || Some(trace.sampling) != sampling {
                let found = store.trace(trace.row)?;
                return Err(CollectError::OtherCampaign {
                    start: start.id.clone(),
                    policy: policy.clone(),
                    seed: campaign.seed,
                    found: found.map_or_else(String::new, |found| describe(found.stage, &found.params)),
                    asked: describe(campaign.stage, &campaign.params),
                });
            }
            standing.record(trace.index, trace.correct);
            standing.masked += u64::from(!trace.judged);
        }
        standings.push(standing);
    }
    Ok(standings)
}

fn describe(stage: Stage, params: &SamplingParams) -> String {
    let SamplingParams { temperature, top_k, top_p, max_tokens, stop, .. } = params;
    format!(
        "stage {}, temperature {temperature}, top-k {top_k}, top-p {top_p}, at most {max_tokens} tokens, \
         stop tokens {stop:?}",
        stage.as_str()
    )
}

/// The next places in the canonical order, at most `in_flight`; empty when all is done.
pub(super) fn next_round(standings: &[Standing], campaign: &Campaign) -> Vec<Place> {
    let amount = campaign.amount;
    let active: Vec<usize> = (0..standings.len()).filter(|&start| !standings[start].is_finished(amount)).collect();
    let needed = |place: &Place| standings[place.start].needs(place.index);
    match amount {
        Amount::Fixed { attempts } => active
            .iter()
            .flat_map(|&start| (standings[start].next..attempts).map(move |index| Place { start, index }))
            .filter(needed)
            .take(campaign.in_flight)
            .collect(),
        Amount::UntilSuccess { at_most, .. } => {
            let level = active.iter().map(|&start| standings[start].next).min().unwrap_or(at_most);
            let share = u32::try_from(campaign.in_flight / active.len().max(1)).unwrap_or(u32::MAX);
            let chunk = share.clamp(1, level.max(FIRST_CHUNK));
            (level..level.saturating_add(chunk).min(at_most))
                .flat_map(|index| active.iter().map(move |&start| Place { start, index }))
                .filter(needed)
                .take(campaign.in_flight)
                .collect()
        }
    }
}
