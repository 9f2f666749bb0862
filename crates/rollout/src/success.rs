//! Success counts, their intervals, and the five bands of success.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Successes and attempts, always both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuccessCount {
    /// Attempts that the verifier accepted.
    pub successes: u64,
    /// Attempts with a verdict.
    pub attempts: u64,
}

impl SuccessCount {
    /// Counts one more attempt.
    pub fn add(&mut self, success: bool) {
        self.attempts += 1;
        self.successes += u64::from(success);
    }

    /// Adds another count.
    pub fn merge(&mut self, other: SuccessCount) {
        self.attempts += other.attempts;
        self.successes += other.successes;
    }

    /// Successes over attempts; none without attempts.
    pub fn rate(&self) -> Option<f64> {
        (self.attempts > 0).then(|| self.successes as f64 / self.attempts as f64)
    }

    /// Wilson's score interval at 95 %; `[0, 1]` without attempts.
    ///
    /// ```
    /// use toehold_rollout::SuccessCount;
    /// let (low, high) = SuccessCount { successes: 1, attempts: 10 }.interval();
    /// assert!((low - 0.017876).abs() < 1e-6 && (high - 0.404150).abs() < 1e-6);
    /// ```
    pub fn interval(&self) -> (f64, f64) {
        const Z: f64 = 1.959_963_984_540_054;
        let Some(p) = self.rate() else { return (0.0, 1.0) };
        let n = self.attempts as f64;
        let scale = 1.0 + Z * Z / n;
        let centre = (p + Z * Z / (2.0 * n)) / scale;
        let half = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt() / scale;
        // At the ends the two terms are equal but for rounding.
        let low = if self.successes == 0 { 0.0 } else { (centre - half).max(0.0) };
        let high = if self.successes == self.attempts { 1.0 } else { (centre + half).min(1.0) };
        (low, high)
    }

    /// The band that the count as it stands puts the problem in; none without attempts.
    ///
    /// Unsolved and saturated speak of what was seen, so more attempts can move a problem out of them:
    /// read them together with the interval.
    pub fn band(&self) -> Option<Band> {
        let rate = self.rate()?;
        Some(if self.successes == 0 {
            Band::Unsolved
        } else if self.successes == self.attempts {
            Band::Saturated
        } else if rate < 0.25 {
            Band::Hard
        } else if rate <= 0.75 {
            Band::Medium
        } else {
            Band::Brittle
        })
    }
}

impl fmt::Display for SuccessCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (low, high) = self.interval();
        let rate = self.rate().unwrap_or(0.0);
        write!(
            f,
            "{}/{} = {:.1} % [{:.1}, {:.1}]",
            self.successes,
            self.attempts,
            100.0 * rate,
            100.0 * low,
            100.0 * high
        )
    }
}

/// The five bands of success.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Band {
    /// No success in the attempts made.
    Unsolved,
    /// Some success, in less than a quarter of the attempts.
    Hard,
    /// Success in a quarter to three quarters of the attempts.
    Medium,
    /// Some failure, in less than a quarter of the attempts.
    Brittle,
    /// No failure in the attempts made.
    Saturated,
}

impl Band {
    /// From the hardest to the easiest.
    pub const ALL: [Band; 5] = [Band::Unsolved, Band::Hard, Band::Medium, Band::Brittle, Band::Saturated];

    /// The word that is stored and printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Band::Unsolved => "unsolved",
            Band::Hard => "hard",
            Band::Medium => "medium",
            Band::Brittle => "brittle",
            Band::Saturated => "saturated",
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::SuccessCount;

    #[track_caller]
    fn check(successes: u64, attempts: u64, expected: Expect) {
        let count = SuccessCount { successes, attempts };
        let band = count.band().map_or("none", |band| band.as_str());
        expected.assert_eq(&format!("{count}, {band}"));
    }

    #[test]
    fn counts_intervals_and_bands() {
        check(0, 0, expect!["0/0 = 0.0 % [0.0, 100.0], none"]);
        check(0, 8, expect!["0/8 = 0.0 % [0.0, 32.4], unsolved"]);
        check(1, 8, expect!["1/8 = 12.5 % [2.2, 47.1], hard"]);
        check(2, 8, expect!["2/8 = 25.0 % [7.1, 59.1], medium"]);
        check(6, 8, expect!["6/8 = 75.0 % [40.9, 92.9], medium"]);
        check(7, 8, expect!["7/8 = 87.5 % [52.9, 97.8], brittle"]);
        check(8, 8, expect!["8/8 = 100.0 % [67.6, 100.0], saturated"]);
    }
}
