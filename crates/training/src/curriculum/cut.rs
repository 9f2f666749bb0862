//! Where a trace may be cut, and where it is.
//!
//! A cut is a number of tokens of the trace's own prefix and completion. It leaves at least one token
//! to be sampled and never shows the answer: a prefix with the answer in it would be rewarded for
//! copying. For a model that thinks, everything after `</think>` is the answer's.
//!
//! A character can be several tokens of a byte-level tokenizer. A cut between them would make a prefix that
//! is no text, and a policy that must first mend it; [`inside_characters`] finds such cuts.

use std::collections::HashMap;

use rand_chacha::ChaCha8Rng;
use toehold_rollout::TokenId;
use toehold_verifier::{Verifier, answer_begins};

use super::Decode;
use crate::random;

/// The number of leading tokens after which the answer has not begun: a cut at most this long shows
/// nothing of it. All tokens when the text has no answer.
///
/// `decode` turns leading tokens into text, and must give a longer or equal text for more tokens. A
/// token that spans the border belongs to the answer.
pub fn answer_limit(verifier: Verifier, tokens: &[TokenId], decode: Decode<'_>) -> usize {
    let text = decode(tokens);
    // After a thought comes the answer, whatever the verifier reads.
    let begins = [answer_begins(verifier, &text), text.find(THOUGHT_ENDS)].into_iter().flatten().min();
    match begins {
        Some(begins) => tokens_within(tokens, begins, decode),
        None => tokens.len(),
    }
}

/// The cuts that fall inside a character, in rising order: those after which the text ends in U+FFFD that
/// the next tokens mend. Broken bytes, which nothing mends, may be cut anywhere.
pub fn inside_characters(tokens: &[TokenId], decode: Decode<'_>) -> Vec<usize> {
    let is_partial = |token: TokenId| decode(&[token]).contains('\u{fffd}');
    let mut known: HashMap<TokenId, bool> = HashMap::new();
    let partial: Vec<bool> =
        tokens.iter().map(|&token| *known.entry(token).or_insert_with(|| is_partial(token))).collect();
    let mut inside = Vec::new();
    // Where the character began that is not whole yet.
    let mut begin = 0;
    for cut in 1..tokens.len() {
        if !partial[cut - 1] || !partial[cut] {
            begin = cut;
            continue;
        }
        if !partial[begin] {
            begin = cut - 1;
        }
        let given = decode(&tokens[begin..cut]);
        // One to three more bytes make a character of it, and a decoder of bytes may want exactly these.
        let is_mended = |more: usize| {
            let end = (cut + more).min(tokens.len());
            !decode(&tokens[begin..end]).starts_with(&given)
        };
        if given.ends_with('\u{fffd}') && (1..CHARACTER).any(is_mended) { inside.push(cut) } else { begin = cut }
    }
    inside
}

/// The longest cut of at most `cut` tokens that is not among `inside`.
pub fn whole(inside: &[usize], mut cut: usize) -> usize {
    while cut > 0 && inside.binary_search(&cut).is_ok() {
        cut -= 1;
    }
    cut
}

/// How many leading tokens have at most `bytes` bytes of text.
fn tokens_within(tokens: &[TokenId], bytes: usize, decode: Decode<'_>) -> usize {
    let (mut fits, mut too_long) = (0, tokens.len() + 1);
    while too_long - fits > 1 {
        let middle = fits + (too_long - fits) / 2;
        // The text of part of a character may be longer than that of all of it.
        let text = decode(&tokens[..middle]);
        if text.trim_end_matches('\u{fffd}').len() <= bytes { fits = middle } else { too_long = middle }
    }
    fits
}

const THOUGHT_ENDS: &str = "</think>";
/// The most tokens that one character takes: one for each byte of its UTF-8.
const CHARACTER: usize = 4;

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
    use toehold_rollout::TokenizerFile;
    use toehold_verifier::Verifier;

    use super::super::Source;
    use super::{answer_limit, even_cuts, inside_characters, uniform_cuts, whole};
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

    /// The text in the pieces that cuts make of it, `#` where the answer begins: every allowed cut is a `|`.
    #[track_caller]
    fn check_text(family: &str, text: &str, expected: Expect) {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../rollout/tests/data/templates");
        let tokenizer = TokenizerFile::open(&folder.join(family)).unwrap();
        let tokens = tokenizer.encode(text).unwrap();
        let decode = |tokens: &[u32]| tokenizer.decode_open(tokens);
        let inside = inside_characters(&tokens, &decode);
        let limit = whole(&inside, answer_limit(Verifier::MathBoxed, &tokens, &decode));
        let (mut shown, mut begin) = (String::new(), 0);
        for cut in 0..=tokens.len() {
            if !inside.contains(&cut) {
                shown += &decode(&tokens[begin..cut]);
                shown += if cut == limit { "#" } else { "|" };
                begin = cut;
            }
        }
        expected.assert_eq(&shown);
    }

    #[test]
    fn cuts_are_between_characters_and_before_the_answer() {
        // Byte-level tokens, of which a character of this kind takes two to four, and byte fallback.
        check_text("qwen3", "é: 数学🙂.", expect!["#é|:| |数|学|🙂|.|"]);
        check_text("mistral", "é: 数学🙂.", expect!["#é|:| |数|学|🙂|.|"]);
        check_text("qwen3", "数\u{fffd}学", expect!["#数|�|�|�|学|"]);
        // The model's own thought, and one that the template opened, which the trace does not begin with.
        check_text(
            "qwen3",
            "<think>\né 4?</think>\n\nIt is \\boxed{4}.<|im_end|>",
            expect![[r#"
            |<think>|
            |é| |4|?#</think>|

            |I|t| is| |\|b|o|x|e|d|{|4|}|.||"#]],
        );
        check_text(
            "r1",
            "é 4?</think>\n\nIt is \\boxed{4}.",
            expect![[r#"
            |é| |4|?#</think>|

            |I|t| is| |\|b|o|x|e|d|{|4|}|.|"#]],
        );
        // Boxed within the thought, and right after a character of several tokens.
        check_text(
            "qwen2",
            "Is 数\\boxed{4} it?</think> \\boxed{4}",
            expect![[r#"|I|s| |数#\|b|o|x|e|d|{|4|}| |i|t|?|<|/|th|in|k|>| |\|b|o|x|e|d|{|4|}|"#]],
        );
        check_text("qwen2", "No answer 🙂", expect!["|N|o# answer| |🙂|"]);
    }

    #[test]
    fn an_end_of_thought_that_is_a_special_token_is_seen() {
        let words = ["so ", "4", "</think>", "It is 4."];
        let shown = |tokens: &[u32]| tokens.iter().map(|&token| words[token as usize]).collect::<String>();
        for verifier in [Verifier::Exact, Verifier::Answer, Verifier::Math, Verifier::Chain] {
            assert_eq!(answer_limit(verifier, &[0, 1, 2, 3], &shown), 2, "{verifier}");
        }
    }

    #[test]
    fn a_start_ends_with_a_whole_character() {
        let source = Source {
            problem: "p".into(),
            prompt: vec![1],
            tokens: vec![5, 6, 7, 8, 9],
            row: None,
            is_correct: true,
            limit: 5,
            inside: vec![1, 3, 4],
        };
        let prefixes: Vec<usize> = (0..=6).map(|length| source.start(length).prefix.len()).collect();
        assert_eq!(prefixes, [0, 0, 2, 2, 2, 5, 5]);
    }
}
