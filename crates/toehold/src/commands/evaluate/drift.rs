//! How far the trained policy has moved from the stored prefixes: log-probability and success now
//! against then.

use anyhow::Result;
use serde::{Deserialize, Serialize};
use toehold_rollout::SuccessCount;
use toehold_training::curriculum::Source;
use toehold_training::evaluation::drift::{Drift, drift, score_sources};
use toehold_training::evaluation::prefix_sweep::start_at;
use toehold_training::evaluation::robustness::Condition;

use super::measure::{Both, Workplace};
use super::robustness::{Outcomes, SHARES, Stored, stored_traces};
use super::{count_plan, rate};
use crate::terminal;

/// The drift of wrong and of right traces' prefixes.
pub(super) type Drifts = Vec<KindDrift>;

/// The drift of the traces of one outcome.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct KindDrift {
    /// `wrong` or `right`.
    pub(super) traces: String,
    /// Where the log-probabilities of then are from.
    pub(super) then: Then,
    /// By the share that is given.
    pub(super) points: Vec<DriftPoint>,
}

/// Where the log-probabilities of then are from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Then {
    /// The store: the traces were sampled at temperature 1, without top-k and top-p.
    Stored,
    /// The base policy, which sampled them otherwise, scored them anew.
    Scored,
}

/// The drift at one share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct DriftPoint {
    /// Share of the part before the answer.
    pub(super) share: f64,
    /// Of the trained policy.
    pub(super) drift: Drift,
    /// Of the base policy against what is stored: how exact the comparison is.
    pub(super) floor: Drift,
    /// Success from there, of both.
    pub(super) success: Both<SuccessCount>,
}

pub(super) fn measure(place: &mut Workplace<'_>, robustness: &[Outcomes]) -> Result<Drifts> {
    let prepared = place.prepared;
    let seed = count_plan(prepared, 0).seed;
    let mut found = Vec::new();
    for (name, stored) in stored_traces(prepared)? {
        let is_stored = stored.iter().all(|one| one.is_untempered);
        let (sources, behavior): (Vec<Source>, Vec<Vec<f32>>) =
            stored.into_iter().map(|Stored { source, behavior, .. }| (source, behavior)).unzip();
        place.tick(&format!("{name}: log-probabilities"))?;
        let base = score_sources(&mut place.policies.before, &sources)?;
        let now = score_sources(&mut place.policies.after, &sources)?;
        let then = if is_stored { &behavior } else { &base };
        let [then, base, now] = [then, &base, &now].map(|scores| scores.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let success = |share: f64| {
            let points = &robustness.iter().find(|outcomes| outcomes.traces == name)?.points;
            let is_it = |point: &&Both<_>| is_intact_at(point, share);
            points.iter().find(is_it).map(|point| Both { before: point.before.count, after: point.after.count })
        };
        let mut points = Vec::new();
        for share in SHARES {
            let lengths: Vec<usize> = sources.iter().map(|source| start_at(source, share).prefix.len()).collect();
            let (moved, floor) = (drift(&then, &now, &lengths, seed)?, drift(&then, &base, &lengths, seed)?);
            if let (Some(drift), Some(floor), Some(success)) = (moved, floor, success(share)) {
                points.push(DriftPoint { share, drift, floor, success });
            }
        }
        let then = if is_stored { Then::Stored } else { Then::Scored };
        found.push(KindDrift { traces: name.to_owned(), then, points });
    }
    Ok(found)
}

fn is_intact_at(point: &Both<toehold_training::evaluation::robustness::RobustnessPoint>, share: f64) -> bool {
    point.before.condition == Condition::Intact && point.before.share == share
}

pub(super) fn table(found: &Drifts) -> String {
    let mut rows = Vec::new();
    for kind in found {
        for DriftPoint { share, drift, floor, success } in &kind.points {
            rows.push(vec![
                kind.traces.clone(),
                terminal::percent(*share),
                format!("{:.1}", drift.tokens),
                format!("{:.2}", drift.then),
                format!("{:.2}", drift.now),
                format!("{:.2} [{:.2}, {:.2}]", drift.k1, drift.k1_interval.low, drift.k1_interval.high),
                format!("{:.2}", drift.k3),
                format!("{:.4}", floor.k3),
                rate(success.before),
                rate(success.after),
            ]);
        }
    }
    let headers = [
        "traces",
        "given",
        "tokens",
        "log p then",
        "now",
        "k1 [95 %]",
        "k3",
        "k3 of the base",
        "success then [95 %]",
        "now [95 %]",
    ];
    terminal::table(&headers, &rows)
}
