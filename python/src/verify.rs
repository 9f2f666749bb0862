//! Verdicts.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use toehold_verifier::Verifier;

/// What a verifier found.
#[pyclass(frozen, get_all, eq, hash, module = "toehold")]
#[derive(PartialEq, Eq, Hash)]
pub(crate) struct Verdict {
    /// `correct`, `wrong`, `no_answer` or `unreadable`.
    outcome: &'static str,
    /// The answer as the text states it.
    extracted: Option<String>,
}

#[pymethods]
impl Verdict {
    /// 1.0 for a correct answer, else 0.0.
    #[getter]
    fn reward(&self) -> f64 {
        f64::from(u8::from(self.is_correct()))
    }

    /// Whether the outcome is `correct`.
    #[getter]
    fn is_correct(&self) -> bool {
        self.outcome == "correct"
    }

    fn __repr__(&self) -> String {
        match &self.extracted {
            Some(extracted) => format!("Verdict(outcome={:?}, extracted={extracted:?})", self.outcome),
            None => format!("Verdict(outcome={:?}, extracted=None)", self.outcome),
        }
    }
}

/// The rule of this name.
pub(crate) fn named(name: &str) -> PyResult<Verifier> {
    let verifier: Verifier =
        name.parse().map_err(|error: toehold_verifier::UnknownVerifier| PyValueError::new_err(error.to_string()))?;
    if verifier.runs() {
        // Its only verdict here would be that nobody judged, which must not become a reward of 0.
        let reason = format!("`{name}` runs a program, which the wheel does not: ask `toehold verify --serve`");
        return Err(PyValueError::new_err(reason));
    }
    Ok(verifier)
}

fn judged(verifier: Verifier, reference: &str, text: &str) -> Verdict {
    let verdict = verifier.verify(reference, text);
    Verdict { outcome: verdict.outcome.as_str(), extracted: verdict.extracted }
}

#[pyfunction]
pub(crate) fn verify(py: Python<'_>, verifier: &str, reference: &str, text: &str) -> PyResult<Verdict> {
    let verifier = named(verifier)?;
    Ok(py.detach(|| judged(verifier, reference, text)))
}

#[pyfunction]
pub(crate) fn verify_batch(py: Python<'_>, rows: Vec<(String, String, String)>) -> PyResult<Vec<Verdict>> {
    let named_rows = rows.iter().map(|(name, reference, text)| Ok((named(name)?, reference.as_str(), text.as_str())));
    let asked: Vec<(Verifier, &str, &str)> = named_rows.collect::<PyResult<_>>()?;
    Ok(py.detach(|| {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let share = asked.len().div_ceil(cores).max(16);
        std::thread::scope(|scope| {
            let work = |part: &[(Verifier, &str, &str)]| -> Vec<Verdict> {
                part.iter().map(|(verifier, reference, text)| judged(*verifier, reference, text)).collect()
            };
            let parts: Vec<_> = asked.chunks(share).map(|part| scope.spawn(move || work(part))).collect();
            // The verifier panics on no input, which is fuzzed.
            parts.into_iter().flat_map(|part| part.join().expect("a verdict is no panic")).collect()
        })
    }))
}

#[pyfunction]
pub(crate) fn check_reference(verifier: &str, reference: &str) -> PyResult<()> {
    named(verifier)?.check_reference(reference).map_err(|error| PyValueError::new_err(error.to_string()))
}

#[pyfunction]
pub(crate) fn answer_begins(verifier: &str, text: &str) -> PyResult<Option<usize>> {
    // Python counts characters, the verifier bytes.
    let begins = toehold_verifier::answer_begins(named(verifier)?, text);
    Ok(begins.map(|at| text[..at].chars().count()))
}
