//! From traces and coefficients to gradients.
//!
//! Traces are sorted by length and put together to micro-batches under a token budget. A micro-batch goes
//! forward once; its logits come to the host, where log-probabilities and entropies are made of them for
//! the objective, and `∂loss/∂logits = coefficient · (one-hot − p)` goes back. So the graph never holds a
//! softmax over the vocabulary, and no objective is ever differentiated.
//!
//! Micro-batches are computed on several threads at once, but planned and added up in one order that
//! does not depend on their number: the same inputs give the same bits.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use toehold_rollout::{LearnError, ScoreError, TokenScores, Trace};

use crate::ModelConfig;
use crate::host::{Kept, Trainer, log_sum, probabilities};
use crate::model::Decoder;

/// Which implementation learns. Their gradients differ by rounding only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Implementation {
    /// Loops over the host's own slices: several times faster on small models.
    #[default]
    Host,
    /// The graph of tensors, differentiated by the tensor library: the reference.
    Graph,
}

/// Gradients of one parameter each, in the order of the weights.
pub(crate) type GradientSums = Vec<Vec<f32>>;

/// A model that is ready to learn, by either implementation.
#[derive(Debug)]
pub(crate) enum Model {
    Host(Box<Trainer>),
    Graph(Box<Decoder>),
}

/// Sequences one after the other, and the rows whose logits are wanted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Batch {
    pub(crate) tokens: Vec<u32>,
    /// Tokens of each sequence; their sum is that of `tokens`.
    pub(crate) lengths: Vec<usize>,
    /// Indices into `tokens`.
    pub(crate) picks: Vec<usize>,
}

impl Batch {
    /// Each token's place in its own sequence.
    pub(crate) fn positions(&self) -> impl Iterator<Item = usize> {
        self.lengths.iter().flat_map(|&length| 0..length)
    }
}

/// Adds the gradient of `Σ coefficient · log π` to `sums`; on an error `sums` may hold a part of it.
pub(crate) fn accumulate(
    model: &Model,
    traces: &[&Trace],
    coefficients: &mut dyn FnMut(usize, &TokenScores) -> Vec<f32>,
    budget: usize,
    threads: usize,
    sums: &mut GradientSums,
) -> Result<(), LearnError> {
    let plan = plan(traces, budget);
    for wave in plan.chunks(threads.max(1)) {
        let forwards = on_threads(wave.iter(), |members| Forward::new(model, traces, members));
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
        let gradients = on_threads(weighed.into_iter(), |(forward, given)| forward.backward(model, &given));
        for gradients in gradients {
            for (sum, gradient) in sums.iter_mut().zip(gradients) {
                for (sum, value) in sum.iter_mut().zip(gradient) {
                    *sum += value;
                }
            }
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
    way: Way,
    /// `[rows, vocabulary]`
    logits: Vec<f32>,
    rows: Vec<Pick>,
    vocabulary: usize,
}

/// What an implementation needs for the way back.
enum Way {
    Host(Box<Kept>),
    Graph(Box<Tensor<2>>),
}

/// One completion token of a micro-batch.
struct Pick {
    target: usize,
    log_sum: f32,
    entropy: f32,
}

impl Forward {
    fn new(model: &Model, traces: &[&Trace], members: &[usize]) -> Forward {
        let mut batch = Batch::default();
        let mut rows = Vec::new();
        for &index in members {
            let trace = traces[index];
            let start = batch.tokens.len();
            let given = trace.prompt.len() + trace.prefix.len();
            // The last token predicts nothing, so it is not fed; a prompt alone still is a sequence.
            let inputs = (length(trace) - 1).max(1);
            batch.tokens.extend(all_tokens(trace).take(inputs));
            batch.lengths.push(inputs);
            for (i, &token) in trace.completion.tokens.iter().enumerate() {
                batch.picks.push(start + given - 1 + i);
                rows.push(Pick { target: token as usize, log_sum: 0.0, entropy: 0.0 });
            }
        }
        let (way, logits) = match model {
            Model::Host(trainer) => {
                let (kept, logits) = trainer.forward(batch);
                (Way::Host(Box::new(kept)), logits)
            }
            Model::Graph(decoder) => {
                let logits = decoder.forward(&batch);
                let values = logits.to_data().try_into_vec().expect("the graph is computed in f32");
                (Way::Graph(Box::new(logits)), values)
            }
        };
        let vocabulary = logits.len().checked_div(rows.len()).unwrap_or(1);
        let mut scratch = vec![0.0; vocabulary];
        for (row, logits) in rows.iter_mut().zip(logits.chunks_exact(vocabulary)) {
            let sum = log_sum(logits, &mut scratch);
            (row.log_sum, row.entropy) = (sum.log_sum, sum.entropy);
        }
        Forward { way, logits, rows, vocabulary }
    }

    fn scores(&self, traces: &[&Trace], members: &[usize]) -> Vec<TokenScores> {
        let mut rows = self.rows.iter().zip(self.logits.chunks_exact(self.vocabulary));
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

    fn backward(self, model: &Model, coefficients: &[f32]) -> GradientSums {
        let mut slopes = self.logits;
        for ((slopes, row), &coefficient) in slopes.chunks_exact_mut(self.vocabulary).zip(&self.rows).zip(coefficients)
        {
            probabilities(slopes, row.log_sum, -coefficient);
            slopes[row.target] += coefficient;
        }
        match (self.way, model) {
            (Way::Host(kept), Model::Host(trainer)) => trainer.backward(*kept, &slopes),
            (Way::Graph(logits), Model::Graph(decoder)) => decoder.backward(*logits, slopes),
            _ => unreachable!("a micro-batch goes back the way it came"),
        }
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
