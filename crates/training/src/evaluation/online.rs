//! Votes that spend no more than they need: DeepConf's online mode, with the sampler stopping.
//!
//! For each problem:
//! * the first `warm_up` completions are sampled whole; the bar `s` is the percentile of their lowest group
//!   confidences that keeps the best share `kept` (0.1 is the paper's "low", 0.9 its "high");
//! * each later one stops with the token at which the mean of its last `window` tokens falls below `s`;
//! * who was stopped, or has a group below `s`, does not vote (of the warm-up, too); the others count
//!   `exp(lowest group)`;
//! * it is over when the leading answer has the share `consensus` of the weight, which is asked after the warm-up
//!   and after every completion, or when the budget is spent.
//!
//! All problems that are not over get their next completion in one call of the sampler, so a result depends on
//! the problem alone, and few problems leave a sampler half empty.
//!
//! Source: arXiv 2508.15260, whose values are 16 completions to warm up, a window of 2048 tokens, shares of 0.9
//! and 0.1, a consensus of 0.95. Its released code has no consensus, and weighs by confidence itself.
//!
//! Departures: those of `confidence` (the drawn token's log-probability in place of the 20 likeliest ones', and
//! the exponential as weight). A completion's random stream is that of a plain count with the same plan, so what
//! stops here is the beginning of what is counted there.
//!
//! Zero cases: without a vote there is no answer, which is not right, and no consensus; a budget within the
//! warm-up stops nothing; a completion shorter than the window is never stopped.

use serde::{Deserialize, Serialize};
use toehold_rollout::collect::Judge;
use toehold_rollout::{ConfidenceStop, ProblemId, SampleRequest, Sampler, Start, StopReason};

use super::answers::Answered;
use super::confidence::{Score, Vote, bar, is_correct, leader, trace_confidence};
use super::count::{CountError, CountPlan, sample_asked, templates};

/// How a problem's vote is held.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct OnlinePlan {
    /// Completions that are sampled whole, at least 1.
    pub warm_up: u32,
    /// The share of the warm-up's lowest groups that the bar lets pass, in `(0, 1]`.
    pub kept: f64,
    /// Tokens of a window, at least 1.
    pub window: u32,
    /// The share of the weight with which an answer has won; above 1 the whole budget is always spent.
    pub consensus: f64,
}

/// Why a vote was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VoteEnd {
    /// An answer had won.
    Consensus,
    /// No completion was left to ask for.
    Budget,
}

/// One problem's vote.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OnlineVote {
    /// The problem.
    pub problem: ProblemId,
    /// The answer that won; none where nobody voted.
    pub answer: Option<String>,
    /// Whether it is right.
    pub is_correct: bool,
    /// Completions that were asked for.
    pub completions: u32,
    /// Those of them that the sampler stopped.
    pub stopped: u32,
    /// Tokens sampled.
    pub tokens: u64,
    /// The bar of its warm-up, in nats per token; minus infinity where no token was sampled.
    pub bar: f64,
    /// Why it was over.
    pub end: VoteEnd,
}

/// A completion, its lowest group, and whether the sampler stopped it.
struct Cast {
    index: u32,
    answered: Answered,
    lowest: Option<f64>,
    is_stopped: bool,
}

/// Holds the vote of each of `starts`, with at most `plan.samples` completions each; in their order.
///
/// # Errors
/// As [`count_successes`](super::count_successes); a sampler that cannot stop refuses.
pub fn vote_online(
    sampler: &mut dyn Sampler,
    judge: &dyn Judge,
    starts: &[Start],
    plan: &CountPlan,
    online: &OnlinePlan,
) -> Result<Vec<OnlineVote>, CountError> {
    starts.iter().try_for_each(|start| judge.check(start))?;
    let mut requests = templates(starts, &plan.params);
    let warm_up = online.warm_up.clamp(1, plan.samples.max(1));
    let mut ballots: Vec<Vec<Cast>> = starts.iter().map(|_| Vec::new()).collect();
    let mut bars = vec![f64::NEG_INFINITY; starts.len()];
    let mut ends: Vec<Option<VoteEnd>> = vec![None; starts.len()];
    for next in std::iter::once(0..warm_up).chain((warm_up..plan.samples).map(|index| index..index + 1)) {
        let open: Vec<usize> = (0..starts.len()).filter(|&at| ends[at].is_none()).collect();
        let asked: Vec<(usize, u32)> = open.iter().flat_map(|&at| next.clone().map(move |index| (at, index))).collect();
        if asked.is_empty() {
            break;
        }
        let came = ask(sampler, judge, starts, &requests, &asked, plan, online)?;
        came.into_iter().for_each(|(at, cast)| ballots[at].push(cast));
        for at in open {
            if next.start == 0 {
                let lowest: Vec<f64> = ballots[at].iter().filter_map(|cast| cast.lowest).collect();
                bars[at] = bar(&lowest, online.kept).unwrap_or(f64::NEG_INFINITY);
                let stop = ConfidenceStop { window: online.window, below: bars[at] };
                requests[at].params.stop_below = Some(stop);
            }
            let has_won = leader(&votes(&ballots[at], bars[at])).is_some_and(|led| led.share >= online.consensus);
            ends[at] = has_won.then_some(VoteEnd::Consensus);
        }
    }
    let each = ballots.iter().zip(starts).zip(bars.into_iter().zip(ends));
    Ok(each.map(|((casts, start), (bar, end))| counted(casts, &start.problem, bar, end)).collect())
}

/// Completions with the places of their starts, in the order of these and of their indices.
fn ask(
    sampler: &mut dyn Sampler,
    judge: &dyn Judge,
    starts: &[Start],
    requests: &[SampleRequest],
    asked: &[(usize, u32)],
    plan: &CountPlan,
    online: &OnlinePlan,
) -> Result<Vec<(usize, Cast)>, CountError> {
    let mut came: Vec<(usize, Cast)> = Vec::with_capacity(asked.len());
    sample_asked(sampler, judge, starts, requests, asked, plan, &mut |at, index, completion, verdict| {
        let is_stopped = completion.stop == StopReason::Confidence;
        let lowest = trace_confidence(Score::Lowest, &completion.behavior, online.window as usize);
        came.push((at, Cast { index, answered: Answered::of(completion, verdict), lowest, is_stopped }));
    })?;
    // They end in any order, and of equal sums the first answer wins.
    came.sort_by_key(|(at, cast)| (*at, cast.index));
    Ok(came)
}

fn votes<'a>(casts: &'a [Cast], bar: f64) -> Vec<Vote<'a>> {
    let vote = |cast: &'a Cast| {
        let score = cast.lowest.filter(|&score| !cast.is_stopped && score >= bar)?;
        Some(Vote { answer: cast.answered.answer.as_deref()?, weight: score.exp() })
    };
    casts.iter().filter_map(vote).collect()
}

fn counted(casts: &[Cast], problem: &ProblemId, bar: f64, end: Option<VoteEnd>) -> OnlineVote {
    let answer = leader(&votes(casts, bar)).map(|led| led.answer);
    let all: Vec<&Answered> = casts.iter().map(|cast| &cast.answered).collect();
    OnlineVote {
        problem: problem.clone(),
        answer: answer.map(str::to_owned),
        is_correct: answer.is_some_and(|answer| is_correct(&all, answer)),
        completions: casts.len() as u32,
        stopped: casts.iter().filter(|cast| cast.is_stopped).count() as u32,
        tokens: all.iter().map(|one| one.behavior.len() as u64).sum(),
        bar,
        end: end.unwrap_or(VoteEnd::Budget),
    }
}
