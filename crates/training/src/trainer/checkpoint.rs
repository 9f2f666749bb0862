//! Checkpoints: the learner's own files beside `trainer.json`, in `step-000100/`.
//!
//! A folder is written under a name with a dot before it and then renamed, and renamed back before it is
//! removed, so a folder with the right name is whole. What a kill left half written or half removed goes
//! at the next [`tidy`].
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
const UNFINISHED: &str = "unfinished";
const DISCARDED: &str = "discarded";

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
    let unfinished = hidden(folder, checkpoint.step, UNFINISHED);
    remove_if_there(&unfinished)?;
    fs::create_dir_all(&unfinished).map_err(|source| at(&unfinished, source))?;
    learner.save(&unfinished)?;
    let file = unfinished.join(STATE_FILE);
    let text = serde_json::to_string_pretty(checkpoint).map_err(|error| at(&file, error.into()))?;
    fs::write(&file, text).map_err(|source| at(&file, source))?;
    if target.exists() {
        discard(folder, checkpoint.step, &target)?;
    }
    fs::rename(&unfinished, &target).map_err(|source| at(&target, source))?;
    tidy(folder, keep)?;
    Ok(target)
}

/// Removes all but the newest `keep` checkpoints in `folder`, and what a kill left half written or half
/// removed. Nothing else may be writing there.
///
/// # Errors
/// When something cannot be removed.
pub fn tidy(folder: &Path, keep: usize) -> Result<(), CheckpointError> {
    for (step, old) in list(folder)?.into_iter().rev().skip(keep.max(1)) {
        discard(folder, step, &old)?;
    }
    for (name, path) in entries(folder)? {
        if name.starts_with(".step-") && (name.ends_with(UNFINISHED) || name.ends_with(DISCARDED)) {
            remove_if_there(&path)?;
        }
    }
    Ok(())
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

/// The checkpoints in `folder` with their steps, by rising step; none when there is no such folder.
///
/// # Errors
/// When the folder cannot be read.
pub fn list(folder: &Path) -> Result<Vec<(u64, PathBuf)>, CheckpointError> {
    let step = |name: &str| name.strip_prefix("step-").and_then(|step| step.parse().ok());
    let mut found: Vec<(u64, PathBuf)> =
        entries(folder)?.into_iter().filter_map(|(name, path)| Some((step(&name)?, path))).collect();
    found.sort();
    Ok(found)
}

/// Names and paths of what is in `folder`; nothing when there is no such folder. Names that are no UTF-8 are
/// none of ours.
fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>, CheckpointError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|source| at(folder, source))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|source| at(folder, source))?;
        if let Ok(name) = entry.file_name().into_string() {
            found.push((name, entry.path()));
        }
    }
    Ok(found)
}

/// Removes the checkpoint at `path`, which loses its name before it loses its first file.
fn discard(folder: &Path, step: u64, path: &Path) -> Result<(), CheckpointError> {
    let away = hidden(folder, step, DISCARDED);
    remove_if_there(&away)?;
    fs::rename(path, &away).map_err(|source| at(path, source))?;
    remove_if_there(&away)
}

fn hidden(folder: &Path, step: u64, what: &str) -> PathBuf {
    folder.join(format!(".step-{step:06}.{what}"))
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
