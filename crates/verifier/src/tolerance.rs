//! The numeric verifier with a tolerance, for measured and computed values.
//!
//! `|stated − reference| ≤ absolute + relative · |reference|`. Both must be finite numbers in plain or
//! exponent form; the whole stated text must be one number, so listing candidates earns nothing. Exact
//! values are the business of the other verifiers: here a number is a 64-bit float.

use serde::{Deserialize, Serialize};

use crate::number::unwrap_math;
use crate::{Outcome, Verdict};

/// How far a number may be from the reference.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tolerance {
    /// In the reference's own unit; at least 0.
    #[serde(default)]
    pub absolute: f64,
    /// As a part of the reference's size; at least 0.
    #[serde(default)]
    pub relative: f64,
}

impl Tolerance {
    /// Compares a stated number (already extracted from its text) with the reference.
    ///
    /// A reference that is no finite number, and a tolerance that is negative or not finite, give
    /// `Unreadable`.
    pub fn verify(self, reference: &str, stated: &str) -> Verdict {
        let stated = stated.trim();
        if stated.is_empty() {
            return Verdict { outcome: Outcome::NoAnswer, extracted: None };
        }
        let usable = |part: f64| part.is_finite() && part >= 0.0;
        let outcome = match (read(reference), read(stated)) {
            (Some(reference), Some(found)) if usable(self.absolute) && usable(self.relative) => {
                let allowed = self.absolute + self.relative * reference.abs();
                // A difference that overflows is no difference within any tolerance.
                let within = (found - reference).abs() <= allowed && allowed.is_finite();
                if within || found == reference { Outcome::Correct } else { Outcome::Wrong }
            }
            _ => Outcome::Unreadable,
        };
        Verdict { outcome, extracted: Some(stated.to_owned()) }
    }
}

/// Reads `-12`, `1,234.5`, `1e-5`, `1.5 \times 10^{3}`, `3/4`, inside `$…$` or bare.
pub fn read(text: &str) -> Option<f64> {
    let text = unwrap_math(text).replace('\u{2212}', "-");
    if let Some((top, bottom)) = text.split_once('/') {
        let (top, bottom) = (decimal(top)?, decimal(bottom)?);
        return Some(top / bottom).filter(|value| value.is_finite());
    }
    decimal(&text)
}

fn decimal(text: &str) -> Option<f64> {
    let mut plain: String = text.split_whitespace().collect();
    let mut is_power = false;
    for power in [r"\times10^", r"\cdot10^", "\u{d7}10^", "*10^"] {
        if let Some((mantissa, exponent)) = plain.split_once(power) {
            let exponent = exponent.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')).unwrap_or(exponent);
            plain = format!("{mantissa}e{exponent}");
            is_power = true;
            break;
        }
    }
    if text.trim().contains(char::is_whitespace) && !is_power {
        return None;
    }
    let plain = without_thousands(&plain)?;
    let known = plain.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    if !known {
        return None;
    }
    plain.parse::<f64>().ok().filter(|value| value.is_finite())
}

/// `1,234.5` without its commas; none where they do not part groups of three.
fn without_thousands(text: &str) -> Option<String> {
    if !text.contains(',') {
        return Some(text.to_owned());
    }
    let (whole, rest) = text.split_at(text.find(['.', 'e', 'E']).unwrap_or(text.len()));
    let mut groups = whole.trim_start_matches(['+', '-']).split(',');
    let first = groups.next()?;
    let grouped = (1..=3).contains(&first.len()) && groups.all(|group| group.len() == 3) && !rest.contains(',');
    grouped.then(|| text.replace(',', ""))
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use expect_test::{Expect, expect};

    use super::*;

    #[track_caller]
    fn check(tolerance: Tolerance, pairs: &[(&str, &str)], expected: Expect) {
        let mut lines = String::new();
        for (reference, stated) in pairs {
            writeln!(lines, "{reference} | {stated} => {}", tolerance.verify(reference, stated).outcome).unwrap();
        }
        expected.assert_eq(&lines);
    }

    #[test]
    fn numbers_near_a_reference() {
        check(
            Tolerance { absolute: 0.0, relative: 0.01 },
            &[
                ("9.81", "9.8"),
                ("9.81", "9.7"),
                ("-9.81", "\u{2212}9.8"),
                ("-9.81", "9.8"),
                ("0", "0.0001"),
                ("6.022e23", r"$6.02 \times 10^{23}$"),
                ("6.022e23", "6.02*10^23"),
                ("1500", r"1.5\cdot10^{3}"),
                ("1234.5", "1,234.5"),
                ("1234.5", "12,34.5"),
                ("0.75", "3/4"),
                ("0.75", "3/0"),
                ("9.81", "9.8 9.9"),
                ("9.81", "9.8 m"),
                ("9.81", "nan"),
                ("9.81", "inf"),
                ("1e308", "1e309"),
                ("1.7e308", "-1.7e308"),
                ("9.81", " "),
                ("g", "9.8"),
            ],
            expect![[r#"
                9.81 | 9.8 => correct
                9.81 | 9.7 => wrong
                -9.81 | −9.8 => correct
                -9.81 | 9.8 => wrong
                0 | 0.0001 => wrong
                6.022e23 | $6.02 \times 10^{23}$ => correct
                6.022e23 | 6.02*10^23 => correct
                1500 | 1.5\cdot10^{3} => correct
                1234.5 | 1,234.5 => correct
                1234.5 | 12,34.5 => unreadable
                0.75 | 3/4 => correct
                0.75 | 3/0 => unreadable
                9.81 | 9.8 9.9 => unreadable
                9.81 | 9.8 m => unreadable
                9.81 | nan => unreadable
                9.81 | inf => unreadable
                1e308 | 1e309 => unreadable
                1.7e308 | -1.7e308 => wrong
                9.81 |   => no_answer
                g | 9.8 => unreadable
            "#]],
        );
        check(
            Tolerance { absolute: 0.5, relative: 0.0 },
            &[("10", "10.5"), ("10", "10.51"), ("0", "-0.5")],
            expect![[r#"
                10 | 10.5 => correct
                10 | 10.51 => wrong
                0 | -0.5 => correct
            "#]],
        );
        check(
            Tolerance { absolute: f64::NAN, relative: 0.0 },
            &[("10", "10")],
            expect![[r#"
            10 | 10 => unreadable
        "#]],
        );
        check(
            Tolerance { absolute: 0.0, relative: f64::INFINITY },
            &[("10", "99")],
            expect![[r#"
            10 | 99 => unreadable
        "#]],
        );
        check(
            Tolerance { absolute: -1.0, relative: 0.0 },
            &[("10", "10")],
            expect![[r#"
            10 | 10 => unreadable
        "#]],
        );
    }
}
