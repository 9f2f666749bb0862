//! Whether two numbers or expressions are equal.
//!
//! In order, until one decides: exact fractions; the rules for decimals; residues (see `modular`);
//! values at fixed points in `f64` intervals, where one separated pair proves inequality; the same in
//! long floats, where agreement to hundreds of bits stands for equality.

use std::cmp::Ordering;

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{One, Signed, ToPrimitive};

use super::big::{self, Bigs};
use super::budget::Budget;
use super::evaluate::{Branch, Evaluator};
use super::float::{Disc, Floats};
use super::modular::{self, Modular};
use super::numeric::{Analytic, Numeric, Points};
use super::options::Options;
use super::tree::{Function, Id, Literal, Node, Tree};
use super::value::Scalar;

/// Points at which both sides have to have values before they count as equal.
const MIN_POINTS: usize = 4;

/// An answer to a question that work may run out on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Match {
    Yes,
    No,
    /// Neither could be shown within the bounds.
    Unknown,
}

impl Match {
    pub(crate) fn from(equal: bool) -> Match {
        if equal { Match::Yes } else { Match::No }
    }

    /// Both have to hold.
    pub(crate) fn and(self, other: impl FnOnce() -> Match) -> Match {
        match self {
            Match::No => Match::No,
            Match::Yes => other(),
            Match::Unknown => match other() {
                Match::No => Match::No,
                _ => Match::Unknown,
            },
        }
    }
}

/// One of two expressions.
#[derive(Clone, Copy)]
pub(crate) struct Operand<'a> {
    pub(crate) tree: &'a Tree,
    pub(crate) id: Id,
    pub(crate) branch: Branch,
}

impl<'a> Operand<'a> {
    pub(crate) fn new(tree: &'a Tree, scalar: Scalar) -> Operand<'a> {
        Operand { tree, id: scalar.id, branch: scalar.branch }
    }

    pub(crate) fn exact(self) -> Option<&'a BigRational> {
        self.tree.exact.get(self.id as usize)?.as_ref()
    }

    fn has(self, fits: impl Fn(&Node) -> bool) -> bool {
        self.tree.any(self.id, fits)
    }

    fn decimal(self) -> bool {
        self.tree.decimal.get(self.id as usize).copied().unwrap_or(false)
    }

    fn rounded(self) -> bool {
        self.tree.rounded.get(self.id as usize).copied().unwrap_or(false)
    }

    /// The quantity under a unit.
    fn without_unit(mut self) -> (Operand<'a>, Option<&'a str>) {
        let mut unit = None;
        while let Node::Unit(inner, name) = *self.tree.node(self.id) {
            unit = Some(self.tree.name(name));
            self.id = inner;
        }
        (self, unit)
    }

    /// The value under a percent sign.
    fn without_percent(self) -> Option<Operand<'a>> {
        match *self.tree.node(self.id) {
            Node::Percent(inner) => Some(Operand { id: inner, ..self }),
            _ => None,
        }
    }

    fn negated_percent(self) -> Option<Operand<'a>> {
        match *self.tree.node(self.id) {
            Node::Negative(inner) if matches!(self.tree.node(inner), Node::Percent(_)) => {
                Some(Operand { id: inner, ..self })
            }
            _ => None,
        }
    }
}

/// A comparison under way.
pub(crate) struct Judge<'a> {
    pub(crate) options: &'a Options,
    pub(crate) budget: &'a mut Budget,
    /// The item of a list that is compared, for tolerances by item.
    pub(crate) item: usize,
}

impl Judge<'_> {
    /// Whether a prediction equals a gold as quantities.
    pub(crate) fn quantities(&mut self, gold: Operand<'_>, prediction: Operand<'_>) -> Match {
        let (gold, gold_unit) = gold.without_unit();
        let (prediction, prediction_unit) = prediction.without_unit();
        let (prediction, letter) = if is_symbolic(gold) { (prediction, None) } else { without_letters(prediction) };
        let prediction_unit = prediction_unit.or(letter);
        match (gold_unit, prediction_unit) {
            (Some(left), Some(right)) if super::units::differ(left, right) => return Match::No,
            (Some(_), None) if self.options.strict_units => return Match::No,
            _ => {}
        }
        match (gold.without_percent(), prediction.without_percent()) {
            (Some(left), Some(right)) => return self.numbers(left, right),
            (None, Some(inner)) | (Some(inner), None) => {
                let swapped = gold.without_percent().is_some();
                let plain = if swapped { self.numbers(inner, prediction) } else { self.numbers(gold, inner) };
                if plain == Match::Yes {
                    return plain;
                }
            }
            (None, None) => {
                if let (Some(inner), None) = (prediction.negated_percent(), gold.negated_percent())
                    && let (Some(left), Some(right)) = (gold.exact(), inner.without_percent().and_then(Operand::exact))
                    && *left == -right
                {
                    return Match::Yes;
                }
            }
        }
        self.numbers(gold, prediction)
    }

    /// Whether two expressions have one value, under the rules for decimals.
    fn numbers(&mut self, gold: Operand<'_>, prediction: Operand<'_>) -> Match {
        if reckons_with_infinity(gold) || reckons_with_infinity(prediction) {
            return Match::No;
        }
        if let Some(decided) = self.tolerances(gold, prediction) {
            return decided;
        }
        if let (Some(left), Some(right)) = (gold.exact(), prediction.exact()) {
            if left == right {
                return Match::Yes;
            }
            if !gold.decimal() && !prediction.decimal() {
                return Match::No;
            }
            let literals = (gold.tree.as_literal(gold.id), prediction.tree.as_literal(prediction.id));
            return Match::from(close(left, right, literals.0, literals.1));
        }
        if (gold.decimal() || prediction.decimal())
            && let Some(decided) = self.decimal_and_value(gold, prediction)
        {
            return decided;
        }
        self.identical(gold, prediction)
    }

    /// A tolerance or a rounding that the options ask for.
    fn tolerances(&mut self, gold: Operand<'_>, prediction: Operand<'_>) -> Option<Match> {
        let options = self.options;
        let places = match options.gold_precision {
            Some(_) => gold.tree.as_literal(gold.id).and_then(|literal| literal.places),
            None => options.float_rounding.filter(|_| gold.decimal() || prediction.decimal()),
        };
        if options.abs_tol.is_none() && options.rel_tol.is_none() && places.is_none() {
            return None;
        }
        let left = self.constant(gold)?;
        let right = self.constant(prediction)?;
        if let Some(places) = places.filter(|&places| places <= 30) {
            let scale = 10_f64.powi(i32::try_from(places).ok()?);
            let rounded = |exact: Option<&BigRational>, disc: Disc| match exact {
                Some(exact) => (exact * BigRational::from_integer(BigInt::from(10).pow(places))).round().to_f64(),
                None => Some((disc.re * scale).round()),
            };
            if options.gold_precision.is_some() {
                return Some(Match::from(rounded(gold.exact(), left)? == rounded(prediction.exact(), right)?));
            }
            let (a, b) = (rounded(gold.exact(), left)?, rounded(prediction.exact(), right)?);
            return Some(Match::from((a - b).abs() < 0.5));
        }
        let distance = (left.re - right.re).hypot(left.im - right.im);
        let absolute = options.abs_tol.as_ref().map_or(0.0, |bound| bound.of(self.item));
        let relative = options.rel_tol.as_ref().map_or(0.0, |bound| bound.of(self.item)) * left.size();
        // The bound itself is inside, as in 5.233 and 5.234 under 0.001.
        let bound = absolute.max(relative);
        Some(Match::from(distance <= bound * (1.0 + 1e-9)))
    }

    /// The value of an expression without symbols.
    fn constant(&mut self, operand: Operand<'_>) -> Option<Disc> {
        self.at(operand, Points::Positive, 0, false, false, Floats)
    }

    fn at<F: Analytic>(
        &mut self,
        operand: Operand<'_>,
        points: Points,
        index: u64,
        real: bool,
        lenient: bool,
        field: F,
    ) -> Option<F::Value> {
        let mut numeric = Numeric { field, points, index, real, common_log: false, lenient };
        Evaluator::new(operand.tree, &mut numeric, operand.branch, self.budget).value(operand.id)
    }

    /// A decimal against a value that is no fraction.
    fn decimal_and_value(&mut self, gold: Operand<'_>, prediction: Operand<'_>) -> Option<Match> {
        if is_symbolic(gold) || is_symbolic(prediction) {
            return None;
        }
        let left = self.at(gold, Points::Positive, 0, false, true, Floats)?;
        let right = self.at(prediction, Points::Positive, 0, false, true, Floats)?;
        let distance = (left.re - right.re).hypot(left.im - right.im);
        let size = left.size().max(right.size());
        let rounded = gold.rounded() || prediction.rounded();
        // A wide interval that covers the other value proves nothing.
        let narrow = left.radius.max(right.radius) <= 1e-3 * size;
        if rounded && narrow && distance <= left.radius + right.radius {
            return Some(Match::Yes);
        }
        Some(Match::from(distance <= 5e-7 * size.min(1.0)))
    }

    /// Whether two expressions are the same function of their symbols.
    pub(crate) fn identical(&mut self, gold: Operand<'_>, prediction: Operand<'_>) -> Match {
        let mut residues = [None, None];
        let mut drawn = false;
        for (operand, residues) in [gold, prediction].into_iter().zip(&mut residues) {
            let mut modular = Modular::default();
            *residues = Evaluator::new(operand.tree, &mut modular, operand.branch, self.budget).value(operand.id);
            drawn |= modular.drawn;
        }
        if let [Some(left), Some(right)] = residues {
            if left == right {
                return Match::Yes;
            }
            if !drawn && !gold.rounded() && !prediction.rounded() {
                return Match::No;
            }
        }
        if self.budget.is_spent() {
            return Match::Unknown;
        }
        if is_symbolic(gold) || is_symbolic(prediction) {
            self.functions(gold, prediction)
        } else {
            self.constants(gold, prediction)
        }
    }

    fn constants(&mut self, gold: Operand<'_>, prediction: Operand<'_>) -> Match {
        let left = self.constant(gold);
        let right = self.constant(prediction);
        let common = gold.exact().is_some() && prediction.has(|node| matches!(node, Node::Apply(Function::BareLog, _)));
        match (left, right) {
            (Some(left), Some(right)) if separated(&left, &right) => {
                if common {
                    self.common_logarithm(gold, prediction)
                } else {
                    Match::No
                }
            }
            _ => match self.long(gold, prediction, Points::Positive, 0, false) {
                Match::No if common => self.common_logarithm(gold, prediction),
                found => found,
            },
        }
    }

    /// A rational gold decides that a bare `\log` has base 10.
    fn common_logarithm(&mut self, gold: Operand<'_>, prediction: Operand<'_>) -> Match {
        let mut value = |operand: Operand<'_>| {
            let mut numeric = Numeric {
                field: Floats,
                points: Points::Positive,
                index: 0,
                real: false,
                common_log: true,
                lenient: false,
            };
            Evaluator::new(operand.tree, &mut numeric, operand.branch, self.budget).value(operand.id)
        };
        match (value(gold), value(prediction)) {
            (Some(left), Some(right)) => {
                Match::from(!separated(&left, &right) && left.radius + right.radius < 1e-9 * left.size().max(1e-3))
            }
            _ => Match::No,
        }
    }

    /// Equality of constants in long floats.
    fn long(&mut self, gold: Operand<'_>, prediction: Operand<'_>, points: Points, index: u64, real: bool) -> Match {
        // Long numbers can make differences that are small beyond any others.
        let rounds = if is_long(gold) || is_long(prediction) { 3 } else { 2 };
        let precisions = &big::PRECISIONS[..rounds];
        for &precision in precisions {
            let left = self.at(gold, points, index, real, false, Bigs::new(precision));
            let right = self.at(prediction, points, index, real, false, Bigs::new(precision));
            let (Some(left), Some(right)) = (left, right) else {
                // Too large or undefined: nothing is shown.
                return if self.budget.is_spent() || is_huge(gold) || is_huge(prediction) {
                    Match::Unknown
                } else {
                    Match::No
                };
            };
            if big::separated(&left, &right) {
                return Match::No;
            }
            if precision == precisions[rounds - 1] {
                return if big::agree(&left, &right, precision) { Match::Yes } else { Match::Unknown };
            }
        }
        Match::Unknown
    }

    fn functions(&mut self, gold: Operand<'_>, prediction: Operand<'_>) -> Match {
        let imaginary = |operand: Operand<'_>| operand.has(|node| matches!(node, Node::Imaginary));
        let complex = imaginary(gold) || imaginary(prediction);
        let lenient = gold.rounded() || prediction.rounded();
        let mut usable: Vec<(Points, u64, bool)> = Vec::new();
        let plan = [(Points::Positive, 8), (Points::Whole, 4), (Points::Mixed, 6)];
        for (points, count) in plan {
            for index in 0..count {
                if let Some(apart) = self.apart(gold, prediction, points, index, !complex, lenient) {
                    if apart {
                        return Match::No;
                    }
                    usable.push((points, index, !complex));
                }
                if self.budget.is_spent() {
                    return Match::Unknown;
                }
            }
        }
        if usable.len() < MIN_POINTS {
            // Nowhere real: the complex reading.
            usable.clear();
            for index in 0..8 {
                if let Some(apart) = self.apart(gold, prediction, Points::Complex, index, false, lenient) {
                    if apart {
                        return Match::No;
                    }
                    usable.push((Points::Complex, index, false));
                }
            }
        }
        if usable.len() < MIN_POINTS {
            return if self.budget.is_spent() { Match::Unknown } else { Match::No };
        }
        if lenient {
            return Match::Yes;
        }
        let middle = usable.len() / 2;
        for &(points, index, real) in [&usable[0], &usable[middle]] {
            match self.long(gold, prediction, points, index, real) {
                Match::Yes => {}
                other => return other,
            }
        }
        Match::Yes
    }

    /// Whether two expressions differ at a point; none where either has no value, or too vague a one.
    fn apart(
        &mut self,
        gold: Operand<'_>,
        prediction: Operand<'_>,
        points: Points,
        index: u64,
        real: bool,
        lenient: bool,
    ) -> Option<bool> {
        let left = self.at(gold, points, index, real, lenient, Floats)?;
        let right = self.at(prediction, points, index, real, lenient, Floats)?;
        if separated(&left, &right) {
            return Some(true);
        }
        let vague = if lenient { 1e-3 } else { 1e-6 };
        (left.radius + right.radius <= vague * left.size().max(right.size()).max(1e-6)).then_some(false)
    }

    /// How a constant compares with another; none if that cannot be shown.
    pub(crate) fn order(&mut self, left: Operand<'_>, right: Operand<'_>) -> Option<Ordering> {
        if let (Some(left), Some(right)) = (left.exact(), right.exact()) {
            return Some(left.cmp(right));
        }
        if is_symbolic(left) || is_symbolic(right) {
            return None;
        }
        let (a, b) = (self.constant(left)?, self.constant(right)?);
        if separated(&a, &b) {
            return a.re.partial_cmp(&b.re);
        }
        (self.identical(left, right) == Match::Yes).then_some(Ordering::Equal)
    }

    /// Whether two expressions are equal up to a constant factor: none if not, else the factor's sign.
    pub(crate) fn proportional(
        &mut self,
        gold: (Operand<'_>, Operand<'_>),
        prediction: (Operand<'_>, Operand<'_>),
    ) -> Option<Ordering> {
        let mut drawn = false;
        let mut draw = |drawing: u64| {
            let mut modular = Modular { drawn: false, drawing };
            let residues = [gold.0, gold.1, prediction.0, prediction.1].map(|operand| {
                Evaluator::new(operand.tree, &mut modular, operand.branch, self.budget).value(operand.id)
            });
            drawn |= modular.drawn;
            let [Some(a), Some(b), Some(c), Some(d)] = residues else { return None };
            Some((modular::minus(&a, &b), modular::minus(&c, &d)))
        };
        let pairs = (draw(0), draw(1));
        let mut shown = false;
        if let (Some(first), Some(second)) = pairs
            && let Some(same) = modular::ratio([&first.0, &second.0], [&first.1, &second.1])
        {
            shown = same;
            if !same && !drawn && !gold.0.rounded() && !prediction.0.rounded() {
                return None;
            }
        }
        let mut first: Option<Disc> = None;
        let mut count = 0;
        for (points, number) in [(Points::Positive, 8), (Points::Mixed, 8)] {
            for index in 0..number {
                let mut field = Floats;
                let mut difference = |judge: &mut Self, pair: (Operand<'_>, Operand<'_>)| {
                    let left = judge.at(pair.0, points, index, true, true, Floats)?;
                    let right = judge.at(pair.1, points, index, true, true, Floats)?;
                    let minus = field.rational(&-BigRational::one())?;
                    let right = field.multiply(&minus, &right)?;
                    field.add(&left, &right)
                };
                let (Some(left), Some(right)) = (difference(self, gold), difference(self, prediction)) else {
                    continue;
                };
                let Some(ratio) = Floats.divide(&left, &right) else { continue };
                match &first {
                    None => first = Some(ratio),
                    Some(known) if separated(known, &ratio) => return None,
                    Some(_) => count += 1,
                }
                if ratio.size() <= ratio.radius {
                    return None;
                }
            }
        }
        match first {
            Some(ratio) if count >= 3 || shown => ratio.re.partial_cmp(&0.0),
            // Structures without values, whose residues agree.
            _ if shown => Some(Ordering::Greater),
            _ => None,
        }
    }
}

/// Whether infinity is added, multiplied or raised, which has no value; `∞` and `−∞` alone are answers.
fn reckons_with_infinity(operand: Operand<'_>) -> bool {
    let tree = operand.tree;
    let infinite = |id: Id| match *tree.node(id) {
        Node::Infinity => true,
        Node::Negative(inner) => *tree.node(inner) == Node::Infinity,
        _ => false,
    };
    operand.exact().is_none()
        && operand.has(|node| match *node {
            Node::Sum(kids) | Node::Product(kids) | Node::Apply(_, kids) => {
                tree.items(kids).iter().any(|&kid| infinite(kid))
            }
            Node::Quotient(left, right) | Node::Power(left, right) => infinite(left) || infinite(right),
            _ => false,
        })
}

/// A number without the letters of a unit after it (`0.64 N`, `5 m/s^2`), which a gold without symbols
/// allows, and the unit if it is one letter.
fn without_letters(operand: Operand<'_>) -> (Operand<'_>, Option<&str>) {
    const UNITS: [&str; 18] =
        ["m", "s", "g", "N", "J", "W", "V", "A", "K", "C", "L", "h", "T", "F", "H", "Omega", "mu", "Hz"];
    let tree = operand.tree;
    let symbol = |id: Id| match *tree.node(id) {
        Node::Symbol(name) => Some(tree.name(name)).filter(|name| UNITS.contains(name)),
        _ => None,
    };
    let is_unit = |id: Id| match *tree.node(id) {
        Node::Power(base, exponent) => symbol(base).is_some() && tree.as_literal(exponent).is_some(),
        _ => symbol(id).is_some(),
    };
    let mut id = operand.id;
    let mut unit = None;
    loop {
        id = match *tree.node(id) {
            Node::Product(kids) => match tree.items(kids) {
                [quantity, units @ ..] if units.iter().all(|&unit| is_unit(unit)) => {
                    unit = if let [only] = *units { symbol(only) } else { None };
                    *quantity
                }
                _ => break,
            },
            Node::Quotient(quantity, divisor) if is_unit(divisor) => quantity,
            _ => break,
        };
    }
    let stripped = Operand { id, ..operand };
    if is_symbolic(stripped) { (operand, None) } else { (stripped, unit) }
}

/// Whether any symbol takes part.
pub(crate) fn is_symbolic(operand: Operand<'_>) -> bool {
    operand.exact().is_none() && operand.has(|node| matches!(node, Node::Symbol(_) | Node::Opaque(..)))
}

/// Whether a value may be out of reach for being large, rather than undefined.
fn is_huge(operand: Operand<'_>) -> bool {
    operand.has(|node| match node {
        Node::Power(..) | Node::Series { .. } => true,
        Node::Apply(function, _) => matches!(function, Function::Factorial | Function::Binomial | Function::Exp),
        _ => false,
    })
}

/// Whether a number of more than 64 bits takes part.
fn is_long(operand: Operand<'_>) -> bool {
    let marks = operand.tree.reach(operand.id);
    operand.tree.exact.iter().zip(marks).any(|(exact, marked)| {
        marked && exact.as_ref().is_some_and(|exact| exact.numer().bits().max(exact.denom().bits()) > 64)
    })
}

/// Whether two discs have no point in common.
fn separated(left: &Disc, right: &Disc) -> bool {
    (left.re - right.re).hypot(left.im - right.im) > (left.radius + right.radius) * (1.0 + 1e-14)
}

/// The rules for decimals on two fractions that differ, one of them written as a decimal.
fn close(left: &BigRational, right: &BigRational, first: Option<&Literal>, second: Option<&Literal>) -> bool {
    let distance = (left - right).abs();
    let places = |literal: Option<&Literal>| literal.and_then(|literal| literal.places);
    if let (Some(a), Some(b)) = (places(first), places(second))
        && a == b
    {
        return false;
    }
    // Noise: half a millionth, and of small values half a millionth of their size.
    let size = left.abs().max(right.abs()).min(BigRational::one());
    if distance <= size * BigRational::new(BigInt::from(5), BigInt::from(10_000_000)) {
        return true;
    }
    // Rounding: a literal of six digits or more stands for what rounds or is cut to it.
    let covers = |literal: Option<&Literal>, other: &BigRational| {
        let Some(literal) = literal.filter(|literal| literal.is_rounded()) else { return false };
        let unit = literal.unit();
        // A value that can be written with as many places would have been.
        distance <= unit && !(other / &unit).is_integer()
    };
    covers(first, right) || covers(second, left)
}
