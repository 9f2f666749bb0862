//! The case table: golds and predictions of many projects' tests, with the verdict to reach.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fmt::Write;

use expect_test::{Expect, expect, expect_file};
use toehold_verifier::math::{Options, Row, verify_row};

const CASES: &str = include_str!("data/cases.jsonl");
const RULES: &str = include_str!("data/rules.jsonl");

/// A row with what is known of it besides.
struct Case {
    row: Row,
    id: String,
    source: String,
    contested: bool,
}

fn cases() -> Vec<Case> {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or("").to_owned();
    let read = |line: &str| {
        let row: Row = serde_json::from_str(line).unwrap();
        let rest: serde_json::Value = serde_json::from_str(line).unwrap();
        Case { row, id: text(&rest["id"]), source: text(&rest["source"]), contested: rest["contested"] == true }
    };
    CASES.lines().map(read).collect()
}

/// A project rather than a file: what stands before the commit, or the repository of a thread.
fn project(source: &str) -> String {
    let source = source.strip_prefix("https://github.com/").unwrap_or(source);
    let name = source.split(['@', ' ']).next().unwrap_or(source);
    name.split('/').take(2).collect::<Vec<_>>().join("/").trim_end_matches("/tests").to_owned()
}

/// Rows, rows right, and negatives accepted.
#[derive(Default)]
struct Count {
    rows: usize,
    right: usize,
    accepted: usize,
}

impl Count {
    fn add(&mut self, expected: bool, found: bool) {
        self.rows += 1;
        self.right += usize::from(expected == found);
        self.accepted += usize::from(!expected && found);
    }
}

#[track_caller]
fn check(group: impl Fn(&Case) -> String, expected: &Expect) {
    let mut counts: BTreeMap<String, Count> = BTreeMap::new();
    for case in cases().iter().filter(|case| !case.contested) {
        let found = verify_row(&case.row, &Options::default()).equal;
        let equal = case.row.equal.unwrap();
        counts.entry(group(case)).or_default().add(equal, found);
        counts.entry("~ all".to_owned()).or_default().add(equal, found);
    }
    let mut shown = String::new();
    for (name, count) in counts {
        writeln!(shown, "{name}: {} of {} right, {} accepted", count.right, count.rows, count.accepted).unwrap();
    }
    expected.assert_eq(&shown);
}

#[test]
fn by_kind() {
    check(
        |case| case.row.kind.clone().unwrap(),
        &expect![[r#"
        base: 5 of 5 right, 0 accepted
        complex: 2 of 2 right, 0 accepted
        currency: 13 of 13 right, 0 accepted
        decimal: 27 of 27 right, 0 accepted
        degree: 1 of 1 right, 0 accepted
        equation: 41 of 41 right, 0 accepted
        expression: 61 of 61 right, 0 accepted
        extraction: 241 of 241 right, 0 accepted
        fraction: 29 of 29 right, 0 accepted
        function: 25 of 25 right, 0 accepted
        inequality: 15 of 15 right, 0 accepted
        interval: 14 of 14 right, 0 accepted
        list: 43 of 43 right, 0 accepted
        matrix: 18 of 18 right, 0 accepted
        mcq: 36 of 36 right, 0 accepted
        mixed: 6 of 6 right, 0 accepted
        number: 48 of 48 right, 0 accepted
        percent: 19 of 19 right, 0 accepted
        plusminus: 4 of 4 right, 0 accepted
        radical_const: 22 of 22 right, 0 accepted
        ratio: 6 of 6 right, 0 accepted
        relation_chain: 1 of 1 right, 0 accepted
        sci: 8 of 8 right, 0 accepted
        security: 7 of 7 right, 0 accepted
        set: 7 of 7 right, 0 accepted
        text: 18 of 18 right, 0 accepted
        tuple: 14 of 14 right, 0 accepted
        units: 12 of 12 right, 0 accepted
        ~ all: 743 of 743 right, 0 accepted
    "#]],
    );
}

#[test]
fn by_source() {
    check(
        |case| project(&case.source),
        &expect![[r#"
        EleutherAI/lm-evaluation-harness: 8 of 8 right, 0 accepted
        HuggingFaceH4/MATH-500: 58 of 58 right, 0 accepted
        NVIDIA-NeMo/Gym: 17 of 17 right, 0 accepted
        NVIDIA-NeMo/RL: 9 of 9 right, 0 accepted
        NVIDIA/NeMo-Skills: 41 of 41 right, 0 accepted
        OpenBMB/OlympiadBench: 29 of 29 right, 0 accepted
        PrimeIntellect-ai/verifiers: 9 of 9 right, 0 accepted
        QwenLM/Qwen2.5-Math: 1 of 1 right, 0 accepted
        THUDM/slime: 19 of 19 right, 0 accepted
        allenai/open-instruct: 11 of 11 right, 0 accepted
        camel-ai/camel: 8 of 8 right, 0 accepted
        cklxx/slime: 4 of 4 right, 0 accepted
        deepseek-ai/DeepSeek-R1: 4 of 4 right, 0 accepted
        eth-sri/matharena: 15 of 15 right, 0 accepted
        hand-written: 16 of 16 right, 0 accepted
        hendrycks/math: 8 of 8 right, 0 accepted
        huggingface/Math-Verify: 195 of 195 right, 0 accepted
        huggingface/latex2sympy2_extended: 97 of 97 right, 0 accepted
        huggingface/lighteval: 30 of 30 right, 0 accepted
        huggingface/open-r1: 2 of 2 right, 0 accepted
        huggingface/trl: 6 of 6 right, 0 accepted
        inclusionAI/AReaL: 35 of 35 right, 0 accepted
        meta-pytorch/torchforge: 16 of 16 right, 0 accepted
        mindspeed_rl: 2 of 2 right, 0 accepted
        rasbt/reasoning-from-scratch: 14 of 14 right, 0 accepted
        scitix/sieval: 74 of 74 right, 0 accepted
        thinking-machines-lab/tinker-cookbook: 15 of 15 right, 0 accepted
        ~ all: 743 of 743 right, 0 accepted
    "#]],
    );
}

#[test]
fn every_disagreement() {
    let mut shown = String::new();
    for case in cases() {
        let found = verify_row(&case.row, &Options::default());
        if Some(found.equal) != case.row.equal {
            let contested = if case.contested { ", contested" } else { "" };
            writeln!(shown, "{}: {}{contested}", case.id, found.outcome).unwrap();
        }
    }
    expect![[r#"
        c0029: equal, contested
        c0244: not_equal, contested
        c0320: not_equal, contested
        c0635: not_equal, contested
        c0700: equal, contested
        c0818: unparsed_prediction, contested
        c0828: not_equal, contested
        c0835: not_equal, contested
    "#]]
    .assert_eq(&shown);
}

#[test]
fn the_rules_one_by_one() {
    let mut shown = String::new();
    for line in RULES.lines() {
        let row: Row = serde_json::from_str(line).unwrap();
        let found = verify_row(&row, &Options::default());
        if Some(found.equal) != row.equal {
            writeln!(shown, "{:?} and {:?}: {}", row.gold, row.prediction, found.outcome).unwrap();
        }
    }
    assert_eq!(shown, "");
}

#[test]
fn every_reading() {
    let mut shown = String::new();
    for line in RULES.lines() {
        let row: Row = serde_json::from_str(line).unwrap();
        let found = verify_row(&row, &Options::default());
        let reading = found.read_as.map_or("-".to_owned(), |reading| format!("{reading:?}").to_lowercase());
        writeln!(shown, "{} | {} | {} | {reading}", row.gold, row.prediction.escape_debug(), found.outcome).unwrap();
    }
    expect_file!["data/readings.txt"].assert_eq(&shown);
}
