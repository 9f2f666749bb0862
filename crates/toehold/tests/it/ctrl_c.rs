//! Ctrl-C: the work stops soon, what was done is kept, and the program says how to go on.

use std::io::Read as _;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use expect_test::{Expect, expect};

use crate::place::{Place, assert_kept_the_same};

/// Interrupts `command` once the run's `sign` has more than `bytes` bytes, then goes on with what it
/// says and compares with a run that was not interrupted.
#[track_caller]
fn check(before: &[&str], command: &str, (sign, bytes): (&str, u64), resume: &str, expected: Expect) {
    let whole = Place::with_chains();
    let place = Place::with_chains();
    for earlier in before {
        whole.toehold(earlier).succeeded();
        place.toehold(earlier).succeeded();
    }
    whole.toehold(command).succeeded();

    let mut child = place.command(command).arg("--quiet").stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    while std::fs::metadata(place.path(sign)).map_or(0, |file| file.len()) <= bytes {
        assert!(begun.elapsed() < Duration::from_secs(60), "{command} does not begin");
        assert!(child.try_wait().unwrap().is_none(), "{command} ended before it was interrupted");
        sleep(Duration::from_millis(1));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let status = child.wait().unwrap();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    expected.assert_eq(&format!("status {}\n{said}", status.code().unwrap()));

    place.toehold(resume).succeeded();
    assert_kept_the_same(&whole.kept("runs/r"), &place.kept("runs/r"), command);
}

#[test]
fn while_sampling() {
    check(
        &[],
        "sample recipe.toml --set collect.until=max-attempts --set collect.max_attempts=200",
        ("runs/r/traces.db-wal", 300_000),
        "sample runs/r",
        expect![[r#"
            status 130
            error: interrupted; everything so far is kept
            hint: `toehold sample runs/r` goes on from here
        "#]],
    );
}

#[test]
fn while_training() {
    check(
        &["sample recipe.toml --set train.steps=40"],
        "train recipe.toml --set train.steps=40",
        ("runs/r/events.jsonl", 6_000),
        "train runs/r",
        expect![[r#"
            status 130
            error: interrupted; everything so far is kept
            hint: `toehold train runs/r` goes on from here
        "#]],
    );
}

#[test]
fn while_running_all_stages() {
    check(
        &[],
        "run recipe.toml --set train.steps=40",
        ("runs/r/events.jsonl", 6_000),
        "run runs/r",
        expect![[r#"
            status 130
            error: interrupted; everything so far is kept
            hint: `toehold run runs/r` goes on from here
        "#]],
    );
}
