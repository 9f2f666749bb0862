//! Sets of real numbers as unions of intervals: what `∪`, `∩`, `∖` and inequalities in one variable make.

use std::cmp::Ordering;

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{Signed, Zero};

use super::evaluate::{Branch, Evaluator};
use super::exact::{self, Exact};
use super::scalar::{Judge, Match, Operand};
use super::tree::{Edge, Function, Id, Literal, Node, Relation, SetOperation, Tree};
use super::value::{Scalar, Value};

/// Intervals of one region.
const MAX_SPANS: usize = 64;

/// An end of an interval.
#[derive(Clone, Copy)]
pub(crate) enum End<'a> {
    Below,
    At(Operand<'a>),
    Above,
}

/// An interval; a point is an interval with equal, closed ends.
#[derive(Clone, Copy)]
pub(crate) struct Span<'a> {
    low: End<'a>,
    high: End<'a>,
    low_closed: bool,
    high_closed: bool,
}

/// Disjoint intervals in order, none touching the next.
pub(crate) type Region<'a> = Vec<Span<'a>>;

/// The ends of a span in the tree, none for infinity, and whether each is closed.
type EndPair = (Option<Scalar>, Option<Scalar>, bool, bool);
/// Spans by their ends in the tree.
type Ends = Vec<EndPair>;

/// An inequality solved for its one variable: pairs of ends, as numbers of the tree.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Solved {
    spans: Ends,
}

/// The region that a shape is; none if it is none, or its ends cannot be ordered.
pub(crate) fn region<'a>(judge: &mut Judge<'_>, tree: &'a Tree, value: &Value) -> Option<Region<'a>> {
    match value {
        Value::Reals => Some(vec![Span { low: End::Below, high: End::Above, low_closed: false, high_closed: false }]),
        Value::Tuple { open, close, items } => {
            let [Value::Scalar(low), Value::Scalar(high)] = items[..] else { return None };
            if *open == Edge::Angle || *close == Edge::Angle {
                return None;
            }
            let span = Span {
                low: end(tree, low),
                high: end(tree, high),
                low_closed: *open == Edge::Closed,
                high_closed: *close == Edge::Closed,
            };
            // `(2, -3)` is a point of the plane, not an empty interval.
            if order(judge, span.low, span.high)? == Ordering::Greater {
                return None;
            }
            union(judge, vec![span])
        }
        Value::Set(items) | Value::List(items) => {
            let mut spans = Vec::new();
            for item in items {
                match item {
                    Value::Scalar(scalar) => {
                        let at = End::At(Operand::new(tree, *scalar));
                        spans.push(Span { low: at, high: at, low_closed: true, high_closed: true });
                    }
                    // A bare list of intervals is their union.
                    Value::Tuple { .. } if matches!(value, Value::List(_)) => {
                        spans.extend(region(judge, tree, item)?);
                    }
                    _ => return None,
                }
            }
            union(judge, spans)
        }
        Value::Operation(operation, parts) => {
            let mut total = region(judge, tree, parts.first()?)?;
            for part in &parts[1..] {
                let part = region(judge, tree, part)?;
                if total.len() + part.len() > MAX_SPANS {
                    return None;
                }
                total = match operation {
                    // Put in order once, below.
                    SetOperation::Union => {
                        total.extend(part);
                        continue;
                    }
                    SetOperation::Intersection => intersection(judge, &total, &part)?,
                    SetOperation::Difference => {
                        let outside = complement(&part);
                        intersection(judge, &total, &outside)?
                    }
                };
            }
            union(judge, total)
        }
        Value::Relation { sides, signs } if signs[..] == [Relation::In] => region(judge, tree, &sides[1].value),
        _ => None,
    }
}

/// The region of a solved inequality.
pub(crate) fn of_solved<'a>(judge: &mut Judge<'_>, tree: &'a Tree, solved: &Solved) -> Option<Region<'a>> {
    let spans = solved
        .spans
        .iter()
        .map(|&(low, high, low_closed, high_closed)| Span {
            low: low.map_or(End::Below, |low| end(tree, low)),
            high: high.map_or(End::Above, |high| end(tree, high)),
            low_closed,
            high_closed,
        })
        .collect();
    union(judge, spans)
}

fn end(tree: &Tree, scalar: Scalar) -> End<'_> {
    match *tree.node(scalar.id) {
        Node::Infinity => End::Above,
        Node::Negative(inner) if *tree.node(inner) == Node::Infinity => End::Below,
        _ => End::At(Operand::new(tree, scalar)),
    }
}

fn order(judge: &mut Judge<'_>, left: End<'_>, right: End<'_>) -> Option<Ordering> {
    judge.budget.take(20)?;
    Some(match (left, right) {
        (End::Below, End::Below) | (End::Above, End::Above) => Ordering::Equal,
        (End::Below, _) | (_, End::Above) => Ordering::Less,
        (_, End::Below) | (End::Above, _) => Ordering::Greater,
        (End::At(left), End::At(right)) => {
            if judge.quantities(left, right) == Match::Yes {
                Ordering::Equal
            } else {
                judge.order(left, right)?
            }
        }
    })
}

/// Spans in order, joined where they meet; empty ones are dropped.
fn union<'a>(judge: &mut Judge<'_>, spans: Vec<Span<'a>>) -> Option<Region<'a>> {
    if spans.len() > MAX_SPANS {
        return None;
    }
    let mut sorted: Vec<Span<'a>> = Vec::new();
    for span in spans {
        match order(judge, span.low, span.high)? {
            Ordering::Greater => continue,
            Ordering::Equal if !(span.low_closed && span.high_closed) => continue,
            _ => {}
        }
        let mut at = 0;
        while at < sorted.len() {
            match order(judge, sorted[at].low, span.low)? {
                Ordering::Less => at += 1,
                Ordering::Equal if sorted[at].low_closed => at += 1,
                _ => break,
            }
        }
        sorted.insert(at, span);
    }
    let mut joined: Region<'a> = Vec::new();
    for span in sorted {
        let Some(last) = joined.last_mut() else {
            joined.push(span);
            continue;
        };
        let touches = match order(judge, last.high, span.low)? {
            Ordering::Greater => true,
            Ordering::Equal => last.high_closed || span.low_closed,
            Ordering::Less => false,
        };
        if !touches {
            joined.push(span);
            continue;
        }
        match order(judge, last.high, span.high)? {
            Ordering::Less => {
                last.high = span.high;
                last.high_closed = span.high_closed;
            }
            Ordering::Equal => last.high_closed |= span.high_closed,
            Ordering::Greater => {}
        }
    }
    Some(joined)
}

fn intersection<'a>(judge: &mut Judge<'_>, left: &[Span<'a>], right: &[Span<'a>]) -> Option<Region<'a>> {
    let mut spans = Vec::new();
    for a in left {
        for b in right {
            let (low, low_closed) = match order(judge, a.low, b.low)? {
                Ordering::Less => (b.low, b.low_closed),
                Ordering::Greater => (a.low, a.low_closed),
                Ordering::Equal => (a.low, a.low_closed && b.low_closed),
            };
            let (high, high_closed) = match order(judge, a.high, b.high)? {
                Ordering::Less => (a.high, a.high_closed),
                Ordering::Greater => (b.high, b.high_closed),
                Ordering::Equal => (a.high, a.high_closed && b.high_closed),
            };
            spans.push(Span { low, high, low_closed, high_closed });
        }
    }
    union(judge, spans)
}

/// What a region leaves of the line.
fn complement<'a>(region: &[Span<'a>]) -> Region<'a> {
    let mut spans = Vec::new();
    let (mut low, mut low_closed) = (End::Below, false);
    for span in region {
        if !matches!(span.low, End::Below) {
            spans.push(Span { low, high: span.low, low_closed, high_closed: !span.low_closed });
        }
        (low, low_closed) = (span.high, !span.high_closed);
    }
    if !matches!(low, End::Above) {
        spans.push(Span { low, high: End::Above, low_closed, high_closed: false });
    }
    spans
}

/// Whether two regions are the same set.
pub(crate) fn same(judge: &mut Judge<'_>, gold: &[Span<'_>], prediction: &[Span<'_>]) -> Match {
    if gold.len() != prediction.len() {
        return Match::No;
    }
    for (a, b) in gold.iter().zip(prediction) {
        if (a.low_closed, a.high_closed) != (b.low_closed, b.high_closed) {
            return Match::No;
        }
        for (left, right) in [(a.low, b.low), (a.high, b.high)] {
            let same = match (left, right) {
                (End::Below, End::Below) | (End::Above, End::Above) => Match::Yes,
                (End::At(left), End::At(right)) => judge.quantities(left, right),
                _ => Match::No,
            };
            if same != Match::Yes {
                return same;
            }
        }
    }
    Match::Yes
}

/// Solves an inequality, or several in one variable: all of them if they meet, else any of them.
///
/// `x > 2, x < 5` and `x < -2 or x > 2` are both written with a comma as often as with a word.
pub(crate) fn solve_value(tree: &mut Tree, value: &Value, judge: &mut Judge<'_>) -> Option<Solved> {
    let mut one = |value: &Value| match value {
        Value::Relation { sides, signs } => {
            let sides: Vec<Scalar> = sides.iter().map(|side| side.scalar).collect();
            solve(tree, &sides, signs, judge)
        }
        _ => None,
    };
    let Value::List(items) = value else { return one(value) };
    if items.len() > 4 {
        return None;
    }
    let parts: Option<Vec<Solved>> = items.iter().map(&mut one).collect();
    let parts = parts?;
    let mut names: Vec<&str> = Vec::new();
    for item in items {
        if let Value::Relation { sides, .. } = item {
            names.extend(sides.iter().flat_map(|side| tree.symbols(side.scalar.id)));
        }
    }
    names.dedup();
    if names.len() != 1 {
        return None;
    }
    let mut all: Option<Region<'_>> = None;
    let mut any: Region<'_> = Vec::new();
    for part in &parts {
        let region = of_solved(judge, tree, part)?;
        all = Some(match all {
            Some(known) => intersection(judge, &known, &region)?,
            None => region.clone(),
        });
        any.extend(region);
    }
    let region = match all {
        Some(all) if !all.is_empty() => all,
        _ => union(judge, any)?,
    };
    Some(Solved { spans: region.iter().map(ends).collect() })
}

/// A span as ends in the tree.
fn ends(span: &Span<'_>) -> EndPair {
    let at = |end: End<'_>| match end {
        End::At(operand) => Some(Scalar { id: operand.id, branch: operand.branch }),
        _ => None,
    };
    (at(span.low), at(span.high), span.low_closed, span.high_closed)
}

/// Solves a chain of inequalities in one variable; each link is `x`, `|x|`, linear or quadratic against a
/// constant, and all hold together.
fn solve(tree: &mut Tree, sides: &[Scalar], signs: &[Relation], judge: &mut Judge<'_>) -> Option<Solved> {
    use Relation::{Greater, GreaterEqual, Less, LessEqual, NotEqual};
    if !signs.iter().all(|sign| matches!(sign, Less | LessEqual | Greater | GreaterEqual | NotEqual)) || signs.len() > 3
    {
        return None;
    }
    let mut variable = None;
    for side in sides {
        for name in tree.symbols(side.id) {
            if *variable.get_or_insert(name.to_owned()) != name {
                return None;
            }
        }
    }
    let variable = variable?;
    let mut total: Option<Ends> = None;
    for (pair, &sign) in sides.windows(2).zip(signs) {
        let link = link(tree, pair[0].id, pair[1].id, sign, &variable, judge)?;
        super::exact::fill(tree, judge.budget);
        total = Some(match total {
            None => link,
            Some(known) => {
                let left = of_solved(judge, tree, &Solved { spans: known })?;
                let right = of_solved(judge, tree, &Solved { spans: link })?;
                let both = intersection(judge, &left, &right)?;
                both.iter().map(ends).collect()
            }
        });
    }
    Some(Solved { spans: total? })
}

fn link(tree: &mut Tree, left: Id, right: Id, sign: Relation, variable: &str, judge: &mut Judge<'_>) -> Option<Ends> {
    use Relation::{Greater, GreaterEqual, Less, LessEqual, NotEqual};
    let free = |tree: &Tree, id: Id| tree.symbols(id).is_empty();
    let flipped = match sign {
        Less => Greater,
        LessEqual => GreaterEqual,
        Greater => Less,
        GreaterEqual => LessEqual,
        other => other,
    };
    let (side, bound, sign) = match (free(tree, left), free(tree, right)) {
        (false, true) => (left, right, sign),
        (true, false) => (right, left, flipped),
        _ => return quadratic(tree, left, right, sign, variable, judge),
    };
    let closed = matches!(sign, LessEqual | GreaterEqual);
    let at = |id: Id| Some(Scalar { id, branch: Branch::Plus });
    if matches!(*tree.node(side), Node::Symbol(_)) {
        return Some(match sign {
            Less | LessEqual => vec![(None, at(bound), false, closed)],
            Greater | GreaterEqual => vec![(at(bound), None, closed, false)],
            _ => vec![(None, at(bound), false, false), (at(bound), None, false, false)],
        });
    }
    if let Node::Apply(Function::Abs, kids) = *tree.node(side)
        && let [inner] = *tree.items(kids)
        && matches!(tree.node(inner), Node::Symbol(_))
        && tree.exact.get(bound as usize).and_then(Option::as_ref).is_some_and(|bound| !bound.is_negative())
    {
        let negative = tree.push(Node::Negative(bound));
        return Some(match sign {
            Less | LessEqual => vec![(at(negative), at(bound), closed, closed)],
            Greater | GreaterEqual => vec![(None, at(negative), false, closed), (at(bound), None, closed, false)],
            NotEqual => return None,
            _ => return None,
        });
    }
    quadratic(tree, left, right, if side == left { sign } else { flipped_back(sign) }, variable, judge)
}

fn flipped_back(sign: Relation) -> Relation {
    use Relation::{Greater, GreaterEqual, Less, LessEqual};
    match sign {
        Less => Greater,
        LessEqual => GreaterEqual,
        Greater => Less,
        GreaterEqual => LessEqual,
        other => other,
    }
}

/// `left − right` as a polynomial of degree one or two with rational coefficients, by its values at four places.
fn quadratic(
    tree: &mut Tree,
    left: Id,
    right: Id,
    sign: Relation,
    variable: &str,
    judge: &mut Judge<'_>,
) -> Option<Ends> {
    use Relation::{Greater, GreaterEqual, Less, LessEqual};
    let name = tree.intern(variable);
    let mut values = Vec::new();
    for at in 0..5 {
        let mut value = |id: Id| {
            let mut arithmetic = Exact;
            let mut evaluator = Evaluator::new(tree, &mut arithmetic, Branch::Plus, judge.budget);
            evaluator.bind(name, BigInt::from(at));
            evaluator.value(id)
        };
        let (left, right) = (value(left)?, value(right)?);
        if left.numer().bits().max(left.denom().bits()).max(right.numer().bits()).max(right.denom().bits()) > 256 {
            return None;
        }
        values.push(left - right);
    }
    let differences =
        |values: &[BigRational]| -> Vec<BigRational> { values.windows(2).map(|pair| &pair[1] - &pair[0]).collect() };
    let first = differences(&values);
    let second = differences(&first);
    if !differences(&second).iter().all(Zero::is_zero) {
        return None;
    }
    let two = BigRational::from_integer(BigInt::from(2));
    // a x² + b x + c.
    let a = &second[0] / &two;
    let b = &first[0] - &a;
    let c = values[0].clone();
    let below = matches!(sign, Less | LessEqual);
    if !below && !matches!(sign, Greater | GreaterEqual) {
        return None;
    }
    let closed = matches!(sign, LessEqual | GreaterEqual);
    let mut number = |value: BigRational| {
        let id = tree.literal(Literal { value, places: None, digits: 1, written: 1 });
        Scalar { id, branch: Branch::Plus }
    };
    if a.is_zero() {
        if b.is_zero() {
            return None;
        }
        let root = number(-c / &b);
        return Some(if below == b.is_positive() {
            vec![(None, Some(root), false, closed)]
        } else {
            vec![(Some(root), None, closed, false)]
        });
    }
    let four = &two * &two;
    let discriminant = &b * &b - four * &a * &c;
    if !discriminant.is_positive() {
        return None;
    }
    let middle = -&b / (&two * &a);
    let half = match exact::root(&discriminant, 2) {
        Some(root) => {
            let offset = (root / (&two * &a)).abs();
            [number(&middle - &offset), number(&middle + &offset)]
        }
        None => {
            // middle ± √(discriminant / 4a²).
            let inside = discriminant / (&two * &a * &two * &a);
            let (middle, inside) = (number(middle).id, number(inside).id);
            let kids = tree.run(&[inside]);
            let root = tree.push(Node::Apply(Function::Root, kids));
            let negative = tree.push(Node::Negative(root));
            [negative, root].map(|part| {
                let kids = tree.run(&[middle, part]);
                Scalar { id: tree.push(Node::Sum(kids)), branch: Branch::Plus }
            })
        }
    };
    let [low, high] = half;
    Some(if below == a.is_positive() {
        vec![(Some(low), Some(high), closed, closed)]
    } else {
        vec![(None, Some(low), false, closed), (Some(high), None, closed, false)]
    })
}
