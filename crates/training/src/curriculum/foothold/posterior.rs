//! What counts say of success on a line of starts along which success cannot fall.
//!
//! ```text
//! line            = longest failure prefix ... shortest, plain, shortest success prefix ... longest
//! levels          = the chances σ(−8), σ(−7.5) ... σ(8) that success can have
//! P(plain = m)    = common.plain(m)
//! P(next | m)     ∝ up^(levels risen)   along the success prefixes, from the plain start
//!                 ∝ down^(levels fallen) along the failure prefixes, from the plain start
//! P(counts | m)   = chance(m)^successes · (1 − chance(m))^failures, at each start of the line
//! ```
//!
//! A prior of nothing but order and smoothness: no curve is assumed. A level at one start moves what is
//! believed of all others of its line, and [`learn`] takes what lines have in common (how hard plain
//! problems are, how fast success rises and falls) from those that were tried, so that one that was not
//! borrows it. Marginals are exact, by messages along the line, in time starts × levels.
//!
//! Zero cases: a start without counts changes nothing; a line without any has the common prior. Counts
//! may be fractions, since old ones fade.

/// The chance of each level, from the lowest.
pub fn levels() -> Vec<f64> {
    (0..33).map(|level| 1.0 / (1.0 + (8.0 - 0.5 * f64::from(level)).exp())).collect()
}

/// What the lines of all problems have in common.
#[derive(Clone, Debug, PartialEq)]
pub struct Common {
    /// The probability of each level at the plain start.
    pub plain: Vec<f64>,
    /// How much less likely one more level of rise is, from one success prefix to the next, in `(0, 1)`.
    pub up: f64,
    /// How much less likely one more level of fall is, from one failure prefix to the next, in `(0, 1)`.
    pub down: f64,
}

impl Common {
    /// Before anything was seen: every level as likely, and a rise or fall of one level on average.
    pub fn flat(levels: usize) -> Common {
        Common { plain: vec![1.0 / levels as f64; levels], up: 0.5, down: 0.5 }
    }
}

/// A line of starts in order of rising success.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// How likely the counts of each start are at each level, up to a factor; empty without counts.
    pub seen: Vec<Vec<f64>>,
    /// Which of them is the plain start.
    pub plain: usize,
}

/// How likely so many successes and failures are at each level, 1 where they are likeliest; empty
/// without any.
///
/// ```
/// use toehold_training::curriculum::foothold::posterior::likelihood;
/// // One success and one failure at chances 1/4, 1/2: 3/16 and 4/16.
/// let found = likelihood(&[0.25, 0.5], 1.0, 1.0);
/// assert!((found[0] - 0.75).abs() < 1e-12 && found[1] == 1.0);
/// assert!(likelihood(&[0.25, 0.5], 0.0, 0.0).is_empty());
/// ```
pub fn likelihood(levels: &[f64], successes: f64, failures: f64) -> Vec<f64> {
    if successes + failures <= 0.0 {
        return Vec::new();
    }
    let logs: Vec<f64> = levels.iter().map(|&p| successes * p.ln() + failures * (1.0 - p).ln()).collect();
    let most = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    logs.into_iter().map(|log| (log - most).exp()).collect()
}

/// The probability of each level at each start of the line, given all its counts.
///
/// ```
/// use toehold_training::curriculum::foothold::posterior::{Common, Line, marginals};
/// // Two levels, chances 1/4 and 3/4, each 1/2 likely at the plain start. A rise from the lower one has
/// // half the weight of staying: 1/3 and 2/3. The success prefix had one success.
/// let common = Common { plain: vec![0.5, 0.5], up: 0.5, down: 0.5 };
/// let line = Line { seen: vec![vec![], vec![0.25, 0.75]], plain: 0 };
/// let found = marginals(&common, &line);
/// // low, low: 1/2 · 2/3 · 1/4 = 1/12; low, high: 1/2 · 1/3 · 3/4 = 1/8; high, high: 1/2 · 3/4 = 3/8.
/// let near = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-12, "{found}, {expected}");
/// near(found[0][0], (2.0 + 3.0) / 14.0);
/// near(found[0][1], 9.0 / 14.0);
/// near(found[1][0], 2.0 / 14.0);
/// near(found[1][1], (3.0 + 9.0) / 14.0);
/// ```
pub fn marginals(common: &Common, line: &Line) -> Vec<Vec<f64>> {
    let up: Vec<Vec<f64>> = line.seen[line.plain + 1..].to_vec();
    let down: Vec<Vec<f64>> = line.seen[..line.plain].iter().rev().map(|seen| mirrored(seen)).collect();
    let from_up = messages(common.up, &up, common.plain.len());
    let from_down = messages(common.down, &down, common.plain.len());
    let own = times(&common.plain, &line.seen[line.plain]);
    let to_up = times(&own, &mirrored(&from_down[0]));
    let to_down = mirrored(&times(&own, &from_up[0]));
    let mut all: Vec<Vec<f64>> = outward(common.down, to_down, &down, &from_down).iter().map(|m| mirrored(m)).collect();
    all.reverse();
    all.push(normalised(times(&to_up, &from_up[0])));
    all.extend(outward(common.up, to_up, &up, &from_up));
    all
}

/// What the lines have in common, from those with counts: `sweeps` rounds of expectation and
/// maximisation from [`Common::flat`], which keeps the weight of a few lines.
pub fn learn(lines: &[Line], levels: usize, sweeps: usize) -> Common {
    // The weight of the flat prior: so many lines, and so many steps from one start to the next.
    const LINES: f64 = 2.0;
    const STEPS: f64 = 20.0;
    let mut common = Common::flat(levels);
    let seen: Vec<&Line> = lines.iter().filter(|line| line.seen.iter().any(|seen| !seen.is_empty())).collect();
    for _ in 0..sweeps {
        let mut plain = vec![LINES / levels as f64; levels];
        // Levels risen and fallen, and over how many steps: one level a step to begin with.
        let (mut risen, mut fallen) = ((STEPS, STEPS), (STEPS, STEPS));
        for line in &seen {
            let found = marginals(&common, line);
            let mean = |at: usize| found[at].iter().enumerate().map(|(level, p)| level as f64 * p).sum::<f64>();
            plain.iter_mut().zip(&found[line.plain]).for_each(|(sum, p)| *sum += p);
            let (last, middle) = (found.len() - 1, mean(line.plain));
            risen = (risen.0 + mean(last) - middle, risen.1 + (last - line.plain) as f64);
            fallen = (fallen.0 + middle - mean(0), fallen.1 + line.plain as f64);
        }
        // A geometric number of levels with this mean; the ends of the levels are not corrected for.
        let ratio = |(levels, steps): (f64, f64)| (levels / (levels + steps)).clamp(0.05, 0.95);
        common = Common { plain: normalised(plain), up: ratio(risen), down: ratio(fallen) };
    }
    common
}

/// The chances that the level lies between, at both ends with `tail` outside.
///
/// ```
/// use toehold_training::curriculum::foothold::posterior::interval;
/// // A level stands for all chances that are nearer to it than to the next.
/// let (low, high) = interval(&[0.1, 0.5, 0.9], &[0.04, 0.9, 0.06], 0.05);
/// assert!((low - 0.3).abs() < 1e-12 && high == 1.0);
/// ```
pub fn interval(levels: &[f64], probabilities: &[f64], tail: f64) -> (f64, f64) {
    let between = |at: usize| levels.get(at).map_or(1.0, |above| (levels[at - 1] + above) / 2.0);
    let low = first_beyond(0..levels.len(), probabilities, tail).filter(|&at| at > 0).map_or(0.0, between);
    (low, first_beyond((0..levels.len()).rev(), probabilities, tail).map_or(1.0, |at| between(at + 1)))
}

/// The first level at which the probabilities so far exceed the tail.
fn first_beyond(mut order: impl Iterator<Item = usize>, probabilities: &[f64], tail: f64) -> Option<usize> {
    let mut sum = 0.0;
    order.find(|&at| {
        sum += probabilities[at];
        sum > tail
    })
}

/// What each start of a rising line, and all after it, say to the one before; the last entry says nothing.
fn messages(ratio: f64, seen: &[Vec<f64>], levels: usize) -> Vec<Vec<f64>> {
    let mut all = vec![vec![1.0; levels]; seen.len() + 1];
    let weights = weights(ratio, levels);
    // Starts at the end that were never tried say nothing.
    let tried = seen.iter().rposition(|seen| !seen.is_empty()).map_or(0, |last| last + 1);
    for at in (0..tried).rev() {
        let mut said = times(&all[at + 1], &seen[at]);
        (0..levels.saturating_sub(1)).rev().for_each(|level| said[level] += ratio * said[level + 1]);
        said.iter_mut().zip(&weights).for_each(|(sum, weight)| *sum *= weight);
        all[at] = normalised(said);
    }
    all
}

/// The marginals of a rising line, from what is said to its first start.
fn outward(ratio: f64, mut said: Vec<f64>, seen: &[Vec<f64>], back: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let mut all = Vec::with_capacity(seen.len());
    let levels = said.len();
    let weights = weights(ratio, levels);
    for (at, seen) in seen.iter().enumerate() {
        said.iter_mut().zip(&weights).for_each(|(p, weight)| *p *= weight);
        (1..levels).for_each(|level| said[level] += ratio * said[level - 1]);
        said = normalised(times(&said, seen));
        all.push(normalised(times(&said, &back[at + 1])));
    }
    all
}

/// Of each level, the probability that it is stayed at: one over `1 + ratio + ratio² ...`, a term for each
/// level from it upwards.
fn weights(ratio: f64, levels: usize) -> Vec<f64> {
    let mut sums = vec![1.0; levels];
    (0..levels.saturating_sub(1)).rev().for_each(|level| sums[level] = 1.0 + ratio * sums[level + 1]);
    sums.into_iter().map(|sum| 1.0 / sum).collect()
}

fn mirrored(values: &[f64]) -> Vec<f64> {
    values.iter().rev().copied().collect()
}

/// The product, entry by entry; no entries say nothing.
fn times(values: &[f64], seen: &[f64]) -> Vec<f64> {
    if seen.is_empty() { values.to_vec() } else { values.iter().zip(seen).map(|(a, b)| a * b).collect() }
}

fn normalised(mut values: Vec<f64>) -> Vec<f64> {
    let sum: f64 = values.iter().sum();
    // All of it can only vanish where counts contradict the order beyond what a number holds.
    let uniform = 1.0 / values.len() as f64;
    values.iter_mut().for_each(|value| *value = if sum > 0.0 { *value / sum } else { uniform });
    values
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::{Common, Line, interval, learn, levels, likelihood, marginals};

    /// A line with the plain start in the middle, from successes and attempts at each start.
    fn line(counts: &[(f64, f64)]) -> Line {
        let seen = counts.iter().map(|&(s, n)| likelihood(&levels(), s, n - s)).collect();
        Line { seen, plain: counts.len() / 2 }
    }

    fn mean(probabilities: &[f64]) -> f64 {
        levels().iter().zip(probabilities).map(|(level, p)| level * p).sum()
    }

    #[track_caller]
    fn check(common: &Common, counts: &[(f64, f64)], expected: Expect) {
        let shown = |probabilities: &Vec<f64>| {
            let (low, high) = interval(&levels(), probabilities, 0.05);
            format!("{:.2} [{low:.2}, {high:.2}]", mean(probabilities))
        };
        let found: Vec<String> = marginals(common, &line(counts)).iter().map(shown).collect();
        expected.assert_eq(&found.join("  "));
    }

    #[test]
    fn counts_move_their_whole_line() {
        let flat = Common::flat(33);
        let none = (0.0, 0.0);
        check(
            &flat,
            &[none; 5],
            expect!["0.44 [0.00, 1.00]  0.47 [0.00, 1.00]  0.50 [0.00, 1.00]  0.53 [0.00, 1.00]  0.56 [0.00, 1.00]"],
        );
        check(
            &flat,
            &[none, none, (8.0, 16.0), none, none],
            expect!["0.31 [0.04, 0.68]  0.40 [0.10, 0.68]  0.50 [0.23, 0.77]  0.60 [0.32, 0.90]  0.69 [0.32, 0.96]"],
        );
        check(
            &flat,
            &[none, none, (0.0, 16.0), none, (12.0, 16.0)],
            expect!["0.04 [0.00, 0.15]  0.05 [0.00, 0.23]  0.07 [0.01, 0.23]  0.32 [0.02, 0.77]  0.68 [0.44, 0.85]"],
        );
        check(
            &flat,
            &[(3.0, 16.0), none, (16.0, 16.0), none, none],
            expect!["0.26 [0.10, 0.56]  0.65 [0.15, 0.98]  0.93 [0.77, 0.99]  0.95 [0.77, 1.00]  0.96 [0.85, 1.00]"],
        );
        // Against the order: what is common to both is believed.
        check(
            &flat,
            &[(16.0, 16.0), none, (0.0, 16.0), none, none],
            expect!["0.50 [0.32, 0.68]  0.50 [0.32, 0.68]  0.50 [0.32, 0.68]  0.60 [0.32, 0.90]  0.69 [0.32, 0.96]"],
        );
        // A sixteenth of the counts says less.
        check(
            &flat,
            &[none, none, (0.5, 1.0), none, none],
            expect!["0.38 [0.00, 0.99]  0.44 [0.00, 0.99]  0.50 [0.01, 0.99]  0.56 [0.01, 1.00]  0.62 [0.01, 1.00]"],
        );
        check(
            &flat,
            &[none, none, (1e6, 2e6), none, none],
            expect!["0.31 [0.04, 0.56]  0.39 [0.10, 0.56]  0.50 [0.44, 0.56]  0.61 [0.44, 0.90]  0.69 [0.44, 0.96]"],
        );
    }

    /// Every way through five starts of three levels, added up one by one.
    #[test]
    fn marginals_are_those_of_the_sum_over_all_ways() {
        let common = Common { plain: vec![0.2, 0.5, 0.3], up: 0.4, down: 0.7 };
        let seen = vec![vec![0.3, 0.2, 0.9], vec![], vec![0.5, 1.0, 0.4], vec![0.1, 0.6, 1.0], vec![1.0, 0.2, 0.3]];
        let step = |ratio: f64, from: usize, to: usize, room: usize| {
            let weights: f64 = (0..=room).map(|by| ratio.powi(by as i32)).sum();
            ratio.powi(from.abs_diff(to) as i32) / weights
        };
        let mut sums = vec![vec![0.0; 3]; 5];
        for way in 0..243_usize {
            let at: Vec<usize> = (0..5).map(|start| way / 3_usize.pow(start) % 3).collect();
            if at.windows(2).any(|pair| pair[0] > pair[1]) {
                continue;
            }
            let mut p = common.plain[at[2]];
            p *= step(0.4, at[2], at[3], 2 - at[2]) * step(0.4, at[3], at[4], 2 - at[3]);
            p *= step(0.7, at[2], at[1], at[2]) * step(0.7, at[1], at[0], at[1]);
            p *= seen.iter().zip(&at).map(|(seen, &level)| seen.get(level).unwrap_or(&1.0)).product::<f64>();
            (0..5).for_each(|start| sums[start][at[start]] += p);
        }
        for (found, sum) in marginals(&common, &Line { seen, plain: 2 }).iter().zip(&sums) {
            let total: f64 = sum.iter().sum();
            assert!(found.iter().zip(sum).all(|(found, sum)| (found - sum / total).abs() < 1e-12));
        }
    }

    #[test]
    fn a_line_that_was_not_tried_borrows() {
        let none = (0.0, 0.0);
        let hard = [none, none, (0.0, 16.0), none, (8.0, 16.0)];
        let lines: Vec<Line> = std::iter::repeat_with(|| line(&hard)).take(20).collect();
        let common = learn(&lines, 33, 4);
        check(
            &common,
            &[none; 5],
            expect!["0.06 [0.00, 0.23]  0.07 [0.00, 0.23]  0.08 [0.01, 0.32]  0.21 [0.01, 0.96]  0.37 [0.01, 0.99]"],
        );
        assert_eq!(learn(&[line(&[none; 5])], 33, 4), learn(&[], 33, 4));
    }
}
