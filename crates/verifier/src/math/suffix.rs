//! The parser's powers and suffixes: `^`, `_`, `!`, `%`, `°`, `'`.

use super::matrix;
use super::parse::Parser;
use super::token::Token;
use super::tree::{Function, Id, Node};

impl Parser<'_> {
    /// An atom with its powers and suffixes.
    pub(super) fn power(&mut self) -> Option<Id> {
        let base = self.nested(Self::atom)?;
        self.suffixes(base)
    }

    pub(super) fn suffixes(&mut self, mut base: Id) -> Option<Id> {
        loop {
            match self.peek() {
                Some(Token::Bang) => {
                    self.bump();
                    let kids = self.tree.run(&[base]);
                    base = if self.accept(&Token::Bang) {
                        let name = self.tree.intern("!!");
                        self.tree.push(Node::Opaque(name, kids))
                    } else {
                        self.tree.push(Node::Apply(Function::Factorial, kids))
                    };
                }
                Some(Token::Percent) => {
                    self.bump();
                    base = self.tree.push(Node::Percent(base));
                }
                Some(Token::Degree) => {
                    self.bump();
                    base = self.tree.push(Node::Degree(base));
                }
                Some(Token::Prime) => {
                    self.bump();
                    base = self.primed(base)?;
                }
                Some(Token::Under) => {
                    self.bump();
                    base = self.subscript(base)?;
                }
                Some(Token::Caret) => {
                    self.bump();
                    match self.peek() {
                        Some(Token::Degree) => {
                            self.bump();
                            base = self.tree.push(Node::Degree(base));
                            continue;
                        }
                        Some(Token::Prime) => continue,
                        Some(Token::OpenBrace) if self.peek_at(1) == Some(&Token::Degree) => {
                            self.bump();
                            self.bump();
                            self.expect(&Token::CloseBrace)?;
                            base = self.tree.push(Node::Degree(base));
                            continue;
                        }
                        Some(Token::OpenBrace) if self.peek_at(1) == Some(&Token::Prime) => {
                            self.bump();
                            while self.accept(&Token::Prime) {
                                base = self.primed(base)?;
                            }
                            self.expect(&Token::CloseBrace)?;
                            continue;
                        }
                        Some(Token::Times) => {
                            // `z^*`: a name of its own.
                            self.bump();
                            base = self.rename(base, "*")?;
                            continue;
                        }
                        _ => {}
                    }
                    let exponent = self.power_argument()?;
                    // `v^2_0` is the square of `v_0`.
                    if self.peek() == Some(&Token::Under) && matches!(self.tree.node(base), Node::Symbol(_)) {
                        self.bump();
                        base = self.subscript(base)?;
                    }
                    base = if matrix::is_matrix(&self.tree, base) {
                        self.matrix_power(base, exponent)?
                    } else {
                        self.tree.push(Node::Power(base, exponent))
                    };
                }
                _ => return Some(base),
            }
        }
    }

    /// What a caret, `\frac` or `\sqrt` takes: a group, or one atom with a sign.
    pub(super) fn power_argument(&mut self) -> Option<Id> {
        self.nested(|parser| {
            if parser.peek() == Some(&Token::OpenBrace) {
                return parser.group();
            }
            let negative = parser.accept(&Token::Minus);
            let _ = parser.accept(&Token::Plus);
            let atom = parser.nested(Self::atom)?;
            // `2^3^4` and `x^n!` bind to the right.
            let tight = matches!(parser.peek(), Some(Token::Caret | Token::Under));
            let inner = if tight { parser.suffixes(atom)? } else { atom };
            Some(if negative { parser.tree.push(Node::Negative(inner)) } else { inner })
        })
    }

    fn primed(&mut self, base: Id) -> Option<Id> {
        match *self.tree.node(base) {
            Node::Symbol(_) => self.rename(base, "'"),
            _ => {
                let name = self.tree.intern("'");
                let kids = self.tree.run(&[base]);
                Some(self.tree.push(Node::Opaque(name, kids)))
            }
        }
    }

    fn rename(&mut self, base: Id, mark: &str) -> Option<Id> {
        let Node::Symbol(name) = *self.tree.node(base) else { return None };
        let renamed = format!("{}{mark}", self.tree.name(name));
        if renamed.len() > 200 {
            return None;
        }
        let name = self.tree.intern(&renamed);
        Some(self.tree.push(Node::Symbol(name)))
    }

    /// After `_`: a base for a number, part of the name for a symbol.
    fn subscript(&mut self, base: Id) -> Option<Id> {
        if matches!(self.tree.node(base), Node::Number(_)) {
            let radix = self.power_argument()?;
            return Some(self.tree.push(Node::Based(base, radix)));
        }
        let begin = self.begins();
        if self.accept(&Token::OpenBrace) {
            let mut depth = 1;
            while depth > 0 {
                match self.peek()? {
                    Token::OpenBrace => depth += 1,
                    Token::CloseBrace => depth -= 1,
                    _ => {}
                }
                self.bump();
            }
        } else {
            self.peek()?;
            self.bump();
        }
        let index = plain_index(self.text.get(begin..self.ended())?);
        if index.len() > 200 {
            return None;
        }
        let name = match *self.tree.node(base) {
            Node::Symbol(name) => self.tree.name(name).to_owned(),
            Node::Euler => "e".to_owned(),
            Node::Imaginary => "i".to_owned(),
            Node::Pi => "pi".to_owned(),
            _ => return None,
        };
        let name = self.tree.intern(&format!("{name}_{index}"));
        Some(self.tree.push(Node::Symbol(name)))
    }
}

/// A subscript as part of a name: letters, digits and signs, without the wrappers.
fn plain_index(text: &str) -> String {
    let text =
        ["\\mathrm", "\\text", "\\rm", "\\mathbf", "\\mathit", "\\operatorname", "\\textrm", "\\left", "\\right"]
            .iter()
            .fold(text.to_owned(), |text, wrapper| text.replace(wrapper, ""));
    text.chars().filter(|part| !part.is_whitespace() && !"{}\\$".contains(*part)).collect()
}
