//! Tests as a problem's reference writes them: JSON, in one of three forms.
//!
//! ```text
//! [{"stdin": "1 2\n", "stdout": "3\n"}, {"function": "add", "arguments": [1, 2], "expected": 3}]
//! {"tests": [...], "comparison": "lines"}            "numbers" (the default), "lines" or "any_order"
//! {"inputs": ["1 2\n"], "outputs": ["3\n"]}          as APPS and TACO keep them
//! ```
//!
//! Numbers keep their digits however many they are. A test holds nothing that could be run or that names
//! a file: how programs are run is never a problem file's affair.

use std::fmt;

use crate::program::compare::Comparison;
use crate::program::job::Test;
use crate::program::json::Json;

/// The tests of one problem.
#[derive(Clone, PartialEq, Debug)]
pub struct Tests {
    /// In order, at least one.
    pub tests: Vec<Test>,
    /// When an output is the expected one.
    pub comparison: Comparison,
}

impl Tests {
    /// Reads a reference.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn read(reference: &str) -> Result<Tests, String> {
        let json = Json::read(reference).ok_or("it is not JSON, expected a list of tests")?;
        let (tests, comparison) = match json {
            Json::List(tests) => (tests.into_iter().enumerate().map(test).collect::<Result<_, _>>()?, None),
            Json::Object(members) => of_object(members)?,
            _ => return Err("it is neither a list of tests nor an object with `tests`".to_owned()),
        };
        let comparison = match comparison.as_deref() {
            None | Some("numbers") => Comparison::default(),
            Some("lines") => Comparison::Lines,
            Some("any_order") => Comparison::AnyOrder,
            Some(other) => return Err(format!("comparison is `{other}`, expected numbers, lines or any_order")),
        };
        if tests.is_empty() {
            return Err("it has 0 tests, expected at least 1".to_owned());
        }
        Ok(Tests { tests, comparison })
    }
}

impl fmt::Display for Tests {
    /// The first form, or the second where it is needed; on one line, and the same for the same tests.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quote = |text: &str| Json::Text(text.to_owned()).write();
        let written: Vec<String> = self
            .tests
            .iter()
            .map(|test| match test {
                Test::Input { stdin, stdout } => {
                    format!("{{\"stdin\": {}, \"stdout\": {}}}", quote(stdin), quote(stdout))
                }
                Test::Call { function, arguments, expected } => format!(
                    "{{\"function\": {}, \"arguments\": {arguments}, \"expected\": {expected}}}",
                    quote(function)
                ),
            })
            .collect();
        let tests = format!("[{}]", written.join(", "));
        let comparison = match self.comparison {
            Comparison::Numbers { .. } => return f.write_str(&tests),
            Comparison::Lines => "lines",
            Comparison::AnyOrder => "any_order",
        };
        write!(f, "{{\"tests\": {tests}, \"comparison\": \"{comparison}\"}}")
    }
}

/// The second or the third form.
fn of_object(members: Vec<(String, Json)>) -> Result<(Vec<Test>, Option<String>), String> {
    let (mut tests, mut inputs, mut outputs, mut comparison) = (None, None, None, None);
    for (key, value) in members {
        match (key.as_str(), value) {
            ("tests", Json::List(items)) => tests = Some(items),
            ("inputs", Json::List(items)) => inputs = Some(items),
            ("outputs", Json::List(items)) => outputs = Some(items),
            ("comparison", Json::Text(word)) => comparison = Some(word),
            ("fn_name", Json::Null) => {}
            ("fn_name", _) => {
                return Err("`fn_name` is not read: write each call as \
                            {\"function\": \"f\", \"arguments\": [1], \"expected\": 2}"
                    .to_owned());
            }
            ("tests" | "inputs" | "outputs", _) => return Err(format!("`{key}` is not a list")),
            ("comparison", _) => return Err("`comparison` is not text".to_owned()),
            _ => return Err(format!("unknown key `{key}`, expected tests and comparison, or inputs and outputs")),
        }
    }
    let tests = match (tests, inputs, outputs) {
        (Some(tests), None, None) => tests.into_iter().enumerate().map(test).collect::<Result<_, _>>()?,
        (None, Some(inputs), Some(outputs)) => {
            if inputs.len() != outputs.len() {
                return Err(format!("it has {} inputs and {} outputs", inputs.len(), outputs.len()));
            }
            let pair = |(at, (stdin, stdout)): (usize, (Json, Json))| {
                let lines = |value| lines(value).ok_or_else(|| format!("pair {at} (from 0) is not two texts"));
                Ok(Test::Input { stdin: lines(stdin)?, stdout: lines(stdout)? })
            };
            inputs.into_iter().zip(outputs).enumerate().map(pair).collect::<Result<_, String>>()?
        }
        _ => return Err("expected `tests`, or `inputs` and `outputs`".to_owned()),
    };
    Ok((tests, comparison))
}

/// A text, or a list of lines.
fn lines(value: Json) -> Option<String> {
    match value {
        Json::Text(text) => Some(text),
        Json::List(items) => {
            let line = |item| if let Json::Text(line) = item { Some(line) } else { None };
            Some(items.into_iter().map(line).collect::<Option<Vec<_>>>()?.join("\n"))
        }
        _ => None,
    }
}

fn test((at, value): (usize, Json)) -> Result<Test, String> {
    let Json::Object(members) = value else { return Err(format!("test {at} (from 0) is not an object")) };
    let (mut stdin, mut stdout, mut function, mut arguments, mut expected) = (None, None, None, None, None);
    for (key, value) in members {
        match (key.as_str(), value) {
            ("stdin", Json::Text(text)) => stdin = Some(text),
            ("stdout", Json::Text(text)) => stdout = Some(text),
            ("function", Json::Text(text)) => function = Some(text),
            ("arguments", value @ Json::List(_)) => arguments = Some(value.write()),
            ("expected", value) => expected = Some(value.write()),
            ("stdin" | "stdout" | "function", _) => return Err(format!("test {at} (from 0): `{key}` is not text")),
            ("arguments", _) => return Err(format!("test {at} (from 0): `arguments` is not a list")),
            _ => return Err(format!("test {at} (from 0): unknown key `{key}`")),
        }
    }
    match (stdout, function, arguments, expected) {
        (Some(stdout), None, None, None) => Ok(Test::Input { stdin: stdin.unwrap_or_default(), stdout }),
        (None, Some(function), Some(arguments), Some(expected)) if stdin.is_none() => {
            Ok(Test::Call { function, arguments, expected })
        }
        _ => Err(format!(
            "test {at} (from 0) has neither `stdin` and `stdout` nor `function`, `arguments` and `expected`"
        )),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[track_caller]
    fn check(reference: &str, expected: Expect) {
        expected.assert_eq(&match Tests::read(reference) {
            Ok(tests) => {
                let written = tests.to_string();
                assert_eq!(Tests::read(&written).as_ref(), Ok(&tests), "{written}");
                format!("{} {written}", tests.tests.len())
            }
            Err(reason) => reason,
        });
    }

    #[test]
    fn forms() {
        check(
            r#"[{"stdin": "1 2\n", "stdout": "3\n"}, {"stdout": "é\""}]"#,
            expect![[r#"2 [{"stdin": "1 2\n", "stdout": "3\n"}, {"stdin": "", "stdout": "é\""}]"#]],
        );
        check(
            r#"[{"function":"add","arguments":[1, {"a":null}],"expected":1267650600228229401496703205377}]"#,
            expect![[
                r#"1 [{"function": "add", "arguments": [1, {"a": null}], "expected": 1267650600228229401496703205377}]"#
            ]],
        );
        check(
            r#"{"comparison": "lines", "tests": [{"stdin": "", "stdout": "0.1"}]}"#,
            expect![[r#"1 {"tests": [{"stdin": "", "stdout": "0.1"}], "comparison": "lines"}"#]],
        );
        check(
            r#"{"inputs": ["1\n", ["2", "3"]], "outputs": ["1\n", "5"], "fn_name": null}"#,
            expect![[r#"2 [{"stdin": "1\n", "stdout": "1\n"}, {"stdin": "2\n3", "stdout": "5"}]"#]],
        );
    }

    #[test]
    fn refusals() {
        check("", expect!["it is not JSON, expected a list of tests"]);
        check("3", expect!["it is neither a list of tests nor an object with `tests`"]);
        check("[]", expect!["it has 0 tests, expected at least 1"]);
        check("[3]", expect!["test 0 (from 0) is not an object"]);
        check("{}", expect!["expected `tests`, or `inputs` and `outputs`"]);
        check(
            r#"[{"stdin": "1"}]"#,
            expect!["test 0 (from 0) has neither `stdin` and `stdout` nor `function`, `arguments` and `expected`"],
        );
        check(r#"[{"stdin": "1", "stdout": 1}]"#, expect!["test 0 (from 0): `stdout` is not text"]);
        check(
            r#"[{"stdout": "1", "function": "f", "arguments": [], "expected": 1}]"#,
            expect!["test 0 (from 0) has neither `stdin` and `stdout` nor `function`, `arguments` and `expected`"],
        );
        check(
            r#"[{"function": "f", "arguments": 1, "expected": 1}]"#,
            expect!["test 0 (from 0): `arguments` is not a list"],
        );
        check(r#"[{"stdout": "1", "command": "rm"}]"#, expect!["test 0 (from 0): unknown key `command`"]);
        check(r#"{"inputs": ["1"], "outputs": []}"#, expect!["it has 1 inputs and 0 outputs"]);
        check(r#"{"inputs": [1], "outputs": ["1"]}"#, expect!["pair 0 (from 0) is not two texts"]);
        check(
            r#"{"inputs": [[1]], "outputs": [[1]], "fn_name": "f"}"#,
            expect![[
                r#"`fn_name` is not read: write each call as {"function": "f", "arguments": [1], "expected": 2}"#
            ]],
        );
        check(
            r#"{"tests": [{"stdout": "1"}], "comparison": "fuzzy"}"#,
            expect!["comparison is `fuzzy`, expected numbers, lines or any_order"],
        );
        check(
            r#"{"tests": [{"stdout": "1"}], "run": ["sh"]}"#,
            expect!["unknown key `run`, expected tests and comparison, or inputs and outputs"],
        );
    }
}
