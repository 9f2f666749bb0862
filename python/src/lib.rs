//! The Python module `toehold._toehold`: the verifier, advantages, cuts and the store's reader.
//!
//! Everything is computed by the crates that toehold itself runs; nothing is computed here. Signatures and
//! documentation for Python are in `_toehold.pyi`, which `tests/` hold against this file.
//!
//! Work on many rows lets go of the interpreter, so a trainer's other threads go on. Errors are `ValueError`
//! for input that makes no sense and `OSError` for a store that cannot be read; no input panics.

mod advantages;
mod cuts;
mod store;
mod verify;

use pyo3::prelude::*;

/// See `python/toehold/__init__.py`.
#[pymodule]
fn _toehold(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("VERIFIER_VERSION", toehold_verifier::VERSION)?;
    let named = toehold_verifier::Verifier::ALL.into_iter().filter(|verifier| !verifier.runs());
    module.add("VERIFIERS", named.map(toehold_verifier::Verifier::as_str).collect::<Vec<_>>())?;
    module.add_class::<verify::Verdict>()?;
    module.add_function(wrap_pyfunction!(verify::verify, module)?)?;
    module.add_function(wrap_pyfunction!(verify::verify_batch, module)?)?;
    module.add_function(wrap_pyfunction!(verify::check_reference, module)?)?;
    module.add_function(wrap_pyfunction!(verify::answer_begins, module)?)?;
    module.add_function(wrap_pyfunction!(advantages::advantages, module)?)?;
    module.add_function(wrap_pyfunction!(advantages::centred, module)?)?;
    module.add_function(wrap_pyfunction!(advantages::standardised, module)?)?;
    module.add_function(wrap_pyfunction!(cuts::uniform_cuts, module)?)?;
    module.add_function(wrap_pyfunction!(cuts::even_cuts, module)?)?;
    module.add_function(wrap_pyfunction!(cuts::answer_limit, module)?)?;
    module.add_class::<store::TraceStore>()?;
    module.add_class::<store::Trace>()?;
    module.add_class::<store::Problem>()?;
    module.add_class::<store::Start>()?;
    module.add_class::<store::Traces>()?;
    Ok(())
}
