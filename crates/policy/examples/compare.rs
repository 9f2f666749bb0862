//! Compares this crate with what transformers computed, folder by folder:
//! `python interop/transformers/fixtures.py --large DIR`, then
//! `cargo run --release -p toehold-policy --example compare -- DIR`. With a second folder, each policy is
//! saved there, too: `... -- crates/policy/tests/data OUT`, then `fixtures.py --saved OUT` loads them.
//!
//! For each folder: the largest difference of a logit in f32 over all positions, how far both are from
//! transformers in f64, whether the greedy continuation is the same, and in bf16 the root mean square of the
//! differences beside transformers' own between bf16 and f32.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "an example to be looked at")]

use std::ops::ControlFlow;
use std::path::Path;

use safetensors::SafeTensors;
use serde::Deserialize;
use toehold_policy::{Dtype, Policy, PolicyOptions};
use toehold_rollout::{SampleRequest, Sampler, SamplingParams};

#[derive(Deserialize)]
struct Expected {
    tokens: Vec<u32>,
    prompt: Vec<u32>,
    greedy: Vec<u32>,
    lead: f32,
}

fn main() {
    let out = std::env::args().nth(2).map(std::path::PathBuf::from);
    let root = std::env::args().nth(1).expect("a folder of folders that fixtures.py wrote");
    let mut folders: Vec<_> = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    println!(
        "| folder | positions | largest difference | ours to f64 | theirs to f64 | greedy tokens equal | bf16 | their bf16 |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for folder in folders {
        let text = std::fs::read_to_string(folder.join("expected.json")).unwrap();
        let expected: Expected = serde_json::from_str(&text).unwrap();
        let exact = tensor(&folder, "logits").unwrap();
        let mut policy = Policy::open(&folder, PolicyOptions::default()).unwrap();
        let found = policy.logits(&expected.tokens).unwrap();
        if let Some(out) = &out {
            policy.save_new_folder(&out.join(folder.file_name().unwrap())).unwrap();
        }
        let double = tensor(&folder, "logits.f64");
        let to_double =
            |logits: &[f32]| double.as_ref().map_or("–".into(), |exact| format!("{:.1e}", largest(logits, exact)));
        let greedy = greedy(&mut policy, &expected);
        let equal = greedy.iter().zip(&expected.greedy).take_while(|(a, b)| a == b).count();
        let mut halves = ("–".to_owned(), "–".to_owned());
        if let Some(theirs) = tensor(&folder, "logits.bf16") {
            let options = PolicyOptions { dtype: Dtype::Bf16, ..PolicyOptions::default() };
            let ours = Policy::open(&folder, options).unwrap().logits(&expected.tokens).unwrap();
            halves = (format!("{:.4}", distance(&ours, &exact)), format!("{:.4}", distance(&theirs, &exact)));
        }
        println!(
            "| {} | {} | {:.1e} | {} | {} | {equal} of {} (smallest lead {:.0e}) | {} | {} |",
            folder.file_name().unwrap().display(),
            expected.tokens.len(),
            largest(&found, &exact),
            to_double(&found),
            to_double(&exact),
            expected.greedy.len(),
            expected.lead,
            halves.0,
            halves.1,
        );
    }
}

fn greedy(policy: &mut Policy, expected: &Expected) -> Vec<u32> {
    let max_tokens = expected.greedy.len() as u32;
    let params = SamplingParams { temperature: 0.0, ..SamplingParams::plain(max_tokens) };
    let request = SampleRequest { prompt: expected.prompt.clone().into(), prefix: [].into(), params, seed: 0 };
    let mut tokens = Vec::new();
    let mut done = |_: usize, completion: toehold_rollout::Completion| {
        tokens = completion.tokens;
        ControlFlow::Continue(())
    };
    policy.sample(&[request], &mut done).unwrap();
    tokens
}

fn largest(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max)
}

/// Root mean square of the differences.
fn distance(a: &[f32], b: &[f32]) -> f64 {
    let squares: f64 = a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum();
    (squares / a.len() as f64).sqrt()
}

fn tensor(folder: &Path, name: &str) -> Option<Vec<f32>> {
    let bytes = std::fs::read(folder.join("expected.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let data = file.tensor(name).ok()?.data();
    Some(data.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect())
}
