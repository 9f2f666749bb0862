//! Gradients against finite differences, the two implementations against each other, and steps.

use expect_test::expect;
use toehold_policy::{Implementation, Policy, PolicyOptions, Weights};
use toehold_rollout::{LearnError, Learner, Sampler, Scorer, TokenScores, Trace};

use crate::{IMPLEMENTATIONS, options, random, small, tokens, trace};

fn traces(count: u64) -> Vec<Trace> {
    (0..count)
        .map(|i| {
            let prompt = tokens(1 + (i % 4) as usize, i + 10, 37);
            let prefix = tokens((i % 3) as usize * 2, i + 20, 37);
            trace(&prompt, &prefix, &tokens(1 + (i * 5 % 9) as usize, i + 30, 37))
        })
        .collect()
}

/// Coefficients that differ from token to token.
pub(crate) fn coefficients(index: usize, scores: &TokenScores) -> Vec<f32> {
    (0..scores.current.len()).map(|t| ((index * 3 + t * 5) % 7) as f32 * 0.3 - 0.8).collect()
}

/// `Σ coefficient · log π` of all completion tokens.
pub(crate) fn loss(policy: &mut Policy, traces: &[&Trace]) -> f64 {
    let scores = policy.score(traces).unwrap();
    let one = |(index, scores): (usize, &TokenScores)| {
        let terms = coefficients(index, scores).into_iter().zip(&scores.current);
        terms.map(|(coefficient, &current)| f64::from(coefficient) * f64::from(current)).sum::<f64>()
    };
    scores.iter().enumerate().map(one).sum()
}

/// Central differences of the whole loss in `f32` forward passes, along a direction per parameter: its
/// own gradient, where the signal is largest, and a fixed pattern, where an error cannot hide.
#[test]
fn every_parameters_gradient_is_its_finite_difference() {
    for tied in [false, true] {
        let policy = random(&small(tied), 2);
        let traces = traces(5);
        let traces: Vec<&Trace> = traces.iter().collect();
        let mut learner = policy.fork();
        learner.accumulate(&traces, &mut coefficients).unwrap();
        let gradient = learner.gradient().to_vec();
        for (i, gradient) in gradient.iter().enumerate() {
            let pattern: Vec<f32> = (0..gradient.len()).map(|j| [1.0, -1.0, 0.5][j % 3]).collect();
            for direction in [gradient, &pattern] {
                let length = direction.iter().map(|d| d * d).sum::<f32>().sqrt();
                let size = 3e-3;
                let moved = |sign: f32| {
                    let mut weights = policy.weights().clone();
                    for (value, d) in weights.tensors[i].values.iter_mut().zip(direction) {
                        *value += sign * size * d / length;
                    }
                    with_weights(&policy, &weights, &traces)
                };
                let found = (moved(1.0) - moved(-1.0)) / (2.0 * f64::from(size));
                let slope: f64 =
                    gradient.iter().zip(direction).map(|(g, d)| f64::from(*g) * f64::from(*d / length)).sum();
                let scale = gradient.iter().map(|g| g * g).sum::<f32>().sqrt();
                let name = &policy.weights().tensors[i].name;
                assert!(
                    (found - slope).abs() < 2e-3 + 5e-3 * f64::from(scale),
                    "{name}: the difference is {found}, the gradient gives {slope} (norm {scale})"
                );
            }
        }
    }
}

/// The loss of a policy with other weights, by way of a folder.
fn with_weights(policy: &Policy, weights: &Weights, traces: &[&Trace]) -> f64 {
    let dir = tempfile::tempdir().unwrap();
    policy.save_folder(dir.path()).unwrap();
    let views = weights.tensors.iter().map(|tensor| {
        let bytes: Vec<u8> = tensor.values.iter().flat_map(|value| value.to_le_bytes()).collect();
        (tensor.name.clone(), tensor.shape.clone(), bytes)
    });
    crate::checkpoint::write(&dir.path().join("model.safetensors"), views);
    loss(&mut Policy::open(dir.path(), options(1)).unwrap(), traces)
}

/// A policy that learns by this implementation.
fn learner(tied: bool, implementation: Implementation) -> Policy {
    Policy::random(&small(tied), 5, PolicyOptions { implementation, ..options(2) }).unwrap()
}

#[test]
fn both_implementations_give_the_same_scores() {
    for (tied, implementation) in [false, true].into_iter().flat_map(|tied| IMPLEMENTATIONS.map(|i| (tied, i))) {
        let mut policy = learner(tied, implementation);
        let traces = traces(40);
        let traces: Vec<&Trace> = traces.iter().collect();
        let expected = policy.score(&traces).unwrap();
        let mut seen = vec![false; traces.len()];
        let mut check = |index: usize, scores: &TokenScores| {
            assert!(!std::mem::replace(&mut seen[index], true), "asked once per trace");
            let entropies = |scores: &TokenScores| scores.entropy.clone().unwrap();
            let pairs = scores.current.iter().zip(&expected[index].current);
            for (a, b) in pairs.chain(entropies(scores).iter().zip(&entropies(&expected[index]))) {
                assert!((a - b).abs() < 1e-5, "trace {index}: {a} learning, {b} scoring");
            }
            vec![0.0; scores.current.len()]
        };
        policy.accumulate(&traces, &mut check).unwrap();
        assert!(seen.iter().all(|seen| *seen));
        assert!(policy.gradient().iter().flatten().all(|&g| g == 0.0), "all zeros skip the way back");
    }
}

#[test]
fn both_implementations_give_the_same_gradients() {
    for tied in [false, true] {
        let traces = traces(40);
        let traces: Vec<&Trace> = traces.iter().collect();
        let [host, graph] = IMPLEMENTATIONS.map(|implementation| {
            let mut policy = learner(tied, implementation);
            policy.accumulate(&traces, &mut coefficients).unwrap();
            policy
        });
        for (i, tensor) in host.weights().tensors.iter().enumerate() {
            let (a, b) = (&host.gradient()[i], &graph.gradient()[i]);
            let largest = b.iter().fold(0f32, |largest, value| largest.max(value.abs()));
            for (a, b) in a.iter().zip(b) {
                assert!((a - b).abs() < 2e-5 * largest, "{}: {a} on the host, {b} in the graph", tensor.name);
            }
        }
    }
}

#[test]
fn neither_threads_nor_runs_change_a_bit_and_micro_batches_change_only_rounding() {
    let config = small(true);
    let traces = traces(30);
    let traces: Vec<&Trace> = traces.iter().collect();
    for implementation in IMPLEMENTATIONS {
        let gradient = |threads: usize, micro_batch_tokens: usize| {
            let options = PolicyOptions { micro_batch_tokens, implementation, ..options(threads) };
            let mut policy = Policy::random(&config, 5, options).unwrap();
            policy.accumulate(&traces, &mut coefficients).unwrap();
            policy.gradient().to_vec()
        };
        let expected = gradient(1, 64);
        assert_eq!(gradient(1, 64), expected);
        assert_eq!(gradient(2, 64), expected);
        assert_eq!(gradient(3, 64), expected);
        for (a, b) in gradient(2, 100_000).iter().flatten().zip(expected.iter().flatten()) {
            assert!((a - b).abs() < 1e-3 * b.abs() + 1e-4, "{a}, expected {b}");
        }
    }
}

#[test]
fn steps_descend_and_publish_hands_over() {
    let mut policy = random(&small(false), 2);
    let traces = traces(10);
    let traces: Vec<&Trace> = traces.iter().collect();
    let imitate = &mut |_: usize, scores: &TokenScores| vec![-0.02; scores.current.len()];
    let mean = |policy: &mut Policy| {
        let scores = policy.score(&traces).unwrap();
        let all: Vec<f32> = scores.into_iter().flat_map(|scores| scores.current).collect();
        all.iter().sum::<f32>() / all.len() as f32
    };
    let (before, version) = (mean(&mut policy), policy.version());
    for _ in 0..60 {
        policy.accumulate(&traces, imitate).unwrap();
        let stats = policy.step(1e-2).unwrap();
        let moments = stats.moments.unwrap();
        assert!(stats.gradient_norm > 0.0 && moments.norm > 0.0 && moments.deviation >= 0.0);
        assert!(policy.gradient().iter().flatten().all(|&g| g == 0.0));
    }
    let after = mean(&mut policy);
    assert!(after > -0.2 && before < -3.0, "mean log-probability {before}, then {after}");
    assert_eq!(policy.version(), version, "the sampler's weights change when they are published");
    let published = policy.publish().unwrap();
    assert!(published != version && published == policy.version() && published == policy.weights().version());
}

/// Adam's first step, by hand: moments corrected for the start are the gradient and its square, so every
/// weight moves by the rate against the sign of its gradient.
#[test]
fn the_first_step_moves_every_weight_by_the_rate() {
    let mut policy = random(&small(false), 1);
    let traces = traces(5);
    policy.accumulate(&traces.iter().collect::<Vec<_>>(), &mut coefficients).unwrap();
    let (before, gradient) = (policy.weights().clone(), policy.gradient().to_vec());
    let norm = gradient.iter().flatten().map(|&g| f64::from(g) * f64::from(g)).sum::<f64>().sqrt();
    let stats = policy.step(1e-3).unwrap();
    assert!((stats.gradient_norm - norm).abs() < 1e-9 && stats.clipped);
    let moments = stats.moments.unwrap();
    assert!((moments.norm - 0.1 * norm).abs() < 1e-5 * norm, "m is a tenth of the gradient");
    assert!((moments.deviation - 0.3 * norm).abs() < 1e-4 * norm, "√(0.1 − 0.01) of it deviates");
    for (i, gradient) in gradient.iter().enumerate() {
        let pairs = before.tensors[i].values.iter().zip(&policy.weights().tensors[i].values);
        for ((&before, &after), &g) in pairs.zip(gradient) {
            // Where the gradient is not far above epsilon the step is smaller.
            if g.abs() as f64 / norm > 1e-5 {
                let moved = before - after;
                assert!((moved - 1e-3 * g.signum()).abs() < 3e-6, "moved {moved} for gradient {g}");
            }
        }
    }
}

#[test]
fn a_gradient_that_is_not_finite_changes_nothing() {
    let mut policy = random(&small(false), 1);
    let traces = traces(3);
    let traces: Vec<&Trace> = traces.iter().collect();
    let version = policy.weights().version();
    policy.accumulate(&traces, &mut |_, scores| vec![f32::NAN; scores.current.len()]).unwrap();
    expect![[r#"
        the gradient is not finite (norm NaN)
        hint: lower the learning rate, or look for a non-finite reward"#]]
    .assert_eq(&policy.step(1e-3).unwrap_err().to_string());
    assert_eq!(policy.weights().version(), version);
    policy.accumulate(&traces, &mut coefficients).unwrap();
    policy.step(1e-3).unwrap();
    assert_ne!(policy.weights().version(), version);
}

#[test]
fn saved_and_restored_to_the_same_bits_and_the_next_step_is_equal() {
    let dir = tempfile::tempdir().unwrap();
    let traces = traces(6);
    let traces: Vec<&Trace> = traces.iter().collect();
    let mut first = random(&small(true), 2);
    let steps = |policy: &mut Policy, count: usize| {
        let mut stats = None;
        for _ in 0..count {
            policy.accumulate(&traces, &mut coefficients).unwrap();
            stats = Some(policy.step(1e-3).unwrap());
        }
        stats
    };
    steps(&mut first, 3);
    first.save(dir.path()).unwrap();
    let mut second = Policy::random(&small(true), 77, options(1)).unwrap();
    second.restore(dir.path()).unwrap();
    assert_eq!(second.weights(), first.weights());
    assert_eq!(second.version(), first.weights().version());
    assert_eq!(steps(&mut second, 1), steps(&mut first, 1));
    assert_eq!(second.weights(), first.weights());

    // A folder of another shape leaves the learner as it is.
    let mut other = random(&small(false), 1);
    let version = other.weights().version();
    assert!(matches!(other.restore(dir.path()), Err(LearnError::Checkpoint { .. })));
    assert_eq!(other.weights().version(), version);
}

#[test]
fn what_cannot_be_learnt_from_is_refused() {
    let check = |trace: &Trace, count: usize, expected: expect_test::Expect| {
        let mut policy = random(&small(false), 1);
        let good = traces(1).remove(0);
        let error = policy.accumulate(&[&good, trace], &mut |index, scores| {
            vec![1.0; if index == 1 { count } else { scores.current.len() }]
        });
        expected.assert_eq(&error.unwrap_err().to_string());
        assert!(policy.gradient().iter().flatten().all(|&g| g == 0.0));
    };
    check(&trace(&[], &[], &[1]), 1, expect!["trace 1: the prompt is empty"]);
    check(&trace(&[1], &[99], &[1]), 1, expect!["trace 1: token 99 is outside the vocabulary of 37 tokens"]);
    check(&trace(&[1; 150], &[2; 50], &[1]), 1, expect!["trace 1 has 201 tokens, but the policy has 200 positions"]);
    check(&trace(&[1], &[2], &[1, 2, 3]), 2, expect!["trace 1 has 3 completion tokens, but 2 coefficients were given"]);
}

#[test]
fn an_empty_completion_is_no_trouble() {
    for implementation in IMPLEMENTATIONS {
        let mut policy = learner(false, implementation);
        let traces = [trace(&[1], &[], &[]), trace(&[1, 2, 3], &[4], &[]), trace(&[2], &[], &[3])];
        let mut asked = Vec::new();
        for count in [1, 2, 3] {
            let traces: Vec<&Trace> = traces[..count].iter().collect();
            assert_eq!(policy.score(&traces).unwrap().len(), count);
            policy
                .accumulate(&traces, &mut |index, scores| {
                    asked.push(index);
                    vec![1.0; scores.current.len()]
                })
                .unwrap();
        }
        asked.sort_unstable();
        assert_eq!(asked, [0, 0, 0, 1, 1, 2]);
    }
}
