//! Arithmetic of matrices while they are parsed: the result is a matrix of expressions.

use super::parse::Parser;
use super::tree::{Id, Kids, Node, Tree};

/// Cells of a product; each is a sum of products.
const MAX_CELLS: usize = 100;

fn as_matrix(tree: &Tree, id: Id) -> Option<(usize, usize, Vec<Id>)> {
    let Node::Matrix { rows, cells } = *tree.node(id) else { return None };
    let cells: Vec<Id> = tree.items(cells).to_vec();
    let rows = rows as usize;
    let columns = cells.len().checked_div(rows)?;
    Some((rows, columns, cells))
}

/// Whether a node is a matrix.
pub(super) fn is_matrix(tree: &Tree, id: Id) -> bool {
    matches!(tree.node(id), Node::Matrix { .. })
}

fn build(tree: &mut Tree, rows: usize, cells: &[Id]) -> Option<Id> {
    let rows = u32::try_from(rows).ok()?;
    let cells: Kids = tree.run(cells);
    Some(tree.push(Node::Matrix { rows, cells }))
}

/// Every cell of a matrix, changed.
fn map(tree: &mut Tree, id: Id, change: impl Fn(&mut Tree, Id) -> Id) -> Option<Id> {
    let (rows, _, cells) = as_matrix(tree, id)?;
    let cells: Vec<Id> = cells.into_iter().map(|cell| change(tree, cell)).collect();
    build(tree, rows, &cells)
}

pub(super) fn negative(tree: &mut Tree, id: Id) -> Option<Id> {
    map(tree, id, |tree, cell| tree.push(Node::Negative(cell)))
}

pub(super) fn over(tree: &mut Tree, id: Id, divisor: Id) -> Option<Id> {
    map(tree, id, |tree, cell| tree.push(Node::Quotient(cell, divisor)))
}

/// The sum of matrices of one shape.
pub(super) fn sum(tree: &mut Tree, terms: &[Id]) -> Option<Id> {
    let (rows, columns, mut total) = as_matrix(tree, *terms.first()?)?;
    for &term in &terms[1..] {
        let (other_rows, other_columns, cells) = as_matrix(tree, term)?;
        if (rows, columns) != (other_rows, other_columns) || cells.len() > MAX_CELLS {
            return None;
        }
        for (left, right) in total.iter_mut().zip(cells) {
            let kids = tree.run(&[*left, right]);
            *left = tree.push(Node::Sum(kids));
        }
    }
    build(tree, rows, &total)
}

/// The product of numbers and matrices, in order.
pub(super) fn product(tree: &mut Tree, factors: &[Id]) -> Option<Id> {
    let mut total: Option<Id> = None;
    for &factor in factors {
        let Some(left) = total else {
            total = Some(factor);
            continue;
        };
        total = Some(match (as_matrix(tree, left), as_matrix(tree, factor)) {
            (Some(left), Some(right)) => multiply(tree, left, right)?,
            (Some(_), None) => scale(tree, left, factor)?,
            (None, Some(_)) => scale(tree, factor, left)?,
            (None, None) => {
                let kids = tree.run(&[left, factor]);
                tree.push(Node::Product(kids))
            }
        });
    }
    total
}

fn scale(tree: &mut Tree, matrix: Id, factor: Id) -> Option<Id> {
    map(tree, matrix, |tree, cell| {
        let kids = tree.run(&[factor, cell]);
        tree.push(Node::Product(kids))
    })
}

fn multiply(tree: &mut Tree, left: (usize, usize, Vec<Id>), right: (usize, usize, Vec<Id>)) -> Option<Id> {
    let ((rows, inner, left), (other, columns, right)) = (left, right);
    if inner != other || rows * columns * inner > 10 * MAX_CELLS {
        return None;
    }
    let mut cells = Vec::new();
    for row in 0..rows {
        for column in 0..columns {
            let terms: Vec<Id> = (0..inner)
                .map(|at| {
                    let kids = tree.run(&[left[row * inner + at], right[at * columns + column]]);
                    tree.push(Node::Product(kids))
                })
                .collect();
            cells.push(match terms[..] {
                [only] => only,
                _ => {
                    let kids = tree.run(&terms);
                    tree.push(Node::Sum(kids))
                }
            });
        }
    }
    if let [only] = cells[..] {
        return Some(only);
    }
    build(tree, rows, &cells)
}

/// The transpose.
pub(super) fn transpose(tree: &mut Tree, id: Id) -> Option<Id> {
    let (rows, columns, cells) = as_matrix(tree, id)?;
    let turned: Vec<Id> = (0..columns)
        .flat_map(|column| (0..rows).map(move |row| (row, column)))
        .map(|(row, column)| cells[row * columns + column])
        .collect();
    build(tree, columns, &turned)
}

/// The determinant of a square matrix of up to four rows, along its first row.
pub(super) fn determinant(tree: &mut Tree, id: Id) -> Option<Id> {
    let (rows, columns, cells) = as_matrix(tree, id)?;
    if rows != columns || rows > 4 {
        return None;
    }
    minor(tree, rows, &cells)
}

fn minor(tree: &mut Tree, size: usize, cells: &[Id]) -> Option<Id> {
    if size == 1 {
        return cells.first().copied();
    }
    let mut terms = Vec::new();
    for column in 0..size {
        let rest: Vec<Id> = (1..size)
            .flat_map(|row| (0..size).filter(move |&at| at != column).map(move |at| row * size + at))
            .map(|at| cells[at])
            .collect();
        let cofactor = minor(tree, size - 1, &rest)?;
        let kids = tree.run(&[cells[column], cofactor]);
        let term = tree.push(Node::Product(kids));
        terms.push(if column % 2 == 1 { tree.push(Node::Negative(term)) } else { term });
    }
    let kids = tree.run(&terms);
    Some(tree.push(Node::Sum(kids)))
}

impl Parser<'_> {
    /// A power of a matrix: whole, small and positive, or the transpose.
    pub(super) fn matrix_power(&mut self, base: Id, exponent: Id) -> Option<Id> {
        if let Node::Symbol(name) = *self.tree.node(exponent)
            && matches!(self.tree.name(name), "T" | "top")
        {
            return transpose(&mut self.tree, base);
        }
        let count = self.tree.as_literal(exponent).filter(|literal| literal.value.is_integer())?;
        let count: usize = count.value.to_integer().try_into().ok().filter(|count| (1..=8).contains(count))?;
        product(&mut self.tree, &vec![base; count])
    }
}
