//! What policies have in common in memory.

use std::sync::Arc;

use toehold_rollout::{Completion, Learner, PolicyVersion, StopReason, Trace};

use super::Policy;
use crate::{Adapter, Lora, ModelConfig, PolicyOptions, Scaling, Target};

fn learn(policy: &mut Policy) {
    let completion = Completion { tokens: vec![3, 4, 5], behavior: vec![0.0; 3], stop: StopReason::Length };
    let sampled_by = PolicyVersion { weights: String::new() };
    let trace = Trace { prompt: vec![1, 2], prefix: Vec::new(), completion, sampled_by };
    policy.accumulate(&[&trace], &mut |_, scores| vec![-1.0; scores.current.len()]).unwrap();
    policy.step(1e-2).unwrap();
    policy.publish().unwrap();
}

fn base() -> Policy {
    let options = PolicyOptions { threads: Some(1), ..PolicyOptions::default() };
    Policy::random(&ModelConfig::new(20, 16, 2, 2, 1, 24), 1, options).unwrap()
}

/// Recipes on one model hold its weights, their packed copies and those for the way back once.
#[test]
fn adapters_share_what_they_stand_beside() {
    let base = base();
    let adapted = |seed| {
        let lora = Lora { rank: 2, alpha: 4.0, targets: Target::ALL.to_vec(), scaling: Scaling::ByRank };
        let adapter = Adapter::random(&base.config, lora, seed).unwrap();
        base.fork().with_adapter(adapter).unwrap()
    };
    let (mut first, mut second) = (adapted(1), adapted(2));
    learn(&mut first);
    learn(&mut second);
    let mut third = first.fork();
    learn(&mut third);
    assert_ne!(first.version, second.version);
    assert_ne!(first.version, third.version);
    for other in [&second, &third] {
        assert!(Arc::ptr_eq(&first.weights, &other.weights));
        assert!(first.published.shares_with(&other.published));
    }
    let transposed = |policy: &Policy| policy.adapted.as_ref().unwrap().base.transposed.get().cloned().unwrap();
    assert!(Arc::ptr_eq(&transposed(&first), &transposed(&third)));
}

/// A fork is free until one of the two learns, and then neither sees the other.
#[test]
fn forks_share_weights_until_one_changes_them() {
    let base = base();
    let before = base.weights().clone();
    let mut fork = base.fork();
    assert!(Arc::ptr_eq(&base.weights, &fork.weights) && Arc::ptr_eq(&base.published, &fork.published));
    learn(&mut fork);
    assert_eq!(*base.weights(), before);
    assert_ne!(*fork.weights(), before);
    assert_ne!(base.version, fork.version);
}
