//! Where a trace may be cut.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use toehold_training::curriculum::cut;
use toehold_training::random;

use crate::verify::named;

#[pyfunction]
#[pyo3(signature = (length, limit, count = 3, low = 0.4, high = 0.8, *, seed = 0, purpose = ""))]
pub(crate) fn uniform_cuts(
    length: usize,
    limit: usize,
    count: usize,
    low: f64,
    high: f64,
    seed: u64,
    purpose: &str,
) -> PyResult<Vec<usize>> {
    if !(0.0..=1.0).contains(&low) || !(low..=1.0).contains(&high) {
        return Err(PyValueError::new_err(format!("shares are {low} and {high}, expected 0 <= low <= high <= 1")));
    }
    let mut rng = random::stream(seed, purpose, &[]);
    Ok(cut::uniform_cuts(length, limit, count, (low, high), &mut rng))
}

#[pyfunction]
#[pyo3(signature = (length, limit, count = 9))]
pub(crate) fn even_cuts(length: usize, limit: usize, count: usize) -> Vec<usize> {
    cut::even_cuts(length, limit, count)
}

/// The function `decode` is Python's: what it raises is raised again.
#[pyfunction]
pub(crate) fn answer_limit(verifier: &str, tokens: Vec<u32>, decode: Bound<'_, PyAny>) -> PyResult<usize> {
    let verifier = named(verifier)?;
    let raised = std::cell::RefCell::new(None);
    let text = |tokens: &[u32]| -> String {
        if raised.borrow().is_some() {
            return String::new();
        }
        decode.call1((tokens.to_vec(),)).and_then(|text| text.extract()).unwrap_or_else(|error| {
            *raised.borrow_mut() = Some(error);
            String::new()
        })
    };
    let limit = cut::answer_limit(verifier, &tokens, &text);
    raised.into_inner().map_or(Ok(limit), Err)
}
