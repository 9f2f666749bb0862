//! When what a program printed is what was expected.
//!
//! White space at the end of a line and empty lines at the end of the text never count. Letter case
//! does. By default numbers with a point may differ in their last digits, as programs round
//! differently; whole numbers may not.

use serde::{Deserialize, Serialize};

use crate::program::json::{is_number, same_number};

/// How a printed text, or a returned value, is compared with the expected one.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Comparison {
    /// Line by line, as text. Returned numbers must be equal.
    Lines,
    /// Line by line, word by word. Two words are the same as text, or as numbers of which at least one
    /// has a point or an exponent: `|a − b| ≤ tolerance · max(1, |a|, |b|)`.
    Numbers {
        /// Relative above 1, absolute below; 0 is exact.
        tolerance: f64,
    },
    /// The same lines in any order, as text. A returned list, too, may have any order.
    AnyOrder,
}

impl Default for Comparison {
    fn default() -> Comparison {
        Comparison::Numbers { tolerance: 1e-6 }
    }
}

impl Comparison {
    /// Whether a printed text is the expected one.
    pub fn same_text(self, expected: &str, printed: &str) -> bool {
        let (mut expected, mut printed) = (lines(expected), lines(printed));
        if expected.len() != printed.len() {
            return false;
        }
        if self == Comparison::AnyOrder {
            expected.sort_unstable();
            printed.sort_unstable();
        }
        expected.iter().zip(&printed).all(|(expected, printed)| self.same_line(expected, printed))
    }

    fn same_line(self, expected: &str, printed: &str) -> bool {
        let Comparison::Numbers { tolerance } = self else { return expected == printed };
        if expected == printed {
            return true;
        }
        let mut printed = printed.split_whitespace();
        let all = expected.split_whitespace().all(|expected| {
            printed.next().is_some_and(|printed| {
                expected == printed
                    || (is_number(expected) && is_number(printed) && same_number(expected, printed, tolerance))
            })
        });
        all && printed.next().is_none()
    }

    /// The tolerance for returned numbers.
    pub(crate) fn tolerance(self) -> f64 {
        match self {
            Comparison::Numbers { tolerance } => tolerance,
            Comparison::Lines | Comparison::AnyOrder => 0.0,
        }
    }
}

/// The lines without what does not count.
fn lines(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    while lines.last().is_some_and(|line| line.is_empty()) {
        lines.pop();
    }
    lines
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[track_caller]
    fn check(pairs: &[(&str, &str)], expected: Expect) {
        let mut table = String::new();
        for (wanted, printed) in pairs {
            let marks = [Comparison::Lines, Comparison::default(), Comparison::AnyOrder]
                .map(|comparison| if comparison.same_text(wanted, printed) { "yes" } else { "no" });
            table.push_str(&format!("{wanted:?} {printed:?}: {}\n", marks.join(" ")));
        }
        expected.assert_eq(&table);
    }

    #[test]
    fn printed_texts() {
        check(
            &[
                ("3\n", "3"),
                ("3\n", "3  \n\n\n"),
                ("3\n", "\n3\n"),
                ("3\n", " 3\n"),
                ("3\n", "4\n"),
                ("3\n", "3.0\n"),
                ("3\n", "3 \n4\n"),
                ("1 2\n", "1  2\n"),
                ("1 2\n", "1\n2\n"),
                ("0.3333333", "0.33333333333"),
                ("0.333", "0.334"),
                ("1000000", "1000001"),
                ("1000000.0", "1000000.5"),
                ("yes", "YES"),
                ("a\nb", "b\na"),
                ("a\na\nb", "a\nb\nb"),
                ("nan", "nan"),
                ("inf", "1e999"),
                ("", ""),
                ("", "0"),
                ("a\r\nb\r\n", "a\nb\n"),
                ("007", "7"),
            ],
            expect![[r#"
                "3\n" "3": yes yes yes
                "3\n" "3  \n\n\n": yes yes yes
                "3\n" "\n3\n": no no no
                "3\n" " 3\n": no yes no
                "3\n" "4\n": no no no
                "3\n" "3.0\n": no yes no
                "3\n" "3 \n4\n": no no no
                "1 2\n" "1  2\n": no yes no
                "1 2\n" "1\n2\n": no no no
                "0.3333333" "0.33333333333": no yes no
                "0.333" "0.334": no no no
                "1000000" "1000001": no no no
                "1000000.0" "1000000.5": no yes no
                "yes" "YES": no no no
                "a\nb" "b\na": no no yes
                "a\na\nb" "a\nb\nb": no no no
                "nan" "nan": yes yes yes
                "inf" "1e999": no no no
                "" "": yes yes yes
                "" "0": no no no
                "a\r\nb\r\n" "a\nb\n": yes yes yes
                "007" "7": no yes no
            "#]],
        );
    }
}
