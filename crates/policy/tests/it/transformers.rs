//! Everything that transformers computed for the fixtures: log-probabilities, logits, greedy
//! continuations and the gradient of every parameter.

use safetensors::SafeTensors;
use serde::Deserialize;
use toehold_policy::{Implementation, Policy, PolicyOptions, Weights};
use toehold_rollout::{Learner, SamplingParams, Scorer};

use crate::{IMPLEMENTATIONS, fixture, options, plain, request, sample, trace};

#[derive(Deserialize)]
struct Expected {
    cases: Vec<Case>,
    batch: Vec<Weighted>,
}

#[derive(Deserialize)]
struct Case {
    tokens: Vec<u32>,
    log_probs: Vec<f32>,
    greedy: Vec<u32>,
}

#[derive(Deserialize)]
struct Weighted {
    tokens: Vec<u32>,
    prompt: usize,
    coefficients: Vec<f32>,
}

fn expected(name: &str) -> Expected {
    let text = std::fs::read_to_string(fixture(name).join("expected.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Tensors of `expected.safetensors`.
fn tensor(name: &str, key: &str) -> Vec<f32> {
    let bytes = std::fs::read(fixture(name).join("expected.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let data = file.tensor(key).unwrap().data();
    data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

fn open(name: &str, implementation: Implementation) -> Policy {
    Policy::open(&fixture(name), PolicyOptions { implementation, ..options(2) }).unwrap()
}

/// Each folder with each implementation.
fn all() -> impl Iterator<Item = (&'static str, Policy)> {
    let pairs = FOLDERS.into_iter().flat_map(|name| IMPLEMENTATIONS.map(|implementation| (name, implementation)));
    pairs.map(|(name, implementation)| (name, open(name, implementation)))
}

#[track_caller]
fn assert_close(found: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() < tolerance, "{what}: number {i} is {found}, expected {expected}");
    }
}

const FOLDERS: [&str; 2] = ["qwen3-tiny", "qwen3-tied"];

/// The log-probability of every token of the vocabulary at every position: as strong as the logits
/// themselves but for one constant a row, which no caller can see.
#[test]
fn every_logit_is_transformers() {
    for name in FOLDERS {
        let mut policy = open(name, Implementation::Host);
        let vocabulary = policy.config().vocab_size;
        for (index, case) in expected(name).cases.iter().enumerate() {
            let logits = tensor(name, &format!("logits.{index}"));
            for (position, row) in logits.chunks_exact(vocabulary).enumerate() {
                if position % 7 != index % 7 && position + 1 < case.tokens.len() {
                    continue;
                }
                let traces: Vec<_> =
                    (0..vocabulary as u32).map(|next| trace(&case.tokens[..=position], &[], &[next])).collect();
                let scores = policy.score(&traces.iter().collect::<Vec<_>>()).unwrap();
                let found: Vec<f32> = scores.iter().map(|score| score.current[0]).collect();
                let total = row.iter().map(|&logit| f64::from(logit).exp()).sum::<f64>().ln();
                let expected: Vec<f32> = row.iter().map(|&logit| (f64::from(logit) - total) as f32).collect();
                assert_close(&found, &expected, 1e-4, &format!("{name}, sequence {index}, position {position}"));
            }
        }
    }
}

#[test]
fn log_probabilities_are_transformers_in_both_implementations() {
    for (name, mut policy) in all() {
        for (index, case) in expected(name).cases.iter().enumerate() {
            let trace = trace(&case.tokens[..1], &[], &case.tokens[1..]);
            let what = format!("{name}, sequence {index}");
            let scores = policy.score(&[&trace]).unwrap();
            assert_close(&scores[0].current, &case.log_probs, 1e-4, &what);
            let mut learnt = Vec::new();
            let mut weigh = |_: usize, scores: &toehold_rollout::TokenScores| {
                learnt = scores.current.clone();
                vec![0.0; scores.current.len()]
            };
            policy.accumulate(&[&trace], &mut weigh).unwrap();
            assert_close(&learnt, &case.log_probs, 1e-4, &what);
        }
    }
}

#[test]
fn greedy_continuations_are_transformers() {
    for name in FOLDERS {
        let mut policy = open(name, Implementation::Host);
        let cases = expected(name).cases;
        let params = SamplingParams { temperature: 0.0, ..plain(32) };
        let requests: Vec<_> = cases.iter().map(|case| request(&case.tokens, &[], params.clone(), 0)).collect();
        for (index, (case, completion)) in cases.iter().zip(sample(&mut policy, &requests)).enumerate() {
            assert_eq!(completion.tokens, case.greedy, "{name}, sequence {index}");
            assert_eq!(completion.behavior, [0.0; 32]);
        }
    }
}

#[test]
fn every_gradient_is_transformers() {
    for (name, mut policy) in all() {
        let batch = expected(name).batch;
        let traces: Vec<_> = batch
            .iter()
            .map(|one| trace(&one.tokens[..1], &one.tokens[1..one.prompt], &one.tokens[one.prompt..]))
            .collect();
        policy
            .accumulate(&traces.iter().collect::<Vec<_>>(), &mut |index, _| batch[index].coefficients.clone())
            .unwrap();
        let names = Weights::expected(policy.config());
        for ((parameter, _), gradient) in names.iter().zip(policy.gradient()) {
            let expected = tensor(name, &format!("grad.{parameter}"));
            let largest = expected.iter().fold(0f32, |largest, value| largest.max(value.abs()));
            assert!(largest > 1e-3, "{parameter} hardly matters, so its gradient tests nothing");
            assert_close(gradient, &expected, 1e-4 * largest, &format!("{name}, {parameter}"));
        }
    }
}
