//! Checkpoints: the learner's own files beside `trainer.json`, in `step-000100/`.
//!
//! A folder is written under another name and then renamed, so a folder with the right name is whole.
//! All randomness derives from the seed and the step, so the step's number is the generator's state.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use toehold_rollout::{LearnError, Learner};

use super::Compute;
use crate::detector::History;

/// What the trainer knows at a checkpoint, apart from the learner.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Optimizer steps done.
    pub step: u64,
    /// Seed of the run.
    pub seed: u64,
    /// All that was spent.
    pub compute: Compute,
    /// The curriculum's state.
    pub curriculum: Value,
    /// The detectors' lengths; empty in the checkpoint of a build without them.
    #[serde(default)]
    pub detectors: History,
}

/// Why a checkpoint could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The folder or `trainer.json`.
    #[error("checkpoint {path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// `trainer.json` is not what was written.
    #[error("checkpoint {path} cannot be read: {reason}\nhint: remove its folder to go on from the one before")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The learner's part.
    #[error(transparent)]
    Learn(#[from] LearnError),
}

const STATE_FILE: &str = "trainer.json";

/// Writes a checkpoint into `folder` and removes all but the newest `keep`; gives its own folder.
///
/// # Errors
/// When something cannot be written; older checkpoints are then still there.
pub fn save(
    folder: &Path,
    checkpoint: &Checkpoint,
    learner: &impl Learner,
    keep: usize,
) -> Result<PathBuf, CheckpointError> {
    let target = folder.join(format!("step-{:06}", checkpoint.step));
    let unfinished = folder.join(format!(".step-{:06}.unfinished", checkpoint.step));
    remove_if_there(&unfinished)?;
    fs::create_dir_all(&unfinished).map_err(|source| at(&unfinished, source))?;
    learner.save(&unfinished)?;
    let file = unfinished.join(STATE_FILE);
    let text = serde_json::to_string_pretty(checkpoint).map_err(|error| at(&file, error.into()))?;
    fs::write(&file, text).map_err(|source| at(&file, source))?;
    remove_if_there(&target)?;
    fs::rename(&unfinished, &target).map_err(|source| at(&target, source))?;
    let steps = list(folder)?;
    for (_, old) in steps.iter().rev().skip(keep.max(1)) {
        fs::remove_dir_all(old).map_err(|source| at(old, source))?;
    }
    Ok(target)
}

/// The newest checkpoint in `folder` and its own folder; none where there is none.
///
/// # Errors
/// When it cannot be read.
pub fn latest(folder: &Path) -> Result<Option<(PathBuf, Checkpoint)>, CheckpointError> {
    let Some((_, path)) = list(folder)?.pop() else { return Ok(None) };
    let file = path.join(STATE_FILE);
    let text = fs::read_to_string(&file).map_err(|source| at(&file, source))?;
    let checkpoint = serde_json::from_str(&text)
        .map_err(|error| CheckpointError::Malformed { path: file, reason: error.to_string() })?;
    Ok(Some((path, checkpoint)))
}

/// The checkpoints in `folder` by rising step; none when there is no such folder.
fn list(folder: &Path) -> Result<Vec<(u64, PathBuf)>, CheckpointError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|source| at(folder, source))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|source| at(folder, source))?;
        let name = entry.file_name();
        let step = name.to_str().and_then(|name| name.strip_prefix("step-")).and_then(|step| step.parse().ok());
        if let Some(step) = step {
            found.push((step, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

fn remove_if_there(folder: &Path) -> Result<(), CheckpointError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(folder, error)),
        _ => Ok(()),
    }
}

fn at(path: &Path, source: io::Error) -> CheckpointError {
    CheckpointError::Io { path: path.to_owned(), source }
}
