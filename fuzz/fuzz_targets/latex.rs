//! The LaTeX grammar: what parses equals itself.
#![no_main]

use libfuzzer_sys::fuzz_target;
use toehold_verifier::math::{Finding, Form, Gold, Options, STEP_LIMIT, compare};

fuzz_target!(|text: &str| {
    // A backslash anywhere chooses the grammar.
    let text = format!("{text}\\,");
    let options = Options::default();
    if let Ok(gold) = Gold::read(&text, Form::Bare, &options) {
        let found = compare(&gold, &text, Form::Bare, &options);
        assert!(found.steps <= STEP_LIMIT);
        assert!(matches!(found.finding, Finding::Equal | Finding::Budget), "{}", found.finding);
    }
});
