//! `toehold bench`: every part on the smallest sizes, rounds on demand, and what it refuses.

use std::io::Write as _;
use std::process::Stdio;

use expect_test::{Expect, expect};

use crate::place::Place;

const SMALL: &str = "--model model --groups 2 --group 2 --prefix 3 --completion 2 --rounds 2 --threads 1";

#[track_caller]
fn refused(arguments: &str, expected: Expect) {
    let place = Place::with_files();
    place.write("far.jsonl", r#"{"prompt": [1, 320]}"#);
    place.write("none.jsonl", "\n");
    place.write("hollow.jsonl", r#"{"prompt": []}"#);
    place.write("long.jsonl", format!(r#"{{"prompt": [1], "completions": [{:?}]}}"#, [2; 256]));
    place.write("key.jsonl", "{\"prompt\": [1]}\n{\"prompt\": [1], \"preffix\": [2]}");
    let ran = place.toehold(&format!("bench {arguments}"));
    expected.assert_eq(&ran.to_string());
    assert_eq!(ran.status, 1);
}

/// The names of an event's numbers, without what differs from one machine and run to the next.
fn shown(line: &str) -> String {
    let event: serde_json::Value = serde_json::from_str(line).unwrap();
    let words = ["event", "work", "sharing", "group", "prefix", "rounds", "sampled", "learnt", "computed"];
    let word = |word: &&str| event.get(*word).map(|value| format!("{word} {value}").replace('"', ""));
    for number in ["seconds", "tokens_per_second", "share_of_ceiling", "products_f32", "bandwidth"] {
        let is_above_0 = |value: &serde_json::Value| value.as_f64().is_some_and(|value| value > 0.0);
        assert!(event.get(number).is_none_or(is_above_0), "{number} in {line}");
    }
    words.iter().filter_map(word).collect::<Vec<_>>().join(", ")
}

#[test]
fn every_part_is_measured() {
    let ran = Place::with_files().toehold(&format!("bench {SMALL} --json")).succeeded();
    let lines: Vec<String> = ran.stdout.lines().map(shown).collect();
    expect![[r#"
        event bench, rounds 2
        event ceilings
        event measured, work sampling, sharing separate, group 2, prefix 3, rounds 2, sampled 8, learnt 0, computed 0
        event measured, work sampling, sharing shared, group 2, prefix 3, rounds 2, sampled 8, learnt 0, computed 0
        event measured, work learning, sharing separate, group 2, prefix 3, rounds 2, sampled 0, learnt 20, computed 20
        event measured, work learning, sharing shared, group 2, prefix 3, rounds 2, sampled 0, learnt 20, computed 14
        event measured, work step, sharing separate, group 2, prefix 3, rounds 2, sampled 8, learnt 20, computed 20
        event measured, work step, sharing shared, group 2, prefix 3, rounds 2, sampled 8, learnt 20, computed 14
        event grown, work step, sharing separate, group 2, prefix 3, rounds 2, sampled 8, learnt 20, computed 20
        event grown, work step, sharing separate, group 2, prefix 12, rounds 2, sampled 8, learnt 56, computed 56
        event grown, work step, sharing shared, group 2, prefix 3, rounds 2, sampled 8, learnt 20, computed 14
        event grown, work step, sharing shared, group 2, prefix 12, rounds 2, sampled 8, learnt 56, computed 32
        event grown, work step, sharing separate, group 1, prefix 3, rounds 2, sampled 4, learnt 10, computed 10
        event grown, work step, sharing separate, group 2, prefix 3, rounds 2, sampled 8, learnt 20, computed 20
        event grown, work step, sharing separate, group 4, prefix 3, rounds 2, sampled 16, learnt 40, computed 40
        event grown, work step, sharing separate, group 8, prefix 3, rounds 2, sampled 32, learnt 80, computed 80
        event grown, work step, sharing separate, group 16, prefix 3, rounds 2, sampled 64, learnt 160, computed 160
        event grown, work step, sharing shared, group 1, prefix 3, rounds 2, sampled 4, learnt 10, computed 10
        event grown, work step, sharing shared, group 2, prefix 3, rounds 2, sampled 8, learnt 20, computed 14
        event grown, work step, sharing shared, group 4, prefix 3, rounds 2, sampled 16, learnt 40, computed 22
        event grown, work step, sharing shared, group 8, prefix 3, rounds 2, sampled 32, learnt 80, computed 38
        event grown, work step, sharing shared, group 16, prefix 3, rounds 2, sampled 64, learnt 160, computed 70"#]]
    .assert_eq(&lines.join("\n"));
}

#[test]
fn a_person_gets_tables() {
    let place = Place::with_files();
    let ran = place.toehold(&format!("bench {SMALL} --only learning,growth --sharing on")).succeeded();
    let heads = ran.stdout.lines().filter(|line| line.contains("tokens") || line.contains("growth"));
    let heads: Vec<&str> = heads.map(str::trim_end).collect();
    assert_eq!(heads.len(), 6, "{ran}");
    assert!(heads[0] == "learning, 2 × 2, 3 + 2 tokens" && heads[5].contains("tokens times"), "{ran}");
    assert!(ran.stderr.starts_with("model (width 32"), "{ran}");
}

#[test]
fn one_round_for_every_line() {
    let place = Place::with_files();
    place.write("tokens.jsonl", "{\"prompt\": [1, 2], \"completions\": [[3], [4, 5]]}\n{\"prompt\": [7]}\n");
    let only = "--only learning --sharing on --tokens tokens.jsonl --group 1 --completion 4";
    let mut command = place.command(&format!("bench --model model {only} --rounds-from-stdin --json"));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"go\n\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let lines: Vec<String> = std::str::from_utf8(&output.stdout).unwrap().lines().map(shown).collect();
    expect![[r#"
        event ready, work learning, sharing shared
        event round, sampled 0, learnt 12, computed 10
        event round, sampled 0, learnt 12, computed 10"#]]
    .assert_eq(&lines.join("\n"));
}

#[test]
fn what_makes_no_sense() {
    for name in ["groups", "group", "prefix", "completion", "rounds", "threads"] {
        let ran = Place::new().toehold(&format!("bench --{name} 0"));
        assert_eq!((ran.status, ran.stderr), (1, format!("error: --{name} is 0, expected at least 1\n")));
    }
    refused(
        "--prefix 5000",
        expect![[r#"
        status 1
        error: a prefix of 5000 tokens and a completion of 64 do not fit into the model's 4096 positions
    "#]],
    );
    refused(
        "--model model --prefix 255",
        expect![[r#"
        status 1
        error: a prefix of 255 tokens and a completion of 64 do not fit into the model's 256 positions
    "#]],
    );
    refused(
        "--model nowhere",
        expect![[r#"
        status 1
        error: the model folder nowhere is not there
    "#]],
    );
    refused(
        "--tokens nowhere.jsonl",
        expect![[r#"
        status 1
        error: cannot read nowhere.jsonl: No such file or directory (os error 2)
    "#]],
    );
    for name in ["far", "none", "hollow", "long", "key"] {
        let expected = match name {
            "far" => expect![[r#"
                status 1
                error: far.jsonl:1: token 320 is outside the model's vocabulary of 320 tokens
            "#]],
            "none" => expect![[r#"
                status 1
                error: none.jsonl has no line, expected at least one start such as {"prompt": [1, 2]}
            "#]],
            "hollow" => expect![[r#"
                status 1
                error: hollow.jsonl:1: the prompt or a completion is empty, expected at least 1 token
            "#]],
            "long" => expect![[r#"
                status 1
                error: long.jsonl:1: a prefix of 1 tokens and a completion of 256 do not fit into the model's 256 positions
            "#]],
            _ => expect![[r#"
                status 1
                error: key.jsonl:2: no start, at column 25: unknown field `preffix`, expected one of `prompt`, `prefix`, `completions`
            "#]],
        };
        refused(&format!("--model model --tokens {name}.jsonl"), expected);
    }
    refused(
        "--rounds-from-stdin --only step --sharing on",
        expect![[r#"
        status 1
        error: --rounds-from-stdin prints its rounds as JSON
        hint: add --json
    "#]],
    );
    refused(
        "--rounds-from-stdin --json --sharing on",
        expect![[r#"
        status 1
        error: --rounds-from-stdin runs one part
        hint: add --only sampling, --only learning or --only step
    "#]],
    );
    refused(
        "--rounds-from-stdin --json --only step",
        expect![[r#"
        status 1
        error: --rounds-from-stdin runs one part in one way
        hint: add --sharing on or --sharing off
    "#]],
    );
    for arguments in ["bench --only samplin", "bench --shape m", "bench --tokens a --groups 3", "bench --dtype f64"] {
        assert_eq!(Place::new().toehold(arguments).status, 2, "{arguments}");
    }
}
