//! No text and no reference makes a verifier panic, hang, or accept what it should not.
//!
//! The random texts follow from fixed seeds: a failure repeats.

use toehold_verifier::{Outcome, Verifier, answer_begins};

/// Texts that each rule reads, with references, to be damaged.
const VALID: [(Verifier, &str, &str); 12] = [
    (Verifier::Answer, "3/4", r"<think> so </think> the answer is \boxed{\frac{3}{4}}"),
    (Verifier::Answer, r"\left(1, 2\right)", r"$$\boxed{\text{(1,2)}}$$"),
    (Verifier::Answer, "1,234.50", "The **answer** is: $1{,}234.5$."),
    (Verifier::Exact, "a b", "a  b"),
    (Verifier::Number, "-12", "#### about \u{2212}12 km"),
    (Verifier::Number, "1/3", r"answer = \dfrac{-1}{-3} of it"),
    (Verifier::Chain, "3 0 2", "slow a1 1 4 A 3 fast B 0 fast C 2 answer A 3 B 0 C 2"),
    (Verifier::Countdown, "24 from 3 3 8 8", "answer 8 / ( 3 - 8 / 3 )"),
    (Verifier::Tolerance, "9.81 +- 1%", r"the answer is $9.8 \text{ m/s}^2$"),
    (Verifier::Pattern, r"(?i)yes|(\d+) km", "The answer is Yes."),
    (Verifier::PatternText, "(?s).*[ab]{2,3} \u{e9}", "so\nab \u{e9}"),
    (Verifier::Countdown, "24 from 3 5 8 8", "try 3 * 8 = 24 left 5 8 24 answer ( ( 8 - 5 ) \u{d7} 8 )"),
];

/// Pieces that mean something to a rule, and characters of every width.
const PIECES: [&str; 40] = [
    r"\boxed{",
    r"\boxed",
    r"\fbox{",
    "}",
    "{",
    "answer",
    "Answer:",
    "is",
    "</think>",
    "<think>",
    "####",
    "$",
    "$$",
    r"\(",
    r"\)",
    r"\frac",
    r"\frac{",
    "\\",
    "/",
    "-",
    "+",
    "*",
    "(",
    ")",
    ",",
    "{,}",
    ".",
    "\n",
    " ",
    "0",
    "3",
    "99999999999999999999",
    "170141183460469231731687303715884105728",
    "A",
    "from",
    "é",
    "\u{2212}",
    "\u{d7}",
    "\u{1f980}",
    "\u{0}",
];

/// SplitMix64: enough for choosing damage, and one line long.
struct Generator(u64);

impl Generator {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

/// Runs every rule, both ways round; every offset must be usable.
fn survive(reference: &str, text: &str) {
    for verifier in Verifier::ALL {
        let verdict = verifier.verify(reference, text);
        if verifier.check_reference(reference).is_err() {
            assert_eq!(verdict.outcome, Outcome::Unreadable, "{verifier} {reference:?} {text:?}");
        }
        if let Some(begins) = answer_begins(verifier, text) {
            assert!(text.is_char_boundary(begins), "{verifier} {text:?} at {begins}");
        } else if verdict.outcome.is_correct() {
            let whole_text = [Verifier::Exact, Verifier::PatternText];
            assert!(whole_text.contains(&verifier), "{verifier} is correct, but nowhere: {reference:?} {text:?}");
        }
    }
}

#[test]
fn random_bytes() {
    let mut generator = Generator(1);
    for _ in 0..20_000 {
        let length = generator.below(60);
        let bytes: Vec<u8> = (0..length).map(|_| generator.next() as u8).collect();
        let text = String::from_utf8_lossy(&bytes);
        survive("3/4", &text);
        survive(&text, "answer 3/4");
    }
}

#[test]
fn random_pieces() {
    let mut generator = Generator(2);
    for _ in 0..50_000 {
        let draw = |generator: &mut Generator| -> String {
            let length = generator.below(12);
            (0..length).map(|_| PIECES[generator.below(PIECES.len())]).collect()
        };
        let (reference, text) = (draw(&mut generator), draw(&mut generator));
        survive(&reference, &text);
        survive("24 from 3 3 8 8", &text);
        survive(&reference, "the answer is 3");
    }
}

#[test]
fn damaged_texts() {
    let mut generator = Generator(3);
    for (verifier, reference, text) in VALID {
        assert_eq!(verifier.verify(reference, text).outcome, Outcome::Correct, "{verifier} {text:?}");
        for _ in 0..4_000 {
            survive(reference, &damage(text, &mut generator));
            survive(&damage(reference, &mut generator), text);
        }
        // Every beginning of a text is what a policy leaves that runs out of tokens.
        for end in (0..=text.len()).filter(|&end| text.is_char_boundary(end)) {
            survive(reference, &text[..end]);
        }
    }
}

/// One to three characters taken out, doubled, or put in.
fn damage(text: &str, generator: &mut Generator) -> String {
    let mut characters: Vec<char> = text.chars().collect();
    for _ in 0..=generator.below(3) {
        let at = generator.below(characters.len().max(1));
        match generator.below(3) {
            0 if at < characters.len() => drop(characters.remove(at)),
            1 if at < characters.len() => characters.insert(at, characters[at]),
            _ => {
                let piece: Vec<char> = PIECES[generator.below(PIECES.len())].chars().collect();
                characters.splice(at.min(characters.len())..at.min(characters.len()), piece);
            }
        }
    }
    characters.into_iter().collect()
}

/// 200 kB of any one piece is refused in the time of reading it; the suite would hang otherwise.
#[test]
fn long_texts() {
    for piece in PIECES {
        let long = piece.repeat(200_000 / piece.len());
        for text in [
            long.clone(),
            format!("answer {long}"),
            format!("\\boxed{{{long}}}"),
            format!("answer {}3", "( ".repeat(100_000)),
        ] {
            survive("24 from 3 3 8 8", &text);
        }
        survive(&long, "answer 3");
    }
}

/// What policies have been caught trying: none of it is an answer.
#[test]
fn tricks() {
    let tricks = [
        (Verifier::Answer, "4", "answer 4 or 5"),
        (Verifier::Answer, "4", r"\boxed{4} \boxed{5}"),
        (Verifier::Answer, "4", r"\boxed{4, 5}"),
        (Verifier::Answer, "0.1", "answer 0.1000000000000000001"),
        (Verifier::Number, "4", "answer 3 4 5"),
        (Verifier::Number, "4", "1 2 3 4 5"),
        (Verifier::Tolerance, "4 +- 1%", "answer 3 4 5"),
        (Verifier::Tolerance, "4 +- 1%", "answer 4 or 5"),
        (Verifier::Tolerance, "4 +- 1%", "answer nan"),
        (Verifier::Pattern, "yes|no", "answer yes and no"),
        (Verifier::PatternText, "yes", "no, yes"),
        (Verifier::Chain, "3 0", "answer A 1 B 0 answer A 3 B 0"),
        (Verifier::Countdown, "24 from 3 3 8 8", "answer 24"),
        (Verifier::Countdown, "24 from 3 3 8 8", "answer 8 * 3 + 8 - 8 + 3 - 3 + 8 - 8"),
        (Verifier::Countdown, "24 from 3 3 8 8", "answer 24 / ( 8 - 8 )"),
    ];
    for (verifier, reference, text) in tricks {
        assert!(!verifier.verify(reference, text).outcome.is_correct(), "{verifier} {text:?}");
    }
}
