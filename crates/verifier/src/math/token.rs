//! Tokens, the signs that stand for them, and braced arguments.

use super::tree::{Function, Literal};

/// What a comma between digits is, where the writing leaves both open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Commas {
    /// `1,000` is a thousand.
    Group,
    /// `1,000` is two numbers.
    Separate,
}

/// A token and where it was.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Spanned {
    pub(crate) token: Token,
    /// White space stands before it.
    pub(crate) spaced: bool,
    /// Byte offsets in the text that was read.
    pub(crate) begin: usize,
    pub(crate) end: usize,
}

/// A token.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Token {
    Number(Literal),
    /// A single letter or a named one.
    Symbol(String),
    /// `\text{…}` or a word.
    Text(String),
    /// A word that only stands for a unit.
    Unit(String),
    Function(Function),
    Plus,
    Minus,
    PlusMinus,
    MinusPlus,
    Times,
    Slash,
    Caret,
    Under,
    Bang,
    Percent,
    Degree,
    Prime,
    Comma,
    Semicolon,
    /// `and`, `or`.
    And,
    Colon,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    Approximately,
    In,
    Congruent,
    /// A relation that is only compared as it stands.
    OtherRelation,
    Cup,
    Cap,
    SetMinus,
    OpenRound,
    CloseRound,
    OpenSquare,
    CloseSquare,
    OpenBrace,
    CloseBrace,
    OpenSet,
    CloseSet,
    Bar,
    OpenBar,
    CloseBar,
    OpenFloor,
    CloseFloor,
    OpenCeil,
    CloseCeil,
    OpenAngle,
    CloseAngle,
    Frac,
    Binomial,
    Sqrt,
    Sum,
    Prod,
    /// `\int`, `\lim`: compared by structure alone.
    Structural(&'static str),
    Over,
    Choose,
    Mod,
    ParenMod,
    Pi,
    Infinity,
    EmptySet,
    /// `\mathbb{R}`.
    Reals,
    NamedSet(String),
    Begin(String),
    End(String),
    Cell,
    Row,
    Ellipsis,
    Mid,
    Not,
    Operator(String),
}

/// The content of a braced argument, or the next character, and how many bytes it takes.
pub(crate) fn argument(text: &str) -> Option<(&str, usize)> {
    let lead = text.len() - text.trim_start().len();
    let body = &text[lead..];
    if let Some(inner) = body.strip_prefix('{') {
        let close = closing_brace(inner)?;
        return Some((&inner[..close], lead + close + 2));
    }
    let first = body.chars().next().filter(|first| first.is_alphanumeric())?;
    Some((&body[..first.len_utf8()], lead + first.len_utf8()))
}

/// The offset of the brace that closes an already opened one; escaped braces do not count.
pub(crate) fn closing_brace(text: &str) -> Option<usize> {
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

/// A sign and its length.
pub(super) fn sign(rest: &str) -> Option<(Token, usize)> {
    for (text, token) in [
        ("**", Token::Caret),
        ("<=", Token::LessEqual),
        (">=", Token::GreaterEqual),
        ("!=", Token::NotEqual),
        ("==", Token::Equal),
        ("+/-", Token::PlusMinus),
        ("+-", Token::PlusMinus),
    ] {
        if rest.starts_with(text) && text != "+-" {
            return Some((token, text.len()));
        }
    }
    let first = rest.chars().next()?;
    let token = match first {
        '+' | '＋' => Token::Plus,
        '-' | '−' | '–' | '—' | '‐' | '‑' | '－' => Token::Minus,
        '±' => Token::PlusMinus,
        '∓' => Token::MinusPlus,
        '*' | '×' | '·' | '⋅' | '∙' | '∗' | '•' => Token::Times,
        '/' | '÷' | '∕' | '⁄' => Token::Slash,
        '^' => Token::Caret,
        '_' => Token::Under,
        '!' => Token::Bang,
        '%' | '％' => Token::Percent,
        '°' | 'º' => Token::Degree,
        '\'' | '’' | '′' => Token::Prime,
        ',' | '，' | '、' => Token::Comma,
        ';' | '；' => Token::Semicolon,
        ':' | '：' => Token::Colon,
        '=' | '＝' => Token::Equal,
        '≠' => Token::NotEqual,
        '<' => Token::Less,
        '>' => Token::Greater,
        '≤' | '⩽' => Token::LessEqual,
        '≥' | '⩾' => Token::GreaterEqual,
        '≈' | '≃' | '≅' => Token::Approximately,
        '∈' => Token::In,
        '≡' => Token::Congruent,
        '→' | '⇒' | '⟹' | '∣' => Token::OtherRelation,
        '∪' => Token::Cup,
        '∩' => Token::Cap,
        '∖' => Token::SetMinus,
        '(' | '（' => Token::OpenRound,
        ')' | '）' => Token::CloseRound,
        '[' | '【' => Token::OpenSquare,
        ']' | '】' => Token::CloseSquare,
        '{' => Token::OpenBrace,
        '}' => Token::CloseBrace,
        '|' => Token::Bar,
        '⌊' => Token::OpenFloor,
        '⌋' => Token::CloseFloor,
        '⌈' => Token::OpenCeil,
        '⌉' => Token::CloseCeil,
        '⟨' | '〈' => Token::OpenAngle,
        '⟩' | '〉' => Token::CloseAngle,
        '∑' => Token::Sum,
        '∏' => Token::Prod,
        '∞' => Token::Infinity,
        '∅' => Token::EmptySet,
        'ℝ' => Token::Reals,
        '&' => Token::Cell,
        '€' | '£' | '¥' | '₹' | '￥' => return Some((Token::Text(String::new()), first.len_utf8())),
        _ => return None,
    };
    Some((token, first.len_utf8()))
}
