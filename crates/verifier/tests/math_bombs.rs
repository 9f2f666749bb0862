//! Resource bombs: the step budget bounds every one, and none is taken for equal.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write;

use expect_test::expect_file;
use toehold_verifier::math::{Form, Gold, Options, STEP_LIMIT, compare};

mod bombs;

#[test]
fn steps_are_bounded_and_the_same_in_every_run() {
    let options = Options::default();
    let mut shown = String::new();
    for bomb in bombs::bombs() {
        let gold = Gold::read(&bomb.gold, Form::Bare, &options).unwrap();
        let found = compare(&gold, &bomb.prediction, bomb.form, &options);
        assert!(!found.finding.is_equal(), "{}", bomb.name);
        assert!(found.steps <= STEP_LIMIT, "{}: {} steps", bomb.name, found.steps);
        assert_eq!(found, compare(&gold, &bomb.prediction, bomb.form, &options), "{}", bomb.name);
        writeln!(shown, "{}: {}, {} steps", bomb.name, found.finding, found.steps).unwrap();
    }
    expect_file!["data/bombs.txt"].assert_eq(&shown);
}

#[test]
fn as_golds_they_are_refused_or_bounded() {
    let options = Options::default();
    for bomb in bombs::bombs() {
        if let Ok(gold) = Gold::read(&bomb.prediction, bomb.form, &options) {
            assert!(gold.steps() <= STEP_LIMIT, "{}", bomb.name);
            let found = compare(&gold, "1", Form::Bare, &options);
            assert!(found.steps <= STEP_LIMIT, "{}", bomb.name);
        }
    }
}

#[test]
fn a_small_stack_is_enough() {
    // A test thread has 2 MiB; a quarter of it leaves room for whoever calls.
    let run = || {
        let options = Options::default();
        for bomb in bombs::bombs() {
            let gold = Gold::read(&bomb.gold, Form::Bare, &options).unwrap();
            let _ = compare(&gold, &bomb.prediction, bomb.form, &options);
        }
    };
    std::thread::Builder::new().stack_size(512 * 1024).spawn(run).unwrap().join().unwrap();
}
