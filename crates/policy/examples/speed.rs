//! How fast this machine samples, scores and learns: `cargo run --release -p toehold-policy --example speed`.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "an example to be looked at")]

use std::ops::ControlFlow;
use std::time::Instant;

use toehold_policy::{Adapter, Lora, ModelConfig, Policy, PolicyOptions, Scaling, Target};
use toehold_rollout::{Learner, SampleRequest, Sampler, SamplingParams, Scorer, Trace};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let mut wide = ModelConfig::new(512, 256, 6, 8, 4, 768);
    wide.tie_word_embeddings = true;
    let shapes = [
        ("d 64, 2 layers", ModelConfig::new(64, 64, 2, 4, 2, 192), 256),
        ("d 128, 4 layers", ModelConfig::new(96, 128, 4, 4, 2, 384), 256),
        ("d 256, 6 layers", wide, 64),
    ];
    for (name, config, count) in shapes {
        let micro_batches = std::env::args()
            .nth(1)
            .map_or(vec![2048], |sizes| sizes.split(',').map(|size| size.parse().unwrap()).collect());
        for micro_batch_tokens in micro_batches {
            let options = PolicyOptions { micro_batch_tokens, ..PolicyOptions::default() };
            let policy = Policy::random(&config, 1, options).unwrap();
            let lora = Lora { rank: 16, alpha: 32.0, targets: Target::ALL.to_vec(), scaling: Scaling::ByRank };
            let adapter = Adapter::random(&config, lora, 1).unwrap();
            let adapted = policy.fork().with_adapter(adapter).unwrap();
            measure(&format!("{name}, micro-batches of {micro_batch_tokens}"), policy, count);
            measure(&format!("{name}, an adapter of rank 16 beside all matrices"), adapted, count);
        }
    }
}

/// Completions of 64 tokens after starts of 32, eight of each start.
fn measure(name: &str, mut policy: Policy, count: usize) {
    let vocabulary = policy.config().vocab_size as u32;
    let params = SamplingParams::plain(64);
    let requests: Vec<SampleRequest> = (0..count as u64)
        .map(|i| {
            let prompt: Vec<u32> = (0..32).map(|t| (t * 7 + (i / 8) as u32 * 3) % vocabulary).collect();
            SampleRequest { prompt: prompt.into(), prefix: [].into(), params: params.clone(), seed: i }
        })
        .collect();
    println!("{name}: {} parameters", policy.parameter_count());
    let version = policy.version();
    let mut traces: Vec<Trace> = Vec::new();
    for round in 0..3 {
        traces.clear();
        let begin = Instant::now();
        let mut done = |index: usize, completion| {
            let prompt = requests[index].prompt.to_vec();
            traces.push(Trace { prompt, prefix: Vec::new(), completion, sampled_by: version.clone() });
            ControlFlow::Continue(())
        };
        policy.sample(&requests, &mut done).unwrap();
        let sampling = begin.elapsed().as_secs_f64();
        let traces: Vec<&Trace> = traces.iter().collect();
        let begin = Instant::now();
        policy.score(&traces).unwrap();
        let scoring = begin.elapsed().as_secs_f64();
        let begin = Instant::now();
        let mut coefficients = |index: usize, _: &_| vec![if index.is_multiple_of(2) { 0.01 } else { -0.01 }; 64];
        policy.accumulate(&traces, &mut coefficients).unwrap();
        let learning = begin.elapsed().as_secs_f64();
        let begin = Instant::now();
        policy.step(1e-5).unwrap();
        let stepping = begin.elapsed().as_secs_f64();
        if round > 0 {
            let (new, all) = ((count * 64) as f64, (count * 96) as f64);
            println!(
                "  sample {:.0} new tokens/s, score {:.0}/s, learn {:.0} tokens/s, step {:.1} ms",
                new / sampling,
                all / scoring,
                all / learning,
                stepping * 1e3
            );
        }
    }
}
