//! Which traces or starts a query is about.
//!
//! Values are bound, never pasted into the statement, so an id may hold anything.

use std::fmt;

use rusqlite::types::Value;
use toehold_verifier::Outcome;

use super::Stage;
use crate::{PolicyVersion, ProblemId, StartId, StopReason};

/// Which traces; what is none is not asked about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TraceFilter {
    /// Of this problem, from any start.
    pub problem: Option<ProblemId>,
    /// From this start.
    pub start: Option<StartId>,
    /// From plain or from prefixed starts.
    pub kind: Option<StartKind>,
    /// By these weights.
    pub policy: Option<PolicyVersion>,
    /// Of campaigns with this seed.
    pub seed: Option<u64>,
    /// Sampled for this.
    pub stage: Option<Stage>,
    /// With this outcome.
    pub outcome: Option<Outcome>,
    /// Ended by this.
    pub stop: Option<StopReason>,
    /// Only rows after this one: the way to read a large store piece by piece.
    pub after: Option<i64>,
    /// Skips so many of what is left.
    pub offset: u64,
    /// At most so many.
    pub limit: Option<u64>,
}

/// Which starts; what is none is not asked about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StartFilter {
    /// Of this problem.
    pub problem: Option<ProblemId>,
    /// Plain or prefixed.
    pub kind: Option<StartKind>,
}

/// Whether a start has a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartKind {
    /// It has none.
    Plain,
    /// It has one.
    Prefixed,
}

impl TraceFilter {
    pub(super) fn conditions(&self) -> Conditions {
        let mut conditions = Conditions::default();
        conditions.equal("problems.id", self.problem.as_ref().map(|problem| problem.as_str().to_owned()));
        conditions.equal("starts.id", self.start.as_ref().map(|start| start.as_str().to_owned()));
        conditions.kind(self.kind);
        conditions.equal("policies.weights", self.policy.as_ref().map(|policy| policy.weights.clone()));
        conditions.equal("traces.seed", self.seed.map(u64::cast_signed));
        conditions.equal("traces.stage", self.stage.map(|stage| stage.as_str().to_owned()));
        conditions.equal("traces.outcome", self.outcome.map(|outcome| outcome.as_str().to_owned()));
        conditions.equal("traces.stop", self.stop.map(|stop| stop.as_str().to_owned()));
        if let Some(after) = self.after {
            conditions.clauses.push("traces.row > ?".to_owned());
            conditions.values.push(after.into());
        }
        conditions
    }
}

impl StartFilter {
    pub(super) fn conditions(&self) -> Conditions {
        let mut conditions = Conditions::default();
        conditions.equal("problems.id", self.problem.as_ref().map(|problem| problem.as_str().to_owned()));
        conditions.kind(self.kind);
        conditions
    }
}

/// A `WHERE` clause and its values.
#[derive(Default)]
pub(super) struct Conditions {
    clauses: Vec<String>,
    pub(super) values: Vec<Value>,
}

impl Conditions {
    fn equal(&mut self, column: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.clauses.push(format!("{column} = ?"));
            self.values.push(value.into());
        }
    }

    fn kind(&mut self, kind: Option<StartKind>) {
        match kind {
            Some(StartKind::Plain) => self.clauses.push("length(prefix) = 0".to_owned()),
            Some(StartKind::Prefixed) => self.clauses.push("length(prefix) > 0".to_owned()),
            None => {}
        }
    }
}

impl fmt::Display for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.clauses.is_empty() { Ok(()) } else { write!(f, "WHERE {}", self.clauses.join(" AND ")) }
    }
}
