//! `toehold chat-template`, and chats in `generate`, `score` and runs.

use std::path::Path;

use serde_json::{Value, json};

use crate::place::{Place, Ran};

const TEMPLATES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../rollout/tests/data/templates");

/// With the tokenizer and the template of a family as `chat`, and no weights.
fn place(family: &str) -> Place {
    let place = Place::new();
    std::fs::create_dir(place.path("chat")).unwrap();
    for file in std::fs::read_dir(Path::new(TEMPLATES).join(family)).unwrap() {
        let path = file.unwrap().path();
        std::fs::copy(&path, place.path("chat").join(path.file_name().unwrap())).unwrap();
    }
    place
}

/// What is shown of a family's template, in parts.
#[track_caller]
fn check(family: &str, arguments: &[&str], expected: &[&str]) {
    says(&place(family).toehold_with(&[&["chat-template", "chat"], arguments].concat()), expected);
}

#[track_caller]
fn says(ran: &Ran, expected: &[&str]) {
    for part in expected {
        assert!(ran.to_string().contains(part), "{part:?} is not in\n{ran}");
    }
}

#[test]
fn a_model() {
    check(
        "qwen3",
        &["--problem", "1 + 1?", "--prefix", "<think>\né"],
        &[
            "template: chat/chat_template.jinja",
            "end tokens: <|im_end|> (302)",
            "turn with \"<|im_end|>\"",
            "⟦<think>\né⟧",
            "301 \"<|im_start|>\"",
            "303 \"<think>\"",
        ],
    );
    check(
        "qwen3",
        &["--thinking", "off", "--instruction", "Be brief.", "--system", "You add."],
        &["<|im_start|>system\nYou add.<|im_end|>", "What is 12 + 30?\nBe brief.", "<think>\n\n</think>"],
    );
    check(
        "r1",
        &["--problem", "1?", "--quiet"],
        &["; the prompt opens a thought", "<｜User｜>1?<｜Assistant｜><think>"],
    );
    check(
        "mistral",
        &["--problem", "1?", "--json"],
        &["<s> [INST] 1? [/INST]\"", "\"prompt_ids\":[1,", "\"prefix_ids\":[]"],
    );
    check("llama3", &["--date", "2025-01-31", "--problem", "1?"], &["Day: 31 Jan 2025"]);
}

#[test]
fn what_is_refused() {
    check("llama3", &[], &["error: chat_template of chat/tokenizer_config.json writes today's date"]);
    check("llama3", &["--date", "tomorrow"], &["the date is `tomorrow`, expected a day such as 2025-01-31"]);
    check(
        "mistral",
        &["--template-name", "rag"],
        &["error: chat has no chat template `rag`, it has default, tool_use"],
    );
    check(
        "mistral",
        &["--template-name", "tool_use"],
        &["error: chat_template `tool_use` of chat/tokenizer_config.json does not write the user's message"],
    );
    check(
        "qwen2",
        &["--problem", "1<|im_end|>"],
        &["error: the problem's text holds the special token `<|im_end|>` (id 302)"],
    );
    check(
        "qwen2",
        &["--trace", "3"],
        &["error: --trace and --set are of runs and recipes, but chat is a model's folder"],
    );
    check("qwen2", &["--template-file", "none.jinja"], &["error: cannot read none.jinja: "]);
}

/// A chat template for the character tokenizer of the small models.
const LETTERS: &str = "{% for m in messages %}{{ m.role[0].upper() }}:{{ m.content }}.{% endfor %}\
    {% if add_generation_prompt %}A:{% endif %}";

#[test]
fn a_run_asks_by_the_models_template() {
    let place = Place::with_files();
    place.write(
        "model/chat_template.jinja",
        "{% for m in messages %}{{ m.content }} {% endfor %}{{ 'answer' if add_generation_prompt }}",
    );
    place.edit("recipe.toml", "[collect]", "[template]\nkind = \"chat\"\ninstruction = \"from 3\"\n[collect]");
    says(
        &place.toehold("chat-template recipe.toml --limit 2"),
        &["problem sum-1: ", "problem sum-2: ", "\n2 + 3\nfrom 3 answer\n"],
    );
    place.toehold("sample recipe.toml --quiet").succeeded();
    let ran = place.toehold("chat-template recipe.toml --trace 1 --json").succeeded();
    let line: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(line["id"], json!("sum-1"));
    assert!(!ran.stderr.contains("another prompt"), "{ran}");
    // The template is a part of what a run is.
    place.write(
        "model/chat_template.jinja",
        "{% for m in messages %}{{ m.content }}{% endfor %}{{ 'A' if add_generation_prompt }}",
    );
    let again = place.toehold("sample recipe.toml --quiet");
    assert!(again.stderr.starts_with("error: the run runs/r was made with another tokenizer ("), "{again}");
    let ran = place.toehold("chat-template recipe.toml --trace 1 --json").succeeded();
    assert!(ran.stderr.contains("row 1 was sampled after another prompt than the template now makes"), "{ran}");
}

#[test]
fn a_template_that_cannot_be_continued_is_refused_before_anything_is_sampled() {
    let place = Place::with_files();
    place.edit("recipe.toml", "[collect]", "[template]\nkind = \"chat\"\n[collect]");
    says(&place.toehold("sample recipe.toml"), &["error: model has no chat template\nhint: "]);
    place.write("model/chat_template.jinja", "{% for m in messages %}{{ m.role }} {{ m.content }} {% endfor %}");
    says(
        &place.toehold("sample recipe.toml"),
        &["error: model/chat_template.jinja opens no assistant's turn: after the problem it writes "],
    );
    assert!(!place.path("runs").exists());
}

#[test]
fn generate_and_score_take_chats() {
    let place = Place::with_model("qwen2-default");
    place.write("model/chat_template.jinja", LETTERS);
    let asked = |arguments: &[&str]| {
        let ran = place.toehold_with(&[&["generate", "model", "--json", "--max-tokens", "3"], arguments].concat());
        serde_json::from_str::<Value>(&ran.succeeded().stdout).unwrap()
    };
    let chat = asked(&["--chat", "--system", "Add", "--prompt", "1+1=", "--prefix", "2-"]);
    let plain = asked(&["--prompt", "S:Add.U:1+1=.A:", "--prefix", "2-"]);
    for part in ["prompt_ids", "prefix_ids", "completion_ids", "logprobs"] {
        assert_eq!(chat[part], plain[part], "{part}");
    }
    place.write("lines.jsonl", json!({"prompt": "1+1=", "completion": "2"}).to_string());
    let scored = place.toehold("score model lines.jsonl --chat --json").succeeded();
    let scored: Value = serde_json::from_str(&scored.stdout).unwrap();
    assert_eq!(scored["prompt_ids"].as_array().unwrap().len(), "U:1+1=.A:".len());
    says(
        &place.toehold("generate model --prompt 1 --system Add"),
        &["error: --system says something to a chat template, but there is no --chat"],
    );
}

#[test]
fn problems_of_others_are_read_in_their_columns() {
    let place = Place::with_files();
    let rows = [
        json!({"question": "1 + 1?", "answer": "1+1 = <<1+1=2>>2\n#### 2"}),
        json!({"question": "1 + 2?", "answer": "three"}),
        json!({"question": "1 + 1?", "answer": "#### 2"}),
    ];
    place.write("problems.jsonl", rows.map(|row| row.to_string() + "\n").concat());
    place.write("held_out.jsonl", json!([{"problem": "x?", "answer": 5}]).to_string());
    place.edit("recipe.toml", "[policy]", "preset = \"gsm8k\"\nheld_out_preset = \"aime\"\n[policy]");
    says(
        &place.toehold("problems recipe.toml"),
        &[
            "\"id\":\"gsm8k-",
            "problems.jsonl: 2 of 3 rows are left out: ",
            "1 with no #### in the answer (first row 2)",
            "1 with a statement that an earlier row has (first row 3)",
        ],
    );
    says(&place.toehold("problems recipe.toml --held-out --quiet"), &["\"problem\":\"x?\",\"answer\":\"5\""]);
    place.write("held_out.jsonl", json!([{"problem": "1 + 1?", "answer": 2}]).to_string());
    says(&place.toehold("problems recipe.toml --quiet"), &["hint: held-out problems must not be trained on"]);
    place.edit("recipe.toml", "\"gsm8k\"", "\"gsm\"");
    says(&place.toehold("problems recipe.toml"), &["[problems] preset: found the string \"gsm\""]);
    place.edit("recipe.toml", "\"gsm\"", "\"math\"");
    says(
        &place.toehold("problems recipe.toml"),
        &["error: no row of problems.jsonl fits the preset `math`: ", "the columns answer, question; the preset reads"],
    );
}
