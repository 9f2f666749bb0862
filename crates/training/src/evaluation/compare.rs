//! Runs compared at equal compute.
//!
//! A curve is what one run measured, against the FLOPs it had used by then, collection and imitation
//! included. An arm is one method over several seeds. Two questions: how far is an arm at a budget,
//! and what budget does it need to get somewhere.
//!
//! Invariants: a run that never gets there has no cost, it is not given the cost of its end; between
//! two measurements the earlier one holds, because nothing was seen in between; intervals over seeds
//! are Student's, at 95 %, and there is none for one seed.

use serde::{Deserialize, Serialize};

use super::Interval;

/// What one run measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// The run's seed: runs of two arms with one seed are a pair.
    pub seed: u64,
    /// FLOPs used so far and what was measured then, by rising FLOPs.
    pub points: Vec<(f64, f64)>,
}

/// One method over several seeds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Arm {
    /// Its name.
    pub name: String,
    /// One curve per seed.
    pub curves: Vec<Curve>,
}

/// A mean over seeds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SeedMean {
    /// The mean.
    pub mean: f64,
    /// Student's 95 % interval; none for one seed.
    pub interval: Option<Interval>,
    /// Seeds that it is over.
    pub seeds: usize,
}

/// One line of a comparison: an arm at one budget.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The arm.
    pub arm: String,
    /// What it reached by the budget; none where no seed had been measured by then.
    pub value: Option<SeedMean>,
    /// Its difference to the first arm, over the seeds that both have; none for the first arm.
    pub difference: Option<SeedMean>,
    /// Seeds that reached the target, and all seeds.
    pub reached: (usize, usize),
    /// FLOPs at which the target was first reached, over the seeds that did.
    pub flops_to_target: Option<SeedMean>,
}

/// The last value measured at or below `flops`; none before the first measurement.
pub fn value_at(curve: &Curve, flops: f64) -> Option<f64> {
    curve.points.iter().take_while(|point| point.0 <= flops).last().map(|point| point.1)
}

/// The FLOPs at which the curve first is at `target` or above; none where it never is.
pub fn flops_to_reach(curve: &Curve, target: f64) -> Option<f64> {
    curve.points.iter().find(|point| point.1 >= target).map(|point| point.0)
}

/// The largest budget that every run of every arm has used up: comparing beyond it would set a
/// finished run against an unfinished one. None without a measurement.
pub fn common_budget(arms: &[Arm]) -> Option<f64> {
    let ends = arms.iter().flat_map(|arm| &arm.curves).map(|curve| curve.points.last().map(|point| point.0));
    ends.collect::<Option<Vec<f64>>>()?.into_iter().reduce(f64::min)
}

/// Compares the arms at a budget of `flops`, and by what they need to reach `target`.
pub fn compare(arms: &[Arm], flops: f64, target: f64) -> Vec<Comparison> {
    let line = |(at, arm): (usize, &Arm)| {
        let values: Vec<f64> = arm.curves.iter().filter_map(|curve| value_at(curve, flops)).collect();
        let costs: Vec<f64> = arm.curves.iter().filter_map(|curve| flops_to_reach(curve, target)).collect();
        Comparison {
            arm: arm.name.clone(),
            value: mean_over_seeds(&values),
            difference: (at > 0).then(|| mean_over_seeds(&differences(&arms[0], arm, flops))).flatten(),
            reached: (costs.len(), arm.curves.len()),
            flops_to_target: mean_over_seeds(&costs),
        }
    };
    arms.iter().enumerate().map(line).collect()
}

/// `arm` minus `base` at the budget, one per seed that both have.
fn differences(base: &Arm, arm: &Arm, flops: f64) -> Vec<f64> {
    let difference = |curve: &Curve| {
        let pair = base.curves.iter().find(|other| other.seed == curve.seed)?;
        Some(value_at(curve, flops)? - value_at(pair, flops)?)
    };
    arm.curves.iter().filter_map(difference).collect()
}

/// The mean of one value per seed with Student's 95 % interval; none without values.
///
/// ```
/// use toehold_training::evaluation::compare::mean_over_seeds;
/// // Deviation 1, so ±4.303 / √3 with two degrees of freedom.
/// let found = mean_over_seeds(&[1.0, 2.0, 3.0]).unwrap();
/// assert!((found.interval.unwrap().high - (2.0 + 4.303 / 3f64.sqrt())).abs() < 1e-3);
/// ```
pub fn mean_over_seeds(values: &[f64]) -> Option<SeedMean> {
    let seeds = values.len();
    if seeds == 0 {
        return None;
    }
    let mean = values.iter().sum::<f64>() / seeds as f64;
    let interval = (seeds > 1).then(|| {
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (seeds - 1) as f64;
        let half = student_quantile(seeds - 1) * (variance / seeds as f64).sqrt();
        Interval { low: mean - half, high: mean + half }
    });
    Some(SeedMean { mean, interval, seeds })
}

/// Student's 97.5 % quantile. Beyond the table, Fisher's expansion, right to 1e-4 there.
fn student_quantile(freedom: usize) -> f64 {
    const TABLE: [f64; 10] = [12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281];
    const Z: f64 = 1.959_963_984_540_054;
    TABLE.get(freedom.wrapping_sub(1)).copied().unwrap_or_else(|| {
        let v = freedom as f64;
        let (z3, z5, z7) = (Z.powi(3), Z.powi(5), Z.powi(7));
        Z + (z3 + Z) / (4.0 * v)
            + (5.0 * z5 + 16.0 * z3 + 3.0 * Z) / (96.0 * v * v)
            + (3.0 * z7 + 19.0 * z5 + 17.0 * z3 - 15.0 * Z) / (384.0 * v * v * v)
    })
}

#[cfg(test)]
mod tests {
    use super::{Arm, Curve, common_budget, compare, flops_to_reach, mean_over_seeds, student_quantile, value_at};

    fn curve(seed: u64, points: &[(f64, f64)]) -> Curve {
        Curve { seed, points: points.to_vec() }
    }

    #[test]
    fn a_curve_is_a_staircase() {
        let curve = curve(0, &[(1.0, 0.0), (2.0, 0.5), (3.0, 0.4)]);
        assert_eq!([0.5, 1.0, 2.9, 9.0].map(|flops| value_at(&curve, flops)), [None, Some(0.0), Some(0.5), Some(0.4)]);
        assert_eq!([0.0, 0.5, 0.6].map(|target| flops_to_reach(&curve, target)), [Some(1.0), Some(2.0), None]);
    }

    #[test]
    fn arms_are_compared_pair_by_pair() {
        let base = Arm {
            name: "plain".into(),
            curves: vec![curve(0, &[(1.0, 0.1), (4.0, 0.1)]), curve(1, &[(1.0, 0.3), (4.0, 0.3)])],
        };
        let prefix = Arm {
            name: "prefix".into(),
            // Seed 7 has no pair; seed 1 charges its collection and starts later.
            curves: vec![curve(0, &[(2.0, 0.4)]), curve(1, &[(2.0, 0.6), (5.0, 0.9)]), curve(7, &[(2.0, 0.0)])],
        };
        let arms = [base, prefix];
        assert_eq!(common_budget(&arms), Some(2.0));
        let [first, second] = &compare(&arms, 4.0, 0.5)[..] else { panic!("two arms give two lines") };
        assert!((first.value.unwrap().mean - 0.2).abs() < 1e-12);
        assert_eq!((first.difference, first.reached, first.flops_to_target), (None, (0, 2), None));
        let difference = second.difference.unwrap();
        assert!((difference.mean - 0.3).abs() < 1e-12);
        assert_eq!(difference.seeds, 2);
        assert_eq!((second.reached, second.flops_to_target.unwrap().mean), ((1, 3), 2.0));
        assert_eq!(second.flops_to_target.unwrap().interval, None);
    }

    #[test]
    fn students_quantiles() {
        for (freedom, expected) in [(1, 12.7062), (4, 2.7764), (10, 2.2281), (11, 2.2010), (20, 2.0860), (100, 1.9840)]
        {
            assert!((student_quantile(freedom) - expected).abs() < 2e-4, "{freedom}: {}", student_quantile(freedom));
        }
        assert_eq!(mean_over_seeds(&[]), None);
    }
}
