//! Reading a trace store.

use std::path::PathBuf;
use std::sync::Mutex;

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use toehold_rollout::store::{StartFilter, StartKind, StoredTrace, TraceFilter};
use toehold_rollout::{PolicyVersion, ProblemId, Store};
use toehold_verifier::Outcome;

fn unreadable(error: impl std::fmt::Display) -> PyErr {
    PyOSError::new_err(error.to_string())
}

/// A problem of the store.
#[pyclass(frozen, get_all, module = "toehold")]
pub(crate) struct Problem {
    id: String,
    problem: String,
    answer: String,
    verifier: &'static str,
    solution: Option<String>,
}

/// A start of the store.
#[pyclass(frozen, get_all, module = "toehold")]
pub(crate) struct Start {
    id: String,
    problem: String,
    prompt_ids: Vec<u32>,
    prefix_ids: Vec<u32>,
    /// Row of the trace that the prefix was cut from.
    source_row: Option<i64>,
}

/// A trace of the store.
#[pyclass(frozen, get_all, module = "toehold")]
pub(crate) struct Trace {
    row: i64,
    problem: String,
    start: String,
    policy: String,
    seed: u64,
    index: u32,
    stage: &'static str,
    outcome: &'static str,
    extracted: Option<String>,
    verifier_version: String,
    stop: &'static str,
    prompt_ids: Vec<u32>,
    prefix_ids: Vec<u32>,
    completion_ids: Vec<u32>,
    log_probabilities: Vec<f32>,
    temperature: f32,
}

#[pymethods]
impl Trace {
    fn __repr__(&self) -> String {
        format!("Trace(row={}, problem={:?}, outcome={:?})", self.row, self.problem, self.outcome)
    }
}

impl From<StoredTrace> for Trace {
    fn from(stored: StoredTrace) -> Trace {
        Trace {
            row: stored.row,
            problem: stored.problem.as_str().to_owned(),
            start: stored.key.start.as_str().to_owned(),
            policy: stored.key.policy.weights,
            seed: stored.key.seed,
            index: stored.key.index,
            stage: stored.stage.as_str(),
            outcome: stored.verdict.outcome.as_str(),
            extracted: stored.verdict.extracted,
            verifier_version: stored.verifier_version,
            stop: stored.trace.completion.stop.as_str(),
            prompt_ids: stored.trace.prompt,
            prefix_ids: stored.trace.prefix,
            completion_ids: stored.trace.completion.tokens,
            log_probabilities: stored.trace.completion.behavior,
            temperature: stored.params.temperature,
        }
    }
}

/// An open store, for reading.
#[pyclass(frozen, module = "toehold")]
pub(crate) struct TraceStore {
    // SQLite's connection is one thread's at a time.
    store: Mutex<Store>,
    path: PathBuf,
}

impl TraceStore {
    fn ask<T>(&self, query: impl FnOnce(&Store) -> Result<T, toehold_rollout::store::ReadError>) -> PyResult<T> {
        let store = self.store.lock().map_err(|_| unreadable("another thread failed while it read the store"))?;
        query(&store).map_err(unreadable)
    }
}

#[pymethods]
impl TraceStore {
    #[new]
    fn new(path: PathBuf) -> PyResult<TraceStore> {
        let path = if path.is_dir() { path.join("traces.db") } else { path };
        let store = Store::open_read_only(&path).map_err(unreadable)?;
        Ok(TraceStore { store: Mutex::new(store), path })
    }

    #[getter]
    fn path(&self) -> PathBuf {
        self.path.clone()
    }

    fn problems(&self) -> PyResult<Vec<Problem>> {
        let problem = |one: toehold_rollout::Problem| Problem {
            id: one.id.as_str().to_owned(),
            problem: one.problem,
            answer: one.answer,
            verifier: one.verifier.as_str(),
            solution: one.solution,
        };
        Ok(self.ask(Store::problems)?.into_iter().map(problem).collect())
    }

    #[pyo3(signature = (*, problem = None, prefixed = None))]
    fn starts(&self, problem: Option<&str>, prefixed: Option<bool>) -> PyResult<Vec<Start>> {
        let filter = StartFilter { problem: problem.map(ProblemId::from), kind: kind(prefixed) };
        let start = |one: toehold_rollout::Start| Start {
            id: one.id.as_str().to_owned(),
            problem: one.problem.as_str().to_owned(),
            source_row: one.origin.and_then(|origin| origin.trace),
            prompt_ids: one.prompt,
            prefix_ids: one.prefix,
        };
        Ok(self.ask(|store| store.starts(&filter))?.into_iter().map(start).collect())
    }

    #[pyo3(signature = (*, problem = None, outcome = None, prefixed = None, policy = None, after = 0, limit = 1000))]
    fn traces(
        &self,
        problem: Option<&str>,
        outcome: Option<&str>,
        prefixed: Option<bool>,
        policy: Option<&str>,
        after: i64,
        limit: u64,
    ) -> PyResult<Vec<Trace>> {
        let filter = TraceFilter {
            problem: problem.map(ProblemId::from),
            outcome: outcome.map(named_outcome).transpose()?,
            kind: kind(prefixed),
            policy: policy.map(|weights| PolicyVersion { weights: weights.to_owned() }),
            after: Some(after),
            limit: Some(limit),
            ..TraceFilter::default()
        };
        Ok(self.ask(|store| store.traces(&filter))?.into_iter().map(Trace::from).collect())
    }

    #[pyo3(signature = (problem = None))]
    fn success(&self, problem: Option<&str>) -> PyResult<(u64, u64)> {
        let filter = TraceFilter { problem: problem.map(ProblemId::from), ..TraceFilter::default() };
        let count = self.ask(|store| store.success(&filter))?;
        Ok((count.successes, count.attempts))
    }

    fn __len__(&self) -> PyResult<usize> {
        Ok(self.ask(|store| store.outcomes(&TraceFilter::default()))?.values().sum::<u64>() as usize)
    }

    fn __iter__(slf: Bound<'_, Self>) -> Traces {
        Traces { store: slf.unbind(), state: Mutex::new((0, Vec::new())) }
    }

    fn __repr__(&self) -> String {
        format!("TraceStore({:?})", self.path)
    }
}

/// Every trace of a store, by rising row, read piece by piece.
#[pyclass(frozen, module = "toehold")]
pub(crate) struct Traces {
    store: Py<TraceStore>,
    /// The last row that was read, and what is still to be given, the next one last.
    state: Mutex<(i64, Vec<StoredTrace>)>,
}

#[pymethods]
impl Traces {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self) -> PyResult<Option<Trace>> {
        let mut state = self.state.lock().map_err(|_| unreadable("another thread failed while it read the store"))?;
        if state.1.is_empty() {
            let filter = TraceFilter { after: Some(state.0), limit: Some(256), ..TraceFilter::default() };
            state.1 = self.store.get().ask(|store| store.traces(&filter))?;
            state.1.reverse();
        }
        let Some(next) = state.1.pop() else { return Ok(None) };
        state.0 = next.row;
        Ok(Some(Trace::from(next)))
    }
}

fn kind(prefixed: Option<bool>) -> Option<StartKind> {
    prefixed.map(|prefixed| if prefixed { StartKind::Prefixed } else { StartKind::Plain })
}

fn named_outcome(name: &str) -> PyResult<Outcome> {
    Outcome::ALL.into_iter().find(|outcome| outcome.as_str() == name).ok_or_else(|| {
        let known = Outcome::ALL.map(Outcome::as_str).join(", ");
        PyValueError::new_err(format!("outcome is {name:?}, expected one of {known}"))
    })
}
