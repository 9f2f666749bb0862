//! Times a case table on one thread, golds read anew for every row, and prints JSON by kind.
//!
//! `cargo run --release -p toehold-verifier --example throughput -- crates/verifier/tests/data/cases.jsonl 20`
#![allow(clippy::print_stdout, reason = "an example prints")]

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::json;
use toehold_verifier::math::{Options, Row, verify_row};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("expected the path of a case table")?;
    let rounds: u32 = arguments.next().map_or(Ok(10), |rounds| rounds.parse())?;
    let text = std::fs::read_to_string(path)?;
    let mut kinds: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    for line in text.lines() {
        let row: Row = serde_json::from_str(line)?;
        kinds.entry(row.kind.clone().unwrap_or_default()).or_default().push(row);
    }
    let options = Options::default();
    let mut shown = serde_json::Map::new();
    for (kind, rows) in kinds {
        let right = rows.iter().filter(|row| row.equal == Some(verify_row(row, &options).equal)).count();
        let begin = Instant::now();
        for _ in 0..rounds {
            for row in &rows {
                std::hint::black_box(verify_row(row, &options));
            }
        }
        let seconds = begin.elapsed().as_secs_f64() / f64::from(rounds);
        shown.insert(kind, json!({ "rows": rows.len(), "right": right, "seconds": seconds }));
    }
    println!("{}", serde_json::Value::Object(shown));
    Ok(())
}
