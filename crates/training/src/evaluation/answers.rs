//! What each completion answered: the material of votes.
//!
//! An answer is the text that the verifier took out, and two answers are the same where the texts are:
//! `1/2` and `0.5` are two answers, and two expressions of one value are too. To put them together by
//! the reference would tell the vote what it is to find out. A completion whose answer is missing or
//! cannot be read casts no vote (verl lets it vote for "no answer").

use serde::{Deserialize, Serialize};
use toehold_rollout::collect::Judge;
use toehold_rollout::{Completion, Sampler, Start};
use toehold_verifier::{Outcome, Verdict};

use super::count::{CountError, CountPlan, sample_each};

/// What one completion came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Answered {
    /// The answer as it was stated; none where there is none that can be read.
    pub answer: Option<String>,
    /// Whether the verifier accepted it.
    pub is_correct: bool,
    /// Log-probability of each completion token under the distribution it was drawn from, in nats.
    pub behavior: Vec<f32>,
}

impl Answered {
    /// What this completion came to.
    pub(super) fn of(completion: Completion, verdict: Verdict) -> Answered {
        let is_read = matches!(verdict.outcome, Outcome::Correct | Outcome::Wrong);
        Answered {
            answer: verdict.extracted.filter(|_| is_read),
            is_correct: verdict.outcome.is_correct(),
            behavior: completion.behavior,
        }
    }
}

/// Samples `plan.samples` completions of each start, in the order of `starts` and of their index.
///
/// With the plan of a count of successes these are the completions that were counted.
///
/// # Errors
/// As [`count_successes`](super::count_successes).
pub fn sample_answers(
    sampler: &mut dyn Sampler,
    judge: &dyn Judge,
    starts: &[Start],
    plan: &CountPlan,
) -> Result<Vec<Vec<Answered>>, CountError> {
    let mut answered = vec![vec![Answered::default(); plan.samples as usize]; starts.len()];
    sample_each(sampler, judge, starts, plan, &mut |at, index, completion, verdict| {
        answered[at][index as usize] = Answered::of(completion, verdict);
    })?;
    Ok(answered)
}
