//! Function calls: a pass cannot be forged, whatever a program does to its channel or its interpreter.
//!
//! The first tests use the C program of attacks. Those of Python run where `/usr/bin/python3` is there,
//! and say on standard error where it is not.

#![cfg(target_os = "linux")]
#![expect(clippy::print_stderr, reason = "a check that is left out says so")]

#[expect(dead_code, reason = "the attacks by walls are used by the other tests")]
mod attacks;

use std::path::Path;

use attacks::Attack;
use toehold_verifier::program::{self, Comparison, Job, Language, Program, ProgramOutcome, Test};

fn call(function: &str, arguments: &str, expected: &str) -> Test {
    Test::Call { function: function.to_owned(), arguments: arguments.to_owned(), expected: expected.to_owned() }
}

#[test]
fn all_again_as_an_ordinary_user() {
    attacks::again_as_an_ordinary_user("all_again_as_an_ordinary_user");
}

#[track_caller]
fn check(words: &[&str], expected: &str) {
    let verdict = Attack::with_test(words, call("add", "[1, 2]", "3")).run();
    assert_eq!(format!("{}: {}", verdict.outcome, verdict.detail), expected, "{words:?}");
}

#[test]
fn the_channel_of_returned_values() {
    // The nonce is what makes a record count: the same record with it passes and without it does not.
    check(&["call", "honest"], "pass: ");
    let forged = "runtime: the channel of returned values holds something else than one record with the call's nonce";
    check(&["call", "forge"], forged);
    check(&["call", "twice"], forged);
    check(&["call", "wrong"], "wrong: another value than expected");
    check(&["call", "silent"], "runtime: it ended without returning a value");
    check(&["say", "{\"value\": 3}"], "runtime: it ended without returning a value");
    check(&["exit", "0"], "runtime: it ended without returning a value");
}

#[test]
fn a_job_that_cannot_be_judged() {
    let judge = |test: Test| {
        let verdict = Attack::with_test(&["call", "honest"], test).run();
        format!("{}: {}", verdict.outcome, verdict.detail)
    };
    assert_eq!(judge(call("add", "1, 2", "3")), "infra: the arguments of `add` are not a JSON list");
    assert_eq!(judge(call("add", "[1, 2]", "three")), "infra: the expected value of `add` is not JSON");
    let mut none = Attack::new(&["say", "x"], "x");
    none.job.tests.clear();
    assert_eq!(none.run().detail, "the job has no tests");
    for file in ["../x", "a/b", "..", "a\0b"] {
        let language = Language::Command { file: file.to_owned(), compile: None, run: vec!["/bin/true".to_owned()] };
        none.job = Job::new(Program { language, source: "x".to_owned() }, vec![call("f", "[]", "1")]);
        let verdict = none.run();
        assert_eq!(verdict.outcome, ProgramOutcome::Infra, "{file:?}");
        assert!(verdict.detail.contains("expected a name without folders"), "{}", verdict.detail);
    }
}

/// Runs Python programs, each against `add(1, 2) = 3`, unless there is no interpreter.
#[track_caller]
fn python(cases: &[(&str, &str)]) {
    if !Path::new("/usr/bin/python3").exists() {
        eprintln!("left out: there is no /usr/bin/python3");
        return;
    }
    for (source, expected) in cases {
        let verdict = program::run(&python_job(source, call("add", "[1, 2]", "3")));
        let said = format!("{}: {}", verdict.outcome, verdict.detail.lines().last().unwrap_or_default());
        assert_eq!(said, *expected, "{source}");
    }
}

fn python_job(source: &str, test: Test) -> Job {
    let language = Language::Python { interpreter: "/usr/bin/python3".into() };
    Job::new(Program { language, source: source.to_owned() }, vec![test])
}

#[test]
fn python_functions() {
    python(&[
        ("def add(a, b): return a + b", "pass: "),
        ("class add:\n    def __new__(cls, a, b): return a + b", "pass: "),
        ("def add(a, b): return a - b", "wrong: another value than expected"),
        ("def add(a, b): return '3'", "wrong: another value than expected"),
        ("def add(a, b): print('3')", "wrong: another value than expected"),
        ("def add(a, b): return {1, 2}", "runtime: TypeError: Object of type set is not JSON serializable"),
        ("def add(a, b): return float('nan')", "runtime: ValueError: Out of range float values are not JSON compliant"),
        ("def add(a, b): return a / 0", "runtime: ZeroDivisionError: division by zero"),
        ("def sub(a, b): return a", "runtime: KeyError: 'add'"),
        ("def add(a, b): return add(a, b)", "runtime: RecursionError: maximum recursion depth exceeded"),
        ("def add(a, b): return [0] * 10**10", "memory: MemoryError"),
        ("def add(a, b:", "runtime: SyntaxError: '(' was never closed"),
    ]);
}

#[test]
fn python_values_go_in_and_out() {
    if !Path::new("/usr/bin/python3").exists() {
        eprintln!("left out: there is no /usr/bin/python3");
        return;
    }
    let long = format!("[{}]", vec!["-7"; 5_000].join(", "));
    for value in [
        r#"{"a": [1, 2.5, -3e-7, true, false, null], "é\u00e9\ud83d\ude00": "\\ \" \/ \n \u0000 \u2028 '"}"#,
        "[[], {}, \"\", [[[]]], 1267650600228229401496703205377]",
        r#""${not} \\N{BULLET} \\x41 {0} %s""#,
        &long,
    ] {
        let job = python_job("def same(value): return value", call("same", &format!("[{value}]"), value));
        let verdict = program::run(&job);
        assert_eq!(verdict.outcome, ProgramOutcome::Pass, "{value}: {}", verdict.detail);
    }
    let order = call("order", "[{\"b\": 1, \"a\": 2}]", "[\"b\", \"a\"]");
    assert_eq!(program::run(&python_job("def order(value): return list(value)", order)).outcome, ProgramOutcome::Pass);
    let keys = python_job(
        "def keys(): return {1: 2.0, True: (1, 2), None: None}",
        call("keys", "[]", r#"{"1": [1, 2], "null": null}"#),
    );
    assert_eq!(program::run(&keys).outcome, ProgramOutcome::Pass);
}

#[test]
fn a_patched_interpreter() {
    let nothing = "runtime: it ended without returning a value";
    let forged = "runtime: the channel of returned values holds something else than one record with the call's nonce";
    python(&[
        ("import os\ndef add(a, b): os._exit(0)", nothing),
        ("import sys\nsys.exit(0)", nothing),
        ("import os\nos.close(4)\nos._exit(0)", nothing),
        (
            "class Same:\n    def __eq__(self, other): return True\ndef add(a, b): return Same()",
            "runtime: TypeError: Object of type Same is not JSON serializable",
        ),
        (
            "class Same(int):\n    def __eq__(self, other): return True\ndef add(a, b): return Same(4)",
            "wrong: another value than expected",
        ),
        (
            "import builtins, json\nbuiltins.print = json.dumps = lambda *a, **k: 'PASS'\ndef add(a, b): return 4",
            "wrong: another value than expected",
        ),
        (
            "import os, sys\nsys.stdout.write('{\"value\": 3}')\nos.write(4, b'{\"nonce\": \"0\", \"value\": 3}\\n')\nos._exit(0)",
            forged,
        ),
        ("import os\nos.write(4, b'PASS\\n')\ndef add(a, b): return 3", forged),
        ("import atexit, os\natexit.register(os.write, 4, b'{\"value\": 3}')\ndef add(a, b): return 4", forged),
        // The harness's frame holds the nonce. It buys a record, and a record of a wrong value is wrong.
        (
            "import os, sys, json\nr = sys._getframe(1).f_locals['request']\nos.write(4, json.dumps({'nonce': r['nonce'], 'value': 4}).encode())\nos._exit(0)",
            "wrong: another value than expected",
        ),
        (
            "import os, sys, json\nr = sys._getframe(1).f_locals['request']\nos.write(4, json.dumps({'nonce': r['nonce'], 'value': 3}).encode())\nos._exit(0)",
            "pass: ",
        ),
        // What is expected is nowhere in the interpreter.
        (
            "import sys\nr = sys._getframe(1).f_locals['request']\ndef add(a, b): return r['expected']",
            "runtime: KeyError: 'expected'",
        ),
        ("def add(a, b):\n    try: return open('/etc/passwd').read()\n    except OSError: return 3", "pass: "),
        (
            "import socket\ndef add(a, b): return socket.socket()",
            "runtime: OSError: [Errno 38] Function not implemented",
        ),
    ]);
}

#[test]
fn python_programs() {
    if !Path::new("/usr/bin/python3").exists() {
        eprintln!("left out: there is no /usr/bin/python3");
        return;
    }
    let input = |stdin: &str, stdout: &str| Test::Input { stdin: stdin.to_owned(), stdout: stdout.to_owned() };
    let source = "import sys\nfor line in sys.stdin:\n    print(sum(map(float, line.split())) / 3)\n";
    let mut job = python_job(source, input("1 2 3\n0.5 0.25 0.25\n", "2\n0.333333333\n"));
    assert_eq!(program::run(&job).outcome, ProgramOutcome::Pass);
    job.comparison = Comparison::Lines;
    assert_eq!(program::run(&job).outcome, ProgramOutcome::Wrong);
    let threads = "import os, threading, subprocess\nt = threading.Thread(target=lambda: print('a'))\nt.start()\nt.join()\n\
                   print(subprocess.run(['/bin/echo', 'b'], capture_output=True, text=True).stdout, end='')\n\
                   open('kept', 'w').write('é')\nprint(open(os.environ['TMPDIR'] + '/kept').read())\n";
    let verdict = program::run(&python_job(threads, input("", "a\nb\né\n")));
    assert_eq!(verdict.outcome, ProgramOutcome::Pass, "{}", verdict.detail);
    // Each test has a scratch folder of its own.
    let mut job = python_job("import os\nprint(os.listdir('.'))\nopen('left', 'w')\n", input("", "[]\n"));
    job.tests.push(input("", "[]\n"));
    assert_eq!(program::run(&job).passed, 2);
    // An interpreter by its name alone.
    job.program.language = Language::Python { interpreter: "python3.99".into() };
    let verdict = program::run(&job);
    assert_eq!(verdict.outcome, ProgramOutcome::Infra);
    assert!(verdict.detail.starts_with("`python3.99` is not found in PATH"), "{}", verdict.detail);
    let method = "class Solution:\n    def add(self, xs):\n        return [x * 2 ** 100 for x in xs]\n";
    let mut job = python_job(method, call("Solution.add", "[[1, 0]]", "[1267650600228229401496703205376, 0]"));
    assert_eq!(program::run(&job).outcome, ProgramOutcome::Pass);
    job.tests = vec![call("Solution.add", "[[1, 0]]", "[1267650600228229401496703205377, 0]")];
    assert_eq!(program::run(&job).outcome, ProgramOutcome::Wrong);
    job.tests = vec![call("Solution.add", "[[1, 0]]", "[0, 1267650600228229401496703205376]")];
    job.comparison = Comparison::AnyOrder;
    assert_eq!(program::run(&job).outcome, ProgramOutcome::Pass);
}
