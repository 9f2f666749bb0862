//! How much each sampled token counts.
//!
//! An objective touches the parameters only through the log-probabilities of completion tokens, so
//! its whole effect is one number per token, the coefficient `∂loss/∂log π`. It is worked out in
//! three steps, each a plain function on slices:
//!
//! 1. rewards of a group → advantages of its traces ([`Weigh::advantages`], or [`Weigh::advantages_of`] where
//!    completions are compared), which a few objectives then normalise over the whole batch
//!    ([`Weigh::normalise_batch`]);
//! 2. advantage, `current` and `behavior` of a trace → coefficients ([`Weigh::coefficients`]); a few
//!    objectives look at more of the trace ([`Weigh::coefficients_of`]);
//! 3. division by a count of the whole batch ([`aggregate`]), which happens nowhere else.
//!
//! [`batch`] is the order in which all of it happens.
//!
//! Beside a method, a recipe may name [`modifier`]s: a correction for a sampler that is not the learner, what is
//! done to completions that are too long, that state no answer or that repeat themselves, caps, a bonus for
//! entropy, a tie to a reference policy. All but the two shapes of a reward that [`Weigh::reads_outcomes`] speaks
//! of go with any objective.
//!
//! Invariants: prompt and prefix never appear, so they cannot be trained on; a trace whose advantage
//! is zero has only zero coefficients, so it may be skipped (the bonus and the tie are exceptions, and say
//! so); a group is of one start and one policy version, so no group's baseline mixes start states. An
//! objective that does mix them, over the batch, says so in its file: `reinforce_plus_plus` and one
//! reading of `weighted_grpo`.
//!
//! A few methods learn from more than the group's own completions: from successes that were collected
//! before, or from the tokens of the prefix. They answer a second trait, [`Given`], whose functions get
//! another view than a completion's; what answers [`Weigh`] alone is never shown such tokens.
//!
//! A new objective is its file and its line in the table below.

pub mod advantage;
pub mod aggregate;
pub mod batch;
pub mod given;
pub mod modifier;

#[cfg(test)]
pub(crate) mod gradient_check;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use toehold_rollout::TokenId;

pub use given::Given;
pub use modifier::{Ending, Modifiers};

use crate::recipe::{Listing, Method, RecipeError};

/// What every objective answers.
pub trait Weigh {
    /// The advantage of each trace of one group, given the group's rewards; as long as `rewards`.
    fn advantages(&self, rewards: &[f64]) -> Vec<f64>;

    /// `∂loss/∂log π` of each completion token of one trace, before aggregation; as long as
    /// `current`. `current` is at temperature 1, `behavior` at the sampling temperature; slices of
    /// different lengths are read up to the shorter one.
    fn coefficients(&self, advantage: f64, current: &[f32], behavior: &[f32]) -> Vec<f64>;

    /// As [`advantages`](Self::advantages), for an objective that compares the group's completions with each
    /// other; one for each reward, in their order.
    fn advantages_of(&self, rewards: &[f64], completions: &[&[TokenId]]) -> Vec<f64> {
        let _ = completions;
        self.advantages(rewards)
    }

    /// Normalises the advantages of a whole batch, group after group, given the completion lengths in
    /// tokens; called once per batch, before traces of advantage zero are left out. Most objectives
    /// know no more than their groups and do nothing here.
    fn normalise_batch(&self, advantages: &mut [f64], lengths: &[usize]) {
        let _ = (advantages, lengths);
    }

    /// As [`coefficients`](Self::coefficients), for an objective that looks at more of the trace.
    fn coefficients_of(&self, trace: &TraceView<'_>) -> Vec<f64> {
        self.coefficients(trace.advantage, trace.current, trace.behavior)
    }

    /// Whether it reads the entropy of tokens, so that a learner has to tell it.
    fn reads_entropy(&self) -> bool {
        false
    }

    /// Whether it reads a reward as a success or a failure, so that another number means nothing to it, or
    /// something else than was meant.
    fn reads_outcomes(&self) -> bool {
        false
    }

    /// What it answers about tokens that the group did not sample; none for an objective that learns from
    /// the group's own completions alone.
    fn given(&self) -> Option<&dyn Given> {
        None
    }

    /// What goes with any method. The training loop calls
    /// [`Modifiers::coefficients`](modifier::Modifiers::coefficients), which calls the objective.
    fn modifiers(&self) -> &Modifiers {
        &Modifiers::NONE
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

/// The objective of a run; in a recipe, the table `[objective]`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Objective {
    /// The method with its settings.
    #[serde(flatten)]
    pub kind: ObjectiveKind,
    /// What goes with any method.
    #[serde(flatten)]
    pub modifiers: Modifiers,
}

impl Method for Objective {
    const SECTION: &'static str = "objective";
    const KINDS: &'static [&'static str] = ObjectiveKind::KINDS;
    const LISTED: &'static [Listing] = ObjectiveKind::LISTED;

    fn read(kind: &str, mut table: toml::Table) -> Result<Objective, RecipeError> {
        let modifiers = Modifiers::take(&mut table, Self::SECTION)?;
        let objective = Objective { kind: ObjectiveKind::read(kind, table, Self::SECTION)?, modifiers };
        match objective.modifiers.shaping_table().filter(|_| objective.reads_outcomes()) {
            Some(key) => Err(RecipeError::OutOfRange {
                section: Self::SECTION,
                key,
                found: format!("written beside kind = {kind:?}"),
                expected: "an objective that takes any number for a reward; this one reads success or failure in it",
            }),
            None => Ok(objective),
        }
    }
}

impl Objective {
    /// Whether it learns from collected successes, so that there has to be a collection.
    pub fn wants_collection(&self) -> bool {
        self.given().is_some_and(|given| given.wanted(&[0.0]) > 0)
    }
}

impl Weigh for Objective {
    fn advantages(&self, rewards: &[f64]) -> Vec<f64> {
        self.kind.weigh().advantages(rewards)
    }

    fn coefficients(&self, advantage: f64, current: &[f32], behavior: &[f32]) -> Vec<f64> {
        self.kind.weigh().coefficients(advantage, current, behavior)
    }

    fn advantages_of(&self, rewards: &[f64], completions: &[&[TokenId]]) -> Vec<f64> {
        self.kind.weigh().advantages_of(rewards, completions)
    }

    fn normalise_batch(&self, advantages: &mut [f64], lengths: &[usize]) {
        self.kind.weigh().normalise_batch(advantages, lengths);
    }

    fn coefficients_of(&self, trace: &TraceView<'_>) -> Vec<f64> {
        self.kind.weigh().coefficients_of(trace)
    }

    fn reads_entropy(&self) -> bool {
        self.kind.weigh().reads_entropy() || self.modifiers.entropy.is_some()
    }

    fn reads_outcomes(&self) -> bool {
        self.kind.weigh().reads_outcomes()
    }

    fn given(&self) -> Option<&dyn Given> {
        self.kind.weigh().given()
    }

    fn modifiers(&self) -> &Modifiers {
        &self.modifiers
    }
}

macro_rules! objectives {
    ($(
        $(#[doc = $summary:literal])+
        $module:ident::$settings:ident { name: $name:literal, paper: $paper:literal, recipe: $recipe:literal },
    )+) => {
        $(pub mod $module;)+

        /// A method with its settings.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind")]
        pub enum ObjectiveKind {
            $($(#[doc = $summary])+ #[serde(rename = $name)] $settings($module::$settings),)+
        }

        impl ObjectiveKind {
            #[cfg(test)]
            const SETTINGS: &'static [(&'static str, &'static [&'static str])] =
                &[$(($name, $module::$settings::KEYS)),+];

            const KINDS: &'static [&'static str] = &[$($name),+];
            const LISTED: &'static [Listing] = &[$(Listing {
                name: $name,
                lines: &[$($summary),+],
                paper: $paper,
                recipe: $recipe,
                settings: $module::$settings::SETTINGS,
            }),+];

            fn read(kind: &str, table: toml::Table, section: &str) -> Result<ObjectiveKind, RecipeError> {
                match kind {
                    $($name => $module::$settings::read(table, section).map(ObjectiveKind::$settings),)+
                    _ => Err(RecipeError::unknown_kind(section, kind, Self::KINDS)),
                }
            }

            fn weigh(&self) -> &dyn Weigh {
                match self { $(ObjectiveKind::$settings(settings) => settings,)+ }
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
    /// GRPO with a pseudo-failure in groups in which all succeed.
    erpo::Erpo { name: "erpo", paper: "arXiv 2511.04800", recipe: "erpo" },
    /// GRPO with the rarer outcome of a group weighted up.
    weighted_grpo::WeightedGrpo { name: "weighted-grpo", paper: "arXiv 2602.03452", recipe: "weighted-grpo" },
    /// The shortest success of a group against the failures most like it: CARE, on tokens.
    care::Care { name: "care", paper: "arXiv 2512.19554", recipe: "care" },
    /// Groups weighted by their success, rare successes the most.
    asymmetric_prompt_weighting::AsymmetricPromptWeighting { name: "asymmetric-prompt-weighting", paper: "arXiv 2602.11128", recipe: "asymmetric-prompt-weighting" },
    /// Rewards corrected for a verifier that errs at known rates.
    noisy_verifier::NoisyVerifier { name: "noisy-verifier", paper: "arXiv 2510.00915", recipe: "noisy-verifier-forward" },
    /// Collected successes, weighted by how likely the policy would have been accepted with them.
    importance_weighted::ImportanceWeighted { name: "importance-weighted", paper: "arXiv 2601.18795", recipe: "importance-weighted" },
    /// Collected successes in the group, with a weight that favours what the policy finds unlikely.
    luffy::Luffy { name: "luffy", paper: "arXiv 2504.14945", recipe: "luffy" },
    /// Collected successes in the group, as if they had been sampled now.
    rlep::Rlep { name: "rlep", paper: "arXiv 2507.07451", recipe: "rlep" },
    /// GRPO, and the most open tokens of the prefix by what starting from it was worth.
    prefix_rft::PrefixRft { name: "prefix-rft", paper: "arXiv 2507.01679", recipe: "prefix-rft" },
    /// GRPO, and imitation of the prefix.
    uft::Uft { name: "uft", paper: "arXiv 2505.16984", recipe: "uft" },
}
