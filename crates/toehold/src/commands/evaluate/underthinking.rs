//! How much of a wrong trace comes after a thought that would have led to the answer.
//!
//! Of each problem the first wrong completion that ended by itself; the policy that wrote it goes on
//! from the end of each of its thoughts.

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use toehold_rollout::{Origin, Start, StopReason, TokenId, TokenizerFile};
use toehold_training::curriculum::cut::answer_limit;
use toehold_training::evaluation::underthinking::{Thought, is_right, thoughts, underthinking};
use toehold_training::evaluation::{count_successes, sample_each};

use super::measure::{Both, Workplace};
use super::{count_plan, first};
use crate::terminal;

/// The underthinking of both policies.
pub(super) type Underthinking = Both<PolicyUnderthinking>;

/// The underthinking of one policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct PolicyUnderthinking {
    /// ξ; none without a wrong completion.
    pub(super) value: Option<f64>,
    /// The wrong completions, one per problem.
    pub(super) wrong: Vec<Thought>,
    /// Thoughts in them.
    pub(super) thoughts: usize,
}

/// A wrong completion to be taken apart.
struct Wrong {
    start: Start,
    tokens: Vec<TokenId>,
    /// Where its answer begins.
    limit: usize,
}

pub(super) fn measure(place: &mut Workplace<'_>, words: &[String]) -> Result<Underthinking> {
    let prepared = place.prepared;
    let switches = switch_tokens(&prepared.tokenizer, words);
    if switches.is_empty() {
        bail!("the tokenizer has none of the words {}\nhint: name others with --switch", words.join(", "));
    }
    let judge = prepared.judge(place.problems);
    let settings = &prepared.plan.evaluate;
    let plan = count_plan(prepared, settings.curve_samples);
    let starts = first(prepared.starts.clone(), settings.sweep_traces);
    let decode = |tokens: &[TokenId]| prepared.tokenizer.decode(tokens);
    let mut results = Vec::new();
    for turn in 0..2 {
        place.tick(["before", "after"][turn])?;
        let policy = &mut *place.policies.each()[turn].1;
        // The wrong one of the lowest index, whatever the order in which they end.
        let mut wrong: Vec<Option<(u32, Vec<TokenId>)>> = vec![None; starts.len()];
        sample_each(policy, &judge, &starts, &plan, &mut |at, index, completion, verdict| {
            let failed = verdict.outcome.is_judged() && !verdict.outcome.is_correct();
            let is_wrong = failed && completion.stop == StopReason::EndOfText;
            if is_wrong && wrong[at].as_ref().is_none_or(|(before, _)| index < *before) {
                wrong[at] = Some((index, completion.tokens));
            }
        })?;
        let taken = |(start, found): (&Start, Option<(u32, Vec<TokenId>)>)| {
            let problem = place.problems.iter().find(|problem| problem.id == start.problem)?;
            let (_, tokens) = found?;
            let limit = answer_limit(problem.verifier, &tokens, &decode);
            Some(Wrong { start: start.clone(), tokens, limit })
        };
        let wrong: Vec<Wrong> = starts.iter().zip(wrong).filter_map(taken).collect();
        // All thoughts of all traces at once: their ends are nested prefixes, which are computed once.
        let mut ends = Vec::new();
        let mut prefixes = Vec::new();
        for (at, one) in wrong.iter().enumerate() {
            for thought in thoughts(&one.tokens, |token| switches.contains(&token)) {
                let end = thought.end.min(one.limit);
                if end > thought.start {
                    let origin = Origin { trace: None, source_tokens: one.tokens.len() as u32 };
                    let (problem, prompt) = (one.start.problem.clone(), one.start.prompt.clone());
                    ends.push((at, end));
                    prefixes.push(Start::prefixed(problem, prompt, one.tokens[..end].to_vec(), origin));
                }
            }
        }
        let counts = count_successes(policy, &judge, &prefixes, &plan)?;
        let mut found: Vec<Thought> =
            wrong.iter().map(|one| Thought { tokens: one.tokens.len(), first_right: None }).collect();
        for (&(at, end), count) in ends.iter().zip(&counts) {
            if is_right(count.count) && found[at].first_right.is_none() {
                found[at].first_right = Some(end);
            }
        }
        results.push(PolicyUnderthinking { value: underthinking(&found), wrong: found, thoughts: ends.len() });
    }
    Ok(Both::of(results).unwrap_or_else(|| Both { before: Default::default(), after: Default::default() }))
}

/// The first token of each word, as a line's first word and inside a line, in small and capital letters;
/// those that the tokenizer does not know are left out.
fn switch_tokens(tokenizer: &TokenizerFile, words: &[String]) -> Vec<TokenId> {
    let mut found = Vec::new();
    for word in words.iter().filter(|word| !word.is_empty()) {
        let mut letters = word.chars();
        let capital: String = letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect();
        for text in [word.clone(), capital.clone(), format!(" {word}"), format!(" {capital}")] {
            let token = tokenizer.encode(&text).ok().and_then(|tokens| tokens.first().copied());
            let Some(token) = token else { continue };
            let written = tokenizer.decode_raw(&[token]);
            let is_known = !written.trim().is_empty() && text.trim().starts_with(written.trim());
            if is_known && !found.contains(&token) {
                found.push(token);
            }
        }
    }
    found
}

pub(super) fn table(found: &Underthinking) -> String {
    let row = |(policy, one): (&str, &PolicyUnderthinking)| {
        let with_right = one.wrong.iter().filter(|thought| thought.first_right.is_some()).count();
        let mean = |sum: usize| match one.wrong.len() {
            0 => "–".to_owned(),
            traces => format!("{:.1}", sum as f64 / traces as f64),
        };
        vec![
            policy.to_owned(),
            terminal::count(one.wrong.len() as u64),
            mean(one.wrong.iter().map(|thought| thought.tokens).sum()),
            mean(one.thoughts),
            terminal::count(with_right as u64),
            one.value.map_or("–".to_owned(), terminal::percent),
        ]
    };
    let headers = ["policy", "wrong traces", "tokens", "thoughts", "with a right one", "underthinking"];
    terminal::table(&headers, &found.each().map(row))
}
