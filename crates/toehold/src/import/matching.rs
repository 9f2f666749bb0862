//! Which problem of the run a foreign row is about.
//!
//! By id, where a column has one of the run's ids and the row's own prompt does not contradict it; else by
//! statement: the prompt is the statement, or has it somewhere, white space aside. Of several statements in
//! one prompt the longest counts, since a short one may be part of a long one. A statement found inside a
//! prompt counts only if the row's reference, where it has one, is the problem's.
//!
//! Cost: a prompt that is no statement itself is searched for every statement once, and remembered.

use std::collections::HashMap;

use toehold_rollout::Problem;

use super::{Foreign, Reason};

/// The problems of a run, to be found by id or statement.
pub(super) struct Matching<'a> {
    problems: &'a [Problem],
    by_id: HashMap<&'a str, usize>,
    by_statement: HashMap<String, usize>,
    statements: Vec<String>,
    searched: HashMap<String, Option<usize>>,
}

impl<'a> Matching<'a> {
    pub(super) fn new(problems: &'a [Problem]) -> Matching<'a> {
        let statements: Vec<String> = problems.iter().map(|problem| words(&problem.problem)).collect();
        let mut by_statement = HashMap::new();
        for (at, statement) in statements.iter().enumerate() {
            // Of two problems with one statement the first is found.
            by_statement.entry(statement.clone()).or_insert(at);
        }
        let by_id = problems.iter().enumerate().map(|(at, problem)| (problem.id.as_str(), at)).collect();
        Matching { problems, by_id, by_statement, statements, searched: HashMap::new() }
    }

    /// The position of the row's problem.
    pub(super) fn find(&mut self, row: &Foreign) -> Result<usize, Reason> {
        let prompt = row.statement.as_deref().map(words).unwrap_or_default();
        for name in &row.names {
            // A prompt may have any id as its text: the statement itself stands in the same column in some files.
            if let Some(&at) = self.by_id.get(name.as_str())
                && (prompt.is_empty() || prompt == words(name) || prompt.contains(&self.statements[at]))
            {
                return Ok(at);
            }
        }
        if prompt.is_empty() {
            return Err(Reason::NoProblem);
        }
        if let Some(&at) = self.by_statement.get(&prompt) {
            return Ok(at);
        }
        let at = match self.searched.get(&prompt) {
            Some(&known) => known,
            None => {
                let found = self.search(&prompt);
                self.searched.insert(prompt, found);
                found
            }
        };
        let at = at.ok_or(Reason::NoProblem)?;
        match &row.reference {
            Some(reference) if words(reference) != words(&self.problems[at].answer) => Err(Reason::OtherReference),
            _ => Ok(at),
        }
    }

    /// The longest statement in `prompt`, the first of those.
    fn search(&self, prompt: &str) -> Option<usize> {
        let mut found: Option<usize> = None;
        for (at, statement) in self.statements.iter().enumerate() {
            let is_longer = found.is_none_or(|best| statement.len() > self.statements[best].len());
            if is_longer && stands_alone(prompt, statement) {
                found = Some(at);
            }
        }
        found
    }
}

/// Whether `statement` is in `prompt` and neither begins nor ends within a word or a number.
fn stands_alone(prompt: &str, statement: &str) -> bool {
    if statement.is_empty() {
        return false;
    }
    let joins = |one: Option<char>, other: Option<char>| {
        one.zip(other).is_some_and(|(one, other)| one.is_alphanumeric() && other.is_alphanumeric())
    };
    prompt.match_indices(statement).any(|(at, _)| {
        let (before, after) = (prompt[..at].chars().next_back(), prompt[at + statement.len()..].chars().next());
        !joins(before, statement.chars().next()) && !joins(statement.chars().next_back(), after)
    })
}

/// The words of a text, one space between.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
