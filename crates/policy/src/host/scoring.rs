//! Log-probabilities and entropies of tokens that are already there, with nothing kept; and their logits.

use toehold_rollout::TokenId;

use crate::Sharing;
use crate::host::engine::{Angles, Engine};
use crate::host::layers::{Leave, Tokens, Workspace};
use crate::host::matrix::{Into, PackedRows};
use crate::host::training::forward;
use crate::outputs::PickScores;
use crate::packing::Batch;
use crate::trie::Trie;

/// Scores of the batch's picks, and the memory given.
pub(crate) fn score(engine: &Engine, batch: Batch, angles: &Angles, workspace: Workspace) -> (PickScores, Workspace) {
    let (going, scores) = forward(engine, batch, angles, workspace, Leave::Nothing);
    (scores, going.into_workspace())
}

/// Logits of every position of one sequence, `[tokens, vocabulary]`.
pub(crate) fn logits(engine: &Engine, tokens: &[TokenId]) -> Vec<f32> {
    let (mut workspace, angles) = (Workspace::default(), Angles::new(&engine.config, tokens.len()));
    let trie = Trie::new(&[tokens], Sharing::Shared);
    workspace.forward(engine, Tokens { trie: &trie, angles: &angles }, Leave::Nothing);
    let rows: Vec<usize> = (0..tokens.len()).collect();
    workspace.gather(engine, &rows);
    let mut logits = vec![0.0; tokens.len() * engine.config.vocab_size];
    engine.head.multiply(&workspace.normed_last, &mut logits, Into::Replace, &mut PackedRows::default());
    logits
}
