//! The tables, and how a store of an older version becomes one of this version.
//!
//! `STEPS[v]` turns version `v` into version `v + 1`; version 0 is an empty file. A step that was
//! released is never edited: a change of the format is a new step at the end.
//! `docs/trace-store.md` explains every field.

use rusqlite::{Connection, TransactionBehavior};

/// `toeh` in ASCII, in the header of every store: tells a store from any other SQLite file.
pub(super) const APPLICATION_ID: i64 = 0x746f_6568;

/// The version that this build writes.
pub(super) const VERSION: i64 = STEPS.len() as i64;

pub(super) const STEPS: &[&str] = &[V1, V2];

/// The oldest version that this build's queries read as it is.
pub(super) const READABLE: i64 = 1;

/// `origin_trace` of a prefix of the problem's own solution: no trace has this row.
pub(super) const SOLUTION: i64 = 0;

const V1: &str = "
CREATE TABLE problems (
  row      INTEGER PRIMARY KEY,
  id       TEXT NOT NULL UNIQUE,
  problem  TEXT NOT NULL,
  answer   TEXT NOT NULL,
  verifier TEXT NOT NULL,
  solution TEXT
) STRICT;

CREATE TABLE starts (
  row           INTEGER PRIMARY KEY,
  id            TEXT NOT NULL UNIQUE,
  problem       INTEGER NOT NULL REFERENCES problems (row),
  prompt        BLOB NOT NULL CHECK (length(prompt) % 4 = 0),
  prefix        BLOB NOT NULL CHECK (length(prefix) % 4 = 0),
  origin_trace  INTEGER,
  origin_tokens INTEGER,
  CHECK ((origin_trace IS NULL) = (origin_tokens IS NULL))
) STRICT;
CREATE INDEX starts_by_problem ON starts (problem);

CREATE TABLE policies (
  row       INTEGER PRIMARY KEY,
  weights   TEXT NOT NULL UNIQUE,
  model     TEXT NOT NULL,
  tokenizer TEXT NOT NULL,
  step      INTEGER NOT NULL,
  parent    TEXT
) STRICT;

CREATE TABLE sampling (
  row         INTEGER PRIMARY KEY,
  temperature REAL NOT NULL,
  top_k       INTEGER NOT NULL,
  top_p       REAL NOT NULL,
  max_tokens  INTEGER NOT NULL,
  stop        BLOB NOT NULL CHECK (length(stop) % 4 = 0),
  UNIQUE (temperature, top_k, top_p, max_tokens, stop)
) STRICT;

CREATE TABLE traces (
  row       INTEGER PRIMARY KEY,
  start     INTEGER NOT NULL REFERENCES starts (row),
  policy    INTEGER NOT NULL REFERENCES policies (row),
  seed      INTEGER NOT NULL,
  number    INTEGER NOT NULL CHECK (number >= 0),
  stage     TEXT NOT NULL CHECK (stage IN ('collect', 'train', 'evaluate')),
  sampling  INTEGER NOT NULL REFERENCES sampling (row),
  tokens    BLOB NOT NULL CHECK (length(tokens) % 4 = 0),
  behavior  BLOB NOT NULL CHECK (length(behavior) = length(tokens)),
  stop      TEXT NOT NULL CHECK (stop IN ('end_of_text', 'length')),
  outcome   TEXT NOT NULL CHECK (outcome IN ('correct', 'wrong', 'no_answer', 'unreadable')),
  extracted TEXT,
  verifier_version TEXT NOT NULL,
  UNIQUE (policy, seed, start, number)
) STRICT;
CREATE INDEX traces_by_start ON traces (start);

CREATE TABLE discarded (
  policy   INTEGER NOT NULL REFERENCES policies (row),
  seed     INTEGER NOT NULL,
  stage    TEXT NOT NULL,
  attempts INTEGER NOT NULL,
  tokens   INTEGER NOT NULL,
  PRIMARY KEY (policy, seed, stage)
) STRICT, WITHOUT ROWID;

CREATE VIEW campaigns AS
WITH per_start AS (
  SELECT traces.policy, traces.seed, traces.stage, count(*) AS attempts, sum(outcome = 'correct') AS successes,
         sum(length(tokens)) / 4 AS sampled, (length(prompt) + length(prefix)) / 4 AS given
  FROM traces JOIN starts ON starts.row = traces.start
  GROUP BY traces.policy, traces.seed, traces.stage, traces.start
)
SELECT
  per_start.policy AS policy, policies.weights AS weights, per_start.seed AS seed, per_start.stage AS stage,
  count(*) AS starts,
  sum(per_start.attempts) AS attempts,
  sum(per_start.successes) AS successes,
  sum(per_start.sampled) AS tokens_sampled,
  sum(per_start.attempts * per_start.given) AS prefilled_each,
  sum(per_start.given) AS prefilled_once,
  coalesce(discarded.attempts, 0) AS discarded_attempts,
  coalesce(discarded.tokens, 0) AS discarded_tokens
FROM per_start
JOIN policies ON policies.row = per_start.policy
LEFT JOIN discarded ON discarded.policy = per_start.policy AND discarded.seed = per_start.seed
                   AND discarded.stage = per_start.stage
GROUP BY per_start.policy, per_start.seed, per_start.stage;
";

/// Problems have cues, and traces may be kept in another tokenizer's ids; there are more outcomes, and attempts
/// that were not judged are left out of the campaigns' counts.
///
/// The list of outcomes is a condition of the table, which SQLite can change only by copying the table, all
/// tokens included, or in the schema's text. The latter changes nothing about rows that are there
/// (sqlite.org/lang_altertable.html, section 7); that the view is made anew lets every open connection know.
const V2: &str = "
ALTER TABLE problems ADD COLUMN cue TEXT;

CREATE TABLE encoded (
  trace     INTEGER NOT NULL REFERENCES traces (row),
  tokenizer TEXT NOT NULL,
  tokens    BLOB CHECK (length(tokens) % 4 = 0),
  PRIMARY KEY (trace, tokenizer)
) STRICT, WITHOUT ROWID;

PRAGMA writable_schema = ON;
UPDATE sqlite_schema
SET sql = replace(sql, '(''correct'', ''wrong'', ''no_answer'', ''unreadable'')',
                  '(''correct'', ''wrong'', ''no_answer'', ''unreadable'', ''budget'', ''timeout'', ''memory'','
                  || ' ''runtime'', ''compile'', ''output_limit'', ''infra'')')
WHERE type = 'table' AND name = 'traces';
PRAGMA writable_schema = RESET;

DROP VIEW campaigns;
CREATE VIEW campaigns AS
WITH per_start AS (
  SELECT traces.policy, traces.seed, traces.stage, count(*) AS completions,
         sum(outcome <> 'infra') AS attempts, sum(outcome = 'correct') AS successes,
         sum(length(tokens)) / 4 AS sampled, (length(prompt) + length(prefix)) / 4 AS given
  FROM traces JOIN starts ON starts.row = traces.start
  GROUP BY traces.policy, traces.seed, traces.stage, traces.start
)
SELECT
  per_start.policy AS policy, policies.weights AS weights, per_start.seed AS seed, per_start.stage AS stage,
  count(*) AS starts,
  sum(per_start.attempts) AS attempts,
  sum(per_start.successes) AS successes,
  sum(per_start.sampled) AS tokens_sampled,
  sum(per_start.completions * per_start.given) AS prefilled_each,
  sum(per_start.given) AS prefilled_once,
  coalesce(discarded.attempts, 0) AS discarded_attempts,
  coalesce(discarded.tokens, 0) AS discarded_tokens
FROM per_start
JOIN policies ON policies.row = per_start.policy
LEFT JOIN discarded ON discarded.policy = per_start.policy AND discarded.seed = per_start.seed
                   AND discarded.stage = per_start.stage
GROUP BY per_start.policy, per_start.seed, per_start.stage;
";

/// Brings a store at version `found` (0: an empty file) to [`VERSION`], all or nothing.
pub(super) fn upgrade(connection: &mut Connection, found: i64) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Another process may have upgraded it while this one waited for the lock.
    let now: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    for step in STEPS.iter().skip(now.max(found).max(0) as usize) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()
}
