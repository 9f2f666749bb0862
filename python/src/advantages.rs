//! Advantages of a group's rewards, by every objective that makes them of rewards alone.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use toehold_training::objective::advantage::{self, Deviation};
use toehold_training::objective::{Objective, Weigh as _};
use toehold_training::recipe::Method as _;

fn deviation(name: &str) -> PyResult<Deviation> {
    match name {
        "sample" => Ok(Deviation::Sample),
        "population" => Ok(Deviation::Population),
        "none" => Ok(Deviation::None),
        _ => Err(PyValueError::new_err(format!(
            "deviation is {name:?}, expected \"sample\", \"population\" or \"none\""
        ))),
    }
}

#[pyfunction]
pub(crate) fn centred(rewards: Vec<f64>) -> Vec<f64> {
    advantage::centred(&rewards)
}

#[pyfunction]
#[pyo3(signature = (rewards, deviation = "sample", epsilon = 1e-6))]
pub(crate) fn standardised(rewards: Vec<f64>, deviation: &str, epsilon: f64) -> PyResult<Vec<f64>> {
    Ok(advantage::standardised(&rewards, self::deviation(deviation)?, epsilon))
}

#[pyfunction]
pub(crate) fn advantages(objective: &str, rewards: Vec<f64>) -> PyResult<Vec<f64>> {
    let objective = read(objective)?;
    Ok(objective.advantages(&rewards))
}

/// An objective as a recipe's table `[objective]` writes it, or by its name alone.
fn read(written: &str) -> PyResult<Objective> {
    let bad = |error: &dyn std::fmt::Display| PyValueError::new_err(error.to_string());
    let is_name = !written.contains(['=', '\n']);
    let table =
        if is_name { format!("[objective]\nkind = {written:?}\n") } else { format!("[objective]\n{written}\n") };
    let mut recipe: toml::Table = table.parse().map_err(|error: toml::de::Error| bad(&error.message()))?;
    let Some(toml::Value::Table(mut objective)) = recipe.remove("objective") else {
        return Err(bad(&"expected an objective"));
    };
    let Some(toml::Value::String(kind)) = objective.remove("kind") else { return Err(bad(&"`kind` is missing")) };
    Objective::read(&kind, objective).map_err(|error| bad(&error))
}
