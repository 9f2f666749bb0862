//! Votes of several completions: by majority, weighed by confidence, and with doubtful ones stopped.
//!
//! The completions are those that pass@k was counted on: the same starts, parameters and seed.

use anyhow::Result;
use serde::{Deserialize, Serialize};
use toehold_rollout::SuccessCount;
use toehold_training::evaluation::answers::{Answered, sample_answers};
use toehold_training::evaluation::confidence::{Score, Stopped, Weighing, stopped, vote_at_k};
use toehold_training::evaluation::majority::{Ballot, VoteAtK, majority_over_problems, vote_over_problems};

use super::measure::{Both, Workplace};
use super::{count_plan, plain_sets, rate};
use crate::terminal;

/// Random subsets that a weighed vote is averaged over, for each problem.
const DRAWS: u32 = 64;

/// Completions that set the bar of stopping; DeepConf's number.
pub(super) const WARM_UP: u32 = 16;

/// The share of groups that the bar lets pass; DeepConf's careful setting.
pub(super) const BAR: f64 = 0.9;

/// Votes of both policies.
pub(super) type Votes = Both<Vec<SetVotes>>;

/// Votes on one set of plain problems.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct SetVotes {
    /// Which problems.
    pub(super) set: String,
    /// One vote per completion that has an answer, for each k.
    pub(super) majority: Vec<VoteAtK>,
    /// Votes weighed by confidence, for each k.
    pub(super) weighed: Vec<WeighedVotes>,
    /// Stopping played on the completions, in their order; none where none is left after the warm-up.
    pub(super) online: Option<Online>,
}

/// Votes weighed in one way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct WeighedVotes {
    /// The way.
    pub(super) weighing: Weighing,
    /// For each k.
    pub(super) at_k: Vec<VoteAtK>,
}

/// Stopping on a set of problems.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Online {
    /// Votes that were right, over problems.
    pub(super) count: SuccessCount,
    /// Completions that were stopped.
    pub(super) stopped: u64,
    /// Completions.
    pub(super) completions: u64,
    /// Tokens sampled.
    pub(super) tokens: u64,
    /// Tokens without stopping.
    pub(super) all_tokens: u64,
}

pub(super) fn measure(place: &mut Workplace<'_>, window: usize) -> Result<Votes> {
    let prepared = place.prepared;
    let judge = prepared.judge(place.problems);
    let plan = count_plan(prepared, prepared.plan.evaluate.samples);
    let mut found = [Vec::new(), Vec::new()];
    for (set, starts) in plain_sets(prepared) {
        place.tick(&format!("{set} problems"))?;
        for (found, (_, policy)) in found.iter_mut().zip(place.policies.each()) {
            let answered = sample_answers(policy, &judge, &starts, &plan)?;
            found.push(votes(set, &answered, &prepared.plan.evaluate.k, window, plan.seed));
        }
    }
    let [before, after] = found;
    Ok(Both { before, after })
}

fn votes(set: &str, problems: &[Vec<Answered>], ks: &[u32], window: usize, seed: u64) -> SetVotes {
    let ballots: Vec<Ballot> = problems.iter().map(|completions| Ballot::of(completions)).collect();
    let at_k = |weighing: Weighing, k: u32| {
        let right = |completions: &Vec<Answered>| vote_at_k(completions, k, &weighing, DRAWS, seed);
        vote_over_problems(&problems.iter().filter_map(right).collect::<Vec<_>>(), k, seed)
    };
    let ways = [(Score::Mean, 1.0), (Score::Lowest, 1.0), (Score::Lowest, 0.9), (Score::Lowest, 0.1)];
    let weighed = |(score, kept): (Score, f64)| {
        let weighing = Weighing { score, kept, window };
        WeighedVotes { weighing, at_k: ks.iter().filter_map(|&k| at_k(weighing, k)).collect() }
    };
    let has_more = problems.iter().all(|completions| completions.len() > WARM_UP as usize);
    SetVotes {
        set: set.to_owned(),
        majority: ks.iter().filter_map(|&k| majority_over_problems(&ballots, k, seed)).collect(),
        weighed: ways.into_iter().map(weighed).collect(),
        online: (has_more && !problems.is_empty()).then(|| online(problems, window)),
    }
}

fn online(problems: &[Vec<Answered>], window: usize) -> Online {
    let mut online = Online::default();
    for completions in problems {
        let Stopped { is_correct, stopped, tokens, all_tokens } = stopped(completions, WARM_UP as usize, BAR, window);
        online.count.add(is_correct);
        online.stopped += stopped as u64;
        online.completions += completions.len() as u64;
        online.tokens += tokens;
        online.all_tokens += all_tokens;
    }
    online
}

pub(super) fn table(votes: &Votes) -> String {
    let (mut rows, mut stops) = (Vec::new(), Vec::new());
    for (policy, sets) in votes.each() {
        for set in sets {
            let mut row = |vote: String, at_k: &[VoteAtK]| {
                let mut cells = vec![policy.to_owned(), set.set.clone(), vote];
                cells.extend(at_k.iter().map(|at| terminal::percent(at.mean)));
                rows.push(cells);
            };
            row("majority".to_owned(), &set.majority);
            for way in &set.weighed {
                row(described(&way.weighing), &way.at_k);
            }
            if let Some(online) = &set.online {
                let [stopped, completions, tokens] =
                    [online.stopped, online.completions, online.tokens].map(terminal::count);
                let share = terminal::percent(online.tokens as f64 / online.all_tokens.max(1) as f64);
                let right = rate(online.count);
                stops.push(vec![policy.into(), set.set.clone(), right, completions, stopped, tokens, share]);
            }
        }
    }
    let ks: Vec<String> = votes
        .before
        .first()
        .map(|set| set.majority.iter().map(|at| format!("k = {}", at.k)).collect())
        .unwrap_or_default();
    let mut headers = vec!["policy", "problems", "vote"];
    headers.extend(ks.iter().map(String::as_str));
    let mut text = terminal::table(&headers, &rows);
    if !stops.is_empty() {
        let headers = ["policy", "problems", "vote with stops [95 %]", "completions", "stopped", "tokens", "of all"];
        text.push_str("\n\n");
        text.push_str(&terminal::table(&headers, &stops));
    }
    text
}

fn described(weighing: &Weighing) -> String {
    let score = match weighing.score {
        Score::Mean => "mean confidence",
        Score::Tail => "last group",
        Score::Bottom => "lowest tenth of groups",
        Score::Lowest => "lowest group",
    };
    match weighing.kept < 1.0 {
        true => format!("{score}, best {:.0} %", 100.0 * weighing.kept),
        false => score.to_owned(),
    }
}
