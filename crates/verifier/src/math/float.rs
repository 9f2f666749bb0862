//! Complex intervals in `f64`: a centre and a radius that bounds the distance to the true value.
//!
//! Every operation widens the radius by its own rounding (a few units in the last place, more than
//! any library's error) and by what its arguments' radii can do to it. Values beyond about 1e300 are
//! out of reach.

use std::cmp::Ordering;

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{FromPrimitive, ToPrimitive, Zero};

use super::numeric::Analytic;

/// Sixteen units in the last place: rounding of the operation, and of the bounds themselves.
const SLACK: f64 = 4.0e-15;
/// Beyond this, squares may overflow.
const LARGEST: f64 = 1e150;

/// A disc, or for a real value a segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Disc {
    pub(crate) re: f64,
    pub(crate) im: f64,
    pub(crate) radius: f64,
    real: bool,
}

impl Disc {
    fn real(re: f64, radius: f64) -> Option<Disc> {
        Disc { re, im: 0.0, radius, real: true }.checked()
    }

    fn complex(re: f64, im: f64, radius: f64) -> Option<Disc> {
        Disc { re, im, radius, real: false }.checked()
    }

    fn checked(self) -> Option<Disc> {
        let sound = self.re.abs() < LARGEST && self.im.abs() < LARGEST && self.radius < LARGEST;
        sound.then_some(self)
    }

    /// The distance of the centre from 0.
    pub(crate) fn size(&self) -> f64 {
        self.re.hypot(self.im)
    }
}

/// The arithmetic.
pub(crate) struct Floats;

impl Analytic for Floats {
    type Value = Disc;

    fn cost(&self) -> u64 {
        1
    }

    fn rational(&mut self, value: &BigRational) -> Option<Disc> {
        // Most numbers are short, and the general conversion divides long integers.
        let short = value.numer().to_i64().zip(value.denom().to_i64());
        let centre = match short {
            Some((top, bottom)) => top as f64 / bottom as f64,
            None => value.to_f64()?,
        };
        let whole = value.is_integer() && centre.abs() < 9e15;
        if centre == 0.0 && !value.is_zero() {
            return None;
        }
        Disc::real(centre, if whole { 0.0 } else { centre.abs() * SLACK })
    }

    fn dyadic(&mut self, numerator: i64) -> Option<Disc> {
        // Thirteen bits after the point and few before it: exact.
        Disc::real(numerator as f64 / 8192.0, 0.0)
    }

    fn around(&mut self, value: &BigRational, radius: &BigRational) -> Option<Disc> {
        let disc = self.rational(value)?;
        let radius = radius.to_f64()?;
        Disc::real(disc.re, disc.radius + radius * (1.0 + SLACK))
    }

    fn pi(&mut self) -> Option<Disc> {
        Disc::real(std::f64::consts::PI, SLACK)
    }

    fn imaginary(&mut self) -> Disc {
        Disc { re: 0.0, im: 1.0, radius: 0.0, real: false }
    }

    fn add(&mut self, left: &Disc, right: &Disc) -> Option<Disc> {
        let (re, im) = (left.re + right.re, left.im + right.im);
        let exact = left.radius == 0.0 && right.radius == 0.0 && im == 0.0 && re.abs() < 9e15 && re.fract() == 0.0;
        let slack = if exact && left.re.fract() == 0.0 { 0.0 } else { (re.abs() + im.abs()) * SLACK };
        let radius = left.radius + right.radius + slack;
        if left.real && right.real { Disc::real(re, radius) } else { Disc::complex(re, im, radius) }
    }

    fn multiply(&mut self, left: &Disc, right: &Disc) -> Option<Disc> {
        let (a, b) = (left.size(), right.size());
        let spread = a * right.radius + b * left.radius + left.radius * right.radius;
        if left.real && right.real {
            let re = left.re * right.re;
            let exact = spread == 0.0 && re.abs() < 9e15 && left.re.fract() == 0.0 && right.re.fract() == 0.0;
            return Disc::real(re, if exact { 0.0 } else { spread * (1.0 + SLACK) + re.abs() * SLACK });
        }
        let re = left.re * right.re - left.im * right.im;
        let im = left.re * right.im + left.im * right.re;
        Disc::complex(re, im, spread * (1.0 + SLACK) + a * b * SLACK)
    }

    fn divide(&mut self, left: &Disc, right: &Disc) -> Option<Disc> {
        let b = right.size();
        let near = b * (1.0 - SLACK) - right.radius;
        if near <= 1e-150 {
            return None;
        }
        let spread = (left.radius + left.size() / b * right.radius) / near;
        if left.real && right.real {
            let re = left.re / right.re;
            return Disc::real(re, spread * (1.0 + SLACK) + re.abs() * SLACK);
        }
        let square = b * b;
        let re = (left.re * right.re + left.im * right.im) / square;
        let im = (left.im * right.re - left.re * right.im) / square;
        Disc::complex(re, im, spread * (1.0 + SLACK) + left.size() / b * SLACK)
    }

    fn exp(&mut self, value: &Disc) -> Option<Disc> {
        let size = value.re.exp();
        let radius = size * (value.radius.exp_m1() * (1.0 + SLACK) + SLACK);
        if value.real {
            return Disc::real(size, radius);
        }
        let (sine, cosine) = value.im.sin_cos();
        Disc::complex(size * cosine, size * sine, radius)
    }

    fn ln(&mut self, value: &Disc) -> Option<Disc> {
        let size = value.size();
        let near = size * (1.0 - SLACK) - value.radius;
        if near <= 0.0 {
            return None;
        }
        let spread = value.radius / near;
        let re = size.ln();
        let slack = SLACK * (1.0 + re.abs());
        if value.real && value.re > 0.0 {
            return Disc::real(re, spread * (1.0 + SLACK) + slack);
        }
        if value.real {
            return Disc::complex(re, std::f64::consts::PI, spread * (1.0 + SLACK) + slack);
        }
        // Over the cut the two sides differ by 2πi.
        if value.re < value.radius && value.im.abs() <= value.radius {
            return None;
        }
        Disc::complex(re, value.im.atan2(value.re), spread * (1.0 + SLACK) + slack)
    }

    fn sqrt(&mut self, value: &Disc) -> Option<Disc> {
        if value.re < -value.radius {
            return None;
        }
        let root = value.re.max(0.0).sqrt();
        let whole = value.radius == 0.0 && root.fract() == 0.0 && root * root == value.re;
        if whole {
            return Disc::real(root, 0.0);
        }
        let spread = if value.re > value.radius {
            value.radius / (value.re - value.radius).sqrt()
        } else {
            (2.0 * value.radius).sqrt()
        };
        Disc::real(root, spread * (1.0 + SLACK) + root * SLACK)
    }

    fn sin_cos(&mut self, value: &Disc) -> Option<(Disc, Disc)> {
        let (sine, cosine) = value.re.sin_cos();
        if value.real {
            let radius = value.radius + SLACK;
            return Some((Disc::real(sine, radius)?, Disc::real(cosine, radius)?));
        }
        let (up, flat) = (value.im.sinh(), value.im.cosh());
        let spread = value.radius * (value.im.abs() + value.radius).cosh();
        let radius = spread * (1.0 + SLACK) + flat * SLACK;
        Some((Disc::complex(sine * flat, cosine * up, radius)?, Disc::complex(cosine * flat, -sine * up, radius)?))
    }

    fn real_part(&self, value: &Disc) -> Disc {
        Disc { im: 0.0, real: true, ..*value }
    }

    fn imaginary_part(&self, value: &Disc) -> Disc {
        Disc { re: value.im, im: 0.0, real: true, ..*value }
    }

    fn is_real(&self, value: &Disc) -> bool {
        value.real
    }

    fn sign(&self, value: &Disc) -> Option<Ordering> {
        if value.re == 0.0 && value.radius == 0.0 {
            return Some(Ordering::Equal);
        }
        (value.re.abs() > value.radius).then_some(if value.re > 0.0 { Ordering::Greater } else { Ordering::Less })
    }

    fn whole(&self, value: &Disc) -> Option<BigInt> {
        let nearest = value.re.round();
        let close = (nearest - value.re).abs() <= value.radius && value.radius < 1e-6 && nearest.abs() < 9e15;
        if close { BigInt::from_f64(nearest) } else { None }
    }

    fn floor(&self, value: &Disc) -> Option<BigInt> {
        let (low, high) = ((value.re - value.radius).floor(), (value.re + value.radius).floor());
        if low == high && low.abs() < 9e15 { BigInt::from_f64(low) } else { None }
    }
}
