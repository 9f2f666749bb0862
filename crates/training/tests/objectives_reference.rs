//! Objectives against the implementations that others train with: numbers that
//! `interop/objectives/vectors.py` made by calling verl and TRL, or, where no package has the method, from its
//! formula in another language with automatic differentiation.
#![allow(clippy::unwrap_used)] // A test that unwraps fails, which is its purpose.

use std::fmt::Write as _;
use std::path::Path;

use expect_test::expect;
use serde::Deserialize;
use toehold_rollout::{StopReason, SuccessCount};
use toehold_training::Objective;
use toehold_training::objective::batch::{GroupView, GroupWeights, Weight, weights};
use toehold_training::objective::given::{GivenView, Origin};
use toehold_training::objective::modifier::kl;
use toehold_training::objective::{Ending, TraceView, Weigh};
use toehold_training::recipe::{Aggregation, Method};

/// Of advantages, of estimates, and of coefficients, which are divided by the batch and so much smaller.
const TOLERANCE: f64 = 1e-5;
const COEFFICIENT_TOLERANCE: f64 = 1e-7;

#[derive(Deserialize)]
struct Vectors {
    limit: u32,
    groups: Vec<Group>,
    cases: Vec<Case>,
    kl: Vec<Kl>,
}

#[derive(Deserialize)]
struct Group {
    rewards: Vec<f64>,
    traces: Vec<Scores>,
    stored: Vec<Scores>,
    successes: u64,
    attempts: u64,
}

#[derive(Deserialize)]
struct Scores {
    current: Vec<f32>,
    behavior: Vec<f32>,
    #[serde(default)]
    entropy: Vec<f32>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    source: String,
    objective: String,
    aggregation: Aggregation,
    advantages: Vec<f64>,
    coefficients: Vec<Vec<f64>>,
    #[serde(default)]
    stored_coefficients: Vec<Vec<f64>>,
}

#[derive(Deserialize)]
struct Kl {
    estimator: String,
    current: Vec<f32>,
    reference: Vec<f32>,
    value: Vec<f64>,
    derivative: Vec<f64>,
}

fn vectors() -> Vectors {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/objectives.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn objective(text: &str) -> Objective {
    let mut table: toml::Table = text.parse().unwrap();
    let kind = table.remove("kind").unwrap();
    Objective::read(kind.as_str().unwrap(), table).unwrap()
}

/// The batch as `objective` is shown it: as many of the stored successes as it wants.
fn views(objective: &Objective, vectors: &Vectors) -> Vec<GroupView<'static>> {
    let ending = |scores: &Scores| {
        let tokens = scores.current.len();
        let is_cut_off = tokens == vectors.limit as usize;
        Ending { tokens, stop: if is_cut_off { StopReason::Length } else { StopReason::EndOfText } }
    };
    let view = |group: &Group| {
        let wanted = objective.given().map_or(0, |given| given.wanted(&group.rewards));
        GroupView {
            rewards: group.rewards.clone(),
            endings: group.traces.iter().map(ending).collect(),
            stored: group.stored.iter().take(wanted).map(|stored| stored.current.len()).collect(),
            ..GroupView::default()
        }
    };
    vectors.groups.iter().map(view).collect()
}

/// The coefficients of the batch's own traces, and of those that joined, divided by the batch.
fn coefficients(objective: &Objective, vectors: &Vectors, weights: &[GroupWeights]) -> (Vec<Vec<f64>>, Vec<Vec<f64>>) {
    let (mut own, mut stored) = (Vec::new(), Vec::new());
    let scaled = |found: Vec<f64>, scale: f64| found.into_iter().map(|found| found * scale).collect::<Vec<_>>();
    for (group, weights) in vectors.groups.iter().zip(weights) {
        for (scores, weight) in group.traces.iter().zip(&weights.own) {
            let Some(weight) = weight else {
                own.push(vec![0.0; scores.current.len()]);
                continue;
            };
            let view = TraceView {
                advantage: weight.advantage,
                rewards: &weights.rewards,
                current: &scores.current,
                behavior: &scores.behavior,
                entropy: Some(&scores.entropy),
            };
            own.push(scaled(objective.modifiers.coefficients(objective, &view, None), weight.scale));
        }
        for (scores, weight) in group.stored.iter().zip(&weights.stored) {
            let campaign = SuccessCount { successes: group.successes, attempts: group.attempts };
            let (advantage, scale) = weight.map_or((0.0, 0.0), |weight| (weight.advantage, weight.scale));
            let origin = Origin::Stored { behavior: &scores.behavior, campaign };
            let view = GivenView { origin, advantage, current: &scores.current, entropy: None };
            stored.push(scaled(objective.given().unwrap().given_coefficients(&view), scale));
        }
    }
    (own, stored)
}

fn furthest<'a>(found: impl IntoIterator<Item = &'a f64>, expected: impl IntoIterator<Item = &'a f64>) -> f64 {
    let (found, expected): (Vec<_>, Vec<_>) = (found.into_iter().collect(), expected.into_iter().collect());
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).map(|(found, expected)| (*found - expected).abs()).fold(0.0, f64::max)
}

fn as_written(aggregation: Aggregation) -> &'static str {
    match aggregation {
        Aggregation::TokenMean => "token-mean",
        Aggregation::TraceMean => "trace-mean",
        Aggregation::Constant => "constant",
    }
}

#[test]
fn advantages_and_coefficients_are_the_references() {
    let vectors = vectors();
    let mut table = String::new();
    for case in &vectors.cases {
        let Case { name, source, .. } = case;
        let objective = objective(&case.objective);
        let found = weights(&objective, &views(&objective, &vectors), case.aggregation, vectors.limit);
        // A trace that moves nothing has no weight: its advantage is 0, or it is masked.
        let advantages = found.iter().flat_map(|group| &group.own).zip(&case.advantages);
        for (at, (weight, expected)) in advantages.enumerate() {
            let Some(weight) = weight else { continue };
            let apart = (weight.advantage - expected).abs();
            assert!(apart < TOLERANCE, "{name}: trace {at} has {}, expected {expected}", weight.advantage);
        }
        let (own, stored) = coefficients(&objective, &vectors, &found);
        assert_eq!(stored.len(), case.stored_coefficients.len(), "{name}");
        let apart = furthest(own.iter().flatten(), case.coefficients.iter().flatten())
            .max(furthest(stored.iter().flatten(), case.stored_coefficients.iter().flatten()));
        assert!(
            apart < COEFFICIENT_TOLERANCE,
            "{name}: a coefficient is off by {apart}\n{own:?}\n{:?}",
            case.coefficients
        );
        let moved =
            own.iter().chain(&stored).filter(|trace| trace.iter().any(|&c| c.abs() > COEFFICIENT_TOLERANCE)).count();
        writeln!(table, "{moved:>2} traces move: {name}, {} ({source})", as_written(case.aggregation)).unwrap();
    }
    expect![[r#"
         7 traces move: grpo, token-mean (verl; verl's loss `vanilla`)
         7 traces move: grpo, trace-mean (verl; verl's loss `vanilla`)
         7 traces move: grpo, constant (verl; verl's loss `vanilla`)
         8 traces move: dapo, token-mean (verl; verl's loss `vanilla`)
         7 traces move: dr-grpo, constant (verl; verl's loss `vanilla`)
         9 traces move: reinforce, token-mean (verl; verl's loss `gpg`)
         9 traces move: rloo, token-mean (verl; verl's loss `gpg`)
        11 traces move: reinforce++, token-mean (verl; verl's loss `vanilla`)
        12 traces move: reinforce++-baseline, token-mean (verl; verl's loss `vanilla`)
         3 traces move: gspo, trace-mean (verl; verl's loss `gspo`)
         7 traces move: gspo, wide, trace-mean (verl; verl's loss `gspo`)
         9 traces move: gmpo, trace-mean (verl; verl's loss `geo_mean`)
         9 traces move: cispo, token-mean (verl; verl's loss `cispo`)
         9 traces move: cispo, both bounds, token-mean (verl; verl's loss `cispo`)
         9 traces move: tis with grpo, token-mean (verl's correction weights and its loss `vanilla`)
         9 traces move: tis, tight with grpo, token-mean (verl's correction weights and its loss `vanilla`)
         9 traces move: tis, whole trace with grpo, token-mean (verl's correction weights and its loss `vanilla`)
         7 traces move: icepop with grpo, token-mean (verl's correction weights and its loss `vanilla`)
         4 traces move: mis with grpo, token-mean (verl's correction weights and its loss `vanilla`)
         9 traces move: tis with gspo, token-mean (verl's correction weights and its loss `gspo`)
         9 traces move: tis, tight with gspo, token-mean (verl's correction weights and its loss `gspo`)
         9 traces move: tis, whole trace with gspo, token-mean (verl's correction weights and its loss `gspo`)
         7 traces move: icepop with gspo, token-mean (verl's correction weights and its loss `gspo`)
         4 traces move: mis with gspo, token-mean (verl's correction weights and its loss `gspo`)
        10 traces move: dapo, soft penalty, token-mean (TRL's soft overlong punishment; verl; verl's loss `vanilla`)
         7 traces move: dapo, masked, token-mean (verl with a mask of zeros)
         7 traces move: grpo, TRL, trace-mean (TRL's loss; its advantage in a line)
         7 traces move: dr-grpo, TRL, constant (TRL's loss; its advantage in a line)
         8 traces move: dapo, TRL, token-mean (TRL's loss; its advantage in a line)
         9 traces move: cispo, TRL, token-mean (TRL's loss; its advantage in a line)
         7 traces move: gspo, TRL, trace-mean (TRL's loss; its advantage in a line)
        11 traces move: w-reinforce, token-mean (formula; verl's loss `vanilla`)
         5 traces move: psr, token-mean (formula; verl's loss `vanilla`)
         6 traces move: nsr, token-mean (formula; verl's loss `vanilla`)
        12 traces move: asymmetric prompt weighting, linear, token-mean (formula)
        12 traces move: asymmetric prompt weighting, sqrt, token-mean (formula)
        14 traces move: asymmetric prompt weighting, uniform, token-mean (formula)
        14 traces move: noisy verifier, backward, token-mean (formula)
        14 traces move: noisy verifier, forward, token-mean (formula)
         7 traces move: weighted grpo, token-mean (verl and a weight; verl's loss `vanilla`)
        10 traces move: erpo, token-mean (formula; verl's loss `vanilla`)
        11 traces move: rl-zvp, token-mean (formula; verl's loss `vanilla`)
        13 traces move: rlep, token-mean (formula)
        14 traces move: luffy, constant (formula)
        10 traces move: importance-weighted, token, rate, token-mean (formula)
        10 traces move: importance-weighted, token, unbiased, token-mean (formula)
        10 traces move: importance-weighted, trace, rate, token-mean (formula)
        10 traces move: importance-weighted, trace, unbiased, token-mean (formula)
    "#]]
    .assert_eq(&table);
}

#[test]
fn distances_from_a_reference_are_verls() {
    for case in vectors().kl {
        let estimator = match case.estimator.as_str() {
            "k1" => kl::Estimator::K1,
            "k2" => kl::Estimator::K2,
            _ => kl::Estimator::K3,
        };
        let tokens = || case.current.iter().zip(&case.reference);
        let values: Vec<f64> = tokens().map(|(&c, &r)| kl::value(estimator, c, r)).collect();
        let derivatives: Vec<f64> = tokens().map(|(&c, &r)| kl::coefficient(estimator, c, r)).collect();
        assert!(furthest(&values, &case.value) < TOLERANCE, "{estimator:?}: {values:?}");
        assert!(furthest(&derivatives, &case.derivative) < TOLERANCE, "{estimator:?}: {derivatives:?}");
    }
}

/// What each estimator does where a group says nothing. A
/// dot is no weight at all; RL-ZVP's are marks, since its advantages are a token's own.
#[test]
fn edge_cases() {
    let rows = [
        ("GRPO", "kind = \"grpo\""),
        ("Dr. GRPO", "kind = \"grpo\"\ndeviation = \"none\""),
        ("RLOO", "kind = \"rloo\""),
        ("REINFORCE++, beside a group with one success", "kind = \"reinforce-plus-plus\""),
        ("DAPO, masked", "kind = \"grpo\"\noverlong = {kind = \"mask\"}"),
        ("DAPO, soft penalty", "kind = \"grpo\"\noverlong = {kind = \"penalty\", tail = 2}"),
        ("RL-ZVP", "kind = \"rl-zvp\""),
        ("W-REINFORCE", "kind = \"w-reinforce\""),
        ("Linear-R", "kind = \"asymmetric-prompt-weighting\""),
        ("Sqrt-R", "kind = \"asymmetric-prompt-weighting\"\nweighting = \"sqrt\""),
        ("PrefixRL", "kind = \"reinforce\""),
        ("ERPO", "kind = \"erpo\""),
    ];
    // The last of each group is cut off.
    let group = |rewards: &[f64]| {
        let last = rewards.len() - 1;
        let ending = |at| match at == last {
            true => Ending { tokens: 4, stop: StopReason::Length },
            false => Ending { tokens: 2, stop: StopReason::EndOfText },
        };
        GroupView {
            rewards: rewards.to_vec(),
            endings: (0..rewards.len()).map(ending).collect(),
            ..GroupView::default()
        }
    };
    let mut table = "all correct | all wrong | one correct | one wrong\n".to_owned();
    for (name, text) in rows {
        let objective = objective(text);
        let cells = [&[1.0; 3][..], &[0.0; 3], &[1.0], &[0.0]].map(|rewards| {
            let mut batch = vec![group(rewards)];
            if name.contains("beside") {
                batch.push(group(&[1.0, 0.0]));
            }
            let found = weights(&objective, &batch, Aggregation::TokenMean, 4);
            let shown =
                |weight: &Option<Weight>| weight.map_or(".".to_owned(), |weight| format!("{:.3}", weight.advantage));
            found[0].own.iter().map(shown).collect::<Vec<_>>().join(" ")
        });
        writeln!(table, "{} | {name}", cells.join(" | ")).unwrap();
    }
    expect![[r#"
        all correct | all wrong | one correct | one wrong
        . . . | . . . | . | . | GRPO
        . . . | . . . | . | . | Dr. GRPO
        . . . | . . . | . | . | RLOO
        0.609 0.609 0.609 | -0.393 -0.393 -0.393 | 0.775 | -0.474 | REINFORCE++, beside a group with one success
        . . . | . . . | . | . | DAPO, masked
        0.577 0.577 -1.155 | 0.577 0.577 -1.155 | . | . | DAPO, soft penalty
        0.100 0.100 0.100 | -0.100 -0.100 -0.100 | 0.100 | -0.100 | RL-ZVP
        0.100 0.100 0.100 | -1.000 -1.000 -1.000 | 0.100 | -1.000 | W-REINFORCE
        . . . | -1.000 -1.000 -1.000 | . | -1.000 | Linear-R
        . . . | -1.000 -1.000 -1.000 | . | -1.000 | Sqrt-R
        . . . | . . . | . | . | PrefixRL
        0.500 0.500 0.500 | . . . | 0.707 | . | ERPO
    "#]]
    .assert_eq(&table);
}

/// Numbers worked out apart from this code.
#[test]
fn numeric_anchors() {
    let estimators = [
        "kind = \"grpo\"",
        "kind = \"grpo\"\ndeviation = \"population\"",
        "kind = \"rloo\"",
        "kind = \"grpo\"\ndeviation = \"none\"",
        "kind = \"asymmetric-prompt-weighting\"",
        "kind = \"asymmetric-prompt-weighting\"\nweighting = \"sqrt\"",
    ];
    type Row = (usize, usize, [(f64, f64); 6]);
    #[rustfmt::skip]
    let rows: [Row; 6] = [
        (8, 1, [(2.474867, -0.353552), (2.645743, -0.377963), (1.0, -0.142857), (0.875, -0.125), (7.0, -1.0), (7.483315, -1.069045)]),
        (8, 2, [(1.620182, -0.540061), (1.732047, -0.577349), (0.857143, -0.285714), (0.75, -0.25), (3.0, -1.0), (3.464102, -1.154701)]),
        (8, 4, [(0.935413, -0.935413), (0.999998, -0.999998), (0.571429, -0.571429), (0.5, -0.5), (1.0, -1.0), (std::f64::consts::SQRT_2, -std::f64::consts::SQRT_2)]),
        (8, 7, [(0.353552, -2.474867), (0.377963, -2.645743), (0.142857, -1.0), (0.125, -0.875), (0.142857, -1.0), (0.404061, -2.828427)]),
        (16, 1, [(3.749985, -0.249999), (3.872967, -0.258198), (1.0, -0.066667), (0.9375, -0.0625), (15.0, -1.0), (15.491933, -1.032796)]),
        (16, 15, [(0.249999, -3.749985), (0.258198, -3.872967), (0.066667, -1.0), (0.0625, -0.9375), (0.066667, -1.0), (0.266667, -4.0)]),
    ];
    for (size, successes, expected) in rows {
        let rewards: Vec<f64> = (0..size).map(|at| f64::from(u8::from(at < successes))).collect();
        for (text, (success, failure)) in estimators.into_iter().zip(expected) {
            let found = objective(text).advantages(&rewards);
            let apart = (found[0] - success).abs().max((found[size - 1] - failure).abs());
            assert!(apart < 1e-6, "{successes} of {size}, {text}: {found:?}");
        }
    }
}
