//! From the store to what a curriculum is built of: the problems of the band, and the traces that it
//! cuts, with the point where their answer begins.

use std::collections::{HashMap, HashSet};

use anyhow::{Context as _, Result, bail};
use toehold_rollout::store::{StoredTrace, TraceFilter};
use toehold_rollout::{Problem, Start, Store, TokenId, Trace};
use toehold_training::curriculum::nurl::with_cue;
use toehold_training::curriculum::{Material, Source, Traces};
use toehold_training::recipe;
use toehold_verifier::{Outcome, Verifier};

use crate::collector;
use crate::commands::sample;
use crate::import;
use crate::prepare::{Prepared, plain_starts};

/// The material of this run's collection.
///
/// # Errors
/// When the store cannot be read, or no problem is in the band that the recipe asks for.
pub fn material(prepared: &Prepared, store: &Store) -> Result<Material> {
    let plain = starts_in_band(prepared, store)?;
    let sources = match prepared.plan.curriculum.traces() {
        Traces::None | Traces::Solutions | Traces::Cues => Vec::new(),
        Traces::Correct => {
            let mut own = sources(prepared, store, &plain, Some(Outcome::Correct))?;
            own.extend(imported(prepared, store, &plain)?);
            own
        }
        Traces::All => sources(prepared, store, &plain, None)?,
    };
    let solutions = match prepared.plan.curriculum.traces() {
        Traces::Solutions => solutions(prepared, &plain)?,
        Traces::None | Traces::Cues | Traces::Correct | Traces::All => Vec::new(),
    };
    let cues = match prepared.plan.curriculum.traces() {
        Traces::Cues => cues(prepared, &plain)?,
        _ => Vec::new(),
    };
    Ok(Material { plain, sources, solutions, cues })
}

/// The collected successes of the band's problems, whatever the curriculum cuts.
///
/// # Errors
/// As [`material`].
pub fn successes(prepared: &Prepared, store: &Store) -> Result<Vec<Source>> {
    sources(prepared, store, &starts_in_band(prepared, store)?, Some(Outcome::Correct))
}

/// The collected traces of the problems of `starts`, with the point where their answer begins.
fn sources(prepared: &Prepared, store: &Store, starts: &[Start], outcome: Option<Outcome>) -> Result<Vec<Source>> {
    let traces = traces_of(starts, sample::collected_traces(prepared, store, outcome)?);
    Ok(as_sources(prepared, collector::in_own_tokens(prepared, store, traces, starts)?))
}

/// The imported successes of the problems of `starts`. Curricula that count a policy's successes are not given
/// them: who wrote them is another policy.
fn imported(prepared: &Prepared, store: &Store, starts: &[Start]) -> Result<Vec<Source>> {
    let mut found = Vec::new();
    for policy in import::foreign_policies(store)? {
        let (policy, outcome) = (Some(policy.version), Some(Outcome::Correct));
        let traces = store.traces(&TraceFilter { policy, outcome, ..TraceFilter::default() })?;
        found.extend(as_sources(prepared, traces_of(starts, traces)));
    }
    Ok(found)
}

fn as_sources(prepared: &Prepared, traces: Vec<StoredTrace>) -> Vec<Source> {
    let problems = &prepared.problems.problems;
    let verifiers: HashMap<&str, Verifier> = problems.iter().map(|one| (one.id.as_str(), one.verifier)).collect();
    let source = |stored: StoredTrace| {
        let verifier = *verifiers.get(stored.problem.as_str())?;
        Some(Source::of_stored(&stored, verifier, &|tokens| prepared.tokenizer.decode_open(tokens)))
    };
    traces.into_iter().filter_map(source).collect()
}

/// The worked solutions that come with the problems of `starts`, but for those that the verifier does not
/// accept: where it finds no answer, nobody can say where a cut would give it away.
fn solutions(prepared: &Prepared, starts: &[Start]) -> Result<Vec<Source>> {
    let problems: HashMap<&str, &Problem> =
        prepared.problems.problems.iter().map(|problem| (problem.id.as_str(), problem)).collect();
    let source = |start: &Start| {
        let problem = *problems.get(start.problem.as_str())?;
        let text = problem.solution.as_deref()?;
        if !prepared.grader.verify(problem.verifier, &problem.answer, text).outcome.is_correct() {
            return None;
        }
        let tokens = prepared.tokenizer.encode(text);
        let tokens = tokens.with_context(|| format!("the solution of problem {}", problem.id));
        let decode = |tokens: &[TokenId]| prepared.tokenizer.decode_open(tokens);
        Some(tokens.map(|tokens| Source::of_solution(start, tokens, problem.verifier, &decode)))
    };
    starts.iter().filter_map(source).collect()
}

/// The problems of `starts` with their cue after the statement: the problem's own, or the one that its
/// synthetic family makes.
fn cues(prepared: &Prepared, starts: &[Start]) -> Result<Vec<Start>> {
    let Prepared { plan, tokenizer, prompts, problems, base, .. } = prepared;
    let problems: HashMap<&str, &Problem> =
        problems.problems.iter().map(|problem| (problem.id.as_str(), problem)).collect();
    let family = match plan.problems.source() {
        Some(recipe::Source::Synthetic(family)) => Some(family),
        _ => None,
    };
    let (positions, limit) = (base.config().max_position_embeddings, plan.train.max_tokens as usize);
    let mut cues = Vec::new();
    for start in starts {
        let Some(problem) = problems.get(start.problem.as_str()) else { continue };
        let made = || family.map(|family| family.cue(problem)).transpose().map(Option::flatten);
        let Some(cue) = problem.cue.clone().map_or_else(made, |cue| Ok(Some(cue)))? else { continue };
        let statement = format!("{}\n{cue}", problem.problem);
        let shown = Problem { problem: statement, ..Problem::clone(problem) };
        let Some(shown) = plain_starts(prompts, tokenizer, &[shown])?.pop() else { continue };
        if shown.prompt.len() + limit > positions {
            bail!(
                "problem {} has {} tokens with its cue and [train] max_tokens is {limit}, \
                 but the policy has {positions} positions\n\
                 hint: shorten the cue, or --set train.max_tokens={}",
                problem.id,
                shown.prompt.len(),
                positions.saturating_sub(shown.prompt.len()).max(1)
            );
        }
        cues.push(with_cue(start, shown.prompt));
    }
    Ok(cues)
}

/// The correct traces of the band's problems, for imitation.
///
/// # Errors
/// As [`material`].
pub fn lessons(prepared: &Prepared, store: &Store) -> Result<Vec<Trace>> {
    let plain = starts_in_band(prepared, store)?;
    let correct = sample::collected_traces(prepared, store, Some(Outcome::Correct))?;
    Ok(traces_of(&plain, correct).into_iter().map(|stored| stored.trace).collect())
}

fn traces_of(starts: &[Start], mut traces: Vec<StoredTrace>) -> Vec<StoredTrace> {
    let wanted: HashSet<&str> = starts.iter().map(|start| start.problem.as_str()).collect();
    traces.retain(|stored| wanted.contains(stored.problem.as_str()));
    traces
}

/// The plain starts of the problems in the band that the recipe asks for; of all where it names none.
///
/// # Errors
/// As [`material`].
pub fn starts_in_band(prepared: &Prepared, store: &Store) -> Result<Vec<Start>> {
    let starts = prepared.starts.clone();
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
