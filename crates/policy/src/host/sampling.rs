//! Sampling with a K/V cache: shared prefills, many sequences at a time, one random stream each.
//!
//! Each thread takes the next request as soon as one of its sequences ends, so the batch stays full.
//! Which thread serves a request and who its neighbours are changes nothing in its tokens: the forward
//! pass computes each row on its own, and the random stream is the request's.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use toehold_rollout::{Completion, SampleError, SampleRequest, SamplingParams, StopReason, TokenId};

use crate::host::engine::{Angles, Cache, Engine, Row, Scratch};
use crate::host::kernels::shifted_exp;
use crate::weights::uniform;

/// Rows of one forward pass while prefilling.
pub(super) const PREFILL_ROWS: usize = 256;

/// Completes every request; see [`toehold_rollout::Sampler::sample`].
pub(crate) fn sample(
    engine: &Engine,
    requests: &[SampleRequest],
    batch: usize,
    threads: usize,
    done: &mut dyn FnMut(usize, Completion) -> ControlFlow<()>,
) -> Result<(), SampleError> {
    for (index, request) in requests.iter().enumerate() {
        check(engine, index, request)?;
    }
    let queue = Queue::new(engine, requests);
    let threads = threads.clamp(1, requests.len().max(1));
    // No thread may take more than its share at once, or the others would have nothing to do.
    let share = batch.max(1).min(requests.len()).div_ceil(threads);
    std::thread::scope(|scope| {
        let (send, receive) = mpsc::channel();
        for _ in 0..threads {
            let (queue, send) = (&queue, send.clone());
            scope.spawn(move || work(queue, share, &send));
        }
        drop(send);
        for message in receive {
            let flow = match message {
                Ok((index, completion)) => done(index, completion),
                Err(error) => {
                    queue.cancelled.store(true, Ordering::Relaxed);
                    return Err(error);
                }
            };
            if flow.is_break() {
                queue.cancelled.store(true, Ordering::Relaxed);
                return Ok(());
            }
        }
        Ok(())
    })
}

type Message = Result<(usize, Completion), SampleError>;

/// The logits were not finite: the weights are broken.
#[derive(Debug, thiserror::Error)]
#[error("the logits of request {index} are not finite after {tokens} tokens\nhint: the weights have diverged")]
struct NotFinite {
    index: usize,
    tokens: usize,
}

/// What the threads share.
struct Queue<'a> {
    engine: &'a Engine,
    requests: &'a [SampleRequest],
    angles: Angles,
    /// Requests in the order in which they are started: equal starts one after the other.
    order: Vec<(usize, usize)>,
    next: AtomicUsize,
    groups: Vec<Mutex<Group>>,
    cancelled: AtomicBool,
}

/// Requests with the same prompt and prefix.
struct Group {
    prefill: Option<Arc<Prefill>>,
    /// Members that were not started yet; the prefill is dropped with the last.
    waiting: usize,
}

/// The computed start of a group.
struct Prefill {
    cache: Cache,
    /// Logits of the first completion token.
    logits: Vec<f32>,
    length: usize,
}

/// One sequence that is being written.
struct Sequence {
    index: usize,
    rng: ChaCha8Rng,
    completion: Completion,
    /// Tokens whose keys and values are in the cache.
    cached: usize,
}

impl<'a> Queue<'a> {
    fn new(engine: &'a Engine, requests: &'a [SampleRequest]) -> Queue<'a> {
        let mut numbers: HashMap<(&[TokenId], &[TokenId]), usize> = HashMap::new();
        let mut sizes = Vec::new();
        let mut order = Vec::with_capacity(requests.len());
        for (index, request) in requests.iter().enumerate() {
            let group = *numbers.entry((&request.prompt, &request.prefix)).or_insert_with(|| {
                sizes.push(0);
                sizes.len() - 1
            });
            sizes[group] += 1;
            order.push((group, index));
        }
        order.sort_unstable();
        let groups = sizes.into_iter().map(|waiting| Mutex::new(Group { prefill: None, waiting })).collect();
        let positions = requests.iter().map(positions).max().unwrap_or(0);
        Queue {
            engine,
            requests,
            angles: Angles::new(engine.config(), positions),
            order,
            next: AtomicUsize::new(0),
            groups,
            cancelled: AtomicBool::new(false),
        }
    }

    /// The next request to start, with its computed start.
    fn take(&self, scratch: &mut Scratch) -> Option<(usize, Arc<Prefill>)> {
        let &(group, index) = self.order.get(self.next.fetch_add(1, Ordering::Relaxed))?;
        // Another thread that needs the same start waits here until it is computed.
        let mut group = self.groups[group].lock().unwrap_or_else(PoisonError::into_inner);
        let prefill = match group.prefill.take() {
            Some(prefill) => prefill,
            None => Arc::new(self.prefill(&self.requests[index], scratch)),
        };
        group.waiting -= 1;
        if group.waiting > 0 {
            group.prefill = Some(prefill.clone());
        }
        Some((index, prefill))
    }

    fn prefill(&self, request: &SampleRequest, scratch: &mut Scratch) -> Prefill {
        let tokens: Vec<TokenId> = request.prompt.iter().chain(request.prefix.iter()).copied().collect();
        let mut cache = self.engine.cache(tokens.len());
        let mut logits = Vec::new();
        for (chunk, tokens) in tokens.chunks(PREFILL_ROWS).enumerate() {
            let first = chunk * PREFILL_ROWS;
            let rows: Vec<Row> =
                tokens.iter().enumerate().map(|(i, &token)| Row { token, cache: 0, position: first + i }).collect();
            self.engine.forward(&rows, std::slice::from_mut(&mut cache), &self.angles, scratch);
        }
        let width = self.engine.config().hidden_size;
        // Only the last token's logits are wanted.
        let rows = scratch.hidden.len() / width;
        scratch.hidden.drain(..(rows - 1) * width);
        self.engine.logits_of_last(scratch, &mut logits);
        Prefill { cache, logits, length: tokens.len() }
    }
}

/// One thread: keeps up to `share` sequences going until no request is left.
fn work(queue: &Queue<'_>, share: usize, send: &mpsc::Sender<Message>) {
    let (mut scratch, mut drawing) = (Scratch::default(), Drawing::default());
    let (mut sequences, mut caches): (Vec<Sequence>, Vec<Cache>) = Default::default();
    let (mut rows, mut logits) = (Vec::new(), Vec::new());
    let vocabulary = queue.engine.config().vocab_size;
    let mut more = true;
    while !queue.cancelled.load(Ordering::Relaxed) {
        while more && sequences.len() < share {
            let Some((index, prefill)) = queue.take(&mut scratch) else {
                more = false;
                break;
            };
            let request = &queue.requests[index];
            let mut sequence = Sequence::new(index, request, prefill.length);
            match sequence.extend(request, &prefill.logits, &mut drawing) {
                Ok(ControlFlow::Continue(())) => {
                    let mut cache = queue.engine.cache(positions(request));
                    queue.engine.copy_cache(&prefill.cache, &mut cache, prefill.length);
                    sequences.push(sequence);
                    caches.push(cache);
                }
                Ok(ControlFlow::Break(())) => {
                    if send.send(Ok((index, sequence.completion))).is_err() {
                        return;
                    }
                }
                Err(error) => {
                    let _ = send.send(Err(error));
                    return;
                }
            }
        }
        if sequences.is_empty() {
            return;
        }
        rows.clear();
        rows.extend(sequences.iter().enumerate().map(|(cache, sequence)| sequence.row(cache)));
        queue.engine.forward(&rows, &mut caches, &queue.angles, &mut scratch);
        queue.engine.logits_of_last(&mut scratch, &mut logits);
        // Backwards, so that the one that takes an ended sequence's place has been served already.
        for place in (0..sequences.len()).rev() {
            let sequence = &mut sequences[place];
            sequence.cached += 1;
            let logits = &logits[place * vocabulary..][..vocabulary];
            match sequence.extend(&queue.requests[sequence.index], logits, &mut drawing) {
                Ok(ControlFlow::Continue(())) => {}
                Ok(ControlFlow::Break(())) => {
                    let ended = sequences.swap_remove(place);
                    caches.swap_remove(place);
                    if send.send(Ok((ended.index, ended.completion))).is_err() {
                        return;
                    }
                }
                Err(error) => {
                    let _ = send.send(Err(error));
                    return;
                }
            }
        }
    }
}

impl Sequence {
    fn new(index: usize, request: &SampleRequest, length: usize) -> Sequence {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&request.seed.to_le_bytes());
        Sequence { index, rng: ChaCha8Rng::from_seed(seed), completion: Completion::default(), cached: length }
    }

    /// The row of the last token that was drawn.
    fn row(&self, cache: usize) -> Row {
        let token = *self.completion.tokens.last().expect("a sequence is kept only after its first token");
        Row { token, cache, position: self.cached }
    }

    /// Draws one token; breaks when it is the last.
    fn extend(
        &mut self,
        request: &SampleRequest,
        logits: &[f32],
        drawing: &mut Drawing,
    ) -> Result<ControlFlow<()>, SampleError> {
        let params = &request.params;
        let Some((token, behavior)) = drawing.draw(logits, params, &mut self.rng) else {
            let (index, tokens) = (self.index, self.completion.tokens.len());
            return Err(SampleError::Other(Box::new(NotFinite { index, tokens })));
        };
        self.completion.tokens.push(token);
        self.completion.behavior.push(behavior);
        if params.stop.contains(&token) {
            self.completion.stop = StopReason::EndOfText;
            return Ok(ControlFlow::Break(()));
        }
        if self.completion.tokens.len() >= params.max_tokens as usize {
            self.completion.stop = StopReason::Length;
            return Ok(ControlFlow::Break(()));
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// Memory of drawing one token.
#[derive(Default)]
struct Drawing {
    weights: Vec<f32>,
    order: Vec<u32>,
}

impl Drawing {
    /// One token and its log-probability under the distribution it was drawn from; none where the
    /// logits are not finite.
    fn draw(&mut self, logits: &[f32], params: &SamplingParams, rng: &mut ChaCha8Rng) -> Option<(TokenId, f32)> {
        if !logits.iter().all(|logit| logit.is_finite()) {
            return None;
        }
        if params.temperature == 0.0 {
            let best = (0..logits.len()).reduce(|best, i| if logits[i] > logits[best] { i } else { best })?;
            return Some((best as TokenId, 0.0));
        }
        let scale = 1.0 / params.temperature;
        self.weights.resize(logits.len(), 0.0);
        let max = shifted_exp(logits, scale, &mut self.weights);
        if params.top_k > 0 || params.top_p < 1.0 {
            self.truncate(params);
        }
        let total: f64 = self.weights.iter().map(|&weight| f64::from(weight)).sum();
        let mut left = uniform(rng) * total;
        let mut token = None;
        for (i, &weight) in self.weights.iter().enumerate().filter(|(_, weight)| **weight > 0.0) {
            // The last one stays where rounding leaves a rest.
            token = Some(i);
            left -= f64::from(weight);
            if left < 0.0 {
                break;
            }
        }
        let token = token?;
        let behavior = f64::from(scale * (logits[token] - max)) - total.ln();
        Some((token as TokenId, behavior as f32))
    }

    /// Sets the weights to zero that `top_k` and then `top_p` leave out; equal weights keep the order
    /// of their tokens.
    fn truncate(&mut self, params: &SamplingParams) {
        let weights = &mut self.weights;
        self.order.clear();
        self.order.extend(0..weights.len() as u32);
        let by_weight = |a: &u32, b: &u32| weights[*b as usize].total_cmp(&weights[*a as usize]).then(a.cmp(b));
        self.order.sort_unstable_by(by_weight);
        let mut keep = self.order.len();
        if params.top_k > 0 {
            keep = keep.min(params.top_k as usize);
        }
        if params.top_p < 1.0 {
            let kept = |order: &[u32]| order.iter().map(|&i| f64::from(weights[i as usize])).sum::<f64>();
            let mut left = f64::from(params.top_p) * kept(&self.order[..keep]);
            let reached = self.order[..keep].iter().position(|&i| {
                left -= f64::from(weights[i as usize]);
                left <= 0.0
            });
            keep = reached.map_or(keep, |last| last + 1);
        }
        for &i in &self.order[keep..] {
            weights[i as usize] = 0.0;
        }
    }
}

/// Positions that a request can fill. The last token drawn is never fed back, but counts as one.
fn positions(request: &SampleRequest) -> usize {
    request.prompt.len() + request.prefix.len() + request.params.max_tokens as usize
}

fn check(engine: &Engine, index: usize, request: &SampleRequest) -> Result<(), SampleError> {
    let SamplingParams { temperature, top_p, max_tokens, .. } = request.params;
    let bad = |reason: String| Err(SampleError::BadRequest { index, reason });
    if request.prompt.is_empty() {
        return bad("the prompt is empty".into());
    }
    if !(temperature.is_finite() && temperature >= 0.0) {
        return bad(format!("the temperature is {temperature}, expected at least 0"));
    }
    if !(top_p > 0.0 && top_p <= 1.0) {
        return bad(format!("top_p is {top_p}, expected above 0 and at most 1"));
    }
    if max_tokens == 0 {
        return bad("max_tokens is 0, expected at least 1".into());
    }
    let vocabulary = engine.config().vocab_size;
    let mut tokens = request.prompt.iter().chain(request.prefix.iter());
    if let Some(&token) = tokens.find(|token| **token as usize >= vocabulary) {
        return Err(SampleError::UnknownToken { index, token, vocabulary });
    }
    let (needed, limit) = (positions(request), engine.config().max_position_embeddings);
    if needed > limit {
        let (prompt, prefix) = (request.prompt.len(), request.prefix.len());
        let max_tokens = max_tokens as usize;
        return Err(SampleError::TooLong { index, needed, prompt, prefix, max_tokens, limit });
    }
    Ok(())
}
