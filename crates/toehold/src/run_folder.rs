//! A run on disk: one folder with the recipe as resolved, the store, the events, the checkpoints and
//! the report.
//!
//! A folder belongs to one plan, one model, one tokenizer and one set of problems. What it was made
//! with is written first; anything else that asks to go on in it is refused by name, so two runs
//! never mix. One process at a time holds its lock.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use toehold_rollout::Store;

/// What a run was made with; kept as `identity.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Hash of the resolved recipe.
    pub recipe: String,
    /// Hash of the base policy's weights.
    pub model: String,
    /// Hash of the tokenizer's file.
    pub tokenizer: String,
    /// Hash of the training problems.
    pub problems: String,
    /// Hash of the held-out problems.
    pub held_out: String,
}

/// An open run folder; the lock is held until it is dropped.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    _lock: File,
}

impl RunFolder {
    /// Opens the folder `path`, making it when it is not there.
    ///
    /// # Errors
    /// When another process holds it, or the file system refuses.
    pub fn open(path: &Path) -> Result<RunFolder> {
        fs::create_dir_all(path).with_context(|| format!("cannot make the run folder {}", path.display()))?;
        let lock_path = path.join("lock");
        let lock = File::create(&lock_path).with_context(|| format!("cannot write {}", lock_path.display()))?;
        if lock.try_lock().is_err() {
            bail!(
                "the run {} is in use by another process\nhint: wait for it, or give this run another name",
                path.display()
            );
        }
        Ok(RunFolder { path: path.to_owned(), _lock: lock })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps `identity` and the resolved recipe, or checks that they are the ones of this folder.
    ///
    /// # Errors
    /// When the folder was made with something else: says what differs, both sides.
    pub fn claim(&self, identity: &Identity, recipe: &str) -> Result<()> {
        let path = self.path.join("identity.json");
        if path.exists() {
            let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let kept: Identity =
                serde_json::from_str(&text).with_context(|| format!("{} is not a run's identity", path.display()))?;
            return self.compare(&kept, identity);
        }
        // The identity is written last: its existence says that the recipe beside it is whole.
        write_whole(&self.path.join("recipe.toml"), recipe.as_bytes())?;
        write_whole(&path, serde_json::to_string_pretty(identity)?.as_bytes())
    }

    fn compare(&self, kept: &Identity, asked: &Identity) -> Result<()> {
        let parts = [
            ("model", &kept.model, &asked.model),
            ("tokenizer", &kept.tokenizer, &asked.tokenizer),
            ("problem file", &kept.problems, &asked.problems),
            ("held-out problem file", &kept.held_out, &asked.held_out),
            ("recipe", &kept.recipe, &asked.recipe),
        ];
        for (what, kept, asked) in parts {
            if kept != asked {
                bail!(
                    "the run {} was made with another {what} ({kept}, now {asked})\n\
                     hint: give this run another name (`--set run.name=...`), or remove the folder; \
                     {} is what it was made with",
                    self.path.display(),
                    self.path.join("recipe.toml").display(),
                );
            }
        }
        Ok(())
    }

    /// Opens the store of this run.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn store(&self) -> Result<Store> {
        Ok(Store::open(self.path.join("traces.db"))?)
    }

    /// The folder of checkpoints.
    pub fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    /// The report's file.
    pub fn report(&self) -> PathBuf {
        self.path.join("report.html")
    }

    /// The file of events.
    pub fn events(&self) -> PathBuf {
        self.path.join("events.jsonl")
    }
}

/// Reads the events of a run; a torn last line (the process was killed while writing) is left out.
///
/// # Errors
/// When the file cannot be read, or a line before the last is no event.
pub fn read_events<E: serde::de::DeserializeOwned>(path: &Path) -> Result<Vec<E>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    // As bytes: a process that was killed may have torn the last line inside a character.
    let lines: Vec<Vec<u8>> = BufReader::new(file).split(b'\n').collect::<std::io::Result<_>>()?;
    let mut events = Vec::with_capacity(lines.len());
    for (index, line) in lines.iter().enumerate() {
        match serde_json::from_slice(line) {
            Ok(event) => events.push(event),
            Err(_) if index + 1 == lines.len() => {}
            Err(error) => bail!("{} line {}: {error}", path.display(), index + 1),
        }
    }
    Ok(events)
}

/// Writes a file beside its place and renames it into it, so that what has its name is complete.
///
/// # Errors
/// When the file system refuses.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let beside = beside(path);
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// Where a file or folder is made before it is renamed into its place. The name is added to, not
/// changed: `base-0.01` and `base-0.02` must not be made in the same place.
pub fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::beside;

    #[test]
    fn folders_whose_names_differ_behind_a_dot_are_made_apart() {
        assert_eq!(beside(Path::new("runs/base-0.01")), Path::new("runs/base-0.01.part"));
    }
}
