//! The answer of a chain problem: `answer A 3 B 0 C 2`, against the reference `3 0 2`.
//!
//! The first word "answer" counts and its parts must reach to the text's end: a policy has one try.

use crate::{Outcome, Verdict, answer};

/// A step is named by one capital letter.
const MAX_PARTS: usize = 26;

/// The rule of `Verifier::Chain`; `reference` is trimmed and not empty.
pub(crate) fn verify(reference: &str, text: &str) -> Verdict {
    let Some((_, after)) = answer::after_first_word(text) else {
        return Verdict { outcome: Outcome::NoAnswer, extracted: None };
    };
    let stated = after.trim();
    if stated.is_empty() {
        return Verdict { outcome: Outcome::NoAnswer, extracted: None };
    }
    let outcome = match (read_reference(reference), read_parts(stated)) {
        (Ok(expected), Some(found)) if expected == found => Outcome::Correct,
        (Ok(_), Some(_)) => Outcome::Wrong,
        _ => Outcome::Unreadable,
    };
    Verdict { outcome, extracted: Some(stated.to_owned()) }
}

/// The values in order, one to 26 of them.
pub(crate) fn read_reference(reference: &str) -> Result<Vec<u32>, String> {
    let mut values = Vec::new();
    for word in reference.split_whitespace() {
        if values.len() == MAX_PARTS {
            return Err(format!("it has more than {MAX_PARTS} values"));
        }
        values.push(read_value(word).ok_or_else(|| "expected whole numbers such as `3 0 2`".to_owned())?);
    }
    Ok(values)
}

/// `A 3 B 0 …`, lettered in order; none for any other form.
fn read_parts(stated: &str) -> Option<Vec<u32>> {
    let mut values = Vec::new();
    let mut words = stated.split_whitespace();
    while let Some(label) = words.next() {
        let expected = u8::try_from(values.len()).ok().filter(|&part| usize::from(part) < MAX_PARTS)? + b'A';
        if label.as_bytes() != [expected] {
            return None;
        }
        values.push(read_value(words.next()?)?);
    }
    Some(values)
}

/// A plain whole number of at most nine digits, without leading zeros.
fn read_value(word: &str) -> Option<u32> {
    let plain =
        word.len() <= 9 && word.bytes().all(|byte| byte.is_ascii_digit()) && (word == "0" || !word.starts_with('0'));
    if plain { word.parse().ok() } else { None }
}
