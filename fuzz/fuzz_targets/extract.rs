//! The extractor: any text, with and without boxes alone; where the answer begins is a place in the text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use toehold_verifier::math::{Form, Gold, Options, STEP_LIMIT, answer_begins, compare};

fuzz_target!(|text: &str| {
    for strict_boxed in [false, true] {
        let options = Options { strict_boxed, ..Options::default() };
        for gold in ["1,2", "x", "Paris"] {
            let gold = Gold::read(gold, Form::Bare, &options).expect("these golds are readable");
            let found = compare(&gold, text, Form::Text, &options);
            assert!(found.steps <= STEP_LIMIT);
        }
        let options = Options { choices: Some("ABCD".to_owned()), multi_select: strict_boxed, ..options };
        let gold = Gold::read("A", Form::Bare, &options).expect("a letter is readable");
        let _ = compare(&gold, text, Form::Text, &options);
    }
    let _ = Gold::read(text, Form::Text, &Options::default());
    if let Some(begins) = answer_begins(text) {
        assert!(text.is_char_boundary(begins));
    }
});
