//! One thread's work: it keeps its places full, draws a token for each of its sequences at each step,
//! and puts sequences aside where their keys and values have no room.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use toehold_rollout::{Completion, SampleError, SampleRequest, StopReason, TokenId};

use crate::host::engine::{Angles, Engine};
use crate::host::sampling::Counters;
use crate::host::sampling::blocks::{Chain, Pool};
use crate::host::sampling::draw::Drawing;
use crate::host::sampling::forward::{PREFILL_ROWS, Row, Scratch};
use crate::host::sampling::starts::{Cancelled, Start, Starts};

/// What the threads share.
pub(super) struct Call<'a> {
    pub(super) engine: &'a Engine,
    pub(super) requests: &'a [SampleRequest],
    pub(super) angles: Angles,
    pub(super) starts: Starts,
    pub(super) counters: Counters,
}

/// A request's completion, or why the call failed.
pub(super) type Message = Result<(usize, Completion), SampleError>;

/// One thread.
pub(super) struct Worker<'a> {
    call: &'a Call<'a>,
    thread: usize,
    /// Places for sequences.
    share: usize,
    pool: Arc<Pool>,
    send: mpsc::Sender<Message>,
    /// In the order of the trie, so that those with the same blocks stand together.
    sequences: Vec<Sequence>,
    /// Put aside, the oldest first.
    aside: Vec<Sequence>,
    started: usize,
    scratch: Scratch,
    drawing: Drawing,
    logits: Vec<f32>,
}

/// One sequence that is being written.
struct Sequence {
    /// Its place in the order of the trie.
    rank: usize,
    /// Sequences that this thread had started before it.
    age: usize,
    rng: ChaCha8Rng,
    completion: Completion,
    /// Tokens of the current thought; 0 where nothing penalises switching it.
    thought: u32,
    chain: Chain,
    /// Tokens whose keys and values are in the chain.
    cached: usize,
}

/// Tokens that are computed for their keys and values.
struct Filling {
    tokens: Vec<TokenId>,
    /// How many of them are done.
    done: usize,
    /// Place of the first.
    position: usize,
    chain: Chain,
    whose: Whose,
}

enum Whose {
    Node(usize),
    Sequence(Box<Sequence>),
}

/// The logits were not finite: the weights are broken.
#[derive(Debug, thiserror::Error)]
#[error("the logits of request {index} are not finite after {tokens} tokens\nhint: the weights have diverged")]
struct NotFinite {
    index: usize,
    tokens: usize,
}

impl<'a> Worker<'a> {
    pub(super) fn new(
        call: &'a Call<'a>,
        thread: usize,
        share: usize,
        pool: Arc<Pool>,
        send: mpsc::Sender<Message>,
    ) -> Worker<'a> {
        Worker {
            call,
            thread,
            share,
            pool,
            send,
            sequences: Vec::new(),
            aside: Vec::new(),
            started: 0,
            scratch: Scratch::default(),
            drawing: Drawing::default(),
            logits: Vec::new(),
        }
    }

    /// Works until no request is left, or the call has ended early.
    pub(super) fn work(mut self) {
        // Others may wait for what this thread has claimed: a panic here must not leave them waiting.
        let _guard = CancelOnPanic(&self.call.starts);
        while let Ok(ControlFlow::Continue(())) = self.round() {}
    }

    /// Fills the places and makes one step; breaks when nothing is left to do.
    fn round(&mut self) -> Result<ControlFlow<()>, Cancelled> {
        self.call.starts.check()?;
        let came = self.fill()?;
        if self.sequences.is_empty() {
            return Ok(if came { ControlFlow::Continue(()) } else { ControlFlow::Break(()) });
        }
        self.make_room();
        self.step()?;
        Ok(ControlFlow::Continue(()))
    }

    /// Gives free places to sequences that were put aside, then to new requests. Says whether any came.
    fn fill(&mut self) -> Result<bool, Cancelled> {
        let mut places = self.share.saturating_sub(self.sequences.len());
        let mut fillings = Vec::new();
        while places > 0 && !self.aside.is_empty() {
            let Some(filling) = self.resume(fillings.is_empty()) else { break };
            fillings.push(filling);
            places -= 1;
        }
        let mut ranks = Vec::new();
        let mut nodes = Vec::new();
        if self.aside.is_empty() && places > 0 {
            let lone = self.sequences.is_empty() && fillings.is_empty();
            let taken = self.call.starts.take(self.thread, places, self.pool.room(), lone);
            (ranks, nodes) = (taken.ranks, taken.nodes);
        }
        let came = !(ranks.is_empty() && fillings.is_empty());
        self.compute(fillings, nodes)?;
        for &rank in &ranks {
            let start = self.call.starts.of(rank)?;
            self.start(rank, start)?;
        }
        if came {
            self.sequences.sort_by_key(|sequence| sequence.rank);
        }
        Ok(came)
    }

    /// Takes the oldest sequence that was put aside, where there is room for it.
    fn resume(&mut self, first: bool) -> Option<Filling> {
        let oldest = self.aside.first()?;
        let request = &self.call.requests[self.call.starts.request(oldest.rank)];
        let start = request.prompt.len() + request.prefix.len();
        let kept = self.call.starts.kept(oldest.rank);
        let position = kept.as_ref().map_or(0, |_| start);
        let mut tokens: Vec<TokenId> =
            [&request.prompt[..], &request.prefix, &oldest.completion.tokens].into_iter().flatten().copied().collect();
        // The last token drawn has not been computed yet.
        tokens.pop();
        let needed = (tokens.len() + 1).div_ceil(super::blocks::BLOCK) - position / super::blocks::BLOCK;
        // Some to spare, or the next step would put it aside again.
        let spare = self.sequences.len() / 4;
        let lone = first && self.sequences.is_empty();
        if needed + spare > self.pool.room() && !lone {
            return None;
        }
        let mut chain = kept.map_or_else(Chain::default, |kept| kept.chain.fork(start, &self.pool));
        chain.grow(tokens.len(), &self.pool);
        let tokens = tokens.split_off(position);
        let sequence = self.aside.remove(0);
        Some(Filling { tokens, done: 0, position, chain, whose: Whose::Sequence(Box::new(sequence)) })
    }

    /// Computes `fillings` and the claimed nodes, as many rows together as one pass takes.
    fn compute(&mut self, mut fillings: Vec<Filling>, mut claimed: Vec<usize>) -> Result<(), Cancelled> {
        let call = self.call;
        loop {
            if !claimed.is_empty() {
                for (node, parent) in call.starts.ready(&mut claimed, fillings.is_empty())? {
                    let (tokens, position) = call.starts.tokens(node);
                    let mut chain =
                        parent.map_or_else(Chain::default, |parent| parent.chain.fork(position, &self.pool));
                    chain.grow(position + tokens.len(), &self.pool);
                    let whose = Whose::Node(node);
                    fillings.push(Filling { tokens: tokens.to_vec(), done: 0, position, chain, whose });
                }
            }
            if fillings.is_empty() {
                return Ok(());
            }
            call.starts.check()?;
            self.pass(&mut fillings);
        }
    }

    /// One pass over the first rows of `fillings`; those that it completes are taken out.
    fn pass(&mut self, fillings: &mut Vec<Filling>) {
        let call = self.call;
        let (mut rows, mut picks) = (Vec::new(), Vec::new());
        let (mut prefilled, mut recomputed) = (0, 0);
        for (chain, filling) in fillings.iter_mut().enumerate() {
            let count = (PREFILL_ROWS - rows.len()).min(filling.tokens.len() - filling.done);
            let tokens = filling.tokens[filling.done..].iter().take(count);
            let position = filling.position + filling.done;
            rows.extend(tokens.zip(position..).map(|(&token, position)| Row { token, chain, position }));
            filling.done += count;
            match filling.whose {
                Whose::Node(node) => {
                    prefilled += count as u64;
                    if count > 0 && filling.is_done() && call.starts.is_end(node) {
                        picks.push(rows.len() - 1);
                    }
                }
                Whose::Sequence(_) => recomputed += count as u64,
            }
        }
        call.counters.prefilled.fetch_add(prefilled, Ordering::Relaxed);
        call.counters.recomputed.fetch_add(recomputed, Ordering::Relaxed);
        let mut chains: Vec<&mut Chain> = fillings.iter_mut().map(|filling| &mut filling.chain).collect();
        call.engine.forward(&rows, &picks, &mut chains, &call.angles, &mut self.scratch);
        call.engine.logits_of_last(&mut self.scratch, &mut self.logits);
        let mut logits = self.logits.chunks_exact(call.engine.config().vocab_size);
        for filling in fillings.extract_if(.., |filling| filling.is_done()) {
            match filling.whose {
                Whose::Node(node) => {
                    let logits = if call.starts.is_end(node) { logits.next() } else { None };
                    let logits = logits.unwrap_or_default().to_vec();
                    call.starts.publish(node, Start { chain: filling.chain, logits });
                }
                Whose::Sequence(mut sequence) => {
                    sequence.cached = filling.position + filling.tokens.len();
                    sequence.chain = filling.chain;
                    self.sequences.push(*sequence);
                }
            }
        }
    }

    /// Draws a request's first token and, unless it is the last, gives it a place.
    fn start(&mut self, rank: usize, start: Arc<Start>) -> Result<(), Cancelled> {
        let request = &self.call.requests[self.call.starts.request(rank)];
        let mut sequence = Sequence::new(rank, self.started, request);
        self.started += 1;
        self.call.counters.decoded.fetch_add(1, Ordering::Relaxed);
        match sequence.extend(request, &start.logits, &mut self.drawing) {
            Ok(ControlFlow::Continue(())) => {
                sequence.chain = match Arc::try_unwrap(start) {
                    // It is the last that needs it and goes on in the same blocks.
                    Ok(start) => start.chain,
                    Err(start) => start.chain.fork(sequence.cached, &self.pool),
                };
                self.sequences.push(sequence);
                Ok(())
            }
            Ok(ControlFlow::Break(())) => self.end(sequence),
            Err(error) => self.fail(rank, error),
        }
    }

    /// Sees to it that each sequence has a block for its next position; puts the youngest aside where
    /// there is no room, but never the last.
    fn make_room(&mut self) {
        loop {
            let needy = self.sequences.iter_mut().filter(|sequence| sequence.chain.missing(sequence.cached + 1) > 0);
            let Some(needy) = needy.min_by_key(|sequence| sequence.age) else { return };
            if self.pool.room() > 0 {
                needy.chain.grow(needy.cached + 1, &self.pool);
                continue;
            }
            if self.sequences.len() == 1 {
                let lone = &mut self.sequences[0];
                lone.chain.grow(lone.cached + 1, &self.pool);
                return;
            }
            let youngest = (0..self.sequences.len()).max_by_key(|&place| self.sequences[place].age);
            let mut youngest = self.sequences.remove(youngest.unwrap_or_default());
            youngest.chain = Chain::default();
            let place = self.aside.partition_point(|other| other.age < youngest.age);
            self.aside.insert(place, youngest);
            self.call.counters.preemptions.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// One token more for every sequence.
    fn step(&mut self) -> Result<(), Cancelled> {
        let call = self.call;
        let count = self.sequences.len();
        let rows: Vec<Row> = self.sequences.iter().enumerate().map(|(chain, sequence)| sequence.row(chain)).collect();
        let picks: Vec<usize> = (0..count).collect();
        let mut chains: Vec<&mut Chain> = self.sequences.iter_mut().map(|sequence| &mut sequence.chain).collect();
        call.engine.forward(&rows, &picks, &mut chains, &call.angles, &mut self.scratch);
        call.engine.logits_of_last(&mut self.scratch, &mut self.logits);
        call.counters.decoded.fetch_add(count as u64, Ordering::Relaxed);
        let mut going = Vec::with_capacity(count);
        let logits = self.logits.chunks_exact(call.engine.config().vocab_size);
        let mut ended = Vec::new();
        for (mut sequence, logits) in std::mem::take(&mut self.sequences).into_iter().zip(logits) {
            sequence.cached += 1;
            let request = &call.requests[call.starts.request(sequence.rank)];
            match sequence.extend(request, logits, &mut self.drawing) {
                Ok(ControlFlow::Continue(())) => going.push(sequence),
                Ok(ControlFlow::Break(())) => ended.push(sequence),
                Err(error) => return self.fail(sequence.rank, error),
            }
        }
        self.sequences = going;
        for sequence in ended {
            self.end(sequence)?;
        }
        Ok(())
    }

    fn end(&mut self, sequence: Sequence) -> Result<(), Cancelled> {
        let index = self.call.starts.request(sequence.rank);
        self.send.send(Ok((index, sequence.completion))).map_err(|_| Cancelled)
    }

    fn fail(&mut self, rank: usize, tokens: usize) -> Result<(), Cancelled> {
        let index = self.call.starts.request(rank);
        // Nobody listens any more where the call has failed already.
        let _ = self.send.send(Err(SampleError::Other(Box::new(NotFinite { index, tokens }))));
        Err(Cancelled)
    }
}

impl Filling {
    fn is_done(&self) -> bool {
        self.done == self.tokens.len()
    }
}

impl Sequence {
    fn new(rank: usize, age: usize, request: &SampleRequest) -> Sequence {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&request.seed.to_le_bytes());
        let cached = request.prompt.len() + request.prefix.len();
        let (completion, chain) = (Completion::default(), Chain::default());
        let thought = request.params.thought_switch.as_ref().map_or(0, |switch| switch.age(&request.prefix));
        Sequence { rank, age, rng: ChaCha8Rng::from_seed(seed), completion, thought, chain, cached }
    }

    /// The row of the last token that was drawn.
    fn row(&self, chain: usize) -> Row {
        let token = *self.completion.tokens.last().expect("a sequence is kept only after its first token");
        Row { token, chain, position: self.cached }
    }

    /// Draws one token; breaks when it is the last. Fails with the count of tokens before it where the
    /// logits are not finite.
    fn extend(
        &mut self,
        request: &SampleRequest,
        logits: &[f32],
        drawing: &mut Drawing,
    ) -> Result<ControlFlow<()>, usize> {
        let params = &request.params;
        let drawn = drawing.draw(logits, params, self.thought, &mut self.rng);
        let (token, behavior) = drawn.ok_or(self.completion.tokens.len())?;
        self.completion.tokens.push(token);
        self.completion.behavior.push(behavior);
        if let Some(switch) = &params.thought_switch {
            self.thought = switch.next_age(self.thought, token);
        }
        if params.stop.contains(&token) {
            self.completion.stop = StopReason::EndOfText;
            return Ok(ControlFlow::Break(()));
        }
        if params.stop_below.is_some_and(|stop| stop.is_due(&self.completion.behavior)) {
            self.completion.stop = StopReason::Confidence;
            return Ok(ControlFlow::Break(()));
        }
        if self.completion.tokens.len() >= params.max_tokens as usize {
            self.completion.stop = StopReason::Length;
            return Ok(ControlFlow::Break(()));
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// Wakes the other threads where this one panics.
struct CancelOnPanic<'a>(&'a Starts);

impl Drop for CancelOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.cancel();
        }
    }
}
