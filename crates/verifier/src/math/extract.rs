//! Where a text states its answer.
//!
//! In order: the last box, the last `<answer>` tag, the last `####`, the last "final answer is", the
//! last "answer is", a text that is an answer as a whole, the last mathematics or bold text, the last
//! number. Only what follows the last `</think>` counts. Every scan is linear, and only the last
//! [`MAX_TEXT`] bytes are looked at.

use super::clean;
use super::token::argument;

/// Bytes at the end of a text that are searched.
const MAX_TEXT: usize = 64 * 1024;
/// Candidates of one kind that are tried, from the last.
const MAX_TRIES: usize = 6;
/// Boxes or spans that are joined to one list.
const MAX_JOINED: usize = 64;

/// Words that a statement of the answer begins with.
const PHRASES: [&str; 5] = ["answer", "réponse", "respuesta", "答案", "antwort"];

/// How to search.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Search<'a> {
    /// Nothing but a box states an answer.
    pub(crate) boxed_only: bool,
    /// Several boxes may be one list.
    pub(crate) list: bool,
    /// The gold, if it is a text, by its key.
    pub(crate) words: Option<&'a str>,
}

/// What a text says of its answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Found {
    /// As it is stated, several boxes joined by commas.
    Stated(String),
    /// Nothing, or a box that is empty or never closed.
    Nothing,
}

/// Finds the answer; `readable` tells whether a candidate is mathematics.
pub(crate) fn find(text: &str, search: Search<'_>, readable: &mut dyn FnMut(&str) -> bool) -> Found {
    let text = clean::ascii_digits(tail(text));
    let Some(text) = after_thinking(&text) else { return Found::Nothing };
    match boxes(text) {
        Boxes::None => {}
        Boxes::Broken => return Found::Nothing,
        Boxes::Some(spans) => return boxed(text, &spans, search.list),
    }
    if search.boxed_only {
        return Found::Nothing;
    }
    if let Some(at) = text.rfind("<answer>") {
        let rest = &text[at + 8..];
        return stated(&rest[..rest.find("</answer>").unwrap_or(rest.len())]);
    }
    if let Some(at) = text.rfind("####") {
        let rest = text[at + 4..].trim_start_matches(['#', ':', ' ']);
        return match rest.lines().map(str::trim).find(|line| !line.is_empty()) {
            Some(line) => stated(line),
            None => Found::Nothing,
        };
    }
    let accept = |candidate: &str, readable: &mut dyn FnMut(&str) -> bool| {
        !candidate.trim().is_empty()
            && (search.words.is_some_and(|words| clean::key(&clean::clean(candidate)) == words) || readable(candidate))
    };
    for phrase in phrases(text) {
        if let Some(found) = after_phrase(phrase, &mut |candidate| accept(candidate, readable)) {
            return stated(&found);
        }
    }
    let whole = text.trim();
    if whole.len() <= 400 && whole.lines().count() <= 3 && accept(whole, readable) {
        return stated(whole);
    }
    if search.words.is_some()
        && whole.len() <= 80
        && !whole.contains('\n')
        && !whole.contains(|part: char| part.is_ascii_digit())
    {
        return stated(whole);
    }
    let number = last_number(text);
    let spans = spans(text);
    for (begin, end, content) in spans.iter().rev().take(MAX_TRIES) {
        // A number in a later sentence is a later answer.
        if number.as_ref().is_some_and(|(at, _)| at >= end) {
            break;
        }
        if accept(content, readable) {
            return stated(&joined(text, &spans, *begin, content, search.list));
        }
    }
    if search.list
        && let Some((_, tail)) = text.trim_end().rsplit_once(" are ")
        && tail.len() < 400
        && accept(tail, readable)
    {
        return stated(tail);
    }
    if search.list
        && let Some(group) = last_group(text)
        && accept(group, readable)
    {
        return stated(group);
    }
    match number {
        Some((_, number)) => Found::Stated(number),
        None => Found::Nothing,
    }
}

/// The last brackets with a comma inside.
fn last_group(text: &str) -> Option<&str> {
    let end = text.rfind([')', ']'])? + 1;
    let mut depth = 0_usize;
    for (at, byte) in text.bytes().enumerate().take(end).rev().take(400) {
        match byte {
            b')' | b']' => depth += 1,
            b'(' | b'[' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            let group = text.get(at..end)?;
            return group.contains(',').then_some(group);
        }
    }
    None
}

/// Where the first of any markers stands.
pub(crate) fn first_marker(text: &str) -> Option<usize> {
    let lower = text.to_ascii_lowercase();
    let marks = ["\\boxed", "\\fbox", "<answer>", "####", "<|begin_of_box|>", "</think>"];
    let marks = marks.into_iter().chain(PHRASES).filter_map(|mark| lower.find(mark));
    marks.min()
}

fn stated(answer: &str) -> Found {
    let answer = answer.trim();
    if answer.is_empty() { Found::Nothing } else { Found::Stated(answer.to_owned()) }
}

fn tail(text: &str) -> &str {
    let mut begin = text.len().saturating_sub(MAX_TEXT);
    while !text.is_char_boundary(begin) {
        begin += 1;
    }
    &text[begin..]
}

/// What follows the last closed think block; none where one is left open.
pub(crate) fn after_thinking(text: &str) -> Option<&str> {
    match text.rfind("</think>") {
        Some(end) => Some(&text[end + 8..]),
        None if text.contains("<think>") => None,
        None => Some(text),
    }
}

/// A box: where it begins, where it ends, its content.
type Span<'a> = (usize, usize, &'a str);

enum Boxes<'a> {
    None,
    /// The last one is never closed.
    Broken,
    Some(Vec<Span<'a>>),
}

/// The outermost boxes, in one pass.
fn boxes(text: &str) -> Boxes<'_> {
    let bytes = text.as_bytes();
    let mut stack: Vec<Option<(usize, usize)>> = Vec::new();
    let mut open_boxes = 0_usize;
    let mut found: Vec<Span<'_>> = Vec::new();
    let mut last_open = None;
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => {
                let rest = &text[at + 1..];
                let name = ["boxed", "fbox"].into_iter().find(|name| {
                    rest.strip_prefix(name)
                        .is_some_and(|after| !after.starts_with(|next: char| next.is_ascii_alphabetic()))
                });
                if let Some(name) = name {
                    let after = at + 1 + name.len();
                    let space = text[after..].len() - text[after..].trim_start_matches([' ', '\n', '\t']).len();
                    if bytes.get(after + space) == Some(&b'{') {
                        stack.push(Some((at, after + space + 1)));
                        open_boxes += 1;
                        last_open = Some(at);
                        at = after + space + 1;
                        continue;
                    }
                    if let Some((content, used)) = argument(&text[after..])
                        && open_boxes == 0
                    {
                        let digits = text[after + space..].bytes().take_while(u8::is_ascii_digit).count();
                        let end = (after + used).max(after + space + digits);
                        found.push((at, end, if digits > 0 { &text[after + space..end] } else { content }));
                        at = end;
                        continue;
                    }
                    at = after;
                    continue;
                }
                // `\{` and `\\`; any other command's name is passed over byte by byte.
                at += if matches!(bytes.get(at + 1), Some(b'{' | b'}' | b'\\'))
                    && !rest.starts_with("\\boxed")
                    && !rest.starts_with("\\fbox")
                {
                    2
                } else {
                    1
                };
                continue;
            }
            b'{' => stack.push(None),
            b'}' => {
                if let Some(Some((begin, content))) = stack.pop() {
                    open_boxes -= 1;
                    if open_boxes == 0 {
                        found.push((begin, at + 1, &text[content..at]));
                    }
                }
            }
            b'<' if text[at..].starts_with("<|begin_of_box|>") => {
                let content = at + "<|begin_of_box|>".len();
                if let Some(length) = text[content..].find("<|end_of_box|>") {
                    found.push((at, content + length, &text[content..content + length]));
                    at = content + length;
                    continue;
                }
                // Looked for once: without an end there is none further on either.
                at = content;
                if found.is_empty() && open_boxes == 0 {
                    return Boxes::None;
                }
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    if open_boxes > 0 && last_open.is_some() {
        return Boxes::Broken;
    }
    if found.is_empty() { Boxes::None } else { Boxes::Some(outside_fences(text, found)) }
}

/// The boxes outside code fences, if there are any.
fn outside_fences<'a>(text: &str, found: Vec<Span<'a>>) -> Vec<Span<'a>> {
    let fences: Vec<usize> = text.match_indices("```").map(|(at, _)| at).collect();
    if fences.is_empty() {
        return found;
    }
    let inside = |at: usize| fences.partition_point(|&fence| fence < at) % 2 == 1;
    let outside: Vec<Span<'a>> = found.iter().copied().filter(|span| !inside(span.0)).collect();
    if outside.is_empty() { found } else { outside }
}

fn boxed(text: &str, spans: &[Span<'_>], list: bool) -> Found {
    let Some(&(_, _, last)) = spans.last() else { return Found::Nothing };
    if last.trim().is_empty() {
        return Found::Nothing;
    }
    let approximate = ["\\approx", "≈", "\\simeq"].iter().any(|sign| last.trim_start().starts_with(sign));
    if approximate && spans.len() > 1 {
        return boxed(text, &spans[..spans.len() - 1], list);
    }
    if !list {
        return stated(last);
    }
    let line = spans.last().map_or(0, |span| span.0);
    let line = text[..line].rfind('\n').map_or(0, |end| end + 1);
    let mut parts = vec![last.trim()];
    for pair in spans.windows(2).rev().take(MAX_JOINED) {
        let gap = &text[pair[0].1..pair[1].0];
        if !(pair[0].0 >= line || is_joint(gap)) {
            break;
        }
        let content = pair[0].2.trim();
        if !parts.contains(&content) {
            parts.push(content);
        }
    }
    parts.reverse();
    stated(&parts.join(" , "))
}

/// Whether nothing but separators stands between two parts of one list.
fn is_joint(gap: &str) -> bool {
    if gap.len() > 120 {
        return false;
    }
    let mut plain = gap.to_owned();
    for word in [
        "\\quad", "\\qquad", "\\text", "\\mbox", "\\textbf", "and", "or", "und", "et", "\\(", "\\)", "\\[", "\\]",
        "\\,", "\\;", "\\ ",
    ] {
        plain = plain.replace(word, "");
    }
    plain.chars().all(|part| part.is_whitespace() || "$,;{}.&".contains(part))
}

/// What follows each "answer is" or "answer:", the best first: from the last, "final" ones before others.
fn phrases(text: &str) -> Vec<&str> {
    let lower = text.to_ascii_lowercase();
    let mut found: Vec<(bool, usize)> = Vec::new();
    for word in PHRASES {
        for (at, _) in lower.match_indices(word) {
            let before = lower[..at].trim_end_matches(['*', '_', ' ']);
            if lower[..at].ends_with(char::is_alphanumeric) && word.is_ascii() {
                continue;
            }
            let end = at + word.len();
            if lead(&text[end..]).is_some() {
                found.push((before.ends_with("final"), end));
            }
        }
    }
    found.sort_unstable();
    let begins = found.into_iter().rev().take(MAX_TRIES).map(|(_, end)| end);
    begins.filter_map(|end| lead(&text[end..])).collect()
}

/// What follows `is`, `:`, `=` and the like; none if the word was only talked of.
fn lead(after: &str) -> Option<&str> {
    let plain = |text: &'_ str| text.len() - text.trim_start_matches([' ', '\t', '*', '_']).len();
    let mut rest = &after[plain(after)..];
    rest = rest.strip_prefix("finale").map_or(rest, |rest| &rest[plain(rest)..]);
    let mut stated = false;
    for word in ["is", "are", "est", "ist", "es", "should be", "would be", "为", "是", "："] {
        if let Some(tail) = rest.strip_prefix(word)
            && (!word.is_ascii() || !tail.starts_with(char::is_alphanumeric))
        {
            rest = &tail[plain(tail)..];
            stated = true;
            break;
        }
    }
    if let Some(tail) = rest.strip_prefix([':', '=']) {
        rest = &tail[plain(tail)..];
        stated = true;
    }
    stated.then_some(rest)
}

/// The answer in what follows a phrase.
fn after_phrase(rest: &str, accept: &mut dyn FnMut(&str) -> bool) -> Option<String> {
    let rest = rest.trim_start();
    // Mathematics right after it, maybe over several lines.
    for (open, close) in [("$$", "$$"), ("\\[", "\\]"), ("\\(", "\\)"), ("$", "$")] {
        if let Some(inner) = rest.strip_prefix(open)
            && let Some(end) = inner.find(close).filter(|&end| end < 2000)
        {
            let line_end = inner[end..].find('\n').map_or(inner.len(), |line| end + line);
            // `$1$ and $2$`: the whole line, if it reads as one.
            let line = &rest[..open.len() + line_end];
            let sentence = &line[..sentence_end(line)];
            if sentence.matches('$').count() > 2 && accept(sentence) {
                return Some(sentence.to_owned());
            }
            if accept(&inner[..end]) {
                return Some(inner[..end].to_owned());
            }
        }
    }
    let line = rest.lines().map(str::trim).find(|line| !line.is_empty())?;
    let line = if line.len() > 2000 { return last_number(line).map(|(_, number)| number) } else { line };
    let sentence = &line[..sentence_end(line)];
    if accept(sentence) {
        return Some(sentence.to_owned());
    }
    if let Some(at) = sentence.rfind(" is ")
        && accept(&sentence[at + 4..])
    {
        return Some(sentence[at + 4..].to_owned());
    }
    let found = spans(sentence);
    for (_, _, content) in found.iter().rev().take(MAX_TRIES) {
        if content.contains(|part: char| part.is_ascii_digit()) && accept(content) {
            return Some((*content).to_owned());
        }
    }
    first_number(sentence)
}

/// Where the first sentence of a line ends: a stop before a space, or the line's end.
fn sentence_end(line: &str) -> usize {
    let mut at = 0;
    while let Some(stop) = line[at..].find(". ") {
        let end = at + stop;
        // `vs. 5` and `1. 5` are no ends, but the answer rarely holds either.
        if !line[..end].ends_with("approx") {
            return end;
        }
        at = end + 2;
    }
    line.len()
}

/// Mathematics and bold text, in order.
fn spans(text: &str) -> Vec<Span<'_>> {
    let bytes = text.as_bytes();
    let mut found: Vec<Span<'_>> = Vec::new();
    let mut open: Option<(usize, usize, &str)> = None;
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let mark = if rest.starts_with(b"$$") {
            "$$"
        } else if rest.starts_with(b"\\[") || rest.starts_with(b"\\]") {
            if rest[1] == b'[' { "\\[" } else { "\\]" }
        } else if rest.starts_with(b"\\(") || rest.starts_with(b"\\)") {
            if rest[1] == b'(' { "\\(" } else { "\\)" }
        } else if rest.starts_with(b"$") {
            "$"
        } else if rest.starts_with(b"**") {
            "**"
        } else if rest.starts_with(b"\\") {
            at += 1 + bytes.get(at + 1).map_or(0, |next| usize::from(next.is_ascii()));
            continue;
        } else {
            at += 1;
            continue;
        };
        let closes = |open: &str| match open {
            "\\[" => "\\]",
            "\\(" => "\\)",
            other => match other {
                "$$" => "$$",
                "$" => "$",
                _ => "**",
            },
        };
        match open {
            Some((begin, content, sign)) if closes(sign) == mark => {
                found.push((begin, at + mark.len(), text[content..at].trim()));
                open = None;
            }
            // A mark inside another kind of span: the outer one goes on, except that bold may hold mathematics.
            Some((_, _, sign)) if sign != "**" && !matches!(mark, "\\[" | "$$") => {}
            _ if !matches!(mark, "\\]" | "\\)") => open = Some((at, at + mark.len(), mark)),
            _ => {}
        }
        at += mark.len();
    }
    found.retain(|span| !span.2.is_empty() && span.2.len() < 4000);
    found
}

/// A span with the spans before it that belong to the same list.
fn joined(text: &str, spans: &[Span<'_>], begin: usize, content: &str, list: bool) -> String {
    let mut parts = vec![content];
    let mut first = begin;
    if list {
        for span in spans.iter().rev().skip_while(|span| span.0 >= begin) {
            if !is_joint(&text[span.1..first]) || parts.len() >= MAX_JOINED {
                break;
            }
            parts.push(span.2);
            first = span.0;
        }
    }
    parts.reverse();
    parts.join(" , ")
}

/// The last number of a text, with its fraction or percent sign, and where it begins.
fn last_number(text: &str) -> Option<(usize, String)> {
    let end = text.rfind(|part: char| part.is_ascii_digit())? + 1;
    let numeric = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'.' | b',' | b'/' | b':');
    let mut begin = end - text.as_bytes()[..end].iter().rev().take(4096).take_while(|&&byte| numeric(byte)).count();
    while text.as_bytes().get(begin).is_some_and(|&byte| matches!(byte, b',' | b'/' | b':')) {
        begin += 1;
    }
    Some((begin, number_at(text, begin, end)))
}

fn first_number(text: &str) -> Option<String> {
    let begin = text.find(|part: char| part.is_ascii_digit())?;
    let bytes = text.as_bytes();
    let mut end = begin;
    while end < bytes.len()
        && (bytes[end].is_ascii_digit()
            || (matches!(bytes[end], b'.' | b',' | b'/') && bytes.get(end + 1).is_some_and(u8::is_ascii_digit)))
    {
        end += 1;
    }
    Some(number_at(text, begin, end))
}

/// The number between two places, with the sign before it and the percent sign after it.
fn number_at(text: &str, begin: usize, end: usize) -> String {
    let before = &text[..begin];
    let minus = before.ends_with(['-', '−']) && {
        let left = before.trim_end_matches(['-', '−']).trim_end();
        // `5 - 3` and `a-3` are no negative numbers.
        !left.ends_with(|part: char| part.is_alphanumeric() || part == ')')
    };
    let after = text[end..].trim_start_matches(['\\', ' ']);
    let percent = after.starts_with('%') || after.starts_with("percent") || after.starts_with("pct");
    let mut number = String::new();
    if minus {
        number.push('-');
    }
    number.push_str(&text[begin..end]);
    if percent {
        number.push('%');
    }
    number
}
