//! Exact rational numbers, and how they are written in answers.
//!
//! Invariants: the denominator is positive, the fraction is reduced, and neither part is
//! `i128::MIN`, so negation cannot overflow. Arithmetic that leaves this range gives none, never a
//! wrapped or rounded value.

/// More digits than this are not read as a number: 10^36 is far inside `i128`, sign and scale included.
const MAX_DIGITS: usize = 36;

/// A reduced fraction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Rational {
    numerator: i128,
    denominator: i128,
}

impl Rational {
    /// A whole number.
    pub(crate) fn whole(value: i64) -> Rational {
        Rational { numerator: i128::from(value), denominator: 1 }
    }

    /// `numerator / denominator`, reduced; none for a denominator of 0 or out of range.
    pub(crate) fn new(numerator: i128, denominator: i128) -> Option<Rational> {
        if denominator == 0 {
            return None;
        }
        let divisor = greatest_common_divisor(numerator.unsigned_abs(), denominator.unsigned_abs());
        let magnitude = |part: i128| i128::try_from(part.unsigned_abs() / divisor).ok();
        let (top, bottom) = (magnitude(numerator)?, magnitude(denominator)?);
        let negative = (numerator < 0) != (denominator < 0);
        Some(Rational { numerator: if negative { -top } else { top }, denominator: bottom })
    }

    /// The sum; none out of range.
    pub(crate) fn plus(self, other: Rational) -> Option<Rational> {
        let left = self.numerator.checked_mul(other.denominator)?;
        let right = other.numerator.checked_mul(self.denominator)?;
        Rational::new(left.checked_add(right)?, self.denominator.checked_mul(other.denominator)?)
    }

    /// The difference; none out of range.
    pub(crate) fn minus(self, other: Rational) -> Option<Rational> {
        self.plus(Rational { numerator: -other.numerator, denominator: other.denominator })
    }

    /// The product; none out of range.
    pub(crate) fn times(self, other: Rational) -> Option<Rational> {
        Rational::new(self.numerator.checked_mul(other.numerator)?, self.denominator.checked_mul(other.denominator)?)
    }

    /// The quotient; none out of range or for a divisor of 0 (see [`Rational::is_zero`]).
    pub(crate) fn over(self, other: Rational) -> Option<Rational> {
        Rational::new(self.numerator.checked_mul(other.denominator)?, self.denominator.checked_mul(other.numerator)?)
    }

    /// Whether it is 0.
    pub(crate) fn is_zero(self) -> bool {
        self.numerator == 0
    }

    /// Reads a whole text as one number: `-12`, `1,234.50`, `.5`, `3/4`, `\frac{3}{4}`, `\frac34`,
    /// `$…$`, `\(…\)`. None for anything else, and for more than 36 digits.
    pub(crate) fn read(text: &str) -> Option<Rational> {
        let text = unwrap_math(text);
        let (negative, text) = split_sign(text);
        let magnitude = match text.strip_prefix('\\') {
            Some(command) => read_frac(command)?,
            None => match text.split_once('/') {
                Some((top, bottom)) => read_decimal(top.trim_end())?.over(read_signed(bottom.trim_start())?)?,
                None => read_decimal(text)?,
            },
        };
        if negative { Rational::whole(0).minus(magnitude) } else { Some(magnitude) }
    }
}

/// The text inside surrounding `$`, `$$`, `\(…\)` or `\[…\]`, trimmed.
pub(crate) fn unwrap_math(text: &str) -> &str {
    let mut text = text.trim();
    // Each round removes at least two bytes, and no real answer is wrapped more than twice.
    for _ in 0..2 {
        for (open, close) in [("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]")] {
            if let Some(inner) = text.strip_prefix(open).and_then(|rest| rest.strip_suffix(close)) {
                text = inner.trim();
            }
        }
    }
    text
}

/// Splits a leading `+`, `-` or minus sign (U+2212) off.
fn split_sign(text: &str) -> (bool, &str) {
    for (sign, negative) in [("-", true), ("\u{2212}", true), ("+", false)] {
        if let Some(rest) = text.strip_prefix(sign) {
            return (negative, rest.trim_start());
        }
    }
    (false, text)
}

fn read_signed(text: &str) -> Option<Rational> {
    let (negative, text) = split_sign(text);
    let magnitude = read_decimal(text)?;
    if negative { Rational::whole(0).minus(magnitude) } else { Some(magnitude) }
}

/// `frac{3}{4}`, `dfrac{3}{4}`, `tfrac34`, without the backslash; nothing may follow.
fn read_frac(command: &str) -> Option<Rational> {
    let rest = ["frac", "dfrac", "tfrac"].into_iter().find_map(|name| command.strip_prefix(name))?;
    let (top, rest) = read_frac_part(rest.trim_start())?;
    let (bottom, rest) = read_frac_part(rest.trim_start())?;
    if rest.is_empty() { top.over(bottom) } else { None }
}

/// A braced number, or a single digit; and the rest.
fn read_frac_part(text: &str) -> Option<(Rational, &str)> {
    if let Some(inner) = text.strip_prefix('{') {
        let (number, rest) = inner.split_once('}')?;
        return Some((read_signed(number.trim())?, rest));
    }
    let digit = text.chars().next().filter(char::is_ascii_digit)?;
    Some((Rational::whole(i64::from(digit.to_digit(10)?)), &text[1..]))
}

/// Digits with an optional point and, before the point, optional thousands separators (`,` or `{,}`).
fn read_decimal(text: &str) -> Option<Rational> {
    // A number with separators is at most four times as long as its digits; longer texts are none,
    // and are refused before anything is copied.
    if text.len() > 4 * (MAX_DIGITS + 1) {
        return None;
    }
    let text = text.replace("{,}", ",");
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut digits = String::new();
    for (position, group) in whole.split(',').enumerate() {
        let grouped = whole.contains(',');
        let fits = match (grouped, position) {
            (false, _) => true,
            (true, 0) => matches!(group.len(), 1..=3),
            (true, _) => group.len() == 3,
        };
        if !fits || !group.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        digits.push_str(group);
    }
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // Zeros at the end of a decimal fraction change nothing and must not use up the digits.
    let fraction = fraction.trim_end_matches('0');
    digits.push_str(fraction);
    let significant = digits.trim_start_matches('0');
    if significant.len() > MAX_DIGITS || fraction.len() > MAX_DIGITS {
        return None;
    }
    let numerator = if significant.is_empty() { 0 } else { significant.parse::<i128>().ok()? };
    Rational::new(numerator, 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?)
}

/// Never 0 unless both are 0, which a positive denominator excludes.
fn greatest_common_divisor(mut left: u128, mut right: u128) -> u128 {
    while right != 0 {
        (left, right) = (right, left % right);
    }
    left
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::Rational;

    #[track_caller]
    fn check(texts: &[&str], expected: Expect) {
        let show = |text: &&str| match Rational::read(text) {
            Some(number) => format!("{text}  =>  {}/{}\n", number.numerator, number.denominator),
            None => format!("{text}  =>  -\n"),
        };
        expected.assert_eq(&texts.iter().map(show).collect::<String>());
    }

    #[test]
    fn numbers_are_read() {
        check(
            &[
                "0",
                "-0",
                "007",
                "12",
                "+12",
                "- 12",
                "--12",
                "1,234,567",
                "1,23",
                "1234,567",
                ",123",
                "1,234.5",
                "1.234,5",
                ".5",
                "5.",
                ".",
                "",
                "-",
                "1/2",
                "-1/2",
                "1/-2",
                "-1/-2",
                "2 / 4",
                "1/2/3",
                "1/",
                "/2",
                "1/0",
                ".5/.25",
                "1,000/2",
                r"\frac{1}{2}",
                r"-\frac{1}{2}",
                r"\frac{-1}{2}",
                r"\frac12",
                r"\frac1{12}",
                r"\frac{1}2",
                r"\frac123",
                r"\frac{1}{2}{3}",
                r"\frac{1}{0}",
                r"\frac{1}",
                r"\frac{\frac{1}{2}}{3}",
                r"\sqrt{2}",
                "$5$",
                "$$5$$",
                "$5",
                "$",
                "$$",
                r"\(5\)",
                r"\[ 5 \]",
                "$$$5$$$",
                "1e3",
                "0x10",
                "٣",
                "1 000",
                "5%",
                "999999999999999999999999999999999999",
                "9999999999999999999999999999999999990",
                "0.000000000000000000000000000000000001",
                "0.0000000000000000000000000000000000001",
                "999999999999999999999999999999999999/0.000000000000000000000000000000000001",
            ],
            expect![[r#"
                0  =>  0/1
                -0  =>  0/1
                007  =>  7/1
                12  =>  12/1
                +12  =>  12/1
                - 12  =>  -12/1
                --12  =>  -
                1,234,567  =>  1234567/1
                1,23  =>  -
                1234,567  =>  -
                ,123  =>  -
                1,234.5  =>  2469/2
                1.234,5  =>  -
                .5  =>  1/2
                5.  =>  5/1
                .  =>  -
                  =>  -
                -  =>  -
                1/2  =>  1/2
                -1/2  =>  -1/2
                1/-2  =>  -1/2
                -1/-2  =>  1/2
                2 / 4  =>  1/2
                1/2/3  =>  -
                1/  =>  -
                /2  =>  -
                1/0  =>  -
                .5/.25  =>  2/1
                1,000/2  =>  500/1
                \frac{1}{2}  =>  1/2
                -\frac{1}{2}  =>  -1/2
                \frac{-1}{2}  =>  -1/2
                \frac12  =>  1/2
                \frac1{12}  =>  1/12
                \frac{1}2  =>  1/2
                \frac123  =>  -
                \frac{1}{2}{3}  =>  -
                \frac{1}{0}  =>  -
                \frac{1}  =>  -
                \frac{\frac{1}{2}}{3}  =>  -
                \sqrt{2}  =>  -
                $5$  =>  5/1
                $$5$$  =>  5/1
                $5  =>  -
                $  =>  -
                $$  =>  -
                \(5\)  =>  5/1
                \[ 5 \]  =>  5/1
                $$$5$$$  =>  5/1
                1e3  =>  -
                0x10  =>  -
                ٣  =>  -
                1 000  =>  -
                5%  =>  -
                999999999999999999999999999999999999  =>  999999999999999999999999999999999999/1
                9999999999999999999999999999999999990  =>  -
                0.000000000000000000000000000000000001  =>  1/1000000000000000000000000000000000000
                0.0000000000000000000000000000000000001  =>  -
                999999999999999999999999999999999999/0.000000000000000000000000000000000001  =>  -
            "#]],
        );
    }

    #[test]
    fn arithmetic_gives_none_rather_than_a_wrong_value() {
        let largest = Rational::new(i128::MAX, 1);
        let tiny = Rational::new(1, i128::MAX);
        let (largest, tiny) = (largest.unwrap(), tiny.unwrap());
        assert_eq!(largest.plus(Rational::whole(1)), None);
        assert_eq!(largest.times(Rational::whole(2)), None);
        assert_eq!(largest.over(tiny), None);
        assert_eq!(tiny.over(Rational::whole(2)), None);
        assert_eq!(largest.times(tiny), Some(Rational::whole(1)));
        assert_eq!(largest.plus(tiny), None);
        assert_eq!(Rational::new(i128::MIN, 1), None);
        assert_eq!(Rational::new(i128::MIN, i128::MIN), Some(Rational::whole(1)));
        assert_eq!(Rational::new(i128::MIN, 2), Rational::new(i128::MIN / 2, 1));
        assert_eq!(Rational::whole(1).over(Rational::whole(0)), None);
        assert_eq!(Rational::new(6, -4), Rational::new(-3, 2));
        let third = Rational::whole(1).over(Rational::whole(3)).unwrap();
        assert_eq!(third.times(Rational::whole(3)), Some(Rational::whole(1)));
        assert_eq!(third.minus(third), Some(Rational::whole(0)));
    }
}
