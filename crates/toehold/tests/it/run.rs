//! The whole job and its single stages, on a model that was made elsewhere and on one of our own.

use std::fs;

use expect_test::expect;

use crate::place::{Place, assert_kept_the_same};

#[test]
fn a_problem_file_and_a_model_made_elsewhere() {
    let place = Place::with_files();
    let first = place.toehold("run recipe.toml").succeeded();
    expect![[r#"
        status 0
        r: sample
        6 attempts, 36 tokens sampled, 4.5 MFLOP; kept in runs/r/traces.db
        nothing to cut before training with this curriculum
        r: train
        memory: the policy takes at most ...
        2 steps, 11.0 MFLOP in all, of which 4.5 MFLOP collection
        r: evaluate
        report: runs/r/report.html
        stdout:
        band      problems  attempts  successes
        ───────────────────────────────────────
        unsolved         2         6          0
        policy  problems     success [95 %]  pass@1  pass@2
        ───────────────────────────────────────────────────
        before  train     0.0 % [0.0, 49.0]   0.0 %   0.0 %
        before  held out  0.0 % [0.0, 65.8]   0.0 %   0.0 %
        after   train     0.0 % [0.0, 49.0]   0.0 %   0.0 %
        after   held out  0.0 % [0.0, 65.8]   0.0 %   0.0 %
    "#]]
    .assert_eq(&first.to_string());
    let report = place.read("runs/r/report.html");
    assert!(report.contains("sum-1") || report.contains("unsolved"), "the report shows nothing of the run");

    let before = place.kept("runs/r");
    let second = place.toehold("run recipe.toml").succeeded();
    expect![[r#"
        r: sample
        6 attempts, 36 tokens sampled, 4.5 MFLOP; kept in runs/r/traces.db
        nothing to cut before training with this curriculum
        r: train
        training is done (2 steps); nothing to do
        r: evaluate
        report: runs/r/report.html
    "#]]
    .assert_eq(&second.stderr);
    assert_eq!(second.stdout, first.stdout);
    assert_kept_the_same(&before, &place.kept("runs/r"), "a second run");

    // The run's own folder is a recipe too.
    let third = place.toehold("run runs/r").succeeded();
    assert_eq!(third.stdout, first.stdout);
    assert_kept_the_same(&before, &place.kept("runs/r"), "a third run");
}

#[test]
fn single_stages_in_their_order() {
    let whole = Place::with_chains();
    whole.toehold("run recipe.toml").succeeded();

    let place = Place::with_chains();
    // Each stage before the one it needs says which comes first, and changes nothing.
    for (stage, needs) in [("cut", "sample"), ("train", "sample"), ("evaluate", "train")] {
        let ran = place.toehold(&format!("{stage} recipe.toml"));
        assert_eq!(ran.status, 1, "{stage}: {ran}");
        assert!(ran.stderr.ends_with(&format!("\nhint: `toehold {needs} runs/r` comes first\n")), "{stage}: {ran}");
    }
    for stage in ["sample", "cut", "train", "evaluate"] {
        place.toehold(&format!("{stage} recipe.toml")).succeeded();
    }
    place.toehold("report runs/r").succeeded();
    assert_kept_the_same(&whole.kept("runs/r"), &place.kept("runs/r"), "stages one by one");
    let again = place.toehold("train runs/r").succeeded();
    expect![[r#"
        status 0
        training is done (12 steps); nothing to do
    "#]]
    .assert_eq(&again.to_string());
}

#[test]
fn a_dry_run_is_a_recipe_that_resolves_to_itself() {
    let place = Place::with_files();
    let dry = place.toehold("run recipe.toml --dry-run --set train.steps=7 --set run.name=other").succeeded();
    assert_eq!(dry.stderr, "");
    assert!(dry.stdout.contains("steps = 7\n") && dry.stdout.contains("name = \"other\"\n"), "{dry}");
    place.write("dry.toml", &dry.stdout);
    assert_eq!(place.toehold("run dry.toml --dry-run").succeeded().stdout, dry.stdout);
    assert!(!place.path("runs").exists(), "a dry run does nothing");
    let moved = place.toehold("run dry.toml --dry-run --runs elsewhere").succeeded();
    assert!(moved.stdout.contains("folder = \"elsewhere\"\n"), "{moved}");
}

#[test]
fn a_program_reads_json_and_nothing_else() {
    let place = Place::with_chains();
    let ran = place.toehold("run recipe.toml --json --set train.steps=2").succeeded();
    assert_eq!(ran.stderr, "");
    let mut events: Vec<String> = Vec::new();
    for line in ran.stdout.lines() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        let name = value["event"].as_str().unwrap_or("evaluation").to_owned();
        if events.last() != Some(&name) {
            events.push(name);
        }
    }
    expect!["sampled cut started evaluated group step checkpoint group step evaluated checkpoint finished evaluation"]
        .assert_eq(&events.join(" "));

    let ran = place.toehold("run recipe.toml --quiet --set train.steps=2").succeeded();
    assert_eq!(ran.stderr, "");
    assert!(ran.stdout.starts_with("band "), "{ran}");

    let listed = place.toehold("traces runs/r --json --limit 1000000").succeeded();
    for (index, line) in listed.stdout.lines().enumerate() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(value["row"], index + 1);
    }
}

#[test]
fn traces_are_listed_filtered_and_shown() {
    let place = Place::with_chains();
    place.toehold("run recipe.toml --quiet --set train.steps=2").succeeded();
    let rows = |arguments: &str| -> Vec<serde_json::Value> {
        let ran = place.toehold(&format!("traces runs/r --json --limit 100000 {arguments}")).succeeded();
        ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let all = rows("");
    let chosen = |key: &str, value: &str| all.iter().filter(|row| row[key] == value).cloned().collect::<Vec<_>>();
    assert_eq!(rows("--outcome correct"), chosen("outcome", "correct"));
    assert_eq!(rows("--stage train"), chosen("stage", "train"));
    assert_eq!(rows("--problem chain-0-00002"), chosen("problem", "chain-0-00002"));
    let is_plain = |row: &serde_json::Value| row["prefix_tokens"] == 0;
    assert_eq!(rows("--from plain"), all.iter().filter(|row| is_plain(row)).cloned().collect::<Vec<_>>());
    let prefixed = rows("--from prefixed");
    assert_eq!(prefixed, all.iter().filter(|row| !is_plain(row)).cloned().collect::<Vec<_>>());
    assert_eq!(rows("--offset 3")[0], all[3]);

    let trace = &prefixed[0];
    let shown = place.toehold(&format!("traces runs/r --show {}", trace["row"])).succeeded();
    let prefix = trace["prefix"].as_str().unwrap();
    assert!(!prefix.is_empty() && shown.stdout.contains(&format!("⟦{prefix}⟧")), "{shown}");
    let plain = place.toehold("traces runs/r --show 1").succeeded();
    assert!(!plain.stdout.contains('⟦'), "{plain}");

    let listed = place.toehold("traces runs/r --limit 3").succeeded();
    assert_eq!(listed.stdout.lines().count(), 2 + 3, "{listed}");
    let direct = place.toehold("traces runs/r/traces.db --limit 3").succeeded();
    assert_eq!(direct.stdout, listed.stdout);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let place = Place::with_files();
    place.toehold("sample recipe.toml --quiet --set collect.max_attempts=500").succeeded();
    for mode in ["--quiet", "--json"] {
        let ran = place.shell(&format!("toehold traces runs/r --limit 100000 {mode} | head -n 1"));
        assert_eq!((ran.status, ran.stderr.as_str(), ran.stdout.lines().count()), (0, "", 1), "{ran}");
    }
}

#[test]
fn pretrain_makes_an_ordinary_folder() {
    let place = Place::new();
    place.toehold("pretrain --effort 0.001 --family countdown --out base --quiet").succeeded();
    let mut names: Vec<String> =
        fs::read_dir(place.path("base")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    expect![
        "config.json generation_config.json model.safetensors pretraining.json tokenizer.json tokenizer_config.json"
    ]
    .assert_eq(&names.join(" "));
    let again = place.toehold("pretrain --effort 0.001 --family countdown --out base");
    expect![[r#"
        status 1
        error: base is there already
        hint: remove it, or choose another folder with --out
    "#]]
    .assert_eq(&again.to_string());
}
