//! What goes with an objective: seven tables below `[objective]`, each of them left out by default.
//!
//! ```text
//! [objective.overlong]    what is done to completions that reach the limit       rewards, loss
//! [objective.format]      a penalty for completions without a readable answer    rewards
//! [objective.repetition]  a penalty for completions that repeat themselves       rewards
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
//! 1. [`parts`](Modifiers::parts), whose sum is a reward, then the objective's advantages and its batch;
//! 2. [`bound`](Modifiers::bound) on each group's advantages, and [`keeps`](Modifiers::keeps);
//! 3. [`coefficients`](Modifiers::coefficients): the objective's, weighted, plus bonus and tie.
//!
//! Given tokens (`given`), which no rollout of the group sampled, are changed by none of them.
//!
//! `format` and `repetition` are refused beside an objective that reads success or failure in a reward
//! ([`reads_outcomes`](super::Weigh::reads_outcomes)). `overlong` is older and is not; its file says what such
//! objectives make of it.

pub mod cap;
pub mod entropy;
pub mod format;
pub mod kl;
pub mod mismatch;
pub mod overlong;
pub mod repetition;
pub mod shaping;

use serde::Serialize;
use serde::de::DeserializeOwned;
use toehold_rollout::StopReason;

pub use cap::Cap;
pub use entropy::Entropy;
pub use format::Format;
pub use kl::Kl;
pub use mismatch::Mismatch;
pub use overlong::Overlong;
pub use repetition::Repetition;
pub use shaping::{Parts, ShapedGroups};

use super::batch::GroupView;
use super::{TraceView, Weigh};
use crate::recipe::RecipeError;
use crate::recipe::section::{shown, take};

/// The tables that a recipe may write below `[objective]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Modifiers {
    /// What is done to completions that reach the limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overlong: Option<Overlong>,
    /// A penalty for completions without a readable answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// A penalty for completions that repeat themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repetition: Option<Repetition>,
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
    pub const NONE: Modifiers = Modifiers {
        overlong: None,
        format: None,
        repetition: None,
        cap: None,
        mismatch: None,
        entropy: None,
        kl: None,
    };

    /// Their tables' names.
    pub const TABLES: [&str; 7] = ["overlong", "format", "repetition", "cap", "mismatch", "entropy", "kl"];

    /// Takes the modifiers' tables out of `table`, which is the recipe's table `section`.
    pub(super) fn take(table: &mut toml::Table, section: &'static str) -> Result<Modifiers, RecipeError> {
        let modifiers = Modifiers {
            overlong: read(table, section, "overlong", Overlong::fault)?,
            format: read(table, section, "format", Format::fault)?,
            repetition: read(table, section, "repetition", Repetition::fault)?,
            cap: read(table, section, "cap", Cap::fault)?,
            mismatch: read(table, section, "mismatch", Mismatch::fault)?,
            entropy: read(table, section, "entropy", Entropy::fault)?,
            kl: read(table, section, "kl", Kl::fault)?,
        };
        Ok(modifiers)
    }

    /// A table that is there and makes other rewards than 0 and 1 for objectives that take any; none without.
    pub(super) fn shaping_table(&self) -> Option<&'static str> {
        self.format.map(|_| "format").or(self.repetition.map(|_| "repetition"))
    }

    /// Whether rewards are made of more than the verdict.
    pub fn shapes(&self) -> bool {
        matches!(self.overlong, Some(Overlong::Penalty { .. })) || self.shaping_table().is_some()
    }

    /// What the reward of each completion of a group is made of: its advantages are made of the sums. `limit` is
    /// that of a completion in tokens.
    pub fn parts(&self, group: &GroupView<'_>, limit: u32) -> Vec<Parts> {
        let format = self.format.filter(|format| format.groups.contains(&group.rewards));
        let repetition = self.repetition.filter(|repetition| repetition.groups.contains(&group.rewards));
        let parts = |(at, &verdict): (usize, &f64)| {
            let overlong = self.overlong.zip(group.endings.get(at));
            let format = format.zip(group.outcomes.get(at));
            let repetition = repetition.zip(group.completions.get(at));
            Parts {
                verdict,
                overlong: overlong.map_or(0.0, |(overlong, ending)| overlong.part(ending, limit)),
                format: format.map_or(0.0, |(format, &outcome)| format.part(outcome)),
                repetition: repetition.map_or(0.0, |(repetition, tokens)| repetition.part(tokens)),
            }
        };
        group.rewards.iter().enumerate().map(parts).collect()
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
    use toehold_rollout::{StopReason, TokenId};
    use toehold_verifier::Outcome;

    use super::{Ending, Modifiers, Parts};
    use crate::objective::batch::GroupView;
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
        refused("format = {}", expect!["[objective] format: found a table: missing field `weight`"]);
        refused("format = {weight = 0.0}", expect!["[objective] format.weight is 0, expected above 0 and finite"]);
        refused(
            "format = {weight = 0.1, groups = \"silent\"}",
            expect!["[objective] format: found a table: unknown variant `silent`, expected `all` or `mixed`"],
        );
        refused(
            "format = {bonus = 0.1}",
            expect!["[objective] format: found a table: unknown field `bonus`, expected `weight` or `groups`"],
        );
        refused(
            "repetition = {weight = -1.0}",
            expect!["[objective] repetition.weight is -1, expected above 0 and finite"],
        );
        refused(
            "repetition = {weight = 1.0, ngram = 0}",
            expect!["[objective] repetition.ngram is 0, expected at least 1"],
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
        let text = "overlong = {kind = \"penalty\", tail = 4}\nformat = {weight = 0.1}\n\
                    repetition = {weight = 1.0, groups = \"mixed\"}\ncap = {advantage = 3.0}\n\
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

            [format]
            weight = 0.1
            groups = "all"

            [repetition]
            weight = 1.0
            ngram = 3
            groups = "mixed"

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

    /// Who reads a reward as success or failure is not given another.
    #[test]
    fn only_objectives_that_take_numbers_are_given_a_shape() {
        let mut table = String::new();
        for kind in Objective::KINDS {
            let method = if *kind == "noisy-verifier" { "false_negative = 0.1\n" } else { "" };
            let read = |text: &str| Objective::read(kind, format!("{method}{text}").parse().unwrap());
            let found = ["format = {weight = 0.1}", "repetition = {weight = 0.1}"].map(|text| read(text).is_ok());
            assert_eq!(found[0], found[1], "{kind}");
            assert!(read("overlong = {kind = \"penalty\", tail = 4}").is_ok());
            table += &format!("{} {kind}\n", if found[0] { "takes" } else { "refuses" });
        }
        expect![[r#"
            refuses imitation
            takes reinforce
            takes grpo
            takes rloo
            takes reinforce-plus-plus
            takes gspo
            takes gmpo
            takes cispo
            refuses w-reinforce
            refuses rl-zvp
            refuses erpo
            refuses weighted-grpo
            refuses care
            refuses asymmetric-prompt-weighting
            refuses noisy-verifier
            takes importance-weighted
            takes luffy
            takes rlep
            takes prefix-rft
            takes uft
        "#]]
        .assert_eq(&table);
        let text = "success = 1.0\nfailure = 0.0\nrepetition = {weight = 1.0}";
        let error = Objective::read("w-reinforce", text.parse().unwrap()).unwrap_err();
        expect![[r#"[objective] repetition is written beside kind = "w-reinforce", expected an objective that takes any number for a reward; this one reads success or failure in it"#]].assert_eq(&error.to_string());
    }

    /// One group of two successes, one failure and one completion without an answer.
    #[track_caller]
    fn shaped(text: &str, rewards: [f64; 4], expected: Expect) {
        let outcome = |reward: &f64| if *reward > 0.0 { Outcome::Correct } else { Outcome::Wrong };
        let mut outcomes: Vec<Outcome> = rewards.iter().map(outcome).collect();
        outcomes[3] = Outcome::NoAnswer;
        let group = GroupView {
            rewards: rewards.to_vec(),
            outcomes,
            completions: vec![&[1, 2, 3, 4], &[1, 2, 1, 2, 1, 2], &[5, 6], &[7; 10]],
            endings: [4, 6, 2, 10].map(|tokens| Ending { tokens, stop: StopReason::EndOfText }).into(),
            ..GroupView::default()
        };
        let parts = read(text).unwrap().modifiers.parts(&group, 10);
        let shown = |parts: &Parts| {
            let Parts { verdict, overlong, format, repetition } = parts;
            // Without the sign of a zero.
            let overlong = overlong + 0.0;
            format!("{verdict} {overlong:+} {format:+} {repetition:+} = {}\n", parts.reward())
        };
        expected.assert_eq(&parts.iter().map(shown).collect::<String>());
    }

    #[test]
    fn a_reward_is_the_sum_of_its_parts() {
        let all = "overlong = {kind = \"penalty\", tail = 8}\nformat = {weight = 0.5}\nrepetition = {weight = 1.0}";
        shaped(
            all,
            [1.0, 1.0, 0.0, 0.0],
            expect![[r#"
            1 -0.25 +0 +0 = 0.75
            1 -0.5 +0 -0.5 = 0
            0 +0 +0 +0 = 0
            0 -1 -0.5 -0.875 = -2.375
        "#]],
        );
        // A group of failures is shaped as any other, or not at all.
        shaped(
            "format = {weight = 0.5}",
            [0.0; 4],
            expect![[r#"
            0 +0 +0 +0 = 0
            0 +0 +0 +0 = 0
            0 +0 +0 +0 = 0
            0 +0 -0.5 +0 = -0.5
        "#]],
        );
        let mixed = "format = {weight = 0.5, groups = \"mixed\"}\nrepetition = {weight = 1.0, groups = \"mixed\"}";
        shaped(
            mixed,
            [0.0; 4],
            expect![[r#"
            0 +0 +0 +0 = 0
            0 +0 +0 +0 = 0
            0 +0 +0 +0 = 0
            0 +0 +0 +0 = 0
        "#]],
        );
        shaped(
            mixed,
            [1.0, 0.0, 0.0, 0.0],
            expect![[r#"
            1 +0 +0 +0 = 1
            0 +0 +0 -0.5 = -0.5
            0 +0 +0 +0 = 0
            0 +0 -0.5 -0.875 = -1.375
        "#]],
        );
    }

    /// Without any of them, everything is the objective's own.
    #[test]
    fn none_changes_nothing() {
        let objective = read("").unwrap();
        assert_eq!(objective.modifiers, Modifiers::NONE);
        let ending = Ending { tokens: 9, stop: StopReason::Length };
        let completions: Vec<&[TokenId]> = vec![&[7; 9]; 2];
        let (rewards, outcomes) = (vec![1.0, 0.0], vec![Outcome::Correct, Outcome::NoAnswer]);
        let group = GroupView { rewards, outcomes, completions, endings: vec![ending; 2], ..GroupView::default() };
        let found: Vec<f64> = Modifiers::NONE.parts(&group, 9).iter().map(Parts::reward).collect();
        assert_eq!(found, [1.0, 0.0]);
        assert!(!Modifiers::NONE.shapes());
        assert!(Modifiers::NONE.keeps(&ending) && !Modifiers::NONE.hears_silence());
        let mut advantages = [100.0, -100.0];
        Modifiers::NONE.bound(&[1.0, 0.0], &mut advantages);
        assert_eq!(advantages, [100.0, -100.0]);
        let (current, behavior) = ([-1.0, -2.0], [-1.1, -1.0]);
        let view = TraceView { advantage: 2.0, rewards: &[], current: &current, behavior: &behavior, entropy: None };
        assert_eq!(Modifiers::NONE.coefficients(&objective, &view, None), objective.coefficients_of(&view));
    }
}
