//! Bad input: one clear sentence, an exit status, and not a byte of what was there is changed.

use std::collections::BTreeMap;
use std::fs;

use expect_test::{Expect, expect};

use crate::place::{Place, assert_kept_the_same};

/// Runs `command`, which must fail with one sentence and its hints, and leave every file as it was.
#[track_caller]
fn refused(place: &Place, command: &str, expected: Expect) {
    let before = place.files("");
    let ran = place.toehold(command);
    expected.assert_eq(&ran.to_string());
    assert_eq!(ran.status, 1);
    assert_eq!(ran.stderr.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{ran}");
    let after = place.files("");
    for (path, bytes) in &before {
        assert!(after.get(path) == Some(bytes), "{} was changed", path.display());
    }
}

/// Makes a place, spoils it, and runs its recipe.
#[track_caller]
fn check(spoil: impl FnOnce(&Place), expected: Expect) {
    let place = Place::with_files();
    spoil(&place);
    refused(&place, "run recipe.toml --quiet", expected);
}

/// A run that was sampled, then spoilt.
#[track_caller]
fn check_again(spoil: impl FnOnce(&Place), expected: Expect) {
    let place = Place::with_files();
    place.toehold("sample recipe.toml").succeeded();
    spoil(&place);
    refused(&place, "run recipe.toml --quiet", expected);
}

#[test]
fn a_method_that_does_not_exist() {
    let ran = Place::new().toehold("methods grppo");
    assert_eq!((ran.status, ran.stdout.as_str()), (1, ""));
    assert!(ran.stderr.starts_with("error: no curriculum and no objective is named `grppo`\nhint: there are plain, "));
}

#[test]
fn recipes() {
    check(
        |p| p.edit("recipe.toml", "steps = 2", "stepps = 2"),
        expect![[r#"
        status 1
        error: recipe recipe.toml: [train] has no key `stepps`
        hint: did you mean `steps`?
    "#]],
    );
    check(
        |p| p.edit("recipe.toml", "[train]", "[trian]"),
        expect![[r#"
        status 1
        error: recipe recipe.toml: a recipe has no table [trian]
        hint: did you mean `train`?
    "#]],
    );
    check(
        |p| p.edit("recipe.toml", "steps = 2", "steps = \"two\""),
        expect![[r#"
        status 1
        error: recipe recipe.toml: [train] steps: found the string "two", expected a whole number of at least 0
    "#]],
    );
    check(
        |p| p.edit("recipe.toml", "steps = 2", "steps = -2"),
        expect![[r#"
        status 1
        error: recipe recipe.toml: [train] steps: found the integer -2, expected a whole number of at least 0
    "#]],
    );
    check(
        |p| p.edit("recipe.toml", "group = 2", "group = 0"),
        expect![[r#"
        status 1
        error: recipe recipe.toml: [train] group is 0, expected at least 1
    "#]],
    );
    check(
        |p| p.edit("recipe.toml", "\"reinforce\"", "\"reinfroce\""),
        expect![[r#"
        status 1
        error: recipe recipe.toml: [objective] kind = "reinfroce" is not known
        hint: did you mean `reinforce`?
    "#]],
    );
    check(
        |p| p.edit("recipe.toml", "name = \"r\"", ""),
        expect![[r#"
        status 1
        error: recipe recipe.toml: [run] needs the key `name`
    "#]],
    );
    check(
        |p| p.edit("recipe.toml", "name = \"r\"", "name = \"../r\""),
        expect![[r#"
        status 1
        error: recipe recipe.toml: [run] name is ../r, expected a folder's name
    "#]],
    );
    check(
        |p| p.edit("recipe.toml", "steps = 2", "steps = = 2"),
        expect![[r#"
            status 1
            error: recipe recipe.toml: the recipe is not TOML: TOML parse error at line 20, column 9
               |
            20 | steps = = 2
               |         ^
            extra `=`, expected nothing
        "#]],
    );
    check(
        |p| fs::remove_file(p.path("recipe.toml")).unwrap(),
        expect![[r#"
            status 1
            error: recipe.toml is not there
            hint: name a recipe (`toehold methods` lists some), or the folder of a run
        "#]],
    );
    let place = Place::with_files();
    refused(
        &place,
        "run recipe.toml --set train.step=3",
        expect![[r#"
        status 1
        error: recipe recipe.toml: [train] has no key `step`
        hint: did you mean `steps`?
    "#]],
    );
    refused(
        &place,
        "run recipe.toml --set steps",
        expect![[r#"
        status 1
        error: recipe recipe.toml: cannot apply the override `steps`: expected the form table.key=value
    "#]],
    );
    refused(
        &place,
        "run model",
        expect![[r#"
            status 1
            error: model is a folder without recipe.toml, so it is no run
            hint: name a recipe (`toehold methods` lists some), or the folder of a run
        "#]],
    );
}

#[test]
fn problem_files() {
    let problems = |text: &'static str| move |p: &Place| p.write("problems.jsonl", text);
    check(
        problems("{\"id\": \"a\", \"problem\": \"1\", \"answer\": \"1\"}\n\n{\"id\": \"b\", \"pro"),
        expect![[r#"
        status 1
        error: problems.jsonl:3: broken JSON at column 16: EOF while parsing a string
    "#]],
    );
    check(
        problems("{\"id\": \"a\", \"problem\": \"1\"}\n"),
        expect![[r#"
        status 1
        error: problems.jsonl:1: missing `answer`
    "#]],
    );
    check(
        problems("{\"id\": \"a\", \"problem\": \"1\", \"answer\": 1}\n"),
        expect![[r#"
        status 1
        error: problems.jsonl:1: `answer` is 1, expected text
        hint: quote it: "answer": "1"
    "#]],
    );
    check(
        problems("{\"id\": \"a\", \"problem\": \"1\", \"anwser\": \"1\"}\n"),
        expect![[r#"
        status 1
        error: problems.jsonl:1: unknown key `anwser`
        hint: did you mean `answer`?
    "#]],
    );
    let twice = "{\"id\": \"a\", \"problem\": \"1\", \"answer\": \"1\"}\n{\"id\": \"a\", \"problem\": \"2\", \"answer\": \"2\"}\n";
    check(
        problems(twice),
        expect![[r#"
        status 1
        error: problems.jsonl:2: problem `a` is already on line 1
    "#]],
    );
    check(
        problems(""),
        expect![[r#"
        status 1
        error: problems.jsonl holds no problem
        hint: one JSON object a line: {"id": "1", "problem": "2 + 2", "answer": "4"}
    "#]],
    );
    check(
        |p| fs::remove_file(p.path("problems.jsonl")).unwrap(),
        expect![[r#"
        status 1
        error: cannot open the problem file problems.jsonl: No such file or directory (os error 2)
    "#]],
    );
    check(
        |p| p.write("held_out.jsonl", p.read("problems.jsonl")),
        expect![[r#"
        status 1
        error: problem `sum-1` is in problems.jsonl and in held_out.jsonl
        hint: held-out problems must not be trained on
    "#]],
    );
}

#[test]
fn model_folders() {
    check(
        |p| fs::remove_dir_all(p.path("model")).unwrap(),
        expect![[r#"
        status 1
        error: the model folder model is not there
        hint: `toehold pretrain --out model` makes a small one for a synthetic family
    "#]],
    );
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        let place = Place::with_files();
        fs::remove_file(place.path("model").join(name)).unwrap();
        let ran = place.toehold("run recipe.toml --quiet");
        assert!(ran.status == 1 && ran.stderr.contains(name) && !place.path("runs").exists(), "{ran}");
    }
    check(
        |p| fs::remove_file(p.path("model/config.json")).unwrap(),
        expect![[r#"
        status 1
        error: cannot read model/config.json: No such file or directory (os error 2)
    "#]],
    );
    check(
        |p| fs::remove_file(p.path("model/tokenizer.json")).unwrap(),
        expect![[r#"
        status 1
        error: model has no tokenizer.json
        hint: a model folder needs config.json, model.safetensors and tokenizer.json
    "#]],
    );
    check(
        |p| {
            let bytes = fs::read(p.path("model/model.safetensors")).unwrap();
            p.write("model/model.safetensors", &bytes[..bytes.len() / 2]);
        },
        expect![[r#"
            status 1
            error: model/model.safetensors has 103288 bytes and is not a whole safetensors file: its header describes 206576 bytes
            hint: it may have been cut off while it was written or fetched
        "#]],
    );
    // The header's length stays: names and shapes are replaced by ones as long.
    check(
        |p| in_header(p, "model.norm.weight", "model.nrom.weight"),
        expect![[r#"
        status 1
        error: model/model.safetensors lacks 1 of 36 tensors, the first is `model.norm.weight`
    "#]],
    );
    check(
        |p| in_header(p, "[320,32]", "[32,320]"),
        expect![[r#"
        status 1
        error: model/model.safetensors: `lm_head.weight` has shape [32, 320], expected [320, 32] by the config
    "#]],
    );
    check(
        |p| p.edit("model/config.json", "\"hidden_act\": \"silu\"", "\"hidden_act\": \"relu\""),
        expect![[r#"
        status 1
        error: model/config.json: `hidden_act` is "relu", but only "silu" is supported
    "#]],
    );
    check(
        |p| p.edit("model/config.json", "\"model_type\": \"qwen3\"", "\"model_type\": \"llama\""),
        expect![[r#"
        status 1
        error: model/model.safetensors has 6 tensors that the config does not ask for, the first is `model.layers.0.self_attn.k_norm.weight`
    "#]],
    );
    check(
        |p| p.edit("model/tokenizer.json", "\"<|endoftext|>\": 0", "\"<|endoftext|>\": 0, \"more\": 320"),
        expect![[r#"
            status 1
            error: the tokenizer's largest token id is 320, but the model's vocabulary has 320 tokens
            hint: take the tokenizer from the model's own folder
        "#]],
    );
    check(
        |p| p.write("model/tokenizer.json", "{}"),
        expect![[r#"
        status 1
        error: model/tokenizer.json is broken: Model missing. at line 1 column 2
    "#]],
    );
}

fn in_header(place: &Place, from: &str, to: &str) {
    assert_eq!(from.len(), to.len());
    let mut bytes = fs::read(place.path("model/model.safetensors")).unwrap();
    let at = bytes.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
    bytes[at..at + from.len()].copy_from_slice(to.as_bytes());
    place.write("model/model.safetensors", bytes);
}

#[test]
fn a_folder_of_another_run() {
    check_again(
        |p| p.edit("recipe.toml", "steps = 2", "steps = 3"),
        expect![[r#"
            status 1
            error: the run runs/r was made with another recipe (HASH, now HASH)
            hint: give this run another name (`--set run.name=...`), or remove the folder; runs/r/recipe.toml is what it was made with
        "#]],
    );
    check_again(
        |p| p.edit("problems.jsonl", "1 + 1", "1 + 2"),
        expect![[r#"
            status 1
            error: the run runs/r was made with another problem file (HASH, now HASH)
            hint: give this run another name (`--set run.name=...`), or remove the folder; runs/r/recipe.toml is what it was made with
        "#]],
    );
    check_again(
        |p| p.edit("held_out.jsonl", "3 + 3", "3 + 4"),
        expect![[r#"
            status 1
            error: the run runs/r was made with another held-out problem file (HASH, now HASH)
            hint: give this run another name (`--set run.name=...`), or remove the folder; runs/r/recipe.toml is what it was made with
        "#]],
    );
    check_again(
        |p| p.edit("model/tokenizer.json", "\"single_word\": false", "\"single_word\": true"),
        expect![[r#"
            status 1
            error: the run runs/r was made with another tokenizer (HASH, now HASH)
            hint: give this run another name (`--set run.name=...`), or remove the folder; runs/r/recipe.toml is what it was made with
        "#]],
    );
    check_again(
        |p| {
            let mut bytes = fs::read(p.path("model/model.safetensors")).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            p.write("model/model.safetensors", bytes);
        },
        expect![[r#"
            status 1
            error: the run runs/r was made with another model (HASH, now HASH)
            hint: give this run another name (`--set run.name=...`), or remove the folder; runs/r/recipe.toml is what it was made with
        "#]],
    );
    check_again(
        |p| p.write("runs/r/identity.json", "{}"),
        expect![[r#"
        status 1
        error: runs/r/identity.json is not a run's identity: missing field `recipe` at line 1 column 2
    "#]],
    );

    let place = Place::with_files();
    place.toehold("sample recipe.toml").succeeded();
    fs::rename(place.path("runs"), place.path("moved")).unwrap();
    refused(
        &place,
        "run moved/r",
        expect![[r#"
        status 1
        error: the run in moved/r says that it lies in runs/r
        hint: start from the folder in which it was made; to begin another run, copy its recipe.toml
    "#]],
    );
}

#[test]
fn stores() {
    // SQLite keeps the store's version in these four bytes of its header.
    check_again(
        |p| {
            let mut bytes = fs::read(p.path("runs/r/traces.db")).unwrap();
            bytes[60..64].copy_from_slice(&99u32.to_be_bytes());
            p.write("runs/r/traces.db", bytes);
        },
        expect![[r#"
            status 1
            error: runs/r/traces.db is a trace store of version 99, but this build reads versions up to 2
            hint: use a newer toehold
        "#]],
    );
    check_again(
        |p| {
            p.write(
                "runs/r/traces.db",
                "not a database, but longer than any header is, a hundred bytes and then some more of them, really",
            )
        },
        expect![[r#"
            status 1
            error: runs/r/traces.db is not a trace store: it is no SQLite file
        "#]],
    );
    let place = Place::with_files();
    refused(
        &place,
        "traces runs/r",
        expect![[r#"
        status 1
        error: runs/r has no traces.db
        hint: name a run's folder, such as runs/demo/prefix-rl
    "#]],
    );
    refused(
        &place,
        "traces model",
        expect![[r#"
        status 1
        error: model has no traces.db
        hint: name a run's folder, such as runs/demo/prefix-rl
    "#]],
    );
    place.toehold("sample recipe.toml").succeeded();
    refused(
        &place,
        "traces runs/r --show 1000",
        expect![[r#"
        status 1
        error: runs/r/traces.db has no trace in row 1000
    "#]],
    );
    refused(
        &place,
        "traces runs/r --problem sum-9",
        expect![[r#"
        status 1
        error: runs/r/traces.db has no problem `sum-9`, but 3 others
    "#]],
    );
}

#[test]
fn what_there_is_nothing_of() {
    check(
        |p| p.edit("recipe.toml", "group = 2\nmax_tokens = 6", "group = 2\nmax_tokens = 9000"),
        expect![[r#"
            status 1
            error: [train] max_tokens is 9000 and the longest prompt has 4 tokens, but the policy has 256 positions
            hint: --set train.max_tokens=252
        "#]],
    );
    check(
        |p| p.edit("recipe.toml", "band = \"unsolved\"", "band = \"hard\""),
        expect![[r#"
            status 1
            error: no problem is in the band `hard`: of 2 problems, 2 unsolved
            hint: change [problems] band, or remove it to learn all of them
            stdout:
            band      problems  attempts  successes
            ───────────────────────────────────────
            unsolved         2         6          0
        "#]],
    );
    let prefixes = |p: &Place| {
        p.edit("recipe.toml", "band = \"unsolved\"\n", "");
        p.edit("recipe.toml", "kind = \"plain\"", "kind = \"success-prefix\"");
    };
    check(
        prefixes,
        expect![[r#"
            status 1
            error: no prefix can be cut: 0 correct traces of 2 problems
            hint: allow more attempts (--set collect.max_attempts=...), or take easier problems
            stdout:
            band      problems  attempts  successes
            ───────────────────────────────────────
            unsolved         2         6          0
        "#]],
    );
    check(
        |p| p.write("recipe.toml", p.read("recipe.toml") + "[sft]\n"),
        expect![[r#"
            status 1
            error: no correct trace to imitate
            hint: allow more attempts (--set collect.max_attempts=...)
            stdout:
            band      problems  attempts  successes
            ───────────────────────────────────────
            unsolved         2         6          0
        "#]],
    );
    check(
        |p| p.edit("recipe.toml", "[policy]", "[policy]\ntemplate = \"\""),
        expect![[r#"
            status 1
            error: recipe recipe.toml: [policy] template is "", expected text with {problem}
        "#]],
    );
}

#[test]
fn two_processes_in_one_run() {
    let place = Place::with_files();
    place.toehold("sample recipe.toml").succeeded();
    let lock = fs::File::open(place.path("runs/r/lock")).unwrap();
    lock.lock().unwrap();
    refused(
        &place,
        "run recipe.toml --quiet",
        expect![[r#"
        status 1
        error: the run runs/r is in use by another process
        hint: wait for it, or give this run another name
    "#]],
    );
    drop(lock);
    place.toehold("run recipe.toml --quiet").succeeded();
}

#[test]
fn a_full_disk() {
    // No test may fill a disk; a limit on the size of files is met by the same writes. Sizes are in
    // blocks of 512 bytes: one for the first page of the store, one for its middle, one for a checkpoint.
    let settings = "--set collect.until=max-attempts --set collect.max_attempts=60 --set train.steps=2";
    let whole = Place::with_chains();
    whole.toehold(&format!("run recipe.toml {settings}")).succeeded();
    let mut said = BTreeMap::new();
    let place = Place::with_chains();
    for blocks in [1, 60, 400, 1200, 2000] {
        if blocks == 2000 {
            // How far the store's log grows while sampling depends on how many rollouts come at a time.
            place.toehold(&format!("sample recipe.toml {settings}")).succeeded();
        }
        let ran =
            place.shell(&format!("trap '' XFSZ; ulimit -f {blocks}; exec toehold run recipe.toml --quiet {settings}"));
        assert_eq!(ran.status, 1, "{blocks} blocks: {ran}");
        assert_eq!(ran.stderr.lines().filter(|line| !line.starts_with("hint: ")).count(), 1, "{ran}");
        said.insert(blocks, ran.stderr);
    }
    place.toehold(&format!("run recipe.toml {settings}")).succeeded();
    assert_kept_the_same(&whole.kept("runs/r"), &place.kept("runs/r"), "a disk that was full");
    // What SQLite says depends on which of its files is at the limit: only its file's name is expected.
    let first =
        |text: &str| text.lines().next().unwrap_or_default().split_once(" cannot be").map(|(file, _)| file.to_owned());
    let said: String = said
        .into_iter()
        .map(|(blocks, text)| format!("{blocks}: {}\n", first(&text).unwrap_or_else(|| text.trim_end().to_owned())))
        .collect();
    expect![[r#"
        1: error: cannot write runs/r/recipe.toml: File too large (os error 27)
        60: error: runs/r/traces.db
        400: error: runs/r/traces.db
        1200: error: runs/r/traces.db
        2000: error: checkpoint in runs/r/checkpoints/.step-000001.unfinished: cannot write runs/r/checkpoints/.step-000001.unfinished/optimizer.safetensors: File too large (os error 27)
    "#]].assert_eq(&said);
}
