//! Chains: a value goes through steps, each adding operands modulo a small number.
//!
//! `from 3 a1 1 a2 4 b1 2 b2 0` starts at 3; step A adds 1 and 4, step B adds 2 and 0. A worked
//! solution takes each step by one of two methods, named by a keyword: `slow a1 1 4 a2 4 3 A 3` spells
//! the sums out and is mostly right, `fast A 3` states a value that is drawn blindly. It ends with
//! `answer A 3 B 0`, and every part must be right. A solver may also notice a slip, say `again` and
//! take the step anew, so that a wrong beginning can still end well.
//!
//! A blind value is luck that cannot be learnt from: it is independent of the problem, so imitating
//! it teaches nothing, while preferring `slow` teaches everything. A guess of the whole answer is
//! right once in modulus^steps: 1 in 1,024 for the 4 values and 5 steps of the default.

use std::fmt::Write;

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use toehold_verifier::Verifier;

use super::draw::{below, between, chance, generator};
use super::{Perturbation, SyntheticError, require};
use crate::{Problem, ProblemId};

/// Settings of the chain family.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Chain {
    /// Values are `0..modulus`; 2 to 100.
    pub modulus: u32,
    /// Operands of each step; 1 to 7, so that the vocabulary stays below 256 words in most settings.
    pub operands: u32,
    /// Fewest and most steps, drawn uniformly; 1 to 26, one letter each.
    pub steps: (u32, u32),
    /// Share of steps that the solver takes by the careful method; 0 to 1. Without effect on one method.
    pub careful: f64,
    /// Chance that a careful step ends in a value drawn blindly; 0 to 1.
    pub noise: f64,
    /// Which methods there are.
    pub methods: Methods,
    /// Chance that the solver notices a careful step's slip and takes the step again; 0 to below 1.
    pub repair: f64,
}

/// The methods that a solver may choose between at each step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Methods {
    /// `slow` and `fast`: what is to be learnt is which to prefer.
    #[default]
    Two,
    /// `slow` alone: what is to be learnt is to slip less. The contrast, in which imitation wins.
    One,
}

impl Default for Chain {
    /// Five steps over four values, one step in 200 careful: rare enough that a lucky success holds
    /// no careful step that imitation could pick up.
    fn default() -> Chain {
        Chain {
            modulus: 4,
            operands: 2,
            steps: (5, 5),
            careful: 0.005,
            noise: 0.02,
            methods: Methods::Two,
            repair: 0.0,
        }
    }
}

impl Chain {
    /// The chance that the noisy solver is right on a problem of so many steps.
    ///
    /// All steps must be right: a careful one is, unless it slips, is then not lucky, and does not notice
    /// or slips again; a careless one is once in `modulus`.
    pub fn success_chance(&self, steps: u32) -> f64 {
        let luck = 1.0 / f64::from(self.modulus);
        let slip = self.noise * (1.0 - luck);
        let slow = (1.0 - slip) / (1.0 - slip * self.repair);
        let careful = if self.methods == Methods::One { 1.0 } else { self.careful };
        (careful * slow + (1.0 - careful) * luck).powi(i32::try_from(steps).unwrap_or(i32::MAX))
    }

    pub(super) fn check(&self) -> Result<(), SyntheticError> {
        require((2..=100).contains(&self.modulus), "modulus", self.modulus, "2 to 100")?;
        require((1..=7).contains(&self.operands), "operands", self.operands, "1 to 7")?;
        let (fewest, most) = self.steps;
        require(1 <= fewest && fewest <= most && most <= 26, "steps", self.steps, "(fewest, most) within 1 to 26")?;
        require((0.0..=1.0).contains(&self.careful), "careful", self.careful, "a share from 0 to 1")?;
        require((0.0..=1.0).contains(&self.noise), "noise", self.noise, "a chance from 0 to 1")?;
        // Certain of both, it would take the same step for ever.
        require((0.0..1.0).contains(&self.repair), "repair", self.repair, "a chance from 0 to below 1")?;
        let words = self.vocabulary().len() + 2;
        require(words < 256, "the vocabulary", words, "fewer than 256 words: lower modulus, operands or steps")
    }

    pub(super) fn problem(&self, id: ProblemId, rng: &mut ChaCha8Rng) -> Problem {
        let steps = between(rng, self.steps);
        let sums = self.draw(steps as usize, rng);
        self.stated(id, &sums)
    }

    /// The numbers of a problem of so many steps.
    fn draw(&self, steps: usize, rng: &mut ChaCha8Rng) -> Sums {
        let start = below(rng, self.modulus);
        let operands = (0..steps).map(|_| (0..self.operands).map(|_| below(rng, self.modulus)).collect()).collect();
        Sums { start, operands }
    }

    /// The problem with these numbers and its right solution.
    fn stated(&self, id: ProblemId, sums: &Sums) -> Problem {
        let answer: Vec<String> = sums.values(self.modulus).iter().map(u32::to_string).collect();
        // A solver that is always careful and never slips draws, but heeds nothing of it.
        let careful = Chain { careful: 1.0, noise: 0.0, ..self.clone() };
        let solution = careful.work(sums, &mut generator(0));
        Problem {
            id,
            problem: sums.statement(),
            answer: answer.join(" "),
            verifier: Verifier::Chain,
            solution: Some(solution),
            cue: None,
        }
    }

    /// The problem with other numbers; none where there is nothing to take out.
    pub(super) fn perturbed(
        &self,
        problem: &Problem,
        id: ProblemId,
        way: Perturbation,
        rng: &mut ChaCha8Rng,
    ) -> Result<Option<Problem>, String> {
        let mut sums = self.read(&problem.problem)?;
        let quantities = 1 + sums.operands.len() * self.operands as usize;
        match way {
            Perturbation::Renumbered => Ok(Some(self.stated(id, &self.draw(sums.operands.len(), rng)))),
            Perturbation::Changed => {
                let at = below(rng, quantities as u32) as usize;
                let value = sums.quantity(at, self.operands as usize);
                // One of the other values, each equally likely.
                *value = (*value + 1 + below(rng, self.modulus - 1)) % self.modulus;
                Ok(Some(self.stated(id, &sums)))
            }
            Perturbation::Removed => {
                // The words `label value` of an operand, after `from START`. Taking out a 0 takes out nothing.
                let words: Vec<&str> = problem.problem.split_whitespace().collect();
                let counts: Vec<usize> = (1..quantities).filter(|at| words[2 * at + 1] != "0").collect();
                if counts.is_empty() {
                    return Ok(None);
                }
                let at = 2 * counts[below(rng, counts.len() as u32) as usize];
                let left = [&words[..at], &words[at + 2..]].concat().join(" ");
                Ok(Some(Problem { id, problem: left, solution: None, ..problem.clone() }))
            }
        }
    }

    pub(super) fn solution(&self, statement: &str, rng: &mut ChaCha8Rng) -> Result<String, String> {
        Ok(self.work(&self.read(statement)?, rng))
    }

    /// The operation to start with, where there is a choice.
    pub(super) fn cue(&self, statement: &str) -> Result<Option<String>, String> {
        self.read(statement)?;
        Ok((self.methods == Methods::Two).then(|| "slow".to_owned()))
    }

    pub(super) fn vocabulary(&self) -> Vec<String> {
        let mut words: Vec<String> = ["from", "slow", "fast", "answer"].map(str::to_owned).into();
        if self.repair > 0.0 {
            words.push("again".to_owned());
        }
        words.extend((0..self.modulus).map(|value| value.to_string()));
        for step in 0..self.steps.1 as usize {
            words.push(capital(step).to_string());
            words.extend((0..self.operands as usize).map(|operand| label(step, operand)));
        }
        words
    }

    /// Works the steps out, carrying on from whatever value the last one stated.
    fn work(&self, sums: &Sums, rng: &mut ChaCha8Rng) -> String {
        let mut text = String::new();
        let mut answer = "answer".to_owned();
        let mut value = sums.start;
        for (step, operands) in sums.operands.iter().enumerate() {
            if self.methods == Methods::One || chance(rng, self.careful) {
                let before = value;
                let right = operands.iter().fold(before, |sum, operand| (sum + operand) % self.modulus);
                loop {
                    text.push_str("slow");
                    value = before;
                    for (index, operand) in operands.iter().enumerate() {
                        value = (value + operand) % self.modulus;
                        if index + 1 == operands.len() && chance(rng, self.noise) {
                            value = below(rng, self.modulus);
                        }
                        push(&mut text, format_args!(" {} {operand} {value}", label(step, index)));
                    }
                    push(&mut text, format_args!(" {} {value} ", capital(step)));
                    // Without repair nothing is drawn, so that seeds mean what they meant.
                    if value == right || self.repair == 0.0 || !chance(rng, self.repair) {
                        break;
                    }
                    text.push_str("again ");
                }
            } else {
                value = below(rng, self.modulus);
                push(&mut text, format_args!("fast {} {value} ", capital(step)));
            }
            push(&mut answer, format_args!(" {} {value}", capital(step)));
        }
        text + &answer
    }

    /// Reads a statement that settings of this modulus and number of operands made; any number of steps.
    fn read(&self, statement: &str) -> Result<Sums, String> {
        let form = || format!("expected `from START a1 OPERAND …` with {} operands a step", self.operands);
        let mut words = statement.split_whitespace();
        if words.next() != Some("from") {
            return Err(form());
        }
        let value = |word: Option<&str>| -> Result<u32, String> {
            let value: u32 = word.and_then(|word| word.parse().ok()).ok_or_else(form)?;
            if value < self.modulus {
                Ok(value)
            } else {
                Err(format!("it has the value {value}, expected less than {}", self.modulus))
            }
        };
        let start = value(words.next())?;
        let mut operands: Vec<Vec<u32>> = Vec::new();
        let mut words = words.peekable();
        while words.peek().is_some() {
            let mut step = Vec::new();
            for index in 0..self.operands as usize {
                if operands.len() == 26 || words.next() != Some(label(operands.len(), index).as_str()) {
                    return Err(form());
                }
                step.push(value(words.next())?);
            }
            operands.push(step);
        }
        if operands.is_empty() { Err(form()) } else { Ok(Sums { start, operands }) }
    }
}

/// A problem's numbers: where it starts, and each step's operands.
struct Sums {
    start: u32,
    operands: Vec<Vec<u32>>,
}

impl Sums {
    fn statement(&self) -> String {
        let mut text = format!("from {}", self.start);
        for (step, operands) in self.operands.iter().enumerate() {
            for (index, operand) in operands.iter().enumerate() {
                push(&mut text, format_args!(" {} {operand}", label(step, index)));
            }
        }
        text
    }

    /// The start for 0, then the operands of each step.
    fn quantity(&mut self, at: usize, operands: usize) -> &mut u32 {
        match at.checked_sub(1) {
            None => &mut self.start,
            Some(at) => &mut self.operands[at / operands][at % operands],
        }
    }

    /// The value after each step.
    fn values(&self, modulus: u32) -> Vec<u32> {
        let after = |value: &mut u32, operands: &Vec<u32>| {
            *value = operands.iter().fold(*value, |value, operand| (value + operand) % modulus);
            Some(*value)
        };
        self.operands.iter().scan(self.start, after).collect()
    }
}

/// The name of a step's result; steps are at most 26.
fn capital(step: usize) -> char {
    char::from(b'A' + step as u8)
}

/// The name of a step's operand, `a1` for the first of the first.
fn label(step: usize, operand: usize) -> String {
    format!("{}{}", capital(step).to_ascii_lowercase(), operand + 1)
}

fn push(text: &mut String, words: std::fmt::Arguments<'_>) {
    text.write_fmt(words).expect("writing to a string cannot fail");
}
