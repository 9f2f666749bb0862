//! Prints the rows of a case table on which the verifier disagrees, and how long all of them take.
//!
//! `cargo run --release -p toehold-verifier --example disagreements -- crates/verifier/tests/data/cases.jsonl`
#![allow(clippy::print_stdout, reason = "an example prints")]

use std::time::Instant;

use toehold_verifier::math::{Options, Row, verify_row};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("expected the path of a case table")?;
    let text = std::fs::read_to_string(path)?;
    let mut wrong = 0;
    let mut contested_wrong = 0;
    let mut slowest = (0, String::new());
    let mut rows = Vec::new();
    for line in text.lines() {
        let value: serde_json::Value = serde_json::from_str(line)?;
        let row: Row = serde_json::from_str(line)?;
        rows.push((value, row));
    }
    for (value, row) in &rows {
        let begin = Instant::now();
        let verdict = verify_row(row, &Options::default());
        let micros = begin.elapsed().as_micros();
        if micros > slowest.0 {
            slowest = (micros, format!("{} {}", value["id"], verdict.steps));
        }
        if Some(verdict.equal) == row.equal {
            continue;
        }
        let contested = value["contested"] == true;
        if contested {
            contested_wrong += 1
        } else {
            wrong += 1
        }
        let short = |text: &str| match text.char_indices().nth(110) {
            Some((end, _)) => format!(
                "{}…{}",
                &text[..end],
                text.chars().rev().take(40).collect::<Vec<_>>().iter().rev().collect::<String>()
            ),
            None => text.to_owned(),
        };
        println!(
            "{}{} {} mv={} | {:?} | {:?} | {} {:?} {}",
            if contested { "C " } else { "" },
            row.kind.as_deref().unwrap_or(""),
            if row.equal == Some(true) { "missed" } else { "ACCEPTED" },
            value["math_verify"],
            short(&row.gold),
            short(&row.prediction),
            verdict.outcome,
            verdict.extracted.as_deref().map(short),
            value["options"],
        );
    }
    println!("{} rows, {wrong} uncontested and {contested_wrong} contested disagreements", rows.len());
    println!("slowest row: {} µs ({})", slowest.0, slowest.1);
    let begin = Instant::now();
    for _ in 0..10 {
        for (_, row) in &rows {
            std::hint::black_box(verify_row(row, &Options::default()));
        }
    }
    let each = begin.elapsed().as_secs_f64() / 10.0 / rows.len() as f64;
    println!("{:.1} µs a row, {:.0} verdicts a second on one thread", each * 1e6, 1.0 / each);
    Ok(())
}
