//! Peak memory of learning from one trace with the graph of tensors:
//! `cargo run --release --workspace --example graph_memory -- 4096`, once for each length.
//!
//! The model has 2 layers of width 64 with 8 heads, so that at a few thousand tokens a matrix of scores (4 bytes ×
//! 8 heads × length²) would be most of the memory. Linux alone: `/proc` is asked.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "an example to be looked at")]

use std::time::Instant;

use toehold_policy::{Implementation, ModelConfig, Policy, PolicyOptions};
use toehold_rollout::{Completion, Learner, PolicyVersion, StopReason, Trace};

fn main() {
    let length: usize = std::env::args().nth(1).expect("a length").parse().unwrap();
    let mut config = ModelConfig::new(64, 64, 2, 8, 4, 128);
    config.max_position_embeddings = length + 1;
    let options = PolicyOptions {
        implementation: Implementation::Graph,
        micro_batch_tokens: length,
        activation_bytes: u64::MAX / 2,
        ..PolicyOptions::default()
    };
    let mut policy = Policy::random(&config, 0, options).unwrap();
    let tokens: Vec<u32> = (0..64).map(|i| (i * 7 + 3) % 64).collect();
    let completion = Completion { tokens, behavior: vec![0.0; 64], stop: StopReason::Length };
    let sampled_by = PolicyVersion { weights: String::new() };
    let prompt = (0..length as u32 - 64).map(|i| i * 5 % 61).collect();
    let trace = Trace { prompt, prefix: Vec::new(), completion, sampled_by };
    let begin = Instant::now();
    policy.accumulate(&[&trace], &mut |_, scores| vec![-1.0; scores.current.len()]).unwrap();
    let seconds = begin.elapsed().as_secs_f64();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    let peak: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    let matrix = 4.0 * 8.0 * (length * length) as f64 / (1 << 20) as f64;
    println!("{length} tokens: peak {:.0} MiB, {seconds:.1} s; one matrix of scores: {matrix:.0} MiB", peak / 1024.0);
}
