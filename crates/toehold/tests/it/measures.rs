//! What `evaluate --measure` finds on a run, and that it agrees with what the run has measured before.

use expect_test::{Expect, expect};
use serde_json::Value;

use crate::place::Place;

const ALL: &str = "--measure vote,robustness,drift,perturbed,underthinking --window 4 --switch slow,fast";

/// The event of each measurement, by name.
fn events(place: &Place, arguments: &str) -> Vec<(String, Value)> {
    let ran = place.toehold(&format!("evaluate runs/r --json {arguments}")).succeeded();
    assert_eq!(ran.stderr, "");
    let event = |line: &str| {
        let event: Value = serde_json::from_str(line).unwrap();
        event["event"].as_str().map(|name| (name.to_owned(), event["measured"].clone()))
    };
    ran.stdout.lines().filter_map(event).collect()
}

#[test]
fn measurements_agree_with_the_evaluation_and_are_kept() {
    let place = Place::with_chains();
    place.toehold("run recipe.toml --quiet --set train.steps=2 --set collect.until=max-attempts").succeeded();
    let found = events(&place, ALL);
    let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["vote", "robustness", "drift", "perturbed", "underthinking"]);
    let of = |wanted: &str| &found.iter().find(|(name, _)| name == wanted).unwrap().1;
    let evaluation: Value = serde_json::from_str(&place.read("runs/r/evaluation.json")).unwrap();

    for policy in ["before", "after"] {
        // The completions are those that were counted, and a vote of one is that one's answer.
        let vote = &of("vote")[policy][0];
        let near = |a: &Value, b: &Value| (a.as_f64().unwrap() - b.as_f64().unwrap()).abs() < 1e-9;
        let pass = &evaluation[policy]["train"]["pass_at_k"];
        assert!(near(&vote["majority"][0]["mean"], &pass[0]["mean"]), "{vote}");
        // A vote of k is never right where none of the k is.
        assert!(vote["majority"][1]["mean"].as_f64().unwrap() <= pass[1]["mean"].as_f64().unwrap() + 1e-9);
        assert_eq!(of("perturbed")[0]["right"][policy], evaluation[policy]["train"]["count"]);
    }
    // Nothing is left after a warm-up of 16 of 4 completions.
    assert_eq!(of("vote")["before"][0]["online"], Value::Null);

    let robustness = of("robustness").as_array().unwrap();
    assert_eq!(robustness.len(), 2, "wrong and right traces");
    for outcomes in robustness {
        assert_eq!(outcomes["points"].as_array().unwrap().len(), 9 + 3 * 3);
        let attempts = outcomes["plain"]["before"]["attempts"].as_u64().unwrap();
        for point in outcomes["points"].as_array().unwrap() {
            // A trace for which no other problem's will do is left out of that control alone.
            let traces = point["after"]["traces"].as_u64().unwrap();
            assert_eq!(point["after"]["count"]["attempts"], 2 * traces);
            assert!(2 * traces == attempts || point["after"]["condition"] == "other_problem", "{point}");
        }
    }
    for kind in of("drift").as_array().unwrap() {
        assert_eq!(kind["then"], "stored");
        let robust = robustness.iter().find(|one| one["traces"] == kind["traces"]).unwrap();
        for (point, robust) in kind["points"].as_array().unwrap().iter().zip(robust["points"].as_array().unwrap()) {
            // Sampling and scoring agree, so the base has not moved from itself; success is the same count.
            assert!(point["floor"]["k3"].as_f64().unwrap().abs() < 1e-6, "{point}");
            assert!(point["drift"]["k3"].as_f64().unwrap() >= 0.0, "{point}");
            assert_eq!(point["success"]["after"], robust["after"]["count"]);
        }
    }
    let under = &of("underthinking")["before"];
    assert!(under["thoughts"].as_u64() >= under["wrong"].as_array().map(|wrong| wrong.len() as u64), "{under}");

    // What is kept is not measured again, with other options it is.
    let before = place.read("runs/r/measured-robustness.json");
    assert!(events(&place, ALL) == found, "another result");
    assert_eq!(place.read("runs/r/measured-robustness.json"), before);
    place.write("runs/r/measured-vote.json", "{}");
    assert!(events(&place, ALL) == found, "another result");
    let other = events(&place, "--measure vote --window 2");
    assert_eq!(other[0].1["before"][0]["weighed"][1]["weighing"]["window"], 2);
    assert!(&other[0].1 != of("vote"), "the same result with another window");

    let text = place.toehold(&format!("evaluate runs/r {ALL}")).succeeded().stdout;
    let heads: Vec<&str> = text.lines().filter(|line| !line.contains('%') || line.contains("95")).collect();
    let head = |words: &str| heads.iter().filter(|line| line.split_whitespace().eq(words.split(' '))).count();
    assert_eq!(head("policy problems vote k = 1 k = 4"), 1, "{text}");
    assert_eq!(
        head("policy penalty right [95 %] wrong traces tokens thoughts with a right one underthinking"),
        1,
        "{text}"
    );
}

/// Stopping spends less, and on the same completions; a penalty on switching thoughts leaves what is measured
/// without it as it is.
#[test]
fn votes_stop_early_and_thoughts_are_kept_to() {
    let place = Place::with_chains();
    place.toehold("run recipe.toml --quiet --set train.steps=2 --set collect.until=max-attempts").succeeded();
    let online = "--measure online --window 2 --warm-up 2 --kept 0.5";
    let found = events(&place, online);
    for policy in ["before", "after"] {
        for set in found[0].1[policy].as_array().unwrap() {
            let of = |way: &str, key: &str| set[way][key].as_u64().unwrap();
            let problems = set["all"]["count"]["attempts"].as_u64().unwrap();
            assert_eq!(of("all", "completions"), 4 * problems, "{set}");
            assert!(of("online", "tokens") <= of("all", "tokens"), "{set}");
            assert!((2 * problems..=4 * problems).contains(&of("online", "completions")), "{set}");
            assert_eq!(set["online"]["count"]["attempts"], problems, "{set}");
            assert!(set["agreed"].as_u64().unwrap() <= problems, "{set}");
        }
    }
    assert!(events(&place, online) == found, "another result");
    // No completion has so many tokens.
    let never = events(&place, "--measure online --window 2048 --warm-up 3 --kept 1");
    let set = &never[0].1["before"][0];
    assert_eq!(set["stopped"], 0, "{set}");

    let plain = &events(&place, "--measure underthinking --switch slow,fast")[0].1;
    assert_eq!(plain["penalised"], Value::Null);
    let both = &events(&place, "--measure underthinking --switch slow,fast --penalty 2.5 --penalty-window 30")[0].1;
    assert_eq!([&both["before"], &both["after"]], [&plain["before"], &plain["after"]]);
    let penalised = &both["penalised"];
    assert_eq!((&penalised["penalty"], &penalised["window"]), (&2.5.into(), &30.into()));
    assert!(penalised["before"] != plain["before"], "the penalty changes what is written: {penalised}");
    let none = &events(&place, "--measure underthinking --switch slow,fast --penalty 0")[0].1;
    assert_eq!(none["penalised"]["before"], plain["before"]);
    let both_of_them = "evaluate runs/r --measure online,underthinking --warm-up 2 --switch slow,fast --penalty 3";
    let text = place.toehold(both_of_them).succeeded().stdout;
    assert!(text.contains("agreed early") && text.contains("3 for 600 tokens"), "{text}");

    // The same from a recipe, for all that is evaluated.
    let table = "evaluate.thought_switch={words=[\"slow\",\"fast\"],penalty=2.5,window=30}";
    let train = "--set train.steps=2 --set collect.until=max-attempts";
    place.shell(&format!("toehold run recipe.toml --quiet {train} --set run.name=tip --set '{table}'")).succeeded();
    let of_run =
        |name: &str| -> Value { serde_json::from_str(&place.read(&format!("runs/{name}/evaluation.json"))).unwrap() };
    assert!(of_run("tip")["before"]["train"] != of_run("r")["before"]["train"]);
    let ran = place.toehold("evaluate runs/tip --json --measure underthinking").succeeded();
    let last: Value = serde_json::from_str(ran.stdout.lines().last().unwrap()).unwrap();
    assert_eq!(&last["measured"], both);

    check_refused(
        &place,
        "evaluate runs/r --quiet --measure online",
        expect![[r#"
        error: [evaluate] samples is 4, expected more than the 16 completions that set the bar
        hint: --warm-up sets the bar with fewer
    "#]],
    );
    check_refused(
        &place,
        "evaluate runs/r --quiet --measure underthinking --penalty -1",
        expect![[r#"
        error: --penalty is -1, expected at least 0 and at most 1e6
    "#]],
    );
    check_refused(
        &place,
        "run recipe.toml --quiet --set run.name=words --set evaluate.thought_switch.words=[\"日本\"]",
        expect![[r#"
        error: the tokenizer has none of the words 日本
        hint: name others with [evaluate.thought_switch] words
    "#]],
    );
}

/// What is counted in the store, without any sampling: the methods of a chain, and the likelihood of traces.
#[test]
fn words_and_likelihood_are_followed_through_training() {
    let place = Place::with_chains();
    place.toehold("run recipe.toml --quiet --set train.steps=3 --set collect.until=max-attempts").succeeded();
    let found = events(&place, "--measure keywords,likelihood");
    let (words, likelihood) = (&found[0].1, found[1].1.as_array().unwrap());
    let stretches = words.as_array().unwrap();
    let steps: Vec<String> = stretches.iter().map(|stretch| stretch["steps"].to_string()).collect();
    assert_eq!(steps, ["null", "[1,1]", "[2,2]", "[3,3]"]);
    for stretch in stretches {
        let traces = stretch["traces"].as_u64().unwrap();
        for one in stretch["strategies"].as_array().unwrap() {
            let texts = |kind: &str| ["correct", "wrong"].map(|outcome| one[kind][outcome]["texts"].as_u64().unwrap());
            assert_eq!(texts("plain").iter().sum::<u64>() + texts("prefixed").iter().sum::<u64>(), traces);
            assert_eq!(one["prefixes"]["texts"], texts("prefixed").iter().sum::<u64>());
        }
        // Every worked step of these chains is named: no completion of the base is silent on the method.
        assert!(stretch["strategies"][0]["plain"]["wrong"]["tokens"].as_u64().unwrap() > 0, "{stretch}");
    }
    let other = events(&place, "--measure keywords --keyword slow|fast,again --beginning 4");
    assert_eq!(other[0].1[0]["strategies"][0]["name"], "slow");
    assert_eq!(other[0].1[0]["strategies"].as_array().unwrap().len(), 2);

    let of_step = |step: u64| likelihood.iter().filter(|point| point["step"] == step).collect::<Vec<_>>();
    assert_eq!(of_step(0).len(), 2, "wrong and right traces");
    assert!(likelihood.last().unwrap()["step"] == 3 && of_step(3).len() == 2);
    assert!(likelihood.iter().all(|point| point["likelihood"]["per_token"].as_f64().unwrap() < 0.0));
    let row = events(&place, "--measure likelihood --trace 2,1");
    let names: Vec<&Value> = row[0].1.as_array().unwrap().iter().take(2).map(|point| &point["traces"]).collect();
    assert_eq!(names, ["row 2", "row 1"]);

    let text = place.toehold("evaluate runs/r --measure keywords,likelihood").succeeded().stdout;
    assert!(text.contains("after prefixes") && text.contains("log p per token"), "{text}");
    check_refused(
        &place,
        "evaluate runs/r --quiet --measure likelihood --trace 9999",
        expect![[r#"
        error: runs/r/traces.db has no trace in row 9999
        hint: `toehold traces runs/r/traces.db` lists them
    "#]],
    );
    check_refused(
        &place,
        "evaluate runs/r --quiet --measure keywords --keyword slow||fast",
        expect![[r#"
        error: --keyword "slow||fast" has an empty phrase, expected words, or phrases with `|` between them
    "#]],
    );
    place.toehold("run recipe.toml --quiet --set train.keep=none --set run.name=none").succeeded();
    check_refused(
        &place,
        "evaluate runs/none --quiet --measure keywords",
        expect![[r#"
        error: runs/none/traces.db has no rollout of training to count words in
        hint: [train] keep = "all" keeps them, in a run of another name
    "#]],
    );
}

/// Chains cannot be guessed but by luck, and what is guessed is left out of another run by its id.
#[test]
fn guesses_are_counted_and_guessable_problems_left_out() {
    let place = Place::with_chains();
    place.toehold("run recipe.toml --quiet --set train.steps=2").succeeded();
    let found = events(&place, "--measure guessing --guessable 0.0");
    let guessing = &found[0].1;
    assert_eq!((&found[0].0[..], guessing["openings"].to_string().as_str()), ("guessing", r#"["answer"]"#));
    let evaluation: Value = serde_json::from_str(&place.read("runs/r/evaluation.json")).unwrap();
    let (mut guessed, mut all) = (Vec::new(), 0);
    for (set, name) in guessing["sets"].as_array().unwrap().iter().zip(["train", "held_out"]) {
        for policy in ["before", "after"] {
            let problems = set["problems"][policy].as_array().unwrap();
            let attempts: u64 = problems.iter().map(|one| one["count"]["attempts"].as_u64().unwrap()).sum();
            assert_eq!(attempts, evaluation[policy][name]["count"]["attempts"].as_u64().unwrap());
        }
        for one in set["problems"]["before"].as_array().unwrap() {
            all += 1;
            if one["count"]["successes"] != 0 {
                guessed.push(format!("{}\n", one["problem"].as_str().unwrap()));
            }
        }
    }
    assert_eq!(place.read("runs/r/guessable.txt"), guessed.concat());
    // A sum modulo four, of one step: some of 28 are guessed in a few tries, and not all.
    assert!(!guessed.is_empty() && guessed.len() < all, "{guessed:?}");
    let text = place.toehold("evaluate runs/r --measure guessing --guessable 0.0").succeeded().stdout;
    let left = "toehold problems runs/r --except runs/r/guessable.txt > kept.jsonl";
    assert!(text.contains("most guessed") && text.contains(left), "{text}");
    let count = |arguments: &str| place.toehold(&format!("problems {arguments}")).succeeded().stdout.lines().count();
    let kept = count("runs/r --except runs/r/guessable.txt") + count("runs/r --held-out --except runs/r/guessable.txt");
    assert_eq!(kept + guessed.len(), all);
    // Another share is another list of the same counts; no room for an answer is no guess.
    let text = place.toehold("evaluate runs/r --measure guessing --guessable 1").succeeded().stdout;
    assert!(text.contains("The base guesses no problem in more than 100.0 % of its tries."), "{text}");
    assert_eq!(place.read("runs/r/guessable.txt"), "");
    let short = events(&place, "--measure guessing --guess-tokens 1");
    let none = short[0].1["sets"][0]["problems"]["before"].as_array().unwrap();
    assert!(none.iter().all(|one| one["count"]["successes"] == 0));
    check_refused(
        &place,
        "evaluate runs/r --quiet --measure guessing --opening guess",
        expect![[r#"
            error: the words that open an answer, "guess", come back from the tokenizer as "<unk>"
            hint: name others with --opening, as the policy writes them
        "#]],
    );
    place.write("ids.txt", "chain-0-00001\nnobody\n");
    check_refused(
        &place,
        "problems recipe.toml --except ids.txt",
        expect![[r#"
            error: ids.txt:2: `nobody` is the id of none of the recipe's 28 problems
        "#]],
    );
}

#[track_caller]
fn check_refused(place: &Place, arguments: &str, expected: Expect) {
    let ran = place.toehold(arguments);
    assert_eq!(ran.status, 1, "{ran}");
    expected.assert_eq(&ran.stderr);
}

#[test]
fn what_cannot_be_measured_says_why() {
    let place = Place::with_files();
    check_refused(
        &place,
        "evaluate recipe.toml --measure vote",
        expect![[r#"
        error: training is not finished
        hint: `toehold train runs/r` comes first
    "#]],
    );
    place.toehold("run recipe.toml --quiet").succeeded();
    // Every completion of this model runs out of tokens.
    check_refused(
        &place,
        "evaluate runs/r --quiet --measure robustness",
        expect![[r#"
        error: runs/r/traces.db has no collected trace that ended by itself and begins with work
        hint: `toehold sample runs/r` collects for any recipe; more with [collect] until = "max-attempts"
    "#]],
    );
    check_refused(
        &place,
        "evaluate runs/r --quiet --measure perturbed",
        expect![[r#"
        error: the problems are of a file, and only those of a synthetic family can be perturbed
        hint: write the variants yourself and evaluate them as [problems] held_out_file
    "#]],
    );
    check_refused(
        &place,
        "evaluate runs/r --quiet --measure underthinking --switch 日本",
        expect![[r#"
        error: the tokenizer has none of the words 日本
        hint: name others with --switch
    "#]],
    );
    check_refused(
        &place,
        "problems recipe.toml --perturb changed",
        expect![[r#"
        error: the problems are of a file, and only those of a synthetic family can be perturbed
        hint: write the variants yourself and evaluate them as [problems] held_out_file
    "#]],
    );
    place.toehold("evaluate runs/r --quiet --measure vote").succeeded();
}

#[test]
fn problems_are_written_as_a_file_that_a_recipe_reads() {
    let place = Place::with_chains();
    let all = place.toehold("problems recipe.toml").succeeded();
    assert_eq!((all.stdout.lines().count(), all.stderr.as_str()), (24, ""));
    assert_eq!(place.toehold("problems recipe.toml --json").succeeded().stdout, all.stdout);
    assert_eq!(place.toehold("problems recipe.toml --held-out").succeeded().stdout.lines().count(), 4);
    assert!(!place.path("runs").exists(), "nothing is run");

    let changed = place.toehold("problems recipe.toml --perturb changed").succeeded();
    expect![[r#"
        {"id":"chain-0-00001-changed","problem":"from 0 a1 0 a2 0","answer":"0","verifier":"chain","solution":"slow a1 0 0 a2 0 0 A 0 answer A 0"}
        {"id":"chain-0-00002-changed","problem":"from 1 a1 0 a2 1","answer":"2","verifier":"chain","solution":"slow a1 0 1 a2 1 2 A 2 answer A 2"}
    "#]].assert_eq(&changed.stdout.lines().take(2).map(|line| format!("{line}\n")).collect::<String>());
    assert_ne!(place.toehold("problems recipe.toml --perturb changed --seed 1").succeeded().stdout, changed.stdout);
    place.write("problems.jsonl", &all.stdout);
    place.write("held_out.jsonl", &changed.stdout);
    let recipe = place.read("recipe.toml");
    let synthetic = "synthetic = { family = \"chain\", steps = [1, 1] }\n";
    assert!(recipe.contains(synthetic));
    let files = "file = \"problems.jsonl\"\nheld_out_file = \"held_out.jsonl\"\n";
    place.write("files.toml", recipe.replace(synthetic, files));
    place.toehold("run files.toml --quiet --set train.steps=1 --set run.name=files").succeeded();
}
