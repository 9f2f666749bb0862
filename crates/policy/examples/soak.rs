//! Samples without end, at random: `cargo run --release -p toehold-policy --example soak -- --minutes 30`.
//!
//! Every round draws requests over a random trie, a number of sequences, a sharing and a budget of keys and
//! values small enough that sequences are put aside; some rounds are cancelled. It fails when a request is
//! answered twice or not at all, when a completion differs from the same request sampled alone, or when the
//! process has grown.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "an example to be looked at")]

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use toehold_policy::{ModelConfig, Policy, PolicyOptions, Sharing};
use toehold_rollout::{Completion, SampleRequest, Sampler, SamplingParams};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const VOCABULARY: u32 = 96;

/// What was done so far.
#[derive(Default)]
struct Totals {
    rounds: u64,
    requests: u64,
    cancelled: u64,
    compared: u64,
    tokens: u64,
    preemptions: u64,
}

fn main() {
    let minutes: f64 = argument("--minutes").unwrap_or(30.0);
    let threads = argument("--threads").map(|threads| threads as usize);
    let mut rng = ChaCha8Rng::seed_from_u64(argument("--seed").unwrap_or(1.0) as u64);
    let (begin, length) = (Instant::now(), Duration::from_secs_f64(60.0 * minutes));
    let (mut totals, mut said, mut resident) = (Totals::default(), Duration::ZERO, Vec::new());
    while begin.elapsed() < length {
        round(&mut rng, threads, &mut totals);
        let elapsed = begin.elapsed();
        // What is allocated once has been met in the first tenth.
        if elapsed > length.mul_f64(0.1) {
            resident.push(resident_kib());
        }
        if elapsed >= said + Duration::from_secs(10) {
            said = elapsed;
            let Totals { rounds, requests, cancelled, compared, tokens, preemptions } = totals;
            println!(
                "{:5.0} s: {rounds} rounds, {requests} requests ({cancelled} cancelled, {compared} compared), \
                 {tokens} tokens, {preemptions} put aside, {} MiB",
                elapsed.as_secs_f64(),
                resident_kib() / 1024
            );
        }
    }
    // Rounds differ in what they need: medians, not peaks.
    let third = resident.len() / 3;
    let (first, last) = (median(&resident[..third]), median(&resident[resident.len() - third..]));
    println!("{:.1} MiB in the first third, {:.1} MiB in the last", first / 1024.0, last / 1024.0);
    assert!(last <= 1.1 * first, "the process has grown by more than a tenth");
}

/// One call of the sampler, and what it answered looked at.
fn round(rng: &mut ChaCha8Rng, threads: Option<usize>, totals: &mut Totals) {
    let mut config = ModelConfig::new(VOCABULARY as usize, 64, 2, 4, 2, 128);
    config.head_dim = [16, 20, 32][rng.random_range(0..3)];
    config.initializer_range = 0.2;
    config.max_position_embeddings = 1024;
    let block = 64 * 2 * 2 * (config.head_dim + config.head_dim.next_multiple_of(16)) as u64 * 4;
    let options = PolicyOptions {
        threads: Some(threads.unwrap_or_else(|| rng.random_range(1..5))),
        sequences: [1, 3, 16, 64, 256][rng.random_range(0..5)],
        cache_bytes: block * [1, 8, 30, 100, 1000][rng.random_range(0..5)],
        sharing: if rng.random_bool(0.9) { Sharing::Shared } else { Sharing::Separate },
        ..PolicyOptions::default()
    };
    let seed = rng.random_range(0..4);
    let mut policy = Policy::random(&config, seed, options).unwrap();
    let requests = requests(rng);
    let last = if rng.random_bool(0.2) { rng.random_range(1..=requests.len()) } else { requests.len() };
    let mut answers: Vec<Option<Completion>> = vec![None; requests.len()];
    let mut count = 0;
    let mut done = |index: usize, completion| {
        assert!(answers[index].replace(completion).is_none(), "request {index} was answered twice");
        count += 1;
        if count == last { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    policy.sample(&requests, &mut done).unwrap();
    assert_eq!(count, last, "requests were lost");
    totals.rounds += 1;
    totals.requests += count as u64;
    totals.cancelled += (requests.len() - count) as u64;
    totals.tokens += policy.sampling_stats().decoded_tokens;
    totals.preemptions += policy.sampling_stats().preemptions;

    let alone =
        PolicyOptions { threads: Some(1), sequences: 1, sharing: Sharing::Separate, ..PolicyOptions::default() };
    let mut slow = Policy::random(&config, seed, alone).unwrap();
    for _ in 0..3 {
        let index = rng.random_range(0..requests.len());
        let Some(answer) = &answers[index] else { continue };
        let mut compare = |_: usize, completion: Completion| {
            assert_eq!(&completion, answer, "request {index} of round {}", totals.rounds);
            totals.compared += 1;
            ControlFlow::Continue(())
        };
        slow.sample(&requests[index..=index], &mut compare).unwrap();
    }
}

/// Groups whose starts are cuts of a few stems and of each other.
fn requests(rng: &mut ChaCha8Rng) -> Vec<SampleRequest> {
    let stem = |rng: &mut ChaCha8Rng| -> Vec<u32> {
        let length = [5, 70, 200, 500][rng.random_range(0..4)];
        (0..length).map(|_| rng.random_range(0..VOCABULARY)).collect()
    };
    let stems: Vec<Vec<u32>> = (0..rng.random_range(1..6)).map(|_| stem(rng)).collect();
    let mut requests = Vec::new();
    for _ in 0..rng.random_range(1..25) {
        let stem = &stems[rng.random_range(0..stems.len())];
        let mut start = stem[..rng.random_range(1..=stem.len())].to_vec();
        if rng.random_bool(0.3) {
            start.push(rng.random_range(0..VOCABULARY));
        }
        let (prompt, prefix) = start.split_at(rng.random_range(1..=start.len()));
        let params = SamplingParams {
            temperature: [0.0, 0.5, 1.0, 1.0, 1.5][rng.random_range(0..5)],
            top_k: [0, 0, 10][rng.random_range(0..3)],
            top_p: [1.0, 1.0, 0.9][rng.random_range(0..3)],
            max_tokens: [1, 5, 64, 200][rng.random_range(0..4)],
            stop: vec![0],
            ..SamplingParams::plain(1)
        };
        for _ in 0..[1, 1, 4, 8][rng.random_range(0..4)] {
            let (prompt, prefix) = (prompt.into(), prefix.into());
            requests.push(SampleRequest { prompt, prefix, params: params.clone(), seed: rng.next_u64() });
        }
    }
    requests
}

/// Memory of this process.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn median(values: &[u64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_unstable();
    values.get(values.len() / 2).map_or(0.0, |&value| value as f64)
}

fn argument(name: &str) -> Option<f64> {
    let arguments: Vec<String> = std::env::args().collect();
    let place = arguments.iter().position(|argument| argument == name)?;
    Some(
        arguments
            .get(place + 1)
            .and_then(|value| value.parse().ok())
            .unwrap_or_else(|| panic!("{name} takes a number")),
    )
}
