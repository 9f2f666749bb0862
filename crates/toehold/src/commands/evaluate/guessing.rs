//! How often the answer of a problem is guessed, and which problems are guessed too often to train on.

use std::collections::HashMap;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use toehold_rollout::{Problem, Prompts, Start, SuccessCount, TokenId};
use toehold_training::evaluation::guessing::{guess_counts, is_guessable, opening};
use toehold_training::evaluation::{CountPlan, ProblemCount};

use super::measure::{Both, Workplace};
use super::{count_plan, plain_sets, rate};
use crate::prepare::Prepared;
use crate::run_folder::write_whole;
use crate::terminal;

/// Rows of the table of problems.
const LISTED: usize = 10;

/// The guesses of both policies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Guessing {
    /// The texts that were given to open an answer, each once.
    pub(super) openings: Vec<String>,
    /// Problems whose answer has no short form, and which were left out.
    pub(super) left_out: usize,
    /// One set of plain problems after the other.
    pub(super) sets: Vec<GuessedSet>,
}

/// The guesses at one set of plain problems.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct GuessedSet {
    /// Which problems.
    pub(super) set: String,
    /// One count per problem and policy, in the order of the problems.
    pub(super) problems: Both<Vec<ProblemCount>>,
}

/// `given` opens every answer where it is there, and each verifier's own opening where not; at most `tokens` follow.
pub(super) fn measure(place: &mut Workplace<'_>, given: Option<&str>, tokens: u32) -> Result<Guessing> {
    let prepared = place.prepared;
    let judge = prepared.judge(place.problems);
    let plan = count_plan(prepared, prepared.plan.evaluate.samples);
    let max_tokens = tokens.min(plan.params.max_tokens);
    let plan = CountPlan { params: prepared.sampling(plan.params.temperature, max_tokens), ..plan };
    let problems: HashMap<&str, &Problem> = place.problems.iter().map(|one| (one.id.as_str(), one)).collect();
    let mut found = Guessing { openings: Vec::new(), left_out: 0, sets: Vec::new() };
    for (set, starts) in plain_sets(prepared) {
        let mut asked: Vec<(Start, Vec<TokenId>)> = Vec::new();
        for start in starts {
            let opening = problems.get(start.problem.as_str()).and_then(|problem| opening(problem.verifier));
            let Some(text) = given.or(opening) else {
                found.left_out += 1;
                continue;
            };
            let text = closed(prepared, &start, text);
            asked.push((start, encoded(prepared, &text)?));
            if !found.openings.contains(&text) {
                found.openings.push(text);
            }
        }
        place.tick(&format!("{set} problems"))?;
        let mut counts = Vec::new();
        for (_, policy) in place.policies.each() {
            counts.push(guess_counts(policy, &judge, &asked, &plan)?);
        }
        found.sets.extend(Both::of(counts).map(|problems| GuessedSet { set: set.to_owned(), problems }));
    }
    if found.sets.iter().all(|set| set.problems.before.is_empty()) {
        bail!(
            "no problem here has an answer that a few words open: programs, and what a command judges, have none\n\
             hint: name the words yourself with --opening, where there are some"
        );
    }
    Ok(found)
}

/// The opening, after the end of the thought where the prompt begins one.
fn closed(prepared: &Prepared, start: &Start, opening: &str) -> String {
    let thinks = Prompts::leaves_thought_open(&start.prompt, &prepared.tokenizer);
    format!("{}{opening}", if thinks { "</think>\n\n" } else { "" })
}

/// The tokens of an opening that come back as the same text.
fn encoded(prepared: &Prepared, text: &str) -> Result<Vec<TokenId>> {
    let tokens = prepared.tokenizer.encode(text)?;
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let back = prepared.tokenizer.decode_raw(&tokens);
    if words(&back) != words(text) {
        bail!(
            "the words that open an answer, {text:?}, come back from the tokenizer as {back:?}\n\
             hint: name others with --opening, as the policy writes them"
        );
    }
    Ok(tokens)
}

/// Writes the ids of the problems that the base guesses in more than `share` of its tries, a line each, into the
/// run's folder; gives how many there are.
pub(super) fn list(prepared: &Prepared, found: &Guessing, share: f64) -> Result<usize> {
    let ids: Vec<&str> = guessable(found, share).map(|one| one.problem.as_str()).collect();
    let text: String = ids.iter().map(|id| format!("{id}\n")).collect();
    write_whole(&prepared.folder.path().join(FILE), text.as_bytes())?;
    Ok(ids.len())
}

/// The file's name in the run's folder.
const FILE: &str = "guessable.txt";

/// By the base: training on a problem makes its answer known, which is another thing than a guess.
fn guessable(found: &Guessing, share: f64) -> impl Iterator<Item = &ProblemCount> {
    let problems = found.sets.iter().flat_map(|set| &set.problems.before);
    problems.filter(move |one| is_guessable(one.count, share))
}

pub(super) fn table(prepared: &Prepared, found: &Guessing, share: f64) -> String {
    let total = |counts: &[ProblemCount]| {
        let mut total = SuccessCount::default();
        counts.iter().for_each(|one| total.merge(one.count));
        total
    };
    let mut rows = Vec::new();
    for set in &found.sets {
        for (policy, counts) in set.problems.each() {
            let above = counts.iter().filter(|one| is_guessable(one.count, share)).count() as u64;
            let number = terminal::count(counts.len() as u64);
            rows.push(vec![policy.into(), set.set.clone(), number, rate(total(counts)), terminal::count(above)]);
        }
    }
    let above = format!("above {}", terminal::percent(share));
    let mut text = terminal::table(&["policy", "problems", "number", "guessed [95 %]", &above], &rows);
    let most = most_guessed(found);
    if !most.is_empty() {
        let row = |(before, after): &(&ProblemCount, &ProblemCount)| {
            vec![before.problem.as_str().to_owned(), rate(before.count), rate(after.count)]
        };
        let rows: Vec<Vec<String>> = most.iter().take(LISTED).map(row).collect();
        text.push_str("\n\n");
        text.push_str(&terminal::table(&["most guessed", "before [95 %]", "after [95 %]"], &rows));
    }
    if found.left_out > 0 {
        let left_out = terminal::count(found.left_out as u64);
        text.push_str(&format!("\n\n{left_out} problems have no short answer and were left out."));
    }
    let folder = prepared.folder.path().display();
    match guessable(found, share).count() {
        0 => text.push_str(&format!(
            "\n\nThe base guesses no problem in more than {} of its tries.",
            terminal::percent(share)
        )),
        count => text.push_str(&format!(
            "\n\nThe base guesses {} in more than {} of its tries; {folder}/{FILE} lists them. Without them:\n    \
             toehold problems {folder} --except {folder}/{FILE} > kept.jsonl\n\
             and [problems] file = \"kept.jsonl\" in another run's recipe.",
            if count == 1 { "1 problem".to_owned() } else { format!("{} problems", terminal::count(count as u64)) },
            terminal::percent(share),
        )),
    }
    text
}

/// Problems that were guessed at all, those that the base guesses most often first.
fn most_guessed(found: &Guessing) -> Vec<(&ProblemCount, &ProblemCount)> {
    let both = found.sets.iter().flat_map(|set| set.problems.before.iter().zip(&set.problems.after));
    let mut both: Vec<_> = both.filter(|(before, after)| before.count.successes + after.count.successes > 0).collect();
    let order = |(before, after): &(&ProblemCount, &ProblemCount)| {
        (before.count.rate().unwrap_or(0.0), after.count.rate().unwrap_or(0.0))
    };
    both.sort_by(|a, b| {
        let ((a_before, a_after), (b_before, b_after)) = (order(a), order(b));
        b_before.total_cmp(&a_before).then(b_after.total_cmp(&a_after)).then_with(|| a.0.problem.cmp(&b.0.problem))
    });
    both
}
