//! Starts: where a group of rollouts begins.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{ProblemId, TokenId};

/// A plain or a prefixed problem.
#[derive(Clone, Debug, PartialEq)]
pub struct Start {
    /// Hash of everything below but `origin`: equal starts have equal ids.
    pub id: StartId,
    /// Which problem.
    pub problem: ProblemId,
    /// The problem in the policy's tokens, after the template.
    pub prompt: Vec<TokenId>,
    /// Given tokens, never trained on; empty for a plain problem.
    pub prefix: Vec<TokenId>,
    /// What was given beside the problem is from there; none for a plain problem.
    pub origin: Option<Origin>,
}

impl Start {
    /// A problem without a prefix.
    pub fn plain(problem: ProblemId, prompt: Vec<TokenId>) -> Start {
        let id = StartId::of(&problem, &prompt, &[]);
        Start { id, problem, prompt, prefix: Vec::new(), origin: None }
    }

    /// A problem with a prefix that was cut from a trace.
    pub fn prefixed(problem: ProblemId, prompt: Vec<TokenId>, prefix: Vec<TokenId>, origin: Origin) -> Start {
        let id = StartId::of(&problem, &prompt, &prefix);
        Start { id, problem, prompt, prefix, origin: Some(origin) }
    }

    /// Whether nothing is given beside the problem, neither as a prefix nor in the prompt.
    pub fn is_plain(&self) -> bool {
        self.prefix.is_empty() && self.origin.is_none()
    }
}

/// Where a prefix comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// Row of the source trace in the store; none for the problem's own worked solution.
    pub trace: Option<i64>,
    /// Length of the source (its prefix and completion), in tokens.
    pub source_tokens: u32,
}

/// Names a start: 16 hexadecimal digits of a hash of problem, prompt and prefix.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StartId(String);

impl StartId {
    /// The id of a start with this content.
    pub fn of(problem: &ProblemId, prompt: &[TokenId], prefix: &[TokenId]) -> StartId {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&(problem.as_str().len() as u64).to_le_bytes());
        hasher.update(problem.as_str().as_bytes());
        for tokens in [prompt, prefix] {
            hasher.update(&(tokens.len() as u64).to_le_bytes());
            for token in tokens {
                hasher.update(&token.to_le_bytes());
            }
        }
        StartId(hasher.finalize().to_hex()[..16].to_owned())
    }

    /// An id read back from the store.
    pub fn from_stored(id: String) -> StartId {
        StartId(id)
    }

    /// Its digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StartId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
