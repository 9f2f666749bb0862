//! The parser's atoms: numbers, names, fractions, roots, functions, sums, brackets, environments.

use super::matrix;
use super::parse::Parser;
use super::token::Token;
use super::tree::{Edge, Function, Id, Literal, Node};

impl Parser<'_> {
    pub(super) fn atom(&mut self) -> Option<Id> {
        let token = self.peek()?.clone();
        self.bump();
        match token {
            Token::Number(literal) => self.quantity(literal),
            Token::Symbol(name) => self.symbol(&name),
            Token::Pi => Some(self.tree.push(Node::Pi)),
            Token::Infinity => Some(self.tree.push(Node::Infinity)),
            Token::Reals => Some(self.tree.push(Node::Reals)),
            Token::NamedSet(name) => {
                let name = self.tree.intern(&name);
                Some(self.tree.push(Node::NamedSet(name)))
            }
            Token::EmptySet => {
                let kids = self.tree.run(&[]);
                Some(self.tree.push(Node::Braces(kids)))
            }
            Token::Ellipsis => Some(self.tree.push(Node::Ellipsis)),
            Token::Frac => {
                let (top, bottom) = self.fraction_parts()?;
                Some(self.tree.push(Node::Quotient(top, bottom)))
            }
            Token::Binomial => {
                let (top, bottom) = self.fraction_parts()?;
                let kids = self.tree.run(&[top, bottom]);
                Some(self.tree.push(Node::Apply(Function::Binomial, kids)))
            }
            Token::Sqrt => self.root(),
            Token::Function(function) => self.function(function),
            Token::Operator(name) => self.operator(&name),
            Token::Sum => self.series(false),
            Token::Prod => self.series(true),
            Token::Structural(name) => self.structural(name),
            Token::OpenBrace => self.after_brace(),
            Token::OpenSet => self.set(),
            Token::OpenRound => self.brackets(Edge::Open, false),
            Token::OpenSquare => self.brackets(Edge::Closed, true),
            Token::CloseSquare => self.brackets(Edge::Open, true),
            Token::OpenAngle => self.brackets(Edge::Angle, false),
            Token::Bar => self.wrapped(&Token::Bar, Function::Abs),
            Token::OpenBar => self.wrapped(&Token::CloseBar, Function::Abs),
            Token::OpenFloor => self.wrapped(&Token::CloseFloor, Function::Floor),
            Token::OpenCeil => self.wrapped(&Token::CloseCeil, Function::Ceil),
            Token::Begin(environment) => match environment.as_str() {
                "matrix" | "pmatrix" | "bmatrix" | "Bmatrix" | "vmatrix" | "Vmatrix" | "smallmatrix" | "array" => {
                    self.matrix(&environment)
                }
                "cases" | "dcases" => self.cases(),
                _ => None,
            },
            _ => None,
        }
    }

    /// A number, with the fraction of a mixed number after it.
    fn quantity(&mut self, literal: Literal) -> Option<Id> {
        let whole = literal.places.is_none();
        let number = self.number(literal);
        if !whole {
            return Some(number);
        }
        let fraction = match (self.peek(), self.peek_at(1), self.peek_at(2)) {
            (Some(Token::Number(top)), Some(Token::Slash), Some(Token::Number(bottom)))
                if self.spaced() && top.places.is_none() && bottom.places.is_none() && top.value < bottom.value =>
            {
                let parts = (top.clone(), bottom.clone());
                self.bump();
                self.bump();
                self.bump();
                Some(parts)
            }
            (Some(Token::Frac), _, _) => self.plain_fraction(),
            _ => None,
        };
        let Some((top, bottom)) = fraction else { return Some(number) };
        let top = self.number(top);
        let bottom = self.number(bottom);
        let fraction = self.tree.push(Node::Quotient(top, bottom));
        let kids = self.tree.run(&[number, fraction]);
        Some(self.tree.push(Node::Sum(kids)))
    }

    /// `\frac` of two whole numbers, taken; nothing is taken for any other.
    fn plain_fraction(&mut self) -> Option<(Literal, Literal)> {
        let mut ahead = 1;
        let mut parts = Vec::new();
        for _ in 0..2 {
            let braced = self.peek_at(ahead) == Some(&Token::OpenBrace);
            ahead += usize::from(braced);
            let Some(Token::Number(literal)) = self.peek_at(ahead) else { return None };
            if literal.places.is_some() {
                return None;
            }
            if braced {
                parts.push(literal.clone());
                ahead += 1;
                if self.peek_at(ahead) != Some(&Token::CloseBrace) {
                    return None;
                }
                ahead += 1;
            } else {
                // `\frac12` is one token of two digits.
                match split_digits(literal) {
                    Some((first, second)) if parts.is_empty() => {
                        parts.push(first);
                        parts.push(second);
                        ahead += 1;
                        break;
                    }
                    _ => {
                        parts.push(literal.clone());
                        ahead += 1;
                    }
                }
            }
        }
        let [top, bottom] = &parts[..] else { return None };
        let parts = (top.clone(), bottom.clone());
        for _ in 0..ahead {
            self.bump();
        }
        Some(parts)
    }

    /// The two parts of `\frac`: groups, single digits or letters.
    fn fraction_parts(&mut self) -> Option<(Id, Id)> {
        if let Some(Token::Number(literal)) = self.peek()
            && let Some((first, rest)) = split_digits(literal)
        {
            self.bump();
            let first = self.number(first);
            return Some((first, self.number(rest)));
        }
        let top = self.fraction_part()?;
        Some((top, self.fraction_part()?))
    }

    fn fraction_part(&mut self) -> Option<Id> {
        if self.accept(&Token::OpenRound) {
            // `frac(1)(2)` is no LaTeX, but it is written.
            return self.brackets(Edge::Open, false);
        }
        self.power_argument()
    }

    fn symbol(&mut self, name: &str) -> Option<Id> {
        if self.peek() == Some(&Token::Under) || self.is_bound(name) {
            let name = self.tree.intern(name);
            return Some(self.tree.push(Node::Symbol(name)));
        }
        match name {
            "e" => return Some(self.tree.push(Node::Euler)),
            "i" => return Some(self.tree.push(Node::Imaginary)),
            _ => {}
        }
        let node = self.tree.intern(name);
        if name == "f" && self.peek() == Some(&Token::OpenRound) {
            self.bump();
            let inner = self.bracketed(Self::list)?;
            self.expect(&Token::CloseRound)?;
            let kids = match *self.tree.node(inner) {
                Node::List(kids) => kids,
                _ => self.tree.run(&[inner]),
            };
            return Some(self.tree.push(Node::Opaque(node, kids)));
        }
        Some(self.tree.push(Node::Symbol(node)))
    }

    fn root(&mut self) -> Option<Id> {
        let index = if self.peek() == Some(&Token::OpenSquare) {
            self.bump();
            let index = self.bracketed(Self::list)?;
            self.expect(&Token::CloseSquare)?;
            Some(index)
        } else {
            None
        };
        let radicand = match self.peek() {
            Some(Token::Number(literal)) if self.text.contains("\\sqrt") => {
                // `\sqrt3` takes one digit in print, but nobody writes `\sqrt12` for it.
                let literal = literal.clone();
                self.bump();
                self.number(literal)
            }
            Some(Token::OpenRound) => {
                self.bump();
                self.brackets(Edge::Open, false)?
            }
            _ => self.power_argument()?,
        };
        let kids = match index {
            Some(index) => self.tree.run(&[radicand, index]),
            None => self.tree.run(&[radicand]),
        };
        Some(self.tree.push(Node::Apply(Function::Root, kids)))
    }

    fn function(&mut self, function: Function) -> Option<Id> {
        let mut function = function;
        let mut base = None;
        let mut power = None;
        for _ in 0..2 {
            if self.peek() == Some(&Token::Under) {
                self.bump();
                base = Some(self.power_argument()?);
            } else if self.peek() == Some(&Token::Caret) {
                self.bump();
                power = Some(self.power_argument()?);
            }
        }
        let mut arguments = self.arguments()?;
        if function == Function::CommonLog {
            let ten = self.tree.whole(10);
            arguments.push(ten);
            function = Function::Log;
        }
        if function == Function::BareLog
            && let Some(base) = base
        {
            function = Function::Log;
            arguments.truncate(1);
            arguments.push(base);
        } else if base.is_some() {
            return None;
        }
        if function == Function::Root {
            // `cbrt(x)`.
            let three = self.tree.whole(3);
            arguments.push(three);
        }
        let inverted = match power.map(|power| *self.tree.node(power)) {
            Some(Node::Negative(inner)) => match self.tree.as_literal(inner) {
                Some(literal) if *literal == Literal::whole(1) => function.inverse(),
                _ => None,
            },
            _ => None,
        };
        if let Some(inverse) = inverted {
            let kids = self.tree.run(&arguments);
            return Some(self.tree.push(Node::Apply(inverse, kids)));
        }
        let arity = match function {
            Function::Gcd | Function::Lcm | Function::Max | Function::Min => 1..=64,
            Function::Binomial | Function::Mod => 2..=2,
            Function::Log | Function::BareLog | Function::Root => 1..=2,
            _ => 1..=1,
        };
        if !arity.contains(&arguments.len()) {
            return None;
        }
        if function == Function::BareLog && arguments.len() == 2 {
            function = Function::Log;
        }
        if function.takes_angle() {
            self.turn_degrees(arguments[0]);
        }
        let kids = self.tree.run(&arguments);
        let value = self.tree.push(Node::Apply(function, kids));
        Some(match power {
            Some(power) => self.tree.push(Node::Power(value, power)),
            None => value,
        })
    }

    /// Degrees inside an angle mean an angle.
    fn turn_degrees(&mut self, argument: Id) {
        let marks = self.tree.reach(argument);
        for (node, _) in self.tree.nodes.iter_mut().zip(marks).filter(|&(_, marked)| marked) {
            if let Node::Degree(inner) = *node {
                *node = Node::Angle(inner);
            }
        }
    }

    fn arguments(&mut self) -> Option<Vec<Id>> {
        let group = match self.peek() {
            Some(Token::OpenRound) => Some(Token::CloseRound),
            Some(Token::OpenSquare) => Some(Token::CloseSquare),
            Some(Token::OpenBrace) => Some(Token::CloseBrace),
            Some(Token::OpenSet) => Some(Token::CloseSet),
            _ => None,
        };
        if let Some(close) = group {
            self.bump();
            let inner = self.bracketed(Self::list)?;
            self.expect(&close)?;
            return Some(match *self.tree.node(inner) {
                Node::List(kids) | Node::Tuple { items: kids, .. } => self.tree.items(kids).to_vec(),
                _ => vec![inner],
            });
        }
        // Without brackets: a product up to a sign, a sign of multiplication or another function.
        let negative = self.accept(&Token::Minus);
        let mut factors = vec![self.power()?];
        let first_is_function = matches!(self.tree.node(factors[0]), Node::Apply(..) | Node::Power(..));
        if !(first_is_function && matches!(self.tree.node(factors[0]), Node::Apply(..))) {
            while self.starts_factor()
                && !matches!(
                    self.peek(),
                    Some(Token::Function(_) | Token::Operator(_) | Token::OpenRound | Token::Begin(_) | Token::Bar)
                )
            {
                let factor = self.power()?;
                factors.push(factor);
            }
        }
        let argument = self.join(&factors);
        Some(vec![if negative { self.tree.push(Node::Negative(argument)) } else { argument }])
    }

    /// `\operatorname{name}`: a function by name, or something that is compared by structure.
    fn operator(&mut self, name: &str) -> Option<Id> {
        if matches!(self.peek(), Some(Token::OpenRound | Token::OpenBrace)) {
            let arguments = self.arguments()?;
            let name = self.tree.intern(name);
            let kids = self.tree.run(&arguments);
            return Some(self.tree.push(Node::Opaque(name, kids)));
        }
        let name = self.tree.intern(name);
        Some(self.tree.push(Node::Symbol(name)))
    }

    fn series(&mut self, product: bool) -> Option<Id> {
        let mut lower = None;
        let mut upper = None;
        let mut variable = String::new();
        for _ in 0..2 {
            if self.peek() == Some(&Token::Under) && lower.is_none() {
                self.bump();
                self.expect(&Token::OpenBrace)?;
                let Some(Token::Symbol(name)) = self.peek().cloned() else { return None };
                self.bump();
                self.expect(&Token::Equal)?;
                lower = Some(self.product_or_sum()?);
                self.expect(&Token::CloseBrace)?;
                variable = name;
            } else if self.peek() == Some(&Token::Caret) && upper.is_none() {
                self.bump();
                upper = Some(self.power_argument()?);
            }
        }
        let (lower, upper) = (lower?, upper?);
        self.bind(&variable);
        let body = self.product();
        self.unbind();
        let body = body?;
        let variable = self.tree.intern(&variable);
        Some(self.tree.push(Node::Series { product, variable, lower, upper, body }))
    }

    /// An integral or a limit: the text up to the next relation or separator, as it stands.
    fn structural(&mut self, name: &str) -> Option<Id> {
        let begin = self.begins();
        let mut depth = 0_usize;
        while let Some(token) = self.peek() {
            match token {
                Token::OpenBrace | Token::OpenRound | Token::OpenSquare | Token::OpenSet => depth += 1,
                Token::CloseBrace | Token::CloseRound | Token::CloseSquare | Token::CloseSet if depth == 0 => break,
                Token::CloseBrace | Token::CloseRound | Token::CloseSquare | Token::CloseSet => depth -= 1,
                Token::Equal
                | Token::Comma
                | Token::Semicolon
                | Token::And
                | Token::Approximately
                | Token::Less
                | Token::LessEqual
                | Token::Greater
                | Token::GreaterEqual
                    if depth == 0 =>
                {
                    break;
                }
                _ => {}
            }
            self.bump();
        }
        let text = self.text.get(begin..self.ended().max(begin))?;
        // Thin spaces and stretched brackets say nothing here either.
        let text = ["\\,", "\\;", "\\!", "\\ ", "\\left", "\\right", "\\limits"]
            .iter()
            .fold(text.to_owned(), |text, mark| text.replace(mark, " "));
        let text: String = text.split_whitespace().collect();
        let name = self.tree.intern(&format!("{name}{text}"));
        let kids = self.tree.run(&[]);
        Some(self.tree.push(Node::Opaque(name, kids)))
    }

    fn after_brace(&mut self) -> Option<Id> {
        let inner = self.bracketed(Self::list)?;
        self.expect(&Token::CloseBrace)?;
        match *self.tree.node(inner) {
            Node::List(kids) => Some(self.tree.push(Node::Braces(kids))),
            _ => Some(inner),
        }
    }

    /// After `\{`: a set by its members, or by a condition, which then stands for it.
    fn set(&mut self) -> Option<Id> {
        if self.accept(&Token::CloseSet) {
            let kids = self.tree.run(&[]);
            return Some(self.tree.push(Node::Braces(kids)));
        }
        if matches!(self.peek(), Some(Token::Symbol(_))) {
            let mut ahead = 1;
            if self.peek_at(1) == Some(&Token::In) {
                ahead = 3;
            }
            if matches!(self.peek_at(ahead), Some(Token::Mid | Token::Bar | Token::Colon)) {
                for _ in 0..=ahead {
                    self.bump();
                }
                let condition = self.bracketed(Self::list)?;
                self.expect(&Token::CloseSet)?;
                return Some(condition);
            }
        }
        let inner = self.bracketed(Self::list)?;
        if self.accept(&Token::Mid) {
            // `{(x, y) | …}`: the pattern and the condition, as they stand.
            let condition = self.bracketed(Self::list)?;
            self.expect(&Token::CloseSet)?;
            let kids = self.tree.run(&[inner, condition]);
            return Some(self.tree.push(Node::Braces(kids)));
        }
        self.expect(&Token::CloseSet)?;
        let kids = match *self.tree.node(inner) {
            Node::List(kids) => kids,
            _ => self.tree.run(&[inner]),
        };
        Some(self.tree.push(Node::Braces(kids)))
    }

    fn wrapped(&mut self, close: &Token, function: Function) -> Option<Id> {
        let inner = self.between_bars(close)?;
        if function == Function::Abs && matrix::is_matrix(&self.tree, inner) {
            return matrix::determinant(&mut self.tree, inner);
        }
        let kids = self.tree.run(&[inner]);
        Some(self.tree.push(Node::Apply(function, kids)))
    }

    fn product_or_sum(&mut self) -> Option<Id> {
        self.bracketed(|parser| parser.list())
    }
}

/// `12` as `1` and `2`: what `\frac12` means. None for one digit or a decimal.
fn split_digits(literal: &Literal) -> Option<(Literal, Literal)> {
    if literal.places.is_some() {
        return None;
    }
    let text = literal.value.to_integer().to_string();
    if text.len() < 2 || text.len() > 9 {
        return None;
    }
    let (first, rest) = text.split_at(1);
    Some((Literal::whole(first.parse().ok()?), Literal::whole(rest.parse().ok()?)))
}
