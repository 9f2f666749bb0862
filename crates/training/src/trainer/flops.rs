//! Compute, counted in tokens and priced in FLOPs.
//!
//! ```text
//! FLOPs = 2 N · tokens sampled + 6 N · tokens trained
//! ```
//!
//! PrefixRL, arXiv 2601.18795, equations 12.5 and 12.6. What counts as a token is decided here, once
//! for all arms:
//!
//! * sampled: each completion token, and prompt and prefix once per group, because any server with a
//!   prefix cache computes them once;
//! * scored by a reference policy: prompt, prefix and completion of each trace, counted as sampled, since
//!   it is one pass forward;
//! * trained: prompt, prefix and completion of each trace that may move something, one by one. An engine that shares a group's prefix in learning does less; counting it in full favours
//!   the arms without prefixes, so what prefixes gain is not an artefact of this choice;
//! * collection is charged to the arm that uses what was collected, evaluation to none.
//!
//! Tokens are kept, not FLOPs, so that a count survives being written and read to the last digit.

use serde::{Deserialize, Serialize};
use toehold_rollout::store::CampaignCount;

/// Tokens that were computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compute {
    /// Through the forward pass of sampling.
    pub sampled_tokens: u64,
    /// Through the forward and backward pass of learning.
    pub trained_tokens: u64,
}

impl Compute {
    /// What a sampling campaign took. Completions that were dropped are left out: how many there are
    /// depends on batching and on interruptions, and two equal runs have to cost the same.
    pub fn of_campaign(campaign: &CampaignCount) -> Compute {
        Compute { sampled_tokens: campaign.tokens_sampled + campaign.prefilled_once, trained_tokens: 0 }
    }

    /// Adds what was computed after.
    pub fn add(&mut self, more: Compute) {
        self.sampled_tokens += more.sampled_tokens;
        self.trained_tokens += more.trained_tokens;
    }

    /// Its price for a policy of `parameters`.
    ///
    /// ```
    /// use toehold_training::trainer::Compute;
    /// assert_eq!(Compute { sampled_tokens: 10, trained_tokens: 5 }.flops(100), 2_000.0 + 3_000.0);
    /// ```
    pub fn flops(&self, parameters: u64) -> f64 {
        let parameters = parameters as f64;
        2.0 * parameters * self.sampled_tokens as f64 + 6.0 * parameters * self.trained_tokens as f64
    }
}
