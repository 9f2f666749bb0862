//! From the store to what a curriculum is built of: the problems of the band, and the correct traces
//! with the point where their answer begins.

use anyhow::{Result, bail};
use toehold_rollout::{Start, Store, Trace};
use toehold_training::curriculum::{Material, Source};

use crate::commands::sample;
use crate::prepare::Prepared;

/// The material of this run's collection.
///
/// # Errors
/// When the store cannot be read, or no problem is in the band that the recipe asks for.
pub fn material(prepared: &Prepared, store: &Store) -> Result<Material> {
    let plain = starts_in_band(prepared, store)?;
    let wanted: std::collections::HashSet<&str> = plain.iter().map(|start| start.problem.as_str()).collect();
    let mut sources = Vec::new();
    for stored in sample::correct_traces(prepared, store)? {
        if !wanted.contains(stored.problem.as_str()) {
            continue;
        }
        let Some(problem) = prepared.problems.problems.iter().find(|problem| problem.id == stored.problem) else {
            continue;
        };
        sources.push(Source::of_stored(&stored, problem.verifier, &|tokens| prepared.tokenizer.decode(tokens)));
    }
    Ok(Material { plain, sources })
}

/// The correct traces of the band's problems, for imitation.
///
/// # Errors
/// As [`material`].
pub fn lessons(prepared: &Prepared, store: &Store) -> Result<Vec<Trace>> {
    let wanted: std::collections::HashSet<String> =
        starts_in_band(prepared, store)?.iter().map(|start| start.problem.as_str().to_owned()).collect();
    let traces = sample::correct_traces(prepared, store)?;
    Ok(traces
        .into_iter()
        .filter(|stored| wanted.contains(stored.problem.as_str()))
        .map(|stored| stored.trace)
        .collect())
}

fn starts_in_band(prepared: &Prepared, store: &Store) -> Result<Vec<Start>> {
    let starts = prepared.plain_starts(&prepared.problems.problems)?;
    let Some(band) = prepared.plan.problems.band else { return Ok(starts) };
    let counts = sample::problem_counts(prepared, store)?;
    let all = starts.len();
    let wanted: Vec<Start> = starts
        .into_iter()
        .filter(|start| counts.get(start.problem.as_str()).and_then(|count| count.band()) == Some(band))
        .collect();
    if wanted.is_empty() {
        let found: Vec<String> = sample::bands(counts.into_values())
            .iter()
            .map(|(band, (problems, _))| format!("{problems} {}", band.as_str()))
            .collect();
        let found = if found.is_empty() { "none was sampled yet".to_owned() } else { found.join(", ") };
        bail!(
            "no problem is in the band `{}`: of {all} problems, {found}\n\
             hint: change [problems] band, or remove it to learn all of them",
            band.as_str()
        );
    }
    Ok(wanted)
}
