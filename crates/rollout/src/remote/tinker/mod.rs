//! A learner behind the Tinker API: its server holds the weights, and this side says what counts.
//!
//! [`Tinker`] is a [`Sampler`], a [`Scorer`] and a [`Learner`], so a run goes through it as through the
//! policy of this process:
//!
//! | asked here | asked there |
//! |---|---|
//! | [`Sampler::sample`] | `asample`, by the weights that were saved for it |
//! | [`Scorer::score`] | `forward` with `cross_entropy` |
//! | [`Learner::accumulate`] | `forward`; the coefficients are kept |
//! | [`Learner::step`] | `forward_backward` with `importance_sampling`, then `optim_step` |
//! | [`Learner::publish`] | `save_weights_for_sampler` |
//! | [`Learner::save`], [`Learner::restore`] | `save_weights`; `create_model` and `load_weights` |
//!
//! **Any objective** runs in two passes: the first gives the current log-probabilities, from which the
//! objective makes its coefficients `c`; the second applies them as advantages `−c` of an importance-sampled
//! loss whose ratio is 1, because the log-probabilities just given are sent along. Its gradient is exactly
//! that of `Σ c · log π`. ([`reduction`](Reduction) says how a server that divides is made up for.) With
//! [`Passes::One`] the first pass is left out for traces that the published weights sampled at temperature 1:
//! their behavior log-probabilities are taken for the current ones, which is true up to the difference of the
//! server's two engines.
//!
//! What the API does not give is entropy: an objective that needs it has to be refused before the run.
//!
//! Limits: LoRA only, since the API has nothing else; the optimizer is the server's Adam, without clipping;
//! a server draws otherwise than we do, so a run that was interrupted goes on from its checkpoint, but does
//! not repeat itself to the bit, and weights restored get a new version for that reason.

mod model;
mod protocol;
mod reduction;
mod session;

use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use reduction::{Over, Reduction};

use super::http::{Address, ApiKey, Http, HttpError, SetupError};
use crate::{
    Completion, LearnError, Learner, PolicyVersion, SampleError, SampleRequest, Sampler, ScoreError, Scorer, StepStats,
    TokenScores, Trace,
};
use protocol::{Datum, Loss, Sequence, Weights};
use session::Session;

/// Which server, which model, and how it learns.
#[derive(Clone, Debug)]
pub struct TinkerOptions {
    /// The server.
    pub address: Address,
    /// Its key, where it wants one.
    pub key: Option<ApiKey>,
    /// The base model by the server's name for it.
    pub base_model: String,
    /// Rank of the adapters, at least 1.
    pub rank: u32,
    /// Seed of the adapters' first weights.
    pub seed: u32,
    /// The optimizer.
    pub adam: Adam,
    /// When scoring before learning may be left out.
    pub passes: Passes,
    /// What the server divides by; measured without it.
    pub reduction: Option<Reduction>,
    /// How long one call may take in all.
    pub patience: Duration,
    /// Tokens in the model's vocabulary.
    pub vocabulary: usize,
    /// Positions that the model has.
    pub positions: usize,
    /// Parameters that count for FLOPs.
    pub parameters: u64,
    /// The base's weights, as this side names them.
    pub base_version: PolicyVersion,
}

/// The server's Adam; its learning rate comes with each step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Adam {
    /// Decay of the mean, in [0, 1).
    pub beta1: f64,
    /// Decay of the mean square, in [0, 1).
    pub beta2: f64,
    /// Added to the root, above 0.
    #[serde(rename = "eps")]
    pub epsilon: f64,
    /// Decoupled weight decay, at least 0.
    pub weight_decay: f64,
}

/// Whether traces are scored before they are learnt from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Passes {
    /// Always: any objective, exactly.
    #[default]
    Two,
    /// Not where the published weights sampled the trace.
    One,
}

/// A model on a server.
#[derive(Debug)]
pub struct Tinker {
    session: Session,
    options: TinkerOptions,
    reduction: Reduction,
    /// The model's name on the server.
    model: String,
    /// Steps since the model was made or restored.
    steps: u64,
    /// Where the weights came from, if not from the base.
    is_restored: bool,
    version: PolicyVersion,
    /// The weights that sample; none for the base's own.
    sampled_from: Option<String>,
    /// After how many steps these were saved for sampling.
    sampled_at: Option<u64>,
    /// The newest checkpoint on the server: after how many steps, and its path. A server refuses a name twice.
    saved: Mutex<Option<(u64, String)>>,
    /// What the next step learns from.
    pending: Vec<Pending>,
}

/// A trace and what it counts.
#[derive(Debug)]
struct Pending {
    trace: Trace,
    current: Vec<f32>,
    coefficients: Vec<f32>,
}

/// Why a server of the Tinker API could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TinkerError {
    /// The HTTP client.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// Threads do not start.
    #[error("cannot start a client: {0}")]
    Start(#[source] io::Error),
    /// The file that says where a checkpoint's weights are.
    #[error("cannot write {path}: {source}")]
    State {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The server, or the way to it.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// An answer that is not what it should be.
    #[error("{endpoint}{route}: {reason}")]
    Answer {
        /// The server.
        endpoint: String,
        /// What was asked.
        route: String,
        /// What is wrong with the answer.
        reason: String,
    },
    /// A future that does not resolve.
    #[error(
        "{endpoint}/api/v1/{route}: no result within {seconds} s\nhint: raise learner.patience_s, or look at the server's log"
    )]
    NoAnswer {
        /// The server.
        endpoint: String,
        /// What was asked.
        route: String,
        /// How long was waited.
        seconds: u64,
    },
    /// The server has another model.
    #[error("{endpoint} serves {}, expected {expected:?}\nhint: set learner.base_model to the server's name", quoted(.found))]
    OtherModel {
        /// The server.
        endpoint: String,
        /// What it serves.
        found: Vec<String>,
        /// What the run wants.
        expected: String,
    },
    /// How the server divides cannot be told.
    #[error("{endpoint}: cannot tell how the server adds up gradients: {reason}\nhint: say it in learner.reduction")]
    Reduction {
        /// The server.
        endpoint: String,
        /// Why not.
        reason: String,
    },
}

/// What stands in a checkpoint's folder; the weights are the server's.
#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    server: String,
    base_model: String,
    rank: u32,
    path: String,
}

const STATE_FILE: &str = "tinker.json";
/// Data of one call: a call's body stays at some MiB for long traces.
const DATA: usize = 64;

impl Tinker {
    /// Opens a session, checks the server's model, measures how it divides, and makes the adapters.
    ///
    /// # Errors
    /// See [`TinkerError`].
    pub fn connect(options: TinkerOptions) -> Result<Tinker, TinkerError> {
        let http = Http::new(options.key.clone())?;
        let session = Session::open(http, options.address.clone(), options.patience)?;
        model::check(&session, &options.base_model)?;
        let reduction = match options.reduction {
            Some(reduction) => reduction,
            None => model::measure_reduction(&session, &options)?,
        };
        let model = model::create(&session, &options)?;
        let version = options.base_version.clone();
        Ok(Tinker {
            session,
            options,
            reduction,
            model,
            steps: 0,
            is_restored: false,
            version,
            sampled_from: None,
            sampled_at: None,
            saved: Mutex::new(None),
            pending: Vec::new(),
        })
    }

    /// What the server divides by.
    pub fn reduction(&self) -> Reduction {
        self.reduction
    }

    /// The address of the server.
    pub fn address(&self) -> &Address {
        self.session.address()
    }

    fn forward(&self, traces: &[&Trace]) -> Result<Vec<Vec<f32>>, TinkerError> {
        let chunks: Vec<&[&Trace]> = traces.chunks(DATA).collect();
        let bodies = chunks.iter().map(|chunk| {
            let data: Vec<Datum> = chunk.iter().map(|trace| Datum::scored(trace)).collect();
            protocol::pass(&self.model, Loss::CrossEntropy, &data, self.session.next_seq()).1
        });
        let mut scores = vec![Vec::new(); chunks.len()];
        self.session.call_all("forward", bodies.collect(), &mut |index, answer| {
            scores[index] = protocol::completion_scores(answer, chunks[index])
                .map_err(|reason| self.session.unreadable("forward", reason))?;
            Ok(true)
        })?;
        Ok(scores.into_iter().flatten().collect())
    }

    /// Sends what is pending, and moves the weights.
    fn apply(&mut self, rate: f64) -> Result<StepStats, TinkerError> {
        // A trace that counts nothing is left out; a mean over the data then leaves it out, too.
        let pending: Vec<Pending> =
            self.pending.drain(..).filter(|one| one.coefficients.iter().any(|c| *c != 0.0)).collect();
        if pending.is_empty() {
            return Ok(StepStats::default());
        }
        let datum = |one: &Pending| {
            let factor = self.reduction.factor(Datum::targets(&one.trace), pending.len());
            let advantages: Vec<f32> = one.coefficients.iter().map(|c| -c * factor).collect();
            Datum::learnt(&one.trace, &one.current, &advantages)
        };
        for chunk in pending.chunks(DATA) {
            let data: Vec<Datum> = chunk.iter().map(datum).collect();
            let (route, body) = protocol::pass(&self.model, Loss::ImportanceSampling, &data, self.session.next_seq());
            let answer = self.session.call(route, &body)?;
            let traces: Vec<&Trace> = chunk.iter().map(|one| &one.trace).collect();
            protocol::completion_scores(answer, &traces).map_err(|reason| self.session.unreadable(route, reason))?;
        }
        let gradient_norm = model::optim_step(&self.session, &self.model, rate, self.options.adam)?.unwrap_or(0.0);
        self.steps += 1;
        Ok(StepStats { gradient_norm, clipped: false, moments: None })
    }

    fn hand_over(&mut self) -> Result<PolicyVersion, TinkerError> {
        if self.steps == 0 && !self.is_restored {
            // Adapters begin as the identity: these are the base's own weights.
            return Ok(self.version.clone());
        }
        if self.sampled_at == Some(self.steps) {
            // Nothing has moved: a step may have had nothing to learn from.
            return Ok(self.version.clone());
        }
        let name = format!("s{}", self.steps);
        let path = model::save(&self.session, &self.model, "save_weights_for_sampler", &name)?;
        (self.sampled_from, self.sampled_at) = (Some(path), Some(self.steps));
        self.version = version_of(&["model", &self.model, &name]);
        Ok(self.version.clone())
    }

    fn put_away(&self, dir: &Path) -> Result<(), TinkerError> {
        let mut newest = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        let path = match newest.as_ref().filter(|(steps, _)| *steps == self.steps) {
            Some((_, path)) => path.clone(),
            None => model::save(&self.session, &self.model, "save_weights", &format!("w{}", self.steps))?,
        };
        *newest = Some((self.steps, path.clone()));
        let saved = Saved {
            server: self.address().to_string(),
            base_model: self.options.base_model.clone(),
            rank: self.options.rank,
            path,
        };
        let path = dir.join(STATE_FILE);
        let text = serde_json::to_string_pretty(&saved).map_err(io::Error::from);
        text.and_then(|text| fs::write(&path, text)).map_err(|source| TinkerError::State { path, source })
    }
}

impl Sampler for Tinker {
    fn version(&self) -> PolicyVersion {
        self.version.clone()
    }

    fn sample(
        &mut self,
        requests: &[SampleRequest],
        done: &mut dyn FnMut(usize, Completion) -> ControlFlow<()>,
    ) -> Result<(), SampleError> {
        for (index, request) in requests.iter().enumerate() {
            self.check(index, request)?;
        }
        let from = match &self.sampled_from {
            Some(path) => Weights::Saved(path),
            None => Weights::Base(&self.options.base_model),
        };
        let bodies = requests.iter().map(|request| {
            let tokens = [&request.prompt[..], &request.prefix].concat();
            protocol::sample(from, &tokens, &request.params, request.seed)
        });
        let unreadable = |reason| self.session.unreadable("asample", reason);
        let mut each = |index: usize, answer| {
            let mut sequence = Sequence::only(answer).map_err(unreadable)?;
            let params = &requests[index].params;
            let stop = sequence.check(params, self.options.vocabulary).map_err(unreadable)?;
            let completion = Completion { tokens: sequence.tokens, behavior: sequence.logprobs, stop };
            Ok(done(index, completion).is_continue())
        };
        self.session
            .call_all("asample", bodies.collect(), &mut each)
            .map_err(|error| SampleError::Other(Box::new(error)))
    }
}

impl Tinker {
    fn check(&self, index: usize, request: &SampleRequest) -> Result<(), SampleError> {
        let SampleRequest { prompt, prefix, params, .. } = request;
        let (limit, vocabulary) = (self.options.positions, self.options.vocabulary);
        let (prompt_tokens, prefix_tokens, max_tokens) = (prompt.len(), prefix.len(), params.max_tokens as usize);
        let needed = prompt_tokens + prefix_tokens + max_tokens;
        if needed > limit {
            let (prompt, prefix) = (prompt_tokens, prefix_tokens);
            return Err(SampleError::TooLong { index, needed, prompt, prefix, max_tokens, limit });
        }
        if let Some(&token) = prompt.iter().chain(prefix.iter()).find(|token| **token as usize >= vocabulary) {
            return Err(SampleError::UnknownToken { index, token, vocabulary });
        }
        if prompt.is_empty() {
            return Err(SampleError::BadRequest { index, reason: "the prompt is empty".into() });
        }
        if let Some(asked) = params.local_only() {
            let reason = format!("it asks for {asked}, which the Tinker API has no parameter for");
            return Err(SampleError::BadRequest { index, reason });
        }
        Ok(())
    }
}

impl Scorer for Tinker {
    fn score(&mut self, traces: &[&Trace]) -> Result<Vec<TokenScores>, ScoreError> {
        check_traces(traces, &self.options)?;
        let scores = self.forward(traces).map_err(|error| ScoreError::Other(Box::new(error)))?;
        Ok(scores.into_iter().map(|current| TokenScores { current, entropy: None }).collect())
    }
}

impl Learner for Tinker {
    fn accumulate(
        &mut self,
        traces: &[&Trace],
        coefficients: &mut dyn FnMut(usize, &TokenScores) -> Vec<f32>,
    ) -> Result<(), LearnError> {
        check_traces(traces, &self.options)?;
        let is_known = |trace: &Trace| self.options.passes == Passes::One && trace.sampled_by == self.version;
        let unknown: Vec<&Trace> = traces.iter().copied().filter(|trace| !is_known(trace)).collect();
        let scored = self.forward(&unknown).map_err(|error| ScoreError::Other(Box::new(error)))?;
        let mut scored = scored.into_iter();
        for (index, trace) in traces.iter().enumerate() {
            let current = match is_known(trace) {
                true => trace.completion.behavior.clone(),
                false => scored.next().unwrap_or_default(),
            };
            let scores = TokenScores { current, entropy: None };
            let coefficients = coefficients(index, &scores);
            let tokens = trace.completion.tokens.len();
            if coefficients.len() != tokens {
                return Err(LearnError::CoefficientCount { index, tokens, coefficients: coefficients.len() });
            }
            let current = scores.current;
            self.pending.push(Pending { trace: (*trace).clone(), current, coefficients });
        }
        Ok(())
    }

    fn step(&mut self, rate: f64) -> Result<StepStats, LearnError> {
        let norm =
            self.pending.iter().flat_map(|one| &one.coefficients).map(|c| f64::from(*c).powi(2)).sum::<f64>().sqrt();
        if !norm.is_finite() {
            self.pending.clear();
            return Err(LearnError::NotFinite { norm });
        }
        self.apply(rate).map_err(other)
    }

    fn publish(&mut self) -> Result<PolicyVersion, LearnError> {
        self.hand_over().map_err(other)
    }

    fn save(&self, dir: &Path) -> Result<(), LearnError> {
        self.put_away(dir).map_err(|error| LearnError::Checkpoint { dir: dir.into(), reason: error.to_string() })
    }

    fn restore(&mut self, dir: &Path) -> Result<(), LearnError> {
        let refuse = |reason: String| LearnError::Checkpoint { dir: dir.into(), reason };
        let text =
            fs::read_to_string(dir.join(STATE_FILE)).map_err(|error| refuse(format!("{STATE_FILE}: {error}")))?;
        let saved: Saved = serde_json::from_str(&text).map_err(|error| refuse(format!("{STATE_FILE}: {error}")))?;
        let (base_model, rank) = (&self.options.base_model, self.options.rank);
        if (&saved.base_model, saved.rank) != (base_model, rank) {
            return Err(refuse(format!(
                "it is of {:?} with rank {}, expected {base_model:?} with rank {rank}",
                saved.base_model, saved.rank
            )));
        }
        let model = model::load(&self.session, &self.options, &saved.path);
        let model = model.map_err(|error| refuse(error.to_string()))?;
        model::unload(&self.session, &self.model);
        (self.model, self.steps, self.is_restored) = (model, 0, true);
        (self.sampled_at, self.saved) = (None, Mutex::new(None));
        self.pending.clear();
        Ok(())
    }

    fn parameter_count(&self) -> u64 {
        self.options.parameters
    }
}

impl Drop for Tinker {
    fn drop(&mut self) {
        model::unload(&self.session, &self.model);
    }
}

fn check_traces(traces: &[&Trace], options: &TinkerOptions) -> Result<(), ScoreError> {
    for (index, trace) in traces.iter().enumerate() {
        let tokens = trace.prompt.len() + trace.prefix.len() + trace.completion.tokens.len();
        if tokens > options.positions {
            return Err(ScoreError::TooLong { index, tokens, limit: options.positions });
        }
        if trace.prompt.is_empty() {
            return Err(ScoreError::BadTrace { index, reason: "its prompt is empty".into() });
        }
    }
    Ok(())
}

/// Sixteen digits that name weights which only the server has.
fn version_of(parts: &[&str]) -> PolicyVersion {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"tinker");
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    PolicyVersion { weights: hasher.finalize().to_hex()[..16].to_owned() }
}

fn other(error: TinkerError) -> LearnError {
    LearnError::Other(Box::new(error))
}

fn quoted(names: &[String]) -> String {
    match names {
        [] => "no model".to_owned(),
        names => names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", "),
    }
}
