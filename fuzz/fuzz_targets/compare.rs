//! The comparator: two answers on the two sides of the first line end.
#![no_main]

use libfuzzer_sys::fuzz_target;
use toehold_verifier::math::{Form, Gold, Options, STEP_LIMIT, compare};

fuzz_target!(|text: &str| {
    let Some((gold, prediction)) = text.split_once('\n') else { return };
    let options = Options::default();
    let Ok(gold) = Gold::read(gold, Form::Bare, &options) else { return };
    let found = compare(&gold, prediction, Form::Bare, &options);
    assert!(found.steps <= STEP_LIMIT);
    assert_eq!(found, compare(&gold, prediction, Form::Bare, &options));
});
