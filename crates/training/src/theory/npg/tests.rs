//! Algorithm 1 done the long way, and what a run may and may not do.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use expect_test::{Expect, expect};
use rand_chacha::ChaCha8Rng;
use toehold_rollout::TokenId;

use super::{HiddenString, Npg, Reached, Starts, draw, natural_step, run};
use crate::random::{below, stream, unit};

const HALF: Starts = Starts::Prefixed { mixing: 0.5 };

fn hidden(alphabet: u32, horizon: u32) -> HiddenString {
    HiddenString::drawn(alphabet, horizon, &mut stream(1, "a hidden string", &[]))
}

fn reach(hidden: &HiddenString, npg: Npg, target: f64, cap: u64, seed: u64) -> Reached {
    match run(hidden, &npg, target, cap, &mut stream(seed, "a run", &[]), &mut |_| ControlFlow::Continue(())) {
        ControlFlow::Continue(reached) => reached,
        ControlFlow::Break(()) => unreachable!("nobody ends it"),
    }
}

/// Every action of every completion is drawn, every pair goes to the critic, and every state that was
/// visited is updated: nothing is known about which states matter. Actions after a departure come from
/// a stream of their own, so that the others are those of the quick way.
fn the_long_way(hidden: &HiddenString, npg: Npg, target: f64, rng: &mut ChaCha8Rng) -> (u64, f64, usize) {
    let (alphabet, string) = (hidden.alphabet(), hidden.string());
    let mut off_string = stream(99, "off the string", &[]);
    let mut policy = hidden.policy();
    let mut completions = 0;
    let mut visited = BTreeMap::new();
    while hidden.expected_reward(&policy) < target {
        let mut pairs: BTreeMap<(Vec<TokenId>, usize), Vec<f64>> = BTreeMap::new();
        for _ in 0..npg.per_update {
            let mut given = 0;
            let mut state = Vec::new();
            if let Starts::Prefixed { mixing } = npg.starts {
                given = below(rng, string.len() as u64) as usize;
                state.extend(&string[..given]);
                if unit(rng) < mixing {
                    state.push(string[given]);
                }
            }
            while state.len() < string.len() {
                let rng: &mut ChaCha8Rng = if string.starts_with(&state) { rng } else { &mut off_string };
                let action = draw(&policy.chances(&state), unit(rng));
                state.push(action as TokenId);
            }
            let reward = f64::from(u8::from(state == string));
            let last = if npg.starts == Starts::Plain { string.len() } else { given + 1 };
            for at in given..last {
                pairs.entry((state[..at].to_vec(), state[at] as usize)).or_default().push(reward);
            }
        }
        let mut values: BTreeMap<Vec<TokenId>, Vec<f64>> = BTreeMap::new();
        for ((state, action), rewards) in pairs {
            let mean = rewards.iter().sum::<f64>() / rewards.len() as f64;
            values.entry(state).or_insert_with(|| vec![0.0; alphabet])[action] = mean;
        }
        for (state, values) in values {
            natural_step(policy.logits_mut(&state), &values, npg.rate);
            let moved = policy.logits_mut(&state).iter().any(|&logit| logit != 0.0);
            assert!(!moved || string.starts_with(&state), "{state:?} is off the string and was moved");
            visited.insert(state, ());
        }
        completions += u64::from(npg.per_update);
    }
    (completions, hidden.expected_reward(&policy), visited.len())
}

#[test]
fn leaving_out_what_cannot_matter_changes_no_bit() {
    let cases = [(2, 5, Starts::Plain), (3, 3, Starts::Plain), (2, 6, HALF), (3, 5, HALF)];
    let none = Starts::Prefixed { mixing: 0.0 };
    for (alphabet, horizon, starts) in cases.into_iter().chain([(2, 6, none), (4, 3, none)]) {
        for seed in 0..5 {
            let hidden = hidden(alphabet, horizon);
            let npg = Npg { starts, per_update: 8, rate: 1.5 };
            let quick = reach(&hidden, npg, 0.9, u64::MAX, seed);
            let (completions, reward, visited) = the_long_way(&hidden, npg, 0.9, &mut stream(seed, "a run", &[]));
            assert_eq!((quick.completions, quick.reward), (Some(completions), reward), "{hidden:?} {npg:?}");
            // The long way did go where the quick one does not.
            assert!(starts != Starts::Plain || visited > horizon as usize, "{visited}");
        }
    }
}

#[track_caller]
fn check(horizon: u32, npg: Npg, target: f64, cap: u64, expected: Expect) {
    let reached = reach(&hidden(2, horizon), npg, target, cap, 7);
    expected.assert_eq(&format!("{:?} {:.4}", reached.completions, reached.reward));
}

#[test]
fn zero_cases() {
    let plain = Npg { starts: Starts::Plain, per_update: 8, rate: 1.0 };
    let prefixed = Npg { starts: HALF, ..plain };
    // At the target from the start; also when nothing is hidden.
    check(1, plain, 0.5, 0, expect!["Some(0) 0.5000"]);
    check(0, prefixed, 1.0, 0, expect!["Some(0) 1.0000"]);
    // The next update would pass the cap.
    check(6, plain, 0.5, 0, expect!["None 0.0156"]);
    check(6, prefixed, 0.5, 7, expect!["None 0.0156"]);
    check(40, plain, 0.5, 10_000, expect!["None 0.0000"]);
    check(40, prefixed, 0.5, 10_000, expect!["Some(2048) 0.7186"]);
}

/// One update by hand: H = 1, so a completion is one action, and Q̂ of the right one is 1 once it was seen.
#[test]
fn the_first_update_by_hand() {
    let npg = Npg { starts: Starts::Plain, per_update: 64, rate: 9f64.ln() };
    // 1/2 · 9 : 1/2 = 9 : 1.
    let reached = reach(&hidden(2, 1), npg, 0.8, 64, 0);
    assert_eq!(reached.completions, Some(64));
    assert!((reached.reward - 0.9).abs() < 1e-12);
}

#[test]
fn a_listener_ends_it() {
    let npg = Npg { starts: Starts::Plain, per_update: 1 << 15, rate: 1.0 };
    let mut told = Vec::new();
    let ended = run(&hidden(2, 60), &npg, 0.5, u64::MAX, &mut stream(0, "a run", &[]), &mut |completions| {
        told.push(completions);
        if told.len() < 3 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    assert_eq!(ended, ControlFlow::Break(()));
    assert_eq!(told, [1 << 16, 2 << 16, 3 << 16]);
}
