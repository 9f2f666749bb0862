//! The parser's brackets: groups, tuples and intervals, bars, matrices, cases.

use super::matrix;
use super::parse::Parser;
use super::token::Token;
use super::tree::{Edge, Id, Node};

/// Cells of one matrix.
const MAX_CELLS: usize = 400;
/// Rows of cases.
const MAX_ROWS: usize = 64;

impl Parser<'_> {
    /// `{…}`: its content, or a set if it holds a list.
    pub(super) fn group(&mut self) -> Option<Id> {
        self.expect(&Token::OpenBrace)?;
        let inner = self.bracketed(Self::list)?;
        self.expect(&Token::CloseBrace)?;
        match *self.tree.node(inner) {
            Node::List(kids) => Some(self.tree.push(Node::Braces(kids))),
            _ => Some(inner),
        }
    }

    pub(super) fn between_bars(&mut self, close: &Token) -> Option<Id> {
        let inner = if *close == Token::Bar {
            self.bars += 1;
            let inner = self.nested(Self::list);
            self.bars -= 1;
            inner?
        } else {
            self.bracketed(Self::list)?
        };
        self.expect(close)?;
        Some(inner)
    }

    /// After an opening bracket: an interval or a tuple, or what it holds.
    pub(super) fn brackets(&mut self, open: Edge, square: bool) -> Option<Id> {
        let inner = self.bracketed(|parser| {
            parser.squares = usize::from(square);
            parser.list()
        })?;
        let (close, same) = match self.peek()? {
            Token::CloseRound => (Edge::Open, !square),
            Token::CloseSquare => (Edge::Closed, square),
            Token::OpenSquare => (Edge::Open, false),
            Token::CloseAngle => (Edge::Angle, open == Edge::Angle),
            _ => return None,
        };
        self.bump();
        let items = match *self.tree.node(inner) {
            Node::List(kids) => kids,
            _ if same => return Some(inner),
            _ => self.tree.run(&[inner]),
        };
        Some(self.tree.push(Node::Tuple { open, close, items }))
    }

    pub(super) fn matrix(&mut self, environment: &str) -> Option<Id> {
        let mut cells = Vec::new();
        let mut rows = 0_u32;
        let mut width = None;
        loop {
            if let Some(Token::End(_)) = self.peek() {
                break;
            }
            let begin = cells.len();
            loop {
                cells.push(self.bracketed(Self::list)?);
                if cells.len() > MAX_CELLS {
                    return None;
                }
                if !self.accept(&Token::Cell) {
                    break;
                }
            }
            rows += 1;
            let found = cells.len() - begin;
            if *width.get_or_insert(found) != found {
                return None;
            }
            if !self.accept(&Token::Row) {
                break;
            }
        }
        let Some(Token::End(end)) = self.peek() else { return None };
        if end != environment || cells.is_empty() {
            return None;
        }
        self.bump();
        let cells = self.tree.run(&cells);
        let made = self.tree.push(Node::Matrix { rows, cells });
        if environment == "vmatrix" {
            return matrix::determinant(&mut self.tree, made);
        }
        Some(made)
    }

    /// `\begin{cases}`: its rows in any order, each as its cells.
    pub(super) fn cases(&mut self) -> Option<Id> {
        let mut rows = Vec::new();
        while !matches!(self.peek(), Some(Token::End(_))) {
            let mut cells = vec![self.bracketed(Self::list)?];
            while self.accept(&Token::Cell) {
                cells.push(self.bracketed(Self::list)?);
            }
            rows.push(match cells[..] {
                [only] => only,
                _ => {
                    let items = self.tree.run(&cells);
                    self.tree.push(Node::Tuple { open: Edge::Angle, close: Edge::Angle, items })
                }
            });
            if rows.len() > MAX_ROWS || !self.accept(&Token::Row) {
                break;
            }
        }
        let Some(Token::End(_)) = self.peek() else { return None };
        self.bump();
        let kids = self.tree.run(&rows);
        Some(self.tree.push(Node::Braces(kids)))
    }
}
