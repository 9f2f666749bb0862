//! Characters to tokens, for both grammars.
//!
//! LaTeX and plain syntax share their tokens; they differ in what a run of letters is: LaTeX reads
//! `abcd` as a product, plain syntax as a word. A name with a meaning (`sqrt`, `pi`, `and`) is known in
//! both. Reading is linear; at most [`MAX_TOKENS`] tokens are made.

use num_bigint::BigInt;
use num_rational::BigRational;

use super::names;
use super::token::{Commas, Spanned, Token, argument, sign};
use super::tree::Literal;

/// More tokens than any answer has.
const MAX_TOKENS: usize = 2000;
/// More digits than any answer has.
const MAX_DIGITS: usize = 8000;

/// The tokens of an answer; none where a character or command has no meaning here.
pub(crate) fn read(text: &str, commas: Commas) -> Option<Vec<Spanned>> {
    let latex = text.contains('\\');
    let mut reader = Reader { text, at: 0, tokens: Vec::new(), depth: 0, commas, latex, rows: 0 };
    while reader.at < text.len() {
        reader.step()?;
        if reader.tokens.len() > MAX_TOKENS {
            return None;
        }
    }
    Some(reader.tokens)
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    tokens: Vec<Spanned>,
    /// Open brackets inside which a comma separates.
    depth: usize,
    commas: Commas,
    latex: bool,
    /// Open environments, inside which `\\` ends a row.
    rows: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn push(&mut self, token: Token, length: usize) {
        let begin = self.at;
        let spaced = self.text[..begin].ends_with([' ', '\n', '\t', '~', '\u{a0}'])
            || self.tokens.last().is_none_or(|last| last.end < begin);
        self.at += length;
        match token {
            Token::OpenRound | Token::OpenSquare | Token::OpenSet => self.depth += 1,
            Token::CloseRound | Token::CloseSquare | Token::CloseSet => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        self.tokens.push(Spanned { token, spaced, begin, end: self.at });
    }

    fn step(&mut self) -> Option<()> {
        let rest = self.rest();
        let first = rest.chars().next()?;
        let length = first.len_utf8();
        match first {
            '\\' => return self.command(),
            _ if first.is_whitespace() => self.at += length,
            '$' | '~' | '\u{200b}' | '\u{feff}' | '\u{200c}' | '\u{2061}' => self.at += length,
            '0'..='9' => return self.number(),
            '.' | '\u{2026}' => return self.point(first),
            '²' | '³' | '¹' | '⁰' | '⁴'..='⁹' | '⁻' => self.superscript(),
            '₀'..='₉' => self.subscript(),
            '√' => self.push(Token::Sqrt, length),
            '½' | '⅓' | '⅔' | '¼' | '¾' | '⅛' | '⅕' => self.vulgar(first, length),
            _ if first.is_alphabetic() => return self.letters(),
            _ => {
                let (token, length) = sign(rest)?;
                self.push(token, length);
            }
        }
        Some(())
    }

    /// A number that begins here, with thousands, decimals and an exponent.
    fn number(&mut self) -> Option<()> {
        let bytes = self.text.as_bytes();
        let mut digits = String::new();
        let mut end = self.at + run(&bytes[self.at..]);
        digits.push_str(&self.text[self.at..end]);
        // Groups of exactly three digits, after a first group of one to three without a leading zero.
        if digits.len() <= 3 && !digits.starts_with('0') {
            while let Some((skip, certain)) = group(&self.text[end..]) {
                // In `(1,000, 2,000)` the spaces tell separators from groups; in `(1,000)` nothing does.
                let separates = self.commas == Commas::Separate || (self.depth > 0 && !self.text.contains(", "));
                if !certain && separates {
                    break;
                }
                digits.push_str(&self.text[end + skip..end + skip + 3]);
                end += skip + 3;
            }
        }
        let mut places = None;
        if bytes.get(end) == Some(&b'.') && bytes.get(end + 1).is_some_and(u8::is_ascii_digit) {
            let length = run(&bytes[end + 1..]);
            digits.push_str(&self.text[end + 1..end + 1 + length]);
            places = Some(u32::try_from(length).ok()?);
            end += 1 + length;
            if let Some((repeated, length)) = overline(&self.text[end..]) {
                return self.repeating(&digits, places?, repeated, end + length);
            }
        } else if let Some((repeated, length)) = overline(&self.text[end..]) {
            return self.repeating(&digits, 0, repeated, end + length);
        } else if bytes.get(end) == Some(&b'.') && !self.text[end + 1..].starts_with(['.', '\\']) {
            // `5.` at the end or before anything but a digit: the point is a full stop.
            end += 1;
        }
        self.finish_number(&digits, places, end)
    }

    /// `0.1\overline{6}`: an exact fraction.
    fn repeating(&mut self, digits: &str, places: u32, repeated: &str, end: usize) -> Option<()> {
        let mantissa: BigInt = digits.parse().ok()?;
        let period: BigInt = repeated.parse().ok()?;
        let nines = BigInt::from(10).pow(u32::try_from(repeated.len()).ok()?) - 1;
        let value = BigRational::new(mantissa * &nines + period, nines * BigInt::from(10).pow(places));
        self.push(Token::Number(Literal { value, places: None, digits: 1, written: 1 }), end - self.at);
        Some(())
    }

    fn finish_number(&mut self, digits: &str, places: Option<u32>, mut end: usize) -> Option<()> {
        if digits.len() > MAX_DIGITS {
            return None;
        }
        let mut exponent = 0_i32;
        if let Some(tail) = self.text[end..].strip_prefix(['e', 'E']) {
            let sign = tail.chars().next().filter(|sign| "+-−".contains(*sign));
            let skip = sign.map_or(0, char::len_utf8);
            let length = run(&tail.as_bytes()[skip..]);
            // `2e` alone, or `2ex`, is a product with Euler's number.
            if (1..=4).contains(&length) && tail.as_bytes().get(skip + length) != Some(&b'.') {
                let value: i32 = tail[skip..skip + length].parse().ok()?;
                exponent = if matches!(sign, Some('-' | '−')) { -value } else { value };
                end += 1 + skip + length;
            }
        }
        let significant = digits.trim_start_matches('0').len().max(1);
        let mantissa: BigInt = digits.parse().ok()?;
        let scale = exponent.checked_sub(i32::try_from(places.unwrap_or(0)).ok()?)?;
        let power = || BigInt::from(10).pow(scale.unsigned_abs());
        if scale.unsigned_abs() as usize > MAX_DIGITS {
            return None;
        }
        let value = if scale >= 0 {
            BigRational::from_integer(mantissa * power())
        } else {
            BigRational::new(mantissa, power())
        };
        let places = places.map(|places| u32::try_from(i64::from(places) - i64::from(exponent)).unwrap_or(0));
        let written = u32::try_from(digits.len()).ok()?;
        let literal = Literal { value, places, digits: u32::try_from(significant).ok()?, written };
        self.push(Token::Number(literal), end - self.at);
        Some(())
    }

    /// A point: the beginning of a decimal, an ellipsis, or a full stop, which says nothing.
    fn point(&mut self, first: char) -> Option<()> {
        let rest = self.rest();
        if first == '\u{2026}' {
            self.push(Token::Ellipsis, first.len_utf8());
        } else if rest.starts_with("...") {
            self.push(Token::Ellipsis, 3);
        } else if rest.as_bytes().get(1).is_some_and(u8::is_ascii_digit) {
            let length = run(&rest.as_bytes()[1..]);
            let digits = rest[1..1 + length].to_owned();
            let places = u32::try_from(length).ok()?;
            return self.finish_number(&digits, Some(places), self.at + 1 + length);
        } else {
            self.at += 1;
        }
        Some(())
    }

    fn superscript(&mut self) {
        self.push(Token::Caret, 0);
        self.push(Token::OpenBrace, 0);
        let mut value = 0_i64;
        while let Some(first) = self.rest().chars().next() {
            let length = first.len_utf8();
            match "⁰¹²³⁴⁵⁶⁷⁸⁹".chars().position(|digit| digit == first) {
                Some(digit) => {
                    value = value.saturating_mul(10).saturating_add(i64::try_from(digit).unwrap_or(0));
                    self.at += length;
                }
                None if first == '⁻' => {
                    self.push(Token::Minus, length);
                }
                None => break,
            }
        }
        self.push(Token::Number(Literal::whole(value)), 0);
        self.push(Token::CloseBrace, 0);
    }

    fn subscript(&mut self) {
        self.push(Token::Under, 0);
        let mut value = 0_i64;
        while let Some(digit) =
            self.rest().chars().next().and_then(|first| "₀₁₂₃₄₅₆₇₈₉".chars().position(|d| d == first))
        {
            value = value.saturating_mul(10).saturating_add(i64::try_from(digit).unwrap_or(0));
            self.at += '₀'.len_utf8();
        }
        self.push(Token::Number(Literal::whole(value)), 0);
    }

    fn vulgar(&mut self, first: char, length: usize) {
        let (top, bottom) = match first {
            '½' => (1, 2),
            '⅓' => (1, 3),
            '⅔' => (2, 3),
            '¼' => (1, 4),
            '¾' => (3, 4),
            '⅛' => (1, 8),
            _ => (1, 5),
        };
        self.push(Token::Frac, 0);
        self.push(Token::Number(Literal::whole(top)), 0);
        self.push(Token::Number(Literal::whole(bottom)), length);
    }

    /// A run of letters: a known name, a word, or a product of letters.
    fn letters(&mut self) -> Option<()> {
        let rest = self.rest();
        let ascii = rest.starts_with(|first: char| first.is_ascii());
        let inside = |next: char| next.is_alphabetic() && next.is_ascii() == ascii;
        let length = rest.find(|next: char| !inside(next)).unwrap_or(rest.len());
        let word = &rest[..length];
        if word.chars().nth(1).is_none() && (ascii || word.chars().all(|letter| names::greek(letter).is_some())) {
            let joins = word == "U"
                && matches!(
                    self.tokens.last().map(|last| &last.token),
                    Some(Token::CloseRound | Token::CloseSquare | Token::CloseSet | Token::CloseBrace)
                )
                && rest[length..].trim_start().starts_with(['(', '[', '{']);
            // `(0, 1) U (2, 3)` is a union.
            self.push(if joins { Token::Cup } else { single(word) }, length);
            return Some(());
        }
        let digits_before = self.text[..self.at].ends_with(|before: char| before.is_ascii_digit());
        if digits_before && matches!(word, "st" | "nd" | "rd" | "th") {
            // `11th` is a number.
            self.at += length;
            return Some(());
        }
        let after_quantity = self.tokens.last().is_some_and(|last| {
            matches!(
                last.token,
                Token::Number(_) | Token::CloseBrace | Token::CloseRound | Token::Unit(_) | Token::Slash
            )
        });
        let known = names::word(word);
        let known = match known {
            Some(Token::Unit(_)) if !after_quantity => None,
            None if after_quantity && word == "in" => Some(Token::Unit(word.to_owned())),
            known => known,
        };
        if let Some(token) = known {
            self.push(token, length);
            return Some(());
        }
        let letters = word.chars().count();
        if ascii
            && let Some(prefix) = ["sqrt", "sin", "cos", "tan", "log", "exp", "ln", "pi"]
                .into_iter()
                .find(|prefix| word.starts_with(prefix) && letters == prefix.len() + 1)
        {
            // `sinx`, `pir`: a known name and one letter.
            self.push(names::word(prefix)?, prefix.len());
            self.push(single(&word[prefix.len()..]), 1);
            return Some(());
        }
        if ascii && (self.latex || letters <= 3) {
            for at in 0..length {
                self.push(single(&word[at..=at]), 1);
            }
            return Some(());
        }
        if word.chars().all(|letter| names::greek(letter).is_some()) {
            for letter in word.chars() {
                let token = names::greek(letter)?;
                self.push(token, letter.len_utf8());
            }
            return Some(());
        }
        self.push(Token::Text(word.to_owned()), length);
        Some(())
    }

    fn command(&mut self) -> Option<()> {
        let rest = self.rest();
        let body = &rest[1..];
        let length = body.bytes().take_while(u8::is_ascii_alphabetic).count();
        if length == 0 {
            let next = body.chars().next();
            let size = 1 + next.map_or(0, char::len_utf8);
            match next {
                None => self.at += 1,
                Some('\\') => {
                    let mut size = size;
                    // The spacing of `\\[2pt]` belongs to the row's end.
                    if self.rows > 0
                        && let Some(tail) = rest[size..].strip_prefix('[')
                        && let Some(close) = tail.find(']').filter(|&close| close < 12)
                        && tail[..close].ends_with(|unit: char| unit.is_ascii_alphabetic())
                    {
                        size += close + 2;
                    }
                    if self.rows > 0 { self.push(Token::Row, size) } else { self.at += size }
                }
                Some('{') => self.push(Token::OpenSet, size),
                Some('}') => self.push(Token::CloseSet, size),
                Some('%') => self.push(Token::Percent, size),
                Some('|') => self.push(Token::Bar, size),
                Some('#' | '_') => return None,
                Some(_) => self.at += size,
            }
            return Some(());
        }
        let name = &body[..length];
        let size = length + 1;
        match name {
            "text" | "mbox" | "textnormal" | "textrm" | "textit" | "textbf" | "texttt" | "textsf" | "mathrm"
            | "mathit" | "mathbf" | "mathsf" | "mathtt" | "operatorname" | "boldsymbol" | "bm" | "rm" | "bf"
            | "mathcal" | "mathscr" | "mathfrak" | "vec" | "hat" | "bar" | "overline" | "tilde" | "widehat"
            | "overrightarrow" | "underline" | "emph" | "dot" | "ddot" | "unit" | "pmb" | "hbox" => {
                return self.wrapper(name, size);
            }
            "mathbb" | "Bbb" => {
                let (content, used) = argument(&rest[size..])?;
                let token = match content.trim() {
                    "R" => Token::Reals,
                    other => Token::NamedSet(other.to_owned()),
                };
                self.push(token, size + used);
            }
            "begin" | "end" => {
                let (content, mut used) = argument(&rest[size..])?;
                let environment = content.trim_end_matches('*').to_owned();
                if name == "end" {
                    self.rows = self.rows.saturating_sub(1);
                    self.push(Token::End(environment), size + used);
                } else {
                    self.rows += 1;
                    if environment == "array"
                        && let Some((_, columns)) = argument(&rest[size + used..])
                    {
                        used += columns;
                    }
                    self.push(Token::Begin(environment), size + used);
                }
            }
            "hspace" | "vspace" | "label" | "tag" | "phantom" | "hphantom" | "vphantom" | "color" | "textcolor" => {
                let used = argument(&rest[size..]).map_or(0, |(_, used)| used);
                self.at += size + used;
            }
            _ => match names::command(name) {
                Some(Some(token)) => self.push(token, size),
                Some(None) => self.at += size,
                None => {
                    // `\quadx`: a command and letters that were run together.
                    let prefix = ["qquad", "quad", "cdot", "times", "infty", "pi", "left", "right"]
                        .into_iter()
                        .find(|prefix| name.starts_with(prefix) && name.len() <= prefix.len() + 2)?;
                    if let Some(token) = names::command(prefix)? {
                        self.push(token, prefix.len() + 1);
                    } else {
                        self.at += prefix.len() + 1;
                    }
                }
            },
        }
        Some(())
    }

    /// `\text{…}` and the like: a connective, a unit, a name, or text.
    fn wrapper(&mut self, name: &str, size: usize) -> Option<()> {
        let rest = self.rest();
        let Some((content, used)) = argument(&rest[size..]) else {
            self.at += size;
            return Some(());
        };
        let trimmed = content.trim().trim_matches(['~', ','].as_slice()).trim();
        let textual = name.starts_with("text") || matches!(name, "mbox" | "emph" | "hbox");
        let accent = matches!(
            name,
            "vec" | "hat" | "bar" | "overline" | "tilde" | "widehat" | "overrightarrow" | "underline" | "dot" | "ddot"
        );
        let size = size + used;
        let single = trimmed.chars().nth(1).is_none();
        if trimmed.is_empty() {
            if content.contains(',') {
                self.push(Token::Comma, size);
            } else {
                self.at += size;
            }
            return Some(());
        }
        let lower = trimmed.to_lowercase();
        if matches!(lower.as_str(), "and" | "or" | "and/or" | "et" | "und") {
            self.push(Token::And, size);
            return Some(());
        }
        if accent {
            if name == "overline" && !single {
                // A segment is named by its ends.
                return self.inline(content, size);
            }
            let plain: String = trimmed.chars().filter(|part| !part.is_whitespace() && *part != '\\').collect();
            self.push(Token::Symbol(format!("{plain}^{}", if name == "overline" { "bar" } else { name })), size);
            return Some(());
        }
        if let Some(token) = names::word(trimmed) {
            self.push(token, size);
            return Some(());
        }
        let quantity = self.tokens.last().is_some_and(|last| {
            matches!(last.token, Token::Number(_) | Token::CloseBrace | Token::Unit(_) | Token::Slash | Token::Infinity)
        });
        if quantity
            && name != "mathbf"
            && names::is_unit(trimmed)
            && !trimmed.starts_with(|part: char| part.is_ascii_digit())
        {
            self.push(Token::Unit(trimmed.to_owned()), size);
            return Some(());
        }
        if name == "operatorname" || (!textual && !single && trimmed.chars().all(char::is_alphanumeric)) {
            let token = if names::is_unit(trimmed) {
                Token::Unit(trimmed.to_owned())
            } else if name == "operatorname" {
                Token::Operator(trimmed.to_owned())
            } else {
                Token::Text(trimmed.to_owned())
            };
            self.push(token, size);
            return Some(());
        }
        if textual {
            if trimmed.starts_with(|first: char| first.is_ascii_digit() || first == '-')
                && trimmed.chars().all(|part| part.is_ascii_digit() || ".,-/ ".contains(part))
            {
                // `\text{42}` is the number.
                return self.inline(content, size);
            }
            let quantity = trimmed
                .split_once(' ')
                .is_some_and(|(number, unit)| number.bytes().all(|byte| byte.is_ascii_digit()) && names::is_unit(unit));
            if quantity {
                // `\text{5 apples}`.
                return self.inline(content, size);
            }
            if names::is_unit(trimmed) {
                self.push(Token::Unit(trimmed.to_owned()), size);
            } else {
                self.push(Token::Text(trimmed.to_owned()), size);
            }
            return Some(());
        }
        // `\mathrm{x}`, `\mathbf{x+1}`: the content itself.
        self.inline(content, size)
    }

    /// The content's own tokens in place of the wrapper's.
    fn inline(&mut self, content: &str, size: usize) -> Option<()> {
        // One level only: content with commands of its own is read where it stands.
        if content.contains('\\') {
            let open = self.rest().find('{').map_or(size, |open| open);
            self.at += open;
            return Some(());
        }
        let mut inner = Reader {
            text: content,
            at: 0,
            tokens: Vec::new(),
            depth: self.depth,
            commas: self.commas,
            latex: self.latex,
            rows: 0,
        };
        while inner.at < content.len() {
            inner.step()?;
        }
        let begin = self.at;
        self.at += size;
        for mut spanned in inner.tokens {
            spanned.begin = begin;
            spanned.end = self.at;
            self.tokens.push(spanned);
        }
        Some(())
    }
}

/// A single letter: a Greek one by name, else itself.
fn single(letter: &str) -> Token {
    letter.chars().next().and_then(names::greek).unwrap_or_else(|| Token::Symbol(letter.to_owned()))
}

/// How many digits stand at the beginning.
fn run(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| byte.is_ascii_digit()).count()
}

/// The digits under a bar that follow a number, maybe after its point, and the length up to their end.
fn overline(text: &str) -> Option<(&str, usize)> {
    let rest = text.strip_prefix('.').unwrap_or(text);
    let body = rest.strip_prefix("\\overline").or_else(|| rest.strip_prefix("\\bar"))?;
    let (content, used) = argument(body)?;
    let plain = !content.is_empty() && content.len() <= 32 && content.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| (content, text.len() - body.len() + used))
}

/// A separator of thousands before exactly three digits: its length, and whether it can be nothing else.
fn group(text: &str) -> Option<(usize, bool)> {
    let three = |skip: usize| {
        let bytes = &text.as_bytes()[skip..];
        run(bytes) == 3
    };
    if let Some((skip, true)) = braced_comma(text).map(|skip| (skip, three(skip))) {
        return Some((skip, true));
    }
    for separator in ["\\,", "\\;", "{\\,}"] {
        if text.starts_with(separator) && three(separator.len()) {
            return Some((separator.len(), true));
        }
    }
    for separator in [",\\! ", ",\\!", ",\\,"] {
        if text.starts_with(separator) && three(separator.len()) {
            return Some((separator.len(), true));
        }
    }
    if text.starts_with(',') && three(1) {
        return Some((1, false));
    }
    if text.starts_with([' ', '\u{a0}', '\u{202f}']) {
        let skip = text.chars().next().map_or(1, char::len_utf8);
        // `1 234/5` is a mixed number rather than thousands.
        if three(skip) && !text[skip + 3..].trim_start().starts_with('/') {
            return Some((skip, false));
        }
    }
    None
}

/// The length of `{,}` with any space in and around it, and of the `\!` after it.
fn braced_comma(text: &str) -> Option<usize> {
    let rest = text.trim_start_matches(' ').strip_prefix('{')?.trim_start_matches(' ').strip_prefix(',')?;
    let rest = rest.trim_start_matches(' ').strip_prefix('}')?;
    let rest = rest.strip_prefix("\\!").unwrap_or(rest).trim_start_matches(' ');
    Some(text.len() - rest.len())
}
