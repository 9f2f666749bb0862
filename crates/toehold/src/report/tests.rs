//! Data in, text out: what a reader reads on the page. How the charts look is not tested here.

use expect_test::{Expect, expect};
use toehold_rollout::SuccessCount;
use toehold_verifier::Outcome;

use super::{
    Arm, BandRow, BeforeAfter, Collection, Estimate, Evaluation, Fact, GroupCounts, HeadlineRow, PlainTable,
    RenderError, ReportData, StepPoint, Success, SweepPoint, TraceView, render,
};

fn success(successes: u64, attempts: u64) -> Success {
    SuccessCount { successes, attempts }.into()
}

/// A run of two steps in which everything was measured.
fn small() -> ReportData {
    let arm = Arm {
        name: "prefix".to_owned(),
        seeds: 1,
        evaluations: vec![
            Evaluation { step: 0, flops: 1e12, train: Some(success(1, 64)), held_out: Some(success(0, 64)) },
            Evaluation { step: 2, flops: 3e12, train: Some(success(32, 64)), held_out: Some(success(16, 64)) },
        ],
        steps: [1, 2]
            .map(|step| StepPoint {
                step,
                plain: GroupCounts { all_fail: 7, mixed: step, all_pass: 0 },
                prefixed: GroupCounts { all_fail: 2, mixed: 20, all_pass: 2 },
                entropy: Some(0.5),
                reward: Some(0.25),
                gradient_norm: Some(1.5),
                gradient_deviation: None,
                completion_tokens: Some(40.0),
            })
            .to_vec(),
        prefix_sweep: BeforeAfter {
            before: vec![SweepPoint { fraction: 0.0, success: success(0, 64) }],
            after: vec![SweepPoint { fraction: 0.0, success: success(16, 64) }],
        },
        pass_at_k: BeforeAfter {
            before: Vec::new(),
            after: vec![
                Estimate { k: 1, value: 0.25, low: 0.2, high: 0.3 },
                Estimate { k: 4, value: 0.5, low: 0.4, high: 0.6 },
            ],
        },
    };
    ReportData {
        title: "Prefixes on chains".to_owned(),
        summary: "Held-out success rose from 0.0 % to 25.0 %.".to_owned(),
        facts: vec![Fact { name: "seed".to_owned(), value: "0".to_owned() }],
        headline: vec![
            HeadlineRow { name: "base".to_owned(), train: Some(success(1, 64)), ..HeadlineRow::default() },
            HeadlineRow {
                name: "prefix".to_owned(),
                flops: 3e12,
                flops_collection: 1e12,
                steps: 2,
                train: Some(success(32, 64)),
                held_out: Some(success(16, 64)),
                pass_at_k: arm.pass_at_k.after.clone(),
            },
        ],
        arms: vec![arm],
        comparison: Vec::new(),
        detail: String::new(),
        collections: vec![Collection {
            name: String::new(),
            bands: vec![BandRow { band: "hard".to_owned(), problems: 12, attempts: 30_000, successes: 12 }],
        }],
        outcomes: Some(PlainTable {
            lead: "Stored traces by what the verifier said.".to_owned(),
            headers: vec!["stage".to_owned(), "correct".to_owned(), "infra".to_owned()],
            rows: vec![vec!["collect".to_owned(), "1,030".to_owned(), "2".to_owned()]],
        }),
        traces: vec![TraceView {
            problem_id: "chain-0-00001".to_owned(),
            problem: "start 3 ; add 4".to_owned(),
            prompt: "start 3 ; add 4\n".to_owned(),
            prefix: "3 add 4".to_owned(),
            completion: " is 7 ; answer A 7".to_owned(),
            outcome: Outcome::Correct,
            extracted: Some("7".to_owned()),
            reference: "7".to_owned(),
            arm: "prefix".to_owned(),
            step: Some(2),
            policy: "0123456789abcdef".to_owned(),
        }],
        recipe: "[run]\nseed = 0\n".to_owned(),
    }
}

/// What a reader reads: no tags, no style, no charts, one line per block.
fn text(html: &str) -> String {
    let mut text = String::new();
    let mut hidden = None;
    for piece in html.split('<') {
        let (tag, words) = piece.split_once('>').unwrap_or(("", piece));
        let name = tag.split([' ', '/']).find(|part| !part.is_empty()).unwrap_or("");
        match hidden {
            Some(element) if tag.starts_with('/') && name == element => hidden = None,
            Some(_) => continue,
            None if name == "svg" || name == "style" => {
                hidden = Some(name);
                continue;
            }
            None => {}
        }
        text.push_str(if ["span", "b", "i", "small", "a", "td", "th", "mark", "dt", "dd"].contains(&name) {
            " "
        } else {
            "\n"
        });
        text.push_str(words);
    }
    let lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
}

#[track_caller]
fn check(data: &ReportData, expected: Expect) {
    expected.assert_eq(&text(&render(data).unwrap()));
}

#[test]
fn a_small_run() {
    check(
        &small(),
        expect![[r#"
            Prefixes on chains
            toehold report
            Prefixes on chains
            Held-out success rose from 0.0 % to 25.0 %.
            Outcome Success against compute Before and after Which groups taught Step by step The problems, as collected Outcomes Traces Recipe
            Outcome
            Success without any prefix, and pass@k on held-out problems where there are any, at the end of training, with 95 % intervals. Compute is all that was spent, finding prefixes included, evaluation not.
            Training Held out Compute Steps pass@1 pass@4
            base 1.6 % 0.3 – 8.3 1 / 64 – – – – –
            prefix 50.0 % 38.1 – 61.9 32 / 64 25.0 % 16.0 – 36.8 16 / 64 3.0 TFLOP of it collecting 1.0 TFLOP, 33.3 % 2 25.0 % 20.0 – 30.0 50.0 % 40.0 – 60.0
            Success against compute
            Training problems
            Each dot is an evaluation, its band the 95 % interval; higher and further left is better. Dashes: compute spent before the first step, on collecting and imitating.
            Held-out problems
            Each dot is an evaluation, its band the 95 % interval; higher and further left is better. Dashes: compute spent before the first step, on collecting and imitating.
            Before and after
            prefix
            before training
            Success by prefix given
            At 0 % the policy is alone. A rise there shows that what was learnt behind prefixes carried back to the plain problem.
            pass@k
            The chance that one of k attempts succeeds. Where a line meets the one from before at large k, training sharpened what was already there.
            Which groups taught
            A group whose completions all fail or all succeed has no advantage: its compute is lost.
            mixed: teaches
            all failed: nothing to learn
            all succeeded: nothing to learn
            Plain problems
            Mixed in the first step: 1 of 8 groups; in the last: 2 of 9.
            Prefixed problems
            Mixed in the first step: 20 of 24 groups; in the last: 20 of 24.
            Step by step
            Reward
            Of all completions of a step, prefixed ones included; not comparable between arms whose starts differ.
            Entropy
            How undecided the policy is; a fall towards 0 means that it stopped exploring.
            Completion length
            What the policy wrote itself: prompt and prefix are not counted.
            Gradient norm
            Near 0 the batch had nothing to teach; spikes are steps that clipping tamed.
            The problems, as collected
            How often the policy that collected traces solved each problem. The bands at both ends are silent in ordinary training.
            Band Problems Attempts Successes
            hard solved in less than a quarter of the attempts 12 30,000 12
            Outcomes
            Stored traces by what the verifier said.
            stage correct infra
            collect 1,030 2
            Traces
            What the policy was given and what it wrote. Shaded text was given: no gradient flows through it.
            ✓ correct chain-0-00001 prefix · step 2 · prefixed
            Problem
            start 3 ; add 4
            Prefix and completion
            given 3 add 4 policy is 7 ; answer A 7
            answer read 7
            reference 7
            policy
            0123456789abcdef
            Recipe
            Every value as resolved
            [run]
            seed = 0
            seed 0
            Intervals are at 95 %. This file is complete in itself: no network, no scripts."#]],
    );
}

#[test]
fn nothing_at_all() {
    check(
        &ReportData::default(),
        expect![[r#"
        toehold report
        toehold report
        toehold report
        Intervals are at 95 %. This file is complete in itself: no network, no scripts."#]],
    );
}

#[test]
fn what_was_not_measured_is_left_out() {
    let mut data = small();
    data.headline.truncate(1);
    data.arms[0].evaluations.clear();
    data.arms[0].prefix_sweep = BeforeAfter::default();
    data.arms[0].steps.truncate(1);
    data.arms[0].steps[0] = StepPoint { step: 1, entropy: Some(0.1), ..StepPoint::default() };
    data.collections = vec![Collection::default()];
    data.traces.clear();
    data.recipe.clear();
    check(
        &data,
        expect![[r#"
            Prefixes on chains
            toehold report
            Prefixes on chains
            Held-out success rose from 0.0 % to 25.0 %.
            Outcome Before and after Step by step Outcomes
            Outcome
            Success without any prefix, and pass@k on held-out problems where there are any, at the end of training, with 95 % intervals. Compute is all that was spent, finding prefixes included, evaluation not.
            Training Compute Steps
            base 1.6 % 0.3 – 8.3 1 / 64 – –
            Before and after
            pass@k
            The chance that one of k attempts succeeds. Where a line meets the one from before at large k, training sharpened what was already there.
            Step by step
            Entropy
            How undecided the policy is; a fall towards 0 means that it stopped exploring.
            Outcomes
            Stored traces by what the verifier said.
            stage correct infra
            collect 1,030 2
            seed 0
            Intervals are at 95 %. This file is complete in itself: no network, no scripts."#]],
    );
}

#[test]
fn only_compute_before_the_first_step_is_called_collection() {
    let mut data = small();
    assert!(text(&render(&data).unwrap()).contains("Dashes: compute spent before"));
    data.arms[0].evaluations.remove(0);
    assert!(!text(&render(&data).unwrap()).contains("Dashes"));
}

#[test]
fn two_arms_get_legends() {
    let mut data = small();
    let mut other = data.arms[0].clone();
    other.name = "plain".to_owned();
    data = ReportData { arms: vec![data.arms.remove(0), other], ..ReportData::default() };
    check(
        &data,
        expect![[r#"
            toehold report
            toehold report
            toehold report
            Success against compute Before and after Which groups taught Step by step
            Success against compute
            prefix
            plain
            Training problems
            Each dot is an evaluation, its band the 95 % interval; higher and further left is better. Dashes: compute spent before the first step, on collecting and imitating.
            Held-out problems
            Each dot is an evaluation, its band the 95 % interval; higher and further left is better. Dashes: compute spent before the first step, on collecting and imitating.
            Before and after
            prefix
            plain
            before training
            Success by prefix given
            At 0 % the policy is alone. A rise there shows that what was learnt behind prefixes carried back to the plain problem.
            pass@k
            The chance that one of k attempts succeeds. Where a line meets the one from before at large k, training sharpened what was already there.
            Which groups taught
            A group whose completions all fail or all succeed has no advantage: its compute is lost.
            mixed: teaches
            all failed: nothing to learn
            all succeeded: nothing to learn
            prefix, plain problems
            Mixed in the first step: 1 of 8 groups; in the last: 2 of 9.
            prefix, prefixed problems
            Mixed in the first step: 20 of 24 groups; in the last: 20 of 24.
            plain, plain problems
            Mixed in the first step: 1 of 8 groups; in the last: 2 of 9.
            plain, prefixed problems
            Mixed in the first step: 20 of 24 groups; in the last: 20 of 24.
            Step by step
            prefix
            plain
            Reward
            Of all completions of a step, prefixed ones included; not comparable between arms whose starts differ.
            Entropy
            How undecided the policy is; a fall towards 0 means that it stopped exploring.
            Completion length
            What the policy wrote itself: prompt and prefix are not counted.
            Gradient norm
            Near 0 the batch had nothing to teach; spikes are steps that clipping tamed.
            Intervals are at 95 %. This file is complete in itself: no network, no scripts."#]],
    );
}

#[test]
fn a_comparison_over_seeds_is_a_table() {
    let mut data = small();
    data.arms[0].seeds = 3;
    data.detail = "Of one run per arm, that of seed 0.".to_owned();
    data.comparison = vec![PlainTable {
        lead: "Means over 3 seeds.".to_owned(),
        headers: vec!["arm".to_owned(), "held out".to_owned()],
        rows: vec![vec!["prefix".to_owned(), "25.0 % [20.0, 30.0]".to_owned()]],
    }];
    let page = text(&render(&data).unwrap());
    let said = |word: &str| page.lines().filter(|line| line.contains(word)).collect::<Vec<_>>().join("\n");
    expect![[r#"
        arm held out
        Means over 3 seeds.
        A group whose completions all fail or all succeed has no advantage: its compute is lost. Of one run per arm, that of seed 0.
        Of one run per arm, that of seed 0.
        Stored traces by what the verifier said. Of one run per arm, that of seed 0.
        What the policy was given and what it wrote. Shaded text was given: no gradient flows through it. Of one run per arm, that of seed 0."#]].assert_eq(&format!("{}\n{}\n{}", said("held out"), said("eans over"), said("Of one run")));
}

#[test]
fn data_is_never_markup() {
    let hostile = "</pre></style><script>alert(1)</script><img src=x onerror=\"alert('&')\">";
    let json = serde_json::to_value(small()).unwrap();
    let data: ReportData = serde_json::from_value(poisoned(json, hostile)).unwrap();
    let page = render(&data).unwrap();
    for forbidden in ["<script", "<img", "onerror=\""] {
        assert!(!page.contains(forbidden), "the page contains {forbidden}");
    }
    assert_eq!(page.matches("</style>").count(), 1);
    let shown = page.matches("&lt;script&gt;alert(1)&lt;/script&gt;").count();
    expect!["29"].assert_eq(&shown.to_string());
}

/// Every text replaced, but for the words of enums.
fn poisoned(value: serde_json::Value, hostile: &str) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::String(word) if word == "correct" => Value::String(word),
        Value::String(_) => Value::String(hostile.to_owned()),
        Value::Array(items) => items.into_iter().map(|item| poisoned(item, hostile)).collect(),
        Value::Object(fields) => fields.into_iter().map(|(name, field)| (name, poisoned(field, hostile))).collect(),
        other => other,
    }
}

#[test]
fn nothing_is_fetched() {
    let page = render(&small()).unwrap();
    for forbidden in ["http:", "https:", "src=", "url(", "@import", "<script", "<iframe", "//"] {
        assert!(!page.contains(forbidden), "the page contains {forbidden}");
    }
}

#[test]
fn charts_stand_what_numbers_can_be() {
    let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -1.0, 1e308, -1e308, 1e-308, 3.0];
    let rate = |value| Success { successes: 1, attempts: 2, low: value, high: value };
    for first in odd {
        for second in odd {
            let step = |step, value| StepPoint {
                step,
                plain: GroupCounts { all_fail: step, mixed: 0, all_pass: 0 },
                reward: Some(value),
                entropy: Some(value),
                ..StepPoint::default()
            };
            let evaluation = |value| Evaluation { step: 0, flops: value, train: Some(rate(value)), held_out: None };
            let estimate = |k, value| Estimate { k, value, low: value, high: value };
            let arm = Arm {
                name: "odd".to_owned(),
                seeds: 1,
                evaluations: vec![evaluation(first), evaluation(second)],
                steps: vec![step(0, first), step(u64::MAX / 4, second)],
                prefix_sweep: BeforeAfter {
                    before: vec![SweepPoint { fraction: first, success: rate(second) }],
                    after: vec![SweepPoint { fraction: second, success: success(0, 0) }],
                },
                pass_at_k: BeforeAfter { before: vec![estimate(0, first)], after: vec![estimate(u32::MAX, second)] },
            };
            let headline = HeadlineRow {
                flops: first,
                flops_collection: second,
                train: Some(rate(first)),
                held_out: Some(success(0, 0)),
                pass_at_k: vec![estimate(1, second)],
                ..HeadlineRow::default()
            };
            let page =
                render(&ReportData { arms: vec![arm], headline: vec![headline], ..ReportData::default() }).unwrap();
            for number in ["NaN", "inf"] {
                let around = page.find(number).map(|at| &page[at.saturating_sub(80)..at + 20]);
                assert_eq!(around, None, "{number} is on the page for {first:e} and {second:e}");
            }
        }
    }
}

#[test]
fn data_is_plain_json() {
    // Not compared field by field: the last bit of a float may differ.
    let json = serde_json::to_string(&small()).unwrap();
    let read: ReportData = serde_json::from_str(&json).unwrap();
    assert_eq!(text(&render(&read).unwrap()), text(&render(&small()).unwrap()));
    assert_eq!(serde_json::from_str::<ReportData>("{}").unwrap(), ReportData::default());
}

#[test]
fn an_error_names_the_chart() {
    let error = RenderError::Chart { title: "Reward".to_owned(), reason: "no room".to_owned() };
    expect![[r#"the chart "Reward" cannot be drawn: no room"#]].assert_eq(&error.to_string());
}
