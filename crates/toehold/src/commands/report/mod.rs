//! `toehold report`: the HTML report of one run, or of arms over seeds, and their comparison as tables.

pub mod compare;
mod gather;
mod record;
mod seeds;
mod tables;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Args;

pub use self::record::{Cost, RunRecord};
use crate::report::render;
use crate::run_folder::write_whole;
use crate::terminal::Output;

/// The rate that [`write`] asks arms to reach.
const TARGET: f64 = 0.5;

/// Writes one self-contained HTML file: it needs no network and can be mailed.
///
/// Runs of one name and different seeds are one arm; several runs are compared at the same compute.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Run folders, such as runs/results/*/prefix-rl runs/results/*/plain-rl; the first is compared to
    #[arg(value_name = "RUN", required = true)]
    pub runs: Vec<PathBuf>,
    /// The file to write [default: report.html in the only run, or in the folder above the first]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Success on held-out problems whose compute is compared
    #[arg(long, value_name = "RATE", default_value_t = TARGET)]
    pub target: f64,
    /// Print the comparison as Markdown
    #[arg(long)]
    pub markdown: bool,
}

/// Runs the command.
///
/// # Errors
/// A folder that is no run, or a file that cannot be written.
pub fn run(args: &ReportArgs, output: &Output) -> Result<()> {
    if !(args.target > 0.0 && args.target <= 1.0) {
        bail!("--target is {}, expected a rate above 0 and at most 1, such as 0.5", args.target);
    }
    let folders: Vec<&Path> = args.runs.iter().map(PathBuf::as_path).collect();
    let first = folders[0];
    let above = if folders.len() == 1 { first } else { first.parent().unwrap_or(first) };
    let out = args.out.clone().unwrap_or_else(|| above.join("report.html"));
    let comparison = write_compared(&folders, &out, args.target)?;
    output.event(&serde_json::json!({ "report": out, "comparison": comparison }))?;
    let Some(comparison) = comparison else {
        output.data(out.display())?;
        return Ok(());
    };
    let tables = tables::tables(&comparison);
    if args.markdown {
        // Nothing else, so that it can be pasted.
        output.data(tables::markdown(&tables))?;
        output.say(format!("report: {}", out.display()));
    } else {
        output.data(tables::text(&tables))?;
        output.data(format!("\nreport: {}", out.display()))?;
    }
    Ok(())
}

/// Writes the report of the runs in `folders` to `out`.
///
/// # Errors
/// As [`run`].
pub fn write(folders: &[&Path], out: &Path) -> Result<PathBuf> {
    write_compared(folders, out, TARGET)?;
    Ok(out.to_owned())
}

fn write_compared(folders: &[&Path], out: &Path, target: f64) -> Result<Option<compare::Comparison>> {
    let runs: Vec<RunRecord> = folders.iter().map(|folder| RunRecord::read(folder)).collect::<Result<_>>()?;
    let (data, comparison) = gather::data(&runs, target)?;
    write_whole(out, render(&data)?.as_bytes())?;
    Ok(comparison)
}
