//! Success as a function of how much of a stored trace is given.
//!
//! PrefixRL's figure of back-generalisation: a policy trained on prefixes of 40 to 80 % is asked to go
//! on from 0, 20, … % of a trace that succeeded. A share of 0 is the plain problem.

use serde::{Deserialize, Serialize};
use toehold_rollout::collect::Judge;
use toehold_rollout::{Origin, ProblemId, Sampler, Start, SuccessCount, TokenId};

use super::count::{CountError, CountPlan, count_successes};

/// A stored trace whose beginning is given.
#[derive(Clone, Debug, PartialEq)]
pub struct SweepSource {
    /// Its problem.
    pub problem: ProblemId,
    /// The problem in tokens, after the template.
    pub prompt: Vec<TokenId>,
    /// The trace's own prefix and completion.
    pub tokens: Vec<TokenId>,
    /// Its row in the store.
    pub row: Option<i64>,
    /// The tokens before the answer appears: no prefix is longer.
    pub limit: usize,
}

/// The counts at one share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SweepPoint {
    /// Share that was given of the trace's part before the answer.
    pub share: f64,
    /// Over all traces.
    pub count: SuccessCount,
    /// One per trace, in their order.
    pub by_trace: Vec<SuccessCount>,
}

/// The start with `share` of the trace's part before the answer given, rounded down.
pub fn start_at(source: &SweepSource, share: f64) -> Start {
    let worked = source.limit.min(source.tokens.len());
    let length = ((share * worked as f64) as usize).min(worked);
    if length == 0 {
        return Start::plain(source.problem.clone(), source.prompt.clone());
    }
    let origin = Origin { trace: source.row, source_tokens: source.tokens.len() as u32 };
    Start::prefixed(source.problem.clone(), source.prompt.clone(), source.tokens[..length].to_vec(), origin)
}

/// Samples from every share of every trace.
///
/// # Errors
/// The sampler's trouble.
pub fn prefix_sweep(
    sampler: &mut dyn Sampler,
    judge: &dyn Judge,
    sources: &[SweepSource],
    shares: &[f64],
    plan: &CountPlan,
) -> Result<Vec<SweepPoint>, CountError> {
    let mut points = Vec::with_capacity(shares.len());
    for &share in shares {
        let starts: Vec<Start> = sources.iter().map(|source| start_at(source, share)).collect();
        let counts = count_successes(sampler, judge, &starts, plan)?;
        let by_trace: Vec<SuccessCount> = counts.iter().map(|count| count.count).collect();
        let mut total = SuccessCount::default();
        by_trace.iter().for_each(|&count| total.merge(count));
        points.push(SweepPoint { share, count: total, by_trace });
    }
    Ok(points)
}

#[cfg(test)]
mod tests {
    use toehold_rollout::ProblemId;

    use super::{SweepSource, start_at};

    #[test]
    fn the_given_part_is_a_share_of_the_trace_and_stops_before_the_answer() {
        let problem = ProblemId::from("p".to_owned());
        let source = SweepSource { problem, prompt: vec![9], tokens: (0..10).collect(), row: Some(3), limit: 7 };
        let given = [0.0, 0.05, 0.2, 0.4, 0.8, 1.0].map(|share| start_at(&source, share).prefix.len());
        assert_eq!(given, [0, 0, 1, 2, 5, 7]);
        assert!(start_at(&source, 0.05).is_plain());
        assert_eq!(start_at(&source, 0.4).origin.unwrap().trace, Some(3));
    }
}
