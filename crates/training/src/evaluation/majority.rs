//! maj@k: the chance that the commonest answer of `k` completions is right.
//!
//! Of `n` completions all subsets of `k` are equally likely, as in pass@k, so this is the mean over
//! subsets and not one draw of them:
//!
//! `maj@k = Σ_c Σ_{m ≥ 1} P(answer c comes m times) · E[1 / (1 + t) · (no answer comes more often)]`
//!
//! over the right answers `c`, where `t` counts the other answers that come `m` times too: among tied
//! answers the first one seen wins, and in a random order each is first equally often. The counts of a
//! subset are multivariate hypergeometric; the sum goes through the answers one by one.
//!
//! Source: self-consistency (arXiv 2203.11171). verl estimates the same by 1000 resamples with
//! replacement, which is biased, and lets unreadable answers vote.
//!
//! Zero cases: completions without an answer are drawn but do not vote; where nobody votes, nothing is
//! right; fewer than `k` completions, or `k = 0`, give none.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::answers::Answered;
use super::{Interval, bootstrap_mean};

/// How the completions of one problem voted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ballot {
    /// The different answers, in the order in which they were first seen.
    pub answers: Vec<AnswerCount>,
    /// Completions without an answer.
    pub blank: usize,
}

/// One answer and how often it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerCount {
    /// Completions that gave it, at least 1.
    pub count: usize,
    /// Whether the verifier accepts it.
    pub is_correct: bool,
}

/// A vote's success over problems.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct VoteAtK {
    /// Completions that vote.
    pub k: u32,
    /// Mean chance that the vote is right, in `[0, 1]`.
    pub mean: f64,
    /// Its 95 % interval over problems.
    pub interval: Interval,
    /// Problems with at least `k` completions.
    pub problems: usize,
}

impl Ballot {
    /// Counts the answers of one problem's completions.
    pub fn of(completions: &[Answered]) -> Ballot {
        let mut ballot = Ballot::default();
        let mut places: HashMap<&str, usize> = HashMap::new();
        for completion in completions {
            let Some(answer) = completion.answer.as_deref() else {
                ballot.blank += 1;
                continue;
            };
            let place = *places.entry(answer).or_insert(ballot.answers.len());
            if place == ballot.answers.len() {
                ballot.answers.push(AnswerCount { count: 0, is_correct: completion.is_correct });
            }
            ballot.answers[place].count += 1;
        }
        ballot
    }

    /// All completions, blank ones included.
    pub fn completions(&self) -> usize {
        self.blank + self.answers.iter().map(|answer| answer.count).sum::<usize>()
    }
}

/// The chance that the commonest answer of `k` of the completions is right; none where there are fewer.
///
/// ```
/// use toehold_training::evaluation::majority::{AnswerCount, Ballot, majority_at_k};
/// // Two right and one wrong. Of the three pairs one is right and two are tied: (1 + ½ + ½) / 3.
/// let answers = vec![
///     AnswerCount { count: 2, is_correct: true },
///     AnswerCount { count: 1, is_correct: false },
/// ];
/// let ballot = Ballot { answers, blank: 0 };
/// assert!((majority_at_k(&ballot, 2).unwrap() - 2.0 / 3.0).abs() < 1e-12);
/// assert!((majority_at_k(&ballot, 3).unwrap() - 1.0).abs() < 1e-12);
/// ```
pub fn majority_at_k(ballot: &Ballot, k: u32) -> Option<f64> {
    let (n, k) = (ballot.completions(), k as usize);
    if k == 0 || n < k {
        return None;
    }
    let logs = LogFactorials::up_to(n);
    let winners = ballot.answers.iter().enumerate().filter(|(_, answer)| answer.is_correct);
    // An empty sum would be −0.
    Some(winners.fold(0.0, |sum, (place, _)| sum + wins(ballot, place, k, &logs)).min(1.0))
}

/// The mean of maj@k over problems with its interval; none without a problem of `k` completions.
pub fn majority_over_problems(ballots: &[Ballot], k: u32, seed: u64) -> Option<VoteAtK> {
    let values: Vec<f64> = ballots.iter().filter_map(|ballot| majority_at_k(ballot, k)).collect();
    vote_over_problems(&values, k, seed)
}

/// The mean of chances that a vote of `k` is right; none without a value.
pub fn vote_over_problems(values: &[f64], k: u32, seed: u64) -> Option<VoteAtK> {
    let (mean, interval) = bootstrap_mean(values, seed)?;
    Some(VoteAtK { k, mean, interval, problems: values.len() })
}

/// The chance that the answer at `place` wins among `k` completions.
fn wins(ballot: &Ballot, place: usize, k: usize, logs: &LogFactorials) -> f64 {
    let n = ballot.completions();
    let own = ballot.answers[place].count;
    let others: Vec<usize> =
        ballot.answers.iter().enumerate().filter(|(at, _)| *at != place).map(|(_, answer)| answer.count).collect();
    // chances[at][draws][i]: of `draws` left for this answer and those after it, `i` are this answer.
    let mut left = n - own;
    let chances: Vec<Vec<Vec<f64>>> = others
        .iter()
        .map(|&count| {
            let rest = left - count;
            let row = |draws: usize| (0..=count.min(draws)).map(|i| logs.chance(count, i, rest, draws - i)).collect();
            left = rest;
            (0..=k).map(row).collect()
        })
        .collect();
    let mut won = 0.0;
    for most in 1..=own.min(k) {
        let all = logs.chance(own, most, n - own, k - most);
        if all == 0.0 {
            continue;
        }
        // chance[draws left][answers that are tied]; the blank ones take what is left at the end.
        let ties = (k - most) / most;
        let mut chance = vec![vec![0.0; ties + 1]; k - most + 1];
        chance[k - most][0] = all;
        for table in &chances {
            let mut next = vec![vec![0.0; ties + 1]; k - most + 1];
            for (draws, row) in chance.iter().enumerate() {
                for (tied, &before) in row.iter().enumerate().filter(|(_, before)| **before > 0.0) {
                    for (i, p) in table[draws].iter().enumerate().take(most + 1) {
                        let tied = tied + usize::from(i == most);
                        if *p > 0.0 {
                            next[draws - i][tied] += before * p;
                        }
                    }
                }
            }
            chance = next;
        }
        let shared = |row: &Vec<f64>| row.iter().enumerate().map(|(tied, p)| p / (1 + tied) as f64).sum::<f64>();
        won += chance.iter().map(shared).sum::<f64>();
    }
    won
}

/// `ln i!` for hypergeometric chances that neither overflow nor vanish on the way.
struct LogFactorials(Vec<f64>);

impl LogFactorials {
    fn up_to(n: usize) -> LogFactorials {
        let next = |sum: &mut f64, i: usize| {
            *sum += (i.max(1) as f64).ln();
            Some(*sum)
        };
        LogFactorials((0..=n).scan(0.0, next).collect())
    }

    fn choose(&self, n: usize, k: usize) -> f64 {
        self.0[n] - self.0[k] - self.0[n - k]
    }

    /// The chance of `i` of the first kind and `j` of the second in `i + j` draws from `first` and
    /// `second`; 0 where there are not so many.
    fn chance(&self, first: usize, i: usize, second: usize, j: usize) -> f64 {
        if i > first || j > second {
            return 0.0;
        }
        (self.choose(first, i) + self.choose(second, j) - self.choose(first + second, i + j)).exp()
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::{AnswerCount, Answered, Ballot, majority_at_k, majority_over_problems};

    /// One letter per completion: capitals are right, `.` is blank.
    fn ballot(letters: &str) -> Ballot {
        let completion = |letter: char| Answered {
            answer: (letter != '.').then(|| letter.to_string()),
            is_correct: letter.is_uppercase(),
            behavior: Vec::new(),
        };
        Ballot::of(&letters.chars().map(completion).collect::<Vec<_>>())
    }

    #[track_caller]
    fn check(letters: &str, expected: Expect) {
        let ballot = ballot(letters);
        let found = (0..=letters.len() as u32 + 1).map(|k| majority_at_k(&ballot, k));
        let texts: Vec<String> = found.map(|at| at.map_or("none".to_owned(), |at| format!("{at:.4}"))).collect();
        expected.assert_eq(&texts.join(" "));
    }

    #[test]
    fn votes_of_growing_size() {
        check("AAb", expect!["none 0.6667 0.6667 1.0000 none"]);
        check("Abb", expect!["none 0.3333 0.3333 0.0000 none"]);
        check("AAAAbbcd", expect!["none 0.5000 0.5000 0.6190 0.7429 0.8214 0.8929 1.0000 1.0000 none"]);
        // Blank completions are drawn and say nothing: a single vote then wins.
        check("A.....", expect!["none 0.1667 0.3333 0.5000 0.6667 0.8333 1.0000 none"]);
        check("......", expect!["none 0.0000 0.0000 0.0000 0.0000 0.0000 0.0000 none"]);
        check("bbbb", expect!["none 0.0000 0.0000 0.0000 0.0000 none"]);
        check("AAAA", expect!["none 1.0000 1.0000 1.0000 1.0000 none"]);
        // Two right answers that are not the same text split their votes.
        check("AABBccc", expect!["none 0.5714 0.5714 0.5143 0.4571 0.4286 0.2857 0.0000 none"]);
        check("", expect!["none none"]);
    }

    /// Against every subset, the winner being the tied answers' even share.
    #[test]
    fn equals_the_mean_over_subsets() {
        for letters in ["AAbbc..", "ABBccd.", "AAABbbcc", "aBcDe...", "AAAAAbbbb"] {
            let ballot = ballot(letters);
            let letters: Vec<char> = letters.chars().collect();
            for k in 1..=letters.len() as u32 {
                let (mut sum, mut subsets) = (0.0, 0.0);
                for set in (0..1u32 << letters.len()).filter(|set| set.count_ones() == k) {
                    let chosen = (0..letters.len()).filter(|at| set >> at & 1 == 1).map(|at| letters[at]);
                    let mut counts = std::collections::BTreeMap::<char, u32>::new();
                    chosen.filter(|&letter| letter != '.').for_each(|letter| *counts.entry(letter).or_default() += 1);
                    let most = counts.values().max();
                    let tied: Vec<char> =
                        counts.iter().filter(|(_, n)| Some(*n) == most).map(|(letter, _)| *letter).collect();
                    let right = tied.iter().filter(|letter| letter.is_uppercase()).count();
                    sum += if tied.is_empty() { 0.0 } else { right as f64 / tied.len() as f64 };
                    subsets += 1.0;
                }
                let found = majority_at_k(&ballot, k).unwrap();
                assert!((found - sum / subsets).abs() < 1e-10, "{letters:?} {k}: {found}, {}", sum / subsets);
            }
        }
    }

    #[test]
    fn large_votes_neither_overflow_nor_vanish() {
        let answers =
            [(300, true), (200, false), (12, false)].map(|(count, is_correct)| AnswerCount { count, is_correct });
        let ballot = Ballot { answers: answers.into(), blank: 512 };
        let found: Vec<String> =
            [1, 16, 256, 1024].map(|k| format!("{:.4}", majority_at_k(&ballot, k).unwrap())).into();
        expect!["0.2930 0.7128 0.9954 1.0000"].assert_eq(&found.join(" "));
    }

    #[test]
    fn at_one_it_is_the_rate_and_problems_are_averaged() {
        let ballots = [ballot("Abcd"), ballot("AA.."), ballot("A")];
        let found = majority_over_problems(&ballots, 1, 0).unwrap();
        assert!((found.mean - (0.25 + 0.5 + 1.0) / 3.0).abs() < 1e-12);
        assert_eq!(majority_over_problems(&ballots, 2, 0).unwrap().problems, 2);
        assert_eq!(majority_over_problems(&ballots, 9, 0), None);
    }
}
