//! A policy: weights, their optimizer, and the packed copies that sampling and scoring run on.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use toehold_rollout::{
    Completion, LearnError, Learner, PolicyVersion, SampleError, SampleRequest, Sampler, ScoreError, Scorer, StepStats,
    StopReason, TokenId, TokenScores, Trace,
};

use crate::checkpoint::{self, Format, Layout, Note, OpenPolicyError, Piece, ReadWeightsError, WriteWeightsError};
use crate::config::ShapeError;
use crate::host::{self, Activations, Engine, SamplingPlan, Store, Trainer, Transposed};
use crate::learner::{self, GradientSums, Implementation, Memory, Model};
use crate::model::{self, Decoder};
use crate::optimizer::{AdamW, OptimizerState, zeros_like};
use crate::packing::{self, Packing};
use crate::{Dtype, MemoryEstimate, ModelConfig, NamedTensor, SamplingStats, Sharing, Weights};

/// How a policy computes; nothing here changes what its weights mean.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyOptions {
    /// Threads for sampling, scoring and learning; all of the machine's where none is given.
    pub threads: Option<usize>,
    /// The optimizer of [`Learner::step`].
    pub optimizer: AdamW,
    /// The numbers of matrices and their products, while sampling, scoring and learning on the host. Weights
    /// and the optimizer's state are `f32` always; [`Implementation::Graph`] knows only `f32`.
    pub dtype: Dtype,
    /// Which implementation learns.
    pub implementation: Implementation,
    /// Tokens of one micro-batch while learning, those that traces share counted once.
    pub micro_batch_tokens: usize,
    /// Memory for the activations of all micro-batches that are learnt at the same time, in bytes: where it
    /// does not suffice for `micro_batch_tokens`, they are made smaller. A single trace is never cut.
    pub activation_bytes: u64,
    /// What stays of the way forward for the way back.
    pub activations: Activations,
    /// Whether what prompts, prefixes and completions have in common is computed once.
    pub sharing: Sharing,
    /// Memory for the keys and values of sampling, in bytes. Sequences that find no room wait; one that is
    /// alone in its thread may go over it.
    pub cache_bytes: u64,
    /// Sequences that are decoded at the same time; memory for keys and values grows with it.
    pub sequences: usize,
}

impl PolicyOptions {
    /// Threads that are used: those asked for, or all of the machine's.
    pub fn thread_count(&self) -> usize {
        let machine = || std::thread::available_parallelism().map_or(1, usize::from);
        self.threads.unwrap_or_else(machine).max(1)
    }
}

impl Default for PolicyOptions {
    fn default() -> PolicyOptions {
        PolicyOptions {
            threads: None,
            optimizer: AdamW::default(),
            dtype: Dtype::default(),
            implementation: Implementation::default(),
            micro_batch_tokens: 2048,
            activation_bytes: 4 << 30,
            activations: Activations::default(),
            sharing: Sharing::default(),
            cache_bytes: 1 << 30,
            sequences: 256,
        }
    }
}

/// A decoder that is sampled from, scored with and trained.
///
/// The sampler uses the weights of the last [`publish`](Learner::publish) (at first those it was made
/// with); the scorer and the learner use the current ones.
#[derive(Debug)]
pub struct Policy {
    config: ModelConfig,
    options: PolicyOptions,
    /// How its folder is written.
    layout: Arc<Layout>,
    weights: Weights,
    optimizer: OptimizerState,
    gradient: GradientSums,
    version: PolicyVersion,
    published: Arc<Engine>,
    /// Made from the current weights when they are first needed after a step.
    current: Option<Arc<Engine>>,
    model: Option<Model>,
    /// Packed weights of before, whose memory the next ones take.
    spare_engine: Option<Engine>,
    spare_transposed: Option<Transposed>,
    memory: Memory,
    /// Memory of keys and values from call to call.
    store: Arc<Store>,
    sampling: SamplingStats,
}

impl Policy {
    /// Opens a Hugging Face folder: `config.json` and safetensors.
    ///
    /// # Errors
    /// When a file is missing or broken, or the model is one that is not computed here.
    pub fn open(dir: &Path, options: PolicyOptions) -> Result<Policy, OpenPolicyError> {
        let (config, weights, layout) = checkpoint::open(dir)?;
        Ok(Policy::from_weights(config, Arc::new(layout), weights, options))
    }

    /// The weights of a folder alone, without what sampling and learning need.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn read_weights(dir: &Path) -> Result<Weights, OpenPolicyError> {
        Ok(checkpoint::open(dir)?.1)
    }

    /// A policy with random weights; the same seed gives the same bits.
    ///
    /// # Errors
    /// When the config's numbers do not fit each other.
    pub fn random(config: &ModelConfig, seed: u64, options: PolicyOptions) -> Result<Policy, ShapeError> {
        config.check()?;
        let layout = Arc::new(Layout::of_model(config));
        Ok(Policy::from_weights(config.clone(), layout, Weights::random(config, seed), options))
    }

    /// Writes the current weights and what belongs to them into `dir`, which exists.
    ///
    /// A policy that was opened is written as its folder was: the same names, number formats and files, and
    /// config, tokenizer and template unchanged. Numbers are rounded to nearest where the folder has bf16 or
    /// f16. A random policy gets `config.json`, `generation_config.json` and one file of f32; its tokenizer is
    /// the caller's.
    ///
    /// # Errors
    /// When a file cannot be written, or a format cannot hold a number.
    pub fn save_folder(&self, dir: &Path) -> Result<(), WriteWeightsError> {
        checkpoint::write_folder(dir, &self.weights, &self.layout)
    }

    /// As [`save_folder`](Self::save_folder) into a folder that does not exist yet: it is written beside its
    /// place and renamed into it, so that what has its name is complete.
    ///
    /// # Errors
    /// When the folder is there already or cannot be written.
    pub fn save_new_folder(&self, dir: &Path) -> Result<(), WriteWeightsError> {
        let error = |reason: String| WriteWeightsError { path: dir.into(), reason };
        if dir.exists() {
            return Err(error("it is there already".into()));
        }
        let mut beside = dir.file_name().unwrap_or_default().to_owned();
        beside.push(".unfinished");
        let beside = dir.with_file_name(beside);
        if beside.exists() {
            std::fs::remove_dir_all(&beside).map_err(|source| error(source.to_string()))?;
        }
        std::fs::create_dir_all(&beside).map_err(|source| error(source.to_string()))?;
        self.save_folder(&beside)?;
        std::fs::rename(&beside, dir).map_err(|source| error(source.to_string()))
    }

    /// Logits of every position of one sequence by the current weights: `[tokens, vocabulary]`.
    ///
    /// All of them are there at once, so this is for comparing with other programs; see
    /// [`Scorer::score`] for what training needs.
    ///
    /// # Errors
    /// When the sequence is empty, too long, or has an unknown token.
    pub fn logits(&mut self, tokens: &[TokenId]) -> Result<Vec<f32>, ScoreError> {
        let completion = Completion { tokens: Vec::new(), behavior: Vec::new(), stop: StopReason::Length };
        let sampled_by = self.version.clone();
        let trace = Trace { prompt: tokens.to_vec(), prefix: Vec::new(), completion, sampled_by };
        packing::check(&self.config, &[&trace])?;
        Ok(host::logits(&self.engine(), tokens))
    }

    /// A second policy with the current weights and a fresh optimizer.
    pub fn fork(&self) -> Policy {
        Policy::from_weights(self.config.clone(), self.layout.clone(), self.weights.clone(), self.options.clone())
    }

    /// The model's shape.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// How it computes.
    pub fn options(&self) -> &PolicyOptions {
        &self.options
    }

    /// The current weights.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// What the last call of [`sample`](Sampler::sample) did.
    pub fn sampling_stats(&self) -> SamplingStats {
        self.sampling
    }

    /// The gradient accumulated since the last step, one list per tensor of
    /// [`weights`](Self::weights).
    pub fn gradient(&self) -> &[Vec<f32>] {
        &self.gradient
    }

    /// Memory that sampling and learning will take at most, for traces of up to `longest` tokens.
    pub fn memory_estimate(&self, longest: usize) -> MemoryEstimate {
        let packing = self.packing();
        let (threads, rows) = (packing.threads as u64, packing.rows as u64);
        MemoryEstimate::new(&self.config, &self.options, self.weights.count(), (threads, rows), longest as u64)
    }

    fn from_weights(config: ModelConfig, layout: Arc<Layout>, weights: Weights, options: PolicyOptions) -> Policy {
        let published = Arc::new(Engine::new(&config, &weights, options.dtype, options.thread_count(), None));
        Policy {
            optimizer: OptimizerState::new(&weights),
            gradient: zeros_like(&weights),
            version: weights.version(),
            current: Some(published.clone()),
            model: None,
            spare_engine: None,
            spare_transposed: None,
            memory: Memory::default(),
            store: Arc::default(),
            sampling: SamplingStats::default(),
            config,
            options,
            layout,
            weights,
            published,
        }
    }

    fn packing(&self) -> Packing {
        let PolicyOptions { micro_batch_tokens, activation_bytes, activations, implementation, .. } = self.options;
        let (threads, sharing) = match implementation {
            Implementation::Host => (self.options.thread_count(), self.options.sharing),
            // The tensor library has threads of its own, and its graphs must not meet.
            Implementation::Graph => (1, Sharing::Separate),
        };
        let row = host::bytes_per_row(&self.config, activations) * threads as u64;
        let rows = usize::try_from(activation_bytes / row).unwrap_or(usize::MAX);
        Packing { rows: micro_batch_tokens.min(rows), sharing, threads }
    }

    /// The packed current weights.
    fn engine(&mut self) -> Arc<Engine> {
        let (dtype, threads, spare) = (self.options.dtype, self.options.thread_count(), &mut self.spare_engine);
        let make = || Arc::new(Engine::new(&self.config, &self.weights, dtype, threads, spare.take()));
        self.current.get_or_insert_with(make).clone()
    }

    fn clear_gradient(&mut self) {
        for sum in &mut self.gradient {
            sum.fill(0.0);
        }
    }
}

impl Sampler for Policy {
    fn version(&self) -> PolicyVersion {
        self.version.clone()
    }

    fn sample(
        &mut self,
        requests: &[SampleRequest],
        done: &mut dyn FnMut(usize, Completion) -> ControlFlow<()>,
    ) -> Result<(), SampleError> {
        let PolicyOptions { sequences, cache_bytes, sharing, .. } = self.options;
        let plan = SamplingPlan { threads: self.options.thread_count(), sequences, cache_bytes, sharing };
        host::sample(&self.published, requests, &plan, &self.store, &mut self.sampling, done)
    }
}

impl Scorer for Policy {
    fn score(&mut self, traces: &[&Trace]) -> Result<Vec<TokenScores>, ScoreError> {
        packing::check(&self.config, traces)?;
        let (engine, packing) = (self.engine(), self.packing());
        Ok(learner::score(&engine, traces, packing, &mut self.memory))
    }
}

impl Learner for Policy {
    /// On an error the whole accumulated gradient is discarded.
    fn accumulate(
        &mut self,
        traces: &[&Trace],
        coefficients: &mut dyn FnMut(usize, &TokenScores) -> Vec<f32>,
    ) -> Result<(), LearnError> {
        packing::check(&self.config, traces)?;
        let (engine, packing) = (self.engine(), self.packing());
        let make = || match self.options.implementation {
            Implementation::Host => {
                let (activations, spare) = (self.options.activations, self.spare_transposed.take());
                Model::Host(Box::new(Trainer::new(engine, &self.weights, activations, packing.threads, spare)))
            }
            Implementation::Graph => {
                let device = model::device().autodiff();
                Model::Graph(Box::new(Decoder::new(&self.config, &self.weights, &device)))
            }
        };
        let model = self.model.get_or_insert_with(make);
        let result = learner::accumulate(model, traces, coefficients, packing, &mut self.memory, &mut self.gradient);
        if result.is_err() {
            self.clear_gradient();
        }
        result
    }

    /// On an error the accumulated gradient is discarded, too.
    fn step(&mut self, rate: f64) -> Result<StepStats, LearnError> {
        let threads = self.options.thread_count();
        let stats = self.optimizer.step(&mut self.weights, &self.gradient, rate, &self.options.optimizer, threads);
        self.clear_gradient();
        if stats.is_ok() {
            if let Some(Model::Host(trainer)) = self.model.take() {
                self.spare_transposed = Some(trainer.into_transposed());
            }
            self.current = None;
        }
        stats
    }

    fn publish(&mut self) -> Result<PolicyVersion, LearnError> {
        let engine = self.engine();
        let old = std::mem::replace(&mut self.published, engine);
        self.spare_engine = Arc::into_inner(old).or(self.spare_engine.take());
        self.version = self.weights.version();
        Ok(self.version.clone())
    }

    /// Writes the model folder and `optimizer.safetensors`. Where the folder has bf16 or f16, the weights
    /// stand in f32 beside the optimizer's state, too. A gradient that was not applied yet is not written.
    fn save(&self, dir: &Path) -> Result<(), LearnError> {
        let error = |error: WriteWeightsError| checkpoint_error(dir, &error);
        self.save_folder(dir).map_err(error)?;
        let piece = |kind: &str, tensor: &'_ NamedTensor| format!("{kind}.{}", tensor.name);
        let mut pieces = Vec::new();
        for (kind, lists) in state_names().into_iter().zip(state_lists(&self.optimizer)) {
            for (tensor, values) in self.weights.tensors.iter().zip(lists) {
                let (name, shape) = (piece(kind, tensor), &tensor.shape[..]);
                pieces.push(Piece::Numbers { name, format: Format::F32, shape, values });
            }
        }
        if !self.layout.is_exact() {
            for tensor in &self.weights.tensors {
                let (name, shape, values) = (piece(MASTERS, tensor), &tensor.shape[..], &tensor.values[..]);
                pieces.push(Piece::Numbers { name, format: Format::F32, shape, values });
            }
        }
        // In the order of the names, as they have always been.
        pieces.sort_by(|a, b| a.name().cmp(b.name()));
        checkpoint::write_file(&dir.join(OPTIMIZER), pieces, Note::Steps(self.optimizer.steps)).map_err(error)
    }

    /// Publishes what it read; an accumulated gradient is discarded.
    fn restore(&mut self, dir: &Path) -> Result<(), LearnError> {
        let error = |error: ReadWeightsError| checkpoint_error(dir, &error);
        let (mut weights, _) = checkpoint::read_folder(dir, &self.config).map_err(error)?;
        let path = dir.join(OPTIMIZER);
        let mut kinds = state_names().to_vec();
        if checkpoint::has_tensors(&path, &format!("{MASTERS}.")).map_err(error)? {
            kinds.push(MASTERS);
        }
        let expected = Weights::expected(&self.config);
        let named = kinds
            .into_iter()
            .flat_map(|kind| expected.iter().map(move |(name, shape)| (format!("{kind}.{name}"), shape.clone())));
        let (lists, steps) = checkpoint::read_exactly(&path, named.collect()).map_err(error)?;
        let mut lists = lists.into_iter();
        let [first, second, mean, square] =
            state_names().map(|_| lists.by_ref().take(expected.len()).collect::<Vec<_>>());
        for (tensor, values) in weights.tensors.iter_mut().zip(lists) {
            tensor.values = values;
        }
        let options = std::mem::take(&mut self.options);
        *self = Policy::from_weights(self.config.clone(), self.layout.clone(), weights, options);
        self.optimizer = OptimizerState { steps, first, second, mean, square };
        Ok(())
    }

    /// Every number of the model: matrices, norms and embeddings, tied embeddings once.
    fn parameter_count(&self) -> u64 {
        self.weights.count()
    }
}

/// The optimizer's file, and what the weights in f32 are called in it.
const OPTIMIZER: &str = "optimizer.safetensors";
const MASTERS: &str = "weights";

/// Names of the optimizer's four lists in its file.
fn state_names() -> [&'static str; 4] {
    ["first", "second", "mean", "square"]
}

fn state_lists(state: &OptimizerState) -> [&Vec<Vec<f32>>; 4] {
    [&state.first, &state.second, &state.mean, &state.square]
}

fn checkpoint_error(dir: &Path, error: &dyn std::error::Error) -> LearnError {
    LearnError::Checkpoint { dir: dir.into(), reason: error.to_string() }
}
