//! Log-probabilities and entropies of tokens that are already there, with nothing kept.

use crate::host::engine::{Angles, Engine};
use crate::host::layers::{Leave, Workspace};
use crate::host::training::forward;
use crate::outputs::PickScores;
use crate::packing::Batch;

/// Scores of the batch's picks, and the memory given.
pub(crate) fn score(engine: &Engine, batch: Batch, angles: &Angles, workspace: Workspace) -> (PickScores, Workspace) {
    let (going, scores) = forward(engine, batch, angles, workspace, Leave::Nothing);
    (scores, going.into_workspace())
}
