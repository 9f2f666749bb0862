//! Multiple choice: one letter of several, or a set of letters.

use super::extract::after_thinking;
use super::token::closing_brace;

/// The letters that a short answer states: `C`, `(C)`, `[C]`, `C.`, `C: text`, `\text{C}`.
pub(crate) fn letters(answer: &str, choices: &str, several: bool) -> Option<String> {
    let plain = plain(answer);
    let plain = plain.trim();
    if several {
        let found: Vec<char> = plain
            .chars()
            .filter(|part| !part.is_whitespace() && !",;()[]{}&".contains(*part))
            .map(|part| part.to_ascii_uppercase())
            .collect();
        let words = plain.to_lowercase().replace("and", "");
        let found = if plain.to_lowercase().contains("and") {
            words.chars().filter(|part| part.is_alphabetic()).map(|part| part.to_ascii_uppercase()).collect()
        } else {
            found
        };
        if found.is_empty() || !found.iter().all(|letter| choices.contains(*letter)) {
            return None;
        }
        let mut sorted = found;
        sorted.sort_unstable();
        sorted.dedup();
        return Some(sorted.into_iter().collect());
    }
    let (letter, rest, bracketed) = first_letter(plain)?;
    if !choices.contains(letter) {
        return None;
    }
    let rest = rest.trim_start();
    let next = rest.chars().next();
    let ends = match next {
        None => true,
        _ if bracketed => true,
        Some('.' | ':' | ')' | '。' | '：' | '、' | '-' | '—') => true,
        _ => false,
    };
    (ends && !names_another(rest, letter, choices)).then(|| letter.to_string())
}

/// Without wrappers, mathematics and Markdown.
fn plain(answer: &str) -> String {
    let mut text = answer.trim().to_owned();
    for wrapper in
        ["\\textbf", "\\textrm", "\\textit", "\\text", "\\mathrm", "\\mathbf", "\\boxed", "\\left", "\\right"]
    {
        text = text.replace(&format!("{wrapper}{{"), "{").replace(wrapper, "");
    }
    let text: String = text.chars().filter(|part| !"$*{}`\\".contains(*part)).collect();
    text.trim().trim_end_matches('.').to_owned()
}

/// The letter at the beginning, maybe in brackets, what follows it, and whether it was in brackets.
fn first_letter(text: &str) -> Option<(char, &str, bool)> {
    let text = text.trim_start();
    let inner = text.strip_prefix(['(', '[']);
    let body = inner.unwrap_or(text);
    let letter = body.chars().next().filter(char::is_ascii_alphabetic)?;
    let rest = &body[1..];
    match inner {
        Some(_) => {
            let rest = rest.trim_start().strip_prefix([')', ']'])?;
            Some((letter.to_ascii_uppercase(), rest, true))
        }
        None => {
            if rest.starts_with(|next: char| next.is_ascii_alphanumeric()) {
                return None;
            }
            Some((letter.to_ascii_uppercase(), rest, false))
        }
    }
}

/// Whether another letter is offered beside the first: `A/B`, `A and B`, `A, B`, `A or B`.
fn names_another(rest: &str, letter: char, choices: &str) -> bool {
    let rest = rest.trim_start().trim_start_matches(['.', ')']).trim_start();
    for joint in ["/", ",", "&", "and ", "or ", "+"] {
        if let Some(tail) = rest.strip_prefix(joint)
            && let Some((other, after, _)) = first_letter(tail)
            && other != letter
            && choices.contains(other)
            && after.trim_start().chars().next().is_none_or(|next| !next.is_alphabetic())
        {
            return true;
        }
    }
    false
}

/// The choice that a whole text states.
pub(crate) fn find(text: &str, choices: &str, several: bool) -> Option<String> {
    let text = after_thinking(text)?;
    if let Some(content) = last_box(text) {
        return letters(content, choices, several);
    }
    if let Some(at) = text.rfind("<answer>") {
        let rest = &text[at + 8..];
        return letters(&rest[..rest.find("</answer>").unwrap_or(rest.len())], choices, several);
    }
    if let Some(found) = after_phrase(text, choices, several) {
        return found;
    }
    if let Some(found) = letters(text, choices, several) {
        return Some(found);
    }
    if let Some(found) = at_beginning(text.trim(), choices) {
        return Some(found);
    }
    let lower = text.to_ascii_lowercase();
    if ["might", "maybe", "not sure", "perhaps"].iter().any(|hedge| lower.contains(hedge)) {
        return None;
    }
    only_letter(text, choices)
}

fn last_box(text: &str) -> Option<&str> {
    if let Some(at) = text.rfind("<|begin_of_box|>") {
        let rest = &text[at + 16..];
        return Some(&rest[..rest.find("<|end_of_box|>").unwrap_or(rest.len())]);
    }
    let at = text.rfind("\\boxed").into_iter().chain(text.rfind("\\fbox")).max()?;
    let inner = text[at..].split_once('{')?.1;
    Some(&inner[..closing_brace(inner)?])
}

/// After the last "answer is" or "answer:"; the outer none means that there is no such phrase.
#[expect(clippy::option_option, reason = "no phrase and a phrase without a choice are different findings")]
fn after_phrase(text: &str, choices: &str, several: bool) -> Option<Option<String>> {
    const HEDGES: [&str; 12] = [
        "for sure",
        "definitely",
        "clearly",
        "probably",
        "most likely",
        "likely",
        "option",
        "choice",
        "the",
        "letter",
        "certainly",
        "indeed",
    ];
    let lower = text.to_ascii_lowercase();
    let mut ends: Vec<usize> = ["answer", "réponse", "respuesta", "答案"]
        .iter()
        .flat_map(|word| lower.match_indices(word).map(|(at, _)| at + word.len()).collect::<Vec<_>>())
        .collect();
    ends.sort_unstable();
    for &end in ends.iter().rev().take(8) {
        let mut rest = text[end..].trim_start_matches(['*', '_', ' ']);
        let mut stated = false;
        for word in ["finale", "is", "est", "es", "was", "是", "为"] {
            if let Some(tail) = rest.strip_prefix(word)
                && (!word.is_ascii() || !tail.starts_with(char::is_alphanumeric))
            {
                rest = tail.trim_start_matches(['*', '_', ' ']);
                stated |= word != "finale";
            }
        }
        if let Some(tail) = rest.strip_prefix([':', '：']) {
            rest = tail;
            stated = true;
        }
        if !stated {
            continue;
        }
        let mut rest = rest.trim_start_matches(['*', '_', ' ', '\n', '"', '\'']);
        loop {
            let lower = rest.to_ascii_lowercase();
            let Some(hedge) = HEDGES.iter().find(|hedge| {
                lower.starts_with(**hedge) && !lower[hedge.len()..].starts_with(|next: char| next.is_alphanumeric())
            }) else {
                break;
            };
            rest = rest[hedge.len()..].trim_start_matches([' ', ':', ',']);
        }
        let line = rest.lines().next().unwrap_or("");
        if several {
            return Some(letters(line, choices, true));
        }
        let line = plain(line);
        if let Some((letter, tail, bracketed)) = first_letter(&line)
            && choices.contains(letter)
        {
            // `a` before a word is an article.
            let article = !bracketed
                && letter == 'A'
                && tail.starts_with(' ')
                && tail.trim_start().starts_with(|next: char| next.is_ascii_lowercase())
                && !["and ", "or ", "because", "since", "as ", "not "]
                    .iter()
                    .any(|word| tail.trim_start().starts_with(word));
            if article || names_another(tail, letter, choices) {
                return Some(None);
            }
            return Some(Some(letter.to_string()));
        }
        return Some(None);
    }
    None
}

/// `D. it can't be A or B`, `C Cecile`, `B不是 A`: a letter that begins the text and is no word.
fn at_beginning(text: &str, choices: &str) -> Option<String> {
    let cleaned = plain(text);
    let (letter, rest, bracketed) = first_letter(&cleaned)?;
    if !choices.contains(letter) || names_another(rest, letter, choices) {
        return None;
    }
    let next = rest.chars().next();
    let after_space = rest.trim_start().chars().next();
    let apart = bracketed
        || match next {
            None | Some('.' | ':' | ')' | '。' | '：' | '、' | '\n') => true,
            Some(other) if !other.is_ascii() => true,
            Some(' ') => after_space.is_some_and(char::is_uppercase),
            _ => false,
        };
    // Lower case begins a sentence too.
    (apart
        && text
            .trim_start()
            .trim_start_matches(['(', '[', '$', '*', '\\'])
            .starts_with(|first: char| first.is_uppercase() || bracketed || !first.is_alphabetic()))
    .then(|| letter.to_string())
}

/// The only choice that stands alone in a text, as a capital.
fn only_letter(text: &str, choices: &str) -> Option<String> {
    let mut found = None;
    let mut before = ' ';
    let mut rest = text.char_indices().peekable();
    while let Some((at, letter)) = rest.next() {
        let next = rest.peek().map_or(' ', |&(_, next)| next);
        let alone =
            !before.is_alphanumeric() && !next.is_alphanumeric() && !"'’".contains(next) && !"'’".contains(before);
        before = letter;
        if !alone || !letter.is_ascii_uppercase() || !choices.contains(letter) {
            continue;
        }
        // `A` and `I` may be words.
        let word = matches!(letter, 'A' | 'I')
            && text[at + 1..].starts_with(' ')
            && text[at + 1..].trim_start().starts_with(|next: char| next.is_ascii_lowercase());
        if word {
            continue;
        }
        if found.is_some_and(|known| known != letter) {
            return None;
        }
        found = Some(letter);
    }
    found.map(|letter| letter.to_string())
}
