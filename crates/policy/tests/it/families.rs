//! Every family and rotary scaling against transformers, and the host engine against the graph.
//!
//! The folders differ in much more than their names say: heads tied or not, number formats, files, biases,
//! the size of a head, and the keys of an older config.

use std::collections::BTreeMap;

use expect_test::expect;
use safetensors::SafeTensors;
use serde::Deserialize;
use toehold_policy::{Activations, Implementation, Policy, PolicyOptions};
use toehold_rollout::{Learner, SamplingParams, Scorer, Trace};

use crate::{IMPLEMENTATIONS, all_data, data, options, plain, request, sample, tokens, trace};

#[derive(Deserialize)]
struct Expected {
    tokens: Vec<u32>,
    prompt: Vec<u32>,
    greedy: Vec<u32>,
    coefficients: Option<Vec<f32>>,
}

fn expected(name: &str) -> (Expected, BTreeMap<String, Vec<f32>>) {
    let text = std::fs::read_to_string(data(name).join("expected.json")).unwrap();
    let bytes = std::fs::read(data(name).join("expected.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let numbers = |data: &[u8]| data.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
    let tensors = file.iter().map(|(name, view)| (name.to_owned(), numbers(view.data())));
    (serde_json::from_str(&text).unwrap(), tensors.collect())
}

fn open(name: &str, implementation: Implementation) -> Policy {
    Policy::open(&data(name), PolicyOptions { implementation, ..options(2) }).unwrap()
}

fn off(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// What each folder is, as it was read; a folder more or less is seen here.
#[test]
fn the_folders_are_these() {
    let lines: Vec<String> = all_data()
        .iter()
        .map(|name| {
            let policy = open(name, Implementation::Host);
            let config = policy.config();
            let files = std::fs::read_dir(data(name)).unwrap();
            let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
            let files = names.filter(|file| file.starts_with("model") && file.ends_with(".safetensors")).count();
            let biases = config.biases;
            let biases = [(biases.query_key_value, "q k v"), (biases.output, "o"), (biases.feed_forward, "mlp")];
            let biases: Vec<&str> = biases.iter().filter(|bias| bias.0).map(|bias| bias.1).collect();
            let tied = if config.tie_word_embeddings { "tied" } else { "untied" };
            let old = std::fs::read_to_string(data(name).join("config.json")).unwrap().contains("rope_scaling");
            format!(
                "{name}: {:?} {tied}, heads {}/{} of {} in {}, {files} file(s), biases [{}]{}\n",
                config.family,
                config.num_attention_heads,
                config.num_key_value_heads,
                config.head_dim,
                config.hidden_size,
                biases.join(", "),
                if old { ", older config" } else { "" },
            )
        })
        .collect();
    expect![[r#"
        llama-default: Llama tied, heads 4/2 of 8 in 32, 1 file(s), biases [], older config
        llama-linear: Llama untied, heads 4/2 of 8 in 32, 1 file(s), biases [q k v, o, mlp]
        llama-llama3: Llama tied, heads 4/2 of 8 in 32, 3 file(s), biases []
        llama-yarn: Llama untied, heads 4/2 of 8 in 32, 4 file(s), biases [], older config
        mistral-default: Mistral tied, heads 4/2 of 12 in 32, 1 file(s), biases []
        mistral-linear: Mistral untied, heads 4/2 of 12 in 32, 1 file(s), biases [], older config
        mistral-llama3: Mistral tied, heads 4/2 of 12 in 32, 3 file(s), biases []
        mistral-yarn: Mistral untied, heads 4/2 of 12 in 32, 4 file(s), biases []
        qwen2-default: Qwen2 untied, heads 2/1 of 16 in 32, 4 file(s), biases [q k v], older config
        qwen2-linear: Qwen2 tied, heads 2/1 of 16 in 32, 3 file(s), biases [q k v]
        qwen2-llama3: Qwen2 untied, heads 2/1 of 16 in 32, 1 file(s), biases [q k v]
        qwen2-yarn: Qwen2 tied, heads 2/1 of 16 in 32, 1 file(s), biases [q k v], older config
        qwen3-default: Qwen3 tied, heads 2/1 of 20 in 32, 1 file(s), biases []
        qwen3-linear: Qwen3 untied, heads 2/1 of 20 in 32, 1 file(s), biases [q k v, o]
        qwen3-llama3: Qwen3 tied, heads 2/1 of 20 in 32, 3 file(s), biases [], older config
        qwen3-yarn: Qwen3 untied, heads 2/1 of 20 in 32, 4 file(s), biases []
        smollm2-default: Llama untied, heads 3/1 of 16 in 48, 4 file(s), biases []
        smollm2-linear: Llama tied, heads 3/1 of 16 in 48, 3 file(s), biases []
        smollm2-llama3: Llama untied, heads 3/1 of 16 in 48, 1 file(s), biases [], older config
        smollm2-yarn: Llama tied, heads 3/1 of 16 in 48, 1 file(s), biases []
    "#]]
    .assert_eq(&lines.concat());
}

#[test]
fn every_logit_is_transformers() {
    for name in all_data() {
        let (expected, tensors) = expected(&name);
        let found = open(&name, Implementation::Host).logits(&expected.tokens).unwrap();
        let off = off(&found, &tensors["logits"]);
        assert!(off < 1e-4, "{name}: a logit is off by {off:e}");
    }
}

#[test]
fn greedy_continuations_are_transformers() {
    for name in all_data() {
        let (expected, _) = expected(&name);
        let params = SamplingParams { temperature: 0.0, ..plain(expected.greedy.len() as u32) };
        let requests = [
            request(&expected.prompt, &[], params.clone(), 0),
            request(&expected.prompt[..4], &expected.prompt[4..], params, 1),
        ];
        for completion in sample(&mut open(&name, Implementation::Host), &requests) {
            assert_eq!(completion.tokens, expected.greedy, "{name}");
        }
    }
}

#[test]
fn gradients_are_transformers_in_both_implementations() {
    let mut parameters = 0;
    for name in all_data() {
        let (expected, tensors) = expected(&name);
        let Some(coefficients) = expected.coefficients else { continue };
        let start = expected.tokens.len() - coefficients.len();
        let trace = trace(&expected.tokens[..1], &expected.tokens[1..start], &expected.tokens[start..]);
        for implementation in IMPLEMENTATIONS {
            let mut policy = open(&name, implementation);
            policy.accumulate(&[&trace], &mut |_, _| coefficients.clone()).unwrap();
            for (tensor, gradient) in policy.weights().tensors.iter().zip(policy.gradient()) {
                let expected = &tensors[&format!("grad.{}", tensor.name)];
                let largest = expected.iter().fold(0f32, |largest, value| largest.max(value.abs()));
                let off = off(gradient, expected);
                // A bias of keys moves all scores of a row alike, so where nothing turns it has no slope;
                // a rotation leaves it little.
                let bound = 1e-4 * largest.max(if tensor.name.ends_with("k_proj.bias") { 0.1 } else { 0.0 });
                assert!(largest > 1e-4, "{name}: {} hardly matters, so its gradient tests nothing", tensor.name);
                assert!(off < bound, "{name}, {}: off by {off:e} of {largest:e}, {implementation:?}", tensor.name);
                parameters += 1;
            }
        }
    }
    assert_eq!(parameters, 2 * (35 + 21 + 21 + 27 + 33), "every tensor of five folders");
}

/// Traces that share beginnings and differ in length.
fn traces() -> Vec<Trace> {
    (0..12)
        .map(|i| {
            let prompt = tokens(2 + (i % 3) as usize, i / 4 + 10, 63);
            trace(&prompt, &tokens((i % 4) as usize * 3, i / 2 + 20, 63), &tokens(1 + (i * 5 % 9) as usize, i + 30, 63))
        })
        .collect()
}

#[test]
fn host_and_graph_agree_in_scores_and_gradients() {
    let traces = traces();
    let traces: Vec<&Trace> = traces.iter().collect();
    for name in all_data() {
        let learnt = |implementation: Implementation, activations: Activations| {
            let options = PolicyOptions { implementation, activations, ..options(2) };
            let mut policy = Policy::open(&data(&name), options).unwrap();
            let mut scores = vec![Vec::new(); traces.len()];
            let mut coefficients = |index: usize, found: &toehold_rollout::TokenScores| {
                scores[index] = found.current.clone();
                (0..found.current.len()).map(|t| ((index * 3 + t * 5) % 7) as f32 * 0.3 - 0.8).collect()
            };
            policy.accumulate(&traces, &mut coefficients).unwrap();
            (scores.concat(), policy)
        };
        let (scores, graph) = learnt(Implementation::Graph, Activations::Kept);
        for activations in [Activations::Kept, Activations::Recomputed] {
            let (found, host) = learnt(Implementation::Host, activations);
            let apart = off(&found, &scores);
            assert!(apart < 2e-5, "{name}: a log-probability is off by {apart:e}");
            for ((tensor, a), b) in host.weights().tensors.iter().zip(host.gradient()).zip(graph.gradient()) {
                let largest = b.iter().fold(0f32, |largest, value| largest.max(value.abs()));
                let bound = 4e-5 * largest.max(if tensor.name.ends_with("k_proj.bias") { 0.1 } else { 0.0 });
                let apart = off(a, b);
                assert!(apart < bound, "{name}, {}: off by {apart:e} of {largest:e}", tensor.name);
            }
        }
    }
}

/// Sampling computes in blocks of its own; what it says of its tokens must be what scoring says of them.
#[test]
fn sampling_and_scoring_agree() {
    for name in all_data() {
        let mut policy = open(&name, Implementation::Host);
        let (prompt, prefix) = (tokens(5, 1, 63), tokens(9, 2, 63));
        let requests: Vec<_> = (0..4).map(|seed| request(&prompt, &prefix, plain(30), seed)).collect();
        let completions = sample(&mut policy, &requests);
        let traces: Vec<Trace> =
            completions.iter().map(|completion| trace(&prompt, &prefix, &completion.tokens)).collect();
        let scores = policy.score(&traces.iter().collect::<Vec<_>>()).unwrap();
        for (completion, scores) in completions.iter().zip(scores) {
            let apart = off(&completion.behavior, &scores.current);
            assert!(apart < 2e-5, "{name}: {apart:e}");
        }
    }
}

/// Adam moves every number of every tensor, biases too.
#[test]
fn a_step_moves_every_tensor() {
    for name in ["llama-linear", "qwen2-llama3", "qwen3-linear"] {
        let mut policy = open(name, Implementation::Host);
        let before = policy.weights().clone();
        let trace = trace(&tokens(4, 1, 63), &[], &tokens(20, 2, 63));
        policy.accumulate(&[&trace], &mut |_, scores| vec![-1.0; scores.current.len()]).unwrap();
        policy.step(1e-3).unwrap();
        for (before, after) in before.tensors.iter().zip(&policy.weights().tensors) {
            assert!(off(&before.values, &after.values) > 5e-4, "{name}: {} stayed", before.name);
        }
    }
}
