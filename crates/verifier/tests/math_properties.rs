//! What holds for every answer: it equals itself, however it is spaced or spelled, in both directions.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write;

use toehold_verifier::math::{Finding, Form, Gold, Options, Pair, Row, compare, verify_batch};

fn rows() -> Vec<Row> {
    let lines = include_str!("data/cases.jsonl").lines().chain(include_str!("data/rules.jsonl").lines());
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Every answer of the tables that is given bare.
fn answers() -> Vec<String> {
    let mut answers: Vec<String> = Vec::new();
    for row in rows() {
        if row.options.is_none_or(|options| options.choices.is_none()) {
            if row.gold_form == Form::Bare {
                answers.push(row.gold);
            }
            if row.prediction_form == Form::Bare {
                answers.push(row.prediction);
            }
        }
    }
    answers.sort();
    answers.dedup();
    answers
}

/// Every gold must equal each of its changed spellings.
#[track_caller]
fn invariant(change: impl Fn(&str) -> String) {
    let options = Options::default();
    let mut shown = String::new();
    let mut compared = 0;
    for answer in answers() {
        let Ok(gold) = Gold::read(&answer, Form::Bare, &options) else { continue };
        let changed = change(&answer);
        let found = compare(&gold, &changed, Form::Bare, &options);
        compared += 1;
        if found.finding != Finding::Equal {
            writeln!(shown, "{answer:.120} and {changed:.120}: {}", found.finding).unwrap();
        }
    }
    assert!(compared > 500, "{compared} answers");
    assert_eq!(shown, "");
}

#[test]
fn an_answer_equals_itself() {
    invariant(str::to_owned);
}

#[test]
fn surroundings_say_nothing() {
    invariant(|answer| format!("  {answer} "));
    invariant(|answer| format!("\\boxed{{{answer}}}"));
    invariant(|answer| if answer.contains('$') { answer.to_owned() } else { format!("${answer}$") });
}

#[test]
fn spelling_says_nothing() {
    invariant(|answer| answer.replace("\\frac", "\\dfrac"));
    invariant(|answer| answer.replace("\\left", "").replace("\\right", ""));
    invariant(|answer| answer.replace("\\le ", "\\leq ").replace("\\ge ", "\\geq ").replace("\\ne ", "\\neq "));
    invariant(|answer| answer.replace("\\cup", " \\cup ").replace("\\pi", "\\pi "));
    invariant(|answer| answer.replace("\\cdot", "\\times"));
    invariant(|answer| answer.replace("\\infty", "{\\infty}"));
    invariant(|answer| answer.replace('-', "−"));
    invariant(|answer| answer.replace('+', " + "));
    let compound = ["!=", "<=", ">=", "=="];
    invariant(|answer| {
        if compound.iter().any(|sign| answer.contains(sign)) { answer.to_owned() } else { answer.replace('=', " = ") }
    });
}

#[test]
fn a_boxed_answer_is_found_in_a_text() {
    let options = Options { strict_boxed: true, ..Options::default() };
    let mut shown = String::new();
    for answer in answers() {
        let Ok(gold) = Gold::read(&answer, Form::Bare, &options) else { continue };
        let balanced = answer.matches('{').count() == answer.matches('}').count() && !answer.contains("boxed");
        if !balanced || answer.len() > 8000 || answer.contains("<|") {
            continue;
        }
        let text =
            format!("<think>\\boxed{{0}} or so</think>\nWe get\n\\[ \\boxed{{{answer}}} \\]\nwhich was to be shown.");
        let found = compare(&gold, &text, Form::Text, &options);
        if found.finding != Finding::Equal {
            writeln!(shown, "{answer:.120}: {} {:?}", found.finding, found.extracted).unwrap();
        }
    }
    assert_eq!(shown, "");
}

/// Numbers, expressions, lists, sets and tuples compare alike in both directions. Declared exceptions:
/// relations (a gold relation is solved, a predicted one is not), percent and unit signs with one side
/// bare, bases that a prediction leaves out, commas and letters that the gold's shape decides.
#[test]
fn equality_has_no_direction() {
    let options = Options::default();
    let mut shown = String::new();
    let mut compared = 0;
    let plain = |text: &str| {
        !text.contains(['=', '<', '>', '_', '≤', '≥', '\''])
            && !["\\le", "\\ge", "\\in", "\\ne", "mid", "\\approx", "log"].iter().any(|sign| text.contains(sign))
    };
    for row in rows() {
        if row.gold_form != Form::Bare || row.prediction_form != Form::Bare || row.options.is_some() {
            continue;
        }
        if !plain(&row.gold) || !plain(&row.prediction) {
            continue;
        }
        let (Ok(gold), Ok(prediction)) =
            (Gold::read(&row.gold, Form::Bare, &options), Gold::read(&row.prediction, Form::Bare, &options))
        else {
            continue;
        };
        compared += 1;
        let there = compare(&gold, &row.prediction, Form::Bare, &options).finding.is_equal();
        let back = compare(&prediction, &row.gold, Form::Bare, &options).finding.is_equal();
        if there != back {
            writeln!(shown, "{} and {}: {there}, {back}", row.gold, row.prediction).unwrap();
        }
    }
    assert!(compared > 250, "{compared} pairs");
    expect_test::expect![[r#"
        5 and 5 m/s: true, false
        150 \text{ m}^2 and 150 m^2: true, false
    "#]]
    .assert_eq(&shown);
}

#[test]
fn a_batch_is_what_its_pairs_are() {
    let options = Options::default();
    let rows: Vec<Row> = rows().into_iter().filter(|row| row.options.is_none()).collect();
    let golds: Vec<_> = rows.iter().map(|row| Gold::read(&row.gold, row.gold_form, &options)).collect();
    let pairs: Vec<Pair<'_>> = rows
        .iter()
        .zip(&golds)
        .filter_map(|(row, gold)| {
            let gold = gold.as_ref().ok()?;
            Some(Pair { gold, prediction: &row.prediction, form: row.prediction_form })
        })
        .collect();
    let batch = verify_batch(&pairs, &options);
    assert_eq!(batch.len(), pairs.len());
    for (pair, found) in pairs.iter().zip(batch) {
        assert_eq!(compare(pair.gold, pair.prediction, pair.form, &options), found);
    }
    assert!(verify_batch(&[], &options).is_empty());
}
