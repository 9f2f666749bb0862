//! The numeric verifier with a tolerance, for measured and computed values.
//!
//! In a problem file the reference says how far: `9.81 +- 0.01`.
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

    /// As [`verify`](Tolerance::verify), where the number may have a unit behind it: `9.8 m/s^2`.
    pub(crate) fn verify_stated(self, reference: &str, stated: &str) -> Verdict {
        let Verdict { outcome, .. } = self.verify(reference, without_unit(unwrap_math(stated)));
        Verdict { outcome, extracted: Some(stated.to_owned()) }
    }
}

/// Reads a reference with how far an answer may be from it: `9.81 +- 0.01` in its own unit, `9.81 ± 1%` of
/// its size, or both, which add up. The number is given back as it was written.
///
/// # Errors
/// What is wrong with it, in words.
pub fn read_reference(reference: &str) -> Result<(&str, Tolerance), String> {
    const FORM: &str = "expected `NUMBER +- TOLERANCE`, such as `9.81 +- 0.01` or `9.81 +- 1%`";
    let (number, mut rest) = split_sign(reference).ok_or(FORM)?;
    let number = number.trim();
    if read(number).is_none() {
        return Err(FORM.to_owned());
    }
    let (mut absolute, mut relative) = (None, None);
    loop {
        let (part, more) = split_sign(rest).map_or((rest, None), |(part, more)| (part, Some(more)));
        let part = part.trim();
        let (slot, digits, scale) = match part.strip_suffix('%') {
            Some(digits) => (&mut relative, digits.trim_end(), 0.01),
            None => (&mut absolute, part, 1.0),
        };
        match read(digits).filter(|value| *value >= 0.0) {
            Some(value) if slot.is_none() => *slot = Some(value * scale),
            Some(_) => return Err("it has two tolerances of one kind".to_owned()),
            None => return Err(format!("its tolerance `{part}` is no number of at least 0")),
        }
        match more {
            Some(more) => rest = more,
            None => break,
        }
    }
    Ok((number, Tolerance { absolute: absolute.unwrap_or(0.0), relative: relative.unwrap_or(0.0) }))
}

/// The text before and after the first `+-` or `±`.
fn split_sign(text: &str) -> Option<(&str, &str)> {
    let signs = ["+-", "+/-", "\u{b1}", r"\pm"];
    let first = signs.iter().filter_map(|sign| text.find(sign).map(|at| (at, sign.len()))).min()?;
    Some((&text[..first.0], &text[first.0 + first.1..]))
}

/// `9.8` of `9.8 m/s^2`: what stands before the first space, if no other number follows it.
fn without_unit(stated: &str) -> &str {
    let Some((number, unit)) = stated.split_once(char::is_whitespace) else { return stated };
    let mut in_exponent = false;
    let has_number = unit.chars().any(|c| {
        in_exponent = c == '^' || in_exponent && (c.is_numeric() || matches!(c, '{' | '-' | '\u{2212}'));
        c.is_numeric() && !in_exponent
    });
    if has_number || decimal(number).is_none() { stated } else { number }
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

    #[track_caller]
    fn check_reference(references: &[&str], expected: Expect) {
        let mut lines = String::new();
        for reference in references {
            match read_reference(reference) {
                Ok((number, Tolerance { absolute, relative })) => {
                    writeln!(lines, "{reference} => {number}, {absolute}, {relative}").unwrap();
                }
                Err(reason) => writeln!(lines, "{reference} => {reason}").unwrap(),
            }
        }
        expected.assert_eq(&lines);
    }

    #[test]
    fn references() {
        check_reference(
            &[
                "9.81 +- 0.01",
                "9.81\u{b1}1%",
                "-6.02e23 +/- 1 %",
                r"3/4 \pm 0",
                "10 +- 0.5 +- 1%",
                "9.81",
                "g +- 1",
                "9.81 +- ",
                "9.81 +- -1",
                "9.81 +- 1 +- 2",
                "9.81 +- inf",
            ],
            expect![[r#"
                9.81 +- 0.01 => 9.81, 0.01, 0
                9.81±1% => 9.81, 0, 0.01
                -6.02e23 +/- 1 % => -6.02e23, 0, 0.01
                3/4 \pm 0 => 3/4, 0, 0
                10 +- 0.5 +- 1% => 10, 0.5, 0.01
                9.81 => expected `NUMBER +- TOLERANCE`, such as `9.81 +- 0.01` or `9.81 +- 1%`
                g +- 1 => expected `NUMBER +- TOLERANCE`, such as `9.81 +- 0.01` or `9.81 +- 1%`
                9.81 +-  => its tolerance `` is no number of at least 0
                9.81 +- -1 => its tolerance `-1` is no number of at least 0
                9.81 +- 1 +- 2 => it has two tolerances of one kind
                9.81 +- inf => its tolerance `inf` is no number of at least 0
            "#]],
        );
    }

    #[test]
    fn units_behind_a_number() {
        let units = [
            "9.8 m/s^2",
            "9.8 m s^{-2}",
            "9.8",
            "$9.8$ m",
            "9.8 or 9.9",
            "9.8 9.9",
            "9 -8",
            "9.8 {8}",
            "about 9.8",
            "9.8m",
        ];
        let tolerance = Tolerance { absolute: 0.1, relative: 0.0 };
        let found: Vec<String> =
            units.iter().map(|text| format!("{text}: {}", tolerance.verify_stated("9.81", text).outcome)).collect();
        expect!["9.8 m/s^2: correct, 9.8 m s^{-2}: correct, 9.8: correct, $9.8$ m: unreadable, 9.8 or 9.9: unreadable, 9.8 9.9: unreadable, 9 -8: unreadable, 9.8 {8}: unreadable, about 9.8: unreadable, 9.8m: unreadable"].assert_eq(&found.join(", "));
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
