//! A campaign at work: completions come in as they end and are kept in the canonical order.

use toehold_verifier::Verdict;

use super::plan::{Place, Standing};
use super::{Campaign, CollectError, CollectProgress, Judge};
use crate::store::{Discarded, TraceRecord};
use crate::{Completion, PolicyVersion, Start, Store, TraceKey};

/// Traces are written when so many wait, and at the end of each round. A transaction takes a fraction of
/// a millisecond, so this is small: a kill loses fewer than these, and what ended in the round out of turn.
const WRITE_AT: usize = 16;

/// One call of the sampler.
pub(super) struct Round {
    /// What is asked, in the canonical order.
    places: Vec<Place>,
    /// What came back, by place.
    slots: Vec<Slot>,
    /// Places that arrived and are not judged yet, in the order in which they ended.
    unjudged: Vec<usize>,
    /// Places below it are decided: a trace, or not needed any more.
    decided: usize,
}

enum Slot {
    Waiting,
    Arrived(Completion),
    Judged(Completion, Verdict),
    Decided,
}

impl Round {
    pub(super) fn new(places: Vec<Place>) -> Round {
        Round { slots: places.iter().map(|_| Slot::Waiting).collect(), places, unjudged: Vec::new(), decided: 0 }
    }

    /// Whether nothing that is still being sampled is needed.
    pub(super) fn is_decided(&self) -> bool {
        self.decided == self.places.len()
    }

    /// Whether something arrived that waits for others to be judged with.
    pub(super) fn has_unjudged(&self) -> bool {
        !self.unjudged.is_empty()
    }

    /// Requests without an answer.
    pub(super) fn waiting(&self) -> usize {
        self.slots.iter().filter(|slot| matches!(slot, Slot::Waiting)).count()
    }
}

/// A campaign at work.
pub(super) struct Collection<'a> {
    store: &'a mut Store,
    judge: &'a dyn Judge,
    starts: &'a [&'a Start],
    campaign: &'a Campaign,
    pub(super) policy: PolicyVersion,
    pub(super) standings: Vec<Standing>,
    pub(super) progress: CollectProgress,
    /// Decided and not yet written.
    pending: Vec<TraceRecord>,
    /// Dropped and not yet counted in the store: completions and their tokens.
    dropped: (u64, u64),
}

impl<'a> Collection<'a> {
    pub(super) fn new(
        store: &'a mut Store,
        judge: &'a dyn Judge,
        starts: &'a [&'a Start],
        campaign: &'a Campaign,
        policy: PolicyVersion,
        standings: Vec<Standing>,
    ) -> Collection<'a> {
        let mut progress = CollectProgress { starts: starts.len(), ..CollectProgress::default() };
        for standing in &standings {
            progress.finished += usize::from(standing.is_finished(campaign.amount));
            let attempts = u64::from(standing.next) + standing.ahead.len() as u64;
            progress.success.attempts += attempts - standing.masked;
            let ahead = standing.ahead.values().filter(|correct| **correct).count() as u64;
            progress.success.successes += u64::from(standing.successes) + ahead;
        }
        let (pending, dropped) = (Vec::new(), (0, 0));
        Collection { store, judge, starts, campaign, policy, standings, progress, pending, dropped }
    }

    pub(super) fn key(&self, place: Place) -> TraceKey {
        let start = self.starts[place.start].id.clone();
        TraceKey { start, policy: self.policy.clone(), seed: self.campaign.seed, index: place.index }
    }

    /// Takes a completion in, and decides every place whose turn it now is once enough are there to be
    /// judged together.
    pub(super) fn take(&mut self, round: &mut Round, at: usize, completion: Completion) -> Result<(), CollectError> {
        let broke = |reason: String| Err(CollectError::SamplerBroke { reason });
        match round.slots.get_mut(at) {
            None => return broke(format!("it answered request {at}, but there are {}", round.slots.len())),
            Some(Slot::Arrived(_) | Slot::Judged(..) | Slot::Decided) => {
                return broke(format!("it answered request {at} twice"));
            }
            Some(slot) => {
                self.progress.sampled += 1;
                self.progress.tokens_sampled += completion.tokens.len() as u64;
                if at < round.decided {
                    // It was passed over while it was being sampled: an earlier index was enough.
                    self.discard(&completion);
                    *slot = Slot::Decided;
                } else {
                    *slot = Slot::Arrived(completion);
                    round.unjudged.push(at);
                }
            }
        }
        if round.unjudged.len() < self.judge.together() { Ok(()) } else { self.decide(round) }
    }

    /// Judges what arrived, and decides every place whose turn it now is.
    pub(super) fn decide(&mut self, round: &mut Round) -> Result<(), CollectError> {
        let unjudged = std::mem::take(&mut round.unjudged);
        let asked: Vec<(&Start, &Completion)> = unjudged
            .iter()
            .filter_map(|&at| match &round.slots[at] {
                Slot::Arrived(completion) => Some((self.starts[round.places[at].start], completion)),
                _ => None,
            })
            .collect();
        let verdicts = self.judge.judge_all(&asked);
        for (at, verdict) in unjudged.into_iter().zip(verdicts) {
            let slot = &mut round.slots[at];
            if let Slot::Arrived(completion) = std::mem::replace(slot, Slot::Decided) {
                *slot = Slot::Judged(completion, verdict);
            }
        }
        while let Some(&place) = round.places.get(round.decided) {
            let unneeded = self.standings[place.start].is_finished(self.campaign.amount);
            let slot = &mut round.slots[round.decided];
            match std::mem::replace(slot, Slot::Decided) {
                waiting @ (Slot::Waiting | Slot::Arrived(_)) => {
                    *slot = waiting;
                    if !unneeded {
                        break;
                    }
                }
                Slot::Judged(completion, _) if unneeded => self.discard(&completion),
                Slot::Judged(completion, verdict) => self.keep(place, completion, verdict),
                Slot::Decided => {}
            }
            round.decided += 1;
        }
        if self.pending.len() >= WRITE_AT {
            self.write()?
        }
        Ok(self.judge.healthy()?)
    }

    fn keep(&mut self, place: Place, completion: Completion, verdict: Verdict) {
        let correct = verdict.outcome.is_correct();
        self.standings[place.start].record(place.index, correct);
        self.progress.finished += usize::from(self.standings[place.start].is_finished(self.campaign.amount));
        if verdict.outcome.is_judged() {
            self.progress.success.add(correct);
        }
        self.progress.new += 1;
        self.pending.push(TraceRecord {
            key: self.key(place),
            stage: self.campaign.stage,
            completion,
            params: self.campaign.params.clone(),
            verdict,
            verifier_version: self.judge.version().to_owned(),
        });
    }

    fn discard(&mut self, completion: &Completion) {
        let tokens = completion.tokens.len() as u64;
        self.dropped.0 += 1;
        self.dropped.1 += tokens;
        self.progress.discarded += 1;
        self.progress.tokens_discarded += tokens;
    }

    /// Counts what ended out of turn in a round that is over.
    pub(super) fn drop_undecided(&mut self, round: &Round) {
        for slot in &round.slots {
            if let Slot::Arrived(completion) | Slot::Judged(completion, _) = slot {
                self.discard(completion);
            }
        }
    }

    /// Writes what waits, in one transaction.
    pub(super) fn write(&mut self) -> Result<(), CollectError> {
        let discarded = Discarded {
            policy: self.policy.clone(),
            seed: self.campaign.seed,
            stage: self.campaign.stage,
            attempts: self.dropped.0,
            tokens: self.dropped.1,
        };
        self.store.append_and_discard(&self.pending, Some(&discarded))?;
        self.pending.clear();
        self.dropped = (0, 0);
        Ok(())
    }
}
