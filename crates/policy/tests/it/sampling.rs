//! A request's tokens depend on the weights and on itself alone; behavior is the log-probability of
//! what was really drawn from.

use std::ops::ControlFlow;

use expect_test::{Expect, expect};
use toehold_policy::{ModelConfig, Policy, PolicyOptions, SamplingStats, Sharing};
use toehold_rollout::{Completion, SampleRequest, Sampler, SamplingParams, Scorer, StopReason};

use crate::{numbers, plain, random, request, sample, small, tokens, trace};

/// Requests of various lengths; some share their start.
fn requests(count: usize, seed: u64) -> Vec<SampleRequest> {
    let vocabulary = small(true).vocab_size;
    (0..count as u64)
        .map(|i| {
            let shared = i % 5;
            let prompt = tokens(1 + 3 * shared as usize, shared, vocabulary);
            let prefix = tokens((i % 3) as usize * 4, i % 3, vocabulary);
            let params = SamplingParams { stop: vec![3], ..plain(1 + (i * 7 % 60) as u32) };
            request(&prompt, &prefix, params, seed * 1000 + i)
        })
        .collect()
}

#[test]
fn neighbours_change_no_bit() {
    let mut policy = random(&small(false), 2);
    for probe in requests(6, 9) {
        let alone = sample(&mut policy, std::slice::from_ref(&probe)).remove(0);
        for others in [1, 3, 17, 256] {
            for place in [0, others / 2, others] {
                let mut batch = requests(others, 1);
                batch.insert(place, probe.clone());
                let found = sample(&mut policy, &batch).remove(place);
                assert_eq!(found, alone, "at place {place} among {others} others");
            }
        }
    }
}

#[test]
fn threads_batch_sizes_and_order_change_no_bit() {
    let config = small(true);
    let mut requests = requests(40, 2);
    let expected = sample(&mut random(&config, 1), &requests);
    for (threads, sequences) in [(1, 1), (2, 7), (3, 256)] {
        let mut options = crate::options(threads);
        options.sequences = sequences;
        let mut policy = toehold_policy::Policy::random(&config, 5, options).unwrap();
        assert_eq!(sample(&mut policy, &requests), expected, "{threads} threads, {sequences} sequences");
    }
    requests.reverse();
    let mut found = sample(&mut random(&config, 2), &requests);
    found.reverse();
    assert_eq!(found, expected);
}

#[test]
fn behavior_is_the_score_at_temperature_one() {
    let mut policy = random(&small(false), 2);
    let requests = requests(30, 3);
    let completions = sample(&mut policy, &requests);
    for (request, completion) in requests.iter().zip(completions) {
        let mut trace = trace(&request.prompt, &request.prefix, &completion.tokens);
        trace.completion = completion;
        let scores = policy.score(&[&trace]).unwrap().remove(0);
        for (behavior, current) in trace.completion.behavior.iter().zip(&scores.current) {
            assert!((behavior - current).abs() < 1e-5, "behavior {behavior}, score {current}");
        }
    }
}

/// The first token of many seeds against the distribution that the parameters describe.
#[track_caller]
fn check_frequencies(params: SamplingParams, expected_kept: Expect) {
    let mut policy = random(&small(false), 2);
    let (prompt, vocabulary) = (tokens(5, 1, 37), 37u32);
    let candidates: Vec<_> = (0..vocabulary).map(|next| trace(&prompt, &[], &[next])).collect();
    let scores = policy.score(&candidates.iter().collect::<Vec<_>>()).unwrap();
    let mut weights: Vec<(f64, u32)> = scores
        .iter()
        .zip(0..)
        .map(|(score, token)| ((f64::from(score.current[0]) / f64::from(params.temperature)).exp(), token))
        .collect();
    weights.sort_by(|a, b| b.0.total_cmp(&a.0));
    if params.top_k > 0 {
        weights.truncate(params.top_k as usize);
    }
    let total: f64 = weights.iter().map(|(weight, _)| weight).sum();
    let mut before = 0.0;
    weights.retain(|(weight, _)| {
        let keep = before < f64::from(params.top_p) * total;
        before += weight;
        keep
    });
    let total: f64 = weights.iter().map(|(weight, _)| weight).sum();

    let draws = 20_000;
    let seeds = numbers(draws, 8);
    let requests: Vec<_> = seeds.into_iter().map(|seed| request(&prompt, &[], params.clone(), seed)).collect();
    let mut counts = vec![0u32; vocabulary as usize];
    for completion in sample(&mut policy, &requests) {
        let token = completion.tokens[0];
        counts[token as usize] += 1;
        let (weight, _) = weights.iter().find(|(_, kept)| *kept == token).expect("only kept tokens are drawn");
        let expected = (weight / total).ln();
        assert!((f64::from(completion.behavior[0]) - expected).abs() < 1e-4, "token {token}");
    }
    for (weight, token) in &weights {
        let (found, share) = (f64::from(counts[*token as usize]), weight / total);
        let mean = share * draws as f64;
        let deviation = (mean * (1.0 - share)).sqrt();
        // Five deviations: about one false alarm in a million numbers, and the seeds are fixed.
        assert!((found - mean).abs() < 5.0 * deviation + 1.0, "token {token}: {found} times, expected {mean}");
    }
    expected_kept.assert_eq(&weights.len().to_string());
}

#[test]
fn frequencies_are_those_of_the_distribution() {
    check_frequencies(plain(1), expect!["37"]);
    check_frequencies(SamplingParams { temperature: 0.5, ..plain(1) }, expect!["37"]);
    check_frequencies(SamplingParams { top_k: 4, ..plain(1) }, expect!["4"]);
    check_frequencies(SamplingParams { top_p: 0.5, ..plain(1) }, expect!["6"]);
    check_frequencies(SamplingParams { top_k: 6, top_p: 0.8, temperature: 1.5, ..plain(1) }, expect!["5"]);
}

#[test]
fn a_completion_ends_with_its_end_token_or_at_its_length() {
    let mut policy = random(&small(false), 2);
    let completions = sample(&mut policy, &requests(60, 4));
    for (request, completion) in requests(60, 4).iter().zip(&completions) {
        let max = request.params.max_tokens as usize;
        let end = completion.tokens.iter().position(|&token| token == 3);
        assert_eq!(completion.behavior.len(), completion.tokens.len());
        match completion.stop {
            StopReason::EndOfText => assert_eq!(end, Some(completion.tokens.len() - 1)),
            StopReason::Length => assert_eq!((end, completion.tokens.len()), (None, max)),
            StopReason::Confidence => panic!("nobody asked for that"),
        }
    }
    let ended = completions.iter().filter(|completion| completion.stop == StopReason::EndOfText).count();
    assert!(ended > 5 && ended < 55, "both ways of ending occur: {ended}");
}

#[test]
fn breaking_cancels_the_rest() {
    let mut policy = random(&small(false), 1);
    let mut seen = 0;
    let mut done = |_: usize, _| {
        seen += 1;
        if seen == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    policy.sample(&requests(50, 5), &mut done).unwrap();
    assert_eq!(seen, 3);
}

/// Requests whose starts are cuts of a few stems and of each other, some of them equal.
pub(crate) fn tree(count: usize, seed: u64, vocabulary: usize) -> Vec<SampleRequest> {
    // Lengths at the edges of blocks, below and above them, and one token.
    const LENGTHS: [usize; 10] = [1, 2, 17, 63, 64, 65, 127, 128, 129, 150];
    let choices = numbers(4 * count, seed);
    let requests = choices.chunks_exact(4).enumerate().map(|(i, choice)| {
        let mut start = tokens(150, choice[0] % 3, vocabulary);
        start.truncate(LENGTHS[choice[1] as usize % LENGTHS.len()]);
        if choice[2].is_multiple_of(4) {
            start.extend(tokens(5, choice[2] % 7, vocabulary));
        }
        let (prompt, prefix) = start.split_at(1 + choice[2] as usize % start.len());
        let max_tokens = [1, 2, 5, 30, 45][choice[3] as usize % 5];
        let params = SamplingParams { stop: vec![3], top_k: (i % 3 * 9) as u32, ..plain(max_tokens) };
        request(prompt, prefix, params, seed * 1000 + i as u64)
    });
    requests.collect()
}

/// Different beginnings of the requests' starts: what has to be computed at least.
fn unique(requests: &[SampleRequest]) -> u64 {
    let starts = requests.iter().map(|request| [&request.prompt[..], &request.prefix[..]].concat());
    let beginnings = starts.flat_map(|start| (1..=start.len()).map(|end| start[..end].to_vec()).collect::<Vec<_>>());
    beginnings.collect::<std::collections::HashSet<_>>().len() as u64
}

pub(crate) fn run(
    config: &ModelConfig,
    options: PolicyOptions,
    requests: &[SampleRequest],
) -> (Vec<Completion>, SamplingStats) {
    let mut policy = Policy::random(config, 5, options).unwrap();
    (sample(&mut policy, requests), policy.sampling_stats())
}

/// A model with the heads of larger ones: whole vectors, and three queries to a key.
pub(crate) fn regular() -> ModelConfig {
    let mut config = ModelConfig::new(50, 48, 2, 6, 2, 64);
    config.head_dim = 32;
    config.initializer_range = 0.2;
    config.max_position_embeddings = 300;
    config
}

#[test]
fn shared_equals_separate_and_each_token_is_prefilled_once() {
    for (config, seed) in [(small(true), 1), (small(false), 2), (regular(), 3), (regular(), 4)] {
        let requests = tree(40, seed, config.vocab_size);
        let alone = PolicyOptions { sequences: 1, sharing: Sharing::Separate, ..crate::options(1) };
        let (expected, stats) = run(&config, alone, &requests);
        let all: usize = requests.iter().map(|request| request.prompt.len() + request.prefix.len()).sum();
        let drawn: usize = expected.iter().map(|completion| completion.tokens.len()).sum();
        assert_eq!(stats.prefilled_tokens, all as u64, "separately, every token of every start is computed");
        for threads in 1..=4 {
            for sequences in [1, 2, 7, 256] {
                for sharing in [Sharing::Shared, Sharing::Separate] {
                    let options = PolicyOptions { sequences, sharing, ..crate::options(threads) };
                    let (found, stats) = run(&config, options, &requests);
                    assert_eq!(found, expected, "{threads} threads, {sequences} sequences, {sharing:?}");
                    let prefilled = match sharing {
                        Sharing::Shared => unique(&requests),
                        Sharing::Separate => all as u64,
                    };
                    assert_eq!(stats.prefilled_tokens, prefilled, "{threads} threads, {sequences} sequences");
                    assert_eq!((stats.decoded_tokens, stats.preemptions), (drawn as u64, 0));
                    assert_eq!(stats.recomputed_tokens, 0);
                }
            }
        }
    }
}

#[test]
fn a_small_budget_puts_sequences_aside_and_changes_no_bit() {
    let config = regular();
    // Keys and values of 64 positions: 2 layers of 2 heads of 32 dimensions.
    let block = 64 * 2 * 2 * (32 + 32) * 4;
    for seed in [5, 6, 7] {
        let mut requests = tree(40, seed, config.vocab_size);
        for request in &mut requests {
            request.params.max_tokens += 70;
        }
        let (expected, stats) = run(&config, crate::options(1), &requests);
        assert_eq!(stats.preemptions, 0);
        let (mut preempted, mut recomputed) = (0, 0);
        for (threads, sequences) in [(1, 256), (1, 3), (2, 256), (3, 8)] {
            for blocks in [0, 1, 4, 9, 20, 50] {
                let cache_bytes = blocks * block * threads as u64;
                let options = PolicyOptions { sequences, cache_bytes, ..crate::options(threads) };
                let (found, stats) = run(&config, options, &requests);
                assert_eq!(found, expected, "{threads} threads, {sequences} sequences, {blocks} blocks for each");
                assert_eq!(stats.prefilled_tokens, unique(&requests));
                // A lone sequence may go over it: by its own five blocks and those of starts that wait.
                let (peak, most) = (stats.peak_cache_bytes / block, blocks.max(10) * threads as u64);
                assert!(peak <= most, "{peak} blocks, {threads} threads, {blocks} for each");
                preempted += stats.preemptions;
                recomputed += stats.recomputed_tokens;
            }
        }
        assert!(preempted > 50 && recomputed > preempted, "{preempted} times, {recomputed} tokens");
    }
}

#[test]
fn a_long_start_is_read_through_many_blocks() {
    let mut config = regular();
    config.max_position_embeddings = 1000;
    let long = tokens(900, 1, config.vocab_size);
    let requests: Vec<_> = (0..12)
        .map(|i| {
            let cut = [900, 899, 640, 513, 512, 300][i % 6];
            request(&long[..3], &long[3..cut], plain(1 + i as u32 * 5), i as u64)
        })
        .collect();
    let alone = PolicyOptions { sequences: 1, sharing: Sharing::Separate, ..crate::options(1) };
    let (expected, _) = run(&config, alone, &requests);
    let (found, stats) = run(&config, crate::options(2), &requests);
    assert_eq!(found, expected);
    assert_eq!(stats.prefilled_tokens, 900);
    let mut policy = Policy::random(&config, 5, crate::options(2)).unwrap();
    for (request, completion) in requests.iter().zip(found) {
        let mut trace = trace(&request.prompt, &request.prefix, &completion.tokens);
        trace.completion = completion;
        let scores = policy.score(&[&trace]).unwrap().remove(0);
        for (behavior, current) in trace.completion.behavior.iter().zip(&scores.current) {
            assert!((behavior - current).abs() < 1e-4, "behavior {behavior}, score {current}");
        }
    }
}

#[test]
fn breaking_cancels_the_rest_whatever_the_threads_are_doing() {
    let config = regular();
    let requests = tree(60, 8, config.vocab_size);
    for threads in 1..=3 {
        for last in [1, 2, 10, 59, 60] {
            let options = PolicyOptions { cache_bytes: 2_000_000, ..crate::options(threads) };
            let mut policy = Policy::random(&config, 5, options).unwrap();
            let mut seen = std::collections::HashSet::new();
            let mut done = |index: usize, _| {
                assert!(seen.insert(index), "request {index} ended twice");
                if seen.len() == last { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            policy.sample(&requests, &mut done).unwrap();
            assert_eq!(seen.len(), last);
        }
    }
}

#[test]
fn no_requests_are_no_trouble() {
    let mut policy = random(&small(true), 2);
    assert_eq!(sample(&mut policy, &[]), []);
    assert_eq!(policy.sampling_stats(), SamplingStats::default());
}

#[track_caller]
fn check_refused(prompt: &[u32], prefix: &[u32], params: SamplingParams, expected: Expect) {
    let mut policy = random(&small(false), 1);
    let requests = [request(&[1], &[], plain(1), 0), request(prompt, prefix, params, 0)];
    let mut done = |_: usize, _| panic!("nothing may be sampled");
    expected.assert_eq(&policy.sample(&requests, &mut done).unwrap_err().to_string());
}

#[test]
fn what_cannot_be_served_is_refused_before_anything_is_sampled() {
    check_refused(&[], &[1], plain(1), expect!["request 1: the prompt is empty"]);
    check_refused(&[1], &[37], plain(1), expect!["request 1 has token 37, but the policy's vocabulary has 37 tokens"]);
    check_refused(
        &[1; 100],
        &[1; 50],
        plain(51),
        expect!["request 1 needs 201 positions (prompt 100 + prefix 50 + at most 51 new), but the policy has 200"],
    );
    check_refused(&[1], &[], plain(0), expect!["request 1: max_tokens is 0, expected at least 1"]);
    check_refused(
        &[1],
        &[],
        SamplingParams { temperature: -1.0, ..plain(1) },
        expect!["request 1: the temperature is -1, expected at least 0"],
    );
    check_refused(
        &[1],
        &[],
        SamplingParams { temperature: f32::NAN, ..plain(1) },
        expect!["request 1: the temperature is NaN, expected at least 0"],
    );
    check_refused(
        &[1],
        &[],
        SamplingParams { top_p: 0.0, ..plain(1) },
        expect!["request 1: top_p is 0, expected above 0 and at most 1"],
    );
}
