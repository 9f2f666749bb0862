//! Damaged and random input by a fixed generator: no panic, and never more steps than the budget.
//!
//! These drive the same functions as the targets in `fuzz/`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use toehold_verifier::math::{Form, Gold, Options, Row, STEP_LIMIT, compare};

/// A linear congruential generator (Knuth's constants); its quality does not matter here.
struct Stream(u64);

impl Stream {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit.max(1)
    }
}

const PIECES: [&str; 64] = [
    "\\frac",
    "{",
    "}",
    "(",
    ")",
    "[",
    "]",
    "^",
    "_",
    "1",
    "23",
    "0.5",
    "x",
    "\\sqrt",
    "\\{",
    "\\}",
    ",",
    ";",
    "=",
    "<",
    "\\le",
    "\\in",
    "\\cup",
    "\\pm",
    "\\pi",
    "e",
    "i",
    "\\infty",
    "\\sin",
    "\\log",
    "!",
    "%",
    "\\%",
    "^\\circ",
    "'",
    "|",
    "\\left",
    "\\right",
    "\\text{ cm}",
    "\\text{and}",
    "\\begin{pmatrix}",
    "\\end{pmatrix}",
    "&",
    "\\\\",
    "\\sum",
    "\\boxed{",
    "$",
    "\\(",
    "\\]",
    "<answer>",
    "####",
    "answer is ",
    "²",
    "−",
    "∅",
    "é",
    "𝔘",
    " ",
    "\n",
    "+",
    "-",
    "*",
    "/",
    "\\binom",
];

fn drive(gold: &str, prediction: &str) {
    let options = Options::default();
    for gold_form in [Form::Bare, Form::Text] {
        let Ok(gold) = Gold::read(gold, gold_form, &options) else { continue };
        for form in [Form::Bare, Form::Text] {
            let found = compare(&gold, prediction, form, &options);
            assert!(found.steps <= STEP_LIMIT);
        }
    }
}

fn rows() -> Vec<Row> {
    include_str!("data/cases.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|row: &Row| row.prediction.len() < 2000 && row.gold.len() < 2000)
        .collect()
}

#[test]
fn random_pieces() {
    let mut stream = Stream(1);
    for _ in 0..4000 {
        let mut text = || {
            let count = 1 + stream.below(24);
            (0..count).map(|_| PIECES[stream.below(PIECES.len())]).collect::<String>()
        };
        let (gold, prediction) = (text(), text());
        drive(&gold, &prediction);
        drive(&gold, &gold);
    }
}

#[test]
fn damaged_rows() {
    let mut stream = Stream(2);
    for row in rows() {
        for _ in 0..4 {
            let damage = |text: &str, stream: &mut Stream| {
                let mut parts: Vec<char> = text.chars().collect();
                for _ in 0..1 + stream.below(3) {
                    let at = stream.below(parts.len());
                    match stream.below(4) {
                        0 if !parts.is_empty() => drop(parts.remove(at)),
                        1 => {
                            let piece = PIECES[stream.below(PIECES.len())];
                            let tail = parts.split_off(at.min(parts.len()));
                            parts.extend(piece.chars());
                            parts.extend(tail);
                        }
                        2 => parts.truncate(at),
                        _ if !parts.is_empty() => {
                            let other = stream.below(parts.len());
                            parts.swap(at, other);
                        }
                        _ => {}
                    }
                }
                parts.into_iter().collect::<String>()
            };
            let (gold, prediction) = (damage(&row.gold, &mut stream), damage(&row.prediction, &mut stream));
            drive(&row.gold, &prediction);
            drive(&gold, &row.prediction);
        }
    }
}

#[test]
fn random_bytes() {
    let mut stream = Stream(3);
    for _ in 0..4000 {
        let count = stream.below(60);
        let bytes: Vec<u8> = (0..count).map(|_| u8::try_from(stream.below(256)).unwrap()).collect();
        let text = String::from_utf8_lossy(&bytes);
        drive("1", &text);
        drive(&text, "x+1");
    }
}

/// A zero with a large exponent scaled the other part of a complex number away, and its angle was divided by 0.
#[test]
fn the_logarithm_beside_a_zero_of_large_exponent() {
    let sum = "6<a<0/1---logi.69^097495-log55i0--1000001-log55i0--000";
    drive(sum, sum);
    let arcs = "HH\\tan 4tp2atan 4ccccccc!ctp2apHHDDHHHHDGGGGGGGGGGGGGGGGGGGGGGGGGGGGGGGGGGGGGGGGGGGGGGGGGGG \
                4ccccccc!ctp2aGGGGGGGGGGDDDHDDDHH0";
    drive(arcs, "0H~HHH");
}
