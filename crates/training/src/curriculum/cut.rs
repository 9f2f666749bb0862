//! Where a trace may be cut, and where it is.
//!
//! A cut is a number of tokens of the trace's own prefix and completion. It leaves at least one token
//! to be sampled and never shows the answer: a prefix with the answer in it would be rewarded for
//! copying.

use rand_chacha::ChaCha8Rng;
use toehold_rollout::TokenId;
use toehold_verifier::{Verifier, answer_begins};

use crate::random;

/// The number of leading tokens after which the answer has not begun: a cut at most this long shows
/// nothing of it. All tokens when the text has no answer.
///
/// `decode` turns leading tokens into text, and must give a longer or equal text for more tokens. A
/// token that spans the border belongs to the answer.
pub fn answer_limit(verifier: Verifier, tokens: &[TokenId], decode: &dyn Fn(&[TokenId]) -> String) -> usize {
    let Some(begins) = answer_begins(verifier, &decode(tokens)) else { return tokens.len() };
    let (mut fits, mut too_long) = (0, tokens.len() + 1);
    while too_long - fits > 1 {
        let middle = fits + (too_long - fits) / 2;
        if decode(&tokens[..middle]).len() <= begins { fits = middle } else { too_long = middle }
    }
    fits
}

/// At most `count` distinct cuts of a trace of `length` tokens, each equally likely among the whole
/// numbers from `from · worked` to `to · worked` that are at least 1 and shorter than the trace, where
/// `worked` is the part before the answer, `limit` tokens; in rising order, fewer where there are
/// fewer, none where there is none.
///
/// The shares are of the worked part because an answer that restates the work can be half of a short
/// trace: shares of the whole would then leave nothing to do.
pub fn uniform_cuts(
    length: usize,
    limit: usize,
    count: usize,
    (from, to): (f64, f64),
    rng: &mut ChaCha8Rng,
) -> Vec<usize> {
    let worked = limit.min(length) as f64;
    let lowest = ((from * worked).ceil() as usize).max(1);
    let highest = ((to * worked).floor() as usize).min(length.saturating_sub(1));
    if lowest > highest {
        return Vec::new();
    }
    let mut free: Vec<usize> = (lowest..=highest).collect();
    // Drawing without putting back: the first `count` steps of a shuffle.
    let count = count.min(free.len());
    for at in 0..count {
        let other = at + random::below(rng, (free.len() - at) as u64) as usize;
        free.swap(at, other);
    }
    free.truncate(count);
    free.sort_unstable();
    free
}

/// The cuts of a trace of `length` tokens at `i / (count + 1)` of its worked part, `i = 1 ..= count`,
/// rounded to whole tokens (halves up): at 10, 20 ... 90 % for nine. Each at least 1 and shorter than
/// the trace, in rising order, fewer where two fall on one place.
pub fn even_cuts(length: usize, limit: usize, count: usize) -> Vec<usize> {
    let (worked, parts) = (limit.min(length), count + 1);
    let mut cuts: Vec<usize> = (1..parts)
        .map(|at| (2 * at * worked + parts) / (2 * parts))
        .filter(|&cut| (1..length).contains(&cut))
        .collect();
    cuts.dedup();
    cuts
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use toehold_verifier::Verifier;

    use super::{answer_limit, even_cuts, uniform_cuts};
    use crate::random::stream;

    #[track_caller]
    fn check(length: usize, limit: usize, count: usize, range: (f64, f64), expected: Expect) {
        let drawn: Vec<String> = (0..4)
            .map(|seed| format!("{:?}", uniform_cuts(length, limit, count, range, &mut stream(seed, "cut", &[]))))
            .collect();
        expected.assert_eq(&drawn.join(" "));
    }

    #[test]
    fn cuts_lie_in_their_range() {
        check(100, 100, 3, (0.4, 0.8), expect!["[61, 74, 76] [49, 65, 69] [41, 44, 63] [47, 59, 67]"]);
        // The answer begins after 45 tokens.
        check(100, 45, 3, (0.4, 0.8), expect!["[20, 26, 32] [28, 31, 36] [24, 32, 33] [19, 20, 21]"]);
        // Fewer places than cuts: each once.
        check(5, 5, 3, (0.4, 0.6), expect!["[2, 3] [2, 3] [2, 3] [2, 3]"]);
        // The answer begins at once; a trace of one token; no trace.
        check(100, 0, 3, (0.4, 0.8), expect!["[] [] [] []"]);
        check(1, 1, 3, (0.0, 1.0), expect!["[] [] [] []"]);
        check(0, 0, 3, (0.0, 1.0), expect!["[] [] [] []"]);
        // The whole trace is never given.
        check(3, 3, 9, (0.0, 1.0), expect!["[1, 2] [1, 2] [1, 2] [1, 2]"]);
    }

    #[test]
    fn even_cuts_divide_the_worked_part() {
        let cuts = |length, limit| format!("{:?}", even_cuts(length, limit, 9));
        expect!["[10, 20, 30, 40, 50, 60, 70, 80, 90]"].assert_eq(&cuts(100, 100));
        // The answer begins after 45 tokens.
        expect!["[5, 9, 14, 18, 23, 27, 32, 36, 41]"].assert_eq(&cuts(100, 45));
        // Fewer places than cuts: each once, and never all of the trace.
        expect!["[1, 2, 3, 4]"].assert_eq(&cuts(5, 5));
        expect!["[1]"].assert_eq(&cuts(2, 2));
        // Nothing may be given; a trace of one token; no trace.
        expect!["[] [] []"].assert_eq(&[cuts(100, 0), cuts(1, 1), cuts(0, 0)].join(" "));
        expect!["[50] []"].assert_eq(&format!("{:?} {:?}", even_cuts(100, 100, 1), even_cuts(100, 100, 0)));
    }

    #[test]
    fn every_place_is_equally_likely() {
        let mut seen = [0u32; 100];
        let mut rng = stream(5, "cut", &[]);
        for _ in 0..2_000 {
            for cut in uniform_cuts(100, 100, 3, (0.4, 0.8), &mut rng) {
                seen[cut] += 1;
            }
        }
        // 2000 · 3 / 41 = 146 each, standard deviation about 12.
        assert!(seen[40..=80].iter().all(|&n| (95..=200).contains(&n)), "{seen:?}");
        assert_eq!(seen.iter().sum::<u32>(), 6_000);
    }

    #[test]
    fn the_limit_is_before_the_answer() {
        let words = ["so ", "3+4 ", "is ", "7 ", "\\boxed{", "7", "}"];
        let decode = |tokens: &[u32]| tokens.iter().map(|&token| words[token as usize]).collect::<String>();
        assert_eq!(answer_limit(Verifier::Answer, &[0, 1, 2, 3, 4, 5, 6], &decode), 4);
        assert_eq!(answer_limit(Verifier::Answer, &[4, 5, 6], &decode), 0);
        assert_eq!(answer_limit(Verifier::Answer, &[0, 1, 2], &decode), 3);
        assert_eq!(answer_limit(Verifier::Answer, &[], &decode), 0);
    }
}
