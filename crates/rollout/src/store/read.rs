//! What the store is asked: traces by filter and row, counts per start, campaigns, and what is there
//! already.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use rusqlite::types::FromSql;
use rusqlite::{Row, named_params, params_from_iter};
use toehold_verifier::{Outcome, Verdict, Verifier};

use super::filter::{StartFilter, TraceFilter};
use super::schema::SOLUTION;
use super::{PolicyRecord, Stage, Store, blob};
use crate::{
    Completion, Origin, PolicyVersion, Problem, ProblemId, SamplingParams, Start, StartId, StopReason, SuccessCount,
    TokenId, Trace, TraceKey,
};

/// A trace as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredTrace {
    /// Its row, from 1, in the order of writing.
    pub row: i64,
    /// What makes it unique.
    pub key: TraceKey,
    /// Its problem.
    pub problem: ProblemId,
    /// Prompt, prefix and completion.
    pub trace: Trace,
    /// How it was sampled.
    pub params: SamplingParams,
    /// What it was sampled for.
    pub stage: Stage,
    /// What the verifier said.
    pub verdict: Verdict,
    /// Version of the verifier's rules at that time.
    pub verifier_version: String,
}

/// The traces of one start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StartCount {
    /// Successes and attempts.
    pub success: SuccessCount,
    /// Completion tokens of all attempts.
    pub tokens_sampled: u64,
    /// Prompt and prefix tokens of one attempt.
    pub start_tokens: u64,
}

/// The traces of one sampling campaign, and what it cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CampaignCount {
    /// Who sampled.
    pub policy: PolicyVersion,
    /// With which seed.
    pub seed: u64,
    /// For what.
    pub stage: Stage,
    /// Starts with at least one trace.
    pub starts: u64,
    /// Successes and attempts.
    pub success: SuccessCount,
    /// Completion tokens of all traces, those included that the verifier could not judge.
    pub tokens_sampled: u64,
    /// Prompt and prefix tokens, computed anew for each attempt.
    pub prefilled_each: u64,
    /// Prompt and prefix tokens, computed once for each start.
    pub prefilled_once: u64,
    /// Completions that were sampled and dropped; see [`Discarded`](super::Discarded).
    pub discarded_attempts: u64,
    /// Tokens in those.
    pub discarded_tokens: u64,
}

/// Why a query failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// A row that no version of this program wrote.
    #[error("{path}, table {table}, row {row}: {reason}")]
    Corrupt {
        /// The store.
        path: PathBuf,
        /// The table.
        table: &'static str,
        /// The row.
        row: i64,
        /// What is wrong with it.
        reason: String,
    },
    /// Anything that SQLite has to say.
    #[error("{path} cannot be read: {source}")]
    Database {
        /// The store.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
}

/// A trace that is there already, as far as a campaign needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) row: i64,
    pub(crate) index: u32,
    pub(crate) correct: bool,
    /// Whether there is a verdict at all.
    pub(crate) judged: bool,
    pub(crate) stage: Stage,
    pub(crate) sampling: i64,
}

const TRACE: &str = "
SELECT traces.row, starts.id, policies.weights, seed, number, problems.id, prompt, prefix, tokens, behavior,
       traces.stop, stage, outcome, extracted, verifier_version,
       temperature, top_k, top_p, max_tokens, sampling.stop
FROM traces
JOIN starts ON starts.row = traces.start
JOIN problems ON problems.row = starts.problem
JOIN policies ON policies.row = traces.policy
JOIN sampling ON sampling.row = traces.sampling";

impl Store {
    /// All problems, in the order they were put.
    ///
    /// # Errors
    /// Only SQLite's own, and a corrupt row, as of all queries.
    pub fn problems(&self) -> Result<Vec<Problem>, ReadError> {
        // A store of the first version that is only read has no cues.
        let has_cues = "SELECT count(*) FROM pragma_table_info('problems') WHERE name = 'cue'";
        let count = self.connection.query_row(has_cues, [], |row| row.get::<_, i64>(0));
        let count = count.map_err(|source| ReadError::Database { path: self.path.clone(), source })?;
        let cue = if count == 0 { "NULL" } else { "cue" };
        let sql = &format!("SELECT row, id, problem, answer, verifier, solution, {cue} FROM problems ORDER BY row");
        self.rows("problems", sql, [], |fields| {
            Ok(Problem {
                id: ProblemId::from(fields.get::<String>(1)?),
                problem: fields.get(2)?,
                answer: fields.get(3)?,
                verifier: fields.word(4, &Verifier::ALL, Verifier::as_str)?,
                solution: fields.get(5)?,
                cue: fields.get(6)?,
            })
        })
    }

    /// The starts that pass the filter, in the order they were put.
    ///
    /// # Errors
    /// As [`problems`](Self::problems).
    pub fn starts(&self, filter: &StartFilter) -> Result<Vec<Start>, ReadError> {
        let conditions = filter.conditions();
        let sql = format!(
            "SELECT starts.row, starts.id, problems.id, prompt, prefix, origin_trace, origin_tokens
             FROM starts JOIN problems ON problems.row = starts.problem {conditions} ORDER BY starts.row"
        );
        self.rows("starts", &sql, params_from_iter(conditions.values), |fields| {
            let origin = match (fields.get(5)?, fields.get(6)?) {
                (Some(row), Some(source_tokens)) => {
                    Some(Origin { trace: (row != SOLUTION).then_some(row), source_tokens })
                }
                _ => None,
            };
            Ok(Start {
                id: StartId::from_stored(fields.get(1)?),
                problem: ProblemId::from(fields.get::<String>(2)?),
                prompt: fields.tokens(3)?,
                prefix: fields.tokens(4)?,
                origin,
            })
        })
    }

    /// All policies, in the order they were put.
    ///
    /// # Errors
    /// As [`problems`](Self::problems).
    pub fn policies(&self) -> Result<Vec<PolicyRecord>, ReadError> {
        let sql = "SELECT row, weights, model, tokenizer, step, parent FROM policies ORDER BY row";
        self.rows("policies", sql, [], |fields| {
            Ok(PolicyRecord {
                version: PolicyVersion { weights: fields.get(1)? },
                model: fields.get(2)?,
                tokenizer_hash: fields.get(3)?,
                step: fields.unsigned(4)?,
                parent: fields.get::<Option<String>>(5)?.map(|weights| PolicyVersion { weights }),
            })
        })
    }

    /// The traces that pass the filter, by row.
    ///
    /// # Errors
    /// As [`problems`](Self::problems).
    pub fn traces(&self, filter: &TraceFilter) -> Result<Vec<StoredTrace>, ReadError> {
        let conditions = filter.conditions();
        // SQLite takes a negative limit for none.
        let limit = filter.limit.map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX));
        let offset = i64::try_from(filter.offset).unwrap_or(i64::MAX);
        let sql = format!("{TRACE} {conditions} ORDER BY traces.row LIMIT {limit} OFFSET {offset}");
        self.rows("traces", &sql, params_from_iter(conditions.values), stored_trace)
    }

    /// How many of the traces that pass the filter succeeded; offset and limit do not count, and neither do
    /// traces that the verifier could not judge.
    ///
    /// # Errors
    /// As [`problems`](Self::problems).
    pub fn success(&self, filter: &TraceFilter) -> Result<SuccessCount, ReadError> {
        let conditions = filter.conditions();
        let sql = format!(
            "SELECT 0, coalesce(sum(outcome <> 'infra'), 0), coalesce(sum(outcome = 'correct'), 0)
             FROM traces
             JOIN starts ON starts.row = traces.start
             JOIN problems ON problems.row = starts.problem
             JOIN policies ON policies.row = traces.policy {conditions}"
        );
        let counts = self.rows("traces", &sql, params_from_iter(conditions.values), |fields| {
            Ok(SuccessCount { attempts: fields.unsigned(1)?, successes: fields.unsigned(2)? })
        })?;
        Ok(counts.into_iter().next().unwrap_or_default())
    }

    /// How many traces that pass the filter have each outcome, in the order of [`Outcome::ALL`]; those that
    /// none has are left out, and offset and limit do not count.
    ///
    /// # Errors
    /// As [`problems`](Self::problems).
    pub fn outcomes(&self, filter: &TraceFilter) -> Result<BTreeMap<Outcome, u64>, ReadError> {
        let conditions = filter.conditions();
        let sql = format!(
            "SELECT 0, outcome, count(*)
             FROM traces
             JOIN starts ON starts.row = traces.start
             JOIN problems ON problems.row = starts.problem
             JOIN policies ON policies.row = traces.policy {conditions} GROUP BY outcome"
        );
        let counts = self.rows("traces", &sql, params_from_iter(conditions.values), |fields| {
            Ok((fields.word(1, &Outcome::ALL, Outcome::as_str)?, fields.unsigned(2)?))
        })?;
        Ok(counts.into_iter().collect())
    }

    /// The trace in this row, if there is one.
    ///
    /// # Errors
    /// As [`problems`](Self::problems).
    pub fn trace(&self, row: i64) -> Result<Option<StoredTrace>, ReadError> {
        let found = self.rows("traces", &format!("{TRACE} WHERE traces.row = ?1"), [row], stored_trace)?;
        Ok(found.into_iter().next())
    }

    /// Counts per start of what these weights did, in campaigns with this seed or in all.
    ///
    /// # Errors
    /// As [`problems`](Self::problems).
    pub fn counts(
        &self,
        policy: &PolicyVersion,
        seed: Option<u64>,
    ) -> Result<BTreeMap<StartId, StartCount>, ReadError> {
        let sql =
            "SELECT starts.row, starts.id, sum(outcome <> 'infra'), sum(outcome = 'correct'), sum(length(tokens)) / 4,
                          (length(prompt) + length(prefix)) / 4
                   FROM traces
                   JOIN starts ON starts.row = traces.start
                   JOIN policies ON policies.row = traces.policy
                   WHERE weights = :policy AND (:seed IS NULL OR seed = :seed)
                   GROUP BY traces.start";
        let values = named_params! { ":policy": policy.weights, ":seed": seed.map(u64::cast_signed) };
        let counts = self.rows("traces", sql, values, |fields| {
            let success = SuccessCount { attempts: fields.unsigned(2)?, successes: fields.unsigned(3)? };
            let (tokens_sampled, start_tokens) = (fields.unsigned(4)?, fields.unsigned(5)?);
            Ok((StartId::from_stored(fields.get(1)?), StartCount { success, tokens_sampled, start_tokens }))
        })?;
        Ok(counts.into_iter().collect())
    }

    /// The indices that are there, rising, per start.
    ///
    /// # Errors
    /// As [`problems`](Self::problems).
    pub fn existing(&self, policy: &PolicyVersion, seed: u64) -> Result<HashMap<StartId, Vec<u32>>, ReadError> {
        let known = self.known(policy, seed)?;
        Ok(known.into_iter().map(|(start, known)| (start, known.iter().map(|known| known.index).collect())).collect())
    }

    /// Every campaign, in the order of policies, then by seed and stage.
    ///
    /// # Errors
    /// As [`problems`](Self::problems).
    pub fn campaigns(&self) -> Result<Vec<CampaignCount>, ReadError> {
        let sql = "SELECT policy, weights, seed, stage, starts, attempts, successes,
                          tokens_sampled, prefilled_each, prefilled_once, discarded_attempts, discarded_tokens
                   FROM campaigns ORDER BY policy, seed, stage";
        self.rows("campaigns", sql, [], |fields| {
            Ok(CampaignCount {
                policy: PolicyVersion { weights: fields.get(1)? },
                seed: fields.get::<i64>(2)?.cast_unsigned(),
                stage: fields.word(3, &Stage::ALL, Stage::as_str)?,
                starts: fields.unsigned(4)?,
                success: SuccessCount { attempts: fields.unsigned(5)?, successes: fields.unsigned(6)? },
                tokens_sampled: fields.unsigned(7)?,
                prefilled_each: fields.unsigned(8)?,
                prefilled_once: fields.unsigned(9)?,
                discarded_attempts: fields.unsigned(10)?,
                discarded_tokens: fields.unsigned(11)?,
            })
        })
    }

    /// What is there of this policy and seed, per start, by rising index.
    pub(crate) fn known(&self, policy: &PolicyVersion, seed: u64) -> Result<HashMap<StartId, Vec<Known>>, ReadError> {
        let values = (&policy.weights, seed.cast_signed());
        // In two steps, so that millions of rows do not bring an id each.
        let sql = "SELECT row, id FROM starts WHERE row IN
                   (SELECT start FROM traces JOIN policies ON policies.row = policy
                    WHERE weights = ?1 AND seed = ?2)";
        let ids = self
            .rows("starts", sql, values, |fields| Ok((fields.get::<i64>(0)?, StartId::from_stored(fields.get(1)?))))?;
        let sql = "SELECT traces.row, start, number, outcome = 'correct', stage, sampling, outcome <> 'infra'
                   FROM traces JOIN policies ON policies.row = policy
                   WHERE weights = ?1 AND seed = ?2 ORDER BY start, number";
        let rows = self.rows("traces", sql, values, |fields| {
            let (row, index, correct) = (fields.get(0)?, fields.get(2)?, fields.get(3)?);
            let stage = fields.word(4, &Stage::ALL, Stage::as_str)?;
            Ok((
                fields.get::<i64>(1)?,
                Known { row, index, correct, stage, sampling: fields.get(5)?, judged: fields.get(6)? },
            ))
        })?;
        let mut found: HashMap<i64, Vec<Known>> = HashMap::new();
        for (start, known) in rows {
            found.entry(start).or_default().push(known);
        }
        Ok(ids.into_iter().map(|(row, id)| (id, found.remove(&row).unwrap_or_default())).collect())
    }

    /// The row of these sampling parameters, if any trace has them.
    pub(crate) fn sampling_row(&self, sampling: &SamplingParams) -> Result<Option<i64>, ReadError> {
        super::write::find_sampling(&self.connection, sampling)
            .map_err(|source| ReadError::Database { path: self.path.clone(), source })
    }

    /// Runs a query whose first column is a row number, for the errors.
    pub(super) fn rows<T>(
        &self,
        table: &'static str,
        sql: &str,
        values: impl rusqlite::Params,
        convert: impl Fn(&Fields) -> Result<T, Unreadable>,
    ) -> Result<Vec<T>, ReadError> {
        let failed = |source| ReadError::Database { path: self.path.clone(), source };
        let mut statement = self.connection.prepare_cached(sql).map_err(failed)?;
        let mut rows = statement.query(values).map_err(failed)?;
        let mut converted = Vec::new();
        while let Some(row) = rows.next().map_err(failed)? {
            converted.push(convert(&Fields(row)).map_err(|Unreadable(reason)| ReadError::Corrupt {
                path: self.path.clone(),
                table,
                row: row.get(0).unwrap_or(0),
                reason,
            })?);
        }
        Ok(converted)
    }
}

/// What is wrong with a row, in words.
pub(super) struct Unreadable(String);

/// One row of an answer.
pub(super) struct Fields<'a>(&'a Row<'a>);

impl Fields<'_> {
    pub(super) fn get<T: FromSql>(&self, column: usize) -> Result<T, Unreadable> {
        self.0.get(column).map_err(|error| Unreadable(error.to_string()))
    }

    /// A count, or a `u64` that was put as the `i64` of the same bits.
    fn unsigned(&self, column: usize) -> Result<u64, Unreadable> {
        Ok(self.get::<i64>(column)?.cast_unsigned())
    }

    pub(super) fn tokens(&self, column: usize) -> Result<Vec<TokenId>, Unreadable> {
        let bytes: Vec<u8> = self.get(column)?;
        blob::to_tokens(&bytes)
            .ok_or_else(|| Unreadable(format!("{} bytes are no whole number of tokens", bytes.len())))
    }

    fn floats(&self, column: usize) -> Result<Vec<f32>, Unreadable> {
        let bytes: Vec<u8> = self.get(column)?;
        blob::to_floats(&bytes)
            .ok_or_else(|| Unreadable(format!("{} bytes are no whole number of floats", bytes.len())))
    }

    /// One of a few values by its word.
    fn word<T: Copy>(&self, column: usize, all: &[T], word: fn(T) -> &'static str) -> Result<T, Unreadable> {
        let found: String = self.get(column)?;
        all.iter().copied().find(|one| word(*one) == found).ok_or_else(|| Unreadable(format!("unknown word {found:?}")))
    }
}

fn stored_trace(fields: &Fields) -> Result<StoredTrace, Unreadable> {
    // What was given up for its confidence is not written.
    const STOPS: [StopReason; 2] = [StopReason::EndOfText, StopReason::Length];
    let policy = PolicyVersion { weights: fields.get(2)? };
    Ok(StoredTrace {
        row: fields.get(0)?,
        key: TraceKey {
            start: StartId::from_stored(fields.get(1)?),
            policy: policy.clone(),
            seed: fields.unsigned(3)?,
            index: fields.get(4)?,
        },
        problem: ProblemId::from(fields.get::<String>(5)?),
        trace: Trace {
            prompt: fields.tokens(6)?,
            prefix: fields.tokens(7)?,
            completion: Completion {
                tokens: fields.tokens(8)?,
                behavior: fields.floats(9)?,
                stop: fields.word(10, &STOPS, StopReason::as_str)?,
            },
            sampled_by: policy,
        },
        stage: fields.word(11, &Stage::ALL, Stage::as_str)?,
        verdict: Verdict { outcome: fields.word(12, &Outcome::ALL, Outcome::as_str)?, extracted: fields.get(13)? },
        verifier_version: fields.get(14)?,
        params: SamplingParams {
            temperature: fields.get(15)?,
            top_k: fields.get(16)?,
            top_p: fields.get(17)?,
            max_tokens: fields.get(18)?,
            stop: fields.tokens(19)?,
            // Nothing that was sampled with these is written.
            thought_switch: None,
            stop_below: None,
        },
    })
}
