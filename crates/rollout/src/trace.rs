//! A trace: prompt, prefix and completion, who sampled it, and the key that makes it unique.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{StartId, TokenId};

/// A prompt, a prefix that is given and never trained on, and what the policy wrote after it.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// The tokens before the prefix, after the template.
    pub prompt: Vec<TokenId>,
    /// Given tokens of the assistant's turn; empty for a plain problem.
    pub prefix: Vec<TokenId>,
    /// What the policy sampled.
    pub completion: Completion,
    /// The weights that sampled it.
    pub sampled_by: PolicyVersion,
}

/// What a policy wrote after prompt and prefix.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Completion {
    /// The sampled tokens. An end-of-text token is the last of them: stopping is learnt too.
    pub tokens: Vec<TokenId>,
    /// Log-probability of each token under the distribution it was really drawn from
    /// (after the penalty on switching thoughts, temperature, top-k and top-p), in nats; as long as `tokens`.
    pub behavior: Vec<f32>,
    /// Why sampling ended.
    pub stop: StopReason,
}

/// Why a completion ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// The policy wrote an end token, which is the completion's last token.
    #[default]
    EndOfText,
    /// The limit of tokens was reached first: the completion is cut off.
    Length,
    /// Its tokens were too unlikely for too long: the completion was given up. Only where that was asked for
    /// ([`SamplingParams::stop_below`](crate::SamplingParams::stop_below)), and never in the store.
    Confidence,
}

impl StopReason {
    /// The word that is stored and printed.
    pub fn as_str(self) -> &'static str {
        match self {
            StopReason::EndOfText => "end_of_text",
            StopReason::Length => "length",
            StopReason::Confidence => "confidence",
        }
    }
}

/// Names one set of weights.
///
/// Two policies with the same bits have the same version, whichever run made them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PolicyVersion {
    /// Hash of the weights, 16 hexadecimal digits.
    pub weights: String,
}

impl fmt::Display for PolicyVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.weights)
    }
}

/// What makes a trace unique: writing the same key twice changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TraceKey {
    /// Where the rollout began.
    pub start: StartId,
    /// The weights that sampled it.
    pub policy: PolicyVersion,
    /// Seed of the sampling campaign.
    pub seed: u64,
    /// Which rollout of that campaign, from 0.
    pub index: u32,
}

impl TraceKey {
    /// The seed of this rollout's own random stream: a hash of the key, so that it depends on nothing
    /// else, neither batch nor order.
    pub fn request_seed(&self) -> u64 {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.start.as_str().as_bytes());
        hasher.update(self.policy.weights.as_bytes());
        hasher.update(&self.seed.to_le_bytes());
        hasher.update(&self.index.to_le_bytes());
        let mut bytes = [0; 8];
        hasher.finalize_xof().fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }
}
