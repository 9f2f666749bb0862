//! One kind of work over and over, for a profiler:
//! `perf record -g target/release/examples/profile learn f32 t 192` (learn, score or sample; f32 or bf16;
//! shape t, s or demo; tokens of the shared prefix).
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "an example to be looked at")]

use std::ops::ControlFlow;
use std::time::Instant;

use toehold_policy::{Dtype, ModelConfig, Policy, PolicyOptions};
use toehold_rollout::{Completion, Learner, PolicyVersion, SampleRequest, Sampler, SamplingParams, Scorer};
use toehold_rollout::{StopReason, Trace};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let argument = |place: usize, default: &str| arguments.get(place).cloned().unwrap_or(default.to_owned());
    let (work, prefix): (String, usize) = (argument(0, "learn"), argument(3, "192").parse().unwrap());
    let (groups, group): (usize, usize) = (argument(4, "8").parse().unwrap(), argument(5, "8").parse().unwrap());
    let completion: usize = argument(6, "64").parse().unwrap();
    let dtype = if argument(1, "f32") == "bf16" { Dtype::Bf16 } else { Dtype::F32 };
    let mut config = match argument(2, "t").as_str() {
        "demo" => ModelConfig::new(64, 64, 3, 4, 2, 176),
        "s" => ModelConfig::new(4096, 512, 12, 8, 4, 1536),
        _ => ModelConfig::new(512, 256, 6, 8, 4, 768),
    };
    config.tie_word_embeddings = true;
    config.max_position_embeddings = 4096;
    let mut policy = Policy::random(&config, 1, PolicyOptions { dtype, ..PolicyOptions::default() }).unwrap();
    let token = |seed: usize| (seed.wrapping_mul(2_654_435_761) >> 7) as u32 % config.vocab_size as u32;
    let given = |number: usize| (0..prefix).map(|i| token(number * 10_007 + i)).collect::<Vec<u32>>();
    let traces: Vec<Trace> = (0..groups * group)
        .map(|i| Trace {
            prompt: given(i / group),
            prefix: Vec::new(),
            completion: Completion {
                tokens: (0..completion).map(|t| token(i * 997 + t + 5_000_000)).collect(),
                behavior: vec![0.0; completion],
                stop: StopReason::Length,
            },
            sampled_by: PolicyVersion { weights: String::new() },
        })
        .collect();
    let params = SamplingParams::plain(completion as u32);
    let requests: Vec<SampleRequest> = (0..groups * group)
        .map(|i| SampleRequest {
            prompt: given(i / group).into(),
            prefix: [].into(),
            params: params.clone(),
            seed: i as u64,
        })
        .collect();
    let traces: Vec<&Trace> = traces.iter().collect();
    for _ in 0..argument(7, "8").parse().unwrap() {
        let begin = Instant::now();
        match work.as_str() {
            "sample" => policy.sample(&requests, &mut |_, _| ControlFlow::Continue(())).unwrap(),
            "score" => drop(policy.score(&traces).unwrap()),
            _ => {
                let half = &mut |index: usize, _: &_| vec![[0.01, -0.01][index % 2]; completion];
                policy.accumulate(&traces, half).unwrap();
                let learnt = begin.elapsed().as_secs_f64();
                policy.step(1e-5).unwrap();
                print!("accumulate {:.0} ms, ", learnt * 1e3);
            }
        }
        let (seconds, all) = (begin.elapsed().as_secs_f64(), groups * group * (prefix + completion));
        let sampled = (groups * group * completion) as f64;
        println!(
            "{:.0} ms, {:.0} tokens/s, {:.0} completion tokens/s",
            seconds * 1e3,
            all as f64 / seconds,
            sampled / seconds
        );
    }
}
