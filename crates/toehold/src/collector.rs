//! Another model that collects: prefixes are cut from its traces, for the run's own policy.
//!
//! PrefixRL does so across model families (arXiv 2601.18795, 11.3 and 12.3). The other model reads the problems
//! through the recipe's template in its own tokens, and its traces are stored as its own. Prefixes are made of
//! the run's tokens. Where the tokenizers are the same, those are the traces' ids; otherwise the text of each
//! correct trace is encoded once, as imported text and a text-only server's are, and decoded
//! to compare: a trace whose text does not come back to the letter is left out and counted. The store keeps
//! both.
//!
//! Only what the policy starts from may come from another model. What a curriculum or an objective takes for the
//! policy's own success, or for its own log-probabilities, may not, and such recipes are refused.

use std::collections::HashMap;

use anyhow::{Result, bail};
use toehold_policy::Policy;
use toehold_rollout::store::{Encoded, StoredTrace};
use toehold_rollout::{PolicyVersion, Problem, Sampler as _, Start, Store, TokenizerFile};
use toehold_training::Plan;
use toehold_training::curriculum::Traces;
use toehold_verifier::Outcome;

use crate::commands::sample;
use crate::hub;
use crate::prepare::{self, Prepared};
use crate::terminal::{self, Output};

/// The other model, ready to sample.
pub struct Collector {
    /// Its weights.
    pub policy: Policy,
    /// Its tokenizer.
    pub tokenizer: TokenizerFile,
    /// The plain start of each problem to learn in its tokens, in their order.
    pub starts: Vec<Start>,
}

impl Collector {
    /// Opens the model that `[collect] policy` names; none where it names none.
    ///
    /// # Errors
    /// A recipe that needs the run's own traces, and a model that cannot be used.
    pub fn open(plan: &Plan, problems: &[Problem], output: &Output) -> Result<Option<Collector>> {
        let Some(model) = &plan.collect.policy else { return Ok(None) };
        refuse(plan)?;
        let model = &hub::folder(model, output)?;
        if !model.is_dir() {
            bail!("[collect] policy: the model folder {} is not there", model.display());
        }
        let tokenizer = TokenizerFile::open(model)?;
        let policy = Policy::open(model, prepare::policy_options(plan))?;
        tokenizer.check_vocabulary(policy.config().vocab_size)?;
        let prompts = prepare::prompts(plan, model)?;
        prompts.check(&tokenizer)?;
        let starts = prepare::plain_starts(&prompts, &tokenizer, problems)?;
        let prompt = starts.iter().map(|start| start.prompt.len()).max().unwrap_or(0);
        let (limit, positions) = (plan.collect.max_tokens, policy.config().max_position_embeddings);
        if prompt + limit as usize > positions {
            bail!(
                "[collect] max_tokens is {limit} and the longest prompt has {prompt} tokens, \
                 but the model in {} has {positions} positions\n\
                 hint: --set collect.max_tokens={}",
                model.display(),
                positions.saturating_sub(prompt).max(1)
            );
        }
        Ok(Some(Collector { policy, tokenizer, starts }))
    }
}

/// Refuses what would take the other model's traces for the policy's own.
fn refuse(plan: &Plan) -> Result<()> {
    let why = if plan.curriculum.traces() != Traces::Correct {
        "[curriculum] does not cut correct traces alone"
    } else if plan.problems.band.is_some() {
        "[problems] band asks for the policy's own success"
    } else if plan.objective.wants_collection() {
        "[objective] weighs collected traces by who sampled them"
    } else if plan.sft.is_some() {
        "[sft] imitates traces in the policy's own tokens"
    } else {
        return Ok(());
    };
    bail!(
        "[collect] policy is another model, but {why}\n\
         hint: it goes with [curriculum] kind = \"success-prefix\" or \"in-context\"; recipes/cross-family.toml is one"
    )
}

/// The weights that collect for this run.
pub fn version(prepared: &Prepared) -> PolicyVersion {
    prepared.collector.as_ref().map_or_else(|| prepared.base.version(), |collector| collector.policy.version())
}

/// Encodes what was collected and is not encoded yet, and says what came of all of it; does nothing where the
/// run's tokens are those of the traces.
///
/// # Errors
/// The store cannot be read or written.
pub fn encode(prepared: &Prepared, store: &mut Store, output: &Output) -> Result<()> {
    let Some(tokenizer) = foreign(prepared) else { return Ok(()) };
    let known = store.encoded(prepared.tokenizer.hash())?;
    let traces = sample::collected_traces(prepared, store, Some(Outcome::Correct))?;
    let again = |stored: &StoredTrace| {
        let text = tokenizer.decode(&stored.trace.completion.tokens);
        (stored.row, prepared.tokenizer.encode_exactly(&text))
    };
    let new: Encoded = traces.iter().filter(|stored| !known.contains_key(&stored.row)).map(again).collect();
    store.put_encoded(prepared.tokenizer.hash(), &new)?;
    let all = known.iter().chain(&new);
    let (kept, dropped): (Vec<_>, Vec<_>) = all.map(|(_, tokens)| tokens).partition(|tokens| tokens.is_some());
    let (kept, dropped) = (kept.len() as u64, dropped.len() as u64);
    output.event(&serde_json::json!({ "event": "encoded", "kept": kept, "dropped": dropped }))?;
    output.say(format!(
        "{} correct traces in the policy's own tokens, {} left out because their text does not come back",
        terminal::count(kept),
        terminal::count(dropped),
    ));
    Ok(())
}

/// These traces with prompt and tokens as the run's own policy reads them, without those that were left out.
///
/// # Errors
/// The store cannot be read, or the traces were not encoded.
pub fn in_own_tokens(
    prepared: &Prepared,
    store: &Store,
    traces: Vec<StoredTrace>,
    starts: &[Start],
) -> Result<Vec<StoredTrace>> {
    if foreign(prepared).is_none() {
        return Ok(traces);
    }
    let encoded = store.encoded(prepared.tokenizer.hash())?;
    let prompts: HashMap<&str, &Start> = starts.iter().map(|start| (start.problem.as_str(), start)).collect();
    let mut own = Vec::new();
    for mut stored in traces {
        let Some(tokens) = encoded.get(&stored.row) else {
            bail!(
                "the trace in row {} of {} is not in the policy's own tokens: only correct ones are\n\
                 hint: `{}` comes first",
                stored.row,
                store.path().display(),
                prepared.resume_command("sample")
            );
        };
        if let (Some(tokens), Some(start)) = (tokens, prompts.get(stored.problem.as_str())) {
            stored.trace.prompt = start.prompt.clone();
            stored.trace.completion.tokens = tokens.clone();
            // Nobody's log-probabilities are known of these tokens.
            stored.trace.completion.behavior = Vec::new();
            own.push(stored);
        }
    }
    Ok(own)
}

/// The tokenizer of the traces, where it is not the run's own.
fn foreign(prepared: &Prepared) -> Option<&TokenizerFile> {
    let collector = prepared.collector.as_ref()?;
    (collector.tokenizer.hash() != prepared.tokenizer.hash()).then_some(&collector.tokenizer)
}
