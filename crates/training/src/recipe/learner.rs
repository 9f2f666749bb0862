//! The table `[learner]`: where the policy learns, in this process or on a server of the Tinker API.

use serde::{Deserialize, Serialize};

use super::resolve::check;
use super::{RecipeError, section};

/// Where the policy learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LearnerPlace {
    /// In this process.
    Local,
    /// On a server of the Tinker API.
    Tinker,
}

/// Whether traces are scored before they are learnt from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScoringPasses {
    /// Not where the published weights sampled the trace.
    One,
    /// Always.
    Two,
}

/// How a server puts gradients together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GradientReduction {
    /// Found out at the start.
    Measure,
    /// Added up.
    Sum,
    /// Averaged, over the targets of a trace and over the traces of a step.
    Mean,
}

section! {
    /// The table `[learner]`. `docs/tinker.md` explains it.
    Learner from LearnerWritten {
        /// `local`: the policy of this process, as without this table. `tinker`: a server of the Tinker API.
        kind: LearnerPlace = LearnerPlace::Local,
        /// The server, such as `"http://10.0.0.1:8000"`, without `/api/v1`.
        endpoint: String = String::new(),
        /// The server's name for the base; `policy.model` as it is written without it.
        base_model: Option<String> = None,
        /// Name of the environment variable that holds the API key; no key is sent without it.
        key_env: Option<String> = None,
        /// Rank of the adapters that are learnt.
        rank: u32 = 32,
        /// Seed of their first weights.
        seed: u32 = 0,
        /// Decay of the mean in the server's Adam.
        beta1: f64 = 0.9,
        /// Decay of the mean square.
        beta2: f64 = 0.95,
        /// Added to the root of the mean square.
        eps: f64 = 1e-12,
        /// Decoupled weight decay.
        weight_decay: f64 = 0.0,
        /// `two`: every trace is scored, then learnt from. `one`: a trace that the published weights sampled is
        /// learnt from with its behavior log-probabilities for the current ones.
        passes: ScoringPasses = ScoringPasses::Two,
        /// How the server puts gradients together: `measure`, `sum`, or `mean`.
        reduction: GradientReduction = GradientReduction::Measure,
        /// Seconds that one call may take in all.
        patience_s: f64 = 1800.0,
    }
}

/// None for the policy of this process.
pub(super) fn resolve(table: toml::Table) -> Result<Option<Learner>, RecipeError> {
    let learner = Learner::read(table, "learner")?;
    let Learner { kind, endpoint, rank, beta1, beta2, eps, weight_decay, patience_s, .. } = &learner;
    let is_local = *kind == LearnerPlace::Local;
    check("learner", "rank", rank, *rank > 0, "at least 1")?;
    check("learner", "beta1", beta1, (0.0..1.0).contains(beta1), "in [0, 1)")?;
    check("learner", "beta2", beta2, (0.0..1.0).contains(beta2), "in [0, 1)")?;
    check("learner", "eps", eps, *eps > 0.0 && eps.is_finite(), "above 0")?;
    check("learner", "weight_decay", weight_decay, *weight_decay >= 0.0 && weight_decay.is_finite(), "at least 0")?;
    check("learner", "patience_s", patience_s, *patience_s > 0.0 && *patience_s <= 1e6, "above 0 and at most 1e6")?;
    let found = format!("{endpoint:?}");
    check(
        "learner",
        "endpoint",
        &found,
        is_local || !endpoint.is_empty(),
        "a server's address, for kind = \"tinker\"",
    )?;
    check("learner", "endpoint", &found, !is_local || endpoint.is_empty(), "none, or kind = \"tinker\"")?;
    Ok((!is_local).then_some(learner))
}
