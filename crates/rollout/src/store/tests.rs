//! The store, data in, text out; and the dump that other tests compare stores by.

mod files;
mod queries;

use std::fmt::Write as _;
use std::path::Path;

use expect_test::{Expect, expect};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rusqlite::types::ValueRef;
use toehold_verifier::{Outcome, Verdict, Verifier};

use super::*;
use crate::{
    Completion, ConfidenceStop, Origin, PolicyVersion, Problem, ProblemId, SamplingParams, Start, StopReason,
    SwitchPenalty, TraceKey,
};

/// Every table whose content a campaign determines, row by row with row numbers.
pub(crate) fn dump(store: &Store) -> String {
    ["problems", "starts", "policies", "sampling", "traces", "campaigns"].map(|table| dump_table(store, table)).concat()
}

pub(crate) fn dump_table(store: &Store, table: &str) -> String {
    // Of campaigns all but what was discarded, which does depend on interruptions.
    let (columns, order) = match table {
        "campaigns" => (
            "weights, seed, stage, starts, attempts, successes, tokens_sampled, prefilled_each, prefilled_once",
            "policy, seed, stage",
        ),
        _ => ("*", "row"),
    };
    let mut statement = store.connection.prepare(&format!("SELECT {columns} FROM {table} ORDER BY {order}")).unwrap();
    let columns = statement.column_count();
    let mut rows = statement.query([]).unwrap();
    let mut text = String::new();
    while let Some(row) = rows.next().unwrap() {
        text += table;
        for column in 0..columns {
            match row.get_ref(column).unwrap() {
                ValueRef::Null => text += " -",
                ValueRef::Integer(integer) => write!(text, " {integer}").unwrap(),
                ValueRef::Real(real) => write!(text, " {real:?}").unwrap(),
                ValueRef::Text(bytes) => write!(text, " {}", std::str::from_utf8(bytes).unwrap()).unwrap(),
                ValueRef::Blob(bytes) => {
                    let words: Vec<String> = bytes
                        .chunks(4)
                        .map(|word| word.iter().rev().map(|byte| format!("{byte:02x}")).collect())
                        .collect();
                    write!(text, " [{}]", words.join(" ")).unwrap();
                }
            }
        }
        text += "\n";
    }
    text
}

/// Makes the disk look full: the store may have so many pages more than it has.
pub(crate) fn limit_pages(store: &Store, more: i64) {
    let pages: i64 = store.connection.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
    store.connection.query_row(&format!("PRAGMA max_page_count = {}", pages + more), [], |_| Ok(())).unwrap();
}

pub(crate) fn problem(id: &str) -> Problem {
    let id = ProblemId::from(id.to_owned());
    Problem { id, problem: "1 + 1?".into(), answer: "2".into(), verifier: Verifier::Number, solution: None, cue: None }
}

pub(crate) fn policy(weights: &str) -> PolicyRecord {
    PolicyRecord {
        version: PolicyVersion { weights: weights.to_owned() },
        model: "base".into(),
        tokenizer_hash: "70ce".into(),
        step: 0,
        parent: None,
    }
}

pub(crate) fn params() -> SamplingParams {
    SamplingParams { stop: vec![1], ..SamplingParams::plain(8) }
}

fn plain(id: &str) -> Start {
    Start::plain(ProblemId::from(id.to_owned()), vec![5, 6])
}

fn prefixed(id: &str) -> Start {
    let origin = Origin { trace: Some(1), source_tokens: 4 };
    Start::prefixed(ProblemId::from(id.to_owned()), vec![5, 6], vec![7, 8, 9], origin)
}

fn record(start: &Start, weights: &str, seed: u64, index: u32, outcome: Outcome) -> TraceRecord {
    let tokens = vec![10 + index, 1];
    let policy = PolicyVersion { weights: weights.to_owned() };
    TraceRecord {
        key: TraceKey { start: start.id.clone(), policy, seed, index },
        stage: if seed == 9 { Stage::Evaluate } else { Stage::Collect },
        completion: Completion { behavior: vec![-0.5; tokens.len()], tokens, stop: StopReason::EndOfText },
        params: params(),
        verdict: Verdict { outcome, extracted: (outcome == Outcome::Correct).then(|| "2".to_owned()) },
        verifier_version: "1".into(),
    }
}

/// Problems p and q; a plain start of each and a prefixed one of p; policies aa and bb.
fn furnished(path: &Path) -> Store {
    let mut store = Store::open(path).unwrap();
    assert_eq!(store.put_problems(&[problem("p"), problem("q")]).unwrap(), 2);
    assert_eq!(store.put_starts(&[plain("p"), prefixed("p"), plain("q")]).unwrap(), 3);
    for weights in ["aa", "bb"] {
        assert_eq!(store.put_policy(&policy(weights)).unwrap(), 1);
    }
    store
}

fn some_traces() -> Vec<TraceRecord> {
    let mut cut_off = record(&plain("q"), "aa", 3, 0, Outcome::NoAnswer);
    cut_off.completion.stop = StopReason::Length;
    vec![
        record(&plain("p"), "aa", 3, 0, Outcome::Wrong),
        record(&plain("p"), "aa", 3, 1, Outcome::Correct),
        cut_off,
        record(&prefixed("p"), "aa", 3, 0, Outcome::Correct),
        record(&plain("p"), "aa", 9, 0, Outcome::Correct),
        record(&plain("p"), "bb", 3, 0, Outcome::Unreadable),
    ]
}

/// An error's text with the store's path as STORE.
fn shown(error: impl std::fmt::Display, path: &Path) -> String {
    error.to_string().replace(path.to_str().unwrap(), "STORE")
}

#[test]
fn what_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = furnished(&folder.path().join("traces.db"));
    assert_eq!(store.append(&some_traces()).unwrap(), 6);
    expect![[r#"
        problems 1 p 1 + 1? 2 number - -
        problems 2 q 1 + 1? 2 number - -
        starts 1 46fd67d3206662f2 1 [00000005 00000006] [] - -
        starts 2 1ed5c560e3b72e4b 1 [00000005 00000006] [00000007 00000008 00000009] 1 4
        starts 3 301f122dbe52e5f6 2 [00000005 00000006] [] - -
        policies 1 aa base 70ce 0 -
        policies 2 bb base 70ce 0 -
        sampling 1 1.0 0 1.0 8 [00000001]
        traces 1 1 1 3 0 collect 1 [0000000a 00000001] [bf000000 bf000000] end_of_text wrong - 1
        traces 2 1 1 3 1 collect 1 [0000000b 00000001] [bf000000 bf000000] end_of_text correct 2 1
        traces 3 3 1 3 0 collect 1 [0000000a 00000001] [bf000000 bf000000] length no_answer - 1
        traces 4 2 1 3 0 collect 1 [0000000a 00000001] [bf000000 bf000000] end_of_text correct 2 1
        traces 5 1 1 9 0 evaluate 1 [0000000a 00000001] [bf000000 bf000000] end_of_text correct 2 1
        traces 6 1 2 3 0 collect 1 [0000000a 00000001] [bf000000 bf000000] end_of_text unreadable - 1
        campaigns aa 3 collect 3 4 2 8 11 9
        campaigns aa 9 evaluate 1 1 1 2 2 2
        campaigns bb 3 collect 1 1 0 2 2 2
    "#]]
    .assert_eq(&dump(&store));
}

#[test]
fn written_twice_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("traces.db");
    let mut store = furnished(&path);
    store.append(&some_traces()).unwrap();
    let before = dump(&store);

    assert_eq!(store.append(&some_traces()).unwrap(), 0);
    let mut other = some_traces();
    for record in &mut other {
        record.completion = Completion::default();
        record.params.temperature = 0.5;
        record.verdict.outcome = Outcome::Wrong;
    }
    assert_eq!(store.append(&other).unwrap(), 0);
    assert_eq!(store.put_problems(&[problem("p"), problem("q")]).unwrap(), 0);
    let mut moved = prefixed("p");
    moved.origin = Some(Origin { trace: Some(5), source_tokens: 50 });
    assert_eq!(store.put_starts(&[moved]).unwrap(), 0);
    assert_eq!(store.put_policy(&PolicyRecord { step: 7, ..policy("aa") }).unwrap(), 0);
    assert_eq!(dump(&store), before);

    drop(store);
    assert_eq!(dump(&Store::open(&path).unwrap()), before);
}

/// Any appends, with repetitions inside a batch and between batches, leave each key's first record, in
/// the order of first writing.
#[test]
fn random_appends_keep_the_first_of_each_key() {
    let folder = tempfile::tempdir().unwrap();
    for case in 0..20 {
        let mut rng = ChaCha8Rng::seed_from_u64(case);
        let path = folder.path().join(format!("{case}.db"));
        let mut store = furnished(&path);
        let starts = [plain("p"), prefixed("p"), plain("q")];
        let mut expected: Vec<TraceRecord> = Vec::new();
        for _ in 0..rng.random_range(1..12) {
            let batch: Vec<TraceRecord> = (0..rng.random_range(0..9))
                .map(|_| {
                    let start = &starts[rng.random_range(0..starts.len())];
                    let weights = ["aa", "bb"][rng.random_range(0..2)];
                    let outcome = Outcome::ALL[rng.random_range(0..4)];
                    record(start, weights, rng.random_range(0..2), rng.random_range(0..4), outcome)
                })
                .collect();
            let new = batch.iter().fold(0, |new, record| {
                let there = expected.iter().any(|one| one.key == record.key);
                if !there {
                    expected.push(record.clone());
                }
                new + u64::from(!there)
            });
            assert_eq!(store.append(&batch).unwrap(), new, "case {case}");
            if rng.random_bool(0.3) {
                drop(store);
                store = Store::open(&path).unwrap();
            }
        }
        let kept = store.traces(&TraceFilter::default()).unwrap();
        assert!(kept.iter().map(|trace| trace.row).eq(1..=expected.len() as i64), "case {case}");
        let kept: Vec<TraceRecord> = kept
            .into_iter()
            .map(|StoredTrace { key, stage, trace, params, verdict, verifier_version, .. }| TraceRecord {
                key,
                stage,
                completion: trace.completion,
                params,
                verdict,
                verifier_version,
            })
            .collect();
        assert_eq!(kept, expected, "case {case}");
    }
}

#[test]
fn extreme_values_come_back_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = furnished(&folder.path().join("traces.db"));
    let mut extreme = record(&plain("p"), "aa", u64::MAX, u32::MAX, Outcome::Correct);
    extreme.completion.tokens = vec![0, u32::MAX, 1 << 31, 7];
    extreme.completion.behavior = vec![-0.0, f32::MIN, f32::from_bits(1), -0.1];
    extreme.params = SamplingParams {
        temperature: 0.1,
        top_k: u32::MAX,
        top_p: f32::MIN_POSITIVE,
        max_tokens: u32::MAX,
        ..SamplingParams::plain(1)
    };
    extreme.verdict.extracted = Some("ä \0 ∞".into());
    let mut empty = record(&plain("p"), "aa", 1 << 63, 0, Outcome::NoAnswer);
    empty.completion = Completion { stop: StopReason::Length, ..Completion::default() };
    store.append(&[extreme.clone(), empty.clone()]).unwrap();
    for (row, written) in [(1, extreme), (2, empty)] {
        let read = store.trace(row).unwrap().unwrap();
        let bits = |completion: &Completion| completion.behavior.iter().map(|b| b.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&read.trace.completion), bits(&written.completion));
        assert_eq!((read.key, read.trace.completion), (written.key, written.completion));
        assert_eq!((read.params, read.verdict), (written.params, written.verdict));
    }
    assert_eq!(store.trace(3).unwrap(), None);
}

#[track_caller]
fn check_append_error(edit: impl FnOnce(&mut TraceRecord), expected: Expect) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("traces.db");
    let mut store = furnished(&path);
    let before = dump(&store);
    let mut records = some_traces();
    edit(&mut records[1]);
    let error = store.append(&records).unwrap_err();
    expected.assert_eq(&shown(error, &path));
    assert_eq!(dump(&store), before, "a part of the call was written");
}

#[test]
fn refused_traces() {
    check_append_error(
        |record| record.key.start = plain("z").id,
        expect!["trace 1 of start a69dffdb6df16583: the start is not in STORE"],
    );
    check_append_error(
        |record| record.key.policy.weights = "zz".into(),
        expect![[r#"
        policy zz is not in STORE
        hint: put the policy before its traces"#]],
    );
    check_append_error(
        |record| record.completion.behavior.push(0.0),
        expect!["trace 1 of start 46fd67d3206662f2 has 3 log-probabilities, expected 2, one per completion token"],
    );
    check_append_error(
        |record| record.params.thought_switch = Some(SwitchPenalty { tokens: vec![7], penalty: 3.0, window: 600 }),
        expect![[r#"
            trace 1 of start 46fd67d3206662f2 was sampled with a penalty on switching thoughts, expected none: STORE could not say so
            hint: such completions are for `toehold generate` and for evaluation"#]],
    );
    check_append_error(
        |record| record.params.stop_below = Some(ConfidenceStop { window: 8, below: -1.0 }),
        expect![[r#"
            trace 1 of start 46fd67d3206662f2 was sampled with a stop at low confidence, expected none: STORE could not say so
            hint: such completions are for `toehold generate` and for evaluation"#]],
    );
    check_append_error(
        |record| record.params.top_p = f32::NAN,
        expect!["STORE cannot be written: NOT NULL constraint failed: sampling.top_p"],
    );
}

#[test]
fn refused_problems_and_starts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("traces.db");
    let mut store = furnished(&path);
    let before = dump(&store);
    let changed = Problem { answer: "3".into(), ..problem("q") };
    let error = store.put_problems(&[problem("new"), changed]).unwrap_err();
    expect![[r#"
        problem q differs from the problem of the same id in STORE
        hint: give it a new id, or use a new store"#]]
    .assert_eq(&shown(error, &path));
    let error = store.put_starts(&[Start::plain(problem("p").id, vec![9]), plain("z")]).unwrap_err();
    expect!["start a69dffdb6df16583 belongs to problem z, which is not in STORE"].assert_eq(&shown(error, &path));
    assert_eq!(dump(&store), before, "a part of a call was written");
}
