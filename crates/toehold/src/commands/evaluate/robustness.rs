//! Success from the beginnings of stored traces, wrong and right ones, intact and corrupted.
//!
//! The traces are the collection's: of each problem of the band the first one of each outcome whose
//! answer does not come at once. A trace that ran out of tokens is no wrong reasoning and is left out.

use std::collections::HashSet;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use toehold_rollout::store::StoredTrace;
use toehold_rollout::{Start, SuccessCount};
use toehold_training::curriculum::Source;
use toehold_training::evaluation::count_successes;
use toehold_training::evaluation::prefix_sweep::start_at;
use toehold_training::evaluation::robustness::{Condition, RobustnessPoint, robustness_point};

use super::measure::{Both, Workplace};
use super::{count_plan, rate};
use crate::commands::sample;
use crate::prepare::Prepared;
use crate::{material, terminal};

/// Shares of the intact prefixes.
pub(super) const SHARES: [f64; 9] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9];

/// Shares of the corrupted ones.
const CONTROLS: [f64; 3] = [0.3, 0.6, 0.9];

/// What was found on the traces of one outcome.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Outcomes {
    /// `wrong` or `right`.
    pub(super) traces: String,
    /// Plain success on the same problems.
    pub(super) plain: Both<SuccessCount>,
    /// Success from each share.
    pub(super) points: Vec<Both<RobustnessPoint>>,
}

/// What was found on wrong and on right traces, where there are any.
pub(super) type Robustness = Vec<Outcomes>;

/// A stored trace with what is needed to compare log-probabilities.
pub(super) struct Stored {
    pub(super) source: Source,
    /// Log-probability of each token under the distribution it was drawn from.
    pub(super) behavior: Vec<f32>,
    /// Whether that was the policy's own distribution at temperature 1.
    pub(super) is_untempered: bool,
}

pub(super) fn measure(place: &mut Workplace<'_>) -> Result<Robustness> {
    let prepared = place.prepared;
    let judge = prepared.judge(place.problems);
    let plan = count_plan(prepared, prepared.plan.evaluate.curve_samples);
    let mut found = Vec::new();
    for (name, stored) in stored_traces(prepared)? {
        let sources: Vec<Source> = stored.into_iter().map(|one| one.source).collect();
        place.tick(&format!("{name}: plain"))?;
        let starts: Vec<Start> = sources.iter().map(|source| start_at(source, 0.0)).collect();
        let mut plain: Vec<Vec<SuccessCount>> = Vec::new();
        for (_, policy) in place.policies.each() {
            plain.push(count_successes(policy, &judge, &starts, &plan)?.iter().map(|one| one.count).collect());
        }
        let intact = SHARES.map(|share| (share, Condition::Intact));
        let controls = Condition::ALL[1..].iter().flat_map(|&condition| CONTROLS.map(|share| (share, condition)));
        let mut points = Vec::new();
        for (share, condition) in intact.into_iter().chain(controls) {
            place.tick(&format!("{name}: {} given, {}", terminal::percent(share), condition.as_str()))?;
            let mut both = Vec::new();
            for ((_, policy), plain) in place.policies.each().into_iter().zip(&plain) {
                both.extend(robustness_point(policy, &judge, &sources, plain, (share, condition), &plan)?);
            }
            points.extend(Both::of(both));
        }
        let total = |counts: &Vec<SuccessCount>| {
            let mut total = SuccessCount::default();
            counts.iter().for_each(|&count| total.merge(count));
            total
        };
        let plain = Both { before: total(&plain[0]), after: total(&plain[1]) };
        found.push(Outcomes { traces: name.to_owned(), plain, points });
    }
    Ok(found)
}

/// The wrong and the right traces to begin from; a kind without traces is left out.
pub(super) fn stored_traces(prepared: &Prepared) -> Result<Vec<(&'static str, Vec<Stored>)>> {
    if prepared.collector.is_some() {
        bail!(
            "the collection is of another model, and nothing is known of the policy's own traces\n\
             hint: measure a run whose [collect] has no policy"
        );
    }
    let store = prepared.folder.store()?;
    let wanted: HashSet<String> =
        material::starts_in_band(prepared, &store)?.iter().map(|start| start.problem.as_str().to_owned()).collect();
    let (mut wrong, mut right) = (Vec::new(), Vec::new());
    let mut seen = HashSet::new();
    for stored in sample::collected_traces(prepared, &store, None)? {
        let is_correct = stored.verdict.outcome.is_correct();
        let key = (stored.problem.as_str().to_owned(), is_correct);
        if !wanted.contains(stored.problem.as_str()) || seen.contains(&key) {
            continue;
        }
        let Some(one) = of_stored(prepared, stored) else { continue };
        seen.insert(key);
        if is_correct { right.push(one) } else { wrong.push(one) }
    }
    let most = prepared.plan.evaluate.sweep_traces;
    let kinds = [("wrong", super::first(wrong, most)), ("right", super::first(right, most))];
    let kinds: Vec<_> = kinds.into_iter().filter(|(_, traces)| !traces.is_empty()).collect();
    if kinds.is_empty() {
        bail!(
            "{} has no collected trace that ended by itself and begins with work\n\
             hint: `{}` collects for any recipe; more with [collect] until = \"max-attempts\"",
            store.path().display(),
            prepared.resume_command("sample")
        );
    }
    Ok(kinds)
}

/// None for a trace that shows its answer at once, or ran out of tokens.
fn of_stored(prepared: &Prepared, stored: StoredTrace) -> Option<Stored> {
    let problem = prepared.problems.problems.iter().find(|problem| problem.id == stored.problem)?;
    let source = Source::of_stored(&stored, problem.verifier, &|tokens| prepared.tokenizer.decode_open(tokens));
    let params = &stored.params;
    if source.limit == 0 || !stored.trace.prefix.is_empty() {
        return None;
    }
    Some(Stored {
        source,
        is_untempered: params.temperature == 1.0 && params.top_k == 0 && params.top_p == 1.0,
        behavior: stored.trace.completion.behavior,
    })
}

pub(super) fn table(found: &Robustness) -> String {
    let mut rows = Vec::new();
    for outcomes in found {
        let [before, after] = [outcomes.plain.before, outcomes.plain.after].map(rate);
        rows.push(vec![outcomes.traces.clone(), "0.0 %".into(), String::new(), before, String::new(), after]);
        for point in &outcomes.points {
            let mut row = vec![
                outcomes.traces.clone(),
                terminal::percent(point.before.share),
                point.before.condition.as_str().to_owned(),
            ];
            for (_, point) in point.each() {
                row.extend([rate(point.count), points(point)]);
            }
            rows.push(row);
        }
    }
    let headers = ["traces", "given", "prefix", "before [95 %]", "change, points", "after [95 %]", "change, points"];
    terminal::table(&headers, &rows)
}

/// A change in percentage points with its interval.
fn points(point: &RobustnessPoint) -> String {
    let [change, low, high] =
        [point.change, point.change_interval.low, point.change_interval.high].map(|change| 100.0 * change + 0.0);
    format!("{change:.1} [{low:.1}, {high:.1}]")
}
