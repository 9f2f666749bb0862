//! What a reward is made of: the verdict's, and what three tables take from it.
//!
//! ```text
//! reward = verdict + overlong + format + repetition
//! verdict      1 for a success, 0 for a failure
//! the others   each in its own file, 0 without its table, never above 0
//! ```
//!
//! Every part is a penalty, so a completion that does all it should earns what its verdict earns, and a reward
//! above 0 is a success as long as the penalties of a success stay below 1. Others write a bonus (1.1, 0.1, 0 for
//! a success, a failure, a failure without an answer). Over a group's baseline it is the same reward moved by a
//! constant, which every such baseline takes out.
//!
//! Two traps:
//!
//! * In a group whose verdicts are all the same, the shape is the only difference, so **the group learns the
//!   shape and nothing else**. That is how a policy learns to state an answer before it is ever right, and how a
//!   run on problems that always fail learns to be short, tidy and wrong. DAPO leaves such groups out by their
//!   verdicts (the curriculum `dynamic-sampling`); `groups = "mixed"` leaves their rewards as they are.
//! * Standardised over such a group (GRPO), **the weight is a no-op**: 0 and −0.001 come out as 0 and −1 do,
//!   and a shape counts there as much as a success does elsewhere. Weights mean something in mixed groups, and
//!   with `deviation = "none"`. Nor is a shaped reward scaled back to [0, 1]: a standardisation would take that
//!   out again.
//!
//! Zero cases: what the verifier itself failed on is in no group, and has no part; a group of one is all the
//! same.
//!
//! Source of the sum: open-r1 and TRL add weighted rewards in this way; the two traps are worked out here (see
//! the tests), the first is also DAPO's reason to filter by verdicts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Whose rewards are shaped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ShapedGroups {
    /// Those of every group.
    #[default]
    All,
    /// Those of groups with both a success and a failure.
    Mixed,
}

impl ShapedGroups {
    /// Whether the rewards of a group with these verdicts' rewards are shaped.
    pub fn contains(self, verdicts: &[f64]) -> bool {
        self == ShapedGroups::All || differ(verdicts)
    }
}

/// What the reward of one completion is made of.
///
/// ```
/// use toehold_training::objective::modifier::Parts;
/// let parts = Parts { verdict: 1.0, repetition: -0.25, ..Parts::default() };
/// assert_eq!(parts.reward(), 0.75);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Parts {
    /// 1 for a success, 0 for a failure.
    pub verdict: f64,
    /// By `[objective.overlong]`, in `[−1, 0]`.
    pub overlong: f64,
    /// By `[objective.format]`: 0, or minus its weight.
    pub format: f64,
    /// By `[objective.repetition]`, from minus its weight to 0.
    pub repetition: f64,
}

impl Parts {
    /// Their sum.
    pub fn reward(&self) -> f64 {
        self.verdict + self.overlong + self.format + self.repetition
    }
}

/// What the rewards of a step were made of.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Shaping {
    sum: Parts,
    completions: u64,
    alone: u64,
}

impl Shaping {
    /// Adds one group.
    pub fn add(&mut self, group: &[Parts]) {
        for parts in group {
            self.sum.verdict += parts.verdict;
            self.sum.overlong += parts.overlong;
            self.sum.format += parts.format;
            self.sum.repetition += parts.repetition;
        }
        self.completions += group.len() as u64;
        let of = |value: fn(&Parts) -> f64| group.iter().map(value).collect::<Vec<f64>>();
        let by_shape_alone = !differ(&of(|parts| parts.verdict)) && differ(&of(Parts::reward));
        self.alone += u64::from(by_shape_alone);
    }

    /// The means over completions by name, and `alone`: the groups in which the shape is the only difference.
    ///
    /// ```
    /// use toehold_training::objective::modifier::{Parts, shaping::Shaping};
    /// let failure = |format| Parts { format, ..Parts::default() };
    /// let mut shaping = Shaping::default();
    /// shaping.add(&[failure(-0.5), failure(0.0)]);
    /// let metrics = shaping.metrics();
    /// assert_eq!((metrics["format/mean"], metrics["reward/mean"], metrics["alone"]), (-0.25, -0.25, 1.0));
    /// // Nothing has no mean.
    /// assert_eq!(Shaping::default().metrics().len(), 1);
    /// ```
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        let Parts { verdict, overlong, format, repetition } = self.sum;
        let all = [
            ("verdict", verdict),
            ("overlong", overlong),
            ("format", format),
            ("repetition", repetition),
            ("reward", self.sum.reward()),
        ];
        let mean = |(name, sum): (&str, f64)| (format!("{name}/mean"), sum / self.completions as f64);
        let means = all.into_iter().filter(|_| self.completions > 0).map(mean);
        means.chain([("alone".to_owned(), self.alone as f64)]).collect()
    }
}

/// Whether not all of them are the same.
fn differ(values: &[f64]) -> bool {
    values.windows(2).any(|pair| pair[0] != pair[1])
}
