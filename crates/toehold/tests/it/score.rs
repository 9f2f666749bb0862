//! `toehold score` beside what transformers computed, on folders of every family.

use std::fs;

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use crate::place::Place;

/// A line's log-probabilities or entropies.
fn numbers(line: &Value, name: &str) -> Vec<f64> {
    line[name].as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn expected(place: &Place) -> Value {
    serde_json::from_str(&place.read("model/expected.json")).unwrap()
}

/// Log-probabilities of each token after the first, and entropies, by transformers' logits:
/// `[tokens, 63]` in f32, in a safetensors file.
fn golden(place: &Place, tokens: &[Value]) -> (Vec<f64>, Vec<f64>) {
    let bytes = fs::read(place.path("model/expected.safetensors")).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let index: Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
    assert_eq!(index["logits"]["shape"], json!([tokens.len(), 63]));
    let offsets = index["logits"]["data_offsets"].as_array().unwrap();
    let at = |place: usize| 8 + header + offsets[place].as_u64().unwrap() as usize;
    let logits: Vec<f64> = bytes[at(0)..at(1)]
        .chunks_exact(4)
        .map(|number| f64::from(f32::from_le_bytes(number.try_into().unwrap())))
        .collect();
    let rows = logits.chunks_exact(63).zip(&tokens[1..]);
    rows.map(|(row, token)| {
        let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let log_sum = most + row.iter().map(|logit| (logit - most).exp()).sum::<f64>().ln();
        let entropy = row.iter().map(|logit| (log_sum - logit) * (logit - log_sum).exp()).sum::<f64>();
        (row[token.as_u64().unwrap() as usize] - log_sum, entropy)
    })
    .unzip()
}

#[track_caller]
fn assert_close(ours: &[f64], theirs: &[f64], what: &str) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    let most = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(most < 1e-4, "{what}: {most}");
}

/// The same tokens whole, and cut into prompt, prefix and completion at every third place.
#[track_caller]
fn check(name: &str) {
    let place = Place::with_model(name);
    let tokens = expected(&place)["tokens"].as_array().unwrap().clone();
    let (logprobs, entropies) = golden(&place, &tokens);
    let mut text = json!({"tokens": tokens}).to_string() + "\n";
    for cut in (1..tokens.len()).step_by(3) {
        let (given, completion) = tokens.split_at(cut);
        let (prompt, prefix) = given.split_at(cut.div_ceil(2));
        text += &(json!({"prompt": prompt, "prefix": prefix, "completion": completion}).to_string() + "\n");
    }
    place.write("lines.jsonl", text);
    let ran = place.toehold("score model lines.jsonl --quiet").succeeded();
    let found = lines(&ran.stdout);
    assert_eq!(found.len(), 14);
    for line in &found {
        let scored = numbers(line, "logprobs").len();
        let from = logprobs.len() - scored;
        assert_close(&numbers(line, "logprobs"), &logprobs[from..], name);
        assert_close(&numbers(line, "entropies"), &entropies[from..], name);
    }
}

#[test]
fn every_family_scores_as_transformers() {
    for name in ["llama-llama3", "mistral-yarn", "qwen2-default", "qwen3-linear", "smollm2-yarn"] {
        check(name);
    }
}

#[test]
fn what_comes_back() {
    let place = Place::with_model("qwen2-default");
    place.write(
        "lines.jsonl",
        r#"{"id": 7, "prompt": "1+1=", "completion": "2"}

{"prompt": [3, 45], "prefix": [3], "completion": [], "prefix_ids": null}
{"tokens": [4]}
{"prompt": "ignored", "prompt_ids": [3, 52, 3, 56], "completion": "2", "logprobs": [-1.5], "difference": 9}
"#,
    );
    // What a number is, transformers says above; here, which there are.
    let ran = place.toehold("score model lines.jsonl --json").succeeded();
    let mut found = lines(&ran.stdout);
    let first = numbers(&found[0], "logprobs");
    let differs = found[3]["difference"].as_f64().unwrap();
    assert!((differs - (first[0] + 1.5).abs()).abs() < 1e-6, "{differs}");
    for line in &mut found {
        for name in ["logprobs", "entropies"] {
            line[name] = numbers(line, name).len().into();
        }
        if line.get("difference").is_some() {
            line["difference"] = "told".into();
        }
    }
    let text: Vec<String> = found.iter().map(Value::to_string).collect();
    expect![[r#"
            {"completion":"2","completion_ids":[4],"entropies":1,"id":7,"logprobs":1,"prefix_ids":[],"prompt":"1+1=","prompt_ids":[3,52,3,56]}
            {"completion":[],"completion_ids":[],"entropies":0,"logprobs":0,"prefix":[3],"prefix_ids":[3],"prompt":[3,45],"prompt_ids":[3,45]}
            {"entropies":0,"logprobs":0,"tokens":[4]}
            {"completion":"2","completion_ids":[4],"difference":"told","entropies":1,"logprobs":1,"prefix_ids":[],"prompt":"ignored","prompt_ids":[3,52,3,56]}
        "#]].assert_eq(&(text.join("\n") + "\n"));
}

#[test]
fn batches_change_nothing_and_lines_may_be_piped() {
    let place = Place::with_model("llama-default");
    let tokens = expected(&place)["tokens"].clone();
    let text: String =
        (0..5).map(|cut| format!("{}\n", json!({"prompt": [tokens[0], cut], "completion": tokens}))).collect();
    place.write("lines.jsonl", text);
    let whole = place.toehold("score model lines.jsonl").succeeded();
    let single = place.shell("toehold score model --batch 1 --threads 1 < lines.jsonl").succeeded();
    let (whole, single) = (lines(&whole.stdout), lines(&single.stdout));
    assert_eq!((whole.len(), single.len()), (5, 5));
    for (a, b) in whole.iter().zip(&single) {
        assert_eq!(a["prompt_ids"], b["prompt_ids"]);
        assert_close(&numbers(a, "logprobs"), &numbers(b, "logprobs"), "a batch");
    }
}

/// Three lines of which the second is bad: the first is printed, and one sentence names the second.
#[track_caller]
fn refused(line: &str, expected: Expect) {
    let place = Place::with_model("qwen2-default");
    place.write("lines.jsonl", format!("{{\"tokens\": [4, 5]}}\n{line}\n{{\"tokens\": [4, 5]}}\n"));
    let ran = place.toehold("score model lines.jsonl");
    assert_eq!((ran.status, ran.stdout.lines().count()), (1, 1), "{ran}");
    expected.assert_eq(&ran.stderr);
}

#[test]
fn bad_lines() {
    refused(
        "{",
        expect![[r#"
            error: lines.jsonl:2: broken JSON at column 1: EOF while parsing an object
        "#]],
    );
    refused(
        "[4, 5]",
        expect![[r#"
            error: lines.jsonl:2: expected an object, found [4,5]
        "#]],
    );
    refused(
        r#"{"tokens": [4, 63]}"#,
        expect![[r#"
            error: lines.jsonl:2: `tokens` has token 63 at place 1 (from 0), but the model's vocabulary has 63 tokens
        "#]],
    );
    refused(
        r#"{"tokens": [4, -5]}"#,
        expect![[r#"
            error: lines.jsonl:2: `tokens` has -5 at place 1 (from 0), expected the id of a token
        "#]],
    );
    refused(
        r#"{"tokens": "45"}"#,
        expect![[r#"
            error: lines.jsonl:2: `tokens` is "45", expected an array of token ids
        "#]],
    );
    refused(
        r#"{"tokens": []}"#,
        expect![[r#"
            error: lines.jsonl:2: `tokens` has no token, expected at least one before what is scored
        "#]],
    );
    refused(
        r#"{"tokens": [4, 5], "completion": [6]}"#,
        expect![[r#"
            error: lines.jsonl:2: found `tokens` and `completion`, expected one of them
        "#]],
    );
    refused(
        r#"{"prompt": "1"}"#,
        expect![[r#"
            error: lines.jsonl:2: missing `completion`
            hint: or give all ids as `tokens`
        "#]],
    );
    refused(
        r#"{"prompt": "", "completion": "1"}"#,
        expect![[r#"
            error: lines.jsonl:2: `prompt` has no token, expected at least one before what is scored
        "#]],
    );
    refused(
        r#"{"prompt": 1, "completion": "1"}"#,
        expect![[r#"
            error: lines.jsonl:2: `prompt` is 1, expected text or an array of token ids
        "#]],
    );
    refused(
        r#"{"tokens": [4, 5], "logprobs": [-1, -2]}"#,
        expect![[r#"
            error: lines.jsonl:2: `logprobs` has 2 numbers, expected 1
        "#]],
    );
    refused(
        r#"{"tokens": [4, 5], "logprobs": [null]}"#,
        expect![[r#"
            error: lines.jsonl:2: `logprobs` is no array of numbers
        "#]],
    );
    refused(
        &format!("{{\"tokens\": {:?}}}", [4; 129]),
        expect![[r#"
            error: lines.jsonl:2: it has 129 tokens, but the model has 128 positions
        "#]],
    );
    refused(
        &"[".repeat(100_000),
        expect![[r#"
            error: lines.jsonl:2: broken JSON at column 128: recursion limit exceeded
        "#]],
    );
    let place = Place::with_model("qwen2-default");
    place.write("lines.jsonl", "");
    expect![[r#"
            status 1
            error: cannot open nothing.jsonl: No such file or directory (os error 2)
        "#]]
    .assert_eq(&place.toehold("score model nothing.jsonl").to_string());
    expect![[r#"
            status 1
            error: cannot read nothing/config.json: No such file or directory (os error 2)
        "#]]
    .assert_eq(&place.toehold("score nothing lines.jsonl").to_string());
}
