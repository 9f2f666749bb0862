//! Where a text states its answer, and the three rules that compare it directly.
//!
//! An answer is stated by the last `\boxed{…}` (or `\fbox{…}`), else after the last `####`, else after
//! the last word "answer". In a text with `</think>` only what follows the last one counts, and an
//! unclosed `<think>` states nothing: what is weighed while thinking is not an answer.

use crate::number::{Rational, unwrap_math};
use crate::{Outcome, Verdict};

/// The rule of `Verifier::Answer`; `reference` is trimmed and not empty.
pub(crate) fn verify(reference: &str, text: &str) -> Verdict {
    let stated = match find(text) {
        Found::Stated(stated) => stated,
        Found::Nothing => return Verdict { outcome: Outcome::NoAnswer, extracted: None },
        Found::Unclosed => return Verdict { outcome: Outcome::Unreadable, extracted: None },
    };
    let same = match (Rational::read(reference), Rational::read(stated)) {
        (Some(expected), Some(found)) => expected == found,
        _ => normalise(reference) == normalise(stated),
    };
    verdict(same, stated)
}

/// The rule of `Verifier::Exact`.
pub(crate) fn verify_exact(reference: &str, text: &str) -> Verdict {
    if text.trim().is_empty() {
        return Verdict { outcome: Outcome::NoAnswer, extracted: None };
    }
    verdict(reference.split_whitespace().eq(text.split_whitespace()), text.trim())
}

/// The rule of `Verifier::Number`: words and units around the number do no harm, a second number that
/// differs does, so that listing candidates earns nothing.
pub(crate) fn verify_number(reference: &str, text: &str) -> Verdict {
    let stated = match find(text) {
        Found::Stated(stated) => stated,
        Found::Nothing => return Verdict { outcome: Outcome::NoAnswer, extracted: None },
        Found::Unclosed => return Verdict { outcome: Outcome::Unreadable, extracted: None },
    };
    let unreadable = Verdict { outcome: Outcome::Unreadable, extracted: Some(stated.to_owned()) };
    let Some(expected) = Rational::read(reference) else { return unreadable };
    let found = Rational::read(stated).or_else(|| only_number(stated));
    found.map_or(unreadable, |found| verdict(found == expected, stated))
}

/// Whatever `compare` makes of the stated answer; what states none has no answer under any rule.
pub(crate) fn verify_with(text: &str, compare: impl FnOnce(&str) -> Verdict) -> Verdict {
    match find(text) {
        Found::Stated(stated) => compare(stated),
        Found::Nothing => Verdict::without_answer(Outcome::NoAnswer),
        Found::Unclosed => Verdict::without_answer(Outcome::Unreadable),
    }
}

fn verdict(same: bool, stated: &str) -> Verdict {
    let outcome = if same { Outcome::Correct } else { Outcome::Wrong };
    Verdict { outcome, extracted: Some(stated.to_owned()) }
}

/// What a text says of its answer.
enum Found<'a> {
    /// The answer, trimmed and not empty.
    Stated(&'a str),
    /// No marker, or nothing after it.
    Nothing,
    /// A box that is never closed: the text was cut off inside its answer.
    Unclosed,
}

fn find(text: &str) -> Found<'_> {
    let Some(text) = after_thought(text) else { return Found::Nothing };
    if let Some(open) = last_box(text) {
        return match closing_brace(open) {
            Some(end) if open[..end].trim().is_empty() => Found::Nothing,
            Some(end) => Found::Stated(open[..end].trim()),
            None => Found::Unclosed,
        };
    }
    let after = match text.rfind("####") {
        Some(begins) => &text[begins + 4..],
        None => match words(text).last() {
            Some((_, after)) => strip_lead(after),
            None => return Found::Nothing,
        },
    };
    match after.lines().map(trim_line).find(|line| !line.is_empty()) {
        Some(line) => Found::Stated(line),
        None => Found::Nothing,
    }
}

/// What follows a text's last thought: all of a text without one, and none where it never ends.
///
/// ```
/// use toehold_verifier::after_thought;
/// assert_eq!(after_thought("<think>1?</think>2"), Some("2"));
/// // Where the prompt has its beginning.
/// assert_eq!(after_thought("1?</think>2"), Some("2"));
/// assert_eq!(after_thought("2"), Some("2"));
/// assert_eq!(after_thought("<think>1?"), None);
/// ```
pub fn after_thought(text: &str) -> Option<&str> {
    match text.rsplit_once("</think>") {
        Some((_, after)) => Some(after),
        None if text.contains("<think>") => None,
        None => Some(text),
    }
}

/// Where the answer begins to show; see `answer_begins`.
pub(crate) fn begins(text: &str) -> Option<usize> {
    let boxed = [r"\boxed", r"\fbox", "####"].into_iter().filter_map(|marker| text.find(marker)).min();
    let phrase = words(text).find(|&(_, after)| states(after)).map(|(begins, _)| begins);
    // Without a box even talk of an answer is what `find` takes for one.
    let last = if boxed.is_none() { words(text).last().map(|(begins, _)| begins) } else { None };
    [boxed, phrase, last, text.find("</think>")].into_iter().flatten().min()
}

/// The first whole word "answer": its offset, and the text after it.
pub(crate) fn after_first_word(text: &str) -> Option<(usize, &str)> {
    words(text).next()
}

/// Whether what follows the word "answer" makes it a statement ("answer: …", "answer is …",
/// "answer 42") rather than talk ("to answer this question").
fn states(after: &str) -> bool {
    let lead = strip_lead(after);
    lead.len() < after.trim_start().len() || lead.starts_with(|first: char| !first.is_alphabetic())
}

/// Drops white space, `*`, one `is` and one `:` or `=` after the word "answer", in that order.
fn strip_lead(after: &str) -> &str {
    let plain = |text: &'_ str| -> usize { text.len() - text.trim_start_matches([' ', '\t', '*', '_']).len() };
    let mut rest = &after[plain(after)..];
    if let Some(tail) = rest.strip_prefix("is").filter(|tail| !tail.starts_with(char::is_alphanumeric)) {
        rest = &tail[plain(tail)..];
    }
    if let Some(tail) = rest.strip_prefix([':', '=']) {
        rest = &tail[plain(tail)..];
    }
    rest
}

/// A line without its white space, emphasis and final stop.
fn trim_line(line: &str) -> &str {
    let line = line.trim().trim_matches(['*', '`']).trim();
    line.strip_suffix('.').unwrap_or(line).trim_end().trim_end_matches(['*', '`']).trim_end()
}

/// Every whole word "answer" in any case of ASCII: its offset, and the text after it.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    const WORD: &[u8] = b"answer";
    text.as_bytes().windows(WORD.len()).enumerate().filter_map(move |(begins, window)| {
        // The word is ASCII, so both of its ends are character boundaries.
        let end = begins + WORD.len();
        let whole = window.eq_ignore_ascii_case(WORD)
            && !text[..begins].ends_with(char::is_alphanumeric)
            && !text[end..].starts_with(char::is_alphanumeric);
        whole.then(|| (begins, &text[end..]))
    })
}

/// What follows the opening brace of the last box.
fn last_box(text: &str) -> Option<&str> {
    let boxed =
        [r"\boxed", r"\fbox"].into_iter().filter_map(|name| text.rfind(name).map(|at| at + name.len())).max()?;
    text[boxed..].trim_start().strip_prefix('{')
}

/// The offset of the brace that closes an already opened one; escaped braces do not count.
fn closing_brace(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'{' => depth += 1,
            b'}' if depth == 0 => return Some(at),
            b'}' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// The only number among the words of a text; none where there is none, or two that differ.
fn only_number(text: &str) -> Option<Rational> {
    let mut found: Option<Rational> = None;
    for word in text.split_whitespace() {
        let word = word.trim_matches(|edge: char| !edge.is_alphanumeric() && !"-\u{2212}+.\\{}".contains(edge));
        let word = word.strip_suffix('.').unwrap_or(word);
        let Some(number) = Rational::read(word) else {
            // A word with digits that is no number ("3x", "12:30") makes the answer ambiguous.
            if word.contains(|inner: char| inner.is_numeric()) {
                return None;
            }
            continue;
        };
        if found.is_some_and(|earlier| earlier != number) {
            return None;
        }
        found = Some(number);
    }
    found
}

/// A text without what does not change its meaning: surrounding `$`, `\text{…}` around all of it,
/// white space, `\left`, `\right`, thin spaces, `\dfrac`/`\tfrac`, ASCII case, and a final stop.
fn normalise(text: &str) -> String {
    let mut text = trim_line(unwrap_math(trim_line(text)));
    for name in [r"\text{", r"\mathrm{", r"\textbf{"] {
        if let Some(inner) = text.strip_prefix(name)
            && closing_brace(inner) == Some(inner.len() - 1)
        {
            text = inner[..inner.len() - 1].trim();
        }
    }
    let text =
        text.replace(r"\left", "").replace(r"\right", "").replace(r"\dfrac", r"\frac").replace(r"\tfrac", r"\frac");
    let text = text.replace(r"\!", "").replace(r"\,", "").replace(r"\;", "").replace(r"\ ", "");
    text.chars()
        .filter(|character| !character.is_whitespace())
        .map(|character| character.to_ascii_lowercase())
        .collect()
}
