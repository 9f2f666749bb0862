//! Countdown: reach a target from given numbers by the four operations, each number at most once.
//!
//! `reach 24 from 3 5 8 8` is solved by tries: each step states a sum and the numbers left, a try that
//! ends elsewhere is followed by another, and the solution ends with `answer` and an expression.
//! Every problem is solvable with whole numbers from 1 to `limit` throughout, and no given number is
//! the target.
//!
//! Legal steps chosen at random reach the target of four numbers up to 9 about once in 10 tries, and
//! that of five numbers up to 99 about once in 13 (counted in the tests). Chance success is far above
//! the chain family's: this family shows that a method copes with many right answers, not with
//! problems that are hardly ever solved.

use std::fmt::Write;

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use toehold_verifier::Verifier;

use super::draw::{below, between, chance, generator};
use super::{Perturbation, SyntheticError, require};
use crate::{Problem, ProblemId};

/// Settings of the countdown family.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Countdown {
    /// Fewest and most given numbers, drawn uniformly; 2 to 5.
    pub numbers: (u32, u32),
    /// Given numbers are 1 to `largest`; 2 to `limit`.
    pub largest: u32,
    /// No target and no partial result is larger; 4 to 200. Every number up to it is a word.
    pub limit: u32,
    /// Chance that the solver takes a step that leads to the target, if there is one, rather than any
    /// legal one; 0 to 1.
    pub insight: f64,
    /// Chance that a step states a wrong result, drawn uniformly from 1 to `limit`; 0 to 1.
    pub noise: f64,
    /// Tries before the solver answers what it has; 1 to 9.
    pub tries: u32,
}

impl Default for Countdown {
    /// Four numbers up to 9, and a solver that is seldom right.
    fn default() -> Countdown {
        Countdown { numbers: (4, 4), largest: 9, limit: 99, insight: 0.3, noise: 0.1, tries: 2 }
    }
}

impl Countdown {
    pub(super) fn check(&self) -> Result<(), SyntheticError> {
        let (fewest, most) = self.numbers;
        require(2 <= fewest && fewest <= most && most <= 5, "numbers", self.numbers, "(fewest, most) within 2 to 5")?;
        require((4..=200).contains(&self.limit), "limit", self.limit, "4 to 200")?;
        require(2 <= self.largest && self.largest <= self.limit, "largest", self.largest, "2 to `limit`")?;
        require((0.0..=1.0).contains(&self.insight), "insight", self.insight, "a chance from 0 to 1")?;
        require((0.0..=1.0).contains(&self.noise), "noise", self.noise, "a chance from 0 to 1")?;
        require((1..=9).contains(&self.tries), "tries", self.tries, "1 to 9")
    }

    /// A problem, or none where the numbers drawn lead to no target of their own.
    pub(super) fn problem(&self, id: ProblemId, rng: &mut ChaCha8Rng) -> Option<Problem> {
        let count = between(rng, self.numbers);
        let game = self.draw(count, rng)?;
        Some(self.stated(id, &game))
    }

    /// So many numbers and a target that they reach; none where they lead to no target of their own.
    fn draw(&self, count: u32, rng: &mut ChaCha8Rng) -> Option<Game> {
        let numbers: Vec<u32> = (0..count).map(|_| between(rng, (1, self.largest))).collect();
        // A walk of legal steps that uses every number makes a target that can be reached.
        let mut left = numbers.clone();
        while left.len() > 1 {
            let step = self.any_step(&left, rng)?;
            step.apply(&mut left);
        }
        let target = left[0];
        if numbers.contains(&target) { None } else { Some(Game { target, numbers }) }
    }

    /// The problem with these numbers and its right solution.
    fn stated(&self, id: ProblemId, game: &Game) -> Problem {
        let answer = game.reference();
        let clever = Countdown { insight: 1.0, noise: 0.0, ..self.clone() };
        let solution = clever.work(game, &mut generator(0));
        Problem {
            id,
            problem: format!("reach {answer}"),
            answer,
            verifier: Verifier::Countdown,
            solution: Some(solution),
            cue: None,
        }
    }

    /// The problem with other numbers; none where what was drawn leaves no problem of its kind.
    pub(super) fn perturbed(
        &self,
        problem: &Problem,
        id: ProblemId,
        way: Perturbation,
        rng: &mut ChaCha8Rng,
    ) -> Result<Option<Problem>, String> {
        let mut game = self.read(&problem.problem)?;
        let at = below(rng, game.numbers.len() as u32) as usize;
        match way {
            Perturbation::Renumbered => {
                Ok(self.draw(game.numbers.len() as u32, rng).map(|game| self.stated(id, &game)))
            }
            Perturbation::Changed => {
                let before = game.numbers[at];
                game.numbers[at] = between(rng, (1, self.largest));
                let is_new = game.numbers[at] != before && !game.numbers.contains(&game.target);
                let is_problem = is_new && self.reaches(&game.numbers, game.target);
                Ok(is_problem.then(|| self.stated(id, &game)))
            }
            Perturbation::Removed => {
                game.numbers.remove(at);
                // Every way to the target needed the number that is gone; one number alone is no problem.
                let is_lost = game.numbers.len() > 1 && !self.reaches(&game.numbers, game.target);
                let statement = format!("reach {}", game.reference());
                Ok(is_lost.then(|| Problem { id, problem: statement, solution: None, ..problem.clone() }))
            }
        }
    }

    pub(super) fn solution(&self, statement: &str, rng: &mut ChaCha8Rng) -> Result<String, String> {
        Ok(self.work(&self.read(statement)?, rng))
    }

    pub(super) fn vocabulary(&self) -> Vec<String> {
        let words = ["reach", "from", "try", "left", "answer", "=", "(", ")", "+", "-", "*", "/"];
        words.map(str::to_owned).into_iter().chain((1..=self.limit).map(|number| number.to_string())).collect()
    }

    fn work(&self, game: &Game, rng: &mut ChaCha8Rng) -> String {
        let mut text = String::new();
        let mut last = game.numbers[0].to_string();
        for _ in 0..self.tries {
            text.push_str("try ");
            let (expression, reached) = self.attempt(game, rng, &mut text);
            last = expression.unwrap_or(last);
            if reached {
                break;
            }
        }
        push(&mut text, format_args!("answer {last}"));
        text
    }

    /// Writes one try; gives the expression of its last result, and whether it is stated to be the target.
    fn attempt(&self, game: &Game, rng: &mut ChaCha8Rng, text: &mut String) -> (Option<String>, bool) {
        let mut left = game.numbers.clone();
        let mut expressions: Vec<String> = left.iter().map(u32::to_string).collect();
        let mut last = None;
        while left.len() > 1 {
            let insight = if chance(rng, self.insight) { self.leading_step(&left, game.target, rng) } else { None };
            let Some(mut step) = insight.or_else(|| self.any_step(&left, rng)) else { break };
            let (first, second) = (left[step.first], left[step.second]);
            if chance(rng, self.noise) {
                step.result = between(rng, (1, self.limit));
            }
            let expression = format!(
                "{} {} {}",
                bracketed(&expressions[step.first]),
                step.operation,
                bracketed(&expressions[step.second])
            );
            push(text, format_args!("{first} {} {second} = {} left ", step.operation, step.result));
            step.apply(&mut left);
            step.replace(&mut expressions, expression.clone());
            for number in &left {
                push(text, format_args!("{number} "));
            }
            last = Some(expression);
            if step.result == game.target {
                return (last, true);
            }
        }
        (last, false)
    }

    /// A legal step, uniformly; none where every result is too large.
    fn any_step(&self, left: &[u32], rng: &mut ChaCha8Rng) -> Option<Step> {
        let steps = self.steps(left);
        let count = u32::try_from(steps.len()).ok().filter(|&count| count > 0)?;
        steps.into_iter().nth(below(rng, count) as usize)
    }

    /// The first step of a way to the target; a random one of the ways.
    fn leading_step(&self, left: &[u32], target: u32, rng: &mut ChaCha8Rng) -> Option<Step> {
        let mut steps = self.steps(left);
        for end in (1..steps.len()).rev() {
            steps.swap(end, below(rng, end as u32 + 1) as usize);
        }
        steps.into_iter().find(|step| step.result == target || self.reaches(&step.after(left), target))
    }

    /// Whether legal steps lead from these numbers to the target. At most five numbers are given, which
    /// bounds the search by some 50,000 steps.
    fn reaches(&self, left: &[u32], target: u32) -> bool {
        left.len() > 1
            && self.steps(left).iter().any(|step| step.result == target || self.reaches(&step.after(left), target))
    }

    /// Every legal step: whole results from 1 to `limit`, nothing multiplied or divided by 1.
    fn steps(&self, left: &[u32]) -> Vec<Step> {
        let mut steps = Vec::new();
        for first in 0..left.len() {
            for second in 0..left.len() {
                let (a, b) = (left[first], left[second]);
                let mut add = |holds: bool, operation: char, result: u32| {
                    if holds && first != second && (1..=self.limit).contains(&result) {
                        steps.push(Step { first, second, operation, result });
                    }
                };
                // Sums and products are the same both ways round, and stated once.
                add(first < second, '+', a + b);
                add(first < second && a > 1 && b > 1, '*', a * b);
                add(a > b, '-', a.saturating_sub(b));
                add(b > 1 && a.is_multiple_of(b), '/', a / b);
            }
        }
        steps
    }

    fn read(&self, statement: &str) -> Result<Game, String> {
        let form = || "expected `reach TARGET from NUMBER NUMBER …`".to_owned();
        let mut words = statement.split_whitespace();
        let number = |word: Option<&str>| -> Result<u32, String> {
            let number: u32 = word.and_then(|word| word.parse().ok()).ok_or_else(form)?;
            if (1..=self.limit).contains(&number) {
                Ok(number)
            } else {
                Err(format!("it has the number {number}, expected 1 to {}", self.limit))
            }
        };
        if words.next() != Some("reach") {
            return Err(form());
        }
        let target = number(words.next())?;
        if words.next() != Some("from") {
            return Err(form());
        }
        let numbers = words.map(|word| number(Some(word))).collect::<Result<Vec<u32>, String>>()?;
        // More numbers would take the search for a solution minutes.
        if (2..=5).contains(&numbers.len()) {
            Ok(Game { target, numbers })
        } else {
            Err(format!("it has {} numbers, expected 2 to 5", numbers.len()))
        }
    }
}

struct Game {
    target: u32,
    numbers: Vec<u32>,
}

impl Game {
    /// The target and the numbers, as a reference states them.
    fn reference(&self) -> String {
        let given: Vec<String> = self.numbers.iter().map(u32::to_string).collect();
        format!("{} from {}", self.target, given.join(" "))
    }
}

/// Two of the numbers left, by position, and what becomes of them.
struct Step {
    first: usize,
    second: usize,
    operation: char,
    result: u32,
}

impl Step {
    /// Takes the two out and puts the result last.
    fn apply(&self, left: &mut Vec<u32>) {
        self.replace(left, self.result);
    }

    fn replace<T>(&self, left: &mut Vec<T>, result: T) {
        left.remove(self.first.max(self.second));
        left.remove(self.first.min(self.second));
        left.push(result);
    }

    fn after(&self, left: &[u32]) -> Vec<u32> {
        let mut left = left.to_vec();
        self.apply(&mut left);
        left
    }
}

/// An expression as an operand: a compound one in brackets, whether it needs them or not.
fn bracketed(expression: &str) -> String {
    if expression.contains(' ') { format!("( {expression} )") } else { expression.to_owned() }
}

fn push(text: &mut String, words: std::fmt::Arguments<'_>) {
    text.write_fmt(words).expect("writing to a string cannot fail");
}
