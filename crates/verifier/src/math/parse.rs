//! Tokens to a tree, by precedence, with bounded depth.
//!
//! From loose to tight: lists, relations, set operations, ratios, `mod`, sums, products (written or
//! implied), signs, powers and suffixes, atoms. A text that does not fit is no expression; what it is
//! instead is for the caller to say.

use super::budget::Budget;
use super::lex;
use super::matrix;
use super::token::{Commas, Spanned, Token};
use super::tree::{Function, Id, Literal, Node, Relation, SetOperation, Tree};

/// Brackets, powers, functions and fractions inside one another. One level takes about ten frames.
const MAX_DEPTH: usize = 64;
/// Items of one list.
const MAX_ITEMS: usize = 256;

/// A parsed answer.
pub(crate) struct Parsed {
    pub(crate) tree: Tree,
    pub(crate) root: Id,
}

/// Reads a whole answer as an expression or a shape made of expressions.
pub(crate) fn parse(text: &str, commas: Commas, budget: &mut Budget) -> Option<Parsed> {
    let mut tokens = lex::read(text, commas)?;
    tokens.retain(|spanned| !matches!(&spanned.token, Token::Text(text) if text.is_empty()));
    flatten_alignment(&mut tokens);
    // `<1, 2>` is a vector.
    if let [first, .., last] = &mut tokens[..]
        && (&first.token, &last.token) == (&Token::Less, &Token::Greater)
    {
        first.token = Token::OpenAngle;
        last.token = Token::CloseAngle;
    }
    budget.take(20 * u64::try_from(tokens.len()).ok()? + u64::try_from(text.len() / 8).ok()?)?;
    // A sign before the whole says how sure the writer is, or nothing.
    while matches!(tokens.first(), Some(first) if matches!(first.token, Token::Approximately | Token::Equal | Token::Comma | Token::Colon))
    {
        tokens.remove(0);
    }
    while matches!(tokens.last(), Some(last) if matches!(last.token, Token::Comma | Token::Semicolon | Token::Equal)) {
        tokens.pop();
    }
    let mut parser = Parser {
        text,
        tokens: &tokens,
        at: 0,
        depth: 0,
        bars: 0,
        squares: 0,
        bound: Vec::new(),
        tree: Tree::default(),
    };
    let root = parser.list()?;
    (parser.at == tokens.len()).then_some(Parsed { tree: parser.tree, root })
}

pub(super) struct Parser<'a> {
    pub(super) text: &'a str,
    tokens: &'a [Spanned],
    at: usize,
    depth: usize,
    /// Open `|`, since the innermost bracket.
    pub(super) bars: usize,
    /// Open `[`, inside which `[` may close an interval.
    pub(super) squares: usize,
    /// Variables of enclosing sums, which are no constants whatever their names.
    bound: Vec<String>,
    pub(super) tree: Tree,
}

impl Parser<'_> {
    pub(super) fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|spanned| &spanned.token)
    }

    pub(super) fn peek_at(&self, ahead: usize) -> Option<&Token> {
        self.tokens.get(self.at + ahead).map(|spanned| &spanned.token)
    }

    pub(super) fn spaced(&self) -> bool {
        self.tokens.get(self.at).is_some_and(|spanned| spanned.spaced)
    }

    pub(super) fn bump(&mut self) {
        self.at += 1;
    }

    pub(super) fn accept(&mut self, token: &Token) -> bool {
        let found = self.peek() == Some(token);
        self.at += usize::from(found);
        found
    }

    pub(super) fn expect(&mut self, token: &Token) -> Option<()> {
        self.accept(token).then_some(())
    }

    /// Where in the text the next token begins.
    pub(super) fn begins(&self) -> usize {
        self.tokens.get(self.at).map_or(self.text.len(), |spanned| spanned.begin)
    }

    /// Where in the text the last token ended.
    pub(super) fn ended(&self) -> usize {
        self.at.checked_sub(1).and_then(|at| self.tokens.get(at)).map_or(0, |spanned| spanned.end)
    }

    /// One level deeper; every way from a rule back to itself passes through here.
    pub(super) fn nested<T>(&mut self, rule: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        if self.depth == MAX_DEPTH {
            return None;
        }
        self.depth += 1;
        let result = rule(self);
        self.depth -= 1;
        result
    }

    /// Inside brackets, where bars of the outside cannot close.
    pub(super) fn bracketed<T>(&mut self, rule: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        let bars = std::mem::take(&mut self.bars);
        let squares = std::mem::take(&mut self.squares);
        let result = self.nested(rule);
        self.bars = bars;
        self.squares = squares;
        result
    }

    /// Items between commas, semicolons, "and" and "or"; the item itself if there is one.
    pub(super) fn list(&mut self) -> Option<Id> {
        let mut items = vec![self.relation()?];
        loop {
            let mut separated = false;
            while matches!(self.peek(), Some(Token::Comma | Token::Semicolon | Token::And)) {
                self.bump();
                separated = true;
            }
            if !separated {
                break;
            }
            if matches!(self.peek(), None | Some(Token::CloseSet)) {
                break;
            }
            items.push(self.relation()?);
            if items.len() > MAX_ITEMS {
                return None;
            }
        }
        if let [only] = items[..] {
            return Some(only);
        }
        let kids = self.tree.run(&items);
        Some(self.tree.push(Node::List(kids)))
    }

    fn relation(&mut self) -> Option<Id> {
        let mut sides = vec![self.side()?];
        let mut signs = Vec::new();
        while let Some(sign) = self.relation_sign() {
            self.bump();
            // `x = \approx 3`, `\not=`: the last sign stands.
            let sign = match self.relation_sign() {
                Some(next) if sign == Relation::Other || next == Relation::Approximately => {
                    self.bump();
                    if next == Relation::Equal { Relation::NotEqual } else { next }
                }
                _ => sign,
            };
            signs.push(sign);
            sides.push(self.side()?);
            if sides.len() > MAX_ITEMS {
                return None;
            }
        }
        if signs.is_empty() {
            return sides.pop();
        }
        let first = u32::try_from(self.tree.relations.len()).ok()?;
        self.tree.relations.extend(signs);
        let sides = self.tree.run(&sides);
        Some(self.tree.push(Node::Chain { sides, first }))
    }

    fn relation_sign(&self) -> Option<Relation> {
        Some(match self.peek()? {
            Token::Equal => Relation::Equal,
            Token::NotEqual => Relation::NotEqual,
            Token::Less => Relation::Less,
            Token::LessEqual => Relation::LessEqual,
            Token::Greater => Relation::Greater,
            Token::GreaterEqual => Relation::GreaterEqual,
            Token::Approximately => Relation::Approximately,
            Token::In => Relation::In,
            Token::Congruent => Relation::Congruent,
            Token::OtherRelation | Token::Not => Relation::Other,
            _ => return None,
        })
    }

    /// One side of a relation: sets joined, and a unit after it.
    fn side(&mut self) -> Option<Id> {
        if matches!(self.peek(), Some(Token::Text(_) | Token::Unit(_))) {
            return self.words();
        }
        let mut left = self.ratio()?;
        while let Some(operation) = match self.peek() {
            Some(Token::Cup) => Some(SetOperation::Union),
            Some(Token::Cap) => Some(SetOperation::Intersection),
            Some(Token::SetMinus) => Some(SetOperation::Difference),
            _ => None,
        } {
            self.bump();
            let right = self.ratio()?;
            let kids = match *self.tree.node(left) {
                Node::SetOperation(same, kids) if same == operation => {
                    let mut items = self.tree.items(kids).to_vec();
                    items.push(right);
                    if items.len() > MAX_ITEMS {
                        return None;
                    }
                    self.tree.run(&items)
                }
                _ => self.tree.run(&[left, right]),
            };
            left = self.tree.push(Node::SetOperation(operation, kids));
        }
        self.unit(left)
    }

    /// Words alone.
    fn words(&mut self) -> Option<Id> {
        let begin = self.at;
        while matches!(self.peek(), Some(Token::Text(_) | Token::Unit(_))) {
            self.bump();
        }
        let words: Vec<&str> = self.tokens[begin..self.at]
            .iter()
            .filter_map(|spanned| match &spanned.token {
                Token::Text(text) | Token::Unit(text) => Some(text.as_str()),
                _ => None,
            })
            .collect();
        let name = self.tree.intern(&words.join(" "));
        Some(self.tree.push(Node::Text(name)))
    }

    /// The unit after a quantity, if any; a remark in round brackets is dropped with it.
    fn unit(&mut self, quantity: Id) -> Option<Id> {
        if !matches!(self.peek(), Some(Token::Text(_) | Token::Unit(_))) {
            return Some(quantity);
        }
        let begin = self.begins();
        if let Some(Token::Text(text)) = self.peek()
            && ["(about", "(approx", "(or about", "(rounded", "(i.e", "(≈"].iter().any(|lead| text.starts_with(lead))
        {
            let closed = |text: &str| text.trim_end_matches('.').ends_with(')');
            while let Some(token) = self.peek() {
                let done = matches!(token, Token::Text(text) | Token::Unit(text) if closed(text))
                    || *token == Token::CloseRound;
                self.bump();
                if done {
                    return Some(quantity);
                }
            }
            return None;
        }
        loop {
            match (self.peek(), self.peek_at(1)) {
                (Some(Token::Text(_) | Token::Unit(_) | Token::Degree), _) => self.bump(),
                (Some(Token::Slash | Token::Times), Some(Token::Text(_) | Token::Unit(_))) => self.bump(),
                (Some(Token::Caret), Some(Token::Number(_) | Token::OpenBrace)) => {
                    self.bump();
                    self.power_argument()?;
                }
                _ => break,
            }
        }
        let name: String = self.text.get(begin..self.ended())?.to_owned();
        if is_hedge(&name) {
            return None;
        }
        let name = self.tree.intern(&name);
        Some(self.tree.push(Node::Unit(quantity, name)))
    }

    fn ratio(&mut self) -> Option<Id> {
        let first = self.modulo()?;
        if self.peek() != Some(&Token::Colon) {
            return Some(first);
        }
        let mut terms = vec![first];
        while self.accept(&Token::Colon) {
            terms.push(self.modulo()?);
            if terms.len() > MAX_ITEMS {
                return None;
            }
        }
        let kids = self.tree.run(&terms);
        Some(self.tree.push(Node::Ratio(kids)))
    }

    fn modulo(&mut self) -> Option<Id> {
        let left = self.sum()?;
        match self.peek() {
            Some(Token::Mod) => {
                self.bump();
                let right = self.sum()?;
                let kids = self.tree.run(&[left, right]);
                Some(self.tree.push(Node::Apply(Function::Mod, kids)))
            }
            Some(Token::ParenMod) => {
                self.bump();
                let right = self.power_argument()?;
                let kids = self.tree.run(&[left, right]);
                let name = self.tree.intern("pmod");
                Some(self.tree.push(Node::Opaque(name, kids)))
            }
            _ => Some(left),
        }
    }

    fn sum(&mut self) -> Option<Id> {
        let mut terms = Vec::new();
        loop {
            let sign = match self.peek() {
                Some(Token::Plus) => Some(1),
                Some(Token::Minus) => Some(-1),
                Some(Token::PlusMinus) => Some(2),
                Some(Token::MinusPlus) => Some(-2),
                _ if terms.is_empty() => Some(0),
                _ => None,
            };
            let Some(sign) = sign else { break };
            if sign != 0 {
                self.bump();
            }
            let term = self.product()?;
            terms.push(match sign {
                -1 => self.negate(term),
                2 => self.tree.push(Node::PlusMinus(term)),
                -2 => self.tree.push(Node::MinusPlus(term)),
                _ => term,
            });
        }
        if let [only] = terms[..] {
            return Some(only);
        }
        if matrix::is_matrix(&self.tree, terms[0]) {
            return matrix::sum(&mut self.tree, &terms);
        }
        if let Some(difference) = self.set_difference(&terms) {
            return Some(difference);
        }
        let kids = self.tree.run(&terms);
        Some(self.tree.push(Node::Sum(kids)))
    }

    /// `ℝ - {1}`: sets have no other difference.
    fn set_difference(&mut self, terms: &[Id]) -> Option<Id> {
        let is_set = |tree: &Tree, id: Id| matches!(tree.node(id), Node::Reals | Node::Braces(_) | Node::NamedSet(_));
        let mut sets = vec![*terms.first()?];
        for &term in &terms[1..] {
            let Node::Negative(inner) = *self.tree.node(term) else { return None };
            sets.push(inner);
        }
        if !sets.iter().all(|&set| is_set(&self.tree, set)) {
            return None;
        }
        let kids = self.tree.run(&sets);
        Some(self.tree.push(Node::SetOperation(SetOperation::Difference, kids)))
    }

    fn negate(&mut self, term: Id) -> Id {
        match matrix::negative(&mut self.tree, term) {
            Some(matrix) => matrix,
            None => self.tree.push(Node::Negative(term)),
        }
    }

    pub(super) fn product(&mut self) -> Option<Id> {
        let mut factors = vec![self.signed()?];
        loop {
            match self.peek() {
                Some(Token::Times) => {
                    self.bump();
                    let factor = self.signed()?;
                    factors.push(factor);
                }
                Some(Token::Slash) => {
                    if matches!(self.peek_at(1), Some(Token::Unit(_) | Token::Text(_))) {
                        break;
                    }
                    self.bump();
                    let divisor = self.signed()?;
                    let dividend = self.join(&factors);
                    factors = vec![match matrix::over(&mut self.tree, dividend, divisor) {
                        Some(matrix) => matrix,
                        None => self.tree.push(Node::Quotient(dividend, divisor)),
                    }];
                }
                Some(Token::Over) => {
                    // `a \over b` divides everything of the group.
                    self.bump();
                    let divisor = self.product()?;
                    let dividend = self.join(&factors);
                    factors = vec![self.tree.push(Node::Quotient(dividend, divisor))];
                }
                Some(Token::Choose) => {
                    self.bump();
                    let bottom = self.product()?;
                    let top = self.join(&factors);
                    let kids = self.tree.run(&[top, bottom]);
                    factors = vec![self.tree.push(Node::Apply(Function::Binomial, kids))];
                }
                Some(_) if self.starts_factor() => {
                    let factor = self.power()?;
                    let call = match (*self.tree.node(*factors.last()?), self.tree.node(factor)) {
                        (Node::Symbol(name), &Node::Tuple { items, .. }) => Some((name, items)),
                        _ => None,
                    };
                    match call {
                        Some((name, items)) => {
                            factors.pop();
                            factors.push(self.tree.push(Node::Opaque(name, items)));
                        }
                        None => factors.push(factor),
                    }
                }
                _ => break,
            }
        }
        Some(self.join(&factors))
    }

    pub(super) fn join(&mut self, factors: &[Id]) -> Id {
        if let [only] = *factors {
            return only;
        }
        if factors.iter().any(|&factor| matrix::is_matrix(&self.tree, factor))
            && let Some(product) = matrix::product(&mut self.tree, factors)
        {
            return product;
        }
        let kids = self.tree.run(factors);
        self.tree.push(Node::Product(kids))
    }

    /// Whether the next token begins a factor that needs no sign of multiplication.
    pub(super) fn starts_factor(&self) -> bool {
        match self.peek() {
            Some(Token::Number(_)) => !matches!(
                self.at.checked_sub(1).and_then(|at| self.tokens.get(at)).map(|last| &last.token),
                Some(Token::Number(_))
            ),
            Some(
                Token::Symbol(_)
                | Token::Function(_)
                | Token::Operator(_)
                | Token::OpenRound
                | Token::OpenBrace
                | Token::OpenBar
                | Token::OpenFloor
                | Token::OpenCeil
                | Token::Frac
                | Token::Binomial
                | Token::Sqrt
                | Token::Sum
                | Token::Prod
                | Token::Structural(_)
                | Token::Pi
                | Token::Infinity
                | Token::Begin(_),
            ) => true,
            Some(Token::OpenSquare) => self.squares == 0 && !self.spaced(),
            Some(Token::Bar) => self.bars == 0,
            _ => false,
        }
    }

    /// Signs before a factor.
    pub(super) fn signed(&mut self) -> Option<Id> {
        let mut negative = false;
        loop {
            match self.peek() {
                Some(Token::Minus) => negative = !negative,
                Some(Token::Plus) => {}
                Some(Token::PlusMinus) => {
                    self.bump();
                    let inner = self.nested(Self::signed)?;
                    let both = self.tree.push(Node::PlusMinus(inner));
                    return Some(if negative { self.tree.push(Node::Negative(both)) } else { both });
                }
                _ => break,
            }
            self.bump();
        }
        let factor = self.power()?;
        Some(if negative { self.negate(factor) } else { factor })
    }

    pub(super) fn bind(&mut self, name: &str) {
        self.bound.push(name.to_owned());
    }

    pub(super) fn unbind(&mut self) {
        self.bound.pop();
    }

    pub(super) fn is_bound(&self, name: &str) -> bool {
        self.bound.iter().any(|bound| bound == name)
    }

    pub(super) fn number(&mut self, literal: Literal) -> Id {
        self.tree.literal(literal)
    }
}

/// Whether words after a quantity take it back or offer another: no unit does.
fn is_hedge(words: &str) -> bool {
    let mut words = words.split(|part: char| !part.is_alphanumeric()).filter(|word| !word.is_empty());
    words.any(|word| {
        let lower = word.to_lowercase();
        let number = lower.len() > 1 && lower.bytes().all(|byte| byte.is_ascii_digit());
        number || matches!(lower.as_str(), "or" | "not" | "maybe" | "either" | "but" | "else" | "perhaps" | "and")
    })
}

/// Rows of `aligned` and the like are items of a list, and their alignment says nothing.
fn flatten_alignment(tokens: &mut Vec<Spanned>) {
    let aligned = |name: &str| matches!(name, "align" | "aligned" | "gather" | "gathered" | "split" | "equation");
    let mut open: Vec<bool> = Vec::new();
    tokens.retain_mut(|spanned| match &spanned.token {
        Token::Begin(name) => {
            let flat = aligned(name);
            open.push(flat);
            !flat
        }
        Token::End(_) => !open.pop().unwrap_or(false),
        Token::Cell => !open.last().copied().unwrap_or(false),
        Token::Row if open.last() == Some(&true) => {
            spanned.token = Token::Semicolon;
            true
        }
        _ => true,
    });
}
