//! The command verifier: a long-lived process that may die, hang, lie or flood.
//!
//! The user's program is a line of shell here; it is started as `/bin/sh -c …`, by no shell of ours.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use expect_test::{Expect, expect};
use toehold_verifier::command::{CommandError, CommandSpec, CommandVerifier};

/// Reads a request, so that `$line` and `$id` are set.
const READ: &str = "read -r line || exit 0; id=${line#*\\\"id\\\":}; id=${id%%,*}; id=${id%%\\}*}; ";

fn verifier(script: &str) -> CommandVerifier {
    let mut spec = CommandSpec::new(["/bin/sh", "-c", script].map(str::to_owned).to_vec());
    spec.deadline = Duration::from_secs(2);
    spec.line_bytes = 10_000;
    CommandVerifier::new(spec).unwrap()
}

/// Asks for three verdicts of a script.
#[track_caller]
fn check(script: &str, expected: Expect) {
    let mut verifier = verifier(&script.replace("READ", READ));
    let mut lines = String::new();
    for text in ["four", "a \"quoted\"\nline\u{2028}é", "4"] {
        let line = match verifier.verify("4", text) {
            Ok(verdict) => format!("{} {:?}", verdict.outcome, verdict.extracted),
            Err(error) => error.to_string(),
        };
        lines.push_str(&format!("{line}\n"));
    }
    lines.push_str(&format!("started {} times", verifier.starts()));
    expected.assert_eq(&lines);
}

#[test]
fn replies() {
    check(
        r#"while true; do READ case "$line" in *'"text":"4"'*) o=correct;; *) o=wrong;; esac; echo "{\"id\": $id, \"outcome\": \"$o\", \"extracted\": \"x\"}"; done"#,
        expect![[r#"
            wrong Some("x")
            wrong Some("x")
            correct Some("x")
            started 1 times"#]],
    );
    check(
        r#"while true; do READ echo "{\"id\": $id, \"error\": \"no idea\"}"; done"#,
        expect![[r#"
        the verifier `/bin/sh` cannot judge: no idea
        the verifier `/bin/sh` cannot judge: no idea
        the verifier `/bin/sh` cannot judge: no idea
        started 1 times"#]],
    );
    // Empty lines and replies to earlier requests are passed over.
    check(
        r#"while true; do READ echo; echo "{\"id\": 0, \"outcome\": \"wrong\"}"; echo "{\"id\": $id, \"outcome\": \"no_answer\"}"; done"#,
        expect![[r#"
            no_answer None
            no_answer None
            no_answer None
            started 1 times"#]],
    );
}

#[test]
fn deaths() {
    // It replies once and ends: started anew each time, and the request is not lost.
    check(
        r#"READ echo "{\"id\": $id, \"outcome\": \"correct\"}""#,
        expect![[r#"
        correct None
        correct None
        correct None
        started 3 times"#]],
    );
    check(
        "echo 'cannot load' >&2; exit 3",
        expect![[r#"
        the verifier `/bin/sh` ended before it replied: cannot load
        the verifier `/bin/sh` ended before it replied: cannot load
        the verifier `/bin/sh` ended before it replied: cannot load
        started 6 times"#]],
    );
}

#[test]
fn lies() {
    check(
        r#"while true; do READ echo hello; done"#,
        expect![[r#"
        the verifier `/bin/sh` wrote `hello`, expected a reply such as {"id": 1, "outcome": "correct"}: expected value at line 1 column 1
        the verifier `/bin/sh` wrote `hello`, expected a reply such as {"id": 1, "outcome": "correct"}: expected value at line 1 column 1
        the verifier `/bin/sh` wrote `hello`, expected a reply such as {"id": 1, "outcome": "correct"}: expected value at line 1 column 1
        started 3 times"#]],
    );
    check(
        r#"while true; do READ echo "{\"id\": 99, \"outcome\": \"correct\"}"; done"#,
        expect![[r#"
        the verifier `/bin/sh` wrote `{"id": 99, "outcome": "correct"}`, expected a reply such as {"id": 1, "outcome": "correct"}: its id is 99, expected 1
        the verifier `/bin/sh` wrote `{"id": 99, "outcome": "correct"}`, expected a reply such as {"id": 1, "outcome": "correct"}: its id is 99, expected 2
        the verifier `/bin/sh` wrote `{"id": 99, "outcome": "correct"}`, expected a reply such as {"id": 1, "outcome": "correct"}: its id is 99, expected 3
        started 3 times"#]],
    );
    check(
        r#"while true; do READ echo "{\"id\": $id}"; done"#,
        expect![[r#"
        the verifier `/bin/sh` wrote `{"id": 1}`, expected a reply such as {"id": 1, "outcome": "correct"}: it has neither or both of `outcome` and `error`
        the verifier `/bin/sh` wrote `{"id": 2}`, expected a reply such as {"id": 1, "outcome": "correct"}: it has neither or both of `outcome` and `error`
        the verifier `/bin/sh` wrote `{"id": 3}`, expected a reply such as {"id": 1, "outcome": "correct"}: it has neither or both of `outcome` and `error`
        started 3 times"#]],
    );
    check(
        r#"while true; do READ echo "{\"id\": $id, \"outcome\": \"great\"}"; done"#,
        expect![[r#"
            the verifier `/bin/sh` wrote `{"id": 1, "outcome": "great"}`, expected a reply such as {"id": 1, "outcome": "correct"}: unknown variant `great`, expected one of `correct`, `wrong`, `no_answer`, `unreadable`, `budget`, `timeout`, `memory`, `runtime`, `compile`, `output_limit`, `infra` at line 1 column 28
            the verifier `/bin/sh` wrote `{"id": 2, "outcome": "great"}`, expected a reply such as {"id": 1, "outcome": "correct"}: unknown variant `great`, expected one of `correct`, `wrong`, `no_answer`, `unreadable`, `budget`, `timeout`, `memory`, `runtime`, `compile`, `output_limit`, `infra` at line 1 column 28
            the verifier `/bin/sh` wrote `{"id": 3, "outcome": "great"}`, expected a reply such as {"id": 1, "outcome": "correct"}: unknown variant `great`, expected one of `correct`, `wrong`, `no_answer`, `unreadable`, `budget`, `timeout`, `memory`, `runtime`, `compile`, `output_limit`, `infra` at line 1 column 28
            started 3 times"#]],
    );
}

#[test]
fn floods() {
    let begun = Instant::now();
    let mut verifier = verifier("while true; do printf aaaaaaaaaaaaaaaa; done");
    let error = verifier.verify("4", "4").unwrap_err();
    assert!(matches!(error, CommandError::LongLine { limit: 10_000, .. }), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(2));
}

#[test]
fn hangs() {
    for script in ["sleep 60", "exec sleep 60 < /dev/null"] {
        let begun = Instant::now();
        // More than a pipe holds, to a process that does not read.
        let error = verifier(script).verify("4", &"x".repeat(1 << 20)).unwrap_err();
        assert!(matches!(error, CommandError::Deadline { .. }), "{script}: {error}");
        assert!((2..8).contains(&begun.elapsed().as_secs()), "{script}: {:?}", begun.elapsed());
    }
}

#[test]
fn no_such_program() {
    let spec = |command: &[&str]| CommandSpec::new(command.iter().map(|word| (*word).to_owned()).collect());
    let error = CommandVerifier::new(spec(&["/no/such/program"])).unwrap().verify("4", "4").unwrap_err();
    let expected = expect!["the verifier `/no/such/program` cannot be started: No such file or directory (os error 2)"];
    expected.assert_eq(&error.to_string());
    assert!(matches!(CommandVerifier::new(spec(&[])), Err(CommandError::Empty)));
}
