//! How a server divides what it adds up, and how that is undone.
//!
//! The coefficients of a step carry every division already, so the server has to apply the gradient of
//! `Σ coefficient · log π` as it is. The protocol says that losses are summed. SkyRL's jax backend (0.3)
//! instead divides each datum's loss by the sum of its `weights` (by the number of targets where there are
//! none), and a step's gradient by the number of its data. Adam hardly sees the second, but the first
//! changes what a long completion counts beside a short one, and a datum of `cross_entropy` whose weights
//! sum to zero or less is divided by 1e-9. So no weights are ever sent with a gradient, and every advantage
//! is multiplied by what the server divides by: for the coefficient `c` the advantage is
//! `−c · (targets of the datum, or 1) · (data of the step, or 1)`.
//!
//! What a server divides by is measured at the start, on a model of its own that is thrown away, from norms
//! of gradients: of one datum, of the same datum twice, and of the same datum with targets behind it that
//! count nothing. A sum doubles the second and leaves the third; a mean leaves the second, or shrinks the
//! third. A server that tells no norm is taken at the protocol's word.

use serde::{Deserialize, Serialize};

/// What a server divides a step's gradient by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reduction {
    /// Over the targets of a datum.
    pub targets: Over,
    /// Over the data of a step.
    pub data: Over,
}

/// How numbers are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Over {
    /// Added up.
    Sum,
    /// Added up and divided by their number.
    Mean,
}

impl Reduction {
    /// The protocol's word: nothing is divided.
    pub const SUM: Reduction = Reduction { targets: Over::Sum, data: Over::Sum };

    /// What a coefficient is multiplied by on a datum of `targets` targets in a step of `data` data, so that
    /// the gradient applied is that of `Σ coefficient · log π`.
    ///
    /// ```
    /// use toehold_rollout::remote::tinker::{Over, Reduction};
    ///
    /// // Two data of ten targets each, both averaged: twenty.
    /// let mean = Reduction { targets: Over::Mean, data: Over::Mean };
    /// assert_eq!(mean.factor(10, 2), 20.0);
    /// assert_eq!(Reduction::SUM.factor(10, 2), 1.0);
    /// ```
    pub fn factor(self, targets: usize, data: usize) -> f32 {
        let of = |over, count: usize| if over == Over::Mean { count as f32 } else { 1.0 };
        of(self.targets, targets) * of(self.data, data)
    }

    /// From the norms of the gradient of one datum, of the same datum twice, and of it with as many targets
    /// again that count nothing; none when they fit no reduction that is known.
    pub(super) fn of_norms(once: f64, twice: f64, longer: f64) -> Option<Reduction> {
        let near = |ratio: f64, expected: f64| (ratio - expected).abs() < 0.05 * expected;
        let over = |ratio, sum, mean| match () {
            () if near(ratio, sum) => Some(Over::Sum),
            () if near(ratio, mean) => Some(Over::Mean),
            () => None,
        };
        Some(Reduction { data: over(twice / once, 2.0, 1.0)?, targets: over(longer / once, 1.0, 0.5)? })
    }
}

#[cfg(test)]
mod tests {
    use super::{Over, Reduction};

    #[track_caller]
    fn check(once: f64, twice: f64, longer: f64, expected: Option<(Over, Over)>) {
        let found = Reduction::of_norms(once, twice, longer).map(|Reduction { targets, data }| (targets, data));
        assert_eq!(found, expected, "{once}, {twice}, {longer}");
    }

    #[test]
    fn norms_tell_sums_from_means() {
        check(2.0, 4.0, 2.0, Some((Over::Sum, Over::Sum)));
        check(2.0, 2.0, 2.0, Some((Over::Sum, Over::Mean)));
        check(2.0, 4.0, 1.0, Some((Over::Mean, Over::Sum)));
        check(2.0, 2.0, 1.0, Some((Over::Mean, Over::Mean)));
        // Rounding is no other reduction: 4.8 % off, and 5.1 %.
        check(1.0, 2.096, 0.952, Some((Over::Sum, Over::Sum)));
        check(1.0, 2.102, 1.0, None);
        check(1.0, 2.0, 0.949, None);
    }

    #[test]
    fn norms_that_say_nothing_fit_no_reduction() {
        check(1.0, 3.0, 1.0, None);
        check(1.0, 2.0, 0.7, None);
        check(0.0, 0.0, 0.0, None);
        check(f64::NAN, 2.0, 1.0, None);
        check(1.0, f64::INFINITY, 1.0, None);
    }
}
