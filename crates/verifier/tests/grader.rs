//! The grader: programs, commands, batches, and what is counted when the verifier itself fails.
//!
//! Programs are shell scripts, so that no other interpreter has to be there.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write;
use std::num::NonZeroUsize;
use std::time::Duration;

use expect_test::{Expect, expect};
use toehold_verifier::command::CommandSpec;
use toehold_verifier::program::{Language, Limits, Sandbox};
use toehold_verifier::{Code, Grader, Question, Resources, Runtime, Verdict, Verifier};

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn shell() -> Runtime {
    Runtime {
        language: Language::Command { file: "main.sh".to_owned(), compile: None, run: words(&["/bin/sh", "{source}"]) },
        limits: Limits::default(),
        compile_limits: Limits::compilation(),
        sandbox: Sandbox::default(),
        code: Code::Fence,
    }
}

fn grader(program: Option<Runtime>, command: &[&str]) -> Grader {
    let command = (!command.is_empty()).then(|| CommandSpec::new(words(command)));
    Grader::new(Resources { program, command, ..Resources::default() }).unwrap()
}

fn shown(verdict: &Verdict) -> String {
    format!("{} {}", verdict.outcome, verdict.extracted.as_deref().unwrap_or("–"))
}

const SUMS: &str = r#"[{"stdin": "1 2\n", "stdout": "3\n"}, {"stdin": "5 5\n", "stdout": "10\n"}]"#;

#[track_caller]
fn check(runtime: Runtime, texts: &[&str], expected: Expect) {
    let grader = grader(Some(runtime), &[]);
    grader.ready(Verifier::Program).unwrap();
    let questions: Vec<_> =
        texts.iter().map(|text| Question { verifier: Verifier::Program, reference: SUMS, text }).collect();
    let verdicts = grader.verify_batch(&questions);
    let mut lines = String::new();
    for (text, verdict) in texts.iter().zip(&verdicts) {
        writeln!(lines, "{text:?}: {}", shown(verdict)).unwrap();
        assert_eq!(&grader.verify(Verifier::Program, SUMS, text), verdict, "alone and in a batch");
    }
    expected.assert_eq(&lines);
}

#[test]
fn programs() {
    check(
        shell(),
        &[
            "So:\n```sh\nread a b\necho $((a + b))\n```",
            "```\necho 3\n```",
            "```\nread a b; echo $((a - b))\n```",
            "```\nexit 3\n```",
            "```\nread a b\necho $((a",
            "I would add them.",
        ],
        expect![[r#"
            "So:\n```sh\nread a b\necho $((a + b))\n```": correct 2 of 2 tests
            "```\necho 3\n```": wrong 1 of 2 tests, then test 1 (from 0): another output than expected
            "```\nread a b; echo $((a - b))\n```": wrong 0 of 2 tests, then test 0 (from 0): another output than expected
            "```\nexit 3\n```": runtime 0 of 2 tests, then test 0 (from 0): it ended with exit code 3
            "```\nread a b\necho $((a": unreadable –
            "I would add them.": no_answer –
        "#]],
    );
    let short = Limits { wall: Duration::from_millis(300), ..Limits::default() };
    check(
        Runtime { limits: short, ..shell() },
        &["```\nwhile :; do :; done\n```"],
        expect![[r#"
        "```\nwhile :; do :; done\n```": timeout 0 of 2 tests, then test 0 (from 0): it ran longer than 300ms
    "#]],
    );
    check(
        Runtime { code: Code::Text, ..shell() },
        &["read a b; echo $((a + b))", " "],
        expect![[r#"
        "read a b; echo $((a + b))": correct 2 of 2 tests
        " ": no_answer –
    "#]],
    );
}

#[test]
fn what_is_missing_is_said_before() {
    let ready = |grader: &Grader, verifier: Verifier| match grader.ready(verifier) {
        Ok(()) => "ready".to_owned(),
        Err(error) => error.to_string(),
    };
    let none = grader(None, &[]);
    expect!["the verifier `program` runs programs, but no interpreter and no command to run them is named"]
        .assert_eq(&ready(&none, Verifier::Program));
    expect!["the verifier `command` asks a program of yours, but none is named"]
        .assert_eq(&ready(&none, Verifier::Command));
    expect!["ready"].assert_eq(&ready(&none, Verifier::Math));
    let run = words(&["no-such-program"]);
    let missing = Language::Command { file: "x".to_owned(), compile: None, run };
    expect![[r#"
        no program can be run here: `no-such-program` is not found in PATH
        hint: name it by its whole path"#]]
    .assert_eq(&ready(&grader(Some(Runtime { language: missing, ..shell() }), &[]), Verifier::Program));
    expect!["the verifier `/no/such` cannot be started: No such file or directory (os error 2)"]
        .assert_eq(&ready(&grader(None, &["/no/such"]), Verifier::Command));
    // Asked all the same, the failure is the verifier's, never the text's.
    let verdict = none.verify(Verifier::Program, SUMS, "```\necho 3\n```");
    assert!(!verdict.outcome.is_judged(), "{verdict:?}");
}

#[test]
fn a_command_fails_and_is_counted() {
    // It judges what begins with `g`, refuses what begins with `r`, and ends at anything else.
    const JUDGE: &str = r#"while read -r line; do id=${line#*\"id\":}; id=${id%%,*}; case "$line" in
        *'"text":"g'*) echo "{\"id\": $id, \"outcome\": \"correct\"}";;
        *'"text":"r'*) echo "{\"id\": $id, \"error\": \"cannot\"}";;
        *) exit 1;; esac; done"#;
    let spec = CommandSpec::new(words(&["/bin/sh", "-c", JUDGE]));
    let processes = NonZeroUsize::new(2).unwrap();
    let resources = Resources { command: Some(spec), processes, ..Resources::default() };
    let grader = Grader::new(resources).unwrap();
    grader.ready(Verifier::Command).unwrap();
    let texts = ["good", "refused", "good", "ends", "good"];
    let questions: Vec<_> =
        texts.iter().map(|text| Question { verifier: Verifier::Command, reference: "1", text }).collect();
    let lines: Vec<String> = grader.verify_batch(&questions).iter().map(shown).collect();
    expect![[r#"
        correct –
        infra the verifier `/bin/sh` cannot judge: cannot
        correct –
        infra the verifier `/bin/sh` ended before it replied
        correct –"#]]
    .assert_eq(&lines.join("\n"));
    let tally = grader.tally();
    assert_eq!((tally.asked, tally.failed), (5, 2));
    // Of 20 at least: 2 failures are a tenth.
    assert!(!tally.exceeds(0.1) && tally.exceeds(0.09) && tally.exceeds(0.0));
}

#[test]
fn texts_in_a_batch_are_the_same_as_alone() {
    let grader = grader(None, &[]);
    let texts: Vec<String> = (0..500).map(|at| format!("the answer is {at}")).collect();
    let questions: Vec<_> = texts
        .iter()
        .enumerate()
        .map(|(at, text)| Question { verifier: Verifier::ALL[at % 9], reference: "250 +- 10%", text })
        .collect();
    let alone: Vec<Verdict> =
        questions.iter().map(|asked| asked.verifier.verify(asked.reference, asked.text)).collect();
    assert_eq!(grader.verify_batch(&questions), alone);
    assert!(alone.iter().any(|verdict| verdict.outcome.is_correct()));
}
