//! The folders that servers read weights from: one per version, never the same path twice for other weights,
//! because engines cache what they read by its path.
//!
//! A folder is written beside its place and renamed into it, so a server never sees half of one. A version's folder
//! goes when the fleet has confirmed a newer one: nobody reads it any more, and a server that comes back is given the
//! newest.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::PolicyVersion;

/// Where weights are handed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightFolders {
    here: PathBuf,
    there: PathBuf,
}

/// Why weights cannot be handed over.
#[derive(Debug, thiserror::Error)]
#[error("cannot hand over weights in {}: {reason}", path.display())]
pub struct FolderError {
    /// The folder.
    pub path: PathBuf,
    /// What went wrong.
    pub reason: String,
}

const PREFIX: &str = "weights-";
const UNFINISHED: &str = ".unfinished";

impl WeightFolders {
    /// The folder `here`, which the servers see as `there`. It belongs to one run.
    pub fn new(here: PathBuf, there: PathBuf) -> WeightFolders {
        WeightFolders { here, there }
    }

    /// Makes sure that there is a folder of this version, written by `write` if it is not there; gives its path as
    /// the servers see it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put<E: std::fmt::Display>(
        &self,
        version: &PolicyVersion,
        write: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<PathBuf, FolderError> {
        let name = format!("{PREFIX}{version}");
        let place = self.here.join(&name);
        let error = |reason: String| FolderError { path: place.clone(), reason };
        if !place.exists() {
            let beside = self.here.join(format!("{name}{UNFINISHED}"));
            remove_if_there(&beside).map_err(|e| error(e.to_string()))?;
            fs::create_dir_all(&beside).map_err(|e| error(e.to_string()))?;
            write(&beside).map_err(|e| error(e.to_string()))?;
            fs::rename(&beside, &place).map_err(|e| error(e.to_string()))?;
        }
        Ok(self.there.join(name))
    }

    /// Removes every folder but that of `version`, and what a kill left unfinished.
    ///
    /// # Errors
    /// When one cannot be removed.
    pub fn keep_only(&self, version: &PolicyVersion) -> Result<(), FolderError> {
        let kept = format!("{PREFIX}{version}");
        let error = |path: &Path, e: io::Error| FolderError { path: path.to_owned(), reason: e.to_string() };
        for entry in fs::read_dir(&self.here).map_err(|e| error(&self.here, e))? {
            let path = entry.map_err(|e| error(&self.here, e))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with(PREFIX) && name != kept {
                remove_if_there(&path).map_err(|e| error(&path, e))?;
            }
        }
        Ok(())
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
