//! `toehold theory`: PrefixRL's separation made to run, exponential against polynomial.
//!
//! Strings are hidden and searched for by on-policy NPG and by PrefixRL-NPG (the paper's Algorithm 1);
//! a table says how many completions each needs by horizon, with the paper's bounds beside.
//! `docs/theory.md` says what the columns mean and what they do not.

use std::ops::ControlFlow;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use toehold_training::theory::{Growth, Row, Separation, Settings, Shape, Spread, separation};

use crate::interrupt::{self, Interrupted};
use crate::report::{PlainTable, render_theory};
use crate::run_folder::write_whole;
use crate::terminal::{self, Output, Progress};

/// Counts completions until the expected reward is reached, for on-policy NPG and for PrefixRL-NPG.
#[derive(Debug, Args)]
pub struct TheoryArgs {
    /// Lengths of the hidden string, separated by commas
    #[arg(long, value_delimiter = ',', value_name = "LENGTHS", default_value = HORIZONS)]
    pub horizons: Vec<u32>,
    /// Actions in each state
    #[arg(long, value_name = "ACTIONS", default_value_t = 2)]
    pub alphabet: u32,
    /// The expected reward to reach, between 0 and 1
    #[arg(long, value_name = "REWARD", default_value_t = 0.5)]
    pub target: f64,
    /// Runs of each method at each horizon
    #[arg(long, default_value_t = 41)]
    pub seeds: u32,
    /// The most completions of a run
    #[arg(long, value_name = "COMPLETIONS", default_value_t = 1_000_000)]
    pub cap: u64,
    /// Completions of one update
    #[arg(long, value_name = "COMPLETIONS", default_value_t = 8)]
    pub per_update: u32,
    /// Step size of the natural gradient
    #[arg(long, default_value_t = 2.0)]
    pub rate: f64,
    /// How often the first action after a prefix is the stored trace's own, not the policy's
    #[arg(long, value_name = "SHARE", default_value_t = 0.5)]
    pub mixing: f64,
    /// Also draw it: one HTML file that needs nothing else
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// On-policy NPG gets there within the default cap up to 18; two more show that it does not beyond.
const HORIZONS: &str = "4,6,8,10,12,14,16,18,24,32,64";

/// Runs the command.
///
/// # Errors
/// Numbers that make no sense, a file that cannot be written, and Ctrl-C.
pub fn run(args: &TheoryArgs, output: &Output) -> Result<()> {
    let settings = Settings {
        horizons: args.horizons.clone(),
        alphabet: args.alphabet,
        target: args.target,
        seeds: args.seeds,
        cap: args.cap,
        per_update: args.per_update,
        rate: args.rate,
        mixing: args.mixing,
    };
    let mut bar = Progress::start(output, "theory", Some(settings.runs()), "runs");
    let found = separation(&settings, &mut |at| {
        let remark = format!("horizon {}, {} completions", at.horizon, terminal::count(at.completions));
        bar.set(at.runs, &remark);
        match interrupt::requested() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    })?;
    bar.finish();
    print(&found, output)?;

    let left = &found.settings.horizons[found.rows.len()..];
    if !left.is_empty() {
        let left: Vec<String> = left.iter().map(u32::to_string).collect();
        let TheoryArgs { alphabet, target, seeds, cap, per_update, rate, mixing, .. } = args;
        let resume = format!(
            "toehold theory --horizons {} --alphabet {alphabet} --target {target} --seeds {seeds} --cap {cap} \
             --per-update {per_update} --rate {rate} --mixing {mixing}",
            left.join(",")
        );
        return Err(Interrupted { resume }.into());
    }
    if let Some(path) = &args.out {
        let table = PlainTable { lead: lead(&found), headers: owned(&HEADERS), rows: rows(&found) };
        let page = render_theory(&found, &findings(&found), &table)?;
        write_whole(path, page.as_bytes())?;
        output.say(format!("drawn: {}", path.display()));
    }
    Ok(())
}

fn print(found: &Separation, output: &Output) -> Result<()> {
    for row in &found.rows {
        let mut event = serde_json::to_value(row)?;
        event["event"] = "horizon".into();
        output.event(&event)?;
    }
    let growth = |growth: &Option<Growth>| growth.map(|g| serde_json::json!({ "fit": g, "shape": g.shape() }));
    output.event(&serde_json::json!({
        "event": "growth",
        "on_policy": growth(&found.on_policy),
        "prefix_rl": growth(&found.prefix_rl),
        "bounds_cross": found.bounds_cross,
        "settings": found.settings,
    }))?;
    output.data(format!("{}\n", lead(found)))?;
    output.data(terminal::table(&HEADERS, &rows(found)))?;
    output.data(format!("\n{}", findings(found).join("\n")))?;
    Ok(())
}

const HEADERS: [&str; 8] =
    ["horizon", "on-policy NPG", "quartiles", "at least", "PrefixRL-NPG", "quartiles", "at most", "a trace by luck"];

fn rows(found: &Separation) -> Vec<Vec<String>> {
    let cells = |row: &Row| {
        let median = |spread: Spread| spread.median.map_or("–".to_owned(), terminal::count);
        let cap = found.settings.cap;
        vec![
            row.horizon.to_string(),
            median(row.on_policy),
            quartiles(row.on_policy, cap),
            large(Some(row.lower_bound)),
            median(row.prefix_rl),
            quartiles(row.prefix_rl, cap),
            large(row.upper_bound),
            large(Some(row.trace_by_luck)),
        ]
    };
    found.rows.iter().map(cells).collect()
}

/// What was run, in a sentence.
fn lead(found: &Separation) -> String {
    let Settings { alphabet, target, seeds, per_update, rate, mixing, .. } = &found.settings;
    format!(
        "Completions until the expected reward is {target}, on hidden strings over {alphabet} actions: medians \
         and quartiles over seeds.\n\
         Seeds {seeds}, completions per update {per_update}, step size {rate}, mixing {mixing}."
    )
}

/// What it comes to, a sentence each.
fn findings(found: &Separation) -> Vec<String> {
    let mut sentences = vec![grows("on-policy NPG", found.on_policy), grows("PrefixRL-NPG", found.prefix_rl)];
    if let Some(horizon) = found.bounds_cross {
        sentences
            .push(format!("bounds: \"at least\" is above \"at most\" from horizon {horizon} on, whatever is measured"));
    }
    sentences.push(
        "not counted: finding the stored trace, which by luck takes as many tries as the last column says".into(),
    );
    sentences
}

fn grows(name: &str, growth: Option<Growth>) -> String {
    let Some(growth) = growth else {
        return format!("{name}: too few horizons with a median to say how it grows (at least 3)");
    };
    let Growth { factor, exponential_fit, degree, polynomial_fit, .. } = growth;
    let exponential = format!("×{factor:.2} per unit of horizon (R² {exponential_fit:.3})");
    let polynomial = format!("horizon^{degree:.2} (R² {polynomial_fit:.3})");
    let fits = match growth.shape() {
        Shape::Exponential => format!("exponential, {exponential}, rather than {polynomial}"),
        Shape::Polynomial => format!("polynomial, {polynomial}, rather than {exponential}"),
        Shape::Undecided => format!("undecided, {exponential} or {polynomial}"),
    };
    format!("{name}: {fits}; horizons {} to {}", growth.between.0, growth.between.1)
}

fn quartiles(spread: Spread, cap: u64) -> String {
    let missing = format!("not within {}", terminal::count(cap));
    let reached = format!("({} of {} runs)", spread.reached, spread.runs);
    match (spread.low, spread.high) {
        (Some(low), Some(high)) => format!("{} – {}", terminal::count(low), terminal::count(high)),
        (Some(low), None) => format!("{} – {missing} {reached}", terminal::count(low)),
        _ if spread.reached == 0 => missing,
        _ => format!("{missing} {reached}"),
    }
}

/// A bound: in full while it can be read, then as a power of ten.
fn large(number: Option<f64>) -> String {
    match number {
        None => "–".to_owned(),
        Some(number) if number < 1e9 => terminal::count(number.ceil() as u64),
        Some(number) if number.is_finite() => format!("{number:.1e}"),
        Some(_) => "–".to_owned(),
    }
}

fn owned(cells: &[&str]) -> Vec<String> {
    cells.iter().map(|cell| (*cell).to_owned()).collect()
}
