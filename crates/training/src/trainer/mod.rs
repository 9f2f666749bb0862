//! The loop: select, sample, verify, store, observe, weigh, accumulate, step.
//!
//! It is the same for every method and every policy: the curriculum says where rollouts start, the
//! objective how much each token counts, and anything that samples and learns can be put under it.
//!
//! Invariants: step `s` depends on the checkpoint before it, the seed and `s`, so a run that was
//! killed anywhere ends in the same weights, the same store and the same events as one that was not;
//! what was sampled is stored before it is learnt from; what the verifier itself failed on
//! ([`Outcome::Infra`](toehold_verifier::Outcome::Infra)) is stored and takes part in nothing; a batch with nothing to learn moves nothing,
//! not even by momentum.

pub mod checkpoint;
mod detect;
pub mod event;
pub mod flops;
mod given;
pub mod imitate;
pub mod rollouts;
pub mod schedule;
mod weigh;

use std::io;
use std::path::PathBuf;

use toehold_rollout::collect::{Judge, JudgeError};
use toehold_rollout::store::{AppendError, PolicyRecord, PutError, ReadError};
use toehold_rollout::{
    LearnError, Learner, PolicyVersion, SampleError, Sampler, SamplingParams, Scorer, Start, StepStats, Store,
    SuccessCount,
};

pub use event::{Event, EventLog, Listener, StopReason};
pub use flops::Compute;
pub use imitate::{ImitationPlan, imitate};
pub use rollouts::{Group, Rollout};

use crate::curriculum::{Curriculum, Fate, RestoreError, Selection};
use crate::detector::History;
use crate::evaluation::{CountError, CountPlan, count_successes, pass_at_k_over_problems};
use crate::objective::Weigh;
use crate::objective::modifier::shaping::Shaping;
use crate::random::seed_for;
use crate::recipe::{Detect, Keep, Train};
use checkpoint::{Checkpoint, CheckpointError};
use detect::Inspection;
use schedule::Rate;
use weigh::Learnt;

/// What a run needs to know beside its policy and its method.
#[derive(Clone, Debug)]
pub struct TrainPlan {
    /// The recipe's table.
    pub train: Train,
    /// The recipe's table of detectors.
    pub detect: Detect,
    /// Seed of the run.
    pub seed: u64,
    /// Tokens that end a completion.
    pub stop: Vec<u32>,
    /// Folder of the checkpoints; made when needed.
    pub checkpoints: PathBuf,
    /// What was spent before the first step: collection and imitation.
    pub spent: Compute,
    /// What people call the policy, for the store.
    pub model: String,
    /// Hash of its tokenizer, for the store.
    pub tokenizer_hash: String,
    /// What is measured.
    pub evaluation: EvaluationPlan,
}

/// What is measured, and how often.
#[derive(Clone, Debug)]
pub struct EvaluationPlan {
    /// Steps from one measurement to the next; 0 measures only before and after training.
    pub every: u64,
    /// Named sets of plain starts, such as `train` and `held_out`; empty to measure nothing.
    pub sets: Vec<(String, Vec<Start>)>,
    /// How each start is sampled. The step is mixed into the seed.
    pub count: CountPlan,
    /// The k of pass@k.
    pub k: Vec<u32>,
}

/// What the loop works with, apart from the policy.
pub struct Setup<'a> {
    /// Where traces are kept. The problems must be in it.
    pub store: &'a mut Store,
    /// Who gives verdicts.
    pub judge: &'a dyn Judge,
    /// Where rollouts start.
    pub curriculum: &'a mut dyn Curriculum,
    /// How much each token counts.
    pub objective: &'a dyn Weigh,
    /// The numbers.
    pub plan: &'a TrainPlan,
    /// Who hears of it.
    pub listener: &'a mut dyn Listener,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Optimizer steps done.
    pub step: u64,
    /// Why it ended.
    pub reason: StopReason,
    /// All that was spent, collection and imitation included.
    pub compute: Compute,
    /// Its price.
    pub flops: f64,
    /// The final weights.
    pub policy: PolicyVersion,
}

/// Why a run failed. What was checkpointed before is whole, and the run can be started again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// Sampling failed.
    #[error(transparent)]
    Sample(#[from] SampleError),
    /// The sampler ended without answering every request.
    #[error("the sampler gave {given} of {asked} completions")]
    Incomplete {
        /// Completions that came.
        given: usize,
        /// Requests made.
        asked: usize,
    },
    /// The curriculum gave nothing.
    #[error("the curriculum gave no start for step {step}")]
    NoStart {
        /// The step.
        step: u64,
    },
    /// A start that cannot be judged, or a verifier that fails too often.
    #[error(transparent)]
    Judge(#[from] JudgeError),
    /// The objective is tied to a reference policy, and none was given.
    #[error("the objective has the table [objective.kl], but there is no reference policy")]
    NoReference,
    /// Learning failed.
    #[error(transparent)]
    Learn(#[from] LearnError),
    /// Starts or policies were not stored.
    #[error(transparent)]
    Put(#[from] PutError),
    /// Traces were not stored.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// Collected traces could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A measurement failed.
    #[error(transparent)]
    Evaluate(#[from] CountError),
    /// A checkpoint could not be written or read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A checkpoint of another curriculum or of other problems.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// A checkpoint of another run.
    #[error("the checkpoint {path} is of seed {found}, expected {expected}\nhint: give the run another name")]
    OtherSeed {
        /// The checkpoint's folder.
        path: PathBuf,
        /// Its seed.
        found: u64,
        /// This run's.
        expected: u64,
    },
    /// An event could not be kept.
    #[error("an event could not be recorded")]
    Listener(#[from] io::Error),
}

/// Trains `policy`, from its newest checkpoint if there is one, until its steps are done, its FLOPs
/// are used up, or the listener asks for an end.
///
/// # Errors
/// See [`TrainError`].
pub fn train<'a, P: Sampler + Learner>(policy: &'a mut P, setup: Setup<'a>) -> Result<Summary, TrainError> {
    train_with(policy, None, setup)
}

/// As [`train`], with a frozen `reference` policy for an objective that is tied to one.
///
/// # Errors
/// See [`TrainError`].
pub fn train_with_reference<'a, P: Sampler + Learner>(
    policy: &'a mut P,
    reference: &'a mut dyn Scorer,
    setup: Setup<'a>,
) -> Result<Summary, TrainError> {
    train_with(policy, Some(reference), setup)
}

fn train_with<'a, P: Sampler + Learner>(
    policy: &'a mut P,
    reference: Option<&'a mut dyn Scorer>,
    setup: Setup<'a>,
) -> Result<Summary, TrainError> {
    let plan = setup.plan;
    if setup.objective.modifiers().kl.is_some() && reference.is_none() {
        return Err(TrainError::NoReference);
    }
    let mut run = Run::begin(policy, reference, setup)?;
    let reason = loop {
        if let Some(reason) = run.has_to_stop() {
            break reason;
        }
        let groups = run.groups()?;
        let inspection = detect::inspect(&plan.detect, &mut run.lengths, run.setup.judge, &groups);
        let (learnt, shaping) = run.weigh_and_accumulate(inspection.trusted(&groups))?;
        let (rate, gradient) = run.step(&learnt)?;
        run.record(&groups, inspection, (&learnt, shaping), (rate, gradient))?;
        run.publish()?;
        let stop = run.has_to_stop();
        // Not when interrupted: the measurement would stand in no other run's record.
        if run.is_due(plan.evaluation.every) || stop.is_some_and(|stop| stop != StopReason::Interrupted) {
            run.evaluate()?;
        }
        // Asked again: Ctrl-C may have come while measuring.
        if run.is_due(plan.train.checkpoint_every) || run.has_to_stop().is_some() {
            run.save()?;
        }
    };
    run.finish(reason)
}

/// A run in progress.
struct Run<'a, P> {
    policy: &'a mut P,
    reference: Option<&'a mut dyn Scorer>,
    setup: Setup<'a>,
    policy_version: PolicyVersion,
    params: SamplingParams,
    /// Steps done.
    done: u64,
    compute: Compute,
    /// What the detectors remember.
    lengths: History,
    is_interrupted: bool,
}

impl<'a, P: Sampler + Learner> Run<'a, P> {
    /// Restores the newest checkpoint or begins anew.
    fn begin(
        policy: &'a mut P,
        reference: Option<&'a mut dyn Scorer>,
        setup: Setup<'a>,
    ) -> Result<Run<'a, P>, TrainError> {
        let plan = setup.plan;
        let Train { temperature, top_k, top_p, max_tokens, .. } = plan.train;
        let params =
            SamplingParams { temperature, top_k, top_p, stop: plan.stop.clone(), ..SamplingParams::plain(max_tokens) };
        let found = checkpoint::latest(&plan.checkpoints)?;
        if let Some((path, checkpoint)) = &found {
            if checkpoint.seed != plan.seed {
                let (found, expected) = (checkpoint.seed, plan.seed);
                return Err(TrainError::OtherSeed { path: path.clone(), found, expected });
            }
            policy.restore(path)?;
            setup.curriculum.restore(&checkpoint.curriculum)?;
        }
        // A kill may have come between a checkpoint and the removal of an older one.
        checkpoint::tidy(&plan.checkpoints, plan.train.keep_checkpoints)?;
        let policy_version = policy.publish()?;
        let is_resumed = found.is_some();
        let (done, compute, lengths) = match found {
            Some((_, Checkpoint { step, compute, detectors, .. })) => (step, compute, detectors),
            None => (0, plan.spent, History::default()),
        };
        let is_interrupted = false;
        let mut run = Run { policy, reference, setup, policy_version, params, done, compute, lengths, is_interrupted };
        run.put_policy(None)?;
        if is_resumed {
            run.tell(Event::Resumed { step: done })?;
        } else {
            let (policy, flops) = (run.policy_version.clone(), run.flops());
            run.tell(Event::Started { step: 0, policy, compute, flops })?;
            run.evaluate()?;
            // With nothing left to do (collecting may have used up the budget) these are the final weights.
            if run.has_to_stop().is_some_and(|stop| stop != StopReason::Interrupted) {
                run.save()?;
            }
        }
        Ok(run)
    }

    fn has_to_stop(&self) -> Option<StopReason> {
        let train = &self.setup.plan.train;
        if self.done >= train.steps {
            Some(StopReason::Steps)
        } else if train.flops.is_some_and(|budget| self.flops() >= budget) {
            Some(StopReason::Flops)
        } else {
            self.is_interrupted.then_some(StopReason::Interrupted)
        }
    }

    /// All groups of a step, in rounds: the starts that the curriculum chose, and those that it asks for
    /// when it has heard what came of them.
    fn groups(&mut self) -> Result<Vec<Group>, TrainError> {
        let mut groups = Vec::new();
        let mut selections = self.setup.curriculum.next(self.setup.plan.train.starts);
        if selections.is_empty() {
            return Err(TrainError::NoStart { step: self.done + 1 });
        }
        for round in 0.. {
            let mut found = self.sample_and_verify(selections, round)?;
            self.store(&found)?;
            self.setup.judge.healthy()?;
            for group in &mut found {
                group.fate = self.setup.curriculum.observe(&group.selection, group.outcome());
                if group.rollouts.is_empty() {
                    // Nothing is known of it. Learning from it would take the mean of no reward.
                    group.fate = Fate::Dropped;
                }
            }
            groups.append(&mut found);
            selections = self.setup.curriculum.again();
            if selections.is_empty() {
                break;
            }
        }
        Ok(groups)
    }

    fn sample_and_verify(&mut self, selections: Vec<Selection>, round: u64) -> Result<Vec<Group>, TrainError> {
        // Before anything is sampled: a verdict that cannot be given is a rollout thrown away.
        selections.iter().try_for_each(|selection| self.setup.judge.check(&selection.start))?;
        let plan = self.setup.plan;
        // A start that comes again in a later round must not get the same rollouts.
        let rounds: &[u64] = if round == 0 { &[self.done] } else { &[self.done, round] };
        let seed = seed_for(plan.seed, "rollouts", rounds);
        let size = plan.train.group;
        rollouts::sample_groups(self.policy, self.setup.judge, selections, size, &self.params, seed)
    }

    fn store(&mut self, groups: &[Group]) -> Result<(), TrainError> {
        if self.setup.plan.train.keep == Keep::None {
            return Ok(());
        }
        let starts: Vec<Start> = groups.iter().map(|group| Start::clone(&group.selection.start)).collect();
        self.setup.store.put_starts(&starts)?;
        let records = rollouts::records(groups, &self.params, self.setup.judge.version());
        self.setup.store.append(&records)?;
        Ok(())
    }

    fn weigh_and_accumulate(&mut self, groups: &[Group]) -> Result<(Learnt, Shaping), TrainError> {
        let train = &self.setup.plan.train;
        let given = match self.setup.objective.given() {
            Some(objective) => given::gather(self.setup.store, objective, groups, self.done)?,
            None => Vec::new(),
        };
        let (weighed, shaping) =
            weigh::weigh(self.setup.objective, groups, &given, train.aggregation, train.max_tokens);
        let reference = self.reference.as_deref_mut();
        Ok((weigh::accumulate(self.policy, reference, self.setup.objective, &weighed)?, shaping))
    }

    /// The learning rate and what the step did.
    fn step(&mut self, learnt: &Learnt) -> Result<(f64, StepStats), TrainError> {
        let Train { learning_rate: peak, schedule, warm_up, steps, .. } = self.setup.plan.train;
        let rate = Rate { peak, schedule, warm_up, steps }.at(self.done);
        let gradient = if learnt.traces > 0 { self.policy.step(rate)? } else { StepStats::default() };
        self.done += 1;
        Ok((rate, gradient))
    }

    fn record(
        &mut self,
        groups: &[Group],
        inspection: Inspection,
        (learnt, shaping): (&Learnt, Shaping),
        (rate, gradient): (f64, StepStats),
    ) -> Result<(), TrainError> {
        for (group, &quarantined) in groups.iter().zip(&inspection.quarantined) {
            self.tell(Event::Group(weigh::group_event(self.done, group, quarantined)))?;
        }
        let mut event = weigh::step_event(self.done, self.policy_version.clone(), groups, learnt);
        self.compute.add(event.compute);
        event.learning_rate = rate;
        event.gradient = gradient;
        event.flops = self.flops();
        event.curriculum = self.setup.curriculum.metrics();
        if self.setup.objective.modifiers().shapes() {
            event.shaping = shaping.metrics();
        }
        event.detectors = inspection.metrics;
        self.tell(Event::Step(Box::new(event)))
    }

    /// Hands the new weights to the sampler.
    fn publish(&mut self) -> Result<(), TrainError> {
        let parent = std::mem::replace(&mut self.policy_version, self.policy.publish()?);
        self.put_policy(Some(parent))
    }

    fn put_policy(&mut self, parent: Option<PolicyVersion>) -> Result<(), TrainError> {
        let plan = self.setup.plan;
        self.setup.store.put_policy(&PolicyRecord {
            version: self.policy_version.clone(),
            model: plan.model.clone(),
            tokenizer_hash: plan.tokenizer_hash.clone(),
            step: self.done,
            parent,
        })?;
        Ok(())
    }

    fn evaluate(&mut self) -> Result<(), TrainError> {
        let EvaluationPlan { sets, count, k, .. } = &self.setup.plan.evaluation;
        for (set, starts) in sets {
            let seed = seed_for(count.seed, "evaluation", &[self.done]);
            let plan = CountPlan { seed, ..count.clone() };
            let problems = count_successes(self.policy, self.setup.judge, starts, &plan)?;
            let counts: Vec<SuccessCount> = problems.iter().map(|problem| problem.count).collect();
            let mut total = SuccessCount::default();
            counts.iter().for_each(|&count| total.merge(count));
            let pass_at_k = k.iter().filter_map(|&k| pass_at_k_over_problems(&counts, k, seed)).collect();
            let (step, set, flops) = (self.done, set.clone(), self.flops());
            self.tell(Event::Evaluated(event::Evaluated { step, set, count: total, pass_at_k, problems, flops }))?;
        }
        Ok(())
    }

    fn save(&mut self) -> Result<(), TrainError> {
        self.tell(Event::Checkpoint { step: self.done })?;
        let plan = self.setup.plan;
        let curriculum = self.setup.curriculum.state();
        let detectors = self.lengths.clone();
        let checkpoint = Checkpoint { step: self.done, seed: plan.seed, compute: self.compute, curriculum, detectors };
        checkpoint::save(&plan.checkpoints, &checkpoint, self.policy, plan.train.keep_checkpoints)?;
        Ok(())
    }

    fn finish(mut self, reason: StopReason) -> Result<Summary, TrainError> {
        let (step, compute, flops) = (self.done, self.compute, self.flops());
        self.tell(Event::Finished { step, reason, compute, flops })?;
        Ok(Summary { step, reason, compute, flops, policy: self.policy_version })
    }

    fn is_due(&self, every: u64) -> bool {
        every > 0 && self.done.is_multiple_of(every)
    }

    fn flops(&self) -> f64 {
        self.compute.flops(self.policy.parameter_count())
    }

    fn tell(&mut self, event: Event) -> Result<(), TrainError> {
        self.is_interrupted |= self.setup.listener.hear(&event)?.is_break();
        Ok(())
    }
}
