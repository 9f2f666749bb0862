//! A comparison as tables: for the terminal, as Markdown, and for the page.

use std::collections::BTreeSet;

use toehold_training::evaluation::compare::SeedMean;

use super::compare::{ArmLine, Comparison, OverSeeds, Reached};
use crate::report::PlainTable;
use crate::terminal::{self, flops, percent, percent_with_interval};

/// What stands for a number that is not there.
const MISSING: &str = "–";

/// The tables of a comparison: at the same compute, seed by seed, compute to get somewhere, pass@k. The
/// second is left out for one seed, of which it would say nothing new; the last, where it was not measured.
pub(super) fn tables(comparison: &Comparison) -> Vec<PlainTable> {
    let mut tables = vec![same_compute(comparison)];
    if comparison.seeds.len() > 1 {
        tables.push(seed_by_seed(comparison));
    }
    tables.push(to_get_there(comparison));
    tables.extend(pass_at_k(comparison));
    tables
}

/// For a person at a terminal.
pub(super) fn text(tables: &[PlainTable]) -> String {
    let table = |table: &PlainTable| {
        let headers: Vec<&str> = table.headers.iter().map(String::as_str).collect();
        format!("{}\n\n{}", table.lead, terminal::table(&headers, &table.rows))
    };
    tables.iter().map(table).collect::<Vec<_>>().join("\n\n\n")
}

/// For a page of documentation.
pub(super) fn markdown(tables: &[PlainTable]) -> String {
    let line = |cells: &[String]| {
        format!("| {} |", cells.iter().map(|cell| cell.replace('|', "\\|")).collect::<Vec<_>>().join(" | "))
    };
    let table = |table: &PlainTable| {
        let rule = format!("|---|{}", "---:|".repeat(table.headers.len().saturating_sub(1)));
        let rows: Vec<String> = table.rows.iter().map(|row| line(row)).collect();
        format!("{}\n\n{}\n{rule}\n{}", table.lead, line(&table.headers), rows.join("\n"))
    };
    tables.iter().map(table).collect::<Vec<_>>().join("\n\n")
}

fn same_compute(comparison: &Comparison) -> PlainTable {
    let headers = ["arm", "seeds", "held out", "train", "compute", "of it collecting", "steps"];
    let rows = comparison.arms.iter().map(|arm| {
        vec![
            arm.arm.clone(),
            arm.flops.map_or(0, |flops| flops.seeds).to_string(),
            rate(arm.held_out.mean),
            rate(arm.train.mean),
            compute(arm.flops),
            compute(arm.collection),
            arm.steps.map_or(MISSING.to_owned(), |steps| terminal::count(steps.mean.round() as u64)),
        ]
    });
    PlainTable {
        lead: format!("Success without a prefix at the same compute, collection included; {}.", over(comparison)),
        headers: headers.map(str::to_owned).to_vec(),
        rows: rows.collect(),
    }
}

fn pass_at_k(comparison: &Comparison) -> Option<PlainTable> {
    let ks: BTreeSet<u32> = comparison.arms.iter().flat_map(|arm| arm.pass_at_k.keys().copied()).collect();
    let row = |arm: &ArmLine| {
        let cell = |k| rate(arm.pass_at_k.get(k).and_then(|at| at.mean));
        std::iter::once(arm.arm.clone()).chain(ks.iter().map(cell)).collect()
    };
    (!ks.is_empty()).then(|| PlainTable {
        lead: format!("pass@k on held-out problems, of runs that ended at that compute; {}.", over(comparison)),
        headers: std::iter::once("arm".to_owned()).chain(ks.iter().map(|k| format!("pass@{k}"))).collect(),
        rows: comparison.arms.iter().map(row).collect(),
    })
}

fn seed_by_seed(comparison: &Comparison) -> PlainTable {
    let first = comparison.arms.first().map_or("", |arm| arm.arm.as_str());
    let mut headers = vec!["arm".to_owned(), "problems".to_owned()];
    headers.extend(comparison.seeds.iter().map(|seed| format!("seed {seed}")));
    headers.push(format!("minus {first} [95 %]"));
    let mut rows = Vec::new();
    for arm in &comparison.arms {
        for (set, values) in [("held out", &arm.held_out), ("train", &arm.train)] {
            if !values.values.is_empty() {
                let mut row = vec![arm.arm.clone(), set.to_owned()];
                let value = |seed| values.values.get(seed).map_or(MISSING.to_owned(), |value| percent(*value));
                row.extend(comparison.seeds.iter().map(value));
                row.push(difference(values));
                rows.push(row);
            }
        }
    }
    let lead = "Seed by seed. The difference is paired: each seed with the same seed of the first arm.";
    PlainTable { lead: lead.to_owned(), headers, rows }
}

fn to_get_there(comparison: &Comparison) -> PlainTable {
    let mut headers = vec!["arm".to_owned()];
    let mut leads = Vec::new();
    for target in &comparison.targets {
        let rate = percent(target.rate);
        headers.extend([format!("to {rate}"), "compute".to_owned(), "without collecting".to_owned()]);
        if let Some(arm) = &target.best_of {
            leads.push(format!("{rate} is the best that {arm} ever was, on its mean over seeds"));
        }
    }
    let cells = |reached: &Reached| {
        [format!("{} of {}", reached.seeds, reached.of), compute(reached.flops), compute(reached.without_collection)]
    };
    let row = |arm: &ArmLine| std::iter::once(arm.arm.clone()).chain(arm.reached.iter().flat_map(cells)).collect();
    let mut lead = "Compute when success on held-out problems was first measured at a rate, over the seeds that got \
                    there."
        .to_owned();
    leads.iter().for_each(|more| lead.push_str(&format!(" {more}.")));
    PlainTable { lead, headers, rows: comparison.arms.iter().map(row).collect() }
}

fn over(comparison: &Comparison) -> String {
    match comparison.seeds.len() {
        1 => "one seed, so without intervals over seeds".to_owned(),
        seeds => format!("means over {seeds} seeds with Student's 95 % interval"),
    }
}

fn rate(mean: Option<SeedMean>) -> String {
    let Some(mean) = mean else { return MISSING.to_owned() };
    match mean.interval {
        // A rate is never outside, whatever Student thinks.
        Some(interval) => percent_with_interval(mean.mean, interval.low.max(0.0), interval.high.min(1.0)),
        None => percent(mean.mean),
    }
}

fn compute(mean: Option<SeedMean>) -> String {
    mean.map_or(MISSING.to_owned(), |mean| flops(mean.mean))
}

/// In percentage points.
fn difference(values: &OverSeeds) -> String {
    let Some(mean) = values.minus_first else { return MISSING.to_owned() };
    match mean.interval {
        Some(at) => format!("{:.1} [{:.1}, {:.1}]", 100.0 * mean.mean, 100.0 * at.low, 100.0 * at.high),
        None => format!("{:.1}", 100.0 * mean.mean),
    }
}
