//! Model folders in, tokens, texts and errors out.

use expect_test::{Expect, expect};

use super::*;
use crate::synthetic::tokenizer_json;

/// A model folder with these files.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

/// What opening a folder says, without the folder's own name.
#[track_caller]
fn check(files: &[(&str, &str)], expected: Expect) {
    let folder = folder(files);
    let shown = match TokenizerFile::open(folder.path()) {
        Ok(file) => format!(
            "{} tokens, largest {}, end {:?}, hash {}",
            file.vocabulary_size(),
            file.largest_id(),
            file.end_tokens(),
            file.hash()
        ),
        Err(error) => error.to_string().replace(&folder.path().display().to_string(), "DIR"),
    };
    expected.assert_eq(&shown);
}

#[test]
fn folders_open() {
    let json = tokenizer_json(&["from", "3"]);
    let file = ("tokenizer.json", json.as_str());
    check(
        &[],
        expect![[r#"
        DIR has no tokenizer.json
        hint: a model folder needs config.json, model.safetensors and tokenizer.json"#]],
    );
    check(
        &[("tokenizer.json", "{")],
        expect!["DIR/tokenizer.json is broken: EOF while parsing an object at line 1 column 1"],
    );
    check(&[("tokenizer.json", "{}")], expect!["DIR/tokenizer.json is broken: Model missing. at line 1 column 2"]);
    check(&[file], expect!["4 tokens, largest 3, end [0], hash 94c4a83c60125ba0"]);
    check(
        &[file, ("config.json", r#"{"eos_token_id": 3}"#)],
        expect!["4 tokens, largest 3, end [3], hash 94c4a83c60125ba0"],
    );
    check(
        &[file, ("config.json", r#"{"eos_token_id": 3}"#), ("generation_config.json", r#"{"eos_token_id": [0, 2]}"#)],
        expect!["4 tokens, largest 3, end [0, 2], hash 94c4a83c60125ba0"],
    );
    check(
        &[file, ("config.json", r#"{"eos_token_id": 3}"#), ("generation_config.json", r#"{"eos_token_id": null}"#)],
        expect!["4 tokens, largest 3, end [3], hash 94c4a83c60125ba0"],
    );
    check(&[file, ("config.json", r#"{}"#)], expect!["4 tokens, largest 3, end [0], hash 94c4a83c60125ba0"]);
    check(
        &[file, ("config.json", r#"{"eos_token_id": "</s>"}"#)],
        expect![[r#"DIR/config.json is broken: eos_token_id is "</s>", expected a token id or a list of them"#]],
    );
    check(
        &[file, ("config.json", r#"{"eos_token_id": []}"#)],
        expect!["DIR/config.json is broken: eos_token_id is [], expected a token id or a list of them"],
    );
    check(
        &[file, ("config.json", r#"{"eos_token_id": -1}"#)],
        expect!["DIR/config.json is broken: eos_token_id is -1, expected a token id or a list of them"],
    );
    check(
        &[file, ("generation_config.json", "x")],
        expect!["DIR/generation_config.json is broken: expected value at line 1 column 1"],
    );
}

#[test]
fn text_goes_both_ways() {
    let folder = folder(&[("tokenizer.json", &tokenizer_json(&["from", "3", "answer", "A", "from"]))]);
    let file = TokenizerFile::open(folder.path()).unwrap();
    let prompt = PromptTemplate::default().render("from 3");
    assert_eq!(file.encode(&prompt).unwrap(), [2, 3]);
    assert_eq!(file.encode("answer A 3<|endoftext|>").unwrap(), [4, 5, 3, 0]);
    assert_eq!(file.encode("A 9 A").unwrap(), [5, 1, 5]);
    assert_eq!(file.encode("").unwrap(), [0_u32; 0]);
    assert_eq!(file.decode(&[4, 5, 3, 0]), "answer A 3");
    assert_eq!(file.decode_raw(&[4, 5, 3, 0]), "answer A 3 <|endoftext|>");
    // An unknown word stays visible, so that it cannot make a broken answer whole.
    assert_eq!(file.decode(&[4, 1, 3]), "answer <unk> 3");
    assert_eq!(file.decode(&[4, 99]), "answer");
    assert!(file.check_vocabulary(6).is_ok());
    assert!(file.check_vocabulary(100).is_ok());
    expect![[r#"
        the tokenizer's largest token id is 5, but the model's vocabulary has 5 tokens
        hint: take the tokenizer from the model's own folder"#]]
    .assert_eq(&file.check_vocabulary(5).unwrap_err().to_string());
}

/// The rendering of the statement `{x} 3`, or the error.
#[track_caller]
fn check_template(source: &str, expected: Expect) {
    let shown = match PromptTemplate::new(source) {
        Ok(template) => {
            assert_eq!(template.as_str(), source);
            format!("{:?}", template.render("{x} 3"))
        }
        Err(error) => error.to_string(),
    };
    expected.assert_eq(&shown);
}

#[test]
fn templates_render() {
    check_template("{problem}\n", expect![[r#""{x} 3\n""#]]);
    check_template("<|im_start|>user\n{problem}<|im_end|>\n", expect![[r#""<|im_start|>user\n{x} 3<|im_end|>\n""#]]);
    check_template("{problem} Put it in \\boxed{}.", expect![[r#""{x} 3 Put it in \\boxed{}.""#]]);
    check_template(
        "{problem} as \\boxed{{answer}}, {1}, { x }, {",
        expect![[r#""{x} 3 as \\boxed{answer}, {1}, { x }, {""#]],
    );
    check_template("{problem} {problem}", expect![[r#""{x} 3 {x} 3""#]]);
    check_template("é{problem}é", expect![[r#""é{x} 3é""#]]);
    check_template(
        "{question}",
        expect![[r#"
        unknown placeholder {question}, expected {problem}
        hint: to write it as it is, double the braces: {{question}}"#]],
    );
    check_template(
        "{problem} \\boxed{answer}",
        expect![[r#"
        unknown placeholder {answer}, expected {problem}
        hint: to write it as it is, double the braces: {{answer}}"#]],
    );
    check_template("problem", expect!["the template `problem` has no {problem}"]);
    check_template("{{problem}}", expect!["the template `{{problem}}` has no {problem}"]);
    check_template("", expect!["the template `` has no {problem}"]);
    assert_eq!(PromptTemplate::new("{problem}\n"), Ok(PromptTemplate::default()));
}
