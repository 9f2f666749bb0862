//! Complex intervals in long floats: what `f64` leaves open.
//!
//! A real part is `mantissa · 2^exponent` with a mantissa cut to the precision; a radius bounds the
//! distance to the true value as in `float`. Everything is integer arithmetic, so a verdict is the
//! same on every machine.

use std::cmp::Ordering;

use num_bigint::BigInt;
use num_integer::Integer;
use num_rational::BigRational;
use num_traits::{One, Signed, ToPrimitive, Zero};

use super::fixed;
use super::numeric::Analytic;

/// Bits of the rounds in which a pair is compared; the last that is needed decides.
pub(crate) const PRECISIONS: [u32; 3] = [160, 512, 1536];
/// Arguments of periodic functions and exponents beyond 2^this are out of reach.
const MAX_SIZE: i64 = 40;

/// `mantissa · 2^exponent`.
#[derive(Clone, Debug)]
struct Real {
    mantissa: BigInt,
    exponent: i64,
}

/// A bound, `fraction · 2^exponent`, rounded up; 0 has the fraction 0.
#[derive(Clone, Copy, Debug)]
struct Bound {
    fraction: f64,
    exponent: i64,
}

const NOTHING: Bound = Bound { fraction: 0.0, exponent: 0 };

impl Bound {
    fn new(fraction: f64, exponent: i64) -> Bound {
        if fraction <= 0.0 {
            return NOTHING;
        }
        // Into [1, 2), rounded up by more than the arithmetic's own error.
        let shift = fraction.log2().floor() as i64;
        Bound { fraction: fraction * 2_f64.powi(-(shift as i32)) * (1.0 + 1e-12), exponent: exponent + shift }
    }

    fn power(exponent: i64) -> Bound {
        Bound { fraction: 1.0, exponent }
    }

    fn plus(self, other: Bound) -> Bound {
        let (large, small) = if self.exponent >= other.exponent { (self, other) } else { (other, self) };
        if small.fraction == 0.0 {
            return large;
        }
        if large.fraction == 0.0 {
            return small;
        }
        let gap = (large.exponent - small.exponent).min(900);
        Bound::new(large.fraction + small.fraction * 2_f64.powi(-(gap as i32)), large.exponent)
    }

    fn times(self, other: Bound) -> Bound {
        Bound::new(self.fraction * other.fraction, self.exponent + other.exponent)
    }

    fn over(self, other: Bound) -> Option<Bound> {
        (other.fraction > 0.0).then(|| Bound::new(self.fraction / other.fraction, self.exponent - other.exponent))
    }

    fn root(self) -> Bound {
        if self.exponent.is_odd() {
            Bound::new((2.0 * self.fraction).sqrt(), (self.exponent - 1) / 2)
        } else {
            Bound::new(self.fraction.sqrt(), self.exponent / 2)
        }
    }

    fn less(self, other: Bound) -> bool {
        if other.fraction == 0.0 {
            return false;
        }
        self.fraction == 0.0 || (self.exponent, self.fraction) < (other.exponent, other.fraction)
    }

    fn real(self) -> Real {
        Real { mantissa: BigInt::from((self.fraction * 2_f64.powi(40)).ceil() as i64), exponent: self.exponent - 40 }
    }
}

impl Real {
    fn zero() -> Real {
        Real { mantissa: BigInt::zero(), exponent: 0 }
    }

    fn whole(value: i64) -> Real {
        Real { mantissa: BigInt::from(value), exponent: 0 }
    }

    /// A bound from above on the size.
    fn bound(&self) -> Bound {
        let bits = self.mantissa.bits();
        if bits == 0 {
            return NOTHING;
        }
        let drop = bits.saturating_sub(50);
        let top = (self.mantissa.abs() >> drop).to_f64().unwrap_or(1.0) + 1.0;
        Bound::new(top, self.exponent + i64::try_from(drop).unwrap_or(i64::MAX / 4))
    }

    /// The exponent of the leading bit.
    fn top(&self) -> i64 {
        if self.mantissa.is_zero() {
            // Below every other number, whatever its exponent.
            return i64::MIN / 4;
        }
        i64::try_from(self.mantissa.bits()).unwrap_or(0) + self.exponent
    }

    /// Cut to a precision; the error is the bound.
    fn cut(mut self, bits: u32) -> (Real, Bound) {
        let size = self.mantissa.bits();
        let extra = size.saturating_sub(u64::from(bits));
        if extra == 0 {
            return (self, NOTHING);
        }
        self.mantissa >>= extra;
        self.exponent += i64::try_from(extra).unwrap_or(0);
        let error = Bound::power(self.exponent);
        (self, error)
    }

    fn plus(&self, other: &Real) -> Real {
        if self.mantissa.is_zero() {
            return other.clone();
        }
        if other.mantissa.is_zero() {
            return self.clone();
        }
        // A term that is 2^-4000 of the other is far below every radius that the callers keep.
        if (self.exponent - other.exponent).abs() > 8000 {
            return if self.top() > other.top() { self.clone() } else { other.clone() };
        }
        let exponent = self.exponent.min(other.exponent);
        let shift = |real: &Real| &real.mantissa << u64::try_from(real.exponent - exponent).unwrap_or(0);
        Real { mantissa: shift(self) + shift(other), exponent }
    }

    fn times(&self, other: &Real) -> Real {
        Real { mantissa: &self.mantissa * &other.mantissa, exponent: self.exponent.saturating_add(other.exponent) }
    }

    fn negative(&self) -> Real {
        Real { mantissa: -&self.mantissa, exponent: self.exponent }
    }

    /// As a fixed-point number.
    fn fixed(&self, bits: u32) -> BigInt {
        let shift = self.exponent + i64::from(bits);
        match u64::try_from(shift) {
            Ok(left) => &self.mantissa << left,
            Err(_) => &self.mantissa >> shift.unsigned_abs(),
        }
    }
}

/// A disc, or for a real value a segment.
#[derive(Clone, Debug)]
pub(crate) struct Long {
    re: Real,
    im: Real,
    radius: Bound,
    real: bool,
}

/// Whether two values have no point in common.
pub(crate) fn separated(left: &Long, right: &Long) -> bool {
    if !comparable(&left.re, &right.re) || !comparable(&left.im, &right.im) {
        return true;
    }
    let re = left.re.plus(&right.re.negative());
    let im = left.im.plus(&right.im.negative());
    let radius = left.radius.plus(right.radius);
    // The larger coordinate alone is a bound from below on the distance.
    let apart = |part: &Real| {
        let bound = radius.real();
        let difference = Real { mantissa: part.mantissa.abs(), exponent: part.exponent };
        let rest = difference.plus(&bound.negative());
        rest.mantissa.is_positive() && !part.mantissa.is_zero()
    };
    apart(&re) || apart(&im)
}

/// Whether the exponents lie near enough for a difference to be taken.
fn comparable(left: &Real, right: &Real) -> bool {
    left.mantissa.is_zero() || right.mantissa.is_zero() || (left.exponent - right.exponent).abs() < 20_000
}

/// Whether two values that are not separated are narrow enough to be called equal.
pub(crate) fn agree(left: &Long, right: &Long, precision: u32) -> bool {
    let size = left.re.bound().plus(left.im.bound()).plus(Bound::power(0));
    let radius = left.radius.plus(right.radius);
    radius.less(size.times(Bound::power(-i64::from(precision) * 2 / 3)))
}

/// The arithmetic at a precision.
pub(crate) struct Bigs {
    bits: u32,
}

impl Bigs {
    pub(crate) fn new(bits: u32) -> Bigs {
        Bigs { bits }
    }

    fn make(&self, re: Real, im: Real, radius: Bound, real: bool) -> Option<Long> {
        let (re, first) = re.cut(self.bits);
        let (im, second) = im.cut(self.bits);
        let sound = re.exponent.abs() < 1 << 50 && im.exponent.abs() < 1 << 50;
        sound.then(|| Long { re, im, radius: radius.plus(first).plus(second), real })
    }

    fn real(&self, re: Real, radius: Bound) -> Option<Long> {
        self.make(re, Real::zero(), radius, true)
    }

    /// Working bits of a function, and the error of its fixed-point result.
    fn work(&self) -> (u32, Bound) {
        let bits = self.bits + 2 * fixed::ERROR;
        (bits, Bound::power(i64::from(fixed::ERROR) - i64::from(bits)))
    }

    /// `e^x` of a real centre: the value and its error.
    fn exp_real(&self, x: &Real) -> Option<(Real, Bound)> {
        if x.top() > MAX_SIZE {
            return None;
        }
        let (bits, error) = self.work();
        let size = u32::try_from(x.top().max(0)).unwrap_or(0);
        let wide = bits + size + 4;
        let ln2 = fixed::ln2(wide);
        let scaled = x.fixed(wide);
        let (turns, rest) = scaled.div_mod_floor(&ln2);
        let value = fixed::exp(&(rest >> (wide - bits)), bits);
        let turns = turns.to_i64()?;
        let error = Bound { exponent: error.exponent + turns, ..error };
        Some((Real { mantissa: value, exponent: turns - i64::from(bits) }, error))
    }

    fn size(&self, value: &Long) -> Bound {
        if value.real {
            return value.re.bound();
        }
        let (a, b) = (value.re.bound(), value.im.bound());
        a.times(a).plus(b.times(b)).root()
    }

    /// A bound from below on the distance of a disc from 0.
    fn nearest(&self, value: &Long) -> Option<Bound> {
        let square = value.re.times(&value.re).plus(&value.im.times(&value.im));
        let (bits, shift) = (square.mantissa.bits(), square.exponent);
        if bits == 0 {
            return None;
        }
        let drop = bits.saturating_sub(50);
        let top = (&square.mantissa >> drop).to_f64()? * (1.0 - 1e-9);
        let size = Bound::new(top, shift + i64::try_from(drop).ok()?).root();
        // Half of the distance is kept as a margin for the roundings up.
        let doubled = Bound { exponent: value.radius.exponent + 1, ..value.radius };
        doubled.less(size).then(|| Bound { exponent: size.exponent - 1, ..size })
    }
}

impl Analytic for Bigs {
    type Value = Long;

    fn cost(&self) -> u64 {
        u64::from(self.bits) / 32
    }

    fn weight(&self) -> u64 {
        u64::from(self.bits) / 3
    }

    fn rational(&mut self, value: &BigRational) -> Option<Long> {
        if value.is_integer() {
            return self.real(Real { mantissa: value.numer().clone(), exponent: 0 }, NOTHING);
        }
        let shift = u64::from(self.bits) + value.denom().bits();
        let quotient = (value.numer() << shift) / value.denom();
        let exponent = -i64::try_from(shift).ok()?;
        self.real(Real { mantissa: quotient, exponent }, Bound::power(exponent))
    }

    fn dyadic(&mut self, numerator: i64) -> Option<Long> {
        self.real(Real { mantissa: BigInt::from(numerator), exponent: -13 }, NOTHING)
    }

    fn around(&mut self, value: &BigRational, radius: &BigRational) -> Option<Long> {
        let centre = self.rational(value)?;
        let radius = self.rational(radius)?;
        Some(Long { radius: centre.radius.plus(radius.re.bound()), ..centre })
    }

    fn pi(&mut self) -> Option<Long> {
        let bits = self.bits + 8;
        self.real(Real { mantissa: fixed::pi(bits), exponent: -i64::from(bits) }, Bound::power(2 - i64::from(bits)))
    }

    fn imaginary(&mut self) -> Long {
        Long { re: Real::zero(), im: Real::whole(1), radius: NOTHING, real: false }
    }

    fn add(&mut self, left: &Long, right: &Long) -> Option<Long> {
        let part = |left: &Real, right: &Real| -> (Real, Bound) {
            // A term beyond the precision of the other is part of the error.
            let limit = i64::from(self.bits) + 64;
            if !left.mantissa.is_zero() && !right.mantissa.is_zero() {
                if left.top() - right.top() > 4 * limit {
                    return (left.clone(), right.bound());
                }
                if right.top() - left.top() > 4 * limit {
                    return (right.clone(), left.bound());
                }
                if (left.exponent - right.exponent).abs() > 20 * limit {
                    return (left.clone(), right.bound());
                }
            }
            (left.plus(right), NOTHING)
        };
        let (re, first) = part(&left.re, &right.re);
        let (im, second) = part(&left.im, &right.im);
        let radius = left.radius.plus(right.radius).plus(first).plus(second);
        self.make(re, im, radius, left.real && right.real)
    }

    fn multiply(&mut self, left: &Long, right: &Long) -> Option<Long> {
        let (a, b) = (self.size(left), self.size(right));
        let radius = a.times(right.radius).plus(b.times(left.radius)).plus(left.radius.times(right.radius));
        if left.real && right.real {
            return self.real(left.re.times(&right.re), radius);
        }
        let re = left.re.times(&right.re).plus(&left.im.times(&right.im).negative());
        let im = left.re.times(&right.im).plus(&left.im.times(&right.re));
        self.make(re, im, radius, false)
    }

    fn divide(&mut self, left: &Long, right: &Long) -> Option<Long> {
        let near = self.nearest(right)?;
        // |a/b − a'/b'| ≤ (ra + |a/b|·rb) / |b'|.
        let quotient = self.size(left).over(near)?;
        let radius = left.radius.plus(quotient.times(right.radius)).over(near)?;
        let square = right.re.times(&right.re).plus(&right.im.times(&right.im));
        let (re, im) = if right.real {
            (left.re.clone(), left.im.clone())
        } else {
            let conjugate = right.im.negative();
            (
                left.re.times(&right.re).plus(&left.im.times(&conjugate).negative()),
                left.re.times(&conjugate).plus(&left.im.times(&right.re)),
            )
        };
        let divisor = if right.real { right.re.clone() } else { square };
        let mut error = NOTHING;
        let mut part = |top: &Real| -> Real {
            let shift = u64::from(self.bits) + divisor.mantissa.bits();
            let exponent = top.exponent - divisor.exponent - i64::try_from(shift).unwrap_or(0);
            error = error.plus(Bound::power(exponent));
            Real { mantissa: (&top.mantissa << shift) / &divisor.mantissa, exponent }
        };
        let (re, im) = (part(&re), if right.real && left.real { Real::zero() } else { part(&im) });
        self.make(re, im, radius.plus(error), left.real && right.real)
    }

    fn exp(&mut self, value: &Long) -> Option<Long> {
        let (size, error) = self.exp_real(&value.re)?;
        // e^r − 1 ≤ 2r for r ≤ 1.
        if !value.radius.less(Bound::power(0)) {
            return None;
        }
        let spread = size.bound().times(value.radius).times(Bound::power(1)).plus(error);
        if value.real {
            return self.real(size, spread);
        }
        let angle = Long { re: value.im.clone(), im: Real::zero(), radius: NOTHING, real: true };
        let (sine, cosine) = self.sin_cos(&angle)?;
        let radius = spread.plus(size.bound().times(sine.radius.plus(cosine.radius)));
        self.make(size.times(&cosine.re), size.times(&sine.re), radius, false)
    }

    fn ln(&mut self, value: &Long) -> Option<Long> {
        let near = self.nearest(value)?;
        let spread = value.radius.over(near)?;
        let (bits, error) = self.work();
        // The logarithm of the size is half of that of its square, so no root is needed.
        let (square, halves) = if value.real {
            (Real { mantissa: value.re.mantissa.abs(), exponent: value.re.exponent }, 0)
        } else {
            (value.re.times(&value.re).plus(&value.im.times(&value.im)), 1)
        };
        let top = square.top();
        let scaled = Real { mantissa: square.mantissa.clone(), exponent: square.exponent - top }.fixed(bits);
        let logarithm = fixed::ln(&scaled, bits) + fixed::ln2(bits + 64) * BigInt::from(top) / (BigInt::one() << 64);
        let re = Real { mantissa: logarithm, exponent: -i64::from(bits) - halves };
        let error = error.plus(error);
        if value.real && value.re.mantissa.is_positive() {
            return self.real(re, spread.plus(error));
        }
        if value.real {
            let pi = self.pi()?;
            return self.make(re, pi.re, spread.plus(error).plus(pi.radius), false);
        }
        // Over the cut the two sides differ by 2πi.
        let crosses = !value.radius.less(value.im.bound());
        if crosses && !value.re.mantissa.is_positive() {
            return None;
        }
        let scale = value.re.top().max(value.im.top());
        let unit = |part: &Real| Real { mantissa: part.mantissa.clone(), exponent: part.exponent - scale }.fixed(bits);
        let angle = fixed::angle(&unit(&value.im), &unit(&value.re), bits);
        self.make(re, Real { mantissa: angle, exponent: -i64::from(bits) }, spread.plus(spread).plus(error), false)
    }

    fn sqrt(&mut self, value: &Long) -> Option<Long> {
        if value.re.mantissa.is_negative() {
            // A rest that is 0 within its error.
            let root = value.radius.plus(value.re.bound()).root();
            return value.re.bound().less(value.radius).then(|| self.real(Real::zero(), root)).flatten();
        }
        if value.re.mantissa.is_zero() {
            return self.real(Real::zero(), value.radius.root());
        }
        let mut shift = 2 * u64::from(self.bits);
        if (value.re.exponent - i64::try_from(shift).ok()?).is_odd() {
            shift += 1;
        }
        let mantissa = (&value.re.mantissa << shift).sqrt();
        let exponent = (value.re.exponent - i64::try_from(shift).ok()?) / 2;
        let exact = &mantissa * &mantissa == &value.re.mantissa << shift;
        let root = Real { mantissa, exponent };
        let rounding = if exact { NOTHING } else { Bound::power(exponent) };
        // |√a − √b| ≤ |a − b| / √a.
        let spread = if value.radius.less(value.re.bound()) {
            let bound = Bound { exponent: root.bound().exponent - 1, ..root.bound() };
            value.radius.over(bound)?
        } else {
            value.radius.root().times(Bound::power(1))
        };
        self.real(root, spread.plus(rounding))
    }

    fn sin_cos(&mut self, value: &Long) -> Option<(Long, Long)> {
        if value.re.top() > MAX_SIZE || value.im.top() > MAX_SIZE {
            return None;
        }
        let (bits, error) = self.work();
        let (sine, cosine) = fixed::sin_cos_any(&value.re.fixed(bits), bits);
        let exponent = -i64::from(bits);
        let (sine, cosine) = (Real { mantissa: sine, exponent }, Real { mantissa: cosine, exponent });
        if value.real {
            let radius = value.radius.plus(error);
            return Some((self.real(sine, radius)?, self.real(cosine, radius)?));
        }
        if !value.radius.less(Bound::power(0)) {
            return None;
        }
        // sin(a + bi) = sin a cosh b + i cos a sinh b.
        let (up, first) = self.exp_real(&value.im)?;
        let (down, second) = self.exp_real(&value.im.negative())?;
        let half = |real: Real| Real { exponent: real.exponent - 1, ..real };
        let flat = half(up.plus(&down));
        let steep = half(up.plus(&down.negative()));
        let size = up.bound().plus(down.bound());
        let radius = first.plus(second).plus(error.times(size)).plus(value.radius.times(size).times(Bound::power(2)));
        Some((
            self.make(sine.times(&flat), cosine.times(&steep), radius, false)?,
            self.make(cosine.times(&flat), sine.times(&steep).negative(), radius, false)?,
        ))
    }

    fn real_part(&self, value: &Long) -> Long {
        Long { im: Real::zero(), real: true, ..value.clone() }
    }

    fn imaginary_part(&self, value: &Long) -> Long {
        Long { re: value.im.clone(), im: Real::zero(), real: true, radius: value.radius }
    }

    fn is_real(&self, value: &Long) -> bool {
        value.real
    }

    fn sign(&self, value: &Long) -> Option<Ordering> {
        if value.re.mantissa.is_zero() && value.radius.fraction == 0.0 {
            return Some(Ordering::Equal);
        }
        self.nearest(&self.real_part(value))?;
        Some(if value.re.mantissa.is_negative() { Ordering::Less } else { Ordering::Greater })
    }

    fn whole(&self, value: &Long) -> Option<BigInt> {
        if value.re.top() > 200 || !value.radius.less(Bound::power(-20)) {
            return None;
        }
        let half = Real { mantissa: BigInt::one(), exponent: -1 };
        let nearest = value.re.plus(&half).fixed(0);
        let rest = value.re.plus(&Real { mantissa: -&nearest, exponent: 0 });
        let close = rest.mantissa.is_zero()
            || !value.radius.less(Bound { exponent: rest.bound().exponent - 1, ..rest.bound() });
        close.then_some(nearest)
    }

    fn floor(&self, value: &Long) -> Option<BigInt> {
        if value.re.top() > 4000 || !value.radius.less(Bound::power(0)) {
            return None;
        }
        let radius = value.radius.real();
        let (low, high) = if value.radius.fraction == 0.0 {
            (value.re.fixed(0), value.re.fixed(0))
        } else {
            (value.re.plus(&radius.negative()).fixed(0), value.re.plus(&radius).fixed(0))
        };
        (low == high).then_some(low)
    }
}
