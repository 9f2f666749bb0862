//! Votes in which the sampler stops doubtful completions, and which end where an answer has won.
//!
//! Beside them the vote of all completions, weighed and filtered in the same way: those that pass@k was counted
//! on, of which the online ones are beginnings.

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use toehold_rollout::SuccessCount;
use toehold_training::evaluation::answers::{Answered, sample_answers};
use toehold_training::evaluation::confidence::{Score, Weighing, vote_is_correct};
use toehold_training::evaluation::online::{OnlinePlan, VoteEnd, vote_online};

use super::measure::{Both, Workplace};
use super::{count_plan, plain_sets, rate};
use crate::terminal;

/// Votes of both policies, by set of problems.
pub(super) type OnlineVotes = Both<Vec<SetOnline>>;

/// Votes on one set of plain problems.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct SetOnline {
    /// Which problems.
    pub(super) set: String,
    /// With stops.
    pub(super) online: Spent,
    /// Completions that the sampler stopped.
    pub(super) stopped: u64,
    /// Problems whose vote ended before its budget.
    pub(super) agreed: u64,
    /// All completions, none of them stopped.
    pub(super) all: Spent,
}

/// What a way of voting came to, over problems.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Spent {
    /// Votes that were right.
    pub(super) count: SuccessCount,
    /// Completions that were sampled, stopped ones included.
    pub(super) completions: u64,
    /// Tokens that were sampled.
    pub(super) tokens: u64,
}

pub(super) fn measure(place: &mut Workplace<'_>, online: &OnlinePlan) -> Result<OnlineVotes> {
    let prepared = place.prepared;
    let samples = prepared.plan.evaluate.samples;
    if samples <= online.warm_up {
        bail!(
            "[evaluate] samples is {samples}, expected more than the {} completions that set the bar\n\
             hint: --warm-up sets the bar with fewer",
            online.warm_up
        );
    }
    let judge = prepared.judge(place.problems);
    let plan = count_plan(prepared, samples);
    let weighing = Weighing { score: Score::Lowest, kept: online.kept, window: online.window as usize };
    let mut found = [Vec::new(), Vec::new()];
    for (set, starts) in plain_sets(prepared) {
        for (turn, found) in found.iter_mut().enumerate() {
            place.tick(&format!("{set} problems"))?;
            let mut one = SetOnline { set: set.to_owned(), ..SetOnline::default() };
            for vote in vote_online(place.policies.each()[turn].1, &judge, &starts, &plan, online)? {
                one.online.add(vote.is_correct, u64::from(vote.completions), vote.tokens);
                one.stopped += u64::from(vote.stopped);
                one.agreed += u64::from(vote.end == VoteEnd::Consensus);
            }
            place.tick(&format!("{set} problems, whole completions"))?;
            for whole in sample_answers(place.policies.each()[turn].1, &judge, &starts, &plan)? {
                let tokens = whole.iter().map(|one| one.behavior.len() as u64).sum();
                let is_correct = vote_is_correct(&whole.iter().collect::<Vec<&Answered>>(), &weighing);
                one.all.add(is_correct, whole.len() as u64, tokens);
            }
            found.push(one);
        }
    }
    let [before, after] = found;
    Ok(Both { before, after })
}

impl Spent {
    fn add(&mut self, is_correct: bool, completions: u64, tokens: u64) {
        self.count.add(is_correct);
        self.completions += completions;
        self.tokens += tokens;
    }
}

pub(super) fn table(votes: &OnlineVotes) -> String {
    let mut rows = Vec::new();
    for (policy, sets) in votes.each() {
        for set in sets {
            let mut row = |stops: &str, spent: &Spent, stopped: String, agreed: String| {
                let share = terminal::percent(spent.tokens as f64 / set.all.tokens.max(1) as f64);
                let [completions, tokens] = [spent.completions, spent.tokens].map(terminal::count);
                let right = rate(spent.count);
                let (policy, problems, stops) = (policy.to_owned(), set.set.clone(), stops.to_owned());
                rows.push(vec![policy, problems, stops, right, agreed, completions, stopped, tokens, share]);
            };
            row("none", &set.all, "–".to_owned(), "–".to_owned());
            row("online", &set.online, terminal::count(set.stopped), terminal::count(set.agreed));
        }
    }
    let headers = [
        "policy",
        "problems",
        "stops",
        "vote right [95 %]",
        "agreed early",
        "completions",
        "stopped",
        "tokens",
        "of all",
    ];
    terminal::table(&headers, &rows)
}
