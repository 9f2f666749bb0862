//! How much of a wrong trace comes after a thought that would have led to the answer; where it is asked for,
//! also with a penalty on switching thoughts.
//!
//! Of each problem the first wrong completion that ended by itself; the policy that wrote it goes on
//! from the end of each of its thoughts. It goes on without the penalty in both cases: whether a thought was
//! right is asked in one way, and only what was written differs.

use std::collections::HashMap;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use toehold_policy::Policy;
use toehold_rollout::{Origin, ProblemId, SamplingParams, Start, StopReason, SuccessCount, SwitchPenalty, TokenId};
use toehold_training::curriculum::cut::answer_limit;
use toehold_training::evaluation::underthinking::{Thought, is_right, thoughts, underthinking};
use toehold_training::evaluation::{CountPlan, count_successes, sample_each};
use toehold_verifier::Verifier;

use super::measure::{Both, Workplace};
use super::{count_plan, first, rate};
use crate::prepare::Prepared;
use crate::terminal;
use crate::thought_switch::switch_tokens;

/// The underthinking of both policies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Underthinking {
    /// Of the policies as they are.
    #[serde(flatten)]
    pub(super) plain: Both<PolicyUnderthinking>,
    /// With a penalty on switching thoughts, where one was asked for.
    pub(super) penalised: Option<Penalised>,
}

/// The underthinking of both policies with a penalty on switching thoughts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Penalised {
    /// What is taken from the logits of the words that begin another thought.
    pub(super) penalty: f32,
    /// Tokens of a thought in which it is.
    pub(super) window: u32,
    /// What came of it.
    #[serde(flatten)]
    pub(super) found: Both<PolicyUnderthinking>,
}

/// The underthinking of one policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct PolicyUnderthinking {
    /// Of all completions.
    pub(super) count: SuccessCount,
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

/// What completions are taken apart by.
struct Question<'a> {
    prepared: &'a Prepared,
    verifiers: HashMap<&'a ProblemId, Verifier>,
    starts: Vec<Start>,
    switches: Vec<TokenId>,
    plan: CountPlan,
}

pub(super) fn measure(
    place: &mut Workplace<'_>,
    words: &[String],
    penalty: Option<(f32, u32)>,
) -> Result<Underthinking> {
    let prepared = place.prepared;
    let switches = switch_tokens(&prepared.tokenizer, words, "--switch")?;
    let judge = prepared.judge(place.problems);
    let settings = &prepared.plan.evaluate;
    let mut plan = count_plan(prepared, settings.curve_samples);
    plan.params.thought_switch = None;
    let question = Question {
        prepared,
        verifiers: place.problems.iter().map(|problem| (&problem.id, problem.verifier)).collect(),
        starts: first(prepared.starts.clone(), settings.sweep_traces),
        switches,
        plan,
    };
    let mut both = |penalty: Option<(f32, u32)>| -> Result<Both<PolicyUnderthinking>> {
        let thought_switch =
            penalty.map(|(penalty, window)| SwitchPenalty { tokens: question.switches.clone(), penalty, window });
        let params = SamplingParams { thought_switch, ..question.plan.params.clone() };
        let mut of = |turn: usize| {
            let words = ["before", "after"][turn];
            place.tick(&penalty.map_or(words.to_owned(), |_| format!("{words}, with the penalty")))?;
            question.ask(place.policies.each()[turn].1, &judge, &params)
        };
        Ok(Both { before: of(0)?, after: of(1)? })
    };
    let plain = both(None)?;
    let penalised = penalty.map(|(penalty, window)| -> Result<Penalised> {
        Ok(Penalised { penalty, window, found: both(Some((penalty, window)))? })
    });
    Ok(Underthinking { plain, penalised: penalised.transpose()? })
}

impl Question<'_> {
    /// The underthinking of completions that `policy` samples with `params`.
    fn ask(
        &self,
        policy: &mut Policy,
        judge: &dyn toehold_rollout::collect::Judge,
        params: &SamplingParams,
    ) -> Result<PolicyUnderthinking> {
        let (starts, plan) = (&self.starts, &self.plan);
        // The wrong one of the lowest index, whatever the order in which they end.
        let mut wrong: Vec<Option<(u32, Vec<TokenId>)>> = vec![None; starts.len()];
        let mut count = SuccessCount::default();
        let sampled = CountPlan { params: params.clone(), ..plan.clone() };
        sample_each(policy, judge, starts, &sampled, &mut |at, index, completion, verdict| {
            if !verdict.outcome.is_judged() {
                return;
            }
            count.add(verdict.outcome.is_correct());
            let is_wrong = !verdict.outcome.is_correct() && completion.stop == StopReason::EndOfText;
            if is_wrong && wrong[at].as_ref().is_none_or(|(before, _)| index < *before) {
                wrong[at] = Some((index, completion.tokens));
            }
        })?;
        let decode = |tokens: &[TokenId]| self.prepared.tokenizer.decode(tokens);
        let taken = |(start, found): (&Start, Option<(u32, Vec<TokenId>)>)| {
            let (_, tokens) = found?;
            let limit = answer_limit(*self.verifiers.get(&start.problem)?, &tokens, &decode);
            Some(Wrong { start: start.clone(), tokens, limit })
        };
        let wrong: Vec<Wrong> = starts.iter().zip(wrong).filter_map(taken).collect();
        // All thoughts of all traces at once: their ends are nested prefixes, which are computed once.
        let mut ends = Vec::new();
        let mut prefixes = Vec::new();
        for (at, one) in wrong.iter().enumerate() {
            for thought in thoughts(&one.tokens, |token| self.switches.contains(&token)) {
                let end = thought.end.min(one.limit);
                if end > thought.start {
                    let origin = Origin { trace: None, source_tokens: one.tokens.len() as u32 };
                    let (problem, prompt) = (one.start.problem.clone(), one.start.prompt.clone());
                    ends.push((at, end));
                    prefixes.push(Start::prefixed(problem, prompt, one.tokens[..end].to_vec(), origin));
                }
            }
        }
        let counts = count_successes(policy, judge, &prefixes, plan)?;
        let mut found: Vec<Thought> =
            wrong.iter().map(|one| Thought { tokens: one.tokens.len(), first_right: None }).collect();
        for (&(at, end), count) in ends.iter().zip(&counts) {
            if is_right(count.count) && found[at].first_right.is_none() {
                found[at].first_right = Some(end);
            }
        }
        Ok(PolicyUnderthinking { count, value: underthinking(&found), wrong: found, thoughts: ends.len() })
    }
}

pub(super) fn table(found: &Underthinking) -> String {
    let row = |penalty: &str, (policy, one): (&str, &PolicyUnderthinking)| {
        let with_right = one.wrong.iter().filter(|thought| thought.first_right.is_some()).count();
        let mean = |sum: usize| match one.wrong.len() {
            0 => "–".to_owned(),
            traces => format!("{:.1}", sum as f64 / traces as f64),
        };
        vec![
            policy.to_owned(),
            penalty.to_owned(),
            rate(one.count),
            terminal::count(one.wrong.len() as u64),
            mean(one.wrong.iter().map(|thought| thought.tokens).sum()),
            mean(one.thoughts),
            terminal::count(with_right as u64),
            one.value.map_or("–".to_owned(), terminal::percent),
        ]
    };
    let mut rows: Vec<Vec<String>> = found.plain.each().map(|one| row("none", one)).into();
    if let Some(Penalised { penalty, window, found }) = &found.penalised {
        let penalty = format!("{penalty} for {window} tokens");
        rows.extend(found.each().map(|one| row(&penalty, one)));
    }
    let headers = [
        "policy",
        "penalty",
        "right [95 %]",
        "wrong traces",
        "tokens",
        "thoughts",
        "with a right one",
        "underthinking",
    ];
    terminal::table(&headers, &rows)
}
