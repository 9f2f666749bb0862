//! Exponential or polynomial: two straight lines through the logarithms, and which fits better.
//!
//! ```text
//! exponential  ln y = a + H · ln(factor)      a line against H
//! polynomial   ln y = a + degree · ln H       a line against ln H
//! ```
//!
//! Both have two free numbers and are fitted by least squares to the same ln y, so what they leave
//! unexplained of its variance (1 − R²) can be compared. Over a short range ln H is nearly straight in H,
//! and below the first few horizons constants rule; so there is a third answer, that nothing can be said,
//! and an answer is about the horizons that were measured.

use serde::{Deserialize, Serialize};

/// How something grows with the horizon.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Growth {
    /// The factor per unit of horizon, if it is exponential.
    pub factor: f64,
    /// R² of that.
    pub exponential_fit: f64,
    /// The power of the horizon, if it is polynomial.
    pub degree: f64,
    /// R² of that.
    pub polynomial_fit: f64,
    /// Horizons that it is fitted to.
    pub horizons: usize,
    /// The smallest and the largest of them.
    pub between: (u32, u32),
}

/// What fits better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// A factor per unit of horizon.
    Exponential,
    /// A power of the horizon.
    Polynomial,
    /// The horizons lie within [`SPAN`], or neither leaves [`CLEARLY`] times as much unexplained as the other.
    Undecided,
}

/// The largest horizon has to be so many times the smallest. Our choice.
pub const SPAN: u32 = 3;
/// The form that fits worse has to leave so many times as much of the variance unexplained. Our choice.
pub const CLEARLY: f64 = 3.0;

impl Growth {
    /// What fits clearly better.
    pub fn shape(&self) -> Shape {
        let (first, last) = self.between;
        let (exponential, polynomial) = (1.0 - self.exponential_fit, 1.0 - self.polynomial_fit);
        match () {
            () if last < SPAN * first => Shape::Undecided,
            () if polynomial > CLEARLY * exponential => Shape::Exponential,
            () if exponential > CLEARLY * polynomial => Shape::Polynomial,
            () => Shape::Undecided,
        }
    }
}

/// Fits both forms to points (horizon, value); none for fewer than three points whose horizon and value
/// are above 0 (two lie on any line), and none where all have one horizon.
///
/// ```
/// use toehold_training::theory::growth::{Shape, growth};
/// let doubled = growth(&[(2, 4.0), (3, 8.0), (6, 64.0)]).unwrap();
/// assert!((doubled.factor - 2.0).abs() < 1e-12 && doubled.shape() == Shape::Exponential);
/// let squared = growth(&[(2, 4.0), (3, 9.0), (6, 36.0)]).unwrap();
/// assert!((squared.degree - 2.0).abs() < 1e-12 && squared.shape() == Shape::Polynomial);
/// assert_eq!(growth(&[(3, 9.0), (4, 16.0)]), None);
/// ```
pub fn growth(points: &[(u32, f64)]) -> Option<Growth> {
    let usable = |&&(horizon, value): &&(u32, f64)| horizon > 0 && value > 0.0 && value.is_finite();
    let points: Vec<(u32, f64)> = points.iter().filter(usable).map(|&(h, y)| (h, y.ln())).collect();
    if points.len() < 3 {
        return None;
    }
    let fit = |place: fn(f64) -> f64| line(points.iter().map(|&(h, y)| (place(f64::from(h)), y)).collect());
    let (slope, exponential_fit) = fit(|horizon| horizon)?;
    let (degree, polynomial_fit) = fit(f64::ln)?;
    let horizons = || points.iter().map(|point| point.0);
    let between = (horizons().min()?, horizons().max()?);
    Some(Growth { factor: slope.exp(), exponential_fit, degree, polynomial_fit, horizons: points.len(), between })
}

/// Slope and R² of the least-squares line; R² is 1 where there is no variance to explain.
fn line(points: Vec<(f64, f64)>) -> Option<(f64, f64)> {
    let n = points.len() as f64;
    let (mean_x, mean_y) = (points.iter().map(|p| p.0).sum::<f64>() / n, points.iter().map(|p| p.1).sum::<f64>() / n);
    let sum = |of: &dyn Fn(f64, f64) -> f64| points.iter().map(|&(x, y)| of(x - mean_x, y - mean_y)).sum::<f64>();
    let (xx, xy, yy) = (sum(&|x, _| x * x), sum(&|x, y| x * y), sum(&|_, y| y * y));
    if xx == 0.0 {
        return None;
    }
    // What rounding left of no variance is none.
    let explained = if yy <= 1e-18 * n { 1.0 } else { xy * xy / (xx * yy) };
    Some((xy / xx, explained))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::growth;

    #[track_caller]
    fn check(points: &[(u32, f64)], expected: Expect) {
        let text = growth(points).map_or("none".to_owned(), |g| {
            let fits = (g.factor, g.exponential_fit, g.degree, g.polynomial_fit);
            format!("x{:.3} ({:.3}), H^{:.3} ({:.3}): {:?}", fits.0, fits.1, fits.2, fits.3, g.shape())
        });
        expected.assert_eq(&text);
    }

    #[test]
    fn fits() {
        let of = |f: fn(f64) -> f64| -> Vec<(u32, f64)> { (2..=12).map(|h| (h, f(f64::from(h)))).collect() };
        check(&of(|h| 2f64.powf(h)), expect!["x2.000 (1.000), H^3.908 (0.941): Exponential"]);
        check(&of(|h| 0.5 * 3f64.powf(h) + 20.0), expect!["x2.650 (0.988), H^5.348 (0.881): Exponential"]);
        check(&of(|h| 7.0 * h.powf(1.5)), expect!["x1.285 (0.941), H^1.500 (1.000): Polynomial"]);
        check(&of(|h| h * h * h.ln()), expect!["x1.555 (0.919), H^2.672 (0.998): Polynomial"]);
        check(&of(|h| 2f64.powf(h) * h), expect!["x2.363 (0.998), H^4.908 (0.962): Exponential"]);
        let narrow: Vec<(u32, f64)> = of(|h| h * h).into_iter().filter(|point| point.0 > 4).collect();
        check(&narrow, expect!["x1.279 (0.985), H^2.000 (1.000): Undecided"]);
        // No variance: both forms explain all of nothing.
        check(&of(|_| 64.0), expect!["x1.000 (1.000), H^-0.000 (1.000): Undecided"]);
    }

    #[test]
    fn what_cannot_be_fitted_is_none() {
        check(&[], expect!["none"]);
        check(&[(1, 2.0), (2, 4.0)], expect!["none"]);
        check(&[(4, 2.0), (4, 4.0), (4, 5.0)], expect!["none"]);
        check(&[(0, 2.0), (1, 0.0), (2, f64::INFINITY), (3, 2.0), (4, 3.0)], expect!["none"]);
    }
}
