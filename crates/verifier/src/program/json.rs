//! JSON values whose numbers keep their digits, and when two are equal.
//!
//! A returned 2^100 must not equal 2^100 + 1, which it does after a round trip through `f64`. So a
//! number stays text here: two whole numbers are compared digit by digit, and a tolerance counts only
//! where one of the two is written with a point or an exponent.

use std::collections::BTreeMap;

/// Deeper nesting is refused, so recursion is bounded.
const MAX_DEPTH: usize = 64;

/// A JSON value.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    /// As it was written.
    Number(String),
    Text(String),
    List(Vec<Json>),
    /// In the order in which it was written, which a program may see. Of two members of one name the last counts.
    Object(Vec<(String, Json)>),
}

impl Json {
    /// Reads a whole text; none where it is not JSON, or nested deeper than 64.
    pub(crate) fn read(text: &str) -> Option<Json> {
        let mut reader = Reader { text, at: 0 };
        let value = reader.value(0)?;
        reader.skip_space();
        (reader.at == text.len()).then_some(value)
    }

    /// The value as JSON on one line. Strings have no escape but `\\`, `\"` and those of control characters,
    /// so that, but for `true`, `false` and `null`, it is an expression of Python with the same meaning.
    pub(crate) fn write(&self) -> String {
        let quote = |text: &str| serde_json::Value::from(text).to_string();
        match self {
            Json::Null => "null".to_owned(),
            Json::Bool(value) => value.to_string(),
            Json::Number(digits) => digits.clone(),
            Json::Text(text) => quote(text),
            Json::List(items) => format!("[{}]", items.iter().map(Json::write).collect::<Vec<_>>().join(", ")),
            Json::Object(members) => {
                let members = members.iter().map(|(key, value)| format!("{}: {}", quote(key), value.write()));
                format!("{{{}}}", members.collect::<Vec<_>>().join(", "))
            }
        }
    }

    /// Whether two values are the same, numbers within a tolerance (see [`same_number`]).
    pub(crate) fn same(&self, other: &Json, tolerance: f64) -> bool {
        match (self, other) {
            (Json::Number(left), Json::Number(right)) => same_number(left, right, tolerance),
            (Json::List(left), Json::List(right)) => {
                left.len() == right.len() && left.iter().zip(right).all(|(left, right)| left.same(right, tolerance))
            }
            (Json::Object(left), Json::Object(right)) => {
                let (left, right) = (by_name(left), by_name(right));
                left.len() == right.len()
                    && left.iter().all(|(name, left)| right.get(name).is_some_and(|right| left.same(right, tolerance)))
            }
            _ => self == other,
        }
    }
}

fn by_name(members: &[(String, Json)]) -> BTreeMap<&str, &Json> {
    members.iter().map(|(name, value)| (name.as_str(), value)).collect()
}

/// Whether two written numbers are the same: whole numbers exactly, others within
/// `tolerance · max(1, |left|, |right|)`. What is no finite number is the same as nothing.
pub(crate) fn same_number(left: &str, right: &str, tolerance: f64) -> bool {
    if let (Some(left), Some(right)) = (whole(left), whole(right)) {
        return left == right;
    }
    match (decimal(left), decimal(right)) {
        (Some(left), Some(right)) => {
            left == right || (left - right).abs() <= tolerance * left.abs().max(right.abs()).max(1.0)
        }
        _ => false,
    }
}

/// Whether a word is a number, whole or decimal.
pub(crate) fn is_number(word: &str) -> bool {
    decimal(word).is_some()
}

/// The sign and digits of a whole number, without leading zeros.
fn whole(word: &str) -> Option<(bool, &str)> {
    let (negative, digits) = match word.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, word.strip_prefix('+').unwrap_or(word)),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits = digits.trim_start_matches('0');
    Some((negative && !digits.is_empty(), digits))
}

/// A finite decimal. `f64`'s own reader takes `inf` and `nan` too, which no test means as numbers.
fn decimal(word: &str) -> Option<f64> {
    let plain = word.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    if !plain {
        return None;
    }
    word.parse::<f64>().ok().filter(|value| value.is_finite())
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while self.peek().is_some_and(|byte| b" \t\r\n".contains(&byte)) {
            self.at += 1;
        }
    }

    fn take(&mut self, expected: u8) -> Option<()> {
        self.skip_space();
        if self.peek()? == expected {
            self.at += 1;
            return Some(());
        }
        None
    }

    fn value(&mut self, depth: usize) -> Option<Json> {
        if depth > MAX_DEPTH {
            return None;
        }
        self.skip_space();
        match self.peek()? {
            b'"' => self.string().map(Json::Text),
            b'[' => self.list(depth),
            b'{' => self.object(depth),
            b'-' | b'0'..=b'9' => self.number(),
            _ => [("null", Json::Null), ("true", Json::Bool(true)), ("false", Json::Bool(false))]
                .into_iter()
                .find(|(word, _)| self.text[self.at..].starts_with(word))
                .map(|(word, value)| {
                    self.at += word.len();
                    value
                }),
        }
    }

    fn list(&mut self, depth: usize) -> Option<Json> {
        self.take(b'[')?;
        let mut items = Vec::new();
        if self.take(b']').is_some() {
            return Some(Json::List(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            if self.take(b']').is_some() {
                return Some(Json::List(items));
            }
            self.take(b',')?;
        }
    }

    fn object(&mut self, depth: usize) -> Option<Json> {
        self.take(b'{')?;
        let mut members = Vec::new();
        if self.take(b'}').is_some() {
            return Some(Json::Object(members));
        }
        loop {
            self.skip_space();
            let key = self.string()?;
            self.take(b':')?;
            let value = self.value(depth + 1)?;
            members.push((key, value));
            if self.take(b'}').is_some() {
                return Some(Json::Object(members));
            }
            self.take(b',')?;
        }
    }

    fn string(&mut self) -> Option<String> {
        let begins = self.at;
        if self.peek()? != b'"' {
            return None;
        }
        self.at += 1;
        loop {
            match self.peek()? {
                b'\\' => self.at += 2,
                b'"' => break,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        // Escapes and surrogates are read by the library that everybody else reads them with.
        serde_json::from_str(self.text.get(begins..self.at)?).ok()
    }

    fn number(&mut self) -> Option<Json> {
        let rest = &self.text[self.at..];
        let length = rest.bytes().take_while(|byte| byte.is_ascii_digit() || b"+-.eE".contains(byte)).count();
        let number = &rest[..length];
        self.at += length;
        let grammatical = serde_json::from_str::<serde::de::IgnoredAny>(number).is_ok();
        grammatical.then(|| Json::Number(number.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[track_caller]
    fn check(pairs: &[(&str, &str)], expected: Expect) {
        let mut lines = String::new();
        for (left, right) in pairs {
            let same = match (Json::read(left), Json::read(right)) {
                (Some(left_value), Some(right_value)) => {
                    let same = left_value.same(&right_value, 1e-6);
                    assert_eq!(same, right_value.same(&left_value, 1e-6), "{left} {right}");
                    if same { "same" } else { "differs" }
                }
                _ => "unreadable",
            };
            lines.push_str(&format!("{left}  |  {right}  =>  {same}\n"));
        }
        expected.assert_eq(&lines);
    }

    #[test]
    fn equality() {
        check(
            &[
                ("1", "1"),
                ("1", "1.0"),
                ("0.1", "0.10000000001"),
                ("0.1", "0.1001"),
                ("1e9", "1000000000"),
                ("1000000000.0", "1000000001"),
                ("1267650600228229401496703205376", "1267650600228229401496703205377"),
                ("1267650600228229401496703205376", "1267650600228229401496703205376"),
                ("-0", "0"),
                ("007", "7"),
                ("1.", "1"),
                ("NaN", "NaN"),
                ("1e999", "1e999"),
                ("\"1\"", "1"),
                ("true", "1"),
                ("[1, [2, \"a\\u00e9\"]]", "[1,[2,\"aé\"]]"),
                ("[1, 2]", "[2, 1]"),
                ("[1, 2]", "[1, 2, 3]"),
                ("{\"a\": 1, \"b\": 2}", "{\"b\": 2, \"a\": 1}"),
                ("{\"a\": 1}", "{\"a\": 1, \"b\": null}"),
                ("{\"a\": 1, \"a\": 2}", "{\"a\": 2}"),
                ("null", "false"),
                ("[1,]", "[1]"),
                ("1 2", "1"),
                ("\"a", "\"a\""),
                ("\"a\\", "\"a\""),
                ("\"\\é\"", "\"é\""),
                ("", "null"),
            ],
            expect![[r#"
                1  |  1  =>  same
                1  |  1.0  =>  same
                0.1  |  0.10000000001  =>  same
                0.1  |  0.1001  =>  differs
                1e9  |  1000000000  =>  same
                1000000000.0  |  1000000001  =>  same
                1267650600228229401496703205376  |  1267650600228229401496703205377  =>  differs
                1267650600228229401496703205376  |  1267650600228229401496703205376  =>  same
                -0  |  0  =>  same
                007  |  7  =>  unreadable
                1.  |  1  =>  unreadable
                NaN  |  NaN  =>  unreadable
                1e999  |  1e999  =>  differs
                "1"  |  1  =>  differs
                true  |  1  =>  differs
                [1, [2, "a\u00e9"]]  |  [1,[2,"aé"]]  =>  same
                [1, 2]  |  [2, 1]  =>  differs
                [1, 2]  |  [1, 2, 3]  =>  differs
                {"a": 1, "b": 2}  |  {"b": 2, "a": 1}  =>  same
                {"a": 1}  |  {"a": 1, "b": null}  =>  differs
                {"a": 1, "a": 2}  |  {"a": 2}  =>  same
                null  |  false  =>  differs
                [1,]  |  [1]  =>  unreadable
                1 2  |  1  =>  unreadable
                "a  |  "a"  =>  unreadable
                "a\  |  "a"  =>  unreadable
                "\é"  |  "é"  =>  unreadable
                  |  null  =>  unreadable
            "#]],
        );
    }

    #[test]
    fn written_as_python_reads_it() {
        let text = r#" {"b": [1, -2.50e3, null, true], "a\/\u00e9\ud83d\ude00\n\u0001\"\\": {}} "#;
        let value = Json::read(text).unwrap();
        expect![[r#"{"b": [1, -2.50e3, null, true], "a/é😀\n\u0001\"\\": {}}"#]].assert_eq(&value.write());
        assert_eq!(Json::read(&value.write()), Some(value));
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(Json::read(&nested(MAX_DEPTH)).is_some());
        assert!(Json::read(&nested(MAX_DEPTH + 2)).is_none());
        assert!(Json::read(&"[".repeat(1_000_000)).is_none());
    }
}
