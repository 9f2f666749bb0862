//! Sampling: a pool of sequences that is always full, prefixes computed once, keys and values in blocks.
//!
//! The starts of a call are laid over each other in a trie, and each of its nodes is prefilled once, by
//! whichever thread needs it first ([`starts`]). Each thread decodes its sequences together and gives
//! the place of one that ended to the next request at once ([`decode`]); requests that begin alike stand
//! next to each other, so that attention reads what they share once ([`cascade`]). Keys and values have a
//! budget ([`blocks`]): a thread that runs out of it puts its youngest sequence aside and computes it
//! anew later.
//!
//! None of this changes a token: a row's results depend on its own sequence alone, and the random stream
//! is the request's.

mod blocks;
mod cascade;
mod decode;
mod draw;
mod forward;
mod starts;

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};

use toehold_rollout::{Completion, SampleError, SampleRequest, SamplingParams};

use crate::Sharing;
use crate::host::engine::{Angles, Engine};
use crate::host::sampling::decode::{Call, Worker};
use crate::host::sampling::starts::Starts;

use blocks::Pool;
pub(crate) use blocks::Store;

/// How a call samples; none of it changes what is sampled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SamplingPlan {
    pub(crate) threads: usize,
    /// Sequences that are decoded at the same time.
    pub(crate) sequences: usize,
    /// Budget of keys and values.
    pub(crate) cache_bytes: u64,
    pub(crate) sharing: Sharing,
}

/// What a call of the policy's sampler did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SamplingStats {
    /// Tokens of prompts and prefixes that were computed; with shared prefixes each one once.
    pub prefilled_tokens: u64,
    /// Tokens that were drawn, those of cancelled requests included.
    pub decoded_tokens: u64,
    /// Tokens that were computed once more for sequences that had been put aside.
    pub recomputed_tokens: u64,
    /// How often a sequence was put aside because the budget of keys and values was used up.
    pub preemptions: u64,
    /// Bytes of keys and values at the most.
    pub peak_cache_bytes: u64,
}

/// The counters behind [`SamplingStats`], shared by the threads of a call.
#[derive(Debug, Default)]
struct Counters {
    prefilled: AtomicU64,
    decoded: AtomicU64,
    recomputed: AtomicU64,
    preemptions: AtomicU64,
}

/// Completes every request; see [`toehold_rollout::Sampler::sample`]. `stats` is of use after an error,
/// too.
pub(crate) fn sample(
    engine: &Engine,
    requests: &[SampleRequest],
    plan: &SamplingPlan,
    store: &Arc<Store>,
    stats: &mut SamplingStats,
    done: &mut dyn FnMut(usize, Completion) -> ControlFlow<()>,
) -> Result<(), SampleError> {
    *stats = SamplingStats::default();
    for (index, request) in requests.iter().enumerate() {
        check(engine, index, request)?;
    }
    let threads = plan.threads.clamp(1, requests.len().max(1));
    // No thread may take more than its share at once, or the others would have nothing to do.
    let share = plan.sequences.max(1).min(requests.len()).div_ceil(threads);
    let positions = requests.iter().map(positions).max().unwrap_or(0);
    let call = Call {
        engine,
        requests,
        angles: Angles::new(engine.config(), positions),
        starts: Starts::new(requests, plan.sharing, threads),
        counters: Counters::default(),
    };
    store.begin(engine.config(), plan.cache_bytes);
    let result = std::thread::scope(|scope| {
        let (send, receive) = mpsc::channel();
        for thread in 0..threads {
            let pool = Pool::new(engine.config(), plan.cache_bytes / threads as u64, store.clone());
            let (call, send) = (&call, send.clone());
            scope.spawn(move || Worker::new(call, thread, share, pool, send).work());
        }
        drop(send);
        for message in receive {
            let flow = match message {
                Ok((index, completion)) => done(index, completion),
                Err(error) => {
                    call.starts.cancel();
                    return Err(error);
                }
            };
            if flow.is_break() {
                call.starts.cancel();
                return Ok(());
            }
        }
        Ok(())
    });
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    *stats = SamplingStats {
        prefilled_tokens: count(&call.counters.prefilled),
        decoded_tokens: count(&call.counters.decoded),
        recomputed_tokens: count(&call.counters.recomputed),
        preemptions: count(&call.counters.preemptions),
        peak_cache_bytes: store.peak_bytes(engine.config()),
    };
    result
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
    if let Err(reason) = request.params.check_local() {
        return bad(reason);
    }
    let vocabulary = engine.config().vocab_size;
    let switches = request.params.thought_switch.as_ref().map_or(&[][..], |switch| &switch.tokens);
    let mut tokens = request.prompt.iter().chain(request.prefix.iter()).chain(switches);
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
