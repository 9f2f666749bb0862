//! What kind of answer an expression is: a number, a list, a set, an interval, a relation, a text.

use super::evaluate::Branch;
use super::tree::{Edge, Function, Id, Kids, Node, Relation, SetOperation, Tree};

/// Shapes inside one another.
const MAX_DEPTH: usize = 32;

/// An answer's shape; numbers and expressions are references into the tree.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Value {
    Scalar(Scalar),
    /// Without brackets, without order.
    List(Vec<Value>),
    /// In braces: without order or repeats.
    Set(Vec<Value>),
    Tuple {
        open: Edge,
        close: Edge,
        items: Vec<Value>,
    },
    Operation(SetOperation, Vec<Value>),
    Reals,
    NamedSet(u32),
    Matrix {
        rows: u32,
        cells: Vec<Id>,
    },
    Relation {
        sides: Vec<Side>,
        signs: Vec<Relation>,
    },
    Based(Id, Id),
    Ratio(Vec<Id>),
    Text(u32),
    Ellipsis,
}

/// One side of a relation: as a shape, and as an expression.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Side {
    pub(crate) value: Value,
    pub(crate) scalar: Scalar,
}

/// A number or an expression.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Scalar {
    pub(crate) id: Id,
    pub(crate) branch: Branch,
}

/// The shape of a node.
pub(crate) fn shape(tree: &Tree, root: Id) -> Option<Value> {
    let mut shaper = Shaper { tree, left: 4096 };
    let mut values = shaper.both(root, 0)?;
    Some(if values.len() == 1 { values.pop()? } else { Value::List(values) })
}

struct Shaper<'a> {
    tree: &'a Tree,
    /// Shapes that may still be made: `±` doubles what it stands in.
    left: usize,
}

impl Shaper<'_> {
    /// One value, or two where a `±` stands in it.
    fn both(&mut self, id: Id, depth: usize) -> Option<Vec<Value>> {
        if let Node::List(kids) = *self.tree.node(id) {
            let items = self.items(kids, depth)?;
            return Some(vec![Value::List(items)]);
        }
        if let Node::Braces(_) = *self.tree.node(id) {
            return Some(vec![self.one(id, Branch::Plus, depth)?]);
        }
        if self.is_double(id) {
            return Some(vec![self.one(id, Branch::Plus, depth)?, self.one(id, Branch::Minus, depth)?]);
        }
        Some(vec![self.one(id, Branch::Plus, depth)?])
    }

    /// Whether a `±` stands in it, outside of collections, which expand their own.
    fn is_double(&self, root: Id) -> bool {
        let mut marks = vec![false; root as usize + 1];
        marks[root as usize] = true;
        for id in
            (0..=root).rev().filter(|&id| id == root || !matches!(self.tree.node(id), Node::List(_) | Node::Braces(_)))
        {
            if !marks[id as usize] {
                continue;
            }
            if matches!(self.tree.node(id), Node::PlusMinus(_) | Node::MinusPlus(_)) {
                return true;
            }
            self.tree.each_child(id, |kid| marks[kid as usize] = true);
        }
        false
    }

    fn items(&mut self, kids: Kids, depth: usize) -> Option<Vec<Value>> {
        let mut values = Vec::new();
        for &item in self.tree.items(kids) {
            values.extend(self.both(item, depth + 1)?);
        }
        Some(values)
    }

    fn one(&mut self, id: Id, branch: Branch, depth: usize) -> Option<Value> {
        self.left = self.left.checked_sub(1)?;
        if depth > MAX_DEPTH {
            return None;
        }
        let tree = self.tree;
        let each = |shaper: &mut Self, kids: Kids| -> Option<Vec<Value>> {
            tree.items(kids).iter().map(|&item| shaper.one(item, branch, depth + 1)).collect()
        };
        Some(match *tree.node(id) {
            Node::List(kids) => Value::List(self.items(kids, depth)?),
            Node::Braces(kids) => Value::Set(self.items(kids, depth)?),
            Node::Tuple { open, close, items } => Value::Tuple { open, close, items: each(self, items)? },
            Node::SetOperation(operation, kids) => Value::Operation(operation, each(self, kids)?),
            Node::Reals => Value::Reals,
            Node::NamedSet(name) => Value::NamedSet(name),
            Node::Matrix { rows, cells } => Value::Matrix { rows, cells: tree.items(cells).to_vec() },
            Node::Chain { sides, first } => {
                let signs = tree.signs(sides, first).to_vec();
                let sides: Option<Vec<Side>> = tree
                    .items(sides)
                    .iter()
                    .map(|&side| {
                        Some(Side { value: self.one(side, branch, depth + 1)?, scalar: Scalar { id: side, branch } })
                    })
                    .collect();
                Value::Relation { sides: sides?, signs }
            }
            Node::Based(digits, base) => Value::Based(digits, base),
            Node::Ratio(kids) => Value::Ratio(tree.items(kids).to_vec()),
            Node::Text(name) => Value::Text(name),
            Node::Ellipsis => Value::Ellipsis,
            _ => {
                // Shapes inside an expression have no value.
                let odd = |node: &Node| {
                    matches!(
                        node,
                        Node::List(_)
                            | Node::SetOperation(..)
                            | Node::Chain { .. }
                            | Node::Text(_)
                            | Node::Matrix { .. }
                    )
                };
                if tree.any(id, odd) {
                    return None;
                }
                Value::Scalar(Scalar { id, branch })
            }
        })
    }
}

/// Whether an expression only names a quantity: `x`, `f(x)`, `a_n`, `|AB|`, `AB/CD`, `∠ABC`.
pub(crate) fn is_name(tree: &Tree, id: Id) -> bool {
    match *tree.node(id) {
        Node::Symbol(_) | Node::Text(_) => true,
        Node::Opaque(name, _) => !tree.name(name).starts_with(['\'', '!']) && tree.name(name) != "pmod",
        Node::Product(kids) => {
            let items = tree.items(kids);
            // `AB`, `\angle A`, `f(x)`: symbols alone, the first of them a capital or a function's name.
            let symbols = items.iter().all(|&item| matches!(tree.node(item), Node::Symbol(_)));
            let capital = |id: Id| match *tree.node(id) {
                Node::Symbol(name) => {
                    let name = tree.name(name);
                    name.starts_with(|first: char| first.is_uppercase()) || name.len() > 1
                }
                _ => false,
            };
            let function = items.len() == 2
                && matches!(tree.node(items[0]), Node::Symbol(_))
                && !tree.any(items[1], |node| matches!(node, Node::Sum(_) | Node::Apply(..)));
            (symbols && items.iter().any(|&item| capital(item))) || function
        }
        // `|AB|` and `\cos A`, but neither `|x|` nor `\ln x`, which would leave x unsolved.
        Node::Apply(function, kids) if function == Function::Abs || function.takes_angle() => {
            tree.items(kids).iter().all(|&item| match *tree.node(item) {
                Node::Symbol(name) => {
                    let name = tree.name(name);
                    name.starts_with(|first: char| first.is_uppercase()) || (name.len() > 1 && !name.contains('_'))
                }
                _ => is_segment(tree, item),
            })
        }
        Node::Quotient(top, bottom) => is_segment(tree, top) && is_segment(tree, bottom),
        Node::Ratio(kids) | Node::Tuple { items: kids, .. } => {
            tree.items(kids).iter().all(|&item| is_name_inside(tree, item))
        }
        _ => false,
    }
}

fn is_name_inside(tree: &Tree, id: Id) -> bool {
    match *tree.node(id) {
        Node::Symbol(_) => true,
        Node::Product(kids) => tree.items(kids).iter().all(|&item| matches!(tree.node(item), Node::Symbol(_))),
        _ => false,
    }
}

/// `AB`: two or more capitals.
fn is_segment(tree: &Tree, id: Id) -> bool {
    match *tree.node(id) {
        Node::Product(kids) => tree.items(kids).iter().all(|&item| match *tree.node(item) {
            Node::Symbol(name) => tree.name(name).starts_with(|first: char| first.is_uppercase()),
            _ => false,
        }),
        _ => false,
    }
}
