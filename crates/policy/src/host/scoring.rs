//! Log-probabilities and entropies of tokens that are already there, without a graph.
//!
//! The same forward pass as sampling's, so at temperature 1 a completion's score is its behavior but
//! for the rounding of the last sum.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use toehold_rollout::{TokenScores, Trace};

use crate::host::engine::{Angles, Engine, Row, Scratch};
use crate::host::kernels::log_sum;
use crate::host::sampling::PREFILL_ROWS;

/// Scores traces that were checked to fit the model; in their order.
pub(crate) fn score(engine: &Engine, traces: &[&Trace], threads: usize) -> Vec<TokenScores> {
    let length = |trace: &&Trace| trace.prompt.len() + trace.prefix.len() + trace.completion.tokens.len();
    let angles = Angles::new(engine.config(), traces.iter().map(length).max().unwrap_or(0));
    let next = AtomicUsize::new(0);
    let scores = Mutex::new(vec![TokenScores::default(); traces.len()]);
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, traces.len().max(1)) {
            scope.spawn(|| {
                let mut scratch = Scratch::default();
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(trace) = traces.get(index) else { break };
                    let one = score_one(engine, trace, &angles, &mut scratch);
                    scores.lock().unwrap_or_else(PoisonError::into_inner)[index] = one;
                }
            });
        }
    });
    scores.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn score_one(engine: &Engine, trace: &Trace, angles: &Angles, scratch: &mut Scratch) -> TokenScores {
    let config = engine.config();
    let given = trace.prompt.len() + trace.prefix.len();
    let targets = &trace.completion.tokens;
    let tokens: Vec<u32> = [&trace.prompt, &trace.prefix, targets].into_iter().flatten().copied().collect();
    let (mut current, mut entropy) = (Vec::with_capacity(targets.len()), Vec::with_capacity(targets.len()));
    // The last token predicts nothing that is asked for.
    let inputs = &tokens[..tokens.len().saturating_sub(1)];
    let mut cache = engine.cache(inputs.len());
    let (mut logits, mut exps) = (Vec::new(), vec![0.0; config.vocab_size]);
    for (chunk, inputs) in inputs.chunks(PREFILL_ROWS).enumerate() {
        let first = chunk * PREFILL_ROWS;
        let row = |(i, &token)| Row { token, cache: 0, position: first + i };
        let rows: Vec<Row> = inputs.iter().enumerate().map(row).collect();
        engine.forward(&rows, std::slice::from_mut(&mut cache), angles, scratch);
        // Position p predicts token p + 1: the first row that counts is the last given token's.
        let skip = (given - 1).saturating_sub(first).min(rows.len());
        scratch.hidden.drain(..skip * config.hidden_size);
        engine.logits_of_last(scratch, &mut logits);
        for (logits, i) in logits.chunks_exact(config.vocab_size).zip(first + skip..) {
            let sum = log_sum(logits, &mut exps);
            current.push(logits[tokens[i + 1] as usize] - sum.log_sum);
            entropy.push(sum.entropy);
        }
    }
    TokenScores { current, entropy: Some(entropy) }
}
