//! Traces of another model, in the ids of this one's tokenizer.
//!
//! A prefix is made of the ids that its policy reads. Where the traces that it is cut from were written by a model
//! with another tokenizer, their text is encoded once, and what came of it is kept here beside the trace: which
//! tokenizer, and the ids, or that the text did not come back when they were decoded. Who sampled the trace is in
//! the trace's own row, so a start whose origin stands here was encoded again, and one whose origin does not was
//! not.

use std::collections::BTreeMap;

use rusqlite::params;

use super::write::{begin, execute, put_failed};
use super::{PutError, ReadError, Store, blob};
use crate::TokenId;

/// A trace's completion in another tokenizer's ids, by its row; none where the ids do not decode to its text.
pub type Encoded = BTreeMap<i64, Option<Vec<TokenId>>>;

impl Store {
    /// Keeps what traces are in the ids of the tokenizer with this hash; of one that is there, the first stays.
    /// Says how many were new.
    ///
    /// # Errors
    /// A row that no trace has, a full disk.
    pub fn put_encoded(&mut self, tokenizer: &str, traces: &Encoded) -> Result<u64, PutError> {
        let path = self.path.clone();
        let failed = |source| put_failed(source, &path);
        let transaction = begin(&mut self.connection).map_err(failed)?;
        let mut new = 0;
        for (row, tokens) in traces {
            let sql = "INSERT INTO encoded (trace, tokenizer, tokens) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
            let tokens = tokens.as_deref().map(blob::from_tokens);
            new += execute(&transaction, sql, params![row, tokenizer, tokens]).map_err(failed)?;
        }
        transaction.commit().map_err(failed)?;
        Ok(new)
    }

    /// All that was kept for the tokenizer with this hash.
    ///
    /// # Errors
    /// As [`problems`](Self::problems).
    pub fn encoded(&self, tokenizer: &str) -> Result<Encoded, ReadError> {
        let sql =
            "SELECT trace, tokens IS NULL, coalesce(tokens, x'') FROM encoded WHERE tokenizer = ?1 ORDER BY trace";
        let rows = self.rows("encoded", sql, [tokenizer], |fields| {
            let tokens = fields.tokens(2)?;
            Ok((fields.get(0)?, if fields.get(1)? { None } else { Some(tokens) }))
        })?;
        Ok(rows.into_iter().collect())
    }
}
