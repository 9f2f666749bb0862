//! What surrounds an answer without being part of it, and the key under which texts are compared.

use std::borrow::Cow;

use super::token::closing_brace;

/// Longer answers are compared as texts alone.
pub(crate) const MAX_ANSWER: usize = 8192;

/// An answer without special tokens, Markdown, surrounding boxes and final stops.
pub(crate) fn clean(answer: &str) -> String {
    let mut text = without_special(&ascii_digits(answer));
    if text.contains(r"\\begin{") || text.contains(r"\\left") || text.contains(r"\\frac") {
        // Escaped twice throughout: `\\begin{pmatrix}1\\\\2\\end{pmatrix}`.
        text = text.replace(r"\\", "\\");
    } else if !text.contains(r"\begin{") {
        text = single_backslashes(&text);
    }
    let mut inner = text.as_str();
    loop {
        let before = inner;
        inner = trim(inner);
        inner = unboxed(inner).unwrap_or(inner);
        if inner == before {
            return inner.to_owned();
        }
    }
}

/// A text with the decimal digits of other scripts as ASCII digits.
pub(crate) fn ascii_digits(text: &str) -> Cow<'_, str> {
    // Full width, Arabic, Persian, Devanagari, Bengali, Thai.
    const ZEROS: [char; 6] = ['０', '٠', '۰', '०', '০', '๐'];
    let digit = |part: char| {
        let code = u32::from(part);
        let zero = ZEROS.into_iter().map(u32::from).find(|&zero| (zero..zero + 10).contains(&code))?;
        char::from_digit(code - zero, 10)
    };
    if text.is_ascii() || !text.chars().any(|part| !part.is_ascii() && digit(part).is_some()) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().map(|part| if part.is_ascii() { part } else { digit(part).unwrap_or(part) }).collect())
}

/// White space, Markdown and stops at both ends.
fn trim(text: &str) -> &str {
    let mut text = text.trim().trim_matches('`').trim();
    for mark in ["**", "__"] {
        if text.len() > 2 * mark.len() && text.starts_with(mark) && text.ends_with(mark) {
            text = text[2..text.len() - 2].trim();
        }
    }
    text = text.strip_prefix("**").map_or(text, |rest| if rest.contains("**") { text } else { rest });
    text = text.strip_suffix("**").map_or(text, |rest| if rest.contains("**") { text } else { rest });
    for (open, close) in [("$$", "$$"), ("\\[", "\\]"), ("\\(", "\\)"), ("$", "$")] {
        if text.len() >= open.len() + close.len()
            && let Some(inner) = text.strip_prefix(open).and_then(|rest| rest.strip_suffix(close))
            && !inner.contains(open)
            && !inner.ends_with('\\')
        {
            text = inner;
        }
    }
    while let Some(rest) = text.strip_suffix(['.', ',', ';', '。', '，', '！', '!', '?'].as_slice()) {
        // `...` and a factorial belong to the answer.
        if (text.ends_with('.') && rest.ends_with('.')) || text.ends_with('!') || rest.ends_with('\\') {
            break;
        }
        text = rest.trim_end();
    }
    text.trim()
}

/// The content of a box that is the whole text.
fn unboxed(text: &str) -> Option<&str> {
    let rest = text.strip_prefix("\\boxed").or_else(|| text.strip_prefix("\\fbox"))?.trim_start();
    let inner = rest.strip_prefix('{')?;
    (closing_brace(inner)? + 1 == inner.len()).then(|| &inner[..inner.len() - 1])
}

/// A text without tokens such as `<|im_end|>`.
fn without_special(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find("<|") {
        result.push_str(&rest[..open]);
        match rest[open..].find("|>").filter(|&close| close < 40) {
            Some(close) => rest = &rest[open + close + 2..],
            None => {
                result.push_str("<|");
                rest = &rest[open + 2..];
            }
        }
    }
    result.push_str(rest);
    result
}

/// `\\frac` as `\frac`.
fn single_backslashes(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("\\\\") {
        result.push_str(&rest[..at]);
        rest = &rest[at + 2..];
        result.push_str(if rest.starts_with(|next: char| next.is_ascii_alphabetic() || "{}()[]!,;%$".contains(next)) {
            "\\"
        } else {
            " "
        });
    }
    result.push_str(rest);
    result
}

/// What two equal texts share, whatever they are otherwise: words without wrappers and style, or the very
/// characters but for runs of white space.
pub(crate) fn key(answer: &str) -> String {
    match words(answer) {
        Some(words) => words,
        None => {
            let mut plain = String::with_capacity(answer.len() + 1);
            // No words begin so.
            plain.push('=');
            for part in answer.split_whitespace() {
                plain.push_str(part);
                plain.push(' ');
            }
            plain
        }
    }
}

/// An answer that is made of words rather than of mathematics: without wrappers and style, single spaces.
///
/// Words of three letters or more have no case, so a product of short names keeps its own.
pub(crate) fn words(answer: &str) -> Option<String> {
    let mut plain = String::with_capacity(answer.len());
    let mut wrapped = false;
    let mut rest = answer;
    while let Some(first) = rest.chars().next() {
        if first != '\\' {
            rest = &rest[first.len_utf8()..];
            match first {
                '{' | '}' | '$' | '*' | '`' => {}
                _ if first.is_whitespace() || first == '~' => plain.push(' '),
                _ if first.is_alphanumeric() || "'-,.;:()?!\"&/".contains(first) => plain.push(first),
                _ => return None,
            }
            continue;
        }
        let body = &rest[1..];
        let length = body.bytes().take_while(u8::is_ascii_alphabetic).count();
        match &body[..length] {
            "text" | "mathrm" | "textbf" | "mathbf" | "textit" | "mbox" | "textrm" | "textnormal" | "mathit" | "rm"
            | "bf" | "operatorname" | "boldsymbol" | "emph" | "boxed" | "fbox" => wrapped = true,
            "left" | "right" | "displaystyle" => {}
            "quad" | "qquad" => plain.push(' '),
            "" => {
                let next = body.chars().next().filter(|next| next.is_whitespace() || ",;:!$()[]".contains(*next))?;
                plain.push(' ');
                rest = &body[next.len_utf8()..];
                continue;
            }
            _ => return None,
        }
        rest = &body[length..];
    }
    let plain = plain.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut text = plain.trim_end_matches('.');
    // `(b)` is the choice b, not a product.
    if let Some(inner) = text.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'))
        && inner.chars().count() == 1
    {
        text = inner;
    }
    let letters = text.chars().filter(|part| part.is_alphabetic()).count();
    let others = text.chars().filter(|part| !part.is_alphabetic() && !part.is_whitespace()).count();
    // Braces join digits: `ab{1}{2}` is not `ab{12}`.
    let digits = text.contains(|part: char| part.is_numeric());
    let clock = text.contains("a.m") || text.contains("p.m");
    if letters == 0 || (others > letters && !clock) || (digits && !wrapped && answer.contains('{')) {
        return None;
    }
    let short_name = letters <= 3 && !text.contains(char::is_lowercase);
    if text.eq_ignore_ascii_case("no") {
        return Some("no".to_owned());
    }
    Some(if letters > 2 && !short_name { text.to_lowercase() } else { text.to_owned() })
}
