//! Tokens that the group did not sample: successes that were collected before, and prefixes.
//!
//! Four methods learn from them too, and the importance-weighted baseline of PrefixRL. They answer
//! [`Given`] beside [`Weigh`]. The training loop asks it
//!
//! * how many collected successes are to join a group that starts plain ([`Given::wanted`]), and for
//!   the advantages of all of them together ([`Given::joint_advantages`]);
//! * whether a group's prefix is to be learnt from ([`Given::prefix_advantage`]), once for the group,
//!   since its rollouts share it;
//! * and then for the coefficients of such tokens, of which it shows a [`GivenView`].
//!
//! Invariants: only successes join, from the very start of the group, so rewards of stored traces are 1;
//! groups that start from a prefix are joined by none. What joins counts in the batch's division
//! like what was sampled. A tie to the policy that wrote a stored trace is its `behavior`, from the
//! store.

use toehold_rollout::SuccessCount;

use super::Weigh;

/// What an objective answers that learns from given tokens. Every default says "none of it".
pub trait Given: Weigh {
    /// How many stored successes are to join a plain group of these rewards, at most.
    fn wanted(&self, rewards: &[f64]) -> usize {
        let _ = rewards;
        0
    }

    /// The advantages of the group's own traces, then those of the `stored` successes that join it, of
    /// which there may be fewer than were wanted, or none.
    fn joint_advantages(&self, rewards: &[f64], stored: usize) -> (Vec<f64>, Vec<f64>) {
        (self.advantages(rewards), vec![0.0; stored])
    }

    /// The advantage of a group's prefix: none where it is not learnt from. `plain` are the rewards of
    /// the batch's plain groups of the same problem.
    fn prefix_advantage(&self, rewards: &[f64], plain: &[f64]) -> Option<f64> {
        let _ = (rewards, plain);
        None
    }

    /// `∂loss/∂log π` of each token of a stored trace or of a prefix, before aggregation.
    fn given_coefficients(&self, given: &GivenView<'_>) -> Vec<f64>;
}

/// All that an objective may know of given tokens.
#[derive(Clone, Copy, Debug)]
pub struct GivenView<'a> {
    /// What they are.
    pub origin: Origin<'a>,
    /// Their advantage.
    pub advantage: f64,
    /// Log-probability of each under the current weights at temperature 1, in nats.
    pub current: &'a [f32],
    /// Entropy of the current policy at each, in nats, where the policy can tell.
    pub entropy: Option<&'a [f32]>,
}

/// Where given tokens come from.
#[derive(Clone, Copy, Debug)]
pub enum Origin<'a> {
    /// A collected success.
    Stored {
        /// Log-probability of each token under the distribution it was drawn from, in nats.
        behavior: &'a [f32],
        /// Attempts and successes of its start in the collection.
        campaign: SuccessCount,
    },
    /// The group's prefix, of which nothing is known but its tokens.
    Prefix,
}
