//! What goes with any objective: five tables below `[objective]`, each of them left out by default.
//!
//! ```text
//! [objective.overlong]    what is done to completions that reach the limit       rewards, loss
//! [objective.cap]         bounds on advantages                                   advantages
//! [objective.mismatch]    a weight where sampler and learner disagree            coefficients
//! [objective.entropy]     a bonus for entropy                                    coefficients
//! [objective.kl]          a tie to the policy the run began with                 coefficients
//! ```
//!
//! They act in this order, which is not free: a reward is shaped before its group's statistics are taken,
//! and what must survive a standardisation comes after it, since that takes any map of two rewards out
//! again.
//!
//! 1. [`shaped_rewards`](Modifiers::shaped_rewards), then the objective's advantages and its batch;
//! 2. [`bound`](Modifiers::bound) on each group's advantages, and [`keeps`](Modifiers::keeps);
//! 3. [`coefficients`](Modifiers::coefficients): the objective's, weighted, plus bonus and tie.
//!
//! Given tokens (`given`), which no rollout of the group sampled, are changed by none of them.

pub mod cap;
pub mod entropy;
pub mod kl;
pub mod mismatch;
pub mod overlong;

use serde::Serialize;
use serde::de::DeserializeOwned;
use toehold_rollout::StopReason;

pub use cap::Cap;
pub use entropy::Entropy;
pub use kl::Kl;
pub use mismatch::Mismatch;
pub use overlong::Overlong;

use super::{TraceView, Weigh};
use crate::recipe::RecipeError;
use crate::recipe::section::{shown, take};

/// The tables that a recipe may write below `[objective]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Modifiers {
    /// What is done to completions that reach the limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overlong: Option<Overlong>,
    /// Bounds on advantages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cap: Option<Cap>,
    /// A weight where sampler and learner disagree.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mismatch: Option<Mismatch>,
    /// A bonus for entropy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entropy: Option<Entropy>,
    /// A tie to the policy the run began with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kl: Option<Kl>,
}

/// How one completion ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Its tokens, the end token included.
    pub tokens: usize,
    /// Why it ended.
    pub stop: StopReason,
}

impl Modifiers {
    /// None of them.
    pub const NONE: Modifiers = Modifiers { overlong: None, cap: None, mismatch: None, entropy: None, kl: None };

    /// Their tables' names.
    pub const TABLES: [&str; 5] = ["overlong", "cap", "mismatch", "entropy", "kl"];

    /// Takes the modifiers' tables out of `table`, which is the recipe's table `section`.
    pub(super) fn take(table: &mut toml::Table, section: &'static str) -> Result<Modifiers, RecipeError> {
        let modifiers = Modifiers {
            overlong: read(table, section, "overlong", Overlong::fault)?,
            cap: read(table, section, "cap", Cap::fault)?,
            mismatch: read(table, section, "mismatch", Mismatch::fault)?,
            entropy: read(table, section, "entropy", Entropy::fault)?,
            kl: read(table, section, "kl", Kl::fault)?,
        };
        Ok(modifiers)
    }

    /// The rewards that the group's advantages are made of. `limit` is that of a completion in tokens.
    pub fn shaped_rewards(&self, rewards: &[f64], endings: &[Ending], limit: u32) -> Vec<f64> {
        match self.overlong {
            Some(overlong) => overlong.shaped_rewards(rewards, endings, limit),
            None => rewards.to_vec(),
        }
    }

    /// Whether a completion that ended like this is learnt from.
    pub fn keeps(&self, ending: &Ending) -> bool {
        self.overlong != Some(Overlong::Mask) || ending.stop != StopReason::Length
    }

    /// Bounds the advantages of one group, whose rewards are those before shaping.
    pub fn bound(&self, rewards: &[f64], advantages: &mut [f64]) {
        if let Some(cap) = &self.cap {
            cap.bound(rewards, advantages);
        }
    }

    /// Whether a trace of advantage zero may still move something, and has to be shown to the learner.
    pub fn hears_silence(&self) -> bool {
        self.entropy.is_some() || self.kl.is_some()
    }

    /// The coefficients of one trace by `objective` and by these. `reference` are the log-probabilities of
    /// its tokens under the reference policy, which only a tie asks for; without them there is none.
    pub fn coefficients(&self, objective: &dyn Weigh, trace: &TraceView<'_>, reference: Option<&[f32]>) -> Vec<f64> {
        let mut coefficients = match &self.mismatch {
            Some(mismatch) => mismatch.coefficients(objective, trace),
            None => objective.coefficients_of(trace),
        };
        if let Some(entropy) = &self.entropy {
            let bonus = entropy.coefficients(trace.current, trace.entropy);
            coefficients.iter_mut().zip(bonus).for_each(|(coefficient, bonus)| *coefficient += bonus);
        }
        if let (Some(kl), Some(reference)) = (&self.kl, reference) {
            let tie = kl.coefficients(trace.current, reference);
            coefficients.iter_mut().zip(tie).for_each(|(coefficient, tie)| *coefficient += tie);
        }
        coefficients
    }
}

/// What is wrong with a modifier: the key, its value and the range in words.
type Fault = (&'static str, f64, &'static str);

fn read<T: DeserializeOwned>(
    table: &mut toml::Table,
    section: &'static str,
    key: &str,
    fault: impl Fn(&T) -> Option<Fault>,
) -> Result<Option<T>, RecipeError> {
    if let Some(value) = table.get(key).filter(|value| !value.is_table()) {
        return Err(RecipeError::NotATable { section: format!("{section}.{key}"), found: shown(value) });
    }
    let Some(modifier) = take(table, section, key)? else { return Ok(None) };
    match fault(&modifier) {
        None => Ok(Some(modifier)),
        Some((key, found, expected)) => {
            Err(RecipeError::OutOfRange { section, key, found: found.to_string(), expected })
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use toehold_rollout::StopReason;

    use super::{Ending, Modifiers};
    use crate::objective::{Objective, TraceView, Weigh};
    use crate::recipe::{Method, RecipeError};

    fn read(text: &str) -> Result<Objective, RecipeError> {
        Objective::read("grpo", text.parse().unwrap())
    }

    #[track_caller]
    fn refused(text: &str, expected: Expect) {
        expected.assert_eq(&read(text).unwrap_err().to_string());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        refused("cap = 3", expect!["`objective.cap` is the integer 3, expected a table"]);
        refused(
            "cap = {}",
            expect!["[objective] cap.advantage is inf, expected a bound, or `successes` of at least 2"],
        );
        refused("cap = {advantage = -1.0}", expect!["[objective] cap.advantage is -1, expected above 0"]);
        refused(
            "mismatch = {beyond = \"truncate\", level = \"word\"}",
            expect!["[objective] mismatch: found a table: unknown variant `word`, expected `token` or `trace`"],
        );
        refused(
            "mismatch = {beyond = \"mask\", level = \"token\", high = 0.5}",
            expect!["[objective] mismatch.high is 0.5, expected at least 1"],
        );
        refused(
            "mismatch = {beyond = \"mask\", level = \"token\", low = 3.0}",
            expect!["[objective] mismatch.low is 3, expected in [0, 1]"],
        );
        refused(
            "overlong = {kind = \"penalty\"}",
            expect!["[objective] overlong: found a table: missing field `tail`"],
        );
        refused(
            "overlong = {kind = \"penalty\", tail = 0}",
            expect!["[objective] overlong.tail is 0, expected at least 1"],
        );
        refused(
            "overlong = {kind = \"drop\"}",
            expect!["[objective] overlong: found a table: unknown variant `drop`, expected `mask` or `penalty`"],
        );
        refused("kl = {estimator = \"k3\"}", expect!["[objective] kl: found a table: missing field `weight`"]);
        refused(
            "kl = {estimator = \"k3\", weight = -1.0}",
            expect!["[objective] kl.weight is -1, expected at least 0 and finite"],
        );
        refused("entropy = {weight = nan}", expect!["[objective] entropy.weight is NaN, expected a finite number"]);
        refused(
            "entropy = {weigth = 1.0}",
            expect!["[objective] entropy: found a table: unknown field `weigth`, expected `weight`"],
        );
    }

    #[test]
    fn what_is_written_back_is_the_same() {
        let text = "overlong = {kind = \"penalty\", tail = 4}\ncap = {advantage = 3.0}\n\
                    mismatch = {beyond = \"mask\", level = \"trace\"}\nentropy = {weight = 0.001}\nkl = {estimator = \"k3\", weight = 0.04}";
        let objective = read(text).unwrap();
        let written = toml::to_string(&objective).unwrap();
        expect![[r#"
            kind = "grpo"
            clip_low = 0.2
            clip_high = 0.2
            deviation = "sample"
            epsilon = 0.000001

            [overlong]
            kind = "penalty"
            tail = 4

            [cap]
            advantage = 3.0
            successes = 1

            [mismatch]
            beyond = "mask"
            level = "trace"
            low = 0.0
            high = 2.0

            [entropy]
            weight = 0.001

            [kl]
            estimator = "k3"
            weight = 0.04
        "#]]
        .assert_eq(&written);
        let mut table: toml::Table = written.parse().unwrap();
        table.remove("kind");
        assert_eq!(Objective::read("grpo", table).unwrap(), objective);
    }

    /// Without any of them, everything is the objective's own.
    #[test]
    fn none_changes_nothing() {
        let objective = read("").unwrap();
        assert_eq!(objective.modifiers, Modifiers::NONE);
        let ending = Ending { tokens: 9, stop: StopReason::Length };
        assert_eq!(Modifiers::NONE.shaped_rewards(&[1.0, 0.0], &[ending; 2], 9), [1.0, 0.0]);
        assert!(Modifiers::NONE.keeps(&ending) && !Modifiers::NONE.hears_silence());
        let mut advantages = [100.0, -100.0];
        Modifiers::NONE.bound(&[1.0, 0.0], &mut advantages);
        assert_eq!(advantages, [100.0, -100.0]);
        let (current, behavior) = ([-1.0, -2.0], [-1.1, -1.0]);
        let view = TraceView { advantage: 2.0, rewards: &[], current: &current, behavior: &behavior, entropy: None };
        assert_eq!(Modifiers::NONE.coefficients(&objective, &view, None), objective.coefficients_of(&view));
    }
}
