//! What the report draws of several runs of one name: one row, one line, one table of bands.
//!
//! Invariants: counts are added up, so a rate is the mean over seeds when seeds have as many attempts;
//! its interval is Student's over the seeds' rates, cut to [0, 1]. Between two measurements of a seed
//! the earlier one holds, and beyond its end the last one. What was logged step by step is that of the
//! first seed: a mean over seeds would hide what a single run went through.

use toehold_training::evaluation::compare::mean_over_seeds;

use crate::report::{Arm, BandRow, BeforeAfter, Collection, Estimate, Evaluation, HeadlineRow, Success, SweepPoint};

/// One row for the rows of one arm, at least one.
pub(super) fn merge_rows(rows: &[HeadlineRow]) -> HeadlineRow {
    let [first, _, ..] = rows else { return rows.first().cloned().unwrap_or_default() };
    let mean = |read: fn(&HeadlineRow) -> f64| rows.iter().map(read).sum::<f64>() / rows.len() as f64;
    HeadlineRow {
        name: first.name.clone(),
        flops: mean(|row| row.flops),
        flops_collection: mean(|row| row.flops_collection),
        steps: mean(|row| row.steps as f64).round() as u64,
        train: merge_success(&rows.iter().filter_map(|row| row.train).collect::<Vec<_>>()),
        held_out: merge_success(&rows.iter().filter_map(|row| row.held_out).collect::<Vec<_>>()),
        pass_at_k: merge_estimates(&rows.iter().map(|row| row.pass_at_k.as_slice()).collect::<Vec<_>>()),
    }
}

/// One arm for the arms of one name, at least one.
pub(super) fn merge_arms(arms: &[Arm]) -> Arm {
    let [first, _, ..] = arms else { return arms.first().cloned().unwrap_or_default() };
    let sweeps = |read: fn(&Arm) -> &[SweepPoint]| merge_sweeps(&arms.iter().map(read).collect::<Vec<_>>());
    let passes = |read: fn(&Arm) -> &[Estimate]| merge_estimates(&arms.iter().map(read).collect::<Vec<_>>());
    Arm {
        name: first.name.clone(),
        seeds: arms.len(),
        evaluations: merge_evaluations(&arms.iter().map(|arm| arm.evaluations.as_slice()).collect::<Vec<_>>()),
        steps: first.steps.clone(),
        prefix_sweep: BeforeAfter {
            before: sweeps(|arm| &arm.prefix_sweep.before),
            after: sweeps(|arm| &arm.prefix_sweep.after),
        },
        pass_at_k: BeforeAfter {
            before: passes(|arm| &arm.pass_at_k.before),
            after: passes(|arm| &arm.pass_at_k.after),
        },
    }
}

/// The bands of one arm's collections, added up.
pub(super) fn merge_collections(name: String, collections: &[Collection]) -> Collection {
    let mut bands: Vec<BandRow> = Vec::new();
    for row in collections.iter().flat_map(|collection| &collection.bands) {
        match bands.iter_mut().find(|band| band.band == row.band) {
            Some(band) => {
                band.problems += row.problems;
                band.attempts += row.attempts;
                band.successes += row.successes;
            }
            None => bands.push(row.clone()),
        }
    }
    Collection { name, bands }
}

/// The staircases of several seeds on the compute at which any of them was measured. Before its first
/// step a seed is at its base policy, however long it is still collecting; after its end it is what it
/// became.
fn merge_evaluations(curves: &[&[Evaluation]]) -> Vec<Evaluation> {
    let mut grid: Vec<f64> = curves.iter().flat_map(|curve| curve.iter().map(|at| at.flops)).collect();
    grid.sort_by(f64::total_cmp);
    grid.dedup();
    let base = |curve: &[Evaluation]| curve.first().filter(|at| at.step == 0).copied();
    let point = |flops: f64| {
        let at: Option<Vec<Evaluation>> = curves
            .iter()
            .map(|curve| curve.iter().rfind(|at| at.flops <= flops).copied().or_else(|| base(curve)))
            .collect();
        let at = at?;
        Some(Evaluation {
            step: at.iter().map(|at| at.step).min()?,
            flops,
            train: merge_success(&at.iter().filter_map(|at| at.train).collect::<Vec<_>>()),
            held_out: merge_success(&at.iter().filter_map(|at| at.held_out).collect::<Vec<_>>()),
        })
    };
    grid.into_iter().filter_map(point).collect()
}

fn merge_success(counts: &[Success]) -> Option<Success> {
    let [first, _, ..] = counts else { return counts.first().copied() };
    let mut merged = Success { successes: 0, attempts: 0, ..*first };
    for count in counts {
        merged.successes += count.successes;
        merged.attempts += count.attempts;
    }
    let rates: Vec<f64> = counts.iter().filter_map(Success::rate).collect();
    if let Some((_, low, high)) = student(&rates) {
        (merged.low, merged.high) = (low, high);
    }
    Some(merged)
}

fn merge_sweeps(sweeps: &[&[SweepPoint]]) -> Vec<SweepPoint> {
    let point = |(index, first): (usize, &SweepPoint)| {
        let counts: Vec<Success> = sweeps.iter().filter_map(|sweep| sweep.get(index)).map(|at| at.success).collect();
        Some(SweepPoint { fraction: first.fraction, success: merge_success(&counts)? })
    };
    sweeps.first().map(|first| first.iter().enumerate().filter_map(point).collect()).unwrap_or_default()
}

fn merge_estimates(estimates: &[&[Estimate]]) -> Vec<Estimate> {
    let mut ks: Vec<u32> = estimates.iter().flat_map(|list| list.iter().map(|at| at.k)).collect();
    ks.sort_unstable();
    ks.dedup();
    let estimate = |k: u32| {
        let found: Vec<Estimate> =
            estimates.iter().filter_map(|list| list.iter().find(|at| at.k == k)).copied().collect();
        match found[..] {
            [only] => Some(only),
            _ => student(&found.iter().map(|at| at.value).collect::<Vec<_>>()).map(|(value, low, high)| Estimate {
                k,
                value,
                low,
                high,
            }),
        }
    };
    ks.into_iter().filter_map(estimate).collect()
}

/// Mean and Student's interval within [0, 1]; none for fewer than two.
fn student(rates: &[f64]) -> Option<(f64, f64, f64)> {
    let mean = mean_over_seeds(rates)?;
    let interval = mean.interval?;
    Some((mean.mean, interval.low.max(0.0), interval.high.min(1.0)))
}
