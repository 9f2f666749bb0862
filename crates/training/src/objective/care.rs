//! CARE: one success held against the failures that are most like it, and against no others.
//!
//! ```text
//! anchor      = the shortest success of the group
//! candidates  = the `candidates` failures most similar to the anchor
//! negatives   = the most similar one, then, one after another, the candidate that is least like those
//!               chosen before it (farthest first), `negatives` in all
//! A           = (r − mean) / (deviation + epsilon), over anchor and negatives, times √(negatives / chosen)
//! A           = failure_weight · A for a negative;   0 for everything else of the group
//! similarity  = cosine of the counts of n-grams of tokens
//! loss and coefficient of a token: as GRPO's
//! ```
//!
//! "Contrastive Anchored REflection", arXiv 2512.19554, where it is multimodal: K = 4 of M = 6, negatives at
//! one half. The last factor makes up for a group with too few failures: with the population's deviation,
//! which is the default for that reason, the anchor's advantage is √K however many there are.
//!
//! The rescue of a group in which all fail: its medoid, the completion that is most similar to the others on
//! average, is taken for the anchor, and all advantages are multiplied by `rescue`. A pseudo-reward of 0.1
//! before the standardisation, as the paper has it, would be taken out again by it: it would count as much
//! as a success. Off by default, since the paper's way to find its best proxy is not known to us, and a
//! medoid of failures is a failure.
//!
//! Zero cases: a group in which all succeed, and one of a single rollout, count nothing (the subgroup is the
//! anchor alone), nor does one in which all fail without rescue. An empty completion is similar to none. A
//! completion shorter than an n-gram is one n-gram. Ties go to the earlier rollout. A success is a reward
//! above 0, after shaping.
//!
//! Departures: similarity is of tokens, not of an embedding of the rationale: a scorer tells log-probabilities
//! and entropies and no hidden state. The paper's length is that of the reasoning alone, and its tokens count
//! by region (the answer 1; the reasoning 0.005 in the anchor and 0 in the negatives); here an objective does
//! not know where the answer begins: the length is the completion's, and all tokens count. Its
//! reflection-guided resampling, in which one failure is given to the policy to repair, is not here.

use std::cmp::Ordering;
use std::collections::HashMap;

use toehold_rollout::TokenId;

use super::{Weigh, advantage, advantage::Deviation, grpo};
use crate::recipe::section;

section! {
    /// Settings of CARE.
    Care from CareWritten {
        /// Failures that the anchor is held against, at most; with 0 nothing is learnt. CARE: 4.
        negatives: usize = 4,
        /// The most similar failures that these are chosen among, at most. CARE: 6.
        candidates: usize = 6,
        /// What the advantage of a failure is multiplied by, at least 0. CARE: 0.5.
        failure_weight: f64 = 0.5,
        /// What the advantages of a group in which all fail are multiplied by, its medoid taken for a success;
        /// at least 0, and 0 is without rescue. CARE: 0.1, as a pseudo-reward.
        rescue: f64 = 0.0,
        /// Tokens of the runs that similarity counts, at least 1. Our choice.
        ngram: usize = 2,
        /// How far the ratio may fall below 1 before the clip acts, in `[0, 1]`.
        clip_low: f64 = 0.2,
        /// How far the ratio may rise above 1 before the clip acts, at least 0.
        clip_high: f64 = 0.2,
        /// What the deviation divides by: `sample`, `population` or `none`.
        deviation: Deviation = Deviation::Population,
        /// Added to the deviation, at least 0.
        epsilon: f64 = 1e-6,
    }
}

/// The cosine of two texts' counts of `n`-grams, in `[0, 1]`; 0 with an empty one. `n = 0` counts as 1.
///
/// ```
/// use toehold_training::objective::care::similarity;
/// // 1 2, 2 3 and 1 2, 2 4: one of two in common, 1 / (√2 · √2).
/// assert!((similarity(&[1, 2, 3], &[1, 2, 4], 2) - 0.5).abs() < 1e-12);
/// // In other order the pairs are others, and the tokens the same.
/// assert_eq!(similarity(&[1, 2, 3], &[3, 2, 1], 2), 0.0);
/// assert!((similarity(&[1, 2, 3], &[3, 2, 1], 1) - 1.0).abs() < 1e-12);
/// assert_eq!(similarity(&[], &[], 2), 0.0);
/// ```
pub fn similarity(a: &[TokenId], b: &[TokenId], n: usize) -> f64 {
    Counts::new(a, n).cosine(&Counts::new(b, n))
}

/// The n-grams of a text, each with how often it is there.
struct Counts<'a> {
    counts: HashMap<&'a [TokenId], u64>,
    norm: f64,
}

impl<'a> Counts<'a> {
    fn new(tokens: &'a [TokenId], n: usize) -> Counts<'a> {
        let mut counts: HashMap<&[TokenId], u64> = HashMap::new();
        // A text shorter than `n` is one n-gram; `windows` refuses 0.
        tokens.windows(n.min(tokens.len()).max(1)).for_each(|ngram| *counts.entry(ngram).or_default() += 1);
        // Whole numbers: the order in which a map is read does not matter.
        let squares: u64 = counts.values().map(|count| count * count).sum();
        Counts { counts, norm: (squares as f64).sqrt() }
    }

    fn cosine(&self, other: &Counts<'_>) -> f64 {
        let shared = |(ngram, count): (&&[TokenId], &u64)| other.counts.get(ngram).map_or(0, |theirs| count * theirs);
        let dot: u64 = self.counts.iter().map(shared).sum();
        if dot == 0 { 0.0 } else { dot as f64 / (self.norm * other.norm) }
    }
}

impl Care {
    /// The rollouts that `anchor` is held against, out of `failures`, in the order in which they are chosen.
    fn negatives_of(&self, anchor: usize, failures: &[usize], texts: &[Counts<'_>]) -> Vec<usize> {
        let mut nearest: Vec<(usize, f64)> =
            failures.iter().map(|&at| (at, texts[anchor].cosine(&texts[at]))).collect();
        nearest.sort_by(|(a, near_a), (b, near_b)| near_b.total_cmp(near_a).then(a.cmp(b)));
        nearest.truncate(self.candidates);
        let mut left: Vec<usize> = nearest.into_iter().map(|(at, _)| at).collect();
        let mut chosen: Vec<usize> = Vec::new();
        while chosen.len() < self.negatives && !left.is_empty() {
            // The likeness to the chosen one that it is most like; nothing is chosen before the first, so that
            // the nearest to the anchor, which stands first, is taken.
            let likeness = |at: usize| chosen.iter().map(|&one| texts[one].cosine(&texts[at])).fold(0.0, f64::max);
            let order = |&(_, a): &(usize, f64), &(_, b): &(usize, f64)| a.partial_cmp(&b).unwrap_or(Ordering::Equal);
            let least = left.iter().map(|&at| likeness(at)).enumerate().min_by(order);
            chosen.push(left.remove(least.map_or(0, |(place, _)| place)));
        }
        chosen
    }

    /// The advantages of `anchor`, of `reward`, and of `failures`, whose rewards are in `rewards`.
    fn contrast(&self, anchor: (usize, f64), failures: &[usize], rewards: &[f64], texts: &[Counts<'_>]) -> Vec<f64> {
        let mut advantages = vec![0.0; rewards.len()];
        let negatives = self.negatives_of(anchor.0, failures, texts);
        let subgroup: Vec<f64> = std::iter::once(anchor.1).chain(negatives.iter().map(|&at| rewards[at])).collect();
        let found = advantage::standardised(&subgroup, self.deviation, self.epsilon);
        let scale = (self.negatives as f64 / negatives.len().max(1) as f64).sqrt();
        for (place, (&at, advantage)) in std::iter::once(&anchor.0).chain(&negatives).zip(found).enumerate() {
            let weight = if place == 0 { 1.0 } else { self.failure_weight };
            advantages[at] = advantage * scale * weight;
        }
        advantages
    }
}

/// The rollout that is most like the others on average; the first where there is none beside it.
fn medoid(texts: &[Counts<'_>]) -> usize {
    let likeness = |at: usize| -> f64 {
        let others = texts.iter().enumerate().filter(|(other, _)| *other != at);
        others.map(|(_, other)| texts[at].cosine(other)).sum()
    };
    let found: Vec<f64> = (0..texts.len()).map(likeness).collect();
    (0..found.len()).reduce(|best, at| if found[at] > found[best] { at } else { best }).unwrap_or(0)
}

impl Weigh for Care {
    /// As for completions of which nothing is known: all are alike, and the first ones are chosen.
    fn advantages(&self, rewards: &[f64]) -> Vec<f64> {
        self.advantages_of(rewards, &[])
    }

    fn advantages_of(&self, rewards: &[f64], completions: &[&[TokenId]]) -> Vec<f64> {
        let text = |at: usize| completions.get(at).copied().unwrap_or_default();
        let (successes, failures): (Vec<usize>, Vec<usize>) = (0..rewards.len()).partition(|&at| rewards[at] > 0.0);
        let texts: Vec<Counts<'_>> = (0..rewards.len()).map(|at| Counts::new(text(at), self.ngram)).collect();
        if let Some(&anchor) = successes.iter().min_by_key(|&&at| text(at).len()) {
            return self.contrast((anchor, rewards[anchor]), &failures, rewards, &texts);
        }
        if self.rescue == 0.0 || rewards.len() < 2 {
            return vec![0.0; rewards.len()];
        }
        let anchor = medoid(&texts);
        let others: Vec<usize> = failures.into_iter().filter(|&at| at != anchor).collect();
        let rescued = self.contrast((anchor, 1.0), &others, &vec![0.0; rewards.len()], &texts);
        rescued.into_iter().map(|advantage| advantage * self.rescue).collect()
    }

    fn coefficients(&self, advantage: f64, current: &[f32], behavior: &[f32]) -> Vec<f64> {
        grpo::coefficients(advantage, current, behavior, self.clip_low, self.clip_high)
    }

    fn reads_outcomes(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::{Care, Deviation, medoid};
    use crate::objective::care::Counts;
    use crate::objective::{Weigh, gradient_check};

    const PAPER: Care = Care {
        negatives: 4,
        candidates: 6,
        failure_weight: 0.5,
        rescue: 0.0,
        ngram: 1,
        clip_low: 0.2,
        clip_high: 0.2,
        deviation: Deviation::Population,
        epsilon: 0.0,
    };

    #[test]
    fn coefficients_are_the_derivative() {
        let loss = gradient_check::clipped(0.2, 0.2);
        for advantage in [2.0, -0.25, 0.0] {
            gradient_check::check(&PAPER, &loss, advantage, &[-1.7, -1.1, -0.9, -0.3], &[-1.0; 4]);
        }
    }

    #[track_caller]
    fn check(settings: &Care, rollouts: &[(f64, &[u32])], expected: Expect) {
        let (rewards, completions): (Vec<f64>, Vec<&[u32]>) = rollouts.iter().copied().unzip();
        let found = settings.advantages_of(&rewards, &completions);
        let shown = |a: f64| if a == 0.0 { ".".to_owned() } else { format!("{a:.3}") };
        expected.assert_eq(&found.into_iter().map(shown).collect::<Vec<_>>().join(" "));
    }

    /// Two successes, of which the shorter is the anchor; a failure of other tokens is never like it.
    #[test]
    fn the_shortest_success_is_held_against_the_failures_like_it() {
        let group: &[(f64, &[u32])] = &[
            (1.0, &[1, 2, 3, 4]),
            (1.0, &[1, 2, 3]),
            (0.0, &[1, 2, 5]),
            (0.0, &[8, 9]),
            (0.0, &[1, 2, 6]),
            (0.0, &[1, 7, 8]),
        ];
        // One of four negatives, at √4 and −√(1/4) of it, times ½; scaled as if there were four.
        check(&PAPER, group, expect![". 2.000 -0.250 -0.250 -0.250 -0.250"]);
        // Of the two nearest the first is taken.
        check(&Care { negatives: 1, candidates: 2, ..PAPER }, group, expect![". 1.000 -0.500 . . ."]);
        // Farthest first: after 1 2 5 not 1 2 6, which is like it, but the one that shares nothing.
        check(&Care { negatives: 2, ..PAPER }, group, expect![". 1.414 -0.354 -0.354 . ."]);
        check(&Care { negatives: 2, candidates: 3, ..PAPER }, group, expect![". 1.414 -0.354 . . -0.354"]);
        check(&Care { negatives: 0, ..PAPER }, group, expect![". . . . . ."]);
        check(&Care { failure_weight: 0.0, ..PAPER }, group, expect![". 2.000 . . . ."]);
    }

    /// However few failures there are, the anchor counts √4.
    #[test]
    fn too_few_failures_are_made_up_for() {
        check(&PAPER, &[(1.0, &[1]), (0.0, &[1])], expect!["2.000 -1.000"]);
        check(&PAPER, &[(1.0, &[1]), (0.0, &[1]), (0.0, &[2])], expect!["2.000 -0.500 -0.500"]);
        check(&PAPER, &[(1.0, &[]), (0.0, &[]), (0.0, &[])], expect!["2.000 -0.500 -0.500"]);
    }

    #[test]
    fn degenerate_groups() {
        check(&PAPER, &[], expect![""]);
        check(&PAPER, &[(1.0, &[1])], expect!["."]);
        check(&PAPER, &[(0.0, &[1])], expect!["."]);
        check(&PAPER, &[(1.0, &[1]), (1.0, &[2])], expect![". ."]);
        check(&PAPER, &[(0.0, &[1]), (0.0, &[2])], expect![". ."]);
        check(&Care { rescue: 0.1, ..PAPER }, &[(0.0, &[1])], expect!["."]);
        check(&Care { rescue: 0.1, ..PAPER }, &[(1.0, &[1]), (1.0, &[2])], expect![". ."]);
        check(&Care { ngram: 0, ..PAPER }, &[(1.0, &[1]), (0.0, &[2])], expect!["2.000 -1.000"]);
    }

    /// The pseudo-reward is applied behind the standardisation, where it counts: a tenth of a success.
    #[test]
    fn the_medoid_of_failures_is_rescued() {
        let rescue = Care { rescue: 0.1, ..PAPER };
        let group: &[(f64, &[u32])] = &[(0.0, &[8, 9]), (0.0, &[1, 2, 5]), (0.0, &[1, 2]), (0.0, &[1, 6])];
        check(&rescue, group, expect!["-0.033 -0.033 0.200 -0.033"]);
        // Silent for the verifier, and shaped: what was cut off is a failure like the others.
        check(&rescue, &[(-1.0, &[1]), (0.0, &[1])], expect!["0.200 -0.100"]);
        assert_eq!(medoid(&[]), 0);
        assert_eq!(medoid(&[Counts::new(&[], 2), Counts::new(&[], 2)]), 0);
    }
}
