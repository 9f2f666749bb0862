//! Step-level confidence: which completions to believe, and when to stop one.
//!
//! A trace's confidence is made of means over a sliding window of tokens, because one breakdown in
//! the middle of a long trace is hidden by the mean of all of it:
//!
//! * group confidence `G_i = mean(C_t, t in window i)`; a trace shorter than the window is one group;
//! * score: mean of all tokens, the last window ([`Score::Tail`]), the mean of the lowest tenth of the
//!   windows ([`Score::Bottom`]), or the lowest one ([`Score::Lowest`]);
//! * offline: keep the share with the highest scores (`score ≥` the percentile, ties kept), then each
//!   vote counts its weight;
//! * online: some traces are sampled whole, a percentile of their lowest group is the bar, and a later
//!   trace stops where a full window falls below it. Stopped traces and those below the bar do not vote.
//!   Here that is played on traces that are there; `online` has the sampler stop.
//!
//! Source: DeepConf (arXiv 2508.15260 and its code): window 2048, shares 10 and 90 %, 16 traces to warm up.
//!
//! Departure: there `C_t = −mean(log P(j))` over the 20 likeliest tokens `j`. Completions here keep the
//! log-probability of the drawn token alone, so `C_t = log P(y_t)`, at most 0. It takes an unlikely draw
//! for doubt even where the policy was in none, it is of the distribution after temperature, top-k and
//! top-p, and at temperature 0 it is 0 everywhere. Scores being negative, a vote's weight is
//! `exp(score)`, which orders traces alike. The functions below take any `C_t`.
//!
//! Zero cases: a trace without tokens has no score and does not vote; without a vote there is no answer.

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use toehold_rollout::sampler::mean_confidence;

use super::answers::Answered;
use super::bootstrap::quantile;
use crate::random;

/// DeepConf's window, in tokens.
pub const WINDOW: usize = 2048;

/// How the groups of a trace become one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Score {
    /// The mean over all tokens.
    Mean,
    /// The last window.
    Tail,
    /// The mean of the lowest tenth of the windows, at least one.
    Bottom,
    /// The lowest window.
    Lowest,
}

/// A vote: an answer and how much it counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Vote<'a> {
    /// What is voted for.
    pub answer: &'a str,
    /// Above 0.
    pub weight: f64,
}

/// The answer that leads a vote.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Leader<'a> {
    /// The answer.
    pub answer: &'a str,
    /// Its share of all weight, in `(0, 1]`.
    pub share: f64,
}

/// How the completions of a problem vote.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Weighing {
    /// What a completion's confidence is.
    pub score: Score,
    /// The share of the votes that is kept, the most confident ones, in `(0, 1]`.
    pub kept: f64,
    /// Tokens of a window, at least 1.
    pub window: usize,
}

/// What online stopping would have come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopped {
    /// Whether the vote was right.
    pub is_correct: bool,
    /// Completions that were stopped.
    pub stopped: usize,
    /// Tokens sampled, those of stopped completions up to their stop.
    pub tokens: u64,
    /// Tokens without stopping.
    pub all_tokens: u64,
}

/// The mean of every window of `window` tokens, in order; one mean of all where there are fewer; none
/// without tokens.
///
/// ```
/// use toehold_training::evaluation::confidence::group_confidences;
/// assert_eq!(group_confidences(&[-1.0, -3.0, -5.0], 2), [-2.0, -4.0]);
/// assert_eq!(group_confidences(&[-1.0, -3.0, -5.0], 9), [-3.0]);
/// assert!(group_confidences(&[], 2).is_empty());
/// ```
pub fn group_confidences(tokens: &[f32], window: usize) -> Vec<f64> {
    let window = window.clamp(1, tokens.len().max(1));
    tokens.windows(window).map(mean_confidence).collect()
}

/// A trace's confidence; none without tokens.
///
/// ```
/// use toehold_training::evaluation::confidence::{Score, trace_confidence};
/// // Windows of two: −1, −2, −3; the lowest tenth is one window.
/// let score = |score| trace_confidence(score, &[-1.0, -1.0, -3.0, -3.0], 2).unwrap();
/// assert_eq!(score(Score::Mean), -2.0);
/// assert_eq!([Score::Tail, Score::Bottom, Score::Lowest].map(score), [-3.0; 3]);
/// ```
pub fn trace_confidence(score: Score, tokens: &[f32], window: usize) -> Option<f64> {
    let groups = match score {
        Score::Mean => group_confidences(tokens, tokens.len()),
        _ => group_confidences(tokens, window),
    };
    match score {
        Score::Mean | Score::Tail => groups.last().copied(),
        Score::Lowest => groups.into_iter().reduce(f64::min),
        Score::Bottom => {
            let mut groups = groups;
            groups.sort_by(f64::total_cmp);
            groups.truncate((groups.len() / 10).max(1));
            (!groups.is_empty()).then(|| groups.iter().sum::<f64>() / groups.len() as f64)
        }
    }
}

/// The lowest score among the best `share`: numpy's percentile at `1 − share`; none without scores.
pub fn bar(scores: &[f64], share: f64) -> Option<f64> {
    let mut sorted = scores.to_vec();
    sorted.sort_by(f64::total_cmp);
    (!sorted.is_empty()).then(|| quantile(&sorted, (1.0 - share).clamp(0.0, 1.0)))
}

/// The answer with the largest sum of weights, the first seen of equal ones; none without votes.
///
/// ```
/// use toehold_training::evaluation::confidence::{Vote, weighted_vote};
/// let votes = [("a", 0.2), ("b", 0.5), ("a", 0.2)].map(|(answer, weight)| Vote { answer, weight });
/// assert_eq!(weighted_vote(&votes), Some("b"));
/// ```
pub fn weighted_vote<'a>(votes: &[Vote<'a>]) -> Option<&'a str> {
    leader(votes).map(|leader| leader.answer)
}

/// The answer of [`weighted_vote`], with its share of all weight.
pub fn leader<'a>(votes: &[Vote<'a>]) -> Option<Leader<'a>> {
    let mut sums: Vec<(&str, f64)> = Vec::new();
    for vote in votes {
        match sums.iter_mut().find(|(answer, _)| *answer == vote.answer) {
            Some((_, sum)) => *sum += vote.weight,
            None => sums.push((vote.answer, vote.weight)),
        }
    }
    let total: f64 = sums.iter().map(|(_, sum)| sum).sum();
    let (answer, sum) = sums.into_iter().reduce(|best, next| if next.1 > best.1 { next } else { best })?;
    Some(Leader { answer, share: sum / total })
}

/// Whether the filtered and weighted vote of these completions is right. Where nobody votes it is not.
pub fn vote_is_correct(completions: &[&Answered], weighing: &Weighing) -> bool {
    let mut scored: Vec<(&str, f64)> = Vec::with_capacity(completions.len());
    for one in completions {
        let score = trace_confidence(weighing.score, &one.behavior, weighing.window);
        scored.extend(one.answer.as_deref().zip(score));
    }
    let scores: Vec<f64> = scored.iter().map(|(_, score)| *score).collect();
    let Some(bar) = bar(&scores, weighing.kept) else { return false };
    let votes: Vec<Vote<'_>> = scored
        .into_iter()
        .filter(|(_, score)| *score >= bar)
        .map(|(answer, score)| Vote { answer, weight: score.exp() })
        .collect();
    weighted_vote(&votes).is_some_and(|answer| is_correct(completions, answer))
}

/// The chance that a vote of `k` of the completions is right: the mean over `draws` random subsets in
/// random order, which shares ties evenly; none where there are fewer completions.
pub fn vote_at_k(completions: &[Answered], k: u32, weighing: &Weighing, draws: u32, seed: u64) -> Option<f64> {
    let (n, k) = (completions.len(), k as usize);
    if k == 0 || n < k || draws == 0 {
        return None;
    }
    let right = |draw: u32| {
        let mut rng = random::stream(seed, "vote", &[u64::from(draw), n as u64, k as u64]);
        let chosen: Vec<&Answered> = subset(n, k, &mut rng).into_iter().map(|at| &completions[at]).collect();
        vote_is_correct(&chosen, weighing)
    };
    Some((0..draws).filter(|&draw| right(draw)).count() as f64 / f64::from(draws))
}

/// The number of tokens after which a trace stops: its first full window below `bar`; none where there
/// is none, as in every trace shorter than the window.
///
/// ```
/// use toehold_training::evaluation::confidence::stop_point;
/// assert_eq!(stop_point(&[-1.0, -1.0, -3.0, -9.0], 2, -1.5), Some(3));
/// assert_eq!(stop_point(&[-9.0], 2, -1.5), None);
/// ```
pub fn stop_point(tokens: &[f32], window: usize, bar: f64) -> Option<usize> {
    let window = window.max(1);
    if tokens.len() < window {
        return None;
    }
    group_confidences(tokens, window).iter().position(|&group| group < bar).map(|at| at + window)
}

/// Stopping played on completions that were sampled whole: what comes before a stop does not depend on
/// it. The first `warm_up` of them set the bar so that it keeps the best `share`.
///
/// ```
/// use toehold_training::evaluation::{answers::Answered, confidence::stopped};
/// let one = |answer: &str, is_correct, behavior: &[f32]| {
///     Answered { answer: Some(answer.to_owned()), is_correct, behavior: behavior.to_vec() }
/// };
/// // The bar is the one warm-up's lowest token, −1; the second completion stops after its first token.
/// let completions = [one("4", true, &[-1.0, -1.0]), one("5", false, &[-2.0, 0.0]), one("4", true, &[0.0, 0.0])];
/// let found = stopped(&completions, 1, 0.9, 1);
/// assert_eq!((found.is_correct, found.stopped, found.tokens, found.all_tokens), (true, 1, 5, 6));
/// ```
pub fn stopped(completions: &[Answered], warm_up: usize, share: f64, window: usize) -> Stopped {
    let lowest = |one: &Answered| trace_confidence(Score::Lowest, &one.behavior, window);
    let first: Vec<f64> = completions.iter().take(warm_up).filter_map(lowest).collect();
    let bar = bar(&first, share).unwrap_or(f64::NEG_INFINITY);
    let mut found = Stopped::default();
    let mut votes = Vec::new();
    for (at, one) in completions.iter().enumerate() {
        let stop = if at < warm_up { None } else { stop_point(&one.behavior, window, bar) };
        found.stopped += usize::from(stop.is_some());
        found.tokens += stop.unwrap_or(one.behavior.len()) as u64;
        found.all_tokens += one.behavior.len() as u64;
        match (one.answer.as_deref(), lowest(one)) {
            (Some(answer), Some(score)) if stop.is_none() && score >= bar => {
                votes.push(Vote { answer, weight: score.exp() });
            }
            _ => {}
        }
    }
    let all: Vec<&Answered> = completions.iter().collect();
    found.is_correct = weighted_vote(&votes).is_some_and(|answer| is_correct(&all, answer));
    found
}

pub(super) fn is_correct(completions: &[&Answered], answer: &str) -> bool {
    completions.iter().any(|one| one.is_correct && one.answer.as_deref() == Some(answer))
}

/// `k` of `0..n`, each ordered choice equally likely.
fn subset(n: usize, k: usize, rng: &mut ChaCha8Rng) -> Vec<usize> {
    let mut all: Vec<usize> = (0..n).collect();
    for at in 0..k {
        let other = at + random::below(rng, (n - at) as u64) as usize;
        all.swap(at, other);
    }
    all.truncate(k);
    all
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::{Answered, Score, Weighing, bar, stopped, subset, trace_confidence, vote_at_k, vote_is_correct};
    use crate::evaluation::majority::{Ballot, majority_at_k};
    use crate::random::stream;

    /// `A:-1,-2` is a right completion of two tokens; a small letter is wrong, `.` has no answer.
    fn completions(text: &str) -> Vec<Answered> {
        let completion = |one: &str| {
            let (letter, tokens) = one.split_once(':').unwrap();
            Answered {
                answer: (letter != ".").then(|| letter.to_owned()),
                is_correct: letter.chars().all(char::is_uppercase),
                behavior: tokens.split(',').filter(|token| !token.is_empty()).map(|t| t.parse().unwrap()).collect(),
            }
        };
        text.split_whitespace().map(completion).collect()
    }

    #[track_caller]
    fn check_scores(tokens: &[f32], window: usize, expected: Expect) {
        let scores = [Score::Mean, Score::Tail, Score::Bottom, Score::Lowest];
        let text = scores.map(|score| match trace_confidence(score, tokens, window) {
            Some(score) => format!("{score:.3}"),
            None => "none".to_owned(),
        });
        expected.assert_eq(&text.join(" "));
    }

    #[test]
    fn scores_of_traces() {
        // mean, tail, bottom, lowest
        check_scores(&[-1.0, -5.0, -1.0, -1.0], 1, expect!["-2.000 -1.000 -5.000 -5.000"]);
        check_scores(&[-1.0, -5.0, -1.0, -1.0], 2, expect!["-2.000 -1.000 -3.000 -3.000"]);
        check_scores(&[-1.0, -5.0, -1.0, -1.0], 2048, expect!["-2.000 -2.000 -2.000 -2.000"]);
        check_scores(&[], 2, expect!["none none none none"]);
        // Twenty windows: the lowest tenth is two of them.
        let tokens: Vec<f32> = (0..20).map(|at| -(at as f32)).collect();
        check_scores(&tokens, 1, expect!["-9.500 -19.000 -18.500 -19.000"]);
        check_scores(&[0.0, 0.0], 0, expect!["0.000 0.000 0.000 0.000"]);
    }

    #[test]
    fn the_bar_is_numpys_percentile() {
        assert_eq!(bar(&[-3.0, -1.0, -2.0, -4.0, -5.0], 0.5), Some(-3.0));
        assert_eq!(bar(&[-1.0, -2.0], 0.9), Some(-1.9));
        assert_eq!((bar(&[-1.0, -2.0], 1.0), bar(&[-1.0, -2.0], 0.0)), (Some(-2.0), Some(-1.0)));
        assert_eq!(bar(&[], 0.5), None);
    }

    #[track_caller]
    fn check_vote(text: &str, kept: f64, expected: bool) {
        let completions = completions(text);
        let weighing = Weighing { score: Score::Lowest, kept, window: 1 };
        assert_eq!(vote_is_correct(&completions.iter().collect::<Vec<_>>(), &weighing), expected, "{text}");
    }

    #[test]
    fn votes_are_filtered_and_weighed() {
        // Two doubtful wrong votes weigh less than one sure right one.
        check_vote("b:-2 b:-2 A:-0.1", 1.0, true);
        check_vote("b:-0.2 b:-0.2 A:-0.1", 1.0, false);
        // Only the best third votes.
        check_vote("b:-0.2 b:-0.2 A:-0.1", 0.34, true);
        // Ties at the bar are kept: all vote, and the first of equal sums wins.
        check_vote("A:-1 b:-1", 0.1, true);
        check_vote("b:-1 A:-1", 0.1, false);
        // What has no answer or no token has no vote and does not raise the bar.
        check_vote(".:-0 .:-0 A:-3", 0.1, true);
        check_vote("A: b:-9", 1.0, false);
        check_vote(".:-1", 1.0, false);
        check_vote("", 1.0, false);
    }

    #[test]
    fn equal_confidence_is_a_majority_vote() {
        let completions = completions("A:0 A:0 b:0 c:0 b:0 A:0 .:0 d:0");
        let weighing = Weighing { score: Score::Mean, kept: 1.0, window: 4 };
        for k in [1, 3, 5, 8] {
            let exact = majority_at_k(&Ballot::of(&completions), k).unwrap();
            let found = vote_at_k(&completions, k, &weighing, 20_000, 3).unwrap();
            assert!((found - exact).abs() < 0.015, "{k}: {found}, {exact}");
        }
        assert_eq!([0, 9].map(|k| vote_at_k(&completions, k, &weighing, 5, 0)), [None, None]);
    }

    #[test]
    fn stopping_saves_tokens() {
        // The bar is that of the two first: 90 % of [−2, −1] is −1.9.
        let text = "A:-1,-2,-1 A:-1,-1,-1 b:-1,-3,-1,-1 A:-1,-1 b:-1";
        let found = stopped(&completions(text), 2, 0.9, 1);
        expect!["Stopped { is_correct: true, stopped: 1, tokens: 11, all_tokens: 13 }"]
            .assert_eq(&format!("{found:?}"));
        // Shorter than the window: nothing stops.
        let found = stopped(&completions(text), 2, 0.9, 100);
        expect!["Stopped { is_correct: true, stopped: 0, tokens: 13, all_tokens: 13 }"]
            .assert_eq(&format!("{found:?}"));
        let found = stopped(&[], 2, 0.9, 1);
        expect!["Stopped { is_correct: false, stopped: 0, tokens: 0, all_tokens: 0 }"].assert_eq(&format!("{found:?}"));
    }

    #[test]
    fn subsets_are_fair() {
        let mut seen = [0; 6];
        let mut rng = stream(0, "test", &[]);
        for _ in 0..6_000 {
            let chosen = subset(6, 2, &mut rng);
            assert_ne!(chosen[0], chosen[1]);
            chosen.into_iter().for_each(|at| seen[at] += 1);
        }
        assert!(seen.iter().all(|&count| (1_880..2_120).contains(&count)), "{seen:?}");
    }
}
