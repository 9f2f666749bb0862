//! Foreign traces into the store: matched, encoded, judged, known once.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::{Result, bail};
use toehold_rollout::collect::{Judge as _, TextJudge};
use toehold_rollout::store::{PolicyRecord, Stage, StartFilter, TraceFilter, TraceRecord};
use toehold_rollout::{
    Completion, PolicyVersion, Problem, SamplingParams, Start, StartId, StopReason, Store, TokenId, TokenizerFile,
    TraceKey,
};
use toehold_verifier::{Outcome, Verdict};

use super::matching::Matching;
use super::{FOREIGN, FOREIGN_VERDICT, Foreign, Piece, Reason};
use crate::prepare::{Prepared, short_hash};

/// Whose verdict is kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdicts {
    /// The run's verifier's, always.
    Ours,
    /// What came with the trace, a success where the reward is above this; the verifier's where none came.
    Theirs {
        /// A reward up to this is none.
        above: f64,
    },
}

/// What came of the rows so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Traces read.
    pub read: u64,
    /// New in the store.
    pub new: u64,
    /// Successes among those.
    pub correct: u64,
    /// In the store already, or twice in the files.
    pub known: u64,
    /// Traces whose own reward says otherwise than the verifier.
    pub disagree: u64,
    /// Traces that came without a reward.
    pub without_reward: u64,
    /// Traces whose prompt has other tokens than the run's, so that their log-probabilities are not kept.
    pub other_prompt: u64,
    /// What was left out.
    pub dropped: BTreeMap<Reason, u64>,
}

/// Puts foreign traces into a run's store.
pub struct Keeper<'a> {
    tokenizer: &'a TokenizerFile,
    starts: &'a [Start],
    /// All starts of the store, and those of the problems to learn.
    by_id: HashMap<String, Start>,
    /// The ids of the problems to learn.
    learnt: HashSet<String>,
    held_out: usize,
    matching: Matching<'a>,
    judge: TextJudge<'a>,
    store: Store,
    verdicts: Verdicts,
    default_policy: String,
    policies: HashMap<String, Known>,
    pending: Vec<TraceRecord>,
    pending_starts: Vec<Start>,
    /// What came of the rows so far.
    pub tally: Tally,
}

/// What the store has of one foreign policy.
struct Known {
    version: PolicyVersion,
    /// Hashes of start and tokens.
    traces: HashSet<[u8; 16]>,
    /// The next index of each start.
    next: HashMap<StartId, u32>,
}

/// Traces that are written in one transaction.
const TOGETHER: usize = 1000;

impl<'a> Keeper<'a> {
    /// A keeper for this run. `problems` are all of its problems, training ones first; `policy` names who
    /// sampled the rows that do not say it.
    ///
    /// # Errors
    /// The store cannot be opened.
    pub fn new(
        prepared: &'a Prepared,
        problems: &'a [Problem],
        policy: &str,
        verdicts: Verdicts,
    ) -> Result<Keeper<'a>> {
        let store = prepared.store()?;
        let kept = store.starts(&StartFilter::default())?;
        let by_id = kept.into_iter().chain(prepared.starts.iter().cloned());
        Ok(Keeper {
            tokenizer: &prepared.tokenizer,
            starts: &prepared.starts,
            by_id: by_id.map(|start| (start.id.as_str().to_owned(), start)).collect(),
            learnt: prepared.starts.iter().map(|start| start.problem.as_str().to_owned()).collect(),
            held_out: prepared.problems.problems.len(),
            matching: Matching::new(problems),
            judge: prepared.judge(problems),
            store,
            verdicts,
            default_policy: policy.to_owned(),
            policies: HashMap::new(),
            pending: Vec::new(),
            pending_starts: Vec::new(),
            tally: Tally::default(),
        })
    }

    /// Takes one trace, or counts why not. It is in the store after the next [`flush`](Self::flush) at the
    /// latest.
    ///
    /// # Errors
    /// A row that contradicts itself, a text that the tokenizer refuses, or a store that cannot be written.
    pub fn take(&mut self, row: Result<Foreign, Reason>) -> Result<()> {
        self.tally.read += 1;
        match row.and_then(|row| self.prepare(&row).map(|ready| (row, ready))) {
            Ok((row, (start, completion))) => self.keep(&row, start, completion)?,
            Err(reason) => *self.tally.dropped.entry(reason).or_default() += 1,
        }
        if self.pending.len() >= TOGETHER { self.flush() } else { Ok(()) }
    }

    /// Writes what is waiting.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn flush(&mut self) -> Result<()> {
        self.store.put_starts(&self.pending_starts)?;
        self.store.append(&self.pending)?;
        self.pending_starts.clear();
        self.pending.clear();
        Ok(())
    }

    /// The store's file.
    pub fn store_path(&self) -> &std::path::Path {
        self.store.path()
    }

    /// Start and tokens of a row; the completion's log-probabilities are still those of the row.
    fn prepare(&mut self, row: &Foreign) -> Result<(Start, Completion), Reason> {
        let start = self.start(row)?;
        let mut tokens = self.tokens(&row.completion)?;
        if tokens.is_empty() {
            return Err(Reason::NoCompletion);
        }
        let mut behavior = row.behavior.clone().unwrap_or_else(|| vec![f32::NAN; tokens.len()]);
        let end_tokens = self.tokenizer.end_tokens();
        let has_end = tokens.last().is_some_and(|last| end_tokens.contains(last));
        let stop = match (has_end, row.stop) {
            (true, _) => StopReason::EndOfText,
            (false, Some(stop)) => stop,
            // Nobody says whether it ended or was cut off: what states an answer is taken to have ended.
            (false, None) => {
                let completion = Completion { tokens: tokens.clone(), ..Completion::default() };
                match self.judge.judge(&start, &completion).outcome {
                    Outcome::NoAnswer => StopReason::Length,
                    _ => StopReason::EndOfText,
                }
            }
        };
        if stop == StopReason::EndOfText
            && !has_end
            && let Some(&end) = end_tokens.first()
        {
            tokens.push(end);
            behavior.push(f32::NAN);
        }
        Ok((start, Completion { tokens, behavior, stop }))
    }

    /// Where a row was sampled from: the start that it names, else its problem with the prefix that it gives.
    fn start(&mut self, row: &Foreign) -> Result<Start, Reason> {
        if let Some(id) = &row.start {
            // Without its prefix a completion says nothing.
            let start = self.by_id.get(id).ok_or(Reason::UnknownStart)?;
            return if self.learnt.contains(start.problem.as_str()) { Ok(start.clone()) } else { Err(Reason::HeldOut) };
        }
        let at = self.matching.find(row)?;
        let Some(plain) = self.starts.get(at).filter(|_| at < self.held_out) else { return Err(Reason::HeldOut) };
        let Some(piece) = &row.prefix else { return Ok(plain.clone()) };
        let prefix = self.tokens(piece)?;
        let id = StartId::of(&plain.problem, &plain.prompt, &prefix);
        Ok(Start { id, prefix, ..plain.clone() })
    }

    fn tokens(&self, piece: &Piece) -> Result<Vec<TokenId>, Reason> {
        match piece {
            Piece::Tokens(tokens) => match tokens.iter().all(|&token| token <= self.tokenizer.largest_id()) {
                true => Ok(tokens.clone()),
                false => Err(Reason::UnknownToken),
            },
            Piece::Text(text) => {
                let tokens = self.tokenizer.encode(text).map_err(|_| Reason::Drift)?;
                if self.tokenizer.decode_raw(&tokens) == *text { Ok(tokens) } else { Err(Reason::Drift) }
            }
        }
    }

    fn keep(&mut self, row: &Foreign, start: Start, mut completion: Completion) -> Result<()> {
        let (tokens, behavior) = (completion.tokens.len(), completion.behavior.len());
        if tokens != behavior {
            bail!("{}: {behavior} log-probabilities, expected {tokens}, one per completion token", row.place);
        }
        if row.prompt.as_ref().is_some_and(|prompt| *prompt != start.prompt) {
            // They were computed after another prompt and say nothing about this one.
            self.tally.other_prompt += 1;
            completion.behavior.fill(f32::NAN);
        }
        let name = row.policy.as_deref().unwrap_or(&self.default_policy).to_owned();
        let known = match self.policies.remove(&name) {
            Some(known) => known,
            None => self.known(&name)?,
        };
        let known = self.policies.entry(name).or_insert(known);
        if !known.traces.insert(content(&start.id, &completion.tokens)) {
            self.tally.known += 1;
            return Ok(());
        }
        let next = known.next.entry(start.id.clone()).or_insert(0);
        let key = TraceKey { start: start.id.clone(), policy: known.version.clone(), seed: 0, index: *next };
        *next += 1;
        let (verdict, verifier_version) = self.verdict(row, &start, &completion);
        self.tally.new += 1;
        self.tally.correct += u64::from(verdict.outcome.is_correct());
        let params = SamplingParams {
            temperature: row.temperature.filter(|t| t.is_finite() && *t >= 0.0).unwrap_or(1.0),
            stop: self.tokenizer.end_tokens().to_vec(),
            ..SamplingParams::plain(0)
        };
        self.pending_starts.push(start);
        self.pending.push(TraceRecord { key, stage: Stage::Collect, completion, params, verdict, verifier_version });
        Ok(())
    }

    fn verdict(&mut self, row: &Foreign, start: &Start, completion: &Completion) -> (Verdict, String) {
        let ours = self.judge.judge(start, completion);
        let above = match self.verdicts {
            Verdicts::Ours => 0.0,
            Verdicts::Theirs { above } => above,
        };
        let theirs = row.reward.map(|reward| reward > above);
        self.tally.without_reward += u64::from(theirs.is_none());
        self.tally.disagree += u64::from(theirs.is_some_and(|theirs| theirs != ours.outcome.is_correct()));
        match (self.verdicts, theirs) {
            (Verdicts::Theirs { .. }, Some(is_correct))
                if is_correct != ours.outcome.is_correct() || !ours.outcome.is_judged() =>
            {
                let outcome = if is_correct { Outcome::Correct } else { Outcome::Wrong };
                (Verdict { outcome, extracted: ours.extracted }, FOREIGN_VERDICT.to_owned())
            }
            (Verdicts::Theirs { .. }, Some(_)) => (ours, FOREIGN_VERDICT.to_owned()),
            _ => (ours, self.judge.version().to_owned()),
        }
    }

    /// Puts the policy of this name and reads what the store has of it.
    fn known(&mut self, name: &str) -> Result<Known> {
        let model = format!("{FOREIGN}{name}");
        let version = PolicyVersion { weights: short_hash(model.as_bytes()) };
        let tokenizer_hash = self.tokenizer.hash().to_owned();
        self.store.put_policy(&PolicyRecord {
            version: version.clone(),
            model,
            tokenizer_hash,
            step: 0,
            parent: None,
        })?;
        let mut known = Known { version: version.clone(), traces: HashSet::new(), next: HashMap::new() };
        let mut filter = TraceFilter { policy: Some(version), limit: Some(1 << 12), ..TraceFilter::default() };
        loop {
            let page = self.store.traces(&filter)?;
            let Some(last) = page.last() else { return Ok(known) };
            filter.after = Some(last.row);
            for stored in page {
                known.traces.insert(content(&stored.key.start, &stored.trace.completion.tokens));
                let next = known.next.entry(stored.key.start).or_insert(0);
                *next = (*next).max(stored.key.index + 1);
            }
        }
    }
}

/// What makes a trace of one policy the same as another.
fn content(start: &StartId, tokens: &[TokenId]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(start.as_str().as_bytes());
    for token in tokens {
        hasher.update(&token.to_le_bytes());
    }
    let mut hash = [0; 16];
    hasher.finalize_xof().fill(&mut hash);
    hash
}
