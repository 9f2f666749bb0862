//! The trace store: one SQLite file that keeps every trace there ever was.
//!
//! Invariants:
//! * A trace's key is (start, policy version, seed, index). Writing a key again changes nothing, so
//!   any stage may be killed at any moment and started again.
//! * A write is one transaction: all of it is kept, or nothing.
//! * Rows are numbered from 1 in the order they were written and never change or disappear. Whoever
//!   writes in an order that depends on nothing but the campaign (as [`collect`](crate::collect))
//!   gets a store that is equal row for row, however often it was interrupted.
//! * Tokens are kept as ids and log-probabilities to the bit; no text is ever encoded again, but for another
//!   model's, once (`encoded`).
//!
//! `docs/trace-store.md` has the format field by field. In here: `schema` (tables and versions),
//! `write`, `read` (with `filter`), `encoded` (traces in another tokenizer's ids), `blob` (tokens as bytes).

mod blob;
mod encoded;
mod filter;
mod read;
mod schema;
#[cfg(test)]
pub(crate) mod tests;
mod write;

use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OpenFlags};
use serde::{Deserialize, Serialize};

pub use encoded::Encoded;
pub use filter::{StartFilter, StartKind, TraceFilter};
pub use read::{CampaignCount, ReadError, StartCount, StoredTrace};
pub use write::{AppendError, Discarded, PolicyRecord, PutError, TraceRecord};

/// An open trace store.
///
/// Several processes may have one store open: readers never wait, a writer waits for another at most
/// five seconds.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
    path: PathBuf,
}

/// What a trace was sampled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// To find out which problems are hard, and traces to cut prefixes from.
    Collect,
    /// To learn from, on-policy.
    Train,
    /// To measure a policy.
    Evaluate,
}

impl Stage {
    /// In the order of a run.
    pub const ALL: [Stage; 3] = [Stage::Collect, Stage::Train, Stage::Evaluate];

    /// The word that is stored and printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Stage::Collect => "collect",
            Stage::Train => "train",
            Stage::Evaluate => "evaluate",
        }
    }
}

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Written by a newer build.
    #[error(
        "{path} is a trace store of version {found}, but this build reads versions up to {supported}\nhint: use a newer toehold"
    )]
    NewerVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The newest version that this build knows.
        supported: i64,
    },
    /// Written by an older build, and opened for reading only.
    #[error(
        "{path} is a trace store of version {found}, but only version {supported} and later can be read\nhint: open it for writing once, which upgrades it"
    )]
    OlderVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The oldest version that this build reads as it is.
        supported: i64,
    },
    /// A file of some other kind.
    #[error("{path} is not a trace store: {reason}")]
    NotAStore {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        reason: String,
    },
    /// There is nothing to read.
    #[error("{path} does not exist")]
    NoFile {
        /// The file.
        path: PathBuf,
    },
    /// The folder that the store is to be in does not exist.
    #[error("{path} cannot be opened: there is no folder {folder}")]
    NoFolder {
        /// The file.
        path: PathBuf,
        /// Its folder.
        folder: PathBuf,
    },
    /// The file cannot be reached, read or created.
    #[error("{path} cannot be opened: {source}")]
    Database {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
}

impl Store {
    /// Opens the store at `path`; creates it if there is no file (its folder must exist), and upgrades
    /// an older one.
    ///
    /// # Errors
    /// A store of a newer version and a file that is no store are refused and left as they are.
    pub fn open(path: impl AsRef<Path>) -> Result<Store, OpenError> {
        let path = path.as_ref();
        let mut connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
        let found = version(&connection, path)?;
        let failed = |source| OpenError::Database { path: path.to_owned(), source };
        // A killed process loses nothing with NORMAL: what was committed is in the system's memory. A
        // power cut may undo the last commits, newest first, and the file stays whole; a campaign
        // makes those again, to the same rows. FULL would wait for the disk at every commit.
        connection
            .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON;")
            .map_err(failed)?;
        if found < schema::VERSION {
            schema::upgrade(&mut connection, found).map_err(failed)?;
        }
        Ok(Store { connection, path: path.to_owned() })
    }

    /// Opens an existing store for queries; a write through it fails.
    ///
    /// # Errors
    /// As [`open`](Self::open), and when there is no file, or a version too old to be read as it is. SQLite makes two files beside a
    /// store even to read it: in a folder that cannot be written, a store that no process has open cannot be read.
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<Store, OpenError> {
        let path = path.as_ref();
        if !path.exists() {
            return Err(OpenError::NoFile { path: path.to_owned() });
        }
        // A file that cannot be written is opened for reading by this too. A connection that could not write
        // would leave its two files behind.
        let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        connection
            .execute_batch("PRAGMA query_only = ON")
            .map_err(|source| OpenError::Database { path: path.to_owned(), source })?;
        match version(&connection, path)? {
            0 => Err(OpenError::NotAStore { path: path.to_owned(), reason: "it is empty".to_owned() }),
            found if found < schema::READABLE => {
                Err(OpenError::OlderVersion { path: path.to_owned(), found, supported: schema::READABLE })
            }
            _ => Ok(Store { connection, path: path.to_owned() }),
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, OpenError> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.is_dir()) {
        return Err(OpenError::NoFolder { path: path.to_owned(), folder: folder.to_owned() });
    }
    // Without SQLITE_OPEN_URI, so that a path that begins with `file:` is a path.
    Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        .map_err(|source| OpenError::Database { path: path.to_owned(), source })
}

/// The version of the store behind `connection`, 0 for an empty file.
fn version(connection: &Connection, path: &Path) -> Result<i64, OpenError> {
    let not_a_store = |reason: String| OpenError::NotAStore { path: path.to_owned(), reason };
    let read = |sql: &str| {
        connection.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(|source| match source.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => not_a_store("it is no SQLite file".to_owned()),
            _ => OpenError::Database { path: path.to_owned(), source },
        })
    };
    let application = read("PRAGMA application_id")?;
    let found = read("PRAGMA user_version")?;
    let tables = read("SELECT count(*) FROM sqlite_schema")?;
    if application == 0 && found == 0 && tables == 0 {
        return Ok(0);
    }
    if application != schema::APPLICATION_ID {
        return Err(not_a_store(format!(
            "it is a SQLite file with application id {application}, expected {}",
            schema::APPLICATION_ID
        )));
    }
    if found > schema::VERSION {
        return Err(OpenError::NewerVersion { path: path.to_owned(), found, supported: schema::VERSION });
    }
    if found < 1 {
        return Err(not_a_store(format!("it has version {found}, expected at least 1")));
    }
    Ok(found)
}
