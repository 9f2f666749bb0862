//! `toehold generate` beside transformers' greedy tokens, and what a seed fixes.

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use crate::place::Place;

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The greedy tokens of transformers after a prompt, and after a prompt whose end is a prefix.
#[track_caller]
fn check(name: &str) {
    let place = Place::with_model(name);
    let expected: Value = serde_json::from_str(&place.read("model/expected.json")).unwrap();
    let (prompt, greedy) = (expected["prompt"].as_array().unwrap(), expected["greedy"].as_array().unwrap());
    let (begin, end) = prompt.split_at(3);
    let text = format!("{}\n{}\n", json!({"prompt": prompt}), json!({"prompt": begin, "prefix": end}));
    place.write("lines.jsonl", text);
    let command = format!("generate model lines.jsonl --greedy --max-tokens {} --json", greedy.len());
    let found = lines(&place.toehold(&command).succeeded().stdout);
    assert_eq!(found.len(), 2);
    for line in found {
        assert_eq!(line["completion_ids"].as_array().unwrap(), greedy, "{name}");
        assert_eq!([&line["stop"], &line["index"]], [&json!("length"), &json!(0)]);
    }
}

#[test]
fn every_family_is_as_greedy_as_transformers() {
    for name in ["llama-default", "mistral-linear", "qwen2-yarn", "qwen3-default", "smollm2-linear"] {
        check(name);
    }
}

/// What a command prints for people.
#[track_caller]
fn printed(command: &str, expected: Expect) {
    let place = Place::with_model("qwen2-default");
    place.write("lines.jsonl", "{\"prompt\": \"1+1=\"}\n\n{\"prompt\": [3, 45], \"prefix\": \"2-\"}\n");
    expected.assert_eq(&place.toehold(command).succeeded().stdout);
}

#[test]
fn for_people() {
    printed(
        "generate model --prompt 1+1= --prefix 2- --greedy --max-tokens 5",
        expect![[r#"
            1+1=
            ⟦2-⟧ A1<unk>M1
        "#]],
    );
    printed(
        "generate model lines.jsonl -n 2 --seed 3 --max-tokens 5 --top-k 20 --top-p 0.9",
        expect![[r#"
            lines.jsonl:1, completion 1 of 2: 5 tokens, ended by length
            1+1=
             <unk>A<unk>wA

            lines.jsonl:1, completion 2 of 2: 5 tokens, ended by length
            1+1=
             6GMlq

            lines.jsonl:3, completion 1 of 2: 5 tokens, ended by length
            1H
            ⟦2-⟧ Ab(.1

            lines.jsonl:3, completion 2 of 2: 5 tokens, ended by length
            1H
            ⟦2-⟧ A1K0A

        "#]],
    );
}

#[test]
fn a_seed_gives_the_same_text_whatever_the_batch() {
    let place = Place::with_model("qwen3-yarn");
    let text: String = (2..9).map(|id| format!("{}\n", json!({"prompt": [3, id], "prefix": "4"}))).collect();
    place.write("lines.jsonl", &text);
    place.write("one.jsonl", text.lines().nth(4).unwrap());
    let ids = |command: &str| -> Vec<Value> {
        let found = lines(&place.toehold(command).succeeded().stdout);
        found.iter().map(|line| line["completion_ids"].clone()).collect()
    };
    let whole = ids("generate model lines.jsonl --json -n 3 --max-tokens 12 --seed 5");
    assert_eq!(whole.len(), 21);
    assert!(whole[0] != whole[1] && whole[1] != whole[2], "{whole:?}");
    let small = "generate model lines.jsonl --json -n 3 --max-tokens 12 --seed 5 --batch 2 --threads 1";
    assert_eq!(ids(small), whole);
    assert_eq!(ids("generate model one.jsonl --json -n 3 --max-tokens 12 --seed 5"), whole[12..15]);
    assert!(ids("generate model one.jsonl --json -n 3 --max-tokens 12 --seed 6") != whole[12..15]);
}

#[test]
fn a_penalty_and_a_stop_change_what_is_written_and_are_told() {
    let place = Place::with_model("qwen3-default");
    let of = |more: &str| {
        lines(
            &place
                .shell(&format!("toehold generate model --prompt 1+1= -n 8 --max-tokens 40 --json {more}"))
                .succeeded()
                .stdout,
        )
    };
    let plain = of("");
    assert_eq!(of("--penalty 0 --switch 2,A"), plain);
    assert_eq!(of("--penalty 3 --penalty-window 0 --switch 2,A"), plain);
    let written = |found: &[Value], letter: char| {
        found.iter().map(|line| line["completion"].as_str().unwrap().matches(letter).count()).sum::<usize>()
    };
    let penalised = of("--penalty 100 --switch 2,A");
    assert!(written(&plain, 'A') > 0, "{plain:?}");
    assert_eq!((written(&penalised, 'A'), written(&penalised, '2')), (0, 0));
    // A completion is cut where the mean of its last four falls below: what comes before is the same.
    let stopped = of("--stop-below -4.5 --stop-window 4");
    let numbers = |line: &Value| -> Vec<f64> {
        line["logprobs"].as_array().unwrap().iter().map(|one| one.as_f64().unwrap()).collect()
    };
    let mut count = 0;
    for (plain, stopped) in plain.iter().zip(&stopped) {
        let (whole, found) = (numbers(plain), numbers(stopped));
        let end = (4..=whole.len()).find(|&end| whole[end - 4..end].iter().sum::<f64>() / 4.0 < -4.5);
        assert_eq!(found, whole[..end.unwrap_or(whole.len())]);
        assert_eq!(stopped["stop"] == "confidence", end.is_some_and(|_| stopped["stop"] != "end_of_text"));
        count += usize::from(end.is_some());
    }
    assert!(count > 0, "{stopped:?}");
}

#[test]
fn what_was_generated_can_be_scored() {
    let place = Place::with_model("smollm2-default");
    place.write("lines.jsonl", "{\"id\": \"a\", \"prompt\": \"1+1=\", \"prefix\": \"2\"}\n");
    let ran =
        place.shell("toehold generate model lines.jsonl --json -n 4 --max-tokens 20 | toehold score model --json");
    let found = lines(&ran.succeeded().stdout);
    assert_eq!(found.len(), 4);
    for line in found {
        // At temperature 1, what was drawn from is what is scored.
        assert!(line["difference"].as_f64().unwrap() < 1e-4, "{line}");
    }
}

#[track_caller]
fn refused(arguments: &str, expected: Expect) {
    let place = Place::with_model("qwen2-default");
    place.write("lines.jsonl", "{\"prompt\": \"1\"}\n{\"prefix\": \"1\"}\n{\"prompt\": \"2\"}\n");
    let ran = place.toehold(arguments);
    assert_eq!(ran.status, 1, "{ran}");
    expected.assert_eq(&ran.stderr);
}

#[test]
fn what_cannot_be_completed() {
    refused(
        "generate model lines.jsonl --greedy --max-tokens 1",
        expect![[r#"
            error: lines.jsonl:2: missing `prompt`
        "#]],
    );
    refused(
        "generate model --prompt 1 --max-tokens 128",
        expect![[r#"
            error: --prompt: it needs 1 + 128 positions (given + new), but the model has 128
        "#]],
    );
    refused(
        "generate model --prompt 1 --temperature NaN",
        expect![[r#"
            error: --temperature is NaN, expected a number of at least 0
        "#]],
    );
    refused(
        "generate model --prompt 1 --top-p 0",
        expect![[r#"
            error: --top-p is 0, expected above 0 and at most 1
        "#]],
    );
    refused(
        "generate model --prompt 1 --penalty -1",
        expect![[r#"
        error: --penalty is -1, expected at least 0 and at most 1e6
    "#]],
    );
    refused(
        "generate model --prompt 1 --penalty 3 --switch 日本",
        expect![[r#"
        error: the tokenizer has none of the words 日本
        hint: name others with --switch
    "#]],
    );
    refused(
        "generate model --prompt 1 --stop-below -1 --stop-window 0",
        expect![[r#"
        error: --stop-window is 0, expected at least 1
    "#]],
    );
    refused(
        "generate nothing --prompt 1",
        expect![[r#"
            error: cannot read nothing/config.json: No such file or directory (os error 2)
        "#]],
    );
    let place = Place::with_model("qwen2-default");
    let ran = place.toehold("generate model lines.jsonl --prompt 1");
    assert_eq!((ran.status, ran.stdout.as_str()), (2, ""), "{ran}");
}
