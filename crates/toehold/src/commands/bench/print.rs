//! Tables for a person, and the same as one JSON object a line.

use anyhow::Result;
use serde_json::json;
use toehold_policy::{Dtype, ModelConfig};

use super::measure::{Ceilings, Measured, Setting};
use super::round::Work;
use super::workload::Origin;
use crate::terminal::{self, Output};

/// What is measured: one line.
pub(super) fn head(setting: &Setting<'_>, config: &ModelConfig, output: &Output) -> Result<()> {
    let model = match setting.origin {
        Origin::Folder(folder) => folder.display().to_string(),
        Origin::Named(shape) => format!("shape {shape:?}").to_lowercase(),
    };
    let dtype = match setting.dtype {
        Dtype::F32 => "f32",
        Dtype::Bf16 => "bf16",
    };
    output.event(&json!({
        "event": "bench", "version": env!("CARGO_PKG_VERSION"), "model": model, "config": config, "dtype": dtype,
        "threads": setting.threads, "rounds": setting.rounds,
    }))?;
    output.say(format!(
        "{model} (width {}, {} layers, vocabulary {}), {dtype}, {} threads, median of {} rounds",
        config.hidden_size, config.num_hidden_layers, config.vocab_size, setting.threads, setting.rounds,
    ));
    Ok(())
}

/// What this machine can do at most.
pub(super) fn ceilings(ceilings: &Ceilings, output: &Output) -> Result<()> {
    let mut event = serde_json::to_value(ceilings)?;
    event["event"] = "ceilings".into();
    output.event(&event)?;
    let rows = [
        ("matrix products, f32", format!("{}/s", terminal::flops(ceilings.products_f32))),
        ("matrix products, bf16", format!("{}/s", terminal::flops(ceilings.products_bf16))),
        ("reading memory", format!("{}/s", bytes(ceilings.bandwidth))),
    ];
    let rows = rows.map(|(name, value)| vec![name.to_owned(), value]);
    Ok(output.data(format!("{}\n", terminal::table(&["ceiling", "on all threads"], &rows)))?)
}

/// The event of one cell.
pub(super) fn event(name: &str, cell: &Measured, output: &Output) -> Result<()> {
    let mut event = serde_json::to_value(cell)?;
    event["event"] = name.into();
    Ok(output.event(&event)?)
}

/// One kind of work, separate and shared.
pub(super) fn cells(cells: &[Measured], output: &Output) -> Result<()> {
    let Some(first) = cells.first() else { return Ok(()) };
    let work = match first.work {
        Work::Sampling => "sampling",
        Work::Learning => "learning",
        Work::Step => "GRPO step",
    };
    let rows: Vec<Vec<String>> = cells
        .iter()
        .map(|cell| {
            let rate = terminal::count(cell.tokens_per_second.round() as u64);
            let mut row = vec![cell.sharing.to_owned(), time(cell.seconds), range(cell), rate];
            row.push(cell.share_of_ceiling.map_or("–".to_owned(), terminal::percent));
            row.push(memory(cell));
            row.push(ratio(first.seconds / cell.seconds));
            row
        })
        .collect();
    let size = format!("{} × {}, {} + {} tokens", first.groups, first.group, first.prefix, first.completion);
    let rate = if first.work == Work::Sampling { "sampled tokens/s" } else { "learnt tokens/s" };
    let head = ["prefixes", "a round", "from – to", rate, "of the ceiling", "peak memory", "faster"];
    Ok(output.data(format!("{work}, {size}\n{}\n", terminal::table(&head, &rows)))?)
}

/// The step's time as `what` grows; each sharing against its own first row.
pub(super) fn growth(what: &str, cells: &[Measured], output: &Output) -> Result<()> {
    let rows: Vec<Vec<String>> = cells
        .iter()
        .filter_map(|cell| {
            let first = cells.iter().find(|first| first.sharing == cell.sharing)?;
            let size = if what == "prefix" { cell.prefix } else { cell.group };
            let mut row = vec![cell.sharing.to_owned(), terminal::count(size as u64), time(cell.seconds), range(cell)];
            row.push(ratio(cell.seconds / first.seconds));
            row.push(ratio(cell.computed as f64 / first.computed as f64));
            row.push(memory(cell));
            Some(row)
        })
        .collect();
    let head = ["prefixes", what, "a step", "from – to", "times", "tokens times", "peak memory"];
    Ok(output.data(format!("growth of the GRPO step with the {what}\n{}\n", terminal::table(&head, &rows)))?)
}

fn time(seconds: f64) -> String {
    if seconds < 1.0 { format!("{:.1} ms", 1e3 * seconds) } else { format!("{seconds:.2} s") }
}

fn range(cell: &Measured) -> String {
    format!("{} – {}", time(cell.fastest), time(cell.slowest))
}

fn ratio(ratio: f64) -> String {
    format!("{ratio:.2} ×")
}

fn memory(cell: &Measured) -> String {
    cell.peak_bytes.map_or("–".to_owned(), |peak| bytes(peak as f64))
}

/// In binary units: `1.5 GiB`.
fn bytes(bytes: f64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let power = (bytes.max(1.0).log2() / 10.0).floor().clamp(0.0, 4.0);
    format!("{:.1} {}", bytes / 1024f64.powf(power), units[power as usize])
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::{bytes, time};

    #[test]
    fn units() {
        let sizes: Vec<String> = [0.0, 512.0, 1536.0, 3.0 * 1048576.0, 9.4e9, 1e18].map(bytes).to_vec();
        expect!["0.0 B, 512.0 B, 1.5 KiB, 3.0 MiB, 8.8 GiB, 909494.7 TiB"].assert_eq(&sizes.join(", "));
        expect!["0.4 ms, 4.53 s, 32.20 s"].assert_eq(&[0.000_41, 4.532_1, 32.2].map(time).join(", "));
    }
}
