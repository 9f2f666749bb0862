//! Votes in which the sampler stops, against the same votes played on completions that were sampled whole.
#![allow(clippy::unwrap_used)] // A test that unwraps fails, which is its purpose.

mod common;

use common::params;
use expect_test::{Expect, expect};
use toehold_rollout::collect::Judge;
use toehold_rollout::{Completion, Learner as _, ProblemId, SamplingParams, Start};
use toehold_training::evaluation::CountPlan;
use toehold_training::evaluation::answers::{Answered, sample_answers};
use toehold_training::evaluation::confidence::{Score, Vote, bar, leader, stop_point, trace_confidence};
use toehold_training::evaluation::online::{OnlinePlan, OnlineVote, VoteEnd, vote_online};
use toehold_training::tabular::TabularPolicy;
use toehold_verifier::{Outcome, Verdict};

/// The answer is the token before the end; 2 is right, and without an end there is none.
struct LastToken;

impl Judge for LastToken {
    fn judge(&self, _: &Start, completion: &Completion) -> Verdict {
        match completion.tokens.as_slice() {
            [.., answer, 0] => {
                let outcome = if *answer == 2 { Outcome::Correct } else { Outcome::Wrong };
                Verdict { outcome, extracted: Some(answer.to_string()) }
            }
            _ => Verdict { outcome: Outcome::NoAnswer, extracted: None },
        }
    }
}

const PROBLEMS: u32 = 12;
const BUDGET: u32 = 40;

/// Prompts of a token each, whose completions are sure for some and doubtful for others.
fn policy() -> TabularPolicy {
    let mut policy = TabularPolicy::uniform(4 + PROBLEMS as usize, 1, 1e9);
    policy.never(4..4 + PROBLEMS);
    for state in 1..4 + PROBLEMS {
        let row = policy.logits_mut(&[state]);
        let sure = f64::from(state % 5) * 0.6;
        row[..4].copy_from_slice(&[0.4, 0.1, sure, 0.2]);
    }
    policy.publish().unwrap();
    policy
}

fn starts() -> Vec<Start> {
    (4..4 + PROBLEMS).map(|token| Start::plain(ProblemId::from(format!("p{token}")), vec![token])).collect()
}

fn plan(samples: u32) -> CountPlan {
    CountPlan { samples, params: SamplingParams { stop: vec![0], ..params(24) }, seed: 5, in_flight: 7 }
}

/// The same by the definition, on whole completions.
fn played(whole: &[Answered], online: &OnlinePlan) -> (u32, u32, u64, Option<String>, VoteEnd) {
    let window = online.window as usize;
    let score = |one: &Answered| trace_confidence(Score::Lowest, &one.behavior, window).unwrap();
    let (first, later) = whole.split_at(online.warm_up as usize);
    let bar = bar(&first.iter().map(score).collect::<Vec<_>>(), online.kept).unwrap();
    let cast = |one: &Answered| -> Option<(String, f64)> {
        Some((one.answer.clone()?, score(one).exp())).filter(|_| score(one) >= bar)
    };
    let mut kept: Vec<(String, f64)> = first.iter().filter_map(cast).collect();
    let leads = |kept: &[(String, f64)]| {
        let votes: Vec<Vote<'_>> = kept.iter().map(|(answer, weight)| Vote { answer, weight: *weight }).collect();
        leader(&votes).map(|led| (led.answer.to_owned(), led.share))
    };
    let mut tokens: u64 = first.iter().map(|one| one.behavior.len() as u64).sum();
    let (mut completions, mut stopped) = (online.warm_up, 0);
    let mut later = later.iter();
    let end = loop {
        if leads(&kept).is_some_and(|(_, share)| share >= online.consensus) {
            break VoteEnd::Consensus;
        }
        let Some(next) = later.next() else { break VoteEnd::Budget };
        completions += 1;
        let stop = stop_point(&next.behavior, window, bar);
        tokens += stop.unwrap_or(next.behavior.len()) as u64;
        // One that ended by itself with the token that would have stopped it was not stopped.
        let ended = next.answer.is_some() && stop == Some(next.behavior.len());
        stopped += u32::from(stop.is_some() && !ended);
        kept.extend(cast(next).filter(|_| stop.is_none()));
    };
    (completions, stopped, tokens, leads(&kept).map(|(answer, _)| answer), end)
}

fn votes(budget: u32, online: &OnlinePlan) -> Vec<OnlineVote> {
    vote_online(&mut policy(), &LastToken, &starts(), &plan(budget), online).unwrap()
}

#[track_caller]
fn check(online: OnlinePlan, expected: Expect) {
    let found = votes(BUDGET, &online);
    let whole = sample_answers(&mut policy(), &LastToken, &starts(), &plan(BUDGET)).unwrap();
    for (vote, whole) in found.iter().zip(&whole) {
        let (completions, stopped, tokens, answer, end) = played(whole, &online);
        assert_eq!(
            (vote.completions, vote.stopped, vote.tokens, vote.answer.clone(), vote.end),
            (completions, stopped, tokens, answer.clone(), end),
            "{vote:?}"
        );
        assert_eq!(vote.is_correct, answer.as_deref() == Some("2"));
    }
    let sum = |of: &dyn Fn(&OnlineVote) -> u64| found.iter().map(of).sum::<u64>();
    let all: usize = whole.iter().flatten().map(|one| one.behavior.len()).sum();
    expected.assert_eq(&format!(
        "{} right, {} agreed, {} completions, {} stopped, {} of {all} tokens",
        sum(&|vote| u64::from(vote.is_correct)),
        sum(&|vote| u64::from(vote.end == VoteEnd::Consensus)),
        sum(&|vote| u64::from(vote.completions)),
        sum(&|vote| u64::from(vote.stopped)),
        sum(&|vote| vote.tokens),
    ));
}

#[test]
fn stopping_is_what_is_played_on_whole_completions() {
    let careful = OnlinePlan { warm_up: 8, kept: 0.9, window: 3, consensus: 0.95 };
    check(careful, expect!["11 right, 0 agreed, 480 completions, 12 stopped, 2157 of 2210 tokens"]);
    check(
        OnlinePlan { kept: 0.1, ..careful },
        expect!["12 right, 12 agreed, 107 completions, 4 stopped, 530 of 2210 tokens"],
    );
    check(
        OnlinePlan { consensus: 2.0, ..careful },
        expect!["11 right, 0 agreed, 480 completions, 12 stopped, 2157 of 2210 tokens"],
    );
    check(
        OnlinePlan { consensus: 0.6, window: 1, ..careful },
        expect!["11 right, 11 agreed, 149 completions, 0 stopped, 705 of 2210 tokens"],
    );
    // No completion has so many tokens.
    check(
        OnlinePlan { window: 100, consensus: 2.0, ..careful },
        expect!["11 right, 0 agreed, 480 completions, 0 stopped, 2210 of 2210 tokens"],
    );
}

#[test]
fn a_result_depends_on_the_problem_alone() {
    let online = OnlinePlan { warm_up: 8, kept: 0.5, window: 2, consensus: 0.9 };
    let together = votes(BUDGET, &online);
    for (start, expected) in starts().into_iter().zip(together) {
        let alone =
            vote_online(&mut policy(), &LastToken, &[start], &CountPlan { in_flight: 1, ..plan(BUDGET) }, &online);
        assert_eq!(alone.unwrap(), [expected]);
    }
}

#[test]
fn zero_cases() {
    let online = OnlinePlan { warm_up: 8, kept: 0.9, window: 1, consensus: 2.0 };
    assert!(vote_online(&mut policy(), &LastToken, &[], &plan(4), &online).unwrap().is_empty());
    // The budget ends within the warm-up: nothing is stopped.
    let found = votes(4, &online);
    assert!(found.iter().all(|vote| (vote.completions, vote.stopped, vote.end) == (4, 0, VoteEnd::Budget)));
    // Nobody answers.
    let mut plan = plan(12);
    plan.params.stop = Vec::new();
    let found =
        vote_online(&mut policy(), &Silent, &starts(), &plan, &OnlinePlan { consensus: 0.0, ..online }).unwrap();
    assert!(found.iter().all(|vote| vote.answer.is_none() && !vote.is_correct && vote.completions == 12));
}

struct Silent;

impl Judge for Silent {
    fn judge(&self, _: &Start, _: &Completion) -> Verdict {
        Verdict { outcome: Outcome::NoAnswer, extracted: None }
    }
}
