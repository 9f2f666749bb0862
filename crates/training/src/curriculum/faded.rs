//! Counts that forget: what an older policy did counts for less.
//!
//! Invariant: whole numbers, so that a state written as text comes back to the bit.

use serde::{Deserialize, Serialize};

/// A part of a whole: successes of attempts, or tokens that were sampled of those that were left. In
/// 65,536ths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Faded {
    part: u64,
    whole: u64,
}

const UNIT: f64 = 65_536.0;

impl Faded {
    /// Adds this part of a whole, which counts as `most` in the same proportion when it is more.
    pub(super) fn add(&mut self, part: f64, whole: f64, most: f64) {
        let unit = UNIT * (most / whole.max(1.0)).min(1.0);
        self.part = self.part.saturating_add((part * unit) as u64);
        self.whole = self.whole.saturating_add((whole * unit) as u64);
    }

    /// Leaves the share `keep` of it.
    pub(super) fn fade(&mut self, keep: f64) {
        let keep = (keep * UNIT) as u128;
        let fade = |count: u64| ((u128::from(count) * keep) >> 16) as u64;
        *self = Faded { part: fade(self.part), whole: fade(self.whole) };
    }

    /// The part and what the whole has beside it: successes and failures.
    pub(super) fn split(self) -> (f64, f64) {
        (self.part as f64 / UNIT, self.whole.saturating_sub(self.part) as f64 / UNIT)
    }

    /// The part over the whole; none where there is no whole.
    pub(super) fn ratio(self) -> Option<f64> {
        (self.whole > 0).then(|| self.part as f64 / self.whole as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::Faded;

    #[test]
    fn old_counts_count_less() {
        let mut count = Faded::default();
        assert_eq!(count.ratio(), None);
        count.add(3.0, 4.0, 4.0);
        count.fade(0.5);
        assert_eq!(count.split(), (1.5, 0.5));
        count.add(0.0, 4.0, 4.0);
        assert_eq!((count.split(), count.ratio()), ((1.5, 4.5), Some(0.25)));
        // One of 2,500 counts as 1/25 of 100.
        let mut count = Faded::default();
        count.add(1.0, 2_500.0, 100.0);
        let (successes, failures) = count.split();
        assert!((successes - 0.04).abs() < 1e-4 && (failures - 99.96).abs() < 1e-4);
        (0..2_000).for_each(|_| count.fade(0.9));
        assert_eq!(count, Faded::default());
    }
}
