//! The table against exact expectations, found by enumerating every completion.
#![allow(clippy::unwrap_used)] // A test that unwraps fails, which is its purpose.

mod common;

use std::ops::ControlFlow;

use common::params;
use toehold_rollout::{
    Completion, ConfidenceStop, LearnError, Learner, SampleError, SampleRequest, Sampler, SamplingParams, Scorer,
    StopReason, SwitchPenalty, TokenId, Trace,
};
use toehold_training::evaluation::confidence::stop_point;
use toehold_training::objective::{Weigh, grpo::Grpo, reinforce::Reinforce};
use toehold_training::tabular::TabularPolicy;

const VOCABULARY: usize = 3;
const LENGTH: usize = 3;

fn policy() -> TabularPolicy {
    let mut policy = TabularPolicy::uniform(VOCABULARY, 2, 1e9);
    policy.logits_mut(&[0]).copy_from_slice(&[0.5, -0.25, 1.0]);
    policy.logits_mut(&[0, 1]).copy_from_slice(&[-1.0, 0.0, 0.75]);
    policy.publish().unwrap();
    policy
}

fn reward(tokens: &[TokenId]) -> f64 {
    f64::from(u8::from(tokens.iter().sum::<TokenId>() == 4)) + 0.5 * f64::from(u8::from(tokens[0] == 2))
}

/// Every completion of the prompt `[0]`.
fn all() -> Vec<Vec<TokenId>> {
    let count = VOCABULARY.pow(LENGTH as u32);
    let digit = |number: usize, at: usize| (number / VOCABULARY.pow(at as u32) % VOCABULARY) as TokenId;
    (0..count).map(|number| (0..LENGTH).map(|at| digit(number, at)).collect()).collect()
}

fn trace(tokens: &[TokenId], policy: &TabularPolicy) -> Trace {
    let completion = Completion { tokens: tokens.to_vec(), behavior: Vec::new(), stop: StopReason::Length };
    Trace { prompt: vec![0], prefix: Vec::new(), completion, sampled_by: policy.version() }
}

fn chance(policy: &TabularPolicy, tokens: &[TokenId]) -> f64 {
    let mut before = vec![0];
    let mut chance = 1.0;
    for &token in tokens {
        chance *= policy.chances(&before)[token as usize];
        before.push(token);
    }
    chance
}

fn expected_reward(policy: &TabularPolicy) -> f64 {
    all().iter().map(|tokens| chance(policy, tokens) * reward(tokens)).sum()
}

#[test]
fn the_gradient_of_all_completions_is_that_of_the_expected_reward() {
    let mut learner = policy();
    let traces: Vec<Trace> = all().iter().map(|tokens| trace(tokens, &learner)).collect();
    let weights: Vec<f64> = all().iter().map(|tokens| chance(&learner, tokens) * reward(tokens)).collect();
    learner.accumulate(&traces.iter().collect::<Vec<_>>(), &mut |at, _| vec![-weights[at] as f32; LENGTH]).unwrap();
    for state in [vec![0], vec![0, 0], vec![0, 1], vec![2, 2]] {
        let found = learner.gradient(&state).unwrap().to_vec();
        for (token, found) in found.into_iter().enumerate() {
            let at = |step: f64| {
                let mut moved = policy();
                moved.logits_mut(&state)[token] += step;
                expected_reward(&moved)
            };
            // The loss is minus the reward; coefficients are single precision.
            let expected = -(at(1e-5) - at(-1e-5)) / 2e-5;
            assert!((found - expected).abs() < 1e-6, "state {state:?} token {token}: {found}, expected {expected}");
        }
    }
}

fn sample(policy: &mut TabularPolicy, count: u64, params: &SamplingParams) -> Vec<Trace> {
    let request = |seed| SampleRequest { prompt: [0].into(), prefix: [].into(), params: params.clone(), seed };
    let requests: Vec<SampleRequest> = (0..count).map(request).collect();
    let sampled_by = policy.version();
    let mut traces = Vec::new();
    policy
        .sample(&requests, &mut |_, completion| {
            let sampled_by = sampled_by.clone();
            traces.push(Trace { prompt: vec![0], prefix: Vec::new(), completion, sampled_by });
            ControlFlow::Continue(())
        })
        .unwrap();
    traces
}

#[test]
fn groups_of_samples_estimate_the_same_gradient() {
    const GROUP: usize = 8;
    let mut learner = policy();
    let traces = sample(&mut learner, 8 * 4_000, &params(LENGTH as u32));
    let advantages: Vec<f64> = traces
        .chunks(GROUP)
        .flat_map(|group| {
            let rewards: Vec<f64> = group.iter().map(|trace| reward(&trace.completion.tokens)).collect();
            Reinforce {}.advantages(&rewards)
        })
        .collect();
    // The mean includes the trace itself, which takes 1/8 of the gradient away.
    let scale = 1.0 / traces.len() as f64 / (1.0 - 1.0 / GROUP as f64);
    learner
        .accumulate(&traces.iter().collect::<Vec<_>>(), &mut |at, _| vec![(-advantages[at] * scale) as f32; LENGTH])
        .unwrap();
    for token in 0..VOCABULARY {
        let at = |step: f64| {
            let mut moved = policy();
            moved.logits_mut(&[0])[token] += step;
            expected_reward(&moved)
        };
        let expected = -(at(1e-5) - at(-1e-5)) / 2e-5;
        let found = learner.gradient(&[0]).unwrap()[token];
        // 32 000 traces: a standard deviation of about 0.0015.
        assert!((found - expected).abs() < 0.006, "token {token}: {found}, expected {expected}");
    }
}

#[test]
fn samples_have_the_frequencies_of_the_policy() {
    let mut policy = policy();
    let mut seen = [0u32; VOCABULARY];
    let count = 20_000;
    for trace in sample(&mut policy, count, &params(1)) {
        seen[trace.completion.tokens[0] as usize] += 1;
    }
    for (token, chance) in policy.chances(&[0]).into_iter().enumerate() {
        assert!((f64::from(seen[token]) / count as f64 - chance).abs() < 0.015, "{token}: {seen:?}");
    }
}

#[test]
fn the_ratio_of_a_fresh_trace_is_one_to_the_bit() {
    let mut policy = policy();
    let traces = sample(&mut policy, 50, &params(6));
    let scores = policy.score(&traces.iter().collect::<Vec<_>>()).unwrap();
    let grpo = Grpo::read(toml::Table::new(), "objective").unwrap();
    for (trace, scores) in traces.iter().zip(scores) {
        assert_eq!(scores.current, trace.completion.behavior);
        assert_eq!(grpo.coefficients(1.5, &scores.current, &trace.completion.behavior), vec![-1.5; 6]);
    }
}

#[test]
fn behavior_is_the_distribution_that_was_drawn_from() {
    let mut policy = policy();
    let logp = |policy: &mut TabularPolicy, params: SamplingParams| {
        let traces = sample(policy, 200, &params);
        let mut found: Vec<(TokenId, String)> =
            traces.iter().map(|t| (t.completion.tokens[0], format!("{:.4}", t.completion.behavior[0].exp()))).collect();
        found.sort();
        found.dedup();
        found.into_iter().map(|(token, chance)| format!("{token}: {chance}")).collect::<Vec<_>>().join(", ")
    };
    let one = params(1);
    // The logits are 0.5, −0.25 and 1: chances 0.3190, 0.1507 and 0.5260... the two likeliest reach 0.6.
    assert_eq!(logp(&mut policy, SamplingParams { temperature: 0.0, ..one.clone() }), "2: 1.0000");
    assert_eq!(logp(&mut policy, SamplingParams { top_k: 1, ..one.clone() }), "2: 1.0000");
    // e^0.5 / (e^0.5 + e^1) = 0.3775.
    assert_eq!(logp(&mut policy, SamplingParams { top_k: 2, ..one.clone() }), "0: 0.3775, 2: 0.6225");
    assert_eq!(logp(&mut policy, SamplingParams { top_p: 0.6, ..one.clone() }), "0: 0.3775, 2: 0.6225");
    // At temperature 0.5 the difference doubles: e^1 / (e^1 + e^2) = 0.2689.
    let cool = SamplingParams { temperature: 0.5, top_k: 2, ..one };
    assert_eq!(logp(&mut policy, cool), "0: 0.2689, 2: 0.7311");
}

#[test]
fn a_penalty_on_switching_thoughts_is_part_of_the_distribution() {
    let mut policy = TabularPolicy::uniform(3, 1, 1e9);
    policy.publish().unwrap();
    let tip = |penalty: f32, window: u32| SamplingParams {
        thought_switch: Some(SwitchPenalty { tokens: vec![1], penalty, window }),
        ..params(6)
    };
    // Two equal logits, and one that is lower by ln 4: 1 : 1 : 1/4, so 4/9 and 1/9 in the place of 1/3.
    let penalty = 4.0f32.ln();
    let chance = |is_on: bool, token: TokenId| match (is_on, token) {
        (false, _) => 1.0 / 3.0,
        (true, 1) => 1.0 / 9.0,
        (true, _) => 4.0 / 9.0,
    };
    let window = 2;
    for trace in sample(&mut policy, 300, &tip(penalty, window)) {
        let mut begun = 0;
        for (at, (&token, behavior)) in trace.completion.tokens.iter().zip(&trace.completion.behavior).enumerate() {
            let expected: f64 = chance(at - begun < window as usize, token);
            assert!((f64::from(behavior.exp()) - expected).abs() < 1e-6, "{:?} at {at}", trace.completion);
            begun = if token == 1 { at } else { begun };
        }
    }
    let plain = sample(&mut policy, 50, &params(6));
    assert!(sample(&mut policy, 50, &tip(0.0, 600)) == plain && sample(&mut policy, 50, &tip(3.0, 0)) == plain);
    assert!(sample(&mut policy, 50, &tip(3.0, 600)) != plain);
}

#[test]
fn a_completion_stops_where_its_window_falls_below_the_bar() {
    let mut policy = policy();
    let whole = sample(&mut policy, 200, &params(12));
    let (mut stopped, window, below) = (0, 3, -1.4);
    let stop_below = Some(ConfidenceStop { window, below });
    for (whole, found) in whole.iter().zip(sample(&mut policy, 200, &SamplingParams { stop_below, ..params(12) })) {
        let (whole, found) = (&whole.completion, &found.completion);
        let stop = stop_point(&whole.behavior, window as usize, below);
        assert_eq!(found.tokens.len(), stop.unwrap_or(12));
        assert_eq!(found.tokens, whole.tokens[..found.tokens.len()]);
        assert_eq!(found.stop, if stop.is_some() { StopReason::Confidence } else { StopReason::Length });
        stopped += usize::from(stop.is_some());
    }
    assert!(stopped > 20 && stopped < 180, "{stopped}");
}

#[test]
fn splitting_a_batch_changes_nothing() {
    let traces = sample(&mut policy(), 30, &params(5));
    let learnt = |size: usize| {
        let mut learner = policy();
        for (chunk, part) in traces.chunks(size).enumerate() {
            let coefficient = |at: usize| ((chunk * size + at) as f32 - 10.0) / 7.0;
            learner.accumulate(&part.iter().collect::<Vec<_>>(), &mut |at, _| vec![coefficient(at); 5]).unwrap();
        }
        learner.step(0.1).unwrap();
        learner.publish().unwrap()
    };
    for size in [1, 4, 7] {
        assert_eq!(learnt(size), learnt(30), "in parts of {size}");
    }
}

#[test]
fn a_checkpoint_is_read_back_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    let mut learner = policy();
    learner.logits_mut(&[2, 2])[1] = 1.0 / 3.0;
    let version = learner.publish().unwrap();
    learner.save(folder.path()).unwrap();
    let mut other = TabularPolicy::uniform(VOCABULARY, 2, 1e9);
    other.restore(folder.path()).unwrap();
    assert_eq!(other.publish().unwrap(), version);
    let mut smaller = TabularPolicy::uniform(2, 2, 1e9);
    assert!(matches!(smaller.restore(folder.path()), Err(LearnError::Checkpoint { .. })));
}

#[test]
fn what_cannot_be_served_is_refused() {
    let mut policy = policy();
    let request = SampleRequest { prompt: [7].into(), prefix: [].into(), params: params(1), seed: 0 };
    let refused = policy.sample(&[request], &mut |_, _| ControlFlow::Continue(()));
    assert!(matches!(refused, Err(SampleError::UnknownToken { token: 7, .. })));
    let mut switching = params(1);
    switching.thought_switch = Some(SwitchPenalty { tokens: vec![5], penalty: 1.0, window: 1 });
    let request = SampleRequest { prompt: [0].into(), prefix: [].into(), params: switching, seed: 0 };
    let refused = policy.sample(&[request], &mut |_, _| ControlFlow::Continue(()));
    assert!(matches!(refused, Err(SampleError::UnknownToken { token: 5, .. })));
    let short = trace(&[1, 2], &policy);
    let refused = policy.accumulate(&[&short], &mut |_, _| vec![1.0]);
    assert!(matches!(refused, Err(LearnError::CoefficientCount { tokens: 2, coefficients: 1, .. })));
    let foreign = trace(&[9], &policy);
    assert!(policy.score(&[&foreign]).is_err());
}
