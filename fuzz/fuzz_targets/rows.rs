//! JSON lines: rows as they come from outside, options included.
#![no_main]

use libfuzzer_sys::fuzz_target;
use toehold_verifier::math::{Options, Row, verify_row};

fuzz_target!(|text: &str| {
    for line in text.lines() {
        if let Ok(row) = serde_json::from_str::<Row>(line) {
            let _ = verify_row(&row, &Options::default());
        }
    }
});
