//! 95 % intervals of a mean over problems.
//!
//! Problems are resampled, not completions: how well a method does on other problems of the kind is
//! what a reader wants to know, and the completions of one problem are no independent problems.
//! Few problems make the interval too narrow; below ten, do not lean on it.

use serde::{Deserialize, Serialize};

use crate::random;

/// The two ends of an interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// Resamples; at 2000 the ends move by about a hundredth of the interval's width from seed to seed.
const RESAMPLES: usize = 2000;

/// The mean of `values` and its percentile interval; none without values.
///
/// ```
/// let (mean, interval) = toehold_training::evaluation::bootstrap_mean(&[0.5; 20], 0).unwrap();
/// assert_eq!((mean, interval.low, interval.high), (0.5, 0.5, 0.5));
/// ```
pub fn bootstrap_mean(values: &[f64], seed: u64) -> Option<(f64, Interval)> {
    let count = values.len();
    if count == 0 {
        return None;
    }
    let mut rng = random::stream(seed, "bootstrap", &[count as u64]);
    let mut resample = || {
        let sum: f64 = (0..count).map(|_| values[random::below(&mut rng, count as u64) as usize]).sum();
        sum / count as f64
    };
    let mut means: Vec<f64> = (0..RESAMPLES).map(|_| resample()).collect();
    means.sort_by(f64::total_cmp);
    let interval = Interval { low: quantile(&means, 0.025), high: quantile(&means, 0.975) };
    Some((values.iter().sum::<f64>() / count as f64, interval))
}

/// The quantile of sorted values, by linear interpolation between the two nearest; there is at least one.
pub(super) fn quantile(sorted: &[f64], share: f64) -> f64 {
    let at = share * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    below + (above - below) * at.fract()
}

#[cfg(test)]
mod tests {
    use super::{bootstrap_mean, quantile};
    use crate::random::{stream, unit};

    #[test]
    fn the_interval_covers_the_truth_about_nineteen_times_in_twenty() {
        let mut rng = stream(0, "test", &[]);
        let covered = (0..200)
            .filter(|&seed| {
                let values: Vec<f64> = (0..60).map(|_| unit(&mut rng)).collect();
                let (_, interval) = bootstrap_mean(&values, seed).unwrap();
                interval.low <= 0.5 && 0.5 <= interval.high
            })
            .count();
        assert!((180..=198).contains(&covered), "{covered} of 200");
    }

    #[test]
    fn the_width_is_that_of_the_normal_approximation() {
        // 100 problems, half of them solved: ±1.96 · 0.5 / 10.
        let values: Vec<f64> = (0..100).map(|at| f64::from(at % 2)).collect();
        let (mean, interval) = bootstrap_mean(&values, 1).unwrap();
        assert_eq!(mean, 0.5);
        assert!((interval.high - interval.low - 0.196).abs() < 0.02, "{interval:?}");
        assert_eq!(bootstrap_mean(&values, 1), bootstrap_mean(&values, 1));
        assert_eq!(bootstrap_mean(&[], 1), None);
    }

    #[test]
    fn quantiles_interpolate() {
        assert_eq!(quantile(&[0.0, 1.0, 2.0], 0.25), 0.5);
        assert_eq!(quantile(&[3.0], 0.975), 3.0);
    }
}
