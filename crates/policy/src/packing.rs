//! Which traces are learnt from or scored together.
//!
//! The plan depends on the traces and the budget alone, never on threads, so sums over micro-batches have one
//! order.

use toehold_rollout::{ScoreError, TokenId, TokenScores, Trace};

use crate::ModelConfig;
use crate::outputs::{Outputs, PickScores};
use crate::trie::{self, Sharing, Trie};

/// Micro-batches that a call is cut into at least, if they are not too small: work for so many threads.
const PIECES: usize = 8;
/// Rows below which a micro-batch is not worth its fixed cost.
const SMALL: usize = 512;

/// Traces laid over each other, and their completion tokens.
#[derive(Clone, Debug, Default)]
pub(crate) struct Batch {
    pub(crate) trie: Trie,
    pub(crate) outputs: Outputs,
}

/// How traces are put together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packing {
    /// Rows of one micro-batch.
    pub(crate) rows: usize,
    pub(crate) sharing: Sharing,
    pub(crate) threads: usize,
}

/// What goes into which micro-batch.
pub(crate) struct Plan<'a> {
    /// By trace: every token but the last of the completion, which predicts nothing.
    inputs: Vec<Vec<TokenId>>,
    traces: &'a [&'a Trace],
    /// Indices of the traces of each micro-batch.
    pub(crate) batches: Vec<Vec<usize>>,
    sharing: Sharing,
}

impl<'a> Plan<'a> {
    pub(crate) fn new(traces: &'a [&'a Trace], packing: Packing) -> Plan<'a> {
        let input = |trace: &&Trace| all_tokens(trace).take((length(trace) - 1).max(1)).collect();
        let inputs: Vec<Vec<TokenId>> = traces.iter().map(input).collect();
        let views: Vec<&[TokenId]> = inputs.iter().map(Vec::as_slice).collect();
        let order = trie::order(&views);
        let budget = (rows(&views, &order, packing.sharing) / PIECES).max(SMALL).min(packing.rows.max(1));
        let batches = trie::runs(&views, &order, budget, packing.sharing);
        Plan { traces, batches, sharing: packing.sharing, inputs }
    }

    /// Tokens of the longest input.
    pub(crate) fn longest(&self) -> usize {
        self.inputs.iter().map(Vec::len).max().unwrap_or(0)
    }

    /// The traces of one micro-batch, laid over each other.
    pub(crate) fn batch(&self, members: &[usize]) -> Batch {
        let sequences: Vec<&[TokenId]> = members.iter().map(|&member| self.inputs[member].as_slice()).collect();
        let trie = Trie::new(&sequences, self.sharing);
        let mut picks = Vec::new();
        for (sequence, &member) in members.iter().enumerate() {
            let trace = self.traces[member];
            let given = trace.prompt.len() + trace.prefix.len();
            // The row of the last given token predicts the first of the completion.
            let rows = trie.rows(sequence);
            picks.extend(rows[given - 1..].iter().copied().zip(trace.completion.tokens.iter().copied()));
        }
        Batch { outputs: Outputs::new(&picks), trie }
    }

    /// The scores of a micro-batch, by trace.
    pub(crate) fn by_trace(&self, members: &[usize], scores: &PickScores) -> Vec<TokenScores> {
        let mut start = 0;
        let mut one = |&member: &usize| {
            let range = start..start + self.traces[member].completion.tokens.len();
            start = range.end;
            TokenScores {
                current: scores.current[range.clone()].to_vec(),
                entropy: Some(scores.entropy[range].to_vec()),
            }
        };
        members.iter().map(&mut one).collect()
    }
}

/// Rows that a run takes.
fn rows(sequences: &[&[TokenId]], run: &[usize], sharing: Sharing) -> usize {
    let first = run.first().map_or(0, |&first| sequences[first].len());
    let more = run.windows(2).map(|pair| {
        let (before, this) = (sequences[pair[0]], sequences[pair[1]]);
        this.len() - if sharing == Sharing::Shared { trie::common(before, this) } else { 0 }
    });
    first + more.sum::<usize>()
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

fn length(trace: &Trace) -> usize {
    trace.prompt.len() + trace.prefix.len() + trace.completion.tokens.len()
}

fn all_tokens(trace: &Trace) -> impl Iterator<Item = u32> {
    trace.prompt.iter().chain(&trace.prefix).chain(&trace.completion.tokens).copied()
}
