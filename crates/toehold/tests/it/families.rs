//! The recipe of `interop/transformers/families` on a checkpoint of random weights of every family.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::SafeTensors;

use crate::place::Place;

const RECIPE: &str = include_str!("../../../../interop/transformers/families/recipe.toml");
const PROBLEMS: &str = include_str!("../../../../interop/transformers/families/problems.jsonl");
const HELD_OUT: &str = include_str!("../../../../interop/transformers/families/held_out.jsonl");

/// Runs the recipe on this model from end to end: it learns, and what it saves is of the same form.
#[track_caller]
fn check(model: &str) {
    let place = Place::with_model(model);
    place.write("recipe.toml", RECIPE);
    place.write("problems.jsonl", PROBLEMS);
    place.write("held_out.jsonl", HELD_OUT);
    place.toehold("run recipe.toml").succeeded();

    let events = place.read("runs/run/events.jsonl");
    let events: Vec<serde_json::Value> = events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let rewards: Vec<f64> =
        events.iter().filter(|event| event["event"] == "step").filter_map(|event| event["reward"].as_f64()).collect();
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    let (first, last) = (mean(&rewards[..5]), mean(&rewards[25..]));
    assert!(last > first && last > 0.8, "{model}: reward {first} in the first five steps, {last} in the last");

    let checkpoint = place.path("runs/run/checkpoints/step-000030");
    assert_eq!(tensors(&checkpoint), tensors(&place.path("model")), "{model}");
    for name in ["config.json", "tokenizer.json", "generation_config.json"] {
        let read = |folder: &Path| std::fs::read(folder.join(name)).unwrap();
        assert!(read(&checkpoint) == read(&place.path("model")), "{model}: {name} differs");
    }
    place.toehold("generate runs/run/checkpoints/step-000030 --prompt 3+1 --max-tokens 4").succeeded();
}

/// File, dtype and shape of every tensor of a model.
fn tensors(folder: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_string_lossy().into_owned();
        if !file.starts_with("model") || !file.ends_with(".safetensors") {
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        for (name, tensor) in SafeTensors::deserialize(&bytes).unwrap().tensors() {
            found.insert(name, format!("{file} {:?} {:?}", tensor.dtype(), tensor.shape()));
        }
    }
    assert!(!found.is_empty());
    found
}

#[test]
fn llama_learns_from_end_to_end() {
    check("llama-default");
    check("llama-linear");
    check("llama-llama3");
    check("llama-yarn");
}

#[test]
fn mistral_learns_from_end_to_end() {
    check("mistral-default");
    check("mistral-linear");
    check("mistral-llama3");
    check("mistral-yarn");
}

#[test]
fn qwen2_learns_from_end_to_end() {
    check("qwen2-default");
    check("qwen2-linear");
    check("qwen2-llama3");
    check("qwen2-yarn");
}

#[test]
fn qwen3_learns_from_end_to_end() {
    check("qwen3-default");
    check("qwen3-linear");
    check("qwen3-llama3");
    check("qwen3-yarn");
}

#[test]
fn smollm2_learns_from_end_to_end() {
    check("smollm2-default");
    check("smollm2-linear");
    check("smollm2-llama3");
    check("smollm2-yarn");
}
