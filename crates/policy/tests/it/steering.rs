//! A penalty on switching thoughts, and completions that stop where they are unlikely: what is drawn, where it
//! ends, and that neither depends on neighbours, sharing or pre-emption.

use expect_test::{Expect, expect};
use toehold_policy::{Policy, PolicyOptions, Sharing};
use toehold_rollout::{
    Completion, ConfidenceStop, SampleRequest, Sampler, SamplingParams, Scorer, StopReason, SwitchPenalty,
};

use crate::sampling::{regular, run, tree};
use crate::{plain, random, request, sample, small, tokens, trace};

const SWITCHES: [u32; 3] = [1, 5, 11];

fn tip(penalty: f32, window: u32) -> Option<SwitchPenalty> {
    Some(SwitchPenalty { tokens: SWITCHES.to_vec(), penalty, window })
}

/// Requests with prefixes of various lengths, some of them with switch tokens.
fn requests(count: u64, params: &SamplingParams) -> Vec<SampleRequest> {
    let one = |i: u64| {
        let prefix = tokens((i % 4) as usize * 3, i % 7, 37);
        request(&tokens(1 + (i % 3) as usize, i % 3, 37), &prefix, params.clone(), 70 + i)
    };
    (0..count).map(one).collect()
}

/// Tokens of the current thought, by the definition, before the completion's token `at`.
fn age(prefix: &[u32], completion: &[u32], at: usize) -> usize {
    let turn = [prefix, &completion[..at]].concat();
    turn.len() - turn.iter().rposition(|token| SWITCHES.contains(token)).unwrap_or(0)
}

#[track_caller]
fn check_behavior(temperature: f32, penalty: f32, window: u32) {
    let mut policy = random(&small(false), 2);
    let params = SamplingParams { temperature, thought_switch: tip(penalty, window), ..plain(12) };
    let requests = requests(12, &params);
    let (mut on, mut off) = (0, 0);
    for (request, completion) in requests.iter().zip(sample(&mut policy, &requests)) {
        for at in 0..completion.tokens.len() {
            let before = [&request.prefix[..], &completion.tokens[..at]].concat();
            let next: Vec<_> = (0..37).map(|token| trace(&request.prompt, &before, &[token])).collect();
            let scores = policy.score(&next.iter().collect::<Vec<_>>()).unwrap();
            let is_on = age(&request.prefix, &completion.tokens, at) < window as usize;
            *(if is_on { &mut on } else { &mut off }) += 1;
            let logit = |token: usize| {
                let taken = if is_on && SWITCHES.contains(&(token as u32)) { penalty } else { 0.0 };
                f64::from((scores[token].current[0] - taken) / temperature)
            };
            let total: f64 = (0..37).map(|token| logit(token).exp()).sum();
            let expected = logit(completion.tokens[at] as usize) - total.ln();
            let found = f64::from(completion.behavior[at]);
            assert!((found - expected).abs() < 1e-4, "token {at}: {found}, expected {expected}");
        }
    }
    assert!(on > 10 && off > 10, "both occur: {on} with the penalty, {off} without");
}

#[test]
fn behavior_is_of_the_penalised_distribution() {
    check_behavior(1.0, 1.5, 5);
    check_behavior(0.7, 3.0, 3);
    check_behavior(1.0, -0.0, 4);
}

#[test]
fn a_trace_that_is_cut_goes_on_as_if_it_were_whole() {
    // Greedy, so that both draw alike whatever their streams.
    let mut policy = random(&small(false), 2);
    let params = SamplingParams { temperature: 0.0, thought_switch: tip(2.5, 6), ..plain(30) };
    for request in requests(12, &params) {
        let whole = sample(&mut policy, std::slice::from_ref(&request)).remove(0);
        for cut in [1, 5, 6, 7, 18, 29] {
            let prefix = [&request.prefix[..], &whole.tokens[..cut]].concat();
            let rest = SamplingParams { max_tokens: 30 - cut as u32, ..params.clone() };
            let rest = sample(&mut policy, &[crate::request(&request.prompt, &prefix, rest, 1)]).remove(0);
            assert_eq!(rest.tokens, whole.tokens[cut..], "cut after {cut}");
        }
    }
}

#[test]
fn what_changes_nothing_changes_no_bit() {
    let mut policy = random(&small(false), 2);
    let expected = sample(&mut policy, &requests(40, &plain(25)));
    let never = Some(ConfidenceStop { window: 1, below: f64::NEG_INFINITY });
    for (thought_switch, stop_below) in
        [(tip(0.0, 600), None), (tip(3.0, 0), None), (None, never), (tip(0.0, u32::MAX), never)]
    {
        let params = SamplingParams { thought_switch, stop_below, ..plain(25) };
        assert_eq!(sample(&mut policy, &requests(40, &params)), expected);
    }
    let penalised = SamplingParams { thought_switch: tip(3.0, 600), ..plain(25) };
    let switches = |completions: &[Completion]| {
        completions.iter().flat_map(|one| &one.tokens).filter(|token| SWITCHES.contains(token)).count()
    };
    let found = sample(&mut policy, &requests(40, &penalised));
    assert!(4 * switches(&found) < switches(&expected), "{} and {}", switches(&found), switches(&expected));
}

/// A bar that about half of the completions with a whole window fall below.
fn bar(completions: &[Completion], window: usize) -> f64 {
    let mean = |tokens: &[f32]| tokens.iter().map(|&one| f64::from(one)).sum::<f64>() / window as f64;
    let lowest = |one: &Completion| one.behavior.windows(window).map(mean).reduce(f64::min);
    let mut lowest: Vec<f64> = completions.iter().filter_map(lowest).collect();
    lowest.sort_by(f64::total_cmp);
    lowest[lowest.len() / 2]
}

#[test]
fn a_completion_ends_at_the_first_window_below_the_bar() {
    let mut policy = random(&small(false), 2);
    for window in [1, 3, 8] {
        let params = SamplingParams { stop: vec![3], ..plain(40) };
        let whole = sample(&mut policy, &requests(60, &params));
        let below = bar(&whole, window);
        let stop_below = Some(ConfidenceStop { window: window as u32, below });
        let found = sample(&mut policy, &requests(60, &SamplingParams { stop_below, ..params }));
        let mut stopped = 0;
        for (whole, found) in whole.iter().zip(&found) {
            let mean = |end: usize| {
                whole.behavior[end - window..end].iter().map(|&one| f64::from(one)).sum::<f64>() / window as f64
            };
            let end = (window..=whole.tokens.len()).find(|&end| mean(end) < below);
            match end.filter(|&end| whole.tokens[end - 1] != 3) {
                Some(end) => {
                    assert_eq!(found.tokens, whole.tokens[..end]);
                    assert_eq!(found.behavior, whole.behavior[..end]);
                    assert_eq!(found.stop, StopReason::Confidence);
                    stopped += 1;
                }
                None => assert_eq!(found, whole),
            }
        }
        assert!(stopped > 5 && stopped < 55, "window {window}: {stopped} of 60");
        // Nothing is computed for what was stopped: the last tokens are those that were drawn.
        let drawn: usize = found.iter().map(|one| one.tokens.len()).sum();
        assert_eq!(policy.sampling_stats().decoded_tokens, drawn as u64);
    }
}

/// Some requests have the one, some the other, some both.
fn steered(count: usize, seed: u64, vocabulary: usize, below: f64) -> Vec<SampleRequest> {
    let mut requests = tree(count, seed, vocabulary);
    for (at, request) in requests.iter_mut().enumerate() {
        request.params.max_tokens += 40;
        request.params.thought_switch = (at % 3 != 0).then(|| tip(2.0, 4 + at as u32 % 9)).flatten();
        request.params.stop_below = (at % 2 == 0).then_some(ConfidenceStop { window: 6, below });
    }
    requests
}

#[test]
fn sharing_threads_and_budgets_change_no_bit() {
    let config = regular();
    let block = 64 * 2 * 2 * (32 + 32) * 4;
    let (mut preempted, mut stopped) = (0, 0);
    for seed in [1, 2] {
        let alone = PolicyOptions { sequences: 1, sharing: Sharing::Separate, ..crate::options(1) };
        let (whole, _) = run(&config, alone.clone(), &steered(40, seed, config.vocab_size, f64::NEG_INFINITY));
        let requests = steered(40, seed, config.vocab_size, bar(&whole, 6));
        let (expected, _) = run(&config, alone, &requests);
        stopped += expected.iter().filter(|one| one.stop == StopReason::Confidence).count();
        for (threads, sequences, blocks) in [(1, 256, 1000), (2, 7, 1000), (1, 256, 4), (2, 256, 9), (3, 8, 20)] {
            for sharing in [Sharing::Shared, Sharing::Separate] {
                let cache_bytes = blocks * block * threads as u64;
                let options = PolicyOptions { sequences, sharing, cache_bytes, ..crate::options(threads) };
                let (found, stats) = run(&config, options, &requests);
                assert_eq!(found, expected, "{threads} threads, {sequences} sequences, {blocks} blocks, {sharing:?}");
                // How often several threads put one aside depends on who comes first.
                preempted += if threads == 1 { stats.preemptions } else { 0 };
            }
        }
    }
    assert!(preempted > 0 && stopped > 8, "{preempted} times put aside, {stopped} stopped");
}

#[track_caller]
fn check_refused(params: SamplingParams, expected: Expect) {
    let mut policy: Policy = random(&small(false), 1);
    let mut done = |_: usize, _| panic!("nothing may be sampled");
    expected.assert_eq(&policy.sample(&[request(&[1], &[], params, 0)], &mut done).unwrap_err().to_string());
}

#[test]
fn numbers_without_sense_are_refused() {
    let with = |tokens: &[u32], penalty: f32| {
        let thought_switch = Some(SwitchPenalty { tokens: tokens.to_vec(), penalty, window: 600 });
        SamplingParams { thought_switch, ..plain(1) }
    };
    check_refused(
        with(&[1], -1.0),
        expect!["request 0: the penalty on switching thoughts is -1, expected in [0, 1e6]"],
    );
    check_refused(with(&[1, 1], 1.0), expect!["request 0: token 1 switches thoughts twice, expected each token once"]);
    check_refused(with(&[1, 37], 1.0), expect!["request 0 has token 37, but the policy's vocabulary has 37 tokens"]);
    let stop = |window, below| SamplingParams { stop_below: Some(ConfidenceStop { window, below }), ..plain(1) };
    check_refused(stop(0, -1.0), expect!["request 0: the window of confidence is 0, expected at least 1"]);
    check_refused(stop(1, f64::NAN), expect!["request 0: the bar of confidence is NaN, expected a number"]);
}
