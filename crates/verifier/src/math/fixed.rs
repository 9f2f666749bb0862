//! Elementary functions on fixed-point integers: `value · 2^bits`, truncated.
//!
//! Series after halving or Newton steps from an `f64` start, with the error of each function below
//! `2^(ERROR − bits)`. Constants are computed once and shared.

use std::sync::OnceLock;

use num_bigint::BigInt;
use num_traits::{One, ToPrimitive, Zero};

/// Errors are below `2^ERROR` units of the last bit.
pub(crate) const ERROR: u32 = 24;
/// Bits of the shared constants.
const CONSTANT_BITS: u32 = 2048;

fn product(left: &BigInt, right: &BigInt, bits: u32) -> BigInt {
    (left * right) >> bits
}

/// `ln 2`.
pub(crate) fn ln2(bits: u32) -> BigInt {
    static VALUE: OnceLock<BigInt> = OnceLock::new();
    let value = VALUE.get_or_init(|| inverse_series(3, CONSTANT_BITS, false) * 2);
    value >> (CONSTANT_BITS - bits)
}

/// `π`, by Machin's formula.
pub(crate) fn pi(bits: u32) -> BigInt {
    static VALUE: OnceLock<BigInt> = OnceLock::new();
    let value = VALUE
        .get_or_init(|| inverse_series(5, CONSTANT_BITS, true) * 16 - inverse_series(239, CONSTANT_BITS, true) * 4);
    value >> (CONSTANT_BITS - bits)
}

/// `atan(1/x)` if the signs alternate, else `atanh(1/x)`.
fn inverse_series(x: u32, bits: u32, alternating: bool) -> BigInt {
    let square = BigInt::from(x * x);
    let mut power = (BigInt::one() << bits) / x;
    let mut total = power.clone();
    let mut at = 1_u32;
    while !power.is_zero() {
        power /= &square;
        at += 2;
        let term = &power / at;
        if alternating && at % 4 == 3 {
            total -= term;
        } else {
            total += term;
        }
    }
    total
}

/// `e^x` for |x| ≤ 1.
pub(crate) fn exp(x: &BigInt, bits: u32) -> BigInt {
    const HALVINGS: u32 = 12;
    let wide = bits + HALVINGS + 8;
    let x = (x << (wide - bits)) >> HALVINGS;
    let one = BigInt::one() << wide;
    let mut total = &one + &x;
    let mut term = x.clone();
    let mut at = 2_u32;
    while !term.is_zero() && term != -BigInt::one() {
        term = product(&term, &x, wide) / at;
        total += &term;
        at += 1;
    }
    for _ in 0..HALVINGS {
        total = product(&total, &total, wide);
    }
    total >> (wide - bits)
}

/// `(sin x, cos x)` for |x| ≤ 1.
pub(crate) fn sin_cos(x: &BigInt, bits: u32) -> (BigInt, BigInt) {
    let square = product(x, x, bits);
    let (mut sine, mut cosine) = (x.clone(), BigInt::one() << bits);
    let (mut odd, mut even) = (x.clone(), BigInt::one() << bits);
    let mut at = 1_u32;
    loop {
        even = -(product(&even, &square, bits) / (at * (at + 1)));
        odd = -(product(&odd, &square, bits) / ((at + 1) * (at + 2)));
        if even.magnitude().bits() <= 1 && odd.magnitude().bits() <= 1 {
            return (sine, cosine);
        }
        cosine += &even;
        sine += &odd;
        at += 2;
    }
}

/// The nearest `f64` of a fixed-point number of moderate size.
pub(crate) fn to_f64(x: &BigInt, bits: u32) -> f64 {
    let drop = x.bits().saturating_sub(60);
    let top = (x >> drop).to_f64().unwrap_or(0.0);
    let exponent = i64::try_from(drop).unwrap_or(0) - i64::from(bits);
    top * 2_f64.powi(i32::try_from(exponent).unwrap_or(-2000))
}

fn from_f64(x: f64, bits: u32) -> BigInt {
    let scaled = (x * 2_f64.powi(52)).to_i64().unwrap_or(0);
    let value = BigInt::from(scaled);
    if bits >= 52 { value << (bits - 52) } else { value >> (52 - bits) }
}

/// `ln x` for ½ ≤ x ≤ 1.
pub(crate) fn ln(x: &BigInt, bits: u32) -> BigInt {
    let mut value = from_f64(to_f64(x, bits).ln(), bits);
    // Each step triples the right digits: 50, 150, 450, 1350.
    for _ in 0..if bits < 140 {
        1
    } else if bits < 440 {
        2
    } else if bits < 1300 {
        3
    } else {
        4
    } {
        let power = exp(&value, bits);
        let correction: BigInt = ((x - &power) << (bits + 1)) / (x + &power);
        value += correction;
    }
    value
}

/// The angle of a point at a distance of about 1 from the origin, in (−π, π].
pub(crate) fn angle(y: &BigInt, x: &BigInt, bits: u32) -> BigInt {
    let mut value = from_f64(to_f64(y, bits).atan2(to_f64(x, bits)), bits);
    let size = ((x * x + y * y).magnitude().sqrt()).into();
    let size: BigInt = size;
    for _ in 0..if bits < 230 {
        1
    } else if bits < 1200 {
        2
    } else {
        3
    } {
        let (sine, cosine) = sin_cos_any(&value, bits);
        // The sine of what is missing, and its arc to the third order.
        let missing: BigInt = (y * &cosine - x * &sine) / &size;
        let cube = product(&product(&missing, &missing, bits), &missing, bits);
        value += missing + cube / 6;
    }
    value
}

/// `(sin x, cos x)` for any moderate x, by quarter turns.
pub(crate) fn sin_cos_any(x: &BigInt, bits: u32) -> (BigInt, BigInt) {
    let size = u32::try_from(x.bits().saturating_sub(u64::from(bits))).unwrap_or(0);
    let wide = (bits + size + 8).min(CONSTANT_BITS - 1);
    let scaled = x << (wide - bits);
    let quarter = pi(wide + 1) >> 2;
    let quarter: BigInt = quarter;
    // Rounded to the nearest quarter turn.
    let turns: BigInt = floor_divide(&(&scaled + (&quarter >> 1)), &quarter);
    let rest: BigInt = (scaled - &turns * quarter) >> (wide - bits);
    let (sine, cosine) = sin_cos(&rest, bits);
    match floor_remainder(&turns, 4) {
        0 => (sine, cosine),
        1 => (cosine, -sine),
        2 => (-sine, -cosine),
        _ => (-cosine, sine),
    }
}

fn floor_divide(left: &BigInt, right: &BigInt) -> BigInt {
    num_integer::Integer::div_floor(left, right)
}

fn floor_remainder(value: &BigInt, modulus: u32) -> u32 {
    num_integer::Integer::mod_floor(value, &BigInt::from(modulus)).to_u32().unwrap_or(0)
}
