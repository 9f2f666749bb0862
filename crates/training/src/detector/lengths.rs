//! Lengths that fell: of one success beside the others, and of a series beside its beginning.
//!
//! ```text
//! skipping = length of a success / the longer of two medians:
//!            of the successes of its group, of those from its start in earlier steps
//! collapse = mean length over the last w observations / mean length over the first w
//! ```
//!
//! Both are proposals of the project. The longer median, because a shortcut that most of a group takes
//! would otherwise be measured by itself. A start and not a problem, because what remains to be written
//! after a long prefix is short without being a shortcut.
//!
//! Departures from the proposal: the length is that of the whole completion, not up to its first answer,
//! which only text shows; and the moving average is over a window and not exponential, because a window is
//! whole numbers.
//!
//! Zero cases: fewer than [`FEWEST`] successes have no median, and without either median there is no ratio;
//! nor with a median of zero tokens. A series has no ratio before it has more than `w` observations, nor when
//! its first ones had no tokens.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Successes that make a median worth comparing with. Of two, the shorter one would always be below it.
pub const FEWEST: usize = 3;

/// The length of a success in tokens over the longer of two medians: of the successes of its `group`, itself
/// among them, and of `earlier` ones. None where both have fewer than [`FEWEST`].
///
/// ```
/// use toehold_training::detector::lengths::skipping;
/// // The median of 2, 20 and 30 is 20.
/// assert_eq!(skipping(2, &[30, 2, 20], &[]), Some(0.1));
/// // Where most of a group took the shortcut, the earlier ones are what it is measured by.
/// assert_eq!(skipping(2, &[2, 2, 20], &[18, 20, 22, 40]), Some(2.0 / 21.0));
/// assert_eq!(skipping(2, &[2, 20], &[20, 20]), None);
/// assert_eq!(skipping(0, &[0, 0, 0], &[]), None);
/// ```
pub fn skipping(length: u64, group: &[u64], earlier: &[u64]) -> Option<f64> {
    let reference = [group, earlier].into_iter().filter(|lengths| lengths.len() >= FEWEST).filter_map(median);
    let reference = reference.fold(0.0, f64::max);
    (reference > 0.0).then(|| length as f64 / reference)
}

/// The median, the mean of the middle two where their number is even; none without lengths.
///
/// ```
/// use toehold_training::detector::lengths::median;
/// assert_eq!(median(&[5, 1, 3]), Some(3.0));
/// assert_eq!(median(&[5, 1, 3, 4]), Some(3.5));
/// assert_eq!(median(&[]), None);
/// ```
pub fn median(lengths: &[u64]) -> Option<f64> {
    let mut sorted = lengths.to_vec();
    sorted.sort_unstable();
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = sorted[(sorted.len() - 1) / 2];
    Some((lower as f64 + upper as f64) / 2.0)
}

/// Lengths as they came: the first average and the last ones.
///
/// ```
/// use toehold_training::detector::lengths::Series;
/// let mut series = Series::default();
/// // Two completions of 40 tokens in all, then two of 20, with a window of one observation.
/// series.observe(40, 2, 1);
/// assert_eq!((series.first(), series.collapse(1)), (Some(20.0), None));
/// series.observe(20, 2, 1);
/// assert_eq!(series.collapse(1), Some(0.5));
/// // The first average stays.
/// series.observe(4, 2, 1);
/// assert_eq!((series.first(), series.collapse(1)), (Some(20.0), Some(0.1)));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Series {
    /// Observations so far.
    observed: u64,
    /// The sum of the first ones.
    first: Lengths,
    /// The last ones, the newest at the end.
    recent: VecDeque<Lengths>,
}

/// Tokens and completions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Lengths(u64, u64);

impl Lengths {
    fn and(self, other: Lengths) -> Lengths {
        Lengths(self.0.saturating_add(other.0), self.1.saturating_add(other.1))
    }

    fn mean(self) -> Option<f64> {
        (self.1 > 0).then(|| self.0 as f64 / self.1 as f64)
    }
}

impl Series {
    /// Adds one observation: so many completions of so many tokens in all. One without completions is none.
    pub fn observe(&mut self, tokens: u64, completions: u64, window: usize) {
        if completions == 0 {
            return;
        }
        let observation = Lengths(tokens, completions);
        if self.observed < window as u64 {
            self.first = self.first.and(observation);
        }
        self.observed += 1;
        self.recent.push_back(observation);
        while self.recent.len() > window {
            self.recent.pop_front();
        }
    }

    /// Mean length of the first observations, in tokens; none before one.
    pub fn first(&self) -> Option<f64> {
        self.first.mean()
    }

    /// Mean length of the last `window` observations over that of the first `window`.
    pub fn collapse(&self, window: usize) -> Option<f64> {
        let recent = self.recent.iter().copied().fold(Lengths::default(), Lengths::and);
        let (first, recent) = (self.first()?, recent.mean()?);
        (self.observed > window as u64 && first > 0.0).then(|| recent / first)
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::Series;

    #[track_caller]
    fn check(window: usize, observations: &[(u64, u64)], expected: Expect) {
        let mut series = Series::default();
        let mut shown = Vec::new();
        for &(tokens, completions) in observations {
            series.observe(tokens, completions, window);
            shown.push(series.collapse(window).map_or("-".to_owned(), |ratio| format!("{ratio:.3}")));
        }
        let read: Series = serde_json::from_str(&serde_json::to_string(&series).unwrap()).unwrap();
        assert_eq!(read, series);
        expected.assert_eq(&shown.join(" "));
    }

    #[test]
    fn a_series_is_compared_with_its_beginning() {
        // The first two have mean 10; then (10 + 4) / 2, (4 + 2) / 2, (2 + 2) / 2.
        check(2, &[(10, 1), (10, 1), (4, 1), (2, 1), (2, 1)], expect!["- - 0.700 0.300 0.200"]);
        // By completions, not by observations: (30 + 2) / 4 of (10 + 30) / 4.
        check(2, &[(10, 1), (30, 3), (2, 1)], expect!["- - 0.800"]);
        // What had no completions is no observation.
        check(1, &[(0, 0), (8, 1), (0, 0), (4, 1)], expect!["- - - 0.500"]);
        // A beginning without tokens is nothing to compare with.
        check(1, &[(0, 2), (8, 1)], expect!["- -"]);
    }
}
