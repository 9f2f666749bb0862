//! Runs of `n` tokens: how many of them a completion repeats, and how many its prefix has already.
//!
//! ```text
//! repetition = 1 − distinct n-grams / n-grams
//! parroting  = n-grams of the completion that the prefix has / n-grams of the completion
//! ```
//!
//! Source of the repetition: open-r1's penalty (n = 3), which cites arXiv 2502.03373, appendix C.2. The
//! parroting is a proposal of the project.
//!
//! The detectors look at both; `[objective.repetition]` takes the repetition from a reward.
//!
//! Departures: open-r1 counts lower-cased words; here the n-grams are of tokens, so the share depends on the
//! tokenizer.
//!
//! Zero cases: `n = 0`, and a completion of fewer than `n` tokens, repeat nothing (0, as in open-r1) and
//! parrot nothing that could be told (none); so does a prefix of fewer than `n` tokens. An n-gram that
//! reaches from the prefix into the completion is neither's.

use std::collections::HashSet;

use toehold_rollout::TokenId;

/// The share of a completion's n-grams that are not the first of their kind, in `[0, 1)`.
///
/// ```
/// use toehold_training::ngrams::repetition;
/// // 1 2 1, 2 1 2, 1 2 1, 2 1 2: two distinct of four.
/// assert_eq!(repetition(&[1, 2, 1, 2, 1, 2], 3), 0.5);
/// assert_eq!(repetition(&[1, 2, 3, 4, 5], 3), 0.0);
/// // One token for ever: one distinct of eight.
/// assert_eq!(repetition(&[7; 10], 3), 0.875);
/// assert_eq!(repetition(&[7; 2], 3), 0.0);
/// assert_eq!(repetition(&[7; 2], 0), 0.0);
/// ```
pub fn repetition(completion: &[TokenId], n: usize) -> f64 {
    let total = ngrams(completion, n).count();
    let distinct = ngrams(completion, n).collect::<HashSet<_>>().len();
    (total - distinct) as f64 / total.max(1) as f64
}

/// The share of a completion's n-grams that its prefix has, in `[0, 1]`; none where one of the two has no
/// n-gram.
///
/// ```
/// use toehold_training::ngrams::parroting;
/// // Of 2 3 4, 3 4 9 and 4 9 9 the prefix has the first.
/// assert_eq!(parroting(&[2, 3, 4, 9, 9], &[1, 2, 3, 4], 3), Some(1.0 / 3.0));
/// assert_eq!(parroting(&[1, 2, 3], &[1, 2, 3], 3), Some(1.0));
/// assert_eq!(parroting(&[3, 2, 1], &[1, 2, 3], 3), Some(0.0));
/// // A plain problem has nothing to parrot, and two tokens are no run of three.
/// assert_eq!(parroting(&[1, 2, 3], &[], 3), None);
/// assert_eq!(parroting(&[1, 2], &[1, 2, 3], 3), None);
/// ```
pub fn parroting(completion: &[TokenId], prefix: &[TokenId], n: usize) -> Option<f64> {
    let given: HashSet<&[TokenId]> = ngrams(prefix, n).collect();
    let total = ngrams(completion, n).count();
    let repeated = ngrams(completion, n).filter(|ngram| given.contains(ngram)).count();
    (total > 0 && !given.is_empty()).then(|| repeated as f64 / total as f64)
}

fn ngrams(tokens: &[TokenId], n: usize) -> impl Iterator<Item = &[TokenId]> {
    // Without `n` there are none: `windows` would panic.
    let tokens = if n == 0 { &[] } else { tokens };
    tokens.windows(n.max(1))
}
