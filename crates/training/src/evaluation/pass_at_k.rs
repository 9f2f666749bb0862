//! pass@k: the chance that at least one of k completions succeeds.
//!
//! ```text
//! pass@k = 1 − C(n − c, k) / C(n, k) = 1 − Π_{i = n−c+1}^{n} (1 − k / i)
//! ```
//!
//! The unbiased estimate from `c` successes in `n ≥ k` attempts (Chen et al., arXiv 2107.03374). The
//! biased `1 − (1 − c/n)^k` is systematically lower and is not offered.

use serde::{Deserialize, Serialize};
use toehold_rollout::SuccessCount;

use super::bootstrap::{Interval, bootstrap_mean};

/// pass@k with its interval over problems.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PassAtK {
    /// Completions of which one has to succeed.
    pub k: u32,
    /// Mean over problems, in `[0, 1]`.
    pub mean: f64,
    /// 95 % interval of the mean, by resampling problems.
    pub interval: Interval,
    /// Problems that had at least `k` attempts; the others are left out.
    pub problems: usize,
}

/// The unbiased estimate from one problem's count; none with fewer than `k` attempts or `k = 0`.
///
/// ```
/// use toehold_rollout::SuccessCount;
/// use toehold_training::evaluation::pass_at_k;
/// // Of the 6 pairs of 4 completions, 3 have the one success.
/// assert_eq!(pass_at_k(SuccessCount { successes: 1, attempts: 4 }, 2), Some(0.5));
/// assert_eq!(pass_at_k(SuccessCount { successes: 1, attempts: 4 }, 5), None);
/// ```
pub fn pass_at_k(count: SuccessCount, k: u32) -> Option<f64> {
    let (n, c, k) = (count.attempts, count.successes, u64::from(k));
    if k == 0 || n < k || c > n {
        return None;
    }
    // With fewer failures than k, a factor is zero or negative: some success is certain.
    if n - c < k {
        return Some(1.0);
    }
    let all_fail: f64 = (n - c + 1..=n).map(|i| 1.0 - k as f64 / i as f64).product();
    Some(1.0 - all_fail)
}

/// The mean of pass@k over problems with its interval; none without a problem of `k` attempts.
pub fn pass_at_k_over_problems(counts: &[SuccessCount], k: u32, seed: u64) -> Option<PassAtK> {
    let values: Vec<f64> = counts.iter().filter_map(|&count| pass_at_k(count, k)).collect();
    let (mean, interval) = bootstrap_mean(&values, seed)?;
    Some(PassAtK { k, mean, interval, problems: values.len() })
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use toehold_rollout::SuccessCount;

    use super::{pass_at_k, pass_at_k_over_problems};

    #[track_caller]
    fn check(attempts: u64, successes: u64, k: u32, expected: Expect) {
        let found = pass_at_k(SuccessCount { successes, attempts }, k);
        expected.assert_eq(&found.map_or("none".to_owned(), |value| format!("{value:.9}")));
    }

    #[test]
    fn anchors() {
        check(8, 2, 4, expect!["0.785714286"]);
        check(256, 1, 64, expect!["0.250000000"]);
        check(256, 3, 8, expect!["0.091196735"]);
        check(256, 0, 64, expect!["0.000000000"]);
        check(256, 256, 1, expect!["1.000000000"]);
        check(8, 5, 4, expect!["1.000000000"]);
        check(8, 4, 4, expect!["0.985714286"]);
    }

    #[test]
    fn what_cannot_be_estimated_is_none() {
        check(8, 2, 9, expect!["none"]);
        check(8, 2, 0, expect!["none"]);
        check(0, 0, 1, expect!["none"]);
        check(2, 3, 1, expect!["none"]);
        assert_eq!(pass_at_k_over_problems(&[], 1, 0), None);
    }

    /// Against counting the subsets one by one.
    #[test]
    fn equals_the_share_of_subsets() {
        for n in 1..=10u32 {
            for c in 0..=n {
                for k in 1..=n {
                    let subsets = (0..1u32 << n).filter(|set| set.count_ones() == k);
                    let (hits, all) =
                        subsets.fold((0, 0), |(hits, all), set| (hits + u32::from(set & ((1 << c) - 1) != 0), all + 1));
                    let found = pass_at_k(SuccessCount { successes: c.into(), attempts: n.into() }, k).unwrap();
                    assert!((found - f64::from(hits) / f64::from(all)).abs() < 1e-12, "n {n}, c {c}, k {k}");
                }
            }
        }
    }

    #[test]
    fn at_one_it_is_the_rate() {
        let counts = [(1, 4), (0, 4), (4, 4)].map(|(successes, attempts)| SuccessCount { successes, attempts });
        let found = pass_at_k_over_problems(&counts, 1, 0).unwrap();
        assert!((found.mean - 1.25 / 3.0).abs() < 1e-12);
        assert!(found.interval.low <= found.mean && found.mean <= found.interval.high);
    }
}
