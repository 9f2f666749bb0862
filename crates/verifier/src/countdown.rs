//! The answer of a countdown problem: `answer ( 8 - 5 ) * 8`, against the reference `24 from 3 5 8 8`.
//!
//! The first word "answer" counts and its expression must reach to the text's end: a policy has one
//! try. Tokens and depth are bounded, arithmetic is exact, and nothing is evaluated but the four
//! operations.

use crate::number::Rational;
use crate::{Outcome, Verdict, answer};

/// More given numbers than anyone plays with.
const MAX_NUMBERS: usize = 16;
/// 16 numbers need 15 operations and, if bracketed senselessly, still far fewer tokens than this.
const MAX_TOKENS: usize = 256;
/// Deeper brackets are refused, so recursion is bounded.
const MAX_DEPTH: usize = 32;

/// The rule of `Verifier::Countdown`; `reference` is trimmed and not empty.
pub(crate) fn verify(reference: &str, text: &str) -> Verdict {
    let Some((_, after)) = answer::after_first_word(text) else {
        return Verdict { outcome: Outcome::NoAnswer, extracted: None };
    };
    let stated = after.trim();
    if stated.is_empty() {
        return Verdict { outcome: Outcome::NoAnswer, extracted: None };
    }
    let outcome = match (read_reference(reference), tokenise(stated)) {
        (Ok(game), Some(tokens)) => game.judge(&tokens),
        _ => Outcome::Unreadable,
    };
    Verdict { outcome, extracted: Some(stated.to_owned()) }
}

/// A reference, read.
pub(crate) struct Game {
    target: i64,
    numbers: Vec<i64>,
}

/// `24 from 3 5 8 8`: a target and one to 16 numbers, all whole and not negative.
pub(crate) fn read_reference(reference: &str) -> Result<Game, String> {
    let form = || "expected `TARGET from NUMBER …`, such as `24 from 3 5 8 8`".to_owned();
    let mut words = reference.split_whitespace();
    let target = words.next().and_then(read_whole).ok_or_else(form)?;
    if words.next() != Some("from") {
        return Err(form());
    }
    let mut numbers = Vec::new();
    for word in words {
        if numbers.len() == MAX_NUMBERS {
            return Err(format!("it gives more than {MAX_NUMBERS} numbers"));
        }
        numbers.push(read_whole(word).ok_or_else(form)?);
    }
    if numbers.is_empty() { Err(form()) } else { Ok(Game { target, numbers }) }
}

impl Game {
    fn judge(&self, tokens: &[Token]) -> Outcome {
        let mut reader = Reader { tokens, at: 0, depth: 0 };
        let value = match reader.sum() {
            Ok(value) if reader.at == tokens.len() => value,
            Ok(_) | Err(Trouble::Malformed | Trouble::OutOfRange) => return Outcome::Unreadable,
            // The rest is not read: an expression with a division by zero has no value, whatever follows.
            Err(Trouble::DivisionByZero) => return Outcome::Wrong,
        };
        let mut left = self.numbers.clone();
        for token in tokens {
            let Token::Number(used) = token else { continue };
            match left.iter().position(|given| given == used) {
                Some(at) => drop(left.swap_remove(at)),
                None => return Outcome::Wrong,
            }
        }
        if value == Rational::whole(self.target) { Outcome::Correct } else { Outcome::Wrong }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Token {
    Number(i64),
    Plus,
    Minus,
    Times,
    Over,
    Open,
    Close,
}

/// The tokens of an expression; none for anything else in it, or too many.
fn tokenise(stated: &str) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = stated.trim_start();
    while let Some(first) = rest.chars().next() {
        if tokens.len() == MAX_TOKENS {
            return None;
        }
        let mut length = first.len_utf8();
        tokens.push(match first {
            '+' => Token::Plus,
            '-' | '\u{2212}' => Token::Minus,
            '*' | '\u{d7}' => Token::Times,
            '/' | '\u{f7}' => Token::Over,
            '(' => Token::Open,
            ')' => Token::Close,
            _ => {
                length = rest.bytes().take_while(u8::is_ascii_digit).count();
                Token::Number(read_whole(&rest[..length])?)
            }
        });
        rest = rest[length..].trim_start();
    }
    Some(tokens)
}

/// A whole number of one to nine digits.
fn read_whole(word: &str) -> Option<i64> {
    let plain = matches!(word.len(), 1..=9) && word.bytes().all(|byte| byte.is_ascii_digit());
    if plain { word.parse().ok() } else { None }
}

enum Trouble {
    Malformed,
    OutOfRange,
    DivisionByZero,
}

/// Recursive descent over the tokens: sums of products of numbers and brackets, no unary signs.
struct Reader<'a> {
    tokens: &'a [Token],
    at: usize,
    depth: usize,
}

impl Reader<'_> {
    fn sum(&mut self) -> Result<Rational, Trouble> {
        let mut value = self.product()?;
        while let Some(operation @ (Token::Plus | Token::Minus)) = self.peek() {
            self.at += 1;
            let right = self.product()?;
            let combined = if operation == Token::Plus { value.plus(right) } else { value.minus(right) };
            value = combined.ok_or(Trouble::OutOfRange)?;
        }
        Ok(value)
    }

    fn product(&mut self) -> Result<Rational, Trouble> {
        let mut value = self.operand()?;
        while let Some(operation @ (Token::Times | Token::Over)) = self.peek() {
            self.at += 1;
            let right = self.operand()?;
            if operation == Token::Over && right.is_zero() {
                return Err(Trouble::DivisionByZero);
            }
            let combined = if operation == Token::Times { value.times(right) } else { value.over(right) };
            value = combined.ok_or(Trouble::OutOfRange)?;
        }
        Ok(value)
    }

    fn operand(&mut self) -> Result<Rational, Trouble> {
        let token = self.peek().ok_or(Trouble::Malformed)?;
        self.at += 1;
        match token {
            Token::Number(number) => Ok(Rational::whole(number)),
            Token::Open if self.depth < MAX_DEPTH => {
                self.depth += 1;
                let value = self.sum()?;
                self.depth -= 1;
                if self.peek() != Some(Token::Close) {
                    return Err(Trouble::Malformed);
                }
                self.at += 1;
                Ok(value)
            }
            _ => Err(Trouble::Malformed),
        }
    }

    fn peek(&self) -> Option<Token> {
        self.tokens.get(self.at).copied()
    }
}
