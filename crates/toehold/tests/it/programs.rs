//! Runs whose problems are judged by running something: programs against tests, and a command.
//!
//! Where a verdict must be known beforehand the interpreter is `cat`, which prints its input whatever a
//! policy of random weights wrote.

use std::path::Path;

use expect_test::{Expect, expect};

use crate::place::Place;

const ECHO: &str = r#"{"id": "echo", "problem": "1 + 1", "answer": [{"stdin": "7\n", "stdout": "7\n"}, {"stdout": ""}], "verifier": "program"}
{"id": "add", "problem": "2 + 3", "answer": [{"stdin": "1 2\n", "stdout": "3\n"}], "verifier": "program"}
"#;

fn place(problems: &str, verifier: &str) -> Place {
    let place = Place::with_files();
    place.write("problems.jsonl", problems);
    place.edit("recipe.toml", "held_out_file = \"held_out.jsonl\"\nband = \"unsolved\"\n", "");
    place.edit("recipe.toml", "kind = \"plain\"", "kind = \"success-prefix\"");
    place.edit("recipe.toml", "[curriculum]", &format!("{verifier}\n[curriculum]"));
    place
}

#[test]
fn programs_from_the_file_to_the_report() {
    let place = place(ECHO, "[verifier]\nrun = [\"/bin/cat\"]\ncode = \"text\"\n");
    let ran = place.toehold("run recipe.toml").succeeded();
    assert!(ran.stdout.starts_with("band "), "{ran}");
    let rows: Vec<serde_json::Value> = place
        .toehold("traces runs/r --json --limit 1000")
        .succeeded()
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    for row in &rows {
        let expected = if row["problem"] == "echo" { "correct" } else { "wrong" };
        assert_eq!(row["outcome"], expected, "{row}");
    }
    let trained = rows.iter().filter(|row| row["stage"] == "train").count();
    assert_eq!(trained, 8, "2 steps of 2 groups of 2");
    let shown = |problem: &str| rows.iter().find(|row| row["problem"] == problem).unwrap()["extracted"].clone();
    expect![[r#""2 of 2 tests" "0 of 1 tests, then test 0 (from 0): another output than expected""#]]
        .assert_eq(&format!("{} {}", shown("echo"), shown("add")));
    let events = place.read("runs/r/events.jsonl");
    assert!(events.contains("\"outcomes\":{\"correct\":"), "{events}");
    assert!(place.read("runs/r/report.html").contains("Outcomes"));
    // Everything that was named is in the run's own recipe, so a second run is the same run.
    place.toehold("run runs/r").succeeded();
}

#[track_caller]
fn check(problems: &str, verifier: &str, expected: Expect) {
    let place = place(problems, verifier);
    let ran = place.toehold("run recipe.toml --quiet");
    expected.assert_eq(&ran.to_string());
}

#[test]
fn what_runs_has_to_be_named_by_the_recipe() {
    check(
        ECHO,
        "",
        expect![[r#"
        status 1
        error: the verifier `program` runs programs, but no interpreter and no command to run them is named
        hint: in the recipe's table [verifier] write python = "python3", or run = ["sh", "{source}"] for another language
    "#]],
    );
    check(
        ECHO,
        "[verifier]\nrun = [\"no-such-interpreter\", \"{source}\"]\n",
        expect![[r#"
        status 1
        error: no program can be run here: `no-such-interpreter` is not found in PATH
        hint: name it by its whole path
    "#]],
    );
    check(
        r#"{"id": "a", "problem": "1 + 1", "answer": "2", "verifier": "command"}"#,
        "[verifier]\npython = \"python3\"\n",
        expect![[r#"
        status 1
        error: the verifier `command` asks a program of yours, but none is named
        hint: in the recipe's table [verifier] write command = ["./judge"], with its arguments
    "#]],
    );
    check(
        &ECHO.replace("\"program\"}", "\"program\", \"run\": [\"sh\"]}"),
        "[verifier]\nrun = [\"/bin/cat\"]\n",
        expect![[r#"
            status 1
            error: problems.jsonl:1: unknown key `run`
        "#]],
    );
}

#[test]
fn a_verifier_that_fails_stops_the_run() {
    let problems = "{\"id\": \"a\", \"problem\": \"1 + 1\", \"answer\": \"2\", \"verifier\": \"command\"}\n";
    check(
        problems,
        "[verifier]\ncommand = [\"/bin/sh\", \"-c\", \"read line; echo no model >&2\"]\n",
        expect![[r#"
        status 1
        error: the verifier failed on 3 of 3 completions, more than the share of 0.1 that is put up with; the last time: the verifier `/bin/sh` ended before it replied: no model
    "#]],
    );
    // Where all failures are put up with, nothing is an attempt.
    let place = place(
        problems,
        "[verifier]\ninfra_share = 1.0\ncommand = [\"/bin/sh\", \"-c\", \"read line; echo no model >&2\"]\n",
    );
    let ran = place.toehold("sample recipe.toml").succeeded();
    expect![[r#"
        status 0
        outcomes: 3 infra
        0 attempts, 18 tokens sampled, 2.2 MFLOP; kept in runs/r/traces.db
        stdout:
        band  problems  attempts  successes
        ───────────────────────────────────
    "#]]
    .assert_eq(&ran.to_string());
    let listed = place.toehold("traces runs/r --outcome infra --limit 1").succeeded();
    expect![[r#"
        1 of 3 traces; 0/0 = 0.0 % [0.0, 100.0]
        outcomes: 3 infra
    "#]]
    .assert_eq(&listed.stderr);
}

#[test]
fn rows_name_their_verifier() {
    let place = Place::new();
    place.write(
        "rows.jsonl",
        r#"{"verifier": "tolerance", "gold": "9.81 +- 1%", "prediction": "the answer is 9.8 m/s^2"}
{"verifier": "pattern", "gold": "(?i)yes|yeah", "prediction": "Answer: Yeah", "equal": true, "kind": "words"}
{"verifier": "exact", "gold": "a b", "prediction": "a c"}
{"gold": "1/2", "prediction": "0.5"}
{"verifier": "program", "gold": "[{\"stdin\": \"1 2\\n\", \"stdout\": \"3\\n\"}]", "prediction": "```\nread a b\necho $((a + b))\n```"}
{"verifier": "program", "gold": "[{\"stdin\": \"1 2\\n\", \"stdout\": \"3\\n\"}]", "prediction": "```\nexit 1\n```"}
"#,
    );
    place.write("recipe.toml", "[verifier]\nrun = [\"/bin/sh\", \"{source}\"]\n");
    let shown = |arguments: &str| place.toehold(&format!("verify rows.jsonl {arguments}")).to_string();
    expect![[r#"
        status 0
        6 rows: 3 correct, 1 equal, 1 runtime, 1 wrong
        kind   rows  right    share  missed  wrongly accepted
        ─────────────────────────────────────────────────────
        words     1      1  100.0 %       0                 0
        all       1      1  100.0 %       0                 0
        stdout:
        {"equal":true,"extracted":"9.8 m/s^2","gold":"9.81 +- 1%","outcome":"correct","prediction":"the answer is 9.8 m/s^2","verifier":"tolerance"}
        {"equal":true,"expected":true,"extracted":"Yeah","gold":"(?i)yes|yeah","kind":"words","outcome":"correct","prediction":"Answer: Yeah","verifier":"pattern"}
        {"equal":false,"extracted":"a c","gold":"a b","outcome":"wrong","prediction":"a c","verifier":"exact"}
        {"equal":true,"extracted":"0.5","gold":"1/2","outcome":"equal","prediction":"0.5"}
        {"equal":true,"extracted":"1 of 1 tests","gold":"[{\"stdin\": \"1 2\\n\", \"stdout\": \"3\\n\"}]","outcome":"correct","prediction":"```\nread a b\necho $((a + b))\n```","verifier":"program"}
        {"equal":false,"extracted":"0 of 1 tests, then test 0 (from 0): it ended with exit code 1","gold":"[{\"stdin\": \"1 2\\n\", \"stdout\": \"3\\n\"}]","outcome":"runtime","prediction":"```\nexit 1\n```","verifier":"program"}
    "#]].assert_eq(&shown("--recipe recipe.toml"));
    expect![[r#"
        status 1
        error: rows.jsonl:5: the verifier `program` runs programs, but no interpreter and no command to run them is named
        hint: in the table [verifier] of a --recipe, or as --set verifier.KEY=VALUE, write python = "python3", or run = ["sh", "{source}"] for another language
        stdout:
        {"equal":true,"extracted":"9.8 m/s^2","gold":"9.81 +- 1%","outcome":"correct","prediction":"the answer is 9.8 m/s^2","verifier":"tolerance"}
        {"equal":true,"expected":true,"extracted":"Yeah","gold":"(?i)yes|yeah","kind":"words","outcome":"correct","prediction":"Answer: Yeah","verifier":"pattern"}
        {"equal":false,"extracted":"a c","gold":"a b","outcome":"wrong","prediction":"a c","verifier":"exact"}
        {"equal":true,"extracted":"0.5","gold":"1/2","outcome":"equal","prediction":"0.5"}
    "#]].assert_eq(&shown("--quiet"));
    expect![[r#"
        status 1
        error: [verifier] sandbox: found the string "strong": unknown variant `strong`, expected one of `limits`, `restricted`, `isolated`
    "#]].assert_eq(&shown("--quiet --recipe recipe.toml --set verifier.sandbox=strong"));
    expect![[r#"
        status 1
        error: --set train.steps=3 is of another table, expected verifier.KEY=VALUE
    "#]]
    .assert_eq(&shown("--set train.steps=3"));
    place.write("rows.jsonl", "{\"verifier\": \"maths\", \"gold\": \"1\", \"prediction\": \"1\"}\n");
    expect![[r#"
        status 1
        error: rows.jsonl:1: unknown verifier `maths`, expected one of answer, exact, number, chain, countdown, math, math_boxed, tolerance, pattern, pattern_text, program, command
    "#]].assert_eq(&shown(""));
}

/// Where there is a Python: the interpreter named on the command line, tests of both kinds.
#[test]
fn python_where_there_is_one() {
    if !Path::new("/usr/bin/python3").exists() {
        return;
    }
    let place = Place::new();
    place.write(
        "rows.jsonl",
        r#"{"verifier": "program", "gold": "[{\"function\": \"add\", \"arguments\": [1, 2], \"expected\": 3}]", "prediction": "```python\ndef add(a, b): return a + b\n```"}
{"verifier": "program", "gold": "[{\"stdin\": \"1 2\", \"stdout\": \"3\"}]", "prediction": "```python\nprint(sum(map(int, input().split())))\n```"}
"#,
    );
    let ran = place.toehold("verify rows.jsonl --set verifier.python=/usr/bin/python3").succeeded();
    assert_eq!(ran.stderr, "2 rows: 2 correct\n", "{ran}");
}
