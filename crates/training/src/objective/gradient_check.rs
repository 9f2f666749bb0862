//! Coefficients against finite differences, for the objectives' own tests.

use super::Weigh;
use super::given::{Given, GivenView, Origin};

/// Compares `coefficients` with the central difference of `loss` in each token's `current`.
#[track_caller]
pub(crate) fn check(
    objective: &dyn Weigh,
    loss: impl Fn(f64, f64, f64) -> f64,
    advantage: f64,
    current: &[f32],
    behavior: &[f32],
) {
    const STEP: f64 = 1e-5;
    let found = objective.coefficients(advantage, current, behavior);
    assert_eq!(found.len(), current.len());
    for (token, &coefficient) in found.iter().enumerate() {
        let (at, from) = (f64::from(current[token]), f64::from(behavior[token]));
        let expected = (loss(advantage, at + STEP, from) - loss(advantage, at - STEP, from)) / (2.0 * STEP);
        assert!(
            (coefficient - expected).abs() < 1e-6,
            "token {token}: coefficient {coefficient}, finite difference {expected}"
        );
    }
}

/// `−min(ρ A, clamp(ρ, 1 − low, 1 + high) A)` of one token: the loss that [`super::grpo`] and all that
/// take its coefficient are derived from.
pub(crate) fn clipped(low: f64, high: f64) -> impl Fn(f64, f64, f64) -> f64 {
    move |advantage, current, behavior| {
        let ratio = (current - behavior).exp();
        -(ratio * advantage).min(ratio.clamp(1.0 - low, 1.0 + high) * advantage)
    }
}

/// `−A log π` of one token.
pub(crate) fn linear(advantage: f64, current: f64, _behavior: f64) -> f64 {
    -advantage * current
}

/// The same for objectives in which a trace's tokens act on each other, with `loss` that of the
/// whole trace, before its mean over traces. Their coefficients are `|completion|` times its
/// derivative, because the mean over each trace's tokens (`aggregation = "trace-mean"`) divides by
/// that.
#[track_caller]
pub(crate) fn check_trace(
    objective: &dyn Weigh,
    loss: impl Fn(f64, &[f64], &[f64]) -> f64,
    advantage: f64,
    current: &[f32],
    behavior: &[f32],
) {
    const STEP: f64 = 1e-5;
    let found = objective.coefficients(advantage, current, behavior);
    assert_eq!(found.len(), current.len());
    let wide = |scores: &[f32]| scores.iter().map(|&score| f64::from(score)).collect::<Vec<f64>>();
    let (at, from) = (wide(current), wide(behavior));
    for (token, &coefficient) in found.iter().enumerate() {
        let moved = |step: f64| {
            let mut at = at.clone();
            at[token] += step;
            loss(advantage, &at, &from)
        };
        let expected = at.len() as f64 * (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
        assert!(
            (coefficient - expected).abs() < 1e-6,
            "token {token}: coefficient {coefficient}, finite difference {expected}"
        );
    }
}

/// Compares the coefficients of given tokens with the central difference of `loss(token, current)`.
#[track_caller]
pub(crate) fn check_given(
    objective: &dyn Given,
    loss: impl Fn(usize, f64) -> f64,
    origin: Origin<'_>,
    advantage: f64,
    current: &[f32],
) {
    const STEP: f64 = 1e-5;
    let found = objective.given_coefficients(&GivenView { origin, advantage, current, entropy: None });
    assert_eq!(found.len(), current.len());
    for (token, (coefficient, &at)) in found.into_iter().zip(current).enumerate() {
        let at = f64::from(at);
        let expected = (loss(token, at + STEP) - loss(token, at - STEP)) / (2.0 * STEP);
        assert!(
            (coefficient - expected).abs() < 1e-6,
            "token {token}: coefficient {coefficient}, finite difference {expected}"
        );
    }
}
