//! Who samples and who learns: a policy of this process, and the fleet that samples in its place where the recipe
//! has one.
//!
//! The policy is always here: it learns, it says what the fleet's servers have to compute ([`Probe`]), and its
//! published weights are what they are given, in a folder of their own per version. So the sampler's version is the
//! policy's, and a fleet that cannot be brought to it is an error.
//!
//! What each endpoint did is appended to `fleet.jsonl` after every call, one line per endpoint and call; it is apart
//! from `events.jsonl`, which has to come out the same on any machines.

use std::borrow::BorrowMut;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::Serialize;
use toehold_policy::Policy;
use toehold_rollout::remote::http::{Address, ApiKey};
use toehold_rollout::remote::{
    Counts, EndpointReport, Engine, Expected, Fleet, FleetError, FleetSettings, Probe, WeightFolders,
};
use toehold_rollout::store::Stage;
use toehold_rollout::{
    Completion, LearnError, Learner, PolicyVersion, SampleError, SampleRequest, Sampler, SamplingParams, ScoreError,
    Scorer, StepStats, TokenId, TokenScores, Trace,
};
use toehold_training::recipe::{self, SamplerKind};

use crate::interrupt::{self, Interrupted};
use crate::prepare::Prepared;
use crate::terminal::{self, Output};

/// A policy, its own or lent, and the fleet that samples for it.
pub struct Engines<P> {
    policy: P,
    remote: Option<Remote>,
}

/// A fleet that is connected when something is first sampled.
struct Remote {
    settings: FleetSettings,
    fleet: Option<Fleet>,
    folders: Option<WeightFolders>,
    question: Question,
    stage: Stage,
    log: File,
    calls: u64,
    totals: BTreeMap<String, Counts>,
}

/// What the policy and the servers are asked, to compare them.
struct Question {
    text: String,
    tokens: Vec<TokenId>,
    prompt: Vec<TokenId>,
}

/// Tokens that are compared.
const COMPARED: u32 = 32;

impl<P: BorrowMut<Policy>> Engines<P> {
    /// The sampler of the recipe, for one stage.
    ///
    /// # Errors
    /// A fleet that cannot serve the stage, a missing key, a wrong address.
    pub fn new(policy: P, remote: Option<RemotePlan>) -> Result<Engines<P>> {
        Ok(Engines { policy, remote: remote.map(Remote::open).transpose()? })
    }

    /// The policy of this process.
    pub fn policy(&self) -> &Policy {
        self.policy.borrow()
    }

    /// Says what each endpoint did, where there was a fleet.
    pub fn say(&self, output: &Output) {
        for (endpoint, counts) in self.remote.iter().flat_map(|remote| &remote.totals) {
            output.say(format!("{endpoint}: {}", said(counts)));
        }
    }
}

/// A fleet as a recipe has it, with what has to be known of the run.
pub struct RemotePlan {
    sampler: recipe::Sampler,
    stage: Stage,
    model: String,
    run: String,
    log: PathBuf,
    question: Question,
    text: Option<Arc<toehold_rollout::TokenizerFile>>,
}

impl RemotePlan {
    /// None where the recipe has no fleet.
    ///
    /// # Errors
    /// A problem that cannot be made tokens.
    pub fn of(prepared: &Prepared, stage: Stage) -> Result<Option<RemotePlan>> {
        let Some(sampler) = prepared.plan.sampler.clone() else { return Ok(None) };
        if stage == Stage::Collect && prepared.collector.is_some() {
            bail!(
                "[collect] policy names another model, and the servers of [sampler] have the policy's\n\
                 hint: collect with --set sampler.kind=local --set sampler.endpoints=[]"
            );
        }
        let Some((problem, start)) = prepared.problems.problems.first().zip(prepared.starts.first()) else {
            bail!("there is no problem to ask the servers")
        };
        let question = Question {
            text: problem.problem.clone(),
            tokens: prepared.tokenizer.encode(&problem.problem)?,
            prompt: start.prompt.clone(),
        };
        let text = (sampler.kind == SamplerKind::Openai).then(|| Arc::new(prepared.tokenizer.clone()));
        Ok(Some(RemotePlan {
            model: prepared.plan.policy.model.display().to_string(),
            run: prepared.plan.run.name.clone(),
            log: prepared.folder.path().join("fleet.jsonl"),
            sampler,
            stage,
            question,
            text,
        }))
    }
}

impl Remote {
    fn open(plan: RemotePlan) -> Result<Remote> {
        let RemotePlan { sampler, stage, model, run, log, question, text } = plan;
        let engine = match sampler.kind {
            SamplerKind::Vllm => Engine::Vllm,
            SamplerKind::Sglang => Engine::Sglang,
            SamplerKind::Openai | SamplerKind::Local => Engine::Openai,
        };
        if stage != Stage::Collect {
            if engine == Engine::Openai {
                bail!(
                    "[sampler] kind = \"openai\" gives text, whose tokens are a guess, and serves `toehold sample` alone\n\
                     hint: go on with --set sampler.kind=vllm or sglang and servers of that kind, or with \
                     --set sampler.kind=local --set sampler.endpoints=[]"
                );
            }
            if sampler.weights_path.is_none() {
                bail!(
                    "[sampler] has no weights_path, by which the servers get the weights that were trained\n\
                     hint: --set sampler.weights_path=FOLDER, one that this process writes and the servers read"
                );
            }
        }
        let folders = sampler.weights_path.as_ref().map(|here| {
            let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).join(&run);
            let there = sampler.weights_seen_at.as_ref().map_or_else(|| absolute(here), |there| there.join(&run));
            WeightFolders::new(absolute(here), there)
        });
        let settings = FleetSettings {
            engine,
            endpoints: sampler.endpoints.iter().map(|text| Address::parse(text)).collect::<Result<_, _>>()?,
            model: sampler.served_model.unwrap_or(model),
            key: sampler.key_env.as_deref().map(ApiKey::from_environment).transpose()?,
            in_flight: sampler.in_flight,
            choices: sampler.choices,
            deadline: Duration::from_secs_f64(sampler.deadline_s),
            patience: Duration::from_secs_f64(sampler.patience_s),
            tries: sampler.tries,
            hedge: sampler.hedge,
            hedge_at_least: Duration::from_secs(1),
            tolerance: sampler.tolerance,
            text,
            interrupted: interrupt::requested,
        };
        let file = OpenOptions::new().append(true).create(true).open(&log);
        let log = file.with_context(|| format!("cannot write {}", log.display()))?;
        let (calls, totals) = (0, BTreeMap::new());
        Ok(Remote { settings, fleet: None, folders, question, stage, log, calls, totals })
    }

    /// The fleet, with the policy's published weights. The current ones have to be those.
    fn ready(&mut self, policy: &mut Policy) -> Result<&mut Fleet, RemoteError> {
        let version = policy.version();
        if self.fleet.as_ref().is_none_or(|fleet| fleet.version() != version) {
            let expected = self.expected(policy)?;
            match &mut self.fleet {
                Some(fleet) => fleet.load(expected)?,
                None => self.fleet = Some(Fleet::connect(self.settings.clone(), expected)?),
            }
            if let Some(folders) = &self.folders {
                folders.keep_only(&version)?;
            }
        }
        self.fleet.as_mut().ok_or(RemoteError::Fleet(FleetError::Empty))
    }

    /// What the servers have to be: asks the policy what they will be asked.
    fn expected(&self, policy: &mut Policy) -> Result<Expected, RemoteError> {
        let version = policy.version();
        let Question { text, tokens, prompt } = &self.question;
        let room = policy.config().max_position_embeddings.saturating_sub(prompt.len() + 1).max(1);
        let max_tokens = COMPARED.min(u32::try_from(room).unwrap_or(COMPARED));
        // Drawn, not the likeliest: of those any weights are nearly sure.
        let params = SamplingParams { temperature: 1.0, top_k: 0, top_p: 1.0, max_tokens, stop: Vec::new() };
        let request =
            SampleRequest { prompt: prompt.as_slice().into(), prefix: Arc::from([]), params, seed: 0x70_726f_6265 };
        let mut drawn = Completion::default();
        policy.sample(std::slice::from_ref(&request), &mut |_, completion| {
            drawn = completion;
            ControlFlow::Continue(())
        })?;
        let completion = drawn.tokens.clone();
        let trace =
            Trace { prompt: prompt.clone(), prefix: Vec::new(), completion: drawn, sampled_by: version.clone() };
        let current = policy.score(&[&trace])?.pop().unwrap_or_default().current;
        let probe = Probe { text: text.clone(), tokens: tokens.clone(), prompt: prompt.clone(), completion, current };
        let put = |folders: &WeightFolders| folders.put(&version, |folder| policy.save_folder(folder));
        let weights = self.folders.as_ref().map(put).transpose()?;
        Ok(Expected { vocabulary: policy.config().vocab_size, version, probe, weights })
    }

    /// Keeps what the endpoints did in the call that has just ended.
    fn record(&mut self) -> Result<(), RemoteError> {
        #[derive(Serialize)]
        struct Line<'a> {
            stage: Stage,
            call: u64,
            #[serde(flatten)]
            report: &'a EndpointReport,
        }
        self.calls += 1;
        for report in self.fleet.iter_mut().flat_map(Fleet::take_report) {
            add(self.totals.entry(report.endpoint.clone()).or_default(), &report.counts);
            let line = Line { stage: self.stage, call: self.calls, report: &report };
            let mut line = serde_json::to_vec(&line).map_err(std::io::Error::other)?;
            line.push(b'\n');
            self.log.write_all(&line)?;
        }
        Ok(())
    }
}

/// Why the fleet did not get that far.
#[derive(Debug)]
enum RemoteError {
    Fleet(FleetError),
    Folder(toehold_rollout::remote::FolderError),
    Sample(SampleError),
    Score(ScoreError),
    Log(std::io::Error),
}

impl From<RemoteError> for SampleError {
    fn from(error: RemoteError) -> SampleError {
        match error {
            RemoteError::Sample(error) => error,
            RemoteError::Fleet(error) => SampleError::Other(error.into()),
            RemoteError::Folder(error) => SampleError::Other(error.into()),
            RemoteError::Score(error) => SampleError::Other(error.into()),
            RemoteError::Log(error) => SampleError::Other(format!("cannot write fleet.jsonl: {error}").into()),
        }
    }
}

impl From<RemoteError> for LearnError {
    fn from(error: RemoteError) -> LearnError {
        LearnError::Other(SampleError::from(error).into())
    }
}

macro_rules! from {
    ($($error:ty => $variant:ident),*) => {
        $(impl From<$error> for RemoteError {
            fn from(error: $error) -> RemoteError {
                RemoteError::$variant(error)
            }
        })*
    };
}
from!(FleetError => Fleet, toehold_rollout::remote::FolderError => Folder, SampleError => Sample, ScoreError => Score, std::io::Error => Log);

impl<P: BorrowMut<Policy>> Sampler for Engines<P> {
    fn version(&self) -> PolicyVersion {
        self.policy.borrow().version()
    }

    fn sample(
        &mut self,
        requests: &[SampleRequest],
        done: &mut dyn FnMut(usize, Completion) -> ControlFlow<()>,
    ) -> Result<(), SampleError> {
        let policy = self.policy.borrow_mut();
        let Some(remote) = &mut self.remote else { return policy.sample(requests, done) };
        let sampled = remote.ready(policy)?.sample(requests, done);
        // What was done is kept whatever came of it.
        remote.record()?;
        sampled
    }
}

impl<P: BorrowMut<Policy>> Scorer for Engines<P> {
    fn score(&mut self, traces: &[&Trace]) -> Result<Vec<TokenScores>, ScoreError> {
        self.policy.borrow_mut().score(traces)
    }
}

impl<P: BorrowMut<Policy>> Learner for Engines<P> {
    fn accumulate(
        &mut self,
        traces: &[&Trace],
        coefficients: &mut dyn FnMut(usize, &TokenScores) -> Vec<f32>,
    ) -> Result<(), LearnError> {
        self.policy.borrow_mut().accumulate(traces, coefficients)
    }

    fn step(&mut self, rate: f64) -> Result<StepStats, LearnError> {
        self.policy.borrow_mut().step(rate)
    }

    /// Before anything was sampled no server is asked: the first call of the sampler will.
    fn publish(&mut self) -> Result<PolicyVersion, LearnError> {
        let policy = self.policy.borrow_mut();
        let version = policy.publish()?;
        if let Some(remote) = self.remote.as_mut().filter(|remote| remote.fleet.is_some()) {
            remote.ready(policy)?;
        }
        Ok(version)
    }

    fn save(&self, dir: &Path) -> Result<(), LearnError> {
        self.policy.borrow().save(dir)
    }

    fn restore(&mut self, dir: &Path) -> Result<(), LearnError> {
        self.policy.borrow_mut().restore(dir)
    }

    fn parameter_count(&self) -> u64 {
        self.policy.borrow().parameter_count()
    }
}

/// The error of a command that was interrupted, in the place of that of a fleet that was told to stop.
pub fn or_interrupted(error: anyhow::Error, resume: &str) -> anyhow::Error {
    let is_stop = |cause: &FleetError| matches!(cause, FleetError::Interrupted);
    if error.chain().any(|cause| cause.downcast_ref().is_some_and(is_stop)) {
        Interrupted { resume: resume.to_owned() }.into()
    } else {
        error
    }
}

fn add(total: &mut Counts, more: &Counts) {
    let Counts { requests, completions, tokens, hedges, late, downs, failures, refused } = more;
    total.requests += requests;
    total.completions += completions;
    total.tokens += tokens;
    total.hedges += hedges;
    total.late += late;
    total.downs += downs;
    for (sum, more) in [(&mut total.failures, failures), (&mut total.refused, refused)] {
        for (kind, count) in more {
            *sum.entry(kind.clone()).or_default() += count;
        }
    }
}

fn said(counts: &Counts) -> String {
    let Counts { requests, completions, tokens, hedges, late, downs, failures, refused } = counts;
    let mut parts = vec![format!(
        "{} completions, {} tokens, {} requests",
        terminal::count(*completions),
        terminal::count(*tokens),
        terminal::count(*requests)
    )];
    let plain = [("sent a second time", *hedges), ("too late", *late), ("times away", *downs)];
    parts.extend(plain.iter().filter(|(_, count)| *count > 0).map(|(what, count)| format!("{count} {what}")));
    parts.extend(failures.iter().chain(refused).map(|(kind, count)| format!("{count} × {kind}")));
    parts.join(", ")
}
