//! Traces that others sampled: every format, twice, and what is left out.

use expect_test::{Expect, expect};
use toehold::rollout::store::{StartFilter, TraceFilter};
use toehold::rollout::{Store, TokenizerFile};

use crate::place::Place;

/// What verl dumps: the prompt decoded after its template.
const VERL: &str = r#"{"input": "user\n1 + 1\nassistant\n", "output": "It is \\boxed{2}", "gts": "2", "score": 1.0, "step": 3, "acc": 1.0, "request_id": "a"}
{"input": "user\n1 + 1\nassistant\n", "output": "It is \\boxed{2}", "gts": "2", "score": 1.0, "step": 3, "acc": 1.0, "request_id": "b"}
{"input": "user\n1 + 1\nassistant\n", "output": "I do not know", "gts": "2", "score": -1.0, "step": 3, "acc": 0.0, "request_id": "c"}
{"input": "user\n2 + 3\nassistant\n", "output": "\\boxed{6}", "gts": "5", "score": 1.0, "step": 3, "acc": 1.0, "request_id": "d"}
{"input": "user\n2 + 3\nassistant\n", "output": "\\boxed{5}", "gts": "7", "score": 0.0, "step": 3, "acc": 0.0, "request_id": "e"}
{"input": "user\n12 + 3\nassistant\n", "output": "\\boxed{15}", "gts": "15", "score": 1.0, "step": 3, "acc": 1.0, "request_id": "f"}
{"input": "user\n3 + 3\nassistant\n", "output": "\\boxed{6}", "gts": "6", "score": 1.0, "step": 3, "acc": 1.0, "request_id": "g"}
{"input": "user\n1 + 1\nassistant\n", "output": "", "gts": "2", "score": 0.0, "step": 3, "acc": 0.0, "request_id": "h"}
"#;

/// Imports `text` as a file of this name, and says what was printed and what the store has.
#[track_caller]
fn check(name: &str, text: impl AsRef<[u8]>, flags: &str, expected: Expect) {
    let place = Place::with_files();
    place.write(name, text);
    let ran = place.toehold(&format!("import {name} --into recipe.toml {flags}"));
    expected.assert_eq(&format!("{ran}{}", kept(&place)));
}

fn kept(place: &Place) -> String {
    let Ok(store) = Store::open_read_only(place.path("runs/r/traces.db")) else { return "no store\n".to_owned() };
    let tokenizer = TokenizerFile::open(&place.path("model")).unwrap();
    let policies = store.policies().unwrap();
    let mut text = String::new();
    for stored in store.traces(&TraceFilter::default()).unwrap() {
        let policy = policies.iter().find(|policy| policy.version == stored.key.policy).unwrap();
        let completion = &stored.trace.completion;
        text += &format!(
            "{} {} {:?} {:?} {} {} ({}) index {}, {} known\n",
            policy.model,
            stored.problem,
            tokenizer.decode_raw(&stored.trace.prefix),
            tokenizer.decode_raw(&completion.tokens),
            completion.stop.as_str(),
            stored.verdict.outcome,
            stored.verifier_version,
            stored.key.index,
            completion.behavior.iter().filter(|logprob| logprob.is_finite()).count(),
        );
    }
    text
}

#[test]
fn what_verl_dumped() {
    check(
        "3.jsonl",
        VERL,
        "",
        expect![[r#"
        status 0
        1 of the new traces have a reward that the verifier disagrees with; the files' verdicts were kept
        kept in runs/r/traces.db
        stdout:
        traces                              count
        ─────────────────────────────────────────
        read                                    8
        new                                     3
          of them correct                       2
        there already                           1
        left out: no problem of this run        1
        left out: problem is held out           1
        left out: another reference answer      1
        left out: no completion                 1
        foreign: verl sum-1 "" "It is \\boxed{2}<|endoftext|>" end_of_text correct (foreign) index 0, 0 known
        foreign: verl sum-1 "" "I do not know" length no_answer (foreign) index 1, 0 known
        foreign: verl sum-2 "" "\\boxed{6}<|endoftext|>" end_of_text correct (foreign) index 0, 0 known
    "#]],
    );
}

#[test]
fn the_verifier_has_the_last_word_if_asked() {
    check(
        "3.jsonl",
        VERL,
        "--grade --policy qwen-7b",
        expect![[r#"
        status 0
        1 of the new traces have a reward that the verifier disagrees with; the verifier's verdicts were kept
        kept in runs/r/traces.db
        stdout:
        traces                              count
        ─────────────────────────────────────────
        read                                    8
        new                                     3
          of them correct                       1
        there already                           1
        left out: no problem of this run        1
        left out: problem is held out           1
        left out: another reference answer      1
        left out: no completion                 1
        foreign: qwen-7b sum-1 "" "It is \\boxed{2}<|endoftext|>" end_of_text correct (2) index 0, 0 known
        foreign: qwen-7b sum-1 "" "I do not know" length no_answer (2) index 1, 0 known
        foreign: qwen-7b sum-2 "" "\\boxed{6}<|endoftext|>" end_of_text wrong (2) index 0, 0 known
    "#]],
    );
}

#[test]
fn what_trl_wrote() {
    check(
        "c.parquet",
        include_bytes!("../data/trl-completions.parquet"),
        "",
        expect![[r#"
        status 0
        kept in runs/r/traces.db
        stdout:
        traces                            count
        ───────────────────────────────────────
        read                                  5
        new                                   3
          of them correct                     2
        there already                         1
        left out: no problem of this run      1
        foreign: trl sum-1 "" "It is \\boxed{2}<|endoftext|>" end_of_text correct (foreign) index 0, 0 known
        foreign: trl sum-1 "" "It is \\boxed{3}<|endoftext|>" end_of_text wrong (foreign) index 1, 0 known
        foreign: trl sum-2 "" "\\boxed{5}<|endoftext|>" end_of_text correct (foreign) index 0, 0 known
    "#]],
    );
    check(
        "c.parquet",
        include_bytes!("../data/trl-messages.parquet"),
        "--format trl",
        expect![[r#"
        status 0
        kept in runs/r/traces.db
        stdout:
        traces                            count
        ───────────────────────────────────────
        read                                  5
        new                                   3
          of them correct                     2
        there already                         1
        left out: no problem of this run      1
        foreign: trl sum-1 "" "It is \\boxed{2}<|endoftext|>" end_of_text correct (foreign) index 0, 0 known
        foreign: trl sum-1 "" "It is \\boxed{3}<|endoftext|>" end_of_text wrong (foreign) index 1, 0 known
        foreign: trl sum-2 "" "\\boxed{5}<|endoftext|>" end_of_text correct (foreign) index 0, 0 known
    "#]],
    );
}

#[test]
fn what_verifiers_wrote() {
    let lines = r#"{"id": "e1", "env": {"id": "sums"}, "task": {"type": "Sum", "data": {"idx": 0, "prompt": "1 + 1", "answer": "2"}}, "ok": true, "traces": [{"id": "t1", "task": {"type": "Sum", "data": {"idx": 0, "prompt": "1 + 1", "answer": "2"}}, "agent": {"config": {"model": "some/model"}}, "nodes": [{"message": {"role": "user", "content": "1 + 1"}, "sampled": false}, {"parent": 0, "message": {"role": "assistant", "content": "\\boxed{2}"}, "sampled": true}], "rewards": {"right": {"score": 1.0, "weight": 0.5}, "short": {"score": 1.0, "weight": 0.1}}}, {"id": "t2", "task": {"type": "Sum", "data": {"prompt": "1 + 1"}}, "agent": {"config": {}}, "nodes": [{"message": {"role": "user", "content": "1 + 1"}}, {"message": {"role": "assistant", "content": "x"}, "sampled": true}, {"message": {"role": "tool", "content": "y"}}, {"message": {"role": "assistant", "content": "z"}, "sampled": true}], "rewards": {}}]}
{"id": "e2", "task": {"type": "Sum", "data": {"idx": 1, "prompt": "2 + 3"}}, "traces": [{"id": "t3", "task": {"type": "Sum", "data": {"idx": 1, "prompt": [{"role": "user", "content": "2 + 3"}]}}, "agent": {"config": {"model": "some/model"}}, "nodes": [{"message": {"role": "user", "content": "2 + 3"}, "token_ids": [1, 2], "mask": [false, false]}, {"message": {"role": "assistant", "content": "5"}, "sampled": true, "token_ids": [9, 21, 0], "mask": [false, true, true]}], "rewards": {"right": null}, "stop_condition": "done"}]}
"#;
    check(
        "traces.jsonl",
        lines,
        "",
        expect![[r#"
        status 0
        1 came without a reward that is known to be one and were judged by the verifier
        kept in runs/r/traces.db
        stdout:
        traces                            count
        ───────────────────────────────────────
        read                                  3
        new                                   2
          of them correct                     1
        there already                         0
        left out: several turns or tools      1
        foreign: some/model sum-1 "" "\\boxed{2}<|endoftext|>" end_of_text correct (foreign) index 0, 0 known
        foreign: some/model sum-2 "" "5<|endoftext|>" end_of_text no_answer (2) index 0, 0 known
    "#]],
    );
    let results = r#"{"example_id": 0, "prompt": [{"role": "user", "content": "1 + 1"}], "completion": [{"role": "assistant", "content": "\\boxed{2}"}], "answer": "2", "reward": 1.0, "task": "sums"}
{"example_id": 1, "prompt": [{"role": "user", "content": "2 + 3"}], "completion": [{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}, {"role": "assistant", "content": "c"}], "answer": "5", "reward": 0.0, "task": "sums"}
"#;
    check(
        "results.jsonl",
        results,
        "",
        expect![[r#"
        status 0
        kept in runs/r/traces.db
        stdout:
        traces                            count
        ───────────────────────────────────────
        read                                  2
        new                                   1
          of them correct                     1
        there already                         0
        left out: several turns or tools      1
        foreign: verifiers sum-1 "" "\\boxed{2}<|endoftext|>" end_of_text correct (foreign) index 0, 0 known
    "#]],
    );
}

#[test]
fn plain_lines_with_tokens_or_text() {
    let lines = r#"{"problem_id": "sum-1", "completion_ids": [17, 18, 0], "logprobs": [-0.5, -0.25, -0.125], "temperature": 0.5, "reward": 0}
{"problem_id": "sum-1", "completion_ids": [17, 18], "finish_reason": "length", "policy": "other"}
{"problem_id": "sum-1", "prompt_ids": [1], "completion_ids": [17, 18, 0], "logprobs": [-0.5, -0.25, -0.125], "policy": "other"}
{"problem_id": "sum-1", "completion_ids": [17, 900, 0]}
{"question": "2  +\n3", "prefix": "Well, ", "completion": "it is \\boxed{5}", "correct": true}
{"problem": "2 + 3", "completion": "it is \\boxed{5}<|endoftext|>"}
{"problem_id": "sum-1", "question": "2 + 3", "completion": "an id that the statement contradicts"}
{"problem_id": "sum-9", "completion": "nobody's"}
"#;
    check(
        "lines.jsonl",
        lines,
        "",
        expect![[r#"
        status 0
        4 came without a reward that is known to be one and were judged by the verifier
        1 had another prompt than the run's: their log-probabilities were not kept
        kept in runs/r/traces.db
        stdout:
        traces                                count
        ───────────────────────────────────────────
        read                                      8
        new                                       6
          of them correct                         2
        there already                             0
        left out: no problem of this run          1
        left out: token not in the tokenizer      1
        foreign: jsonl sum-1 "" "12<|endoftext|>" end_of_text no_answer (foreign) index 0, 3 known
        foreign: other sum-1 "" "12" length no_answer (2) index 0, 0 known
        foreign: other sum-1 "" "12<|endoftext|>" end_of_text no_answer (2) index 1, 0 known
        foreign: jsonl sum-2 "Well, " "it is \\boxed{5}<|endoftext|>" end_of_text correct (foreign) index 0, 0 known
        foreign: jsonl sum-2 "" "it is \\boxed{5}<|endoftext|>" end_of_text correct (2) index 0, 0 known
        foreign: jsonl sum-2 "" "an id that the statement contradicts" length no_answer (2) index 1, 0 known
    "#]],
    );
}

#[test]
fn bad_rows_end_it_with_what_came_before_kept() {
    check(
        "a.jsonl",
        "{\"problem_id\": \"sum-1\", \"completion\": \"2\"}\n{\"problem_id\": \"sum-1\", \"text\": \"2\"}\n",
        "",
        expect![[r#"
            status 1
            error: a.jsonl:2: missing `completion` or `completion_ids`
            hint: name the format (--format verl, trl or verifiers), or see docs/import.md for what a line may have
            foreign: jsonl sum-1 "" "2" length no_answer (2) index 0, 0 known
        "#]],
    );
    check(
        "a.jsonl",
        "{\"problem_id\": \"sum-1\", \"completion_ids\": [1, -1]}\n",
        "",
        expect![[r#"
        status 1
        error: a.jsonl:1: `completion_ids` is not a list of token ids
    "#]],
    );
    check(
        "a.jsonl",
        "{\"problem_id\": \"sum-1\", \"completion_ids\": [1], \"logprobs\": []}\n",
        "",
        expect![[r#"
        status 1
        error: a.jsonl:1: 0 log-probabilities, expected 1, one per completion token
    "#]],
    );
    check(
        "a.jsonl",
        "{\"output\": \"2\"\n",
        "",
        expect![[r#"
        status 1
        error: a.jsonl:1: broken JSON at column 14: EOF while parsing an object
        no store
    "#]],
    );
    check(
        "a.jsonl",
        "{\"input\": \"1 + 1\"}\n",
        "--format verl",
        expect![[r#"
        status 1
        error: a.jsonl:1: missing `output`
    "#]],
    );
    check(
        "a.parquet",
        "PAR1",
        "",
        expect![[r#"
        status 1
        error: a.parquet is not a Parquet file: EOF: Parquet file too small. Size is 4 but need 8
        no store
    "#]],
    );
    check(
        "a.jsonl",
        "",
        "",
        expect![[r#"
        status 1
        error: a.jsonl has no rows
        no store
    "#]],
    );
    check(
        "a.jsonl",
        "{\"question\": \"7 + 7\", \"completion\": \"2\"}\n",
        "",
        expect![[r#"
        status 0
        warning: nothing was imported from 1 files read as jsonl
        hint: name the format with --format, and see the reasons above
        kept in runs/r/traces.db
        stdout:
        traces                            count
        ───────────────────────────────────────
        read                                  1
        new                                   0
          of them correct                     0
        there already                         0
        left out: no problem of this run      1
    "#]],
    );
}

#[test]
fn a_column_of_rewards_that_is_not_there() {
    let row = r#"{"id": "sum-1", "completion": "\\boxed{2}", "mark": 1.0}"#;
    check(
        "mine.jsonl",
        row,
        "--reward marks",
        expect![[r#"
        status 1
        error: mine.jsonl:1: no column `marks`
        hint: there are `completion`, `id`, `mark`
    "#]],
    );
}

#[test]
fn a_folder_twice_changes_nothing() {
    let place = Place::with_files();
    std::fs::create_dir_all(place.path("dumps/deep")).unwrap();
    place.write("dumps/10.jsonl", VERL);
    place.write("dumps/2.jsonl", VERL.lines().next().unwrap());
    place.write("dumps/deep/notes.txt", "nothing");
    let first = place.toehold("--json import dumps --into recipe.toml").succeeded();
    let before = kept(&place);
    let again = place.toehold("--json import dumps --into runs/r").succeeded();
    assert_eq!(before, kept(&place));
    expect![[r#"
        status 0
        stdout:
        {"correct":2,"disagree":1,"dropped":{"another reference answer":1,"no completion":1,"no problem of this run":1,"problem is held out":1},"event":"imported","files":2,"format":"verl","known":2,"new":3,"other_prompt":0,"read":9,"without_reward":0}
        status 0
        stdout:
        {"correct":0,"disagree":0,"dropped":{"another reference answer":1,"no completion":1,"no problem of this run":1,"problem is held out":1},"event":"imported","files":2,"format":"verl","known":5,"new":0,"other_prompt":0,"read":9,"without_reward":0}
    "#]].assert_eq(&format!("{first}{again}"));
    // What is exported as JSON by `traces` comes back as it was, under another policy's name.
    let ran = place.shell("toehold traces runs/r --json > t.jsonl && toehold --json import t.jsonl --into runs/r");
    expect![[r#"
        status 0
        stdout:
        {"correct":2,"disagree":1,"dropped":{},"event":"imported","files":1,"format":"jsonl","known":0,"new":3,"other_prompt":0,"read":3,"without_reward":0}
    "#]].assert_eq(&ran.to_string());
}

#[test]
fn imported_successes_are_cut_like_our_own() {
    let place = Place::with_files();
    place.edit("recipe.toml", "kind = \"plain\"", "kind = \"success-prefix\"");
    place.edit("recipe.toml", "band = \"unsolved\"\n", "");
    place.write(
        "t.jsonl",
        r#"{"problem_id": "sum-1", "completion": "one and one more makes two, so \\boxed{2}", "reward": 1}"#,
    );
    let before = place.toehold("cut recipe.toml");
    let ran = place.toehold("import t.jsonl --into recipe.toml --quiet").succeeded();
    let cut = place.toehold("cut recipe.toml");
    let store = Store::open_read_only(place.path("runs/r/traces.db")).unwrap();
    let tokenizer = TokenizerFile::open(&place.path("model")).unwrap();
    let starts: Vec<String> = store
        .starts(&StartFilter::default())
        .unwrap()
        .iter()
        .map(|start| format!("{:?}\n", tokenizer.decode_raw(&start.prefix)))
        .collect();
    expect![[r#"
        status 1
        error: nothing was sampled yet
        hint: `toehold sample runs/r` comes first
        status 0
        stdout:
        traces             count
        ────────────────────────
        read                   1
        new                    1
          of them correct      1
        there already          0
        status 0
        stdout:
        traces  prefixes  share of the trace: least    mean    most
        ───────────────────────────────────────────────────────────
             1         3                     30.3 %  37.4 %  48.5 %
        ""
        "one and one m"
        "one and one mo"
        "one and one more makes"
    "#]]
    .assert_eq(&format!("{before}{ran}{cut}{}", starts.concat()));
}

#[test]
fn what_an_exported_job_sampled_goes_back_behind_its_prefix() {
    let place = Place::with_files();
    place.edit("recipe.toml", "kind = \"plain\"", "kind = \"success-prefix\"\ncuts = 1");
    place.edit("recipe.toml", "band = \"unsolved\"\n", "");
    place.write("t.jsonl", r#"{"problem_id": "sum-1", "completion": "one and one is \\boxed{2}", "reward": 1}"#);
    place.toehold("import t.jsonl --into recipe.toml").succeeded();
    place.toehold("export --to verl runs/r job --model m").succeeded();
    let store = Store::open_read_only(place.path("runs/r/traces.db")).unwrap();
    let prefixed = store.starts(&StartFilter::default()).unwrap().into_iter().find(|start| !start.is_plain()).unwrap();
    let row = |start: &str| {
        format!(
            r#"{{"input": "1 + 1", "output": " so \\boxed{{2}}", "gts": "2", "score": 1.0, "step": 1, "start": "{start}"}}"#
        )
    };
    place.write("1.jsonl", format!("{}\n{}\n", row(prefixed.id.as_str()), row("0123456789abcdef")));
    let ran = place.toehold("import 1.jsonl --into runs/r");
    expect![[r#"
        status 0
        kept in runs/r/traces.db
        stdout:
        traces                          count
        ─────────────────────────────────────
        read                                2
        new                                 1
          of them correct                   1
        there already                       0
        left out: no start of this run      1
        foreign: jsonl sum-1 "" "one and one is \\boxed{2}<|endoftext|>" end_of_text correct (foreign) index 0, 0 known
        foreign: verl sum-1 "one and o" " so \\boxed{2}<|endoftext|>" end_of_text correct (foreign) index 0, 0 known
    "#]]
    .assert_eq(&format!("{ran}{}", kept(&place)));
}
