//! The starts of one problem, from the least success to the most, and what was counted at each.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use toehold_rollout::{ProblemId, Start, SuccessCount};

use super::super::cut::even_cuts;
use super::super::{Material, Source};
use super::Foothold;
use crate::random;

/// Which part of a line a start is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The beginning of a failure is given.
    Failure,
    /// Nothing is given.
    Plain,
    /// The beginning of a success is given.
    Success,
}

impl Part {
    pub(super) const ALL: [Part; 3] = [Part::Failure, Part::Plain, Part::Success];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Part::Failure => "failure",
            Part::Plain => "plain",
            Part::Success => "success",
        }
    }
}

/// A start of a line.
#[derive(Clone, Debug)]
pub(super) struct Rung {
    pub(super) start: Arc<Start>,
    pub(super) part: Part,
    /// Tokens that are left of the trace, or of a trace of this problem where nothing is given; at least 1.
    pub(super) left: f64,
}

/// All starts of a problem in order of rising success, and what was collected of it.
#[derive(Clone, Debug)]
pub(super) struct Rungs {
    pub(super) rungs: Vec<Rung>,
    pub(super) plain: usize,
    /// Decides between problems that are alike.
    pub(super) lot: u64,
    pub(super) collected: SuccessCount,
}

/// The lines of all plain problems of `material`, in their order.
pub(super) fn lines(settings: &Foothold, material: Material, seed: u64) -> Vec<Rungs> {
    let mut of_problem: HashMap<&ProblemId, Vec<&Source>> = HashMap::new();
    material.sources.iter().for_each(|source| of_problem.entry(&source.problem).or_default().push(source));
    let all = material.sources.len().max(1) as f64;
    let usual = (material.sources.iter().map(|source| source.tokens.len()).sum::<usize>() as f64 / all).max(1.0);
    let line = |plain: &Start| {
        let traces = of_problem.get(&plain.problem).map_or(&[][..], Vec::as_slice);
        let mut collected = SuccessCount::default();
        traces.iter().for_each(|source| collected.add(source.is_correct));
        let success = drawn(traces, true, settings.cuts, seed);
        // Where both traces begin alike, the start is one and its success says nothing of failing.
        let is_own = |start: &Start| success.is_none_or(|success| !success.tokens.starts_with(&start.prefix));
        let failure = drawn(traces, false, settings.cuts, seed);
        let mut down = failure.map_or_else(Vec::new, |source| cut(source, settings.cuts, Part::Failure));
        down.retain(|rung| is_own(&rung.start));
        down.reverse();
        let left = success.or(failure).map_or(usual, |source| source.tokens.len() as f64);
        let at = down.len();
        let mut rungs = down;
        rungs.push(Rung { start: Arc::new(plain.clone()), part: Part::Plain, left });
        rungs.extend(success.map_or_else(Vec::new, |source| cut(source, settings.cuts, Part::Success)));
        let lot = random::seed_for(seed, &format!("foothold {}", plain.problem.as_str()), &[]);
        Rungs { rungs, plain: at, lot, collected }
    };
    material.plain.iter().map(line).collect()
}

/// One of the traces that can be cut, by lot, whatever their order and rows in the store.
fn drawn<'a>(traces: &[&'a Source], is_correct: bool, cuts: usize, seed: u64) -> Option<&'a Source> {
    let usable = |source: &&&Source| {
        source.is_correct == is_correct && !even_cuts(source.tokens.len(), source.limit, cuts).is_empty()
    };
    traces.iter().filter(usable).copied().max_by_key(|source| (source.lot("foothold trace", seed), Reverse(source.row)))
}

fn cut(source: &Source, cuts: usize, part: Part) -> Vec<Rung> {
    let lengths = even_cuts(source.tokens.len(), source.limit, cuts).into_iter();
    let rung =
        |length| Rung { start: Arc::new(source.start(length)), part, left: (source.tokens.len() - length) as f64 };
    lengths.map(rung).collect()
}
