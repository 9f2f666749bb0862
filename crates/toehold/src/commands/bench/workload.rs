//! What is measured: a policy, the tokens its rollouts start from, and completions to learn from.
//!
//! Tokens come from a file or from a seed, so that two rounds, and two programs, are given the same.

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;
use toehold_policy::{Dtype, ModelConfig, Policy, PolicyOptions, Sharing};
use toehold_rollout::problem::json_reason;
use toehold_rollout::{Completion, PolicyVersion, SampleRequest, SamplingParams, StopReason, TokenId, Trace};
use toehold_training::random;

use super::Shape;

/// How many tokens of which kind; every count is at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    /// Starts, each with tokens of its own.
    pub(super) groups: usize,
    /// Rollouts of each start.
    pub(super) group: usize,
    /// Given tokens, prompt and prefix together.
    pub(super) prefix: usize,
    /// Tokens of each completion.
    pub(super) completion: usize,
}

/// One start and, where the file has them, completions to learn from.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Start {
    pub(super) prompt: Vec<TokenId>,
    #[serde(default)]
    pub(super) prefix: Vec<TokenId>,
    #[serde(default)]
    pub(super) completions: Vec<Vec<TokenId>>,
}

/// The starts of a benchmark, and how long each completion gets.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Workload {
    pub(super) starts: Vec<Start>,
    pub(super) group: usize,
    pub(super) completion: usize,
}

/// Where the policy comes from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Origin<'a> {
    /// A Hugging Face folder.
    Folder(&'a Path),
    /// Random weights of a named shape.
    Named(Shape),
}

impl Origin<'_> {
    /// Its config alone, without reading weights.
    pub(super) fn config(self) -> Result<ModelConfig> {
        match self {
            Origin::Folder(folder) => {
                if !folder.is_dir() {
                    bail!("the model folder {} is not there", folder.display());
                }
                Ok(ModelConfig::read(&folder.join("config.json"))?)
            }
            Origin::Named(shape) => Ok(shape.config()),
        }
    }

    /// A fresh policy.
    pub(super) fn policy(self, dtype: Dtype, sharing: Sharing, threads: usize) -> Result<Policy> {
        let options = PolicyOptions { dtype, sharing, threads: Some(threads), ..PolicyOptions::default() };
        match self {
            Origin::Folder(folder) => Ok(Policy::open(folder, options)?),
            Origin::Named(shape) => Ok(Policy::random(&shape.config(), 0, options)?),
        }
    }
}

impl Shape {
    fn config(self) -> ModelConfig {
        match self {
            Shape::T => ModelConfig::new(512, 256, 6, 8, 4, 768),
            Shape::S => ModelConfig::new(4096, 512, 12, 8, 4, 1536),
        }
    }
}

impl Workload {
    /// Random tokens of `size`, the same for the same size and vocabulary.
    pub(super) fn random(size: Size, vocabulary: usize) -> Workload {
        let start = |index: usize| {
            let mut rng = random::stream(0, "bench", &[index as u64]);
            let mut given = draw(&mut rng, size.prefix, vocabulary);
            let prefix = given.split_off(1);
            let completions = (0..size.group).map(|_| draw(&mut rng, size.completion, vocabulary)).collect();
            Start { prompt: given, prefix, completions }
        };
        Workload { starts: (0..size.groups).map(start).collect(), group: size.group, completion: size.completion }
    }

    /// Reads one start a line: `{"prompt": [1, 2], "prefix": [3], "completions": [[4, 5]]}`, the last two
    /// as one likes. Starts without completions get random ones to learn from.
    ///
    /// # Errors
    /// A file that cannot be read, a line that is no start or does not fit the model.
    pub(super) fn read(path: &Path, group: usize, completion: usize, config: &ModelConfig) -> Result<Workload> {
        let vocabulary = config.vocab_size;
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut starts = Vec::new();
        for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
            let place = || format!("{}:{number}", path.display());
            let mut start = parse(line).with_context(place)?;
            if start.prompt.is_empty() || start.completions.iter().any(Vec::is_empty) {
                bail!("{}: the prompt or a completion is empty, expected at least 1 token", place());
            }
            let tokens = || start.prompt.iter().chain(&start.prefix).chain(start.completions.iter().flatten());
            if let Some(token) = tokens().find(|token| **token as usize >= vocabulary) {
                bail!("{}: token {token} is outside the model's vocabulary of {vocabulary} tokens", place());
            }
            let longest = start.completions.iter().map(Vec::len).fold(completion, usize::max);
            check_length(start.given(), longest, config.max_position_embeddings).with_context(place)?;
            if start.completions.is_empty() {
                let mut rng = random::stream(0, "bench", &[number]);
                start.completions = (0..group).map(|_| draw(&mut rng, completion, vocabulary)).collect();
            }
            starts.push(start);
        }
        if starts.is_empty() {
            bail!("{} has no line, expected at least one start such as {{\"prompt\": [1, 2]}}", path.display());
        }
        Ok(Workload { starts, group, completion })
    }

    /// One request per rollout, in the order of the starts.
    ///
    /// Every round has seeds of its own, and its given tokens are the first round's moved on by one, so that
    /// no round finds the keys and values of the one before in a cache. Token 0, which often ends a text,
    /// stays where it is and nothing else becomes it.
    pub(super) fn requests(&self, round: u64, vocabulary: usize) -> Vec<SampleRequest> {
        let max_tokens = u32::try_from(self.completion).unwrap_or(u32::MAX);
        // Without an end token every completion has the length that was asked for.
        let params = SamplingParams::plain(max_tokens);
        let mut requests = Vec::with_capacity(self.starts.len() * self.group);
        let moved = |tokens: &[TokenId]| tokens.iter().map(|&token| moved(token, round, vocabulary)).collect();
        for start in &self.starts {
            let (prompt, prefix) = (moved(&start.prompt), moved(&start.prefix));
            let request = SampleRequest { prompt, prefix, params: params.clone(), seed: 0 };
            for _ in 0..self.group {
                let seed = random::seed_for(0, "bench request", &[round, requests.len() as u64]);
                requests.push(SampleRequest { seed, ..request.clone() });
            }
        }
        requests
    }

    /// The traces to learn from, in the order of the starts.
    pub(super) fn traces(&self) -> Vec<Trace> {
        let trace = |start: &Start, tokens: &Vec<TokenId>| Trace {
            prompt: start.prompt.clone(),
            prefix: start.prefix.clone(),
            completion: Completion {
                tokens: tokens.clone(),
                behavior: vec![0.0; tokens.len()],
                stop: StopReason::Length,
            },
            sampled_by: PolicyVersion { weights: "0".repeat(16) },
        };
        self.starts.iter().flat_map(|start| start.completions.iter().map(|tokens| trace(start, tokens))).collect()
    }

    /// Given tokens of all rollouts: once a start when they are shared, once a rollout when not.
    pub(super) fn given(&self, sharing: Sharing, rollouts: impl Fn(&Start) -> usize) -> u64 {
        let times = |start: &Start| match sharing {
            Sharing::Shared => 1,
            Sharing::Separate => rollouts(start),
        };
        self.starts.iter().map(|start| (start.given() * times(start)) as u64).sum()
    }
}

impl Start {
    /// Tokens of prompt and prefix.
    pub(super) fn given(&self) -> usize {
        self.prompt.len() + self.prefix.len()
    }
}

fn parse(line: &str) -> Result<Start> {
    serde_json::from_str(line)
        .map_err(|error| anyhow!("no start, at column {}: {}", error.column(), json_reason(&error)))
}

/// That a completion fits behind its given tokens.
///
/// # Errors
/// When the model has too few positions.
pub(super) fn check_length(given: usize, completion: usize, positions: usize) -> Result<()> {
    if given.saturating_add(completion) > positions {
        bail!(
            "a prefix of {given} tokens and a completion of {completion} do not fit into the model's {positions} positions"
        );
    }
    Ok(())
}

/// The token `round` places after this one, around a circle of all but token 0.
fn moved(token: TokenId, round: u64, vocabulary: usize) -> TokenId {
    match token.checked_sub(1) {
        None => 0,
        Some(place) => 1 + ((u64::from(place) + round) % (vocabulary as u64 - 1)) as TokenId,
    }
}

fn draw(rng: &mut ChaCha8Rng, count: usize, vocabulary: usize) -> Vec<TokenId> {
    (0..count).map(|_| random::below(rng, vocabulary as u64) as TokenId).collect()
}

#[cfg(test)]
mod tests {
    use super::{Size, Workload, moved};

    #[test]
    fn tokens_move_around_a_circle() {
        let circle = |round| [0, 1, 2, 3].map(|token| moved(token, round, 4));
        assert_eq!([circle(0), circle(1), circle(5)], [[0, 1, 2, 3], [0, 2, 3, 1], [0, 3, 1, 2]]);
        // A vocabulary of one token has only token 0.
        assert_eq!(moved(0, 7, 1), 0);
    }

    #[test]
    fn a_group_shares_its_given_tokens_and_nothing_else() {
        let workload = Workload::random(Size { groups: 2, group: 3, prefix: 5, completion: 4 }, 50);
        let requests = workload.requests(0, 50);
        assert_eq!(requests.len(), 6);
        assert!(requests[..3].iter().all(|request| request.prefix == requests[0].prefix));
        assert_ne!(requests[0].prefix, requests[3].prefix);
        let mut seeds: Vec<u64> = requests.iter().map(|request| request.seed).collect();
        seeds.sort_unstable();
        seeds.dedup();
        assert_eq!(seeds.len(), 6);
        assert_ne!(workload.requests(1, 50)[0].prompt, requests[0].prompt);
        let traces = workload.traces();
        assert!(traces.iter().all(|trace| trace.prompt.len() + trace.prefix.len() == 5));
        assert!(traces.iter().all(|trace| trace.completion.tokens.len() == 4));
    }
}
