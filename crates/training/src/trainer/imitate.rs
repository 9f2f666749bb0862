//! Imitation of stored traces before training: the first half of the SFT-then-RL baseline.
//!
//! Prompt and prefix are not trained on here either. The stage has no checkpoint of its own: it is a
//! function of the traces, the seed and the weights it is given, so a run that was killed in it
//! begins it again and comes to the same weights.

use std::ops::ControlFlow;

use toehold_rollout::{Learner, TokenScores, Trace};

use super::event::{Event, Imitated, Listener};
use super::schedule::Rate;
use super::{Compute, TrainError};
use crate::objective::{aggregate, imitation};
use crate::random;
use crate::recipe::Sft;

/// What the stage needs to know.
#[derive(Clone, Debug, PartialEq)]
pub struct ImitationPlan {
    /// The recipe's table.
    pub sft: Sft,
    /// Seed of the run.
    pub seed: u64,
    /// The limit of a completion, for constant aggregation.
    pub max_tokens: u32,
}

/// Raises the likelihood of `traces`, which the caller has chosen (usually: the correct ones), and
/// gives what it cost. Ends early when the listener asks for it; the weights are then not those of a
/// finished stage, and `Break` says so.
///
/// # Errors
/// The learner's trouble, and an event that could not be recorded.
pub fn imitate(
    learner: &mut impl Learner,
    traces: &[&Trace],
    plan: &ImitationPlan,
    listener: &mut dyn Listener,
) -> Result<ControlFlow<Compute, Compute>, TrainError> {
    let sft = &plan.sft;
    let steps = u64::from(sft.epochs) * traces.len().div_ceil(sft.batch.max(1)) as u64;
    let warm_up = (sft.warm_up * steps as f64).round() as u64;
    let rate = Rate { peak: sft.learning_rate, schedule: sft.schedule, warm_up, steps };
    let (mut compute, mut batch) = (Compute::default(), 0);
    for epoch in 0..sft.epochs {
        let mut order: Vec<&Trace> = traces.to_vec();
        random::shuffle(&mut random::stream(plan.seed, "imitation", &[u64::from(epoch)]), &mut order);
        for chosen in order.chunks(sft.batch.max(1)) {
            let (loss, tokens) = accumulate(learner, chosen, plan)?;
            let learning_rate = rate.at(batch);
            let gradient = learner.step(learning_rate)?;
            compute.trained_tokens += tokens;
            let event = Imitated { step: 0, epoch, batch, loss, learning_rate, gradient, compute };
            batch += 1;
            if listener.hear(&Event::Imitated(event))?.is_break() {
                return Ok(ControlFlow::Break(compute));
            }
        }
    }
    Ok(ControlFlow::Continue(compute))
}

/// The mean loss of a token, and the tokens of the batch.
fn accumulate(learner: &mut impl Learner, traces: &[&Trace], plan: &ImitationPlan) -> Result<(f64, u64), TrainError> {
    let lengths: Vec<usize> = traces.iter().map(|trace| trace.completion.tokens.len()).collect();
    let scales = aggregate::scales(plan.sft.aggregation, &lengths, plan.max_tokens);
    let mut surprise = 0.0;
    learner.accumulate(traces, &mut |at, scores: &TokenScores| {
        surprise -= scores.current.iter().map(|&logp| f64::from(logp)).sum::<f64>();
        let coefficients = imitation::coefficients(1.0, scores.current.len());
        coefficients.into_iter().map(|coefficient| (coefficient * scales[at]) as f32).collect()
    })?;
    let completion_tokens: usize = lengths.iter().sum();
    let given: usize = traces.iter().map(|trace| trace.prompt.len() + trace.prefix.len()).sum();
    Ok((surprise / completion_tokens.max(1) as f64, (completion_tokens + given) as u64))
}
