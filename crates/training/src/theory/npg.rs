//! PrefixRL-NPG (the paper's Algorithm 1) and on-policy NPG, on the hidden string.
//!
//! ```text
//! each update, with N completions:
//!   PrefixRL   h uniform in 0 … H − 1, s = b[..h];  a ~ m·1{a = b_h} + (1 − m)·π_t(a | s);
//!              complete s, a by π_t;  D gets (s, a, r)
//!   on-policy  a whole string by π_t from the empty state;  D gets (s_h, a_h, r) for every h
//!   critic     Q̂ = argmin over all tables f of Σ_D (f(s, a) − r)²:  the mean reward of each (s, a)
//!   policy     π_{t+1}(a | s) ∝ π_t(a | s) · exp(η · Q̂(s, a))
//! ```
//!
//! PrefixRL (arXiv 2601.18795), Algorithm 1 with the mixture m = 1/2; the on-policy variant is that of
//! the proof of Proposition 3.4 (§10.3.1).
//!
//! Exact, and fast: a string that has left b is never rewarded, so Q̂ is 0 there, exp(η · 0) is 1, and
//! those states stay uniform for ever. Only the H states on b are computed, and actions after a
//! departure are not drawn. A test does it the long way and gets the same bits.
//!
//! Zero cases: a pair that no completion went through has Q̂ = 0, the smallest of its least-squares fits;
//! an update without a reward changes nothing; a policy that is at the target before training needs 0
//! completions; a run whose next update would pass the cap ends without having reached the target.
//!
//! Departures: on-policy NPG may learn from every pair of a string, where Algorithm 1 takes one pair from
//! each completion, which is in its favour; the η of Theorem 3.3, which shrinks with the number of
//! updates, is a constant; and the target counts as reached by the first iterate that does, where
//! Algorithm 1 returns a random one of all iterates (whose reward is their mean, so it comes later, and
//! by more the longer one waited). The paper's bounds hold for the first iterate, too.

use std::ops::ControlFlow;

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::HiddenString;
use crate::random;

/// Where the completions of an update start.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Starts {
    /// At the empty string: on-policy NPG.
    Plain,
    /// After a prefix of the hidden string, of any length below H with the same chance: PrefixRL.
    Prefixed {
        /// The chance in `[0, 1]` that the action after the prefix is the stored trace's own instead of
        /// the policy's; the paper's ρ has 1/2.
        mixing: f64,
    },
}

/// How NPG is run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Npg {
    /// Where completions start.
    pub starts: Starts,
    /// N: completions per update, at least 1.
    pub per_update: u32,
    /// η: the step size, above 0.
    pub rate: f64,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reached {
    /// Completions until the first iterate at the target; none where the cap came first.
    pub completions: Option<u64>,
    /// The last iterate's J.
    pub reward: f64,
}

/// The natural policy gradient step of one state: adds `rate` · `value` to each action's logit, which
/// multiplies its chance by exp(`rate` · `value`) before they are made to sum to 1.
///
/// ```
/// use toehold_training::theory::npg::natural_step;
/// // Two actions at 1/2 each; Q̂ is 1 for the first, 0 for the second; η = ln 3.
/// // 1/2 · 3 : 1/2 · 1 = 3 : 1, so the chances are 3/4 and 1/4.
/// let mut logits = [0.0, 0.0];
/// natural_step(&mut logits, &[1.0, 0.0], 3f64.ln());
/// let weights = logits.map(f64::exp);
/// assert!((weights[0] / (weights[0] + weights[1]) - 0.75).abs() < 1e-12);
/// // Once more: 3/4 · 3 : 1/4 = 9 : 1.
/// natural_step(&mut logits, &[1.0, 0.0], 3f64.ln());
/// let weights = logits.map(f64::exp);
/// assert!((weights[0] / (weights[0] + weights[1]) - 0.9).abs() < 1e-12);
/// ```
pub fn natural_step(logits: &mut [f64], values: &[f64], rate: f64) {
    logits.iter_mut().zip(values).for_each(|(logit, value)| *logit += rate * value);
}

/// Runs `npg` on `hidden` until an iterate's J is at least `target`, or `cap` completions are not
/// enough. `heard` is told the completions so far now and then, and may end the run.
pub fn run(
    hidden: &HiddenString,
    npg: &Npg,
    target: f64,
    cap: u64,
    rng: &mut ChaCha8Rng,
    heard: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> ControlFlow<(), Reached> {
    let mut policy = hidden.policy();
    let mut on_string = OnString::new(hidden);
    let mut reward = hidden.expected_reward(&policy);
    let per_update = u64::from(npg.per_update.max(1));
    let (mut completions, mut said) = (0, 0);
    while reward < target {
        if completions + per_update > cap {
            return ControlFlow::Continue(Reached { completions: None, reward });
        }
        for _ in 0..per_update {
            match npg.starts {
                Starts::Plain => on_string.plain(rng),
                Starts::Prefixed { mixing } => on_string.prefixed(mixing, rng),
            }
        }
        completions += per_update;
        if on_string.critic.has_reward {
            for at in 0..hidden.string().len() {
                let prefix = &hidden.string()[..at];
                natural_step(policy.logits_mut(prefix), &on_string.critic.values(at), npg.rate);
                on_string.chances[at] = policy.chances(prefix);
            }
            reward = hidden.expected_reward(&policy);
        }
        on_string.critic.clear();
        if completions - said >= PATIENCE {
            said = completions;
            heard(completions)?;
        }
    }
    ControlFlow::Continue(Reached { completions: Some(completions), reward })
}

/// Completions between two words to the listener.
const PATIENCE: u64 = 1 << 16;

/// The states on the string: the policy's chances there, and what the completions of this update gave.
struct OnString<'a> {
    string: &'a [u32],
    chances: Vec<Vec<f64>>,
    critic: Critic,
}

impl OnString<'_> {
    fn new(hidden: &HiddenString) -> OnString<'_> {
        let policy = hidden.policy();
        let string = hidden.string();
        let chances = (0..string.len()).map(|at| policy.chances(&string[..at])).collect();
        OnString { string, chances, critic: Critic::new(hidden.alphabet(), string.len()) }
    }

    /// A completion of the plain problem, with all of its pairs.
    fn plain(&mut self, rng: &mut ChaCha8Rng) {
        let left = self.follow(0, rng);
        let reward = left.is_none();
        let followed = left.map_or(self.string.len(), |(at, _)| at);
        for at in 0..followed {
            self.critic.add(at, self.string[at] as usize, reward);
        }
        if let Some((at, action)) = left {
            self.critic.add(at, action, false);
        }
    }

    /// A completion after a prefix, with its first pair.
    fn prefixed(&mut self, mixing: f64, rng: &mut ChaCha8Rng) {
        let at = random::below(rng, self.string.len() as u64) as usize;
        let own = self.string[at] as usize;
        let is_own = random::unit(rng) < mixing;
        let action = if is_own { own } else { draw(&self.chances[at], random::unit(rng)) };
        let reward = action == own && self.follow(at + 1, rng).is_none();
        self.critic.add(at, action, reward);
    }

    /// Draws actions from position `from` on: where the string was left, and by which action; none where
    /// it was followed to its end.
    fn follow(&self, from: usize, rng: &mut ChaCha8Rng) -> Option<(usize, usize)> {
        for at in from..self.string.len() {
            let action = draw(&self.chances[at], random::unit(rng));
            if action != self.string[at] as usize {
                return Some((at, action));
            }
        }
        None
    }
}

/// The least-squares critic over all tables, on the states of the string.
struct Critic {
    alphabet: usize,
    seen: Vec<u32>,
    rewarded: Vec<u32>,
    has_reward: bool,
}

impl Critic {
    fn new(alphabet: usize, horizon: usize) -> Critic {
        let none = vec![0; alphabet * horizon];
        Critic { alphabet, seen: none.clone(), rewarded: none, has_reward: false }
    }

    fn add(&mut self, at: usize, action: usize, reward: bool) {
        let cell = at * self.alphabet + action;
        self.seen[cell] += 1;
        self.rewarded[cell] += u32::from(reward);
        self.has_reward |= reward;
    }

    /// Q̂ of each action at one position.
    fn values(&self, at: usize) -> Vec<f64> {
        let cells = at * self.alphabet..(at + 1) * self.alphabet;
        let mean = |cell: usize| f64::from(self.rewarded[cell]) / f64::from(self.seen[cell].max(1));
        cells.map(mean).collect()
    }

    fn clear(&mut self) {
        self.seen.fill(0);
        self.rewarded.fill(0);
        self.has_reward = false;
    }
}

/// The action at `at` of the cumulative chances; the last one where rounding runs past.
fn draw(chances: &[f64], at: f64) -> usize {
    let mut mass = 0.0;
    let is_here = |chance: &f64| {
        mass += chance;
        at < mass
    };
    chances.iter().position(is_here).unwrap_or(chances.len().saturating_sub(1))
}

#[cfg(test)]
mod tests;
