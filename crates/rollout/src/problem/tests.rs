//! A file's text in, its problems or its error out.

use expect_test::{Expect, expect};

use super::*;

#[track_caller]
fn check(text: &[u8], expected: Expect) {
    let shown = match read_lines(Path::new("p.jsonl"), text) {
        Ok(set) => {
            let lines = set.problems.iter().map(line).collect::<String>();
            assert_eq!(lines.as_bytes(), text.to_owned().as_slice(), "written as it was read");
            format!("{}\n{lines}", set.hash)
        }
        Err(error) => error.to_string(),
    };
    expected.assert_eq(&shown);
}

#[test]
fn what_is_written_reads_back() {
    check(
        br#"{"id":"a","problem":"2 + 2","answer":"4","verifier":"answer"}
{"id":"b","problem":"from 3 a1 1","answer":"4","verifier":"chain","solution":"fast A 4 answer A 4"}
{"id":"c","problem":"3 + 3","answer":"6","verifier":"answer","cue":"double it"}
"#,
        expect![[r#"
            e8b48a8b92b7cd1f
            {"id":"a","problem":"2 + 2","answer":"4","verifier":"answer"}
            {"id":"b","problem":"from 3 a1 1","answer":"4","verifier":"chain","solution":"fast A 4 answer A 4"}
            {"id":"c","problem":"3 + 3","answer":"6","verifier":"answer","cue":"double it"}
        "#]],
    );
}

#[test]
fn broken_files_name_the_line() {
    let good = r#"{"id": "a", "problem": "2 + 2", "answer": "4"}"#;
    let after = |line: &str| format!("{good}\n\n{line}\n").into_bytes();
    check(
        &after(r#"{"id": "b", "problem": "2", "answer": "4""#),
        expect!["p.jsonl:3: broken JSON at column 41: EOF while parsing an object"],
    );
    check(&after(r#"{"id": "b" "problem": "2"}"#), expect!["p.jsonl:3: broken JSON at column 12: expected `,` or `}`"]);
    check(&after("[1, 2]"), expect!["p.jsonl:3: broken JSON at column 1: expected an object, found [1, 2]"]);
    check(&after("answer"), expect!["p.jsonl:3: broken JSON at column 1: expected value"]);
    check(&after(r#"{"id": "b", "problem": "2"}"#), expect!["p.jsonl:3: missing `answer`"]);
    check(&after(r#"{"id": "b", "problem": "2", "answer": null}"#), expect!["p.jsonl:3: missing `answer`"]);
    check(
        &after(r#"{"id": "b", "problem": "2", "answer": " "}"#),
        expect!["p.jsonl:3: `answer` is empty, expected text"],
    );
    check(&after(r#"{"problem": "2", "answer": "2"}"#), expect!["p.jsonl:3: missing `id`"]);
    check(&after(r#"{"id": "b", "answer": "2"}"#), expect!["p.jsonl:3: missing `problem`"]);
    check(
        &after(r#"{"id": "b", "problem": "2", "answer": 42}"#),
        expect![[r#"
        p.jsonl:3: `answer` is 42, expected text
        hint: quote it: "answer": "42""#]],
    );
    check(
        &after(r#"{"id": 7, "problem": "2", "answer": "42"}"#),
        expect![[r#"
        p.jsonl:3: `id` is 7, expected text
        hint: quote it: "id": "7""#]],
    );
    check(
        &after(r#"{"id": "b", "problem": ["2"], "answer": "42"}"#),
        expect![[r#"p.jsonl:3: `problem` is ["2"], expected text"#]],
    );
    check(
        &after(r#"{"id": "b", "problem": "2", "anwser": "2"}"#),
        expect![[r#"
        p.jsonl:3: unknown key `anwser`
        hint: did you mean `answer`?"#]],
    );
    check(
        &after(r#"{"id": "b", "question": "2", "answer": "2"}"#),
        expect![[r#"
        p.jsonl:3: unknown key `question`
        hint: did you mean `problem`?"#]],
    );
    check(
        &after(r#"{"id": "b", "problem": "2", "answer": "2", "level": "5"}"#),
        expect!["p.jsonl:3: unknown key `level`"],
    );
    check(
        &after(r#"{"id": "b", "problem": "2", "answer": "2", "verifier": "chian"}"#),
        expect![[r#"
            p.jsonl:3: unknown verifier `chian`, expected one of answer, exact, number, chain, countdown, math, math_boxed, tolerance, pattern, pattern_text, program, command
            hint: did you mean `chain`?"#]],
    );
    check(
        &after(r#"{"id": "b", "problem": "2", "answer": "2", "verifier": "zzz"}"#),
        expect![
            "p.jsonl:3: unknown verifier `zzz`, expected one of answer, exact, number, chain, countdown, math, math_boxed, tolerance, pattern, pattern_text, program, command"
        ],
    );
    check(
        &after(r#"{"id": "b", "problem": "2", "answer": "x", "verifier": "number"}"#),
        expect![
            "p.jsonl:3: problem `b`: the `number` verifier cannot read the reference answer `x`: it is not a number of at most 36 digits"
        ],
    );
    check(
        &after(r#"{"id": "b", "problem": "2", "answer": [{"stdin": "2"}], "verifier": "program"}"#),
        expect![[
            r#"p.jsonl:3: problem `b`: the `program` verifier cannot read the reference answer `[{"stdin": "2"}]`: test 0 (from 0) has neither `stdin` and `stdout` nor `function`, `arguments` and `expected`"#
        ]],
    );
    check(
        &after(r#"{"id": "b", "problem": "2", "answer": [{"stdout": "2"}]}"#),
        expect![[r#"p.jsonl:3: `answer` is [{"stdout":"2"}], expected text"#]],
    );
    check(
        &after(r#"{"id": "b", "problem": "2", "answer": "(2", "verifier": "pattern"}"#),
        expect!["p.jsonl:3: problem `b`: the `pattern` verifier cannot read the reference answer `(2`: unclosed group"],
    );
    check(
        &after(r#"{"id": "b", "problem": "2", "answer": "2", "verifier": "tolerance"}"#),
        expect![
            "p.jsonl:3: problem `b`: the `tolerance` verifier cannot read the reference answer `2`: expected `NUMBER +- TOLERANCE`, such as `9.81 +- 0.01` or `9.81 +- 1%`"
        ],
    );
    check(
        &after(r#"{"id": "b", "problem": "2", "answer": [{"stdout": "2"}], "verifier": "program", "command": "sh"}"#),
        expect!["p.jsonl:3: unknown key `command`"],
    );
    check(&after(good), expect!["p.jsonl:3: problem `a` is already on line 1"]);
    check(
        b"",
        expect![[r#"
        p.jsonl holds no problem
        hint: one JSON object a line: {"id": "1", "problem": "2 + 2", "answer": "4"}"#]],
    );
    check(
        b"\n \n",
        expect![[r#"
        p.jsonl holds no problem
        hint: one JSON object a line: {"id": "1", "problem": "2 + 2", "answer": "4"}"#]],
    );
    check(b"{\"id\": \"\xff\"}", expect!["p.jsonl:1: cannot read: stream did not contain valid UTF-8"]);
}

/// Tests are kept to the digit, and however they are spaced.
#[test]
fn tests_are_an_answer() {
    let read = |answer: &str| {
        let line = format!("{{\"id\": \"a\", \"problem\": \"2\", \"answer\": {answer}, \"verifier\": \"program\"}}");
        read_lines(Path::new("p.jsonl"), line.as_bytes()).unwrap()
    };
    let set = read(r#"[{"function":"f","arguments":[1],"expected":1267650600228229401496703205377}]"#);
    expect![[r#"[{"function": "f", "arguments": [1], "expected": 1267650600228229401496703205377}]"#]]
        .assert_eq(&set.problems[0].answer);
    let spaced = read("[ {\"expected\": 1267650600228229401496703205377, \"function\": \"f\",\"arguments\": [ 1 ]} ]");
    assert_eq!(spaced, set);
    let written = line(&set.problems[0]);
    assert_eq!(read_lines(Path::new("p.jsonl"), written.as_bytes()).unwrap(), set, "{written}");
}

#[test]
fn a_hash_is_of_the_content() {
    let read = |text: &str| read_lines(Path::new("p.jsonl"), text.as_bytes()).unwrap();
    let plain = read("{\"id\":\"a\",\"problem\":\"2\",\"answer\":\"2\"}");
    let spaced = read("\u{feff}{ \"answer\": \"2\", \"problem\": \"2\", \"id\": \"a\", \"solution\": null }\r\n\n");
    assert_eq!(plain, spaced);
    let other = read("{\"id\":\"a\",\"problem\":\"2\",\"answer\":\"3\"}");
    assert_ne!(plain.hash, other.hash);
    assert_eq!(ProblemSet::from_problems(plain.problems.clone()), Ok(plain));
}

#[test]
fn sets_are_checked() {
    let problem = |id: &str, answer: &str| Problem {
        id: id.into(),
        problem: "p".into(),
        answer: answer.into(),
        verifier: Verifier::Number,
        solution: None,
        cue: None,
    };
    let error = |problems| ProblemSet::from_problems(problems).unwrap_err().to_string();
    expect!["a set needs at least one problem, found 0"].assert_eq(&error(vec![]));
    expect!["problems 0 and 2 (from 0) have the same id `a`"].assert_eq(&error(vec![
        problem("a", "1"),
        problem("b", "1"),
        problem("a", "2"),
    ]));
    expect!["problem `a`: the `number` verifier cannot read the reference answer `x`: it is not a number of at most 36 digits"].assert_eq(&error(vec![problem("a", "x")]));
}

#[test]
fn files_come_and_go() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.jsonl");
    let set = read_lines(&path, &br#"{"id": "a", "problem": "2 + 2", "answer": "4", "solution": "4\n\"\u0000"}"#[..])
        .unwrap();
    set.write_jsonl(&path).unwrap();
    assert_eq!(ProblemSet::read_jsonl(&path).unwrap(), set);
    assert_eq!(blake3::hash(&std::fs::read(&path).unwrap()).to_hex()[..16], set.hash, "the hash of the written file");
    std::fs::remove_file(&path).unwrap();
    let error = ProblemSet::read_jsonl(&path).unwrap_err().to_string();
    assert!(error.starts_with("cannot open the problem file ") && error.contains("p.jsonl: "), "{error}");
    assert!(set.write_jsonl(folder.path()).is_err());
}
