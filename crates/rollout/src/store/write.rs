//! What is put into the store: problems, starts, policies, traces.
//!
//! Every function is one transaction and idempotent; each returns how many rows were new.

use std::path::PathBuf;

use rusqlite::{Connection, ErrorCode, OptionalExtension, Transaction, TransactionBehavior, params};
use toehold_verifier::Verdict;

use super::schema::SOLUTION;
use super::{Stage, Store, blob};
use crate::{Completion, PolicyVersion, Problem, ProblemId, SamplingParams, Start, TraceKey};

/// One set of weights that samples.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyRecord {
    /// Which weights.
    pub version: PolicyVersion,
    /// What people call it: a folder, a hub name, the run and step.
    pub model: String,
    /// Hash of the tokenizer whose ids the traces are in.
    pub tokenizer_hash: String,
    /// Optimizer steps since the run's first weights.
    pub step: u64,
    /// The weights it was trained from, which may be unknown to this store.
    pub parent: Option<PolicyVersion>,
}

/// A trace to be written. Its start and its policy are in the store already; problem, prompt and prefix are the start's.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceRecord {
    /// What makes it unique.
    pub key: TraceKey,
    /// What it was sampled for.
    pub stage: Stage,
    /// What the policy wrote.
    pub completion: Completion,
    /// How it was sampled.
    pub params: SamplingParams,
    /// What the verifier said.
    pub verdict: Verdict,
    /// Version of the verifier's rules.
    pub verifier_version: String,
}

/// Work of a campaign that was really done and left no trace behind: completions past the success
/// that was waited for.
///
/// How much that is depends on batching and interruptions, so it is counted apart from the traces,
/// and it is a lower bound: what a killed process had in flight is counted nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discarded {
    /// The campaign's weights.
    pub policy: PolicyVersion,
    /// The campaign's seed.
    pub seed: u64,
    /// What it sampled for.
    pub stage: Stage,
    /// Completions that were dropped.
    pub attempts: u64,
    /// Tokens in them.
    pub tokens: u64,
}

/// Why problems, starts or policies were not written; nothing of the call was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PutError {
    /// The same id with another content.
    #[error(
        "problem {problem} differs from the problem of the same id in {path}\nhint: give it a new id, or use a new store"
    )]
    ProblemChanged {
        /// Which problem.
        problem: ProblemId,
        /// The store.
        path: PathBuf,
    },
    /// A start of a problem that the store does not have.
    #[error("start {start} belongs to problem {problem}, which is not in {path}")]
    UnknownProblem {
        /// Which start.
        start: String,
        /// Its problem.
        problem: ProblemId,
        /// The store.
        path: PathBuf,
    },
    /// The disk is full.
    #[error(
        "the disk is full: nothing of this was written to {path}\nhint: free some space and run it again; it continues where the store ends"
    )]
    Full {
        /// The store.
        path: PathBuf,
    },
    /// Anything else that SQLite has to say.
    #[error("{path} cannot be written: {source}")]
    Database {
        /// The store.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
}

/// Why traces were not written; nothing of the call was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// A trace of a start that the store does not have.
    #[error("trace {index} of start {start}: the start is not in {path}")]
    UnknownStart {
        /// The trace's index in its key.
        index: u32,
        /// Its start.
        start: String,
        /// The store.
        path: PathBuf,
    },
    /// A trace of weights that the store does not have.
    #[error("policy {policy} is not in {path}\nhint: put the policy before its traces")]
    UnknownPolicy {
        /// The weights.
        policy: PolicyVersion,
        /// The store.
        path: PathBuf,
    },
    /// Tokens and log-probabilities do not go together.
    #[error(
        "trace {index} of start {start} has {behavior} log-probabilities, expected {tokens}, one per completion token"
    )]
    BehaviorCount {
        /// The trace's index in its key.
        index: u32,
        /// Its start.
        start: String,
        /// Log-probabilities given.
        behavior: usize,
        /// Completion tokens.
        tokens: usize,
    },
    /// The store has no field for how it was sampled.
    #[error(
        "trace {index} of start {start} was sampled with {with}, expected none: {path} could not say so\nhint: such completions are for `toehold generate` and for evaluation"
    )]
    LocalOnly {
        /// The trace's index in its key.
        index: u32,
        /// Its start.
        start: String,
        /// With what.
        with: &'static str,
        /// The store.
        path: PathBuf,
    },
    /// The disk is full.
    #[error(
        "the disk is full: {traces} traces were not written to {path}, which keeps all it had\nhint: free some space and run it again; it continues where the store ends"
    )]
    Full {
        /// How many were to be written.
        traces: usize,
        /// The store.
        path: PathBuf,
    },
    /// Anything else that SQLite has to say.
    #[error("{path} cannot be written: {source}")]
    Database {
        /// The store.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
}

impl Store {
    /// Puts problems that are not there yet, in order.
    ///
    /// # Errors
    /// A problem whose id is there with another content.
    pub fn put_problems(&mut self, problems: &[Problem]) -> Result<u64, PutError> {
        let path = self.path.clone();
        let failed = |source| put_failed(source, &path);
        let transaction = begin(&mut self.connection).map_err(failed)?;
        let mut new = 0;
        for p in problems {
            let row = params![p.id.as_str(), p.problem, p.answer, p.verifier.as_str(), p.solution, p.cue];
            let sql = "INSERT INTO problems (id, problem, answer, verifier, solution, cue)
                       VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING";
            let inserted = execute(&transaction, sql, row).map_err(failed)?;
            new += inserted;
            if inserted == 0 {
                let sql = "SELECT 1 FROM problems
                           WHERE id = ?1 AND problem = ?2 AND answer = ?3 AND verifier = ?4 AND solution IS ?5
                           AND cue IS ?6";
                if find(&transaction, sql, row).map_err(failed)?.is_none() {
                    return Err(PutError::ProblemChanged { problem: p.id.clone(), path });
                }
            }
        }
        transaction.commit().map_err(failed)?;
        Ok(new)
    }

    /// Puts starts that are not there yet, in order. Of a start that is there, the origin is kept as it was.
    ///
    /// # Errors
    /// A start of a problem that is not in the store.
    pub fn put_starts(&mut self, starts: &[Start]) -> Result<u64, PutError> {
        let path = self.path.clone();
        let failed = |source| put_failed(source, &path);
        let transaction = begin(&mut self.connection).map_err(failed)?;
        let mut new = 0;
        for start in starts {
            let problem = find(&transaction, "SELECT row FROM problems WHERE id = ?1", [start.problem.as_str()]);
            let Some(problem) = problem.map_err(failed)? else {
                let start_id = start.id.to_string();
                return Err(PutError::UnknownProblem { start: start_id, problem: start.problem.clone(), path });
            };
            let origin = start.origin.as_ref();
            new += execute(
                &transaction,
                "INSERT INTO starts (id, problem, prompt, prefix, origin_trace, origin_tokens)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING",
                params![
                    start.id.as_str(),
                    problem,
                    blob::from_tokens(&start.prompt),
                    blob::from_tokens(&start.prefix),
                    origin.map(|origin| origin.trace.unwrap_or(SOLUTION)),
                    origin.map(|origin| origin.source_tokens),
                ],
            )
            .map_err(failed)?;
        }
        transaction.commit().map_err(failed)?;
        Ok(new)
    }

    /// Puts a policy if it is not there yet; of weights that are there, the first record is kept.
    ///
    /// # Errors
    /// Only SQLite's own.
    pub fn put_policy(&mut self, policy: &PolicyRecord) -> Result<u64, PutError> {
        let path = self.path.clone();
        let failed = |source| put_failed(source, &path);
        let transaction = begin(&mut self.connection).map_err(failed)?;
        let new = execute(
            &transaction,
            "INSERT INTO policies (weights, model, tokenizer, step, parent)
             VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING",
            params![
                policy.version.weights,
                policy.model,
                policy.tokenizer_hash,
                policy.step.cast_signed(),
                policy.parent.as_ref().map(|parent| &parent.weights),
            ],
        )
        .map_err(failed)?;
        transaction.commit().map_err(failed)?;
        Ok(new)
    }

    /// Appends traces, in order, and returns how many were new; a key that is there stays as it is.
    ///
    /// # Errors
    /// A start or policy that is not in the store, a wrong number of log-probabilities, sampling that the store
    /// has no field for ([`SamplingParams::local_only`]), a full disk; the store then is as it was.
    pub fn append(&mut self, records: &[TraceRecord]) -> Result<u64, AppendError> {
        self.append_and_discard(records, None)
    }

    /// [`append`](Self::append), and adds to the count of what the campaign discarded, in one transaction.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn append_and_discard(
        &mut self,
        records: &[TraceRecord],
        discarded: Option<&Discarded>,
    ) -> Result<u64, AppendError> {
        let discarded = discarded.filter(|discarded| discarded.attempts > 0);
        if records.is_empty() && discarded.is_none() {
            return Ok(0);
        }
        let path = self.path.clone();
        let failed = |source: rusqlite::Error| match source.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => AppendError::Full { traces: records.len(), path: path.clone() },
            _ => AppendError::Database { path: path.clone(), source },
        };
        let policy_row = |transaction: &Transaction, policy: &PolicyVersion| {
            find(transaction, "SELECT row FROM policies WHERE weights = ?1", [&policy.weights])
                .map_err(failed)?
                .ok_or_else(|| AppendError::UnknownPolicy { policy: policy.clone(), path: path.clone() })
        };
        let transaction = begin(&mut self.connection).map_err(failed)?;
        let mut new = 0;
        for TraceRecord { key, stage, completion, params, verdict, verifier_version } in records {
            let start = key.start.to_string();
            let (tokens, behavior) = (completion.tokens.len(), completion.behavior.len());
            if tokens != behavior {
                return Err(AppendError::BehaviorCount { index: key.index, start, behavior, tokens });
            }
            if let Some(with) = params.local_only() {
                return Err(AppendError::LocalOnly { index: key.index, start, with, path });
            }
            let Some(start_row) =
                find(&transaction, "SELECT row FROM starts WHERE id = ?1", [&start]).map_err(failed)?
            else {
                return Err(AppendError::UnknownStart { index: key.index, start, path });
            };
            let policy = policy_row(&transaction, &key.policy)?;
            let sql = "SELECT 1 FROM traces WHERE policy = ?1 AND seed = ?2 AND start = ?3 AND number = ?4";
            let there = find(&transaction, sql, params![policy, key.seed.cast_signed(), start_row, key.index]);
            if there.map_err(failed)?.is_some() {
                continue;
            }
            let sampling = put_sampling(&transaction, params).map_err(failed)?;
            new += execute(
                &transaction,
                "INSERT INTO traces (start, policy, seed, number, stage, sampling,
                                     tokens, behavior, stop, outcome, extracted, verifier_version)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
                params![
                    start_row,
                    policy,
                    key.seed.cast_signed(),
                    key.index,
                    stage.as_str(),
                    sampling,
                    blob::from_tokens(&completion.tokens),
                    blob::from_floats(&completion.behavior),
                    completion.stop.as_str(),
                    verdict.outcome.as_str(),
                    verdict.extracted,
                    verifier_version,
                ],
            )
            .map_err(failed)?;
        }
        if let Some(discarded) = discarded {
            let policy = policy_row(&transaction, &discarded.policy)?;
            let (attempts, tokens) = (discarded.attempts.cast_signed(), discarded.tokens.cast_signed());
            execute(
                &transaction,
                "INSERT INTO discarded (policy, seed, stage, attempts, tokens) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT DO UPDATE SET attempts = attempts + excluded.attempts, tokens = tokens + excluded.tokens",
                params![policy, discarded.seed.cast_signed(), discarded.stage.as_str(), attempts, tokens],
            )
            .map_err(failed)?;
        }
        transaction.commit().map_err(failed)?;
        Ok(new)
    }
}

/// The row of these parameters, made if they are new.
fn put_sampling(transaction: &Transaction, sampling: &SamplingParams) -> rusqlite::Result<i64> {
    if let Some(row) = find_sampling(transaction, sampling)? {
        return Ok(row);
    }
    transaction.execute(
        "INSERT INTO sampling (temperature, top_k, top_p, max_tokens, stop) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![
            sampling.temperature,
            sampling.top_k,
            sampling.top_p,
            sampling.max_tokens,
            blob::from_tokens(&sampling.stop)
        ],
    )?;
    Ok(transaction.last_insert_rowid())
}

/// The row of these parameters; an `f32` is kept as the `f64` of the same value, so equality is exact.
pub(super) fn find_sampling(connection: &Connection, sampling: &SamplingParams) -> rusqlite::Result<Option<i64>> {
    find(
        connection,
        "SELECT row FROM sampling
         WHERE temperature = ?1 AND top_k = ?2 AND top_p = ?3 AND max_tokens = ?4 AND stop = ?5",
        params![
            sampling.temperature,
            sampling.top_k,
            sampling.top_p,
            sampling.max_tokens,
            blob::from_tokens(&sampling.stop)
        ],
    )
}

/// A transaction that holds the write lock from its beginning: one that reads first and locks later
/// could be refused halfway.
pub(super) fn begin(connection: &mut Connection) -> rusqlite::Result<Transaction<'_>> {
    connection.transaction_with_behavior(TransactionBehavior::Immediate)
}

fn find(connection: &Connection, sql: &str, values: impl rusqlite::Params) -> rusqlite::Result<Option<i64>> {
    connection.prepare_cached(sql)?.query_row(values, |row| row.get(0)).optional()
}

pub(super) fn execute(transaction: &Transaction, sql: &str, values: impl rusqlite::Params) -> rusqlite::Result<u64> {
    Ok(transaction.prepare_cached(sql)?.execute(values)? as u64)
}

pub(super) fn put_failed(source: rusqlite::Error, path: &std::path::Path) -> PutError {
    let path = path.to_owned();
    match source.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => PutError::Full { path },
        _ => PutError::Database { path, source },
    }
}
