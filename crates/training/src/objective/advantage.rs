//! Credit of a completion, given the rewards of its group.
//!
//! Zero cases: a group without rewards gives an empty answer; a group of one, and a group whose
//! rewards are all equal, give zeros (exactly, not up to rounding), because there is nothing to
//! compare with. Libraries differ on the group of one: verl takes the reward itself, TRL takes zero.

use serde::{Deserialize, Serialize};

/// What the sum of squares of the deviation is divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deviation {
    /// By n − 1: verl, TRL.
    Sample,
    /// By n: DAPO's text.
    Population,
    /// There is no deviation: rewards minus their mean are the advantages, as in Dr. GRPO.
    None,
}

/// Reward minus the group's mean.
///
/// ```
/// use toehold_training::objective::advantage::centred;
/// // One success in four: the mean is 1/4.
/// assert_eq!(centred(&[1.0, 0.0, 0.0, 0.0]), [0.75, -0.25, -0.25, -0.25]);
/// assert_eq!(centred(&[1.0, 1.0]), [0.0, 0.0]);
/// assert_eq!(centred(&[1.0]), [0.0]);
/// ```
pub fn centred(rewards: &[f64]) -> Vec<f64> {
    if is_silent(rewards) {
        return vec![0.0; rewards.len()];
    }
    let mean = rewards.iter().sum::<f64>() / rewards.len() as f64;
    rewards.iter().map(|reward| reward - mean).collect()
}

/// Reward minus the group's mean, over the group's deviation plus `epsilon`; with [`Deviation::None`]
/// over nothing, and `epsilon` is then not used.
///
/// ```
/// use toehold_training::objective::advantage::{Deviation, standardised};
/// // Mean 1/2, squares 4 · 1/4 = 1: the population's deviation is √(1/4) = 1/2.
/// let found = standardised(&[1.0, 1.0, 0.0, 0.0], Deviation::Population, 0.0);
/// assert_eq!(found, [1.0, 1.0, -1.0, -1.0]);
/// ```
pub fn standardised(rewards: &[f64], deviation: Deviation, epsilon: f64) -> Vec<f64> {
    if is_silent(rewards) {
        return vec![0.0; rewards.len()];
    }
    let centred = centred(rewards);
    let squares: f64 = centred.iter().map(|c| c * c).sum();
    let divisor = match deviation {
        Deviation::Sample => rewards.len() - 1,
        Deviation::Population => rewards.len(),
        Deviation::None => return centred,
    };
    let scale = (squares / divisor as f64).sqrt() + epsilon;
    centred.iter().map(|c| c / scale).collect()
}

/// Whether the rewards say nothing: fewer than two of them, or all equal.
pub fn is_silent(rewards: &[f64]) -> bool {
    rewards.windows(2).all(|pair| pair[0] == pair[1])
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use expect_test::expect;

    use super::{Deviation, centred, standardised};

    /// The advantages of a success and of a failure among `successes` of `size`.
    fn both(successes: usize, size: usize, advantages: impl Fn(&[f64]) -> Vec<f64>) -> String {
        let rewards: Vec<f64> = (0..size).map(|i| f64::from(u8::from(i < successes))).collect();
        let found = advantages(&rewards);
        format!("{:.6} / {:.6}", found[0], found[size - 1])
    }

    /// The expected numbers were worked out apart from this code.
    #[test]
    fn numeric_anchors() {
        let mut table = String::new();
        for (size, successes) in [(8, 1), (8, 2), (8, 4), (8, 7), (16, 1), (16, 15)] {
            let sample = both(successes, size, |r| standardised(r, Deviation::Sample, 1e-6));
            let trl = both(successes, size, |r| standardised(r, Deviation::Sample, 1e-4));
            let population = both(successes, size, |r| standardised(r, Deviation::Population, 1e-6));
            let mean_only = both(successes, size, |r| standardised(r, Deviation::None, 1e-6));
            writeln!(table, "{size:>2} {successes:>2} | {sample} | {trl} | {population} | {mean_only}").unwrap();
        }
        expect![[r#"
             8  1 | 2.474867 / -0.353552 | 2.474174 / -0.353453 | 2.645743 / -0.377963 | 0.875000 / -0.125000
             8  2 | 1.620182 / -0.540061 | 1.619835 / -0.539945 | 1.732047 / -0.577349 | 0.750000 / -0.250000
             8  4 | 0.935413 / -0.935413 | 0.935239 / -0.935239 | 0.999998 / -0.999998 | 0.500000 / -0.500000
             8  7 | 0.353552 / -2.474867 | 0.353453 / -2.474174 | 0.377963 / -2.645743 | 0.125000 / -0.875000
            16  1 | 3.749985 / -0.249999 | 3.748501 / -0.249900 | 3.872967 / -0.258198 | 0.937500 / -0.062500
            16 15 | 0.249999 / -3.749985 | 0.249900 / -3.748501 | 0.258198 / -3.872967 | 0.062500 / -0.937500
        "#]]
        .assert_eq(&table);
    }

    #[test]
    fn silence_is_exactly_zero() {
        for rewards in [vec![], vec![0.1], vec![0.1; 3], vec![0.0; 8], vec![1.0; 8]] {
            let zeros = vec![0.0; rewards.len()];
            assert_eq!(centred(&rewards), zeros);
            assert_eq!(standardised(&rewards, Deviation::Sample, 0.0), zeros);
            assert_eq!(standardised(&rewards, Deviation::Population, 0.0), zeros);
            assert_eq!(standardised(&rewards, Deviation::None, 0.0), zeros);
        }
    }
}
