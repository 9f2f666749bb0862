//! The regular-expression verifier.
//!
//! A pattern is compiled once and its work on any text is linear in the text's length (no
//! backtracking), so a model cannot write a text that hangs it. Back-references and look-around are not
//! in the language for the same reason.

use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

use crate::{Outcome, Verdict};

/// A compiled pattern may take this much memory; `\w{1000}{1000}` would want gigabytes.
const SIZE_LIMIT: usize = 1 << 20;

/// How much of a text a pattern must cover.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Span {
    /// All of it, but for white space at both ends. The safe choice: a text that lists every candidate does
    /// not match.
    #[default]
    Whole,
    /// Any part. A policy learns to write that part whatever it means.
    Anywhere,
}

/// A compiled pattern.
#[derive(Clone, Debug)]
pub struct Pattern {
    regex: Regex,
}

impl Pattern {
    /// Compiles a pattern of the `regex` crate's language.
    ///
    /// # Errors
    /// It is not in the language, or would take more than 1 MiB compiled.
    pub fn new(pattern: &str, span: Span) -> Result<Pattern, PatternError> {
        let compile = |pattern: &str| RegexBuilder::new(pattern).size_limit(SIZE_LIMIT).build();
        let wrong = |error: regex::Error| PatternError { pattern: pattern.chars().take(60).collect(), source: error };
        // It is compiled alone first: `a)(b` must not become right by what is put around it.
        let regex = compile(pattern).map_err(wrong)?;
        let regex = match span {
            Span::Anywhere => regex,
            // A pattern in verbose mode may end with a comment, which would swallow the bracket.
            Span::Whole => compile(&format!("\\A(?:{pattern})\\z"))
                .or_else(|_| compile(&format!("\\A(?:{pattern}\n)\\z")))
                .map_err(wrong)?,
        };
        Ok(Pattern { regex })
    }

    /// `Correct` where the pattern matches; the extracted answer is the first group that took part, else the
    /// whole match.
    pub fn verify(&self, text: &str) -> Verdict {
        let text = text.trim();
        if text.is_empty() {
            return Verdict { outcome: Outcome::NoAnswer, extracted: None };
        }
        match self.regex.captures(text) {
            Some(found) => {
                let answer = found.iter().skip(1).flatten().next().or_else(|| found.get(0));
                let extracted = answer.map(|answer| answer.as_str().to_owned());
                Verdict { outcome: Outcome::Correct, extracted }
            }
            None => Verdict { outcome: Outcome::Wrong, extracted: None },
        }
    }
}

/// A pattern that cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the pattern `{pattern}` cannot be used: {source}")]
pub struct PatternError {
    /// The pattern, shortened.
    pub pattern: String,
    /// What is wrong with it.
    pub source: regex::Error,
}

impl PatternError {
    /// What is wrong with it, on one line: the library draws a picture first.
    pub(crate) fn reason(&self) -> String {
        let said = self.source.to_string();
        let last = said.lines().last().unwrap_or_default();
        last.strip_prefix("error: ").unwrap_or(last).to_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use expect_test::{Expect, expect};

    use super::*;

    #[track_caller]
    fn check(pattern: &str, texts: &[&str], expected: Expect) {
        let mut lines = String::new();
        for span in [Span::Whole, Span::Anywhere] {
            match Pattern::new(pattern, span) {
                Err(error) => writeln!(lines, "{span:?}: {}", error.to_string().lines().next().unwrap()).unwrap(),
                Ok(pattern) => {
                    for text in texts {
                        let Verdict { outcome, extracted } = pattern.verify(text);
                        writeln!(lines, "{span:?} {text:?}: {outcome} {extracted:?}").unwrap();
                    }
                }
            }
        }
        expected.assert_eq(&lines);
    }

    #[test]
    fn whole_and_anywhere() {
        check(
            r"(\d+) (?:km|m)",
            &[" 12 km\n", "12 km, or 13 km", "km", " "],
            expect![[r#"
            Whole " 12 km\n": correct Some("12")
            Whole "12 km, or 13 km": wrong None
            Whole "km": wrong None
            Whole " ": no_answer None
            Anywhere " 12 km\n": correct Some("12")
            Anywhere "12 km, or 13 km": correct Some("12")
            Anywhere "km": wrong None
            Anywhere " ": no_answer None
        "#]],
        );
        check(
            "a|ab",
            &["ab", "abc"],
            expect![[r#"
            Whole "ab": correct Some("ab")
            Whole "abc": wrong None
            Anywhere "ab": correct Some("a")
            Anywhere "abc": correct Some("a")
        "#]],
        );
        check(
            "(?x) a b # both",
            &["ab", "a b"],
            expect![[r#"
            Whole "ab": correct Some("ab")
            Whole "a b": wrong None
            Anywhere "ab": correct Some("ab")
            Anywhere "a b": wrong None
        "#]],
        );
        check(
            "a)(b",
            &["ab"],
            expect![[r#"
            Whole: the pattern `a)(b` cannot be used: regex parse error:
            Anywhere: the pattern `a)(b` cannot be used: regex parse error:
        "#]],
        );
        check(
            r"(a)\1",
            &["aa"],
            expect![[r#"
            Whole: the pattern `(a)\1` cannot be used: regex parse error:
            Anywhere: the pattern `(a)\1` cannot be used: regex parse error:
        "#]],
        );
        check(
            r"\w{1000}{1000}",
            &["aa"],
            expect![[r#"
            Whole: the pattern `\w{1000}{1000}` cannot be used: Compiled regex exceeds size limit of 1048576 bytes.
            Anywhere: the pattern `\w{1000}{1000}` cannot be used: Compiled regex exceeds size limit of 1048576 bytes.
        "#]],
        );
    }

    #[test]
    fn work_is_linear() {
        let pattern = Pattern::new("(a*)*b", Span::Whole).unwrap();
        // A backtracking engine would need 2^200,000 steps.
        assert_eq!(pattern.verify(&"a".repeat(200_000)).outcome, Outcome::Wrong);
    }
}
