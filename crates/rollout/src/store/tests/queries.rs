//! What comes back, and by which filter.

use std::fmt::Write as _;

use expect_test::{Expect, expect};
use toehold_verifier::{Outcome, Verifier};

use super::{furnished, plain, policy, prefixed, problem, some_traces};
use crate::store::*;
use crate::{PolicyVersion, Problem, ProblemId, StopReason};

#[test]
fn problems_starts_and_policies_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("traces.db");
    let mut store = furnished(&path);
    let solved = Problem {
        solution: Some("1 + 1 = 2".into()),
        cue: Some("add".into()),
        verifier: Verifier::Chain,
        ..problem("s")
    };
    store.put_problems(std::slice::from_ref(&solved)).unwrap();
    assert_eq!(store.problems().unwrap(), [problem("p"), problem("q"), solved]);
    let parent = Some(PolicyVersion { weights: "aa".into() });
    let child = PolicyRecord { step: u64::MAX, parent, ..policy("cc") };
    store.put_policy(&child).unwrap();
    assert_eq!(store.policies().unwrap(), [policy("aa"), policy("bb"), child]);

    let starts = |problem: Option<&str>, kind| {
        let problem = problem.map(|id| ProblemId::from(id.to_owned()));
        store.starts(&StartFilter { problem, kind }).unwrap()
    };
    assert_eq!(starts(None, None), [plain("p"), prefixed("p"), plain("q")]);
    assert_eq!(starts(Some("p"), None), [plain("p"), prefixed("p")]);
    assert_eq!(starts(Some("p"), Some(StartKind::Plain)), [plain("p")]);
    assert_eq!(starts(None, Some(StartKind::Prefixed)), [prefixed("p")]);
    assert_eq!(starts(Some("nothing"), None), []);
}

#[track_caller]
fn check_filter(filter: TraceFilter, expected: Expect) {
    let folder = tempfile::tempdir().unwrap();
    let mut store = furnished(&folder.path().join("traces.db"));
    store.append(&some_traces()).unwrap();
    let rows: Vec<i64> = store.traces(&filter).unwrap().iter().map(|trace| trace.row).collect();
    expected.assert_eq(&format!("rows {rows:?}, of all {}", store.success(&filter).unwrap()));
}

#[test]
fn filters() {
    let none = TraceFilter::default;
    check_filter(none(), expect!["rows [1, 2, 3, 4, 5, 6], of all 3/6 = 50.0 % [18.8, 81.2]"]);
    check_filter(
        TraceFilter { problem: Some(ProblemId::from("p".to_owned())), ..none() },
        expect!["rows [1, 2, 4, 5, 6], of all 3/5 = 60.0 % [23.1, 88.2]"],
    );
    check_filter(
        TraceFilter { start: Some(prefixed("p").id), ..none() },
        expect!["rows [4], of all 1/1 = 100.0 % [20.7, 100.0]"],
    );
    check_filter(
        TraceFilter { kind: Some(StartKind::Plain), ..none() },
        expect!["rows [1, 2, 3, 5, 6], of all 2/5 = 40.0 % [11.8, 76.9]"],
    );
    check_filter(
        TraceFilter { kind: Some(StartKind::Prefixed), ..none() },
        expect!["rows [4], of all 1/1 = 100.0 % [20.7, 100.0]"],
    );
    check_filter(
        TraceFilter { policy: Some(PolicyVersion { weights: "bb".into() }), ..none() },
        expect!["rows [6], of all 0/1 = 0.0 % [0.0, 79.3]"],
    );
    check_filter(TraceFilter { seed: Some(9), ..none() }, expect!["rows [5], of all 1/1 = 100.0 % [20.7, 100.0]"]);
    check_filter(
        TraceFilter { stage: Some(Stage::Evaluate), ..none() },
        expect!["rows [5], of all 1/1 = 100.0 % [20.7, 100.0]"],
    );
    check_filter(
        TraceFilter { outcome: Some(Outcome::Correct), ..none() },
        expect!["rows [2, 4, 5], of all 3/3 = 100.0 % [43.9, 100.0]"],
    );
    check_filter(
        TraceFilter { stop: Some(StopReason::Length), ..none() },
        expect!["rows [3], of all 0/1 = 0.0 % [0.0, 79.3]"],
    );
    check_filter(TraceFilter { after: Some(4), ..none() }, expect!["rows [5, 6], of all 1/2 = 50.0 % [9.5, 90.5]"]);
    check_filter(
        TraceFilter { limit: Some(2), offset: 1, ..none() },
        expect!["rows [2, 3], of all 3/6 = 50.0 % [18.8, 81.2]"],
    );
    check_filter(
        TraceFilter { limit: Some(u64::MAX), offset: u64::MAX, ..none() },
        expect!["rows [], of all 3/6 = 50.0 % [18.8, 81.2]"],
    );
    check_filter(
        TraceFilter { outcome: Some(Outcome::Correct), seed: Some(3), limit: Some(1), ..none() },
        expect!["rows [2], of all 2/2 = 100.0 % [34.2, 100.0]"],
    );
    check_filter(TraceFilter { seed: Some(4), ..none() }, expect!["rows [], of all 0/0 = 0.0 % [0.0, 100.0]"]);
}

#[test]
fn counts_and_campaigns() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = furnished(&folder.path().join("traces.db"));
    let mut text = String::new();
    let version = PolicyVersion { weights: "aa".into() };
    let discarded = Discarded { policy: version.clone(), seed: 3, stage: Stage::Collect, attempts: 2, tokens: 9 };
    for batch in some_traces().chunks(4) {
        store.append_and_discard(batch, Some(&discarded)).unwrap();
    }
    for seed in [None, Some(3), Some(9), Some(1)] {
        writeln!(text, "seed {seed:?}").unwrap();
        for (start, StartCount { success, tokens_sampled, start_tokens }) in store.counts(&version, seed).unwrap() {
            writeln!(text, "  {start}: {success}, {tokens_sampled} tokens after {start_tokens}").unwrap();
        }
    }
    let mut existing: Vec<_> = store.existing(&version, 3).unwrap().into_iter().collect();
    existing.sort();
    writeln!(text, "existing {existing:?}").unwrap();
    for campaign in store.campaigns().unwrap() {
        writeln!(text, "{campaign:?}").unwrap();
    }
    expect![[r#"
        seed None
          1ed5c560e3b72e4b: 1/1 = 100.0 % [20.7, 100.0], 2 tokens after 5
          301f122dbe52e5f6: 0/1 = 0.0 % [0.0, 79.3], 2 tokens after 2
          46fd67d3206662f2: 2/3 = 66.7 % [20.8, 93.9], 6 tokens after 2
        seed Some(3)
          1ed5c560e3b72e4b: 1/1 = 100.0 % [20.7, 100.0], 2 tokens after 5
          301f122dbe52e5f6: 0/1 = 0.0 % [0.0, 79.3], 2 tokens after 2
          46fd67d3206662f2: 1/2 = 50.0 % [9.5, 90.5], 4 tokens after 2
        seed Some(9)
          46fd67d3206662f2: 1/1 = 100.0 % [20.7, 100.0], 2 tokens after 2
        seed Some(1)
        existing [(StartId("1ed5c560e3b72e4b"), [0]), (StartId("301f122dbe52e5f6"), [0]), (StartId("46fd67d3206662f2"), [0, 1])]
        CampaignCount { policy: PolicyVersion { weights: "aa" }, seed: 3, stage: Collect, starts: 3, success: SuccessCount { successes: 2, attempts: 4 }, tokens_sampled: 8, prefilled_each: 11, prefilled_once: 9, discarded_attempts: 4, discarded_tokens: 18 }
        CampaignCount { policy: PolicyVersion { weights: "aa" }, seed: 9, stage: Evaluate, starts: 1, success: SuccessCount { successes: 1, attempts: 1 }, tokens_sampled: 2, prefilled_each: 2, prefilled_once: 2, discarded_attempts: 0, discarded_tokens: 0 }
        CampaignCount { policy: PolicyVersion { weights: "bb" }, seed: 3, stage: Collect, starts: 1, success: SuccessCount { successes: 0, attempts: 1 }, tokens_sampled: 2, prefilled_each: 2, prefilled_once: 2, discarded_attempts: 0, discarded_tokens: 0 }
    "#]].assert_eq(&text);
}

/// What was encoded once stays, and what did not come back is kept as such.
#[test]
fn traces_in_another_tokenizers_ids() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = furnished(&folder.path().join("traces.db"));
    store.append(&some_traces()).unwrap();
    let first: Encoded = [(1, Some(vec![7, 8])), (2, None), (3, Some(vec![]))].into();
    assert_eq!(store.put_encoded("70ce", &first).unwrap(), 3);
    assert_eq!(store.put_encoded("70ce", &[(1, None), (4, None)].into()).unwrap(), 1);
    expect!["{1: Some([7, 8]), 2: None, 3: Some([]), 4: None}"]
        .assert_eq(&format!("{:?}", store.encoded("70ce").unwrap()));
    assert!(store.encoded("another").unwrap().is_empty());
    // No trace has this row, and nothing of such a call is kept.
    store.put_encoded("70ce", &[(5, None), (99, None)].into()).unwrap_err();
    assert_eq!(store.encoded("70ce").unwrap().len(), 4);
}
