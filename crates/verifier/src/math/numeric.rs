//! Functions and points over any arithmetic of intervals: `f64` first, long floats where that is not enough.
//!
//! A point gives every symbol a fixed value drawn from its name. In the real reading a value that
//! leaves the real line is undefined (so √(1/n) and 1/√n agree where both exist); in the complex
//! reading every function has its principal value.

use std::cmp::Ordering;

use num_bigint::BigInt;
use num_integer::Integer;
use num_rational::BigRational;
use num_traits::{One, Signed, ToPrimitive};

use super::evaluate::Arithmetic;
use super::exact;
use super::modular::{hash, mix};
use super::tree::{Function, Literal};

/// Complex intervals with the elementary functions. None where a value is undefined or too large.
pub(crate) trait Analytic {
    /// A complex number, with a bound on its error, that knows whether it is real.
    type Value: Clone;

    /// Steps of an addition.
    fn cost(&self) -> u64;
    /// How many additions a function costs.
    fn weight(&self) -> u64 {
        4
    }
    fn rational(&mut self, value: &BigRational) -> Option<Self::Value>;
    /// `numerator / 8192`, exactly.
    fn dyadic(&mut self, numerator: i64) -> Option<Self::Value>;
    /// A value that may lie anywhere within `radius`.
    fn around(&mut self, value: &BigRational, radius: &BigRational) -> Option<Self::Value>;
    fn pi(&mut self) -> Option<Self::Value>;
    fn imaginary(&mut self) -> Self::Value;
    fn add(&mut self, left: &Self::Value, right: &Self::Value) -> Option<Self::Value>;
    fn multiply(&mut self, left: &Self::Value, right: &Self::Value) -> Option<Self::Value>;
    fn divide(&mut self, left: &Self::Value, right: &Self::Value) -> Option<Self::Value>;
    fn exp(&mut self, value: &Self::Value) -> Option<Self::Value>;
    /// The principal logarithm.
    fn ln(&mut self, value: &Self::Value) -> Option<Self::Value>;
    /// The square root of a real number that is not negative.
    fn sqrt(&mut self, value: &Self::Value) -> Option<Self::Value>;
    fn sin_cos(&mut self, value: &Self::Value) -> Option<(Self::Value, Self::Value)>;
    fn real_part(&self, value: &Self::Value) -> Self::Value;
    fn imaginary_part(&self, value: &Self::Value) -> Self::Value;
    fn is_real(&self, value: &Self::Value) -> bool;
    /// The sign of a real value, if its error leaves no doubt; an exact 0 is equal.
    fn sign(&self, value: &Self::Value) -> Option<Ordering>;
    /// The only whole number within the error of a real value.
    fn whole(&self, value: &Self::Value) -> Option<BigInt>;
    /// The floor of a real value, if its error leaves no doubt.
    fn floor(&self, value: &Self::Value) -> Option<BigInt>;
}

/// Where symbols get their values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Points {
    /// Between 0 and about 8.
    Positive,
    /// Whole numbers from 2 to 13, where factorials and alternating signs have values.
    Whole,
    /// Both signs.
    Mixed,
    /// Off the real line.
    Complex,
}

/// An arithmetic at one point.
pub(crate) struct Numeric<F> {
    pub(crate) field: F,
    pub(crate) points: Points,
    pub(crate) index: u64,
    /// The real reading.
    pub(crate) real: bool,
    /// What `\log` without a base means.
    pub(crate) common_log: bool,
    /// Rounded literals are intervals.
    pub(crate) lenient: bool,
}

impl<F: Analytic> Numeric<F> {
    fn whole_number(&mut self, value: i64) -> Option<F::Value> {
        self.field.rational(&BigRational::from_integer(BigInt::from(value)))
    }

    fn kept(&self, value: F::Value) -> Option<F::Value> {
        (!self.real || self.field.is_real(&value)).then_some(value)
    }

    fn negate(&mut self, value: &F::Value) -> Option<F::Value> {
        let minus = self.whole_number(-1)?;
        self.field.multiply(&minus, value)
    }

    fn subtract(&mut self, left: &F::Value, right: &F::Value) -> Option<F::Value> {
        let right = self.negate(right)?;
        self.field.add(left, &right)
    }

    /// The principal square root.
    fn square_root(&mut self, value: &F::Value) -> Option<F::Value> {
        if self.field.is_real(value) {
            match self.field.sign(value)? {
                Ordering::Less => {
                    let positive = self.negate(value)?;
                    let root = self.field.sqrt(&positive)?;
                    let unit = self.field.imaginary();
                    let root = self.field.multiply(&unit, &root)?;
                    return self.kept(root);
                }
                Ordering::Equal => return Some(value.clone()),
                Ordering::Greater => return self.field.sqrt(value),
            }
        }
        let half = self.field.rational(&BigRational::new(BigInt::one(), BigInt::from(2)))?;
        let logarithm = self.field.ln(value)?;
        let halved = self.field.multiply(&logarithm, &half)?;
        self.field.exp(&halved)
    }

    fn logarithm(&mut self, value: &F::Value) -> Option<F::Value> {
        if self.real && self.field.is_real(value) && self.field.sign(value)? != Ordering::Greater {
            return None;
        }
        let value = self.field.ln(value)?;
        self.kept(value)
    }

    /// `base^exponent` for a whole exponent, by squaring.
    fn whole_power(&mut self, base: &F::Value, exponent: &BigInt) -> Option<F::Value> {
        let mut size = exponent.magnitude().to_u32().filter(|&size| size <= 1 << 16)?;
        let mut result = self.whole_number(1)?;
        let mut base = base.clone();
        while size > 0 {
            if size & 1 == 1 {
                result = self.field.multiply(&result, &base)?;
            }
            size >>= 1;
            if size > 0 {
                base = self.field.multiply(&base, &base)?;
            }
        }
        if exponent.is_negative() {
            let one = self.whole_number(1)?;
            result = self.field.divide(&one, &result)?;
        }
        Some(result)
    }

    fn general_power(&mut self, base: &F::Value, exponent: &F::Value) -> Option<F::Value> {
        if self.field.is_real(base) {
            match self.field.sign(base)? {
                Ordering::Greater => {}
                Ordering::Equal => {
                    let positive = self.field.is_real(exponent) && self.field.sign(exponent) == Some(Ordering::Greater);
                    return positive.then(|| base.clone());
                }
                Ordering::Less => {
                    if self.points == Points::Whole
                        && self.field.is_real(exponent)
                        && let Some(whole) = self.field.whole(exponent)
                    {
                        return self.whole_power(base, &whole);
                    }
                    if self.real {
                        return None;
                    }
                }
            }
        }
        let logarithm = self.field.ln(base)?;
        let product = self.field.multiply(&logarithm, exponent)?;
        self.field.exp(&product)
    }

    fn root(&mut self, value: &F::Value, index: &BigInt) -> Option<F::Value> {
        if *index == BigInt::from(2) {
            return self.square_root(value);
        }
        if !index.is_positive() {
            return None;
        }
        let negative = self.field.is_real(value) && self.field.sign(value)? == Ordering::Less;
        if self.field.is_real(value) && self.field.sign(value)? == Ordering::Equal {
            return Some(value.clone());
        }
        if negative && index.is_even() && self.real {
            return None;
        }
        // The real root of an odd index; every other root is the principal one.
        let flip = negative && index.is_odd();
        let base = if flip { self.negate(value)? } else { value.clone() };
        let logarithm = self.field.ln(&base)?;
        let part = self.field.rational(&BigRational::new(BigInt::one(), index.clone()))?;
        let product = self.field.multiply(&logarithm, &part)?;
        let root = self.field.exp(&product)?;
        if flip { self.negate(&root) } else { Some(root) }
    }

    fn hyperbolic(&mut self, value: &F::Value) -> Option<(F::Value, F::Value)> {
        let up = self.field.exp(value)?;
        let negative = self.negate(value)?;
        let down = self.field.exp(&negative)?;
        let two = self.whole_number(2)?;
        let difference = self.subtract(&up, &down)?;
        let sum = self.field.add(&up, &down)?;
        Some((self.field.divide(&difference, &two)?, self.field.divide(&sum, &two)?))
    }

    fn arcsine(&mut self, value: &F::Value) -> Option<F::Value> {
        let one = self.whole_number(1)?;
        let square = self.field.multiply(value, value)?;
        let rest = self.subtract(&one, &square)?;
        let inside =
            self.field.is_real(value) && self.field.is_real(&rest) && self.field.sign(&rest) != Some(Ordering::Less);
        if self.real && !inside {
            return None;
        }
        // The root of a rest that may be 0 within its error is 0 within the root of its error.
        let root = self.square_root(&rest)?;
        let unit = self.field.imaginary();
        let turned = self.field.multiply(&unit, value)?;
        let sum = self.field.add(&turned, &root)?;
        let logarithm = self.field.ln(&sum)?;
        if inside {
            return Some(self.field.imaginary_part(&logarithm));
        }
        let minus = self.negate(&unit)?;
        self.field.multiply(&minus, &logarithm)
    }

    fn arctangent(&mut self, value: &F::Value) -> Option<F::Value> {
        let one = self.whole_number(1)?;
        let unit = self.field.imaginary();
        let turned = self.field.multiply(&unit, value)?;
        let above = self.field.add(&one, &turned)?;
        let upper = self.field.ln(&above)?;
        if self.field.is_real(value) {
            return Some(self.field.imaginary_part(&upper));
        }
        let below = self.subtract(&one, &turned)?;
        let lower = self.field.ln(&below)?;
        let difference = self.subtract(&upper, &lower)?;
        let two = self.whole_number(2)?;
        let divisor = self.field.multiply(&two, &unit)?;
        self.field.divide(&difference, &divisor)
    }

    fn absolute(&mut self, value: &F::Value) -> Option<F::Value> {
        if self.field.is_real(value) {
            return match self.field.sign(value)? {
                Ordering::Less => self.negate(value),
                _ => Some(value.clone()),
            };
        }
        let (real, imaginary) = (self.field.real_part(value), self.field.imaginary_part(value));
        let squares = (self.field.multiply(&real, &real)?, self.field.multiply(&imaginary, &imaginary)?);
        let sum = self.field.add(&squares.0, &squares.1)?;
        self.field.sqrt(&sum)
    }

    fn whole_arguments(&self, arguments: &[F::Value]) -> Option<Vec<BigRational>> {
        arguments
            .iter()
            .map(|value| {
                let whole = self.field.is_real(value).then(|| self.field.whole(value)).flatten()?;
                Some(BigRational::from_integer(whole))
            })
            .collect()
    }

    fn inverse_of(&mut self, value: &F::Value) -> Option<F::Value> {
        let one = self.whole_number(1)?;
        self.field.divide(&one, value)
    }
}

impl<F: Analytic> Arithmetic for Numeric<F> {
    type Value = F::Value;

    fn cost(&self, _: &F::Value) -> u64 {
        self.field.cost()
    }

    fn weight(&self) -> u64 {
        self.field.weight()
    }

    fn rational(&mut self, value: &BigRational) -> Option<F::Value> {
        self.field.rational(value)
    }

    fn literal(&mut self, literal: &Literal) -> Option<F::Value> {
        if self.lenient && literal.is_rounded() {
            return self.field.around(&literal.value, &literal.unit());
        }
        self.field.rational(&literal.value)
    }

    fn symbol(&mut self, name: &str) -> Option<F::Value> {
        let drawn = mix(hash(name) ^ mix(self.index.wrapping_add(77)));
        let scale = [4, 1, 2, 8, 1, 3, 2, 5][(self.index % 8) as usize];
        // A fraction with few bits, the same in every arithmetic.
        let fraction = |bits: u64| i64::try_from((bits % 4096) * 2 + 1).unwrap_or(1) * scale;
        match self.points {
            Points::Positive => self.field.dyadic(fraction(drawn)),
            Points::Whole => self.field.dyadic(8192 * (2 + i64::try_from((drawn >> 7) % 12).unwrap_or(0))),
            Points::Mixed => {
                // Each even point and the odd one after it have opposite signs in every symbol.
                let sign = (mix(hash(name) ^ (self.index / 2)) >> 9) ^ self.index;
                let value = fraction(drawn);
                self.field.dyadic(if sign & 1 == 0 { value } else { -value })
            }
            Points::Complex => {
                let real = self.field.dyadic(fraction(drawn))?;
                let imaginary = self.field.dyadic(fraction(drawn >> 20))?;
                let unit = self.field.imaginary();
                let turned = self.field.multiply(&unit, &imaginary)?;
                self.field.add(&real, &turned)
            }
        }
    }

    fn pi(&mut self) -> Option<F::Value> {
        self.field.pi()
    }

    fn euler(&mut self) -> Option<F::Value> {
        let one = self.whole_number(1)?;
        self.field.exp(&one)
    }

    fn imaginary(&mut self) -> Option<F::Value> {
        let unit = self.field.imaginary();
        self.kept(unit)
    }

    fn add(&mut self, left: &F::Value, right: &F::Value) -> Option<F::Value> {
        self.field.add(left, right)
    }

    fn multiply(&mut self, left: &F::Value, right: &F::Value) -> Option<F::Value> {
        self.field.multiply(left, right)
    }

    fn divide(&mut self, left: &F::Value, right: &F::Value) -> Option<F::Value> {
        self.field.divide(left, right)
    }

    fn power(&mut self, base: &F::Value, exponent: &F::Value, exact: Option<&BigRational>) -> Option<F::Value> {
        if let Some(exact) = exact {
            if exact.is_integer() && exact.numer().bits() <= 16 {
                return self.whole_power(base, exact.numer());
            }
            let half = *exact.denom() == BigInt::from(2) && exact.numer().bits() <= 16;
            if half {
                let root = self.square_root(base)?;
                return self.whole_power(&root, exact.numer());
            }
        }
        let value = self.general_power(base, exponent)?;
        self.kept(value)
    }

    fn apply(&mut self, function: Function, arguments: &[F::Value]) -> Option<F::Value> {
        let first = arguments.first()?;
        let value = match function {
            Function::Sin => self.field.sin_cos(first)?.0,
            Function::Cos => self.field.sin_cos(first)?.1,
            Function::Tan | Function::Cot => {
                let (sine, cosine) = self.field.sin_cos(first)?;
                if function == Function::Tan {
                    self.field.divide(&sine, &cosine)?
                } else {
                    self.field.divide(&cosine, &sine)?
                }
            }
            Function::Sec => {
                let cosine = self.field.sin_cos(first)?.1;
                self.inverse_of(&cosine)?
            }
            Function::Csc => {
                let sine = self.field.sin_cos(first)?.0;
                self.inverse_of(&sine)?
            }
            Function::Asin => self.arcsine(first)?,
            Function::Acos | Function::Asec => {
                let argument = if function == Function::Acos { first.clone() } else { self.inverse_of(first)? };
                let sine = self.arcsine(&argument)?;
                let pi = self.field.pi()?;
                let two = self.whole_number(2)?;
                let half = self.field.divide(&pi, &two)?;
                self.subtract(&half, &sine)?
            }
            Function::Acsc => {
                let argument = self.inverse_of(first)?;
                self.arcsine(&argument)?
            }
            Function::Atan => self.arctangent(first)?,
            Function::Acot => {
                let argument = self.inverse_of(first)?;
                self.arctangent(&argument)?
            }
            Function::Sinh => self.hyperbolic(first)?.0,
            Function::Cosh => self.hyperbolic(first)?.1,
            Function::Tanh => {
                let (sine, cosine) = self.hyperbolic(first)?;
                self.field.divide(&sine, &cosine)?
            }
            Function::Coth => {
                let (sine, cosine) = self.hyperbolic(first)?;
                self.field.divide(&cosine, &sine)?
            }
            Function::Sech => {
                let cosine = self.hyperbolic(first)?.1;
                self.inverse_of(&cosine)?
            }
            Function::Csch => {
                let sine = self.hyperbolic(first)?.0;
                self.inverse_of(&sine)?
            }
            Function::Asinh | Function::Acosh => {
                let square = self.field.multiply(first, first)?;
                let one = self.whole_number(if function == Function::Asinh { 1 } else { -1 })?;
                let rest = self.field.add(&square, &one)?;
                let root = self.square_root(&rest)?;
                let sum = self.field.add(first, &root)?;
                self.logarithm(&sum)?
            }
            Function::Atanh => {
                let one = self.whole_number(1)?;
                let above = self.field.add(&one, first)?;
                let below = self.subtract(&one, first)?;
                let quotient = self.field.divide(&above, &below)?;
                let logarithm = self.logarithm(&quotient)?;
                let two = self.whole_number(2)?;
                self.field.divide(&logarithm, &two)?
            }
            Function::Exp => self.field.exp(first)?,
            Function::Log | Function::BareLog | Function::CommonLog => {
                let top = self.logarithm(first)?;
                let base = match arguments.get(1) {
                    Some(base) => Some(base.clone()),
                    None if function == Function::BareLog && self.common_log => Some(self.whole_number(10)?),
                    None => None,
                };
                match base {
                    Some(base) => {
                        let bottom = self.logarithm(&base)?;
                        self.field.divide(&top, &bottom)?
                    }
                    None => top,
                }
            }
            Function::Root => {
                let index = match arguments.get(1) {
                    Some(index) => self.field.is_real(index).then(|| self.field.whole(index)).flatten()?,
                    None => BigInt::from(2),
                };
                self.root(first, &index)?
            }
            Function::Abs => self.absolute(first)?,
            Function::Sign => {
                let sign = match self.field.is_real(first).then(|| self.field.sign(first)).flatten()? {
                    Ordering::Less => -1,
                    Ordering::Equal => 0,
                    Ordering::Greater => 1,
                };
                self.whole_number(sign)?
            }
            Function::Floor | Function::Ceil => {
                if !self.field.is_real(first) {
                    return None;
                }
                let value = if function == Function::Floor {
                    self.field.floor(first)?
                } else {
                    let negative = self.negate(first)?;
                    -self.field.floor(&negative)?
                };
                self.field.rational(&BigRational::from_integer(value))?
            }
            Function::Factorial | Function::Binomial | Function::Gcd | Function::Lcm => {
                let whole = self.whole_arguments(arguments)?;
                let value = exact::Exact.apply(function, &whole)?;
                self.field.rational(&value)?
            }
            Function::Max | Function::Min => {
                let mut best = first.clone();
                for argument in &arguments[1..] {
                    let difference = self.subtract(argument, &best)?;
                    if !self.field.is_real(&difference) {
                        return None;
                    }
                    let above = self.field.sign(&difference)?;
                    if (above == Ordering::Greater) == (function == Function::Max) && above != Ordering::Equal {
                        best = argument.clone();
                    }
                }
                best
            }
            Function::Mod => {
                let second = arguments.get(1)?;
                let quotient = self.field.divide(first, second)?;
                if !self.field.is_real(&quotient) {
                    return None;
                }
                let floor = BigRational::from_integer(self.field.floor(&quotient)?);
                let floor = self.field.rational(&floor)?;
                let product = self.field.multiply(second, &floor)?;
                self.subtract(first, &product)?
            }
        };
        self.kept(value)
    }

    fn opaque(&mut self, _: &str, _: &[F::Value]) -> Option<F::Value> {
        None
    }

    fn takes_exact(&self, rounded: bool) -> bool {
        !(self.lenient && rounded)
    }
}
