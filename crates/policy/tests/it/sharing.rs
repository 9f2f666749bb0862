//! What is computed once for several traces is what each alone would have got: tries of every form.

use toehold_policy::{Activations, Dtype, ModelConfig, Policy, PolicyOptions, Sharing};
use toehold_rollout::{Learner, Scorer, TokenScores, Trace};

use crate::{numbers, options, plain, random, request, sample, small, tokens, trace};

/// A model whose heads are no whole vectors, with one head, or like common ones.
fn shapes() -> Vec<ModelConfig> {
    let shape = |heads: usize, groups: usize, dim: usize| {
        let mut config = ModelConfig::new(41, 24, 2, heads, groups, 36);
        config.head_dim = dim;
        config.initializer_range = 0.3;
        config.max_position_embeddings = 400;
        config
    };
    vec![long(true), long(false), shape(1, 1, 2), shape(6, 2, 32), shape(4, 4, 18)]
}

/// The small model with room for the longest trace here.
fn long(tied: bool) -> ModelConfig {
    ModelConfig { max_position_embeddings: 400, ..small(tied) }
}

/// A family of traces, by name.
fn forests(vocabulary: usize) -> Vec<(&'static str, Vec<Trace>)> {
    let long = tokens(300, 1, vocabulary);
    let cut = |end: usize, own: u64, count: usize| trace(&long[..3], &long[3..end], &tokens(count, own, vocabulary));
    let random = (0..30u64).map(|i| {
        let draw = numbers(4, 90 + i);
        // Few tokens and short pieces, so that beginnings meet at every depth.
        let given = tokens(1 + (draw[0] % 6) as usize, draw[1] % 5, 2);
        trace(&given[..1], &given[1..], &tokens(1 + (draw[2] % 4) as usize, draw[3], 3))
    });
    vec![
        ("one trace", vec![cut(20, 5, 9)]),
        ("a group", (0..8).map(|i| cut(70, 10 + i, 5 + i as usize)).collect()),
        (
            "groups of one",
            (0..5).map(|i| trace(&tokens(4, i, vocabulary), &[], &tokens(6, 50 + i, vocabulary))).collect(),
        ),
        ("nested cuts", (0..6).map(|i| cut(3 + 40 * i as usize, 20 + i, 7)).collect()),
        ("block edges", [63, 64, 65, 127, 128, 129].iter().map(|&end| cut(end, end as u64, 66)).collect()),
        ("completions of one token", (0..9).map(|i| cut(30, i, 1)).collect()),
        ("the same trace", (0..4).map(|_| cut(12, 1, 5)).collect()),
        ("a completion that goes on like another's prefix", vec![cut(40, 1, 3), trace(&long[..3], &[], &long[3..60])]),
        ("a little of everything", random.collect()),
    ]
}

fn coefficients(index: usize, scores: &TokenScores) -> Vec<f32> {
    (0..scores.current.len()).map(|t| ((index * 5 + t * 3) % 7) as f32 * 0.3 - 0.8).collect()
}

fn learnt(config: &ModelConfig, options: PolicyOptions, traces: &[&Trace]) -> (Vec<TokenScores>, Vec<Vec<f32>>) {
    let mut policy = Policy::random(config, 5, options).unwrap();
    let mut seen = vec![TokenScores::default(); traces.len()];
    let mut watch = |index: usize, scores: &TokenScores| {
        seen[index] = scores.clone();
        coefficients(index, scores)
    };
    policy.accumulate(traces, &mut watch).unwrap();
    (seen, policy.gradient().to_vec())
}

/// The largest difference, relative to the largest number of each list.
fn difference(found: &[Vec<f32>], expected: &[Vec<f32>]) -> f32 {
    let one = |(found, expected): (&Vec<f32>, &Vec<f32>)| {
        assert_eq!(found.len(), expected.len());
        let largest = expected.iter().fold(1e-20f32, |largest, value| largest.max(value.abs()));
        found.iter().zip(expected).fold(0f32, |worst, (a, b)| worst.max((a - b).abs())) / largest
    };
    found.iter().zip(expected).map(one).fold(0.0, f32::max)
}

#[test]
fn shared_equals_separate_in_every_score_and_every_gradient() {
    for config in shapes() {
        for (name, traces) in forests(config.vocab_size) {
            let traces: Vec<&Trace> = traces.iter().collect();
            let with = |sharing, micro_batch_tokens| {
                learnt(&config, PolicyOptions { sharing, micro_batch_tokens, ..options(2) }, &traces)
            };
            let (expected_scores, expected) = with(Sharing::Separate, 2048);
            for rows in [1, 40, 2048] {
                let (scores, gradient) = with(Sharing::Shared, rows);
                let currents = |scores: &[TokenScores]| scores.iter().map(|s| s.current.clone()).collect::<Vec<_>>();
                let entropies = |scores: &[TokenScores]| {
                    scores.iter().map(|s| s.entropy.clone().unwrap_or_default()).collect::<Vec<_>>()
                };
                let worst = [
                    difference(&currents(&scores), &currents(&expected_scores)),
                    difference(&entropies(&scores), &entropies(&expected_scores)),
                    difference(&gradient, &expected),
                ];
                assert!(worst.iter().all(|&worst| worst < 1e-5), "{name}, {rows} rows: off by {worst:?}");
            }
        }
    }
}

#[test]
fn what_is_recomputed_is_the_same_to_the_bit() {
    let config = long(true);
    for (name, traces) in forests(config.vocab_size) {
        let traces: Vec<&Trace> = traces.iter().collect();
        let with = |activations| learnt(&config, PolicyOptions { activations, ..options(2) }, &traces);
        assert!(with(Activations::Kept) == with(Activations::Recomputed), "{name}");
    }
}

#[test]
fn a_budget_of_memory_only_cuts_micro_batches_smaller() {
    let config = long(true);
    for (name, traces) in forests(config.vocab_size) {
        let traces: Vec<&Trace> = traces.iter().collect();
        let with = |activation_bytes| learnt(&config, PolicyOptions { activation_bytes, ..options(2) }, &traces).1;
        let worst = difference(&with(0), &with(u64::MAX));
        assert!(worst < 1e-5, "{name}: off by {worst}");
    }
}

#[test]
fn scoring_gives_what_learning_shows() {
    let mut policy = random(&long(true), 2);
    for (name, traces) in forests(37) {
        let traces: Vec<&Trace> = traces.iter().collect();
        let scored = policy.score(&traces).unwrap();
        let (shown, _) = learnt(policy.config(), options(1), &traces);
        assert_eq!(scored, shown, "{name}");
    }
}

/// In bf16 a sum that differs in its last bits may be rounded the other way before the next product: 2⁻⁸ of
/// a number, here and there. Against f32 every number is.
#[test]
fn in_bf16_sharing_and_rounding_stay_within_their_bounds() {
    for config in [long(true), shapes().remove(3)] {
        for (name, traces) in forests(config.vocab_size) {
            let traces: Vec<&Trace> = traces.iter().collect();
            let with = |dtype, sharing| learnt(&config, PolicyOptions { dtype, sharing, ..options(2) }, &traces);
            let (scores, gradient) = with(Dtype::Bf16, Sharing::Shared);
            let currents = |scores: &[TokenScores]| scores.iter().map(|s| s.current.clone()).collect::<Vec<_>>();
            let against = |(other_scores, other): (Vec<TokenScores>, Vec<Vec<f32>>)| {
                (difference(&currents(&scores), &currents(&other_scores)), overall(&gradient, &other))
            };
            let separate = against(with(Dtype::Bf16, Sharing::Separate));
            assert!(separate.0 < 0.01 && separate.1 < 0.01, "{name}: separate is off by {separate:?}");
            let f32 = against(with(Dtype::F32, Sharing::Shared));
            assert!(f32.0 < 0.03 && f32.1 < 0.05, "{name}: f32 is off by {f32:?}");
            assert!(f32.1 > 1e-4, "{name}: bf16 is computed in bf16");
        }
    }
}

/// The length of the difference of two gradients, relative to that of the second.
fn overall(found: &[Vec<f32>], expected: &[Vec<f32>]) -> f32 {
    let length = |squares: f64| squares.sqrt() as f32;
    let pairs = || found.iter().flatten().zip(expected.iter().flatten());
    let difference = length(pairs().map(|(a, b)| f64::from(a - b).powi(2)).sum());
    difference / length(pairs().map(|(_, b)| f64::from(*b).powi(2)).sum()).max(1e-20)
}

#[test]
fn a_fresh_samples_ratio_is_one() {
    for (dtype, bound) in [(Dtype::F32, 1e-4), (Dtype::Bf16, 0.05)] {
        let config = long(true);
        let mut policy = Policy::random(&config, 5, PolicyOptions { dtype, ..options(2) }).unwrap();
        for (name, traces) in forests(config.vocab_size) {
            let requests: Vec<_> =
                (0..).zip(&traces).map(|(seed, t)| request(&t.prompt, &t.prefix, plain(40), seed)).collect();
            let sampled: Vec<Trace> = (traces.iter().zip(sample(&mut policy, &requests)))
                .map(|(trace, completion)| Trace { completion, ..trace.clone() })
                .collect();
            let scores = policy.score(&sampled.iter().collect::<Vec<_>>()).unwrap();
            for (trace, scores) in sampled.iter().zip(scores) {
                for (current, behavior) in scores.current.iter().zip(&trace.completion.behavior) {
                    let ratio = (current - behavior).exp();
                    assert!((ratio - 1.0).abs() < bound, "{name}, {dtype:?}: the ratio is {ratio}");
                }
            }
        }
    }
}
