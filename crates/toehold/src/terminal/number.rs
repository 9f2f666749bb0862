//! Numbers as people read them: counts, compute, durations and rates with their intervals.
//!
//! What is not finite prints as a dash: a table with a hole is better than one with `NaN`.

use std::time::Duration;

/// What stands for a number that is not there.
const MISSING: &str = "–";

/// Steps of a thousand, from 10⁰ to 10³⁰.
const PREFIXES: [&str; 11] = ["", "k", "M", "G", "T", "P", "E", "Z", "Y", "R", "Q"];

/// A count with separators: `12,345`.
///
/// ```
/// assert_eq!(toehold::terminal::count(1234567), "1,234,567");
/// ```
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Compute with an engineering prefix: `3.2 TFLOP`.
pub fn flops(n: f64) -> String {
    if !n.is_finite() {
        return MISSING.to_owned();
    }
    let (scale, prefix) = engineering(n);
    format!("{} {prefix}FLOP", short(n / scale))
}

/// Memory in binary units: `340 MiB`, `1.2 GiB`.
pub fn bytes(n: u64) -> String {
    match n {
        0..0x10_0000 => format!("{} KiB", n.div_ceil(1 << 10)),
        0x10_0000..0x4000_0000 => format!("{} MiB", n.div_ceil(1 << 20)),
        _ => format!("{:.1} GiB", n as f64 / (1u64 << 30) as f64),
    }
}

/// The power of a thousand that `n` is best read in, and its prefix: `(1e12, "T")`.
pub(crate) fn engineering(n: f64) -> (f64, &'static str) {
    let mut scale = 1.0;
    let mut index = 0;
    // 999.6 would be printed as 1000, so the step is taken a little before the thousand.
    while n.is_finite() && n.abs() / scale >= 999.5 && index + 1 < PREFIXES.len() {
        scale *= 1000.0;
        index += 1;
    }
    (scale, PREFIXES[index])
}

/// A duration in its two largest units: `340 ms`, `12 s`, `2 min 05 s`, `1 h 03 min`, `2 d 04 h`.
pub fn duration(elapsed: Duration) -> String {
    let milliseconds = elapsed.as_millis();
    let seconds = elapsed.as_secs();
    match seconds {
        0 => format!("{milliseconds} ms"),
        1..10 => format!("{:.1} s", milliseconds as f64 / 1000.0),
        10..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {:02} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {:02} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// A rate in [0, 1] as a percentage: `34.2 %`.
pub fn percent(rate: f64) -> String {
    let percent = 100.0 * rate;
    if percent.is_finite() { format!("{percent:.1} %") } else { MISSING.to_owned() }
}

/// A rate in [0, 1] with its interval: `34.2 % [30.1, 38.6]`.
pub fn percent_with_interval(rate: f64, low: f64, high: f64) -> String {
    let (low, high) = (100.0 * low, 100.0 * high);
    if low.is_finite() && high.is_finite() { format!("{} [{low:.1}, {high:.1}]", percent(rate)) } else { percent(rate) }
}

/// One decimal below 100, none above; small values keep two significant digits.
pub(crate) fn short(n: f64) -> String {
    match n.abs() {
        _ if !n.is_finite() => MISSING.to_owned(),
        0.0 => "0".to_owned(),
        size if size < 0.001 => format!("{n:.1e}"),
        size if size < 0.1 => format!("{n:.3}"),
        size if size < 0.995 => format!("{n:.2}"),
        size if size < 99.95 => format!("{n:.1}"),
        size if size < 9_999.5 => format!("{n:.0}"),
        size if size < 1e15 => format!("{}{}", if n < 0.0 { "-" } else { "" }, count(size.round() as u64)),
        _ => format!("{n:.1e}"),
    }
}

/// Verdicts by outcome: `3 correct, 1,030 wrong, 2 infra`.
pub fn outcomes(outcomes: &std::collections::BTreeMap<toehold_verifier::Outcome, u64>) -> String {
    let each: Vec<String> = outcomes.iter().map(|(outcome, number)| format!("{} {outcome}", count(*number))).collect();
    each.join(", ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use expect_test::{Expect, expect};

    #[track_caller]
    fn check<T>(print: impl Fn(T) -> String, input: impl IntoIterator<Item = T>, expected: Expect) {
        let lines: Vec<String> = input.into_iter().map(print).collect();
        expected.assert_eq(&lines.join("\n"));
    }

    #[test]
    fn counts() {
        check(
            super::count,
            [0, 7, 999, 1_000, 12_345, 123_456, 1_234_567, u64::MAX],
            expect![[r#"
            0
            7
            999
            1,000
            12,345
            123,456
            1,234,567
            18,446,744,073,709,551,615"#]],
        );
    }

    #[test]
    fn compute() {
        check(
            super::flops,
            [0.0, 950.0, 999.4, 999.6, 3.2e12, 12.34e12, 320e12, 999.96e12, 5e33, 0.5, f64::NAN, f64::INFINITY, -2e6],
            expect![[r#"
                0 FLOP
                950 FLOP
                999 FLOP
                1.0 kFLOP
                3.2 TFLOP
                12.3 TFLOP
                320 TFLOP
                1.0 PFLOP
                5000 QFLOP
                0.50 FLOP
                –
                –
                -2.0 MFLOP"#]],
        );
    }

    #[test]
    fn durations() {
        let seconds = [0.0, 0.34, 2.0, 9.99, 12.7, 59.9, 60.0, 125.0, 3_599.0, 3_780.0, 187_000.0];
        check(
            |s| super::duration(Duration::from_secs_f64(s)),
            seconds,
            expect![[r#"
            0 ms
            340 ms
            2.0 s
            10.0 s
            12 s
            59 s
            1 min 00 s
            2 min 05 s
            59 min 59 s
            1 h 03 min
            2 d 03 h"#]],
        );
    }

    #[test]
    fn percentages() {
        check(
            super::percent,
            [0.0, 0.3417, 1.0, f64::NAN],
            expect![[r#"
            0.0 %
            34.2 %
            100.0 %
            –"#]],
        );
        let intervals = [(0.342, 0.301, 0.386), (0.5, f64::NAN, 0.6), (f64::NAN, f64::NAN, f64::NAN)];
        check(
            |(rate, low, high)| super::percent_with_interval(rate, low, high),
            intervals,
            expect![[r#"
            34.2 % [30.1, 38.6]
            50.0 %
            –"#]],
        );
    }

    #[test]
    fn shortened_numbers() {
        let numbers = [0.0, 0.000_123, 0.012_3, 0.123, 1.234, 99.94, 99.96, 1_234.5, 12_345.6, -12_345.6, 1e16];
        check(
            super::short,
            numbers,
            expect![[r#"
            0
            1.2e-4
            0.012
            0.12
            1.2
            99.9
            100
            1234
            12,346
            -12,346
            1.0e16"#]],
        );
    }
}
