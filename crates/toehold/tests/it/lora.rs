//! A run that learns an adapter, and what its checkpoint is good for.

use expect_test::expect;

use crate::place::Place;

#[test]
fn a_recipe_with_an_adapter_ends_in_one() {
    let place = Place::with_chains();
    place.toehold("run recipe.toml --set policy.lora.rank=4 --set policy.lora.alpha=8").succeeded();
    let recipe = place.read("runs/r/recipe.toml");
    let start = recipe.find("[policy.lora]").unwrap();
    expect![[r#"
        [policy.lora]
        rank = 4
        alpha = 8.0
        targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
        scaling = "rank"
    "#]]
    .assert_eq(&format!("{}\n", recipe[start..].split("\n\n").next().unwrap()));

    let checkpoint = "runs/r/checkpoints/step-000012";
    let mut names: Vec<String> = std::fs::read_dir(place.path(checkpoint))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    expect![[r#"["adapter_config.json", "adapter_model.safetensors", "generation_config.json", "optimizer.safetensors", "tokenizer.json", "tokenizer_config.json", "trainer.json"]"#]]
    .assert_eq(&format!("{names:?}"));
    assert!(place.read(&format!("{checkpoint}/adapter_config.json")).contains(r#""base_model_name_or_path": "base""#));

    // The adapter beside its base, and both in one, say the same.
    let merged = place.toehold(&format!("merge {checkpoint} merged")).succeeded();
    expect![[r#"
        status 0
        merged: the model with ... numbers of the adapter in its weights
    "#]]
    .assert_eq(&without_counts(&merged.to_string()));
    let greedy = |model: &str| {
        let ran = place.toehold(&format!("generate {model} --prompt 3+1 --greedy --max-tokens 12 --json")).succeeded();
        let line: serde_json::Value = serde_json::from_str(ran.stdout.trim()).unwrap();
        line["completion_ids"].clone()
    };
    assert_eq!(greedy(checkpoint), greedy("merged"));

    let refused = |command: &str| place.toehold(command).to_string();
    expect![[r#"
        status 1
        error: cannot write merged: it is there already
    "#]]
    .assert_eq(&refused(&format!("merge {checkpoint} merged")));
    expect![[r#"
        status 1
        error: base is a model, not an adapter
        hint: an adapter's folder has adapter_config.json and no config.json
    "#]]
    .assert_eq(&refused("merge base other"));
    expect![[r#"
        status 1
        error: policy.model is runs/r/checkpoints/step-000012, a folder with an adapter, and [policy.lora] asks for a new one
        hint: leave [policy.lora] out to go on with that adapter, or merge it first: `toehold merge runs/r/checkpoints/step-000012 OUT`
    "#]]
    .assert_eq(&refused(&format!("run recipe.toml --set policy.lora.rank=4 --set policy.model={checkpoint} --set run.name=s")));
    expect![[r#"
        status 1
        error: recipe recipe.toml: [policy.lora] rank is 0, expected at least 1 and at most 65536
    "#]]
    .assert_eq(&refused("run recipe.toml --set policy.lora.rank=0"));
    expect![[r#"
        status 1
        error: recipe recipe.toml: [policy] lora: found a table: unknown field `rnk`, expected one of `rank`, `alpha`, `targets`, `scaling`
    "#]].assert_eq(&refused("run recipe.toml --set policy.lora.rnk=4"));
    expect![[r#"
        status 1
        error: recipe recipe.toml: [policy] lora: found a table: unknown variant `lm_head`, expected one of `q_proj`, `k_proj`, `v_proj`, `o_proj`, `gate_proj`, `up_proj`, `down_proj`
    "#]].assert_eq(&refused(r#"run recipe.toml --set policy.lora.targets=["lm_head"]"#));
}

/// The first number of a line is how large the adapter of this base is.
fn without_counts(text: &str) -> String {
    let shown = |word: &str| if word.chars().all(|c| c.is_ascii_digit()) { "..." } else { word }.to_owned();
    let lines = text.lines().map(|line| match line.strip_prefix("status") {
        Some(_) => line.to_owned(),
        None => line.split(' ').map(shown).collect::<Vec<_>>().join(" "),
    });
    lines.map(|line| format!("{line}\n")).collect()
}
