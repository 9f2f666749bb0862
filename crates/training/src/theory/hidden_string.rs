//! The hidden string: a problem whose only reward is for one string of H actions out of Aᴴ.
//!
//! ```text
//! states   strings of fewer than H actions; the start is the empty one
//! actions  0 … A − 1, each appended to the state
//! reward   1 for the hidden string b, 0 for every other string, and only at the end
//! π₀       uniform, so J(π₀) = A⁻ᴴ
//! ```
//!
//! PrefixRL, equations 10.43 to 10.46 and 10.56, for A = 2; nothing there needs 2, so A is free here.
//! The stored trace of this problem is b itself, and its prefixes are the states on the string.
//!
//! A table shares nothing between states, so what prefixes do here is only to reset; what a network
//! carries over from prefixed to plain problems (back-generalisation) is beyond this instance.

use rand_chacha::ChaCha8Rng;
use toehold_rollout::TokenId;

use crate::random;
use crate::tabular::TabularPolicy;

/// One instance: the actions it has and the string it hides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HiddenString {
    alphabet: u32,
    string: Vec<TokenId>,
}

impl HiddenString {
    /// A string of `horizon` actions, each of `alphabet` equally likely (equation 10.46).
    pub fn drawn(alphabet: u32, horizon: u32, rng: &mut ChaCha8Rng) -> HiddenString {
        let alphabet = alphabet.max(1);
        let string = (0..horizon).map(|_| random::below(rng, u64::from(alphabet)) as TokenId).collect();
        HiddenString { alphabet, string }
    }

    /// How many actions there are in every state.
    pub fn alphabet(&self) -> usize {
        self.alphabet as usize
    }

    /// The hidden string, which is also the one correct trace.
    pub fn string(&self) -> &[TokenId] {
        &self.string
    }

    /// The policy before training: uniform, a state being all actions so far.
    pub fn policy(&self) -> TabularPolicy {
        // The natural gradient has no norm to clip.
        TabularPolicy::uniform(self.alphabet(), usize::MAX, f64::INFINITY)
    }

    /// J: the chance that the policy's current weights write the string, exactly.
    ///
    /// ```
    /// use toehold_training::random::stream;
    /// use toehold_training::theory::HiddenString;
    /// let hidden = HiddenString::drawn(2, 3, &mut stream(0, "a test", &[]));
    /// assert!((hidden.expected_reward(&hidden.policy()) - 0.125).abs() < 1e-12);
    /// ```
    pub fn expected_reward(&self, policy: &TabularPolicy) -> f64 {
        let chance = |at: usize| policy.chances(&self.string[..at])[self.string[at] as usize];
        (0..self.string.len()).map(chance).product()
    }
}
