//! From traces and coefficients to gradients.
//!
//! Traces are sorted by length and filled up to micro-batches under a token budget. A micro-batch goes
//! forward once; its logits come to the host, where log-probabilities and entropies are made of them for
//! the objective, and `∂loss/∂logits = coefficient · (one-hot − p)` goes back. So the graph never holds a
//! softmax over the vocabulary, and no objective is ever differentiated.
//!
//! Micro-batches are computed on several threads at once, but planned and added up in one order that
//! does not depend on their number: the same inputs give the same bits.

use burn::tensor::Tensor;
use toehold_rollout::{LearnError, ScoreError, TokenScores, Trace};

use crate::ModelConfig;
use crate::host::log_sum;
use crate::model::{Batch, Decoder};

/// Gradients of one parameter each, in the order of the weights.
pub(crate) type GradientSums = Vec<Vec<f32>>;

/// Adds the gradient of `Σ coefficient · log π` to `sums`; on an error `sums` may hold a part of it.
pub(crate) fn accumulate(
    decoder: &Decoder,
    traces: &[&Trace],
    coefficients: &mut dyn FnMut(usize, &TokenScores) -> Vec<f32>,
    budget: usize,
    threads: usize,
    sums: &mut GradientSums,
) -> Result<(), LearnError> {
    let plan = plan(traces, budget);
    for wave in plan.chunks(threads.max(1)) {
        let forwards = on_threads(wave.iter(), |members| Forward::new(decoder, traces, members));
        let mut weighed = Vec::new();
        for (members, forward) in wave.iter().zip(forwards) {
            let scores = forward.scores(traces, members);
            let mut given = Vec::new();
            for (&index, scores) in members.iter().zip(&scores) {
                let asked = coefficients(index, scores);
                if asked.len() != scores.current.len() {
                    let (tokens, coefficients) = (scores.current.len(), asked.len());
                    return Err(LearnError::CoefficientCount { index, tokens, coefficients });
                }
                given.extend(asked);
            }
            // With nothing to learn from, the way back would only add zeros.
            if given.iter().any(|&coefficient| coefficient != 0.0) {
                weighed.push((forward, given));
            }
        }
        let gradients = on_threads(weighed.into_iter(), |(forward, given)| forward.backward(decoder, &given));
        for mut gradients in gradients {
            decoder.add_gradients(&mut gradients, sums);
        }
    }
    Ok(())
}

/// Whether every trace can be read by the model.
pub(crate) fn check(config: &ModelConfig, traces: &[&Trace]) -> Result<(), ScoreError> {
    for (index, trace) in traces.iter().enumerate() {
        if trace.prompt.is_empty() {
            return Err(ScoreError::BadTrace { index, reason: "the prompt is empty".into() });
        }
        let (tokens, limit) = (length(trace), config.max_position_embeddings);
        if tokens > limit {
            return Err(ScoreError::TooLong { index, tokens, limit });
        }
        let vocabulary = config.vocab_size;
        if let Some(token) = all_tokens(trace).find(|token| *token as usize >= vocabulary) {
            let reason = format!("token {token} is outside the vocabulary of {vocabulary} tokens");
            return Err(ScoreError::BadTrace { index, reason });
        }
    }
    Ok(())
}

/// Groups the traces' indices: longest first, so that neighbours are about as long, and so many to a
/// group that it fills at most `budget` positions (one trace at least).
fn plan(traces: &[&Trace], budget: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..traces.len()).collect();
    order.sort_by_key(|&index| (std::cmp::Reverse(length(traces[index])), index));
    let mut plan: Vec<Vec<usize>> = Vec::new();
    for index in order {
        match plan.last_mut() {
            Some(group) if (group.len() + 1) * length(traces[group[0]]) <= budget => group.push(index),
            _ => plan.push(vec![index]),
        }
    }
    plan
}

/// One micro-batch after its way forward.
struct Forward {
    logits: Tensor<2>,
    /// The same on the host, with each row's log-sum and entropy.
    values: Vec<f32>,
    rows: Vec<Pick>,
    vocabulary: usize,
}

/// One completion token of a micro-batch.
struct Pick {
    target: usize,
    log_sum: f32,
    entropy: f32,
}

impl Forward {
    fn new(decoder: &Decoder, traces: &[&Trace], members: &[usize]) -> Forward {
        // The last token predicts nothing, so it is not fed.
        let length = members.iter().map(|&index| length(traces[index]) - 1).max().unwrap_or(0).max(1);
        let mut batch = Batch { sequences: members.len(), length, ..Batch::default() };
        let mut rows = Vec::new();
        for (sequence, &index) in members.iter().enumerate() {
            let trace = traces[index];
            let start = sequence * length;
            let given = trace.prompt.len() + trace.prefix.len();
            batch.tokens.extend(all_tokens(trace).take(length).map(|token| token as i32));
            batch.tokens.resize(start + length, 0);
            for (i, &token) in trace.completion.tokens.iter().enumerate() {
                batch.picks.push((start + given - 1 + i) as i32);
                rows.push(Pick { target: token as usize, log_sum: 0.0, entropy: 0.0 });
            }
        }
        let logits = decoder.forward(&batch);
        let [_, vocabulary] = logits.dims();
        let values = logits.to_data().try_into_vec::<f32>().expect("the graph is computed in f32");
        let mut scratch = vec![0.0; vocabulary];
        for (row, logits) in rows.iter_mut().zip(values.chunks_exact(vocabulary)) {
            let sum = log_sum(logits, &mut scratch);
            (row.log_sum, row.entropy) = (sum.log_sum, sum.entropy);
        }
        Forward { logits, values, rows, vocabulary }
    }

    fn scores(&self, traces: &[&Trace], members: &[usize]) -> Vec<TokenScores> {
        let mut rows = self.rows.iter().zip(self.values.chunks_exact(self.vocabulary));
        let mut one = |&index: &usize| {
            let (mut current, mut entropy) = (Vec::new(), Vec::new());
            for (row, logits) in rows.by_ref().take(traces[index].completion.tokens.len()) {
                current.push(logits[row.target] - row.log_sum);
                entropy.push(row.entropy);
            }
            TokenScores { current, entropy: Some(entropy) }
        };
        members.iter().map(&mut one).collect()
    }

    fn backward(self, decoder: &Decoder, coefficients: &[f32]) -> burn::tensor::Gradients {
        let mut slopes = self.values;
        for ((slopes, row), &coefficient) in
            slopes.chunks_exact_mut(self.vocabulary).zip(&self.rows).zip(coefficients)
        {
            for slope in slopes.iter_mut() {
                *slope = -coefficient * (*slope - row.log_sum).exp();
            }
            slopes[row.target] += coefficient;
        }
        decoder.backward(self.logits, slopes)
    }
}

/// Runs `task` on every item, each on a thread of its own; in the order of the items.
fn on_threads<I: Send, O: Send>(items: impl ExactSizeIterator<Item = I>, task: impl Fn(I) -> O + Sync) -> Vec<O> {
    if items.len() == 1 {
        return items.map(task).collect();
    }
    let task = &task;
    std::thread::scope(|scope| {
        let handles: Vec<_> = items.map(|item| scope.spawn(move || task(item))).collect();
        let joined = handles.into_iter().map(|handle| handle.join());
        joined.map(|result| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}

fn length(trace: &Trace) -> usize {
    trace.prompt.len() + trace.prefix.len() + trace.completion.tokens.len()
}

fn all_tokens(trace: &Trace) -> impl Iterator<Item = u32> {
    trace.prompt.iter().chain(&trace.prefix).chain(&trace.completion.tokens).copied()
}
