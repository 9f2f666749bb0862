//! How much each sampled token counts.
//!
//! An objective touches the parameters only through the log-probabilities of completion tokens, so
//! its whole effect is one number per token, the coefficient `∂loss/∂log π`. It is worked out in
//! three steps, each a plain function on slices:
//!
//! 1. rewards of a group → advantages of its traces ([`Weigh::advantages`]), which a few objectives then
//!    normalise over the whole batch ([`Weigh::normalise_batch`]);
//! 2. advantage, `current` and `behavior` of a trace → coefficients ([`Weigh::coefficients`]); a few
//!    objectives look at more of the trace ([`Weigh::coefficients_of`]);
//! 3. division by a count of the whole batch ([`aggregate`]), which happens nowhere else.
//!
//! Invariants: prompt and prefix never appear, so they cannot be trained on; a trace whose advantage
//! is zero has only zero coefficients, so it may be skipped; a group is of one start and one policy
//! version, so no group's baseline mixes start states. An objective that does mix them, over the batch,
//! says so in its file: `reinforce_plus_plus` and one reading of `weighted_grpo`.
//!
//! Nothing here sees why a completion ended: one that was cut off counts by its reward like any other,
//! and what an objective's paper does with it (masking, a penalty by length) is a departure.
//!
//! A new objective is its file and its line in the table below.

pub mod advantage;
pub mod aggregate;

use serde::{Deserialize, Serialize};

use crate::recipe::{Listing, Method, RecipeError};

/// What every objective answers.
pub trait Weigh {
    /// The advantage of each trace of one group, given the group's rewards; as long as `rewards`.
    fn advantages(&self, rewards: &[f64]) -> Vec<f64>;

    /// `∂loss/∂log π` of each completion token of one trace, before aggregation; as long as
    /// `current`. `current` is at temperature 1, `behavior` at the sampling temperature; slices of
    /// different lengths are read up to the shorter one.
    fn coefficients(&self, advantage: f64, current: &[f32], behavior: &[f32]) -> Vec<f64>;

    /// Normalises the advantages of a whole batch, group after group, given the completion lengths in
    /// tokens; called once per batch, before traces of advantage zero are left out. Most objectives
    /// know no more than their groups and do nothing here.
    fn normalise_batch(&self, advantages: &mut [f64], lengths: &[usize]) {
        let _ = (advantages, lengths);
    }

    /// As [`coefficients`](Self::coefficients), for an objective that looks at more of the trace. This
    /// is what the training loop calls.
    fn coefficients_of(&self, trace: &TraceView<'_>) -> Vec<f64> {
        self.coefficients(trace.advantage, trace.current, trace.behavior)
    }
}

/// All that an objective may know of one trace.
#[derive(Clone, Copy, Debug)]
pub struct TraceView<'a> {
    /// The trace's own advantage.
    pub advantage: f64,
    /// The rewards of its whole group, its own among them.
    pub rewards: &'a [f64],
    /// Log-probability of each completion token under the current weights at temperature 1, in nats.
    pub current: &'a [f32],
    /// The same under the distribution it was drawn from.
    pub behavior: &'a [f32],
    /// Entropy of the current policy at each completion token, in nats, where the policy can tell.
    pub entropy: Option<&'a [f32]>,
}

macro_rules! objectives {
    ($(
        $(#[doc = $summary:literal])+
        $module:ident::$settings:ident { name: $name:literal, paper: $paper:literal, recipe: $recipe:literal },
    )+) => {
        $(pub mod $module;)+

        /// The objective of a run with its settings; in a recipe, the table `[objective]`.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind")]
        pub enum Objective {
            $($(#[doc = $summary])+ #[serde(rename = $name)] $settings($module::$settings),)+
        }

        impl Method for Objective {
            const SECTION: &'static str = "objective";
            const KINDS: &'static [&'static str] = &[$($name),+];
            const LISTED: &'static [Listing] = &[$(Listing {
                name: $name,
                lines: &[$($summary),+],
                paper: $paper,
                recipe: $recipe,
                settings: $module::$settings::SETTINGS,
            }),+];

            fn read(kind: &str, table: toml::Table) -> Result<Objective, RecipeError> {
                match kind {
                    $($name => $module::$settings::read(table, Self::SECTION).map(Objective::$settings),)+
                    _ => Err(RecipeError::unknown_kind(Self::SECTION, kind, Self::KINDS)),
                }
            }
        }

        impl Objective {
            /// The functions of this objective.
            pub fn weigh(&self) -> &dyn Weigh {
                match self { $(Objective::$settings(settings) => settings,)+ }
            }
        }
    };
}

objectives! {
    /// Likelihood of the accepted traces.
    imitation::Imitation { name: "imitation", paper: "baseline", recipe: "imitation" },
    /// Policy gradient with the group's mean as its baseline: the default, as in PrefixRL.
    reinforce::Reinforce { name: "reinforce", paper: "arXiv 2601.18795", recipe: "plain-rl" },
    /// Standardised advantages and a clipped ratio.
    grpo::Grpo { name: "grpo", paper: "arXiv 2402.03300", recipe: "grpo" },
    /// The mean of the others as the baseline.
    rloo::Rloo { name: "rloo", paper: "arXiv 2402.14740", recipe: "rloo" },
    /// Advantages whitened over all tokens of the batch.
    reinforce_plus_plus::ReinforcePlusPlus { name: "reinforce-plus-plus", paper: "arXiv 2501.03262", recipe: "reinforce-plus-plus" },
    /// One clipped ratio per trace: the geometric mean of its tokens' ratios.
    gspo::Gspo { name: "gspo", paper: "arXiv 2507.18071", recipe: "gspo" },
    /// The geometric mean of ratios that are clipped token by token.
    gmpo::Gmpo { name: "gmpo", paper: "arXiv 2507.20673", recipe: "gmpo" },
    /// A clipped ratio as a weight, so that no token loses its gradient.
    cispo::Cispo { name: "cispo", paper: "arXiv 2506.13585", recipe: "cispo" },
    /// Successes and failures weighted apart, without a baseline: PSR, NSR and W-REINFORCE.
    w_reinforce::WReinforce { name: "w-reinforce", paper: "arXiv 2506.01347", recipe: "w-reinforce" },
    /// GRPO, and silent groups weighted by the entropy of their tokens.
    rl_zvp::RlZvp { name: "rl-zvp", paper: "arXiv 2509.21880", recipe: "rl-zvp" },
    /// GRPO with the rarer outcome of a group weighted up.
    weighted_grpo::WeightedGrpo { name: "weighted-grpo", paper: "arXiv 2602.03452", recipe: "weighted-grpo" },
    /// Groups weighted by their success, rare successes the most.
    asymmetric_prompt_weighting::AsymmetricPromptWeighting { name: "asymmetric-prompt-weighting", paper: "arXiv 2602.11128", recipe: "asymmetric-prompt-weighting" },
    /// Rewards corrected for a verifier that errs at known rates.
    noisy_verifier::NoisyVerifier { name: "noisy-verifier", paper: "arXiv 2510.00915", recipe: "noisy-verifier-forward" },
}

/// Coefficients against finite differences, for the objectives' own tests.
#[cfg(test)]
pub(crate) mod gradient_check {
    use super::Weigh;

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
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use expect_test::expect;

    use super::{Objective, TraceView};
    use crate::recipe::Method;

    /// Every objective at its defaults, and the named variants that are settings of one of them.
    fn all() -> Vec<(String, Objective)> {
        let variants = [
            ("grpo", "deviation = \"none\""),
            ("reinforce-plus-plus", "baseline = \"group\""),
            ("w-reinforce", "success = 1.0\nfailure = 0.0"),
            ("w-reinforce", "success = 0.0\nfailure = 1.0"),
            ("weighted-grpo", "statistics = \"batch\""),
            ("asymmetric-prompt-weighting", "weighting = \"sqrt\""),
            ("asymmetric-prompt-weighting", "weighting = \"uniform\""),
            ("noisy-verifier", "correction = \"backward\"\nfalse_negative = 0.2\nfalse_positive = 0.1"),
        ];
        let defaults = Objective::KINDS.iter().map(|&kind| match kind {
            "noisy-verifier" => (kind, "false_negative = 0.2"),
            kind => (kind, ""),
        });
        let read = |(kind, settings): (&str, &str)| {
            let name = format!("{kind} {}", settings.replace('\n', ", "));
            (name.trim_end().to_owned(), Objective::read(kind, settings.parse().unwrap()).unwrap())
        };
        defaults.chain(variants).map(read).collect()
    }

    /// The advantages of the first and the last of a group, alone in its batch. Zeros are dots.
    #[test]
    fn degenerate_groups() {
        let groups: [&[f64]; 5] = [&[1.0], &[0.0], &[1.0; 4], &[0.0; 4], &[1.0, 0.0, 0.0, 0.0]];
        let mut table = "one success | one failure | all pass | all fail | one of four\n".to_owned();
        for (name, objective) in all() {
            let cells: Vec<String> = groups
                .iter()
                .map(|rewards| {
                    let mut found = objective.weigh().advantages(rewards);
                    assert_eq!(found.len(), rewards.len());
                    objective.weigh().normalise_batch(&mut found, &vec![3; rewards.len()]);
                    let shown = |a: f64| if a == 0.0 { ".".to_owned() } else { format!("{a:.4}") };
                    match found[..] {
                        [only] => shown(only),
                        [first, .., last] => format!("{} {}", shown(first), shown(last)),
                        [] => String::new(),
                    }
                })
                .collect();
            writeln!(table, "{} | {name}", cells.join(" | ")).unwrap();
        }
        expect![[r#"
            one success | one failure | all pass | all fail | one of four
            1.0000 | . | 1.0000 1.0000 | . . | 1.0000 . | imitation
            . | . | . . | . . | 0.7500 -0.2500 | reinforce
            . | . | . . | . . | 1.5000 -0.5000 | grpo
            . | . | . . | . . | 1.0000 -0.3333 | rloo
            . | . | . . | . . | 1.6583 -0.5528 | reinforce-plus-plus
            . | . | . . | . . | 1.5000 -0.5000 | gspo
            . | . | . . | . . | 1.5000 -0.5000 | gmpo
            . | . | . . | . . | 1.5000 -0.5000 | cispo
            0.1000 | -1.0000 | 0.1000 0.1000 | -1.0000 -1.0000 | 0.1000 -1.0000 | w-reinforce
            0.1000 | -0.1000 | 0.1000 0.1000 | -0.1000 -0.1000 | 1.5000 -0.5000 | rl-zvp
            . | . | . . | . . | 1.5000 -0.5000 | weighted-grpo
            . | -1.0000 | . . | -1.0000 -1.0000 | 3.0000 -1.0000 | asymmetric-prompt-weighting
            0.2000 | -0.8000 | 0.2000 0.2000 | -0.8000 -0.8000 | 0.2000 -0.8000 | noisy-verifier false_negative = 0.2
            . | . | . . | . . | 0.7500 -0.2500 | grpo deviation = "none"
            . | . | . . | . . | 1.6583 -0.5528 | reinforce-plus-plus baseline = "group"
            1.0000 | . | 1.0000 1.0000 | . . | 1.0000 . | w-reinforce success = 1.0, failure = 0.0
            . | -1.0000 | . . | -1.0000 -1.0000 | . -1.0000 | w-reinforce success = 0.0, failure = 1.0
            . | . | . . | . . | 1.5000 -0.5000 | weighted-grpo statistics = "batch"
            . | -1.0000 | . . | -1.0000 -1.0000 | 3.4641 -1.1547 | asymmetric-prompt-weighting weighting = "sqrt"
            1.0000 | -1.0000 | 1.0000 1.0000 | -1.0000 -1.0000 | 4.0000 -1.3333 | asymmetric-prompt-weighting weighting = "uniform"
            1.2857 | -0.1429 | 1.2857 1.2857 | -0.1429 -0.1429 | 1.2857 -0.1429 | noisy-verifier correction = "backward", false_negative = 0.2, false_positive = 0.1
        "#]].assert_eq(&table);
    }

    #[test]
    fn nothing_gives_nothing_and_no_number_is_lost() {
        for (name, objective) in all() {
            let weigh = objective.weigh();
            assert!(weigh.advantages(&[]).is_empty(), "{name}");
            weigh.normalise_batch(&mut [], &[]);
            // A batch without completion tokens.
            let mut empty = weigh.advantages(&[1.0, 0.0]);
            weigh.normalise_batch(&mut empty, &[0, 0]);
            assert!(empty.iter().all(|advantage| advantage.is_finite()), "{name}");
            let coefficients = |advantage: f64, current: &[f32], behavior: &[f32]| {
                let (rewards, entropy) = (&[1.0, 0.0], Some(&[0.5, 1.0][..]));
                weigh.coefficients_of(&TraceView { advantage, rewards, current, behavior, entropy })
            };
            assert!(coefficients(1.0, &[], &[]).is_empty(), "{name}");
            for advantage in [-1.0, 0.0, 1.0] {
                // What the policy holds for impossible and the sampler for sure, and the reverse.
                for (current, behavior) in [([-1e30, -1.0], [-0.1, -1.0]), ([-0.1, -1.0], [-1e30, -1.0])] {
                    let found = coefficients(advantage, &current, &behavior);
                    assert_eq!(found.len(), 2, "{name}");
                    assert!(found.iter().all(|coefficient| coefficient.is_finite()), "{name}: {found:?}");
                    assert!(advantage != 0.0 || found.iter().all(|&coefficient| coefficient == 0.0), "{name}");
                }
            }
        }
    }

    /// On a trace just sampled the ratio is 1 and no clip acts: each coefficient is `−A`.
    #[test]
    fn a_fresh_trace_counts_its_advantage() {
        let scores = [-0.5, -2.0, -0.25];
        for (name, objective) in all() {
            let view =
                TraceView { advantage: 0.75, rewards: &[1.0, 0.0], current: &scores, behavior: &scores, entropy: None };
            assert_eq!(objective.weigh().coefficients_of(&view), [-0.75; 3], "{name}");
        }
    }
}
