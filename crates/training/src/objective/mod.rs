//! How much each sampled token counts.
//!
//! An objective touches the parameters only through the log-probabilities of completion tokens, so
//! its whole effect is one number per token, the coefficient `∂loss/∂log π`. It is worked out in
//! three steps, each a plain function on slices:
//!
//! 1. rewards of a group → advantages of its traces ([`Weigh::advantages`]);
//! 2. advantage, `current` and `behavior` of a trace → coefficients ([`Weigh::coefficients`]);
//! 3. division by a count of the whole batch ([`aggregate`]), which happens nowhere else.
//!
//! Invariants: prompt and prefix never appear, so they cannot be trained on; a trace whose advantage
//! is zero has only zero coefficients, so it may be skipped; a group is of one start and one policy
//! version, so no baseline mixes start states.
//!
//! A new objective is its file and its line in the table below.

pub mod advantage;
pub mod aggregate;

use serde::{Deserialize, Serialize};

use crate::recipe::{Method, RecipeError};

/// What every objective answers.
pub trait Weigh {
    /// The advantage of each trace of one group, given the group's rewards; as long as `rewards`.
    fn advantages(&self, rewards: &[f64]) -> Vec<f64>;

    /// `∂loss/∂log π` of each completion token of one trace, before aggregation; as long as
    /// `current`. `current` is at temperature 1, `behavior` at the sampling temperature; slices of
    /// different lengths are read up to the shorter one.
    fn coefficients(&self, advantage: f64, current: &[f32], behavior: &[f32]) -> Vec<f64>;
}

macro_rules! objectives {
    ($($(#[$doc:meta])* $module:ident::$settings:ident = $name:literal,)+) => {
        $(pub mod $module;)+

        /// The objective of a run with its settings; in a recipe, the table `[objective]`.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind")]
        pub enum Objective {
            $($(#[$doc])* #[serde(rename = $name)] $settings($module::$settings),)+
        }

        impl Method for Objective {
            const SECTION: &'static str = "objective";
            const KINDS: &'static [&'static str] = &[$($name),+];

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
    imitation::Imitation = "imitation",
    /// Policy gradient with the group's mean as its baseline: the default, as in PrefixRL.
    reinforce::Reinforce = "reinforce",
    /// Standardised advantages and a clipped ratio.
    grpo::Grpo = "grpo",
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
}
