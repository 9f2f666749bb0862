//! A small base policy for a synthetic family: random weights, then imitation of worked solutions.
//!
//! It is pre-trained in phases, each with its own solver: first a rich mixture, in which the careful
//! method is common and so is learnt, then the mixture that the base shall have, in which it is rare.
//! What comes out is an ordinary Hugging Face folder, and nothing after this file knows that it is
//! ours.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use toehold_policy::{ModelConfig, Policy, PolicyOptions};
use toehold_rollout::synthetic::{self, Family};
use toehold_rollout::{
    Completion, Learner, PolicyVersion, Problem, PromptTemplate, StopReason, TokenId, TokenizerFile, Trace,
};

use crate::run_folder::{beside, write_whole};

/// How a base policy is made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BaseSpec {
    /// Width of the residual stream.
    pub width: usize,
    /// Decoder layers.
    pub layers: usize,
    /// Query heads; half as many key/value heads.
    pub heads: usize,
    /// Width inside the feed-forward layer.
    pub feed_forward: usize,
    /// What it is trained on, in this order.
    pub phases: Vec<Phase>,
    /// Worked solutions per optimizer step.
    pub batch: usize,
    /// Seed of weights, problems and solutions.
    pub seed: u64,
}

/// One phase of pre-training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    /// The family and its solver's habits.
    pub family: Family,
    /// Optimizer steps.
    pub steps: u64,
    /// Peak learning rate: up over a twentieth of the phase, then down along a cosine.
    pub rate: f64,
}

/// Where pre-training stands.
#[derive(Clone, Copy, Debug)]
pub struct PretrainProgress {
    /// Steps done, over all phases.
    pub step: u64,
    /// Steps in all.
    pub steps: u64,
    /// Mean negative log-likelihood of a solution's token in the last step, in nats.
    pub loss: f64,
}

/// Makes a base policy and writes it as a model folder.
///
/// The folder is written beside its place and renamed into it, so one that is there is complete.
///
/// # Errors
/// When a setting makes no sense, `progress` breaks, or the folder cannot be written.
pub fn pretrain(
    spec: &BaseSpec,
    folder: &Path,
    progress: &mut dyn FnMut(PretrainProgress) -> ControlFlow<()>,
) -> Result<()> {
    if spec.phases.is_empty() {
        bail!("a base policy needs at least one phase of pre-training");
    }
    let beside = beside(folder);
    if beside.exists() {
        fs::remove_dir_all(&beside).with_context(|| format!("cannot clear {}", beside.display()))?;
    }
    fs::create_dir_all(&beside).with_context(|| format!("cannot make {}", beside.display()))?;
    write_whole(&beside.join("tokenizer.json"), synthetic::tokenizer_json(&words(spec)).as_bytes())?;
    write_whole(&beside.join("tokenizer_config.json"), synthetic::TOKENIZER_CONFIG_JSON.as_bytes())?;
    let tokenizer = TokenizerFile::open(&beside)?;

    let mut config = ModelConfig::new(
        tokenizer.vocabulary_size(),
        spec.width,
        spec.layers,
        spec.heads,
        (spec.heads / 2).max(1),
        spec.feed_forward,
    );
    config.max_position_embeddings = 1024;
    // At small widths the usual 0.02 makes the first hundreds of steps learn nothing.
    config.initializer_range = 1.0 / (spec.width as f64).sqrt();
    config.eos_token_id = tokenizer.end_tokens().to_vec();
    let mut policy = Policy::random(&config, spec.seed, PolicyOptions::default())?;
    train(spec, &mut policy, &tokenizer, progress)?;

    policy.save_folder(&beside)?;
    write_whole(&beside.join("pretraining.json"), serde_json::to_string_pretty(spec)?.as_bytes())?;
    fs::rename(&beside, folder)
        .with_context(|| format!("cannot rename {} to {}", beside.display(), folder.display()))?;
    Ok(())
}

/// The words of every phase, once each.
fn words(spec: &BaseSpec) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for phase in &spec.phases {
        for word in phase.family.vocabulary() {
            if !words.contains(&word) {
                words.push(word);
            }
        }
    }
    words
}

fn train(
    spec: &BaseSpec,
    policy: &mut Policy,
    tokenizer: &TokenizerFile,
    progress: &mut dyn FnMut(PretrainProgress) -> ControlFlow<()>,
) -> Result<()> {
    let template = PromptTemplate::default();
    let steps: u64 = spec.phases.iter().map(|phase| phase.steps).sum();
    let mut step = 0;
    for (index, phase) in spec.phases.iter().enumerate() {
        // Pre-training problems have seeds of their own, far from those a user counts up from 0.
        let mut rng = synthetic::generator(spec.seed.wrapping_add(0x5eed_0000 + index as u64));
        for phase_step in 0..phase.steps {
            let problem_seed = spec.seed.wrapping_mul(1 << 20).wrapping_add(0xba5e_0000_0000 + step);
            let problems = phase.family.problems(problem_seed, spec.batch)?;
            let traces = problems
                .iter()
                .map(|problem| {
                    let solution = phase.family.solution(problem, &mut rng)?;
                    solved(problem, &solution, tokenizer, &template, policy.config().eos_token_id.first().copied())
                })
                .collect::<Result<Vec<Trace>>>()?;
            let loss = imitate(policy, &traces)?;
            policy.step(phase.rate * warm_up_then_cosine(phase_step, phase.steps))?;
            step += 1;
            if progress(PretrainProgress { step, steps, loss }).is_break() {
                bail!(crate::interrupt::Interrupted {
                    resume: "the same command (pre-training begins anew)".to_owned()
                });
            }
        }
    }
    policy.publish()?;
    Ok(())
}

/// Adds the gradient of the mean negative log-likelihood of the completions; returns that mean.
fn imitate(policy: &mut Policy, traces: &[Trace]) -> Result<f64> {
    let tokens: usize = traces.iter().map(|trace| trace.completion.tokens.len()).sum();
    let scale = 1.0 / tokens.max(1) as f32;
    let traces: Vec<&Trace> = traces.iter().collect();
    let mut total = 0.0;
    policy.accumulate(&traces, &mut |_, scores| {
        total -= scores.current.iter().copied().map(f64::from).sum::<f64>();
        vec![-scale; scores.current.len()]
    })?;
    Ok(total / tokens.max(1) as f64)
}

/// A worked solution as a trace to imitate, its end-of-text token included.
fn solved(
    problem: &Problem,
    solution: &str,
    tokenizer: &TokenizerFile,
    template: &PromptTemplate,
    end: Option<TokenId>,
) -> Result<Trace> {
    let mut tokens = tokenizer.encode(solution)?;
    tokens.extend(end);
    let behavior = vec![0.0; tokens.len()];
    Ok(Trace {
        prompt: tokenizer.encode(&template.render(&problem.problem))?,
        prefix: Vec::new(),
        completion: Completion { tokens, behavior, stop: StopReason::EndOfText },
        sampled_by: PolicyVersion { weights: "solver".to_owned() },
    })
}

/// A factor of the peak rate in [0, 1]: up over a twentieth of the steps, then down along a cosine.
fn warm_up_then_cosine(step: u64, steps: u64) -> f64 {
    let warm = (steps / 20).max(1);
    if step < warm {
        return (step + 1) as f64 / warm as f64;
    }
    let done = (step - warm) as f64 / (steps - warm).max(1) as f64;
    0.5 * (1.0 + (std::f64::consts::PI * done).cos())
}
