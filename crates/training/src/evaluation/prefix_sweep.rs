//! Success as a function of how much of a stored trace is given.
//!
//! PrefixRL's figure of back-generalisation: a policy trained on prefixes of 40 to 80 % is asked to go
//! on from 0, 20, … % of a trace that succeeded. A share of 0 is the plain problem.

use serde::{Deserialize, Serialize};
use toehold_rollout::collect::Judge;
use toehold_rollout::{Sampler, Start, SuccessCount};

use super::count::{CountError, CountPlan, count_successes};
use crate::curriculum::Source;

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

/// The start with `share` of the trace's part before the answer given, rounded down, and to whole characters.
pub fn start_at(source: &Source, share: f64) -> Start {
    let worked = source.limit.min(source.tokens.len());
    let start = source.start(((share * worked as f64) as usize).min(worked));
    match start.prefix.is_empty() {
        true => Start::plain(start.problem, start.prompt),
        false => start,
    }
}

/// Samples from every share of every trace.
///
/// # Errors
/// The sampler's trouble.
pub fn prefix_sweep(
    sampler: &mut dyn Sampler,
    judge: &dyn Judge,
    sources: &[Source],
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

    use super::start_at;
    use crate::curriculum::Source;

    /// Ten tokens, of which seven come before the answer.
    fn source(inside: Vec<usize>) -> Source {
        Source {
            problem: ProblemId::from("p"),
            prompt: vec![9],
            tokens: (0..10).collect(),
            row: Some(3),
            is_correct: true,
            limit: 7,
            inside,
        }
    }

    #[test]
    fn the_given_part_is_a_share_of_the_trace_and_stops_before_the_answer() {
        let source = source(Vec::new());
        let given = [0.0, 0.05, 0.2, 0.4, 0.8, 1.0].map(|share| start_at(&source, share).prefix.len());
        assert_eq!(given, [0, 0, 1, 2, 5, 7]);
        assert!(start_at(&source, 0.05).is_plain());
        assert_eq!(start_at(&source, 0.4).origin.unwrap().trace, Some(3));
    }

    #[test]
    fn a_sweep_gave_parts_of_characters() {
        let source = source(vec![1, 5]);
        let given = [0.2, 0.4, 0.8, 1.0].map(|share| start_at(&source, share).prefix.len());
        assert_eq!(given, [0, 2, 4, 7]);
        assert!(start_at(&source, 0.2).is_plain());
    }
}
