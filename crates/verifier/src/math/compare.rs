//! Whether a predicted answer equals the gold, by their shapes.
//!
//! Where a prediction can be read in more than one way, the gold's shape picks the reading; the gold
//! itself has one reading. Unordered collections are matched item by item, not sorted, so equality of
//! items need not be an order.

use std::collections::HashSet;

use super::Answer;
use super::clean;
use super::region::{self, Region};
use super::scalar::{Judge, Match, Operand};
use super::tree::{Edge, Id, Node, Relation, Tree};
use super::value::{Scalar, Side, Value, is_name};

/// Pairs of items that are compared in one matching.
const MAX_PAIRS: usize = 66_000;

/// Whether a prediction equals a gold.
pub(crate) fn answers(judge: &mut Judge<'_>, gold: &Answer, prediction: &Answer) -> Match {
    if !gold.key.is_empty() && gold.key == prediction.key {
        return Match::Yes;
    }
    let (Some(left), Some(right)) = (&gold.mathematics, &prediction.mathematics) else { return Match::No };
    let mut comparer = Comparer { judge, gold: &left.tree, prediction: &right.tree, solved: (left, right) };
    comparer.top(&left.value, &right.value)
}

struct Comparer<'a, 'b> {
    judge: &'a mut Judge<'b>,
    gold: &'a Tree,
    prediction: &'a Tree,
    solved: (&'a super::Mathematics, &'a super::Mathematics),
}

impl Comparer<'_, '_> {
    fn top(&mut self, gold: &Value, prediction: &Value) -> Match {
        let (gold_solved, prediction_solved) = (&self.solved.0.solved, &self.solved.1.solved);
        // An inequality against a set, or against another inequality of the same solutions.
        if let Some(solved) = gold_solved {
            if let Some(other) = prediction_solved {
                let plain = self.values(gold, prediction);
                if plain != Match::No {
                    return plain;
                }
                if !same_variable(self.gold, gold, self.prediction, prediction) {
                    return Match::No;
                }
                let left = region::of_solved(self.judge, self.gold, solved);
                let right = region::of_solved(self.judge, self.prediction, other);
                return self.regions(left, right).unwrap_or(Match::No);
            }
            let left = region::of_solved(self.judge, self.gold, solved);
            let right = region::region(self.judge, self.prediction, prediction);
            return self.regions(left, right).unwrap_or(Match::No);
        }
        if let Some(other) = prediction_solved
            && self.judge.options.allow_set_relation_comp
        {
            let left = region::region(self.judge, self.gold, gold);
            let right = region::of_solved(self.judge, self.prediction, other);
            if let Some(decided) = self.regions(left, right) {
                return decided;
            }
        }
        self.values(gold, prediction)
    }

    fn regions(&mut self, gold: Option<Region<'_>>, prediction: Option<Region<'_>>) -> Option<Match> {
        Some(region::same(self.judge, &gold?, &prediction?))
    }

    fn values(&mut self, gold: &Value, prediction: &Value) -> Match {
        if self.judge.budget.take(4).is_none() {
            return Match::Unknown;
        }
        match (gold, prediction) {
            (Value::Scalar(left), Value::Scalar(right)) => self.scalars(*left, *right),
            (Value::Relation { sides: left, signs: first }, Value::Relation { sides: right, signs: second }) => {
                self.relations(left, first, right, second)
            }
            (Value::Relation { sides, signs }, _) => self.gold_relation(sides, signs, prediction),
            (_, Value::Relation { sides, signs }) => match stated(self.prediction, sides, signs) {
                Some(value) => self.values(gold, value),
                None => Match::No,
            },
            (Value::Text(left), Value::Text(right)) => {
                let (left, right) = (self.gold.name(*left), self.prediction.name(*right));
                Match::from(clean::key(left) == clean::key(right))
            }
            (Value::Based(digits, base), Value::Based(other, radix)) => {
                self.ids(*digits, *other).and(|| self.ids(*base, *radix))
            }
            // A base that the prediction leaves out; a different one, or the decimal value, is wrong.
            (Value::Based(digits, _), Value::Scalar(right)) => {
                let plain = matches!(self.prediction.node(right.id), Node::Number(_));
                if plain { self.ids(*digits, right.id) } else { Match::No }
            }
            (Value::Ratio(left), Value::Ratio(right)) => self.ratios(left, right),
            (Value::Matrix { rows, cells }, Value::Matrix { rows: other, cells: found }) => {
                if rows != other || cells.len() != found.len() {
                    return Match::No;
                }
                let mut total = Match::Yes;
                for (left, right) in cells.iter().zip(found) {
                    total = total.and(|| self.ids(*left, *right));
                }
                total
            }
            (Value::Reals, Value::Reals) | (Value::Ellipsis, Value::Ellipsis) => Match::Yes,
            (Value::NamedSet(left), Value::NamedSet(right)) => {
                Match::from(self.gold.name(*left) == self.prediction.name(*right))
            }
            _ => self.collections(gold, prediction),
        }
    }

    fn ids(&mut self, gold: Id, prediction: Id) -> Match {
        let scalar = |id: Id| Scalar { id, branch: super::evaluate::Branch::Plus };
        self.scalars(scalar(gold), scalar(prediction))
    }

    fn scalars(&mut self, gold: Scalar, prediction: Scalar) -> Match {
        self.judge.quantities(Operand::new(self.gold, gold), Operand::new(self.prediction, prediction))
    }

    fn collections(&mut self, gold: &Value, prediction: &Value) -> Match {
        match (gold, prediction) {
            (Value::Tuple { open, close, items }, Value::Tuple { open: first, close: last, items: found }) => {
                if items.len() == found.len() && edges(*open, *close) == edges(*first, *last) {
                    return self.in_order(items, found);
                }
                Match::No
            }
            (Value::List(items) | Value::Set(items), Value::List(found) | Value::Set(found)) => {
                let sets = matches!(gold, Value::Set(_)) || matches!(prediction, Value::Set(_));
                let plain = self.unordered(items, found, sets);
                let tuples = items.iter().chain(found).all(|item| matches!(item, Value::Tuple { .. }));
                if plain != Match::No || !tuples {
                    return plain;
                }
                // Points of a solution set, some named twice.
                let distinct = self.unordered(items, found, true);
                let intervals = items.iter().chain(found).any(|item| {
                    matches!(item, Value::Tuple { open, close, .. } if *open == Edge::Closed || *close == Edge::Closed)
                });
                if distinct != Match::No || !intervals {
                    return distinct;
                }
                self.as_regions(gold, prediction)
            }
            // Brackets around what the gold lists bare, or the other way round, in the gold's order.
            (
                Value::List(items) | Value::Set(items),
                Value::Tuple { open: Edge::Open, close: Edge::Open, items: found },
            ) if items.iter().all(|item| matches!(item, Value::Scalar(_))) => self.unordered(items, found, false),
            (Value::Tuple { open: Edge::Open, close: Edge::Open, items }, Value::List(found) | Value::Set(found))
                if items.len() == found.len() =>
            {
                self.in_order(items, found)
            }
            (Value::Set(items), Value::Scalar(_)) if items.len() == 1 => self.values(&items[0], prediction),
            (Value::Scalar(_), Value::Set(found)) if found.len() == 1 => self.values(gold, &found[0]),
            (Value::Scalar(_) | Value::Text(_) | Value::Matrix { .. }, _)
            | (_, Value::Scalar(_) | Value::Text(_) | Value::Matrix { .. }) => match (gold, prediction) {
                // One item that was joined, repeated.
                (Value::Scalar(_), Value::List(found)) | (Value::List(found), Value::Scalar(_)) if found.len() == 1 => {
                    if matches!(gold, Value::List(_)) {
                        self.values(&found[0], prediction)
                    } else {
                        self.values(gold, &found[0])
                    }
                }
                _ => Match::No,
            },
            _ => self.as_regions(gold, prediction),
        }
    }

    fn as_regions(&mut self, gold: &Value, prediction: &Value) -> Match {
        let left = region::region(self.judge, self.gold, gold);
        let right = region::region(self.judge, self.prediction, prediction);
        if let Some(decided) = self.regions(left, right) {
            return decided;
        }
        // Ends that cannot be ordered: operation by operation.
        match (gold, prediction) {
            (Value::Operation(first, items), Value::Operation(second, found)) if first == second => {
                self.unordered(items, found, false)
            }
            _ => Match::No,
        }
    }

    fn in_order(&mut self, gold: &[Value], prediction: &[Value]) -> Match {
        let mut total = Match::Yes;
        let before = self.judge.item;
        for (at, (left, right)) in gold.iter().zip(prediction).enumerate() {
            self.judge.item = before + at;
            total = total.and(|| self.items(left, right));
        }
        self.judge.item = before;
        total
    }

    /// Items of a collection: an assignment may stand for its value.
    fn items(&mut self, gold: &Value, prediction: &Value) -> Match {
        self.values(gold, prediction)
    }

    /// Whether there is a pairing of all items with all items.
    fn unordered(&mut self, gold: &[Value], prediction: &[Value], sets: bool) -> Match {
        if let (Some(left), Some(right)) = (records(self.gold, gold), records(self.prediction, prediction))
            && left.len() == right.len()
            && left.len() > 1
        {
            return self.paired(&left, &right, |comparer, a, b| comparer.unordered(a, b, false));
        }
        if sets {
            let left = self.distinct(gold, true);
            let right = self.distinct(prediction, false);
            let left: Vec<&Value> = left.iter().map(|&at| &gold[at]).collect();
            let right: Vec<&Value> = right.iter().map(|&at| &prediction[at]).collect();
            return self.paired(&left, &right, |comparer, a, b| comparer.items(a, b));
        }
        let left: Vec<&Value> = gold.iter().collect();
        let right: Vec<&Value> = prediction.iter().collect();
        self.paired(&left, &right, |comparer, a, b| comparer.items(a, b))
    }

    /// The first of each run of equal items.
    fn distinct(&mut self, items: &[Value], gold: bool) -> Vec<usize> {
        let tree = if gold { self.gold } else { self.prediction };
        let mut kept: Vec<usize> = Vec::new();
        for (at, item) in items.iter().enumerate() {
            let repeated = kept.iter().any(|&known| match (&items[known], item) {
                (Value::Scalar(left), Value::Scalar(right)) => {
                    self.judge.quantities(Operand::new(tree, *left), Operand::new(tree, *right)) == Match::Yes
                }
                (left, right) => {
                    let mut same = Comparer { judge: self.judge, gold: tree, prediction: tree, solved: self.solved };
                    same.values(left, right) == Match::Yes
                }
            });
            if !repeated {
                kept.push(at);
            }
        }
        kept
    }

    fn paired<T: Copy>(
        &mut self,
        gold: &[T],
        prediction: &[T],
        mut equal: impl FnMut(&mut Self, T, T) -> Match,
    ) -> Match {
        if gold.len() != prediction.len() || gold.len() * prediction.len() > MAX_PAIRS {
            return Match::No;
        }
        let count = gold.len();
        let mut known: Vec<Option<Match>> = vec![None; count * count];
        let mut owner: Vec<Option<usize>> = vec![None; count];
        let mut doubt = false;
        let before = self.judge.item;
        for left in 0..count {
            self.judge.item = before + left;
            // An augmenting path from this item, breadth first.
            let mut reached: HashSet<usize> = HashSet::new();
            let mut queue = vec![left];
            let mut came: Vec<Option<usize>> = vec![None; count];
            let mut free = None;
            let mut next = 0;
            'search: while next < queue.len() {
                let from = queue[next];
                next += 1;
                // Its own place first: most answers are in order.
                for right in std::iter::once(from).chain(0..count) {
                    if reached.contains(&right) {
                        continue;
                    }
                    let cell = from * count + right;
                    let found = match known[cell] {
                        Some(found) => found,
                        None => {
                            let found = equal(self, gold[from], prediction[right]);
                            known[cell] = Some(found);
                            found
                        }
                    };
                    doubt |= found == Match::Unknown;
                    if found != Match::Yes {
                        continue;
                    }
                    reached.insert(right);
                    came[right] = Some(from);
                    match owner[right] {
                        Some(other) => queue.push(other),
                        None => {
                            free = Some(right);
                            break 'search;
                        }
                    }
                }
            }
            let Some(mut right) = free else {
                self.judge.item = before;
                return if doubt { Match::Unknown } else { Match::No };
            };
            // Hand each place on the path to the item that reached it.
            while let Some(from) = came[right] {
                let given_up = owner.iter().position(|&held| held == Some(from));
                owner[right] = Some(from);
                match given_up {
                    Some(old) if from != left => right = old,
                    _ => break,
                }
            }
        }
        self.judge.item = before;
        Match::Yes
    }

    fn ratios(&mut self, gold: &[Id], prediction: &[Id]) -> Match {
        if gold.len() != prediction.len() {
            return Match::No;
        }
        let mut total = Match::Yes;
        for (&left, &right) in gold.iter().zip(prediction) {
            total = total.and(|| self.ids(left, right));
        }
        if total == Match::Yes || gold.len() != 2 || is_clock(self.gold, gold) || is_clock(self.prediction, prediction)
        {
            return total;
        }
        let exact = |tree: &Tree, ids: &[Id]| {
            let part = |id: Id| tree.exact.get(id as usize).and_then(Option::as_ref).cloned();
            Some((part(ids[0])?, part(ids[1])?))
        };
        match (exact(self.gold, gold), exact(self.prediction, prediction)) {
            (Some((a, b)), Some((c, d))) => Match::from(a * d == b * c),
            _ => total,
        }
    }

    fn gold_relation(&mut self, sides: &[Side], signs: &[Relation], prediction: &Value) -> Match {
        if signs[..] == [Relation::In] {
            return self.values(&sides[1].value, prediction);
        }
        let assignment = sides.len() == 2 && matches!(signs[0], Relation::Equal | Relation::Approximately);
        if assignment && is_name(self.gold, sides[0].scalar.id) {
            return self.values(&sides[1].value, prediction);
        }
        // `a = b ≈ c` with a name first states b.
        if signs.len() == 2
            && signs[..] == [Relation::Equal, Relation::Approximately]
            && is_name(self.gold, sides[0].scalar.id)
        {
            return self.values(&sides[1].value, prediction);
        }
        // `a/b ≈ 3.01` without a name states a/b.
        if assignment && signs[0] == Relation::Approximately {
            return self.values(&sides[0].value, prediction);
        }
        Match::No
    }

    fn relations(&mut self, gold: &[Side], signs: &[Relation], prediction: &[Side], found: &[Relation]) -> Match {
        if signs[..] == [Relation::In] && found[..] == [Relation::In] {
            return self.values(&gold[1].value, &prediction[1].value);
        }
        let assignment = |tree: &Tree, sides: &[Side], signs: &[Relation]| {
            sides.len() == 2
                && matches!(signs[0], Relation::Equal | Relation::Approximately)
                && is_name(tree, sides[0].scalar.id)
        };
        let first = assignment(self.gold, gold, signs);
        // `x = 11` against a chain `x = 5 + 5 + 1 = 11`.
        if first
            && found.len() > 1
            && found.iter().all(|sign| matches!(sign, Relation::Equal | Relation::Approximately))
        {
            if let Some(value) = stated(self.prediction, prediction, found)
                && self.names(&gold[0], &prediction[0])
            {
                return self.values(&gold[1].value, value);
            }
            return Match::No;
        }
        if signs.len() != found.len() {
            return Match::No;
        }
        if first && assignment(self.prediction, prediction, found) && self.names(&gold[0], &prediction[0]) {
            return self.values(&gold[1].value, &prediction[1].value);
        }
        if signs.len() > 1 {
            return self.chains(gold, signs, prediction, found);
        }
        self.pair((&gold[0], &gold[1]), signs[0], (&prediction[0], &prediction[1]), found[0])
    }

    fn names(&mut self, gold: &Side, prediction: &Side) -> bool {
        match (&gold.value, &prediction.value) {
            (Value::Scalar(left), Value::Scalar(right)) => self.scalars(*left, *right) == Match::Yes,
            (left, right) => self.values(left, right) == Match::Yes,
        }
    }

    /// `a < x < b`, side by side or the other way round.
    fn chains(&mut self, gold: &[Side], signs: &[Relation], prediction: &[Side], found: &[Relation]) -> Match {
        let forward = signs == found;
        let backward = signs.iter().rev().map(|&sign| flipped(sign)).eq(found.iter().copied());
        let count = gold.len();
        for (usable, reverse) in [(forward, false), (backward, true)] {
            if !usable {
                continue;
            }
            let mut total = Match::Yes;
            for (at, side) in gold.iter().enumerate() {
                let other = if reverse { count - 1 - at } else { at };
                total = total.and(|| self.values(&side.value, &prediction[other].value));
            }
            if total != Match::No {
                return total;
            }
        }
        Match::No
    }

    fn pair(&mut self, gold: (&Side, &Side), sign: Relation, prediction: (&Side, &Side), found: Relation) -> Match {
        use Relation::{Approximately, Congruent, Equal, Greater, GreaterEqual, Less, LessEqual, NotEqual, Other};
        let turned = |sides: (&Side, &Side), sign: Relation| match sign {
            Greater | GreaterEqual => ((sides.1.scalar, sides.0.scalar), flipped(sign)),
            _ => ((sides.0.scalar, sides.1.scalar), sign),
        };
        let ((left, right), first) = turned(gold, sign);
        let ((other_left, other_right), second) = turned(prediction, found);
        let kind = |sign: Relation| if sign == Approximately { Equal } else { sign };
        if kind(first) != kind(second) {
            return Match::No;
        }
        if matches!(first, Congruent | Other) || !all_scalar(&[gold.0, gold.1, prediction.0, prediction.1]) {
            return self
                .values(&gold.0.value, &prediction.0.value)
                .and(|| self.values(&gold.1.value, &prediction.1.value));
        }
        let (gold_tree, prediction_tree) = (self.gold, self.prediction);
        let sign = self.judge.proportional(
            (Operand::new(gold_tree, left), Operand::new(gold_tree, right)),
            (Operand::new(prediction_tree, other_left), Operand::new(prediction_tree, other_right)),
        );
        match (sign, kind(first)) {
            (Some(std::cmp::Ordering::Greater), Less | LessEqual) => Match::Yes,
            (Some(_), Equal | NotEqual) => Match::Yes,
            _ if self.judge.budget.is_spent() => Match::Unknown,
            _ => Match::No,
        }
    }
}

fn all_scalar(sides: &[&Side]) -> bool {
    sides.iter().all(|side| matches!(side.value, Value::Scalar(_)))
}

fn flipped(sign: Relation) -> Relation {
    match sign {
        Relation::Less => Relation::Greater,
        Relation::LessEqual => Relation::GreaterEqual,
        Relation::Greater => Relation::Less,
        Relation::GreaterEqual => Relation::LessEqual,
        other => other,
    }
}

/// The brackets of a tuple; a vector's are a tuple's.
fn edges(open: Edge, close: Edge) -> (bool, bool) {
    (open == Edge::Closed, close == Edge::Closed)
}

/// Whether a ratio is a time of day: its second term has two digits, the first of them 0 to 5, and the first is an hour.
fn is_clock(tree: &Tree, terms: &[Id]) -> bool {
    let value = |id: Id| {
        let literal = tree.as_literal(id)?;
        literal.value.is_integer().then(|| i64::try_from(literal.value.to_integer()).ok()).flatten()
    };
    match terms {
        [hour, minute] => {
            matches!((value(*hour), value(*minute)), (Some(0..=23), Some(0..=59)))
                && matches!(tree.node(*minute), Node::Number(at) if tree.literals.get(*at as usize).is_some_and(|literal| literal.written == 2))
        }
        _ => false,
    }
}

/// What a predicted chain states: its last exact member. None for an equation that has not been solved.
fn stated<'a>(tree: &Tree, sides: &'a [Side], signs: &[Relation]) -> Option<&'a Value> {
    if signs[..] == [Relation::In] {
        return Some(&sides[1].value);
    }
    if !signs.iter().all(|sign| matches!(sign, Relation::Equal | Relation::Approximately)) {
        return None;
    }
    let named = is_name(tree, sides[0].scalar.id);
    let exact = signs.iter().take_while(|sign| **sign == Relation::Equal).count();
    // Members 0 to `exact` are joined by `=`; what follows is approximate.
    let last = if exact == 0 && named { 1 } else { exact };
    if last == 0 {
        return Some(&sides[0].value);
    }
    if sides.len() == 2 && !named {
        // `2x + 1 = 5` states nothing about a number; `3 + 2 = 5` does.
        let symbols = tree.symbols(sides[0].scalar.id);
        if !symbols.is_empty() && !tree.any(sides[0].scalar.id, |node| matches!(node, Node::Series { .. })) {
            return None;
        }
    }
    Some(&sides[last].value)
}

fn same_variable(gold_tree: &Tree, gold: &Value, tree: &Tree, prediction: &Value) -> bool {
    let names = |tree: &Tree, value: &Value| -> Vec<String> {
        let relations = match value {
            Value::List(items) => items.as_slice(),
            other => std::slice::from_ref(other),
        };
        let mut names: Vec<String> = Vec::new();
        for relation in relations {
            if let Value::Relation { sides, .. } = relation {
                names.extend(sides.iter().flat_map(|side| tree.symbols(side.scalar.id)).map(str::to_owned));
            }
        }
        names.sort_unstable();
        names.dedup();
        names
    };
    names(gold_tree, gold) == names(tree, prediction)
}

/// A list of assignments in which names repeat, cut into records at each repetition: `p=5, q=2, p=7, q=2`.
fn records<'a>(tree: &Tree, items: &'a [Value]) -> Option<Vec<&'a [Value]>> {
    let name = |value: &Value| match value {
        Value::Relation { sides, signs } if signs[..] == [Relation::Equal] && is_name(tree, sides[0].scalar.id) => {
            Some(tree.symbols(sides[0].scalar.id).join(" "))
        }
        _ => None,
    };
    let names: Option<Vec<String>> = items.iter().map(name).collect();
    let names = names?;
    let first = names.first()?;
    let length = names.iter().skip(1).position(|name| name == first)? + 1;
    if length < 2 || !items.len().is_multiple_of(length) {
        return None;
    }
    Some(items.chunks(length).collect())
}
