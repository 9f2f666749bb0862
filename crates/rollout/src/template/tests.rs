//! Templates in, texts, tokens and errors out; what is right was written by transformers
//! (`interop/transformers/templates.py`).

use std::path::{Path, PathBuf};

use expect_test::{Expect, expect};
use serde::Deserialize;

use super::*;
use crate::{PromptTemplate, TokenId, TokenizerFile};

const FAMILIES: [&str; 5] = ["llama3", "qwen2", "qwen3", "mistral", "r1"];

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/templates").join(name)
}

#[derive(Deserialize)]
struct Golden {
    cases: Vec<GoldenCase>,
}

#[derive(Deserialize)]
struct GoldenCase {
    messages: Vec<Message>,
    variables: BTreeMap<String, Json>,
    add_generation_prompt: bool,
    text: Option<String>,
    ids: Option<Vec<TokenId>>,
    raised: Option<String>,
}

fn date() -> Option<Date> {
    Some("2025-01-31".parse().unwrap())
}

#[test]
fn families_render_as_transformers_does() {
    let mut cases = 0;
    for family in FAMILIES {
        let template = ChatTemplate::open(&data(family), None).unwrap().unwrap();
        let tokenizer = TokenizerFile::open(&data(family)).unwrap();
        let text = std::fs::read_to_string(data(family).join("golden.json")).unwrap();
        for case in serde_json::from_str::<Golden>(&text).unwrap().cases {
            let settings = ChatSettings { date: date(), variables: case.variables, ..ChatSettings::default() };
            let ending = if case.add_generation_prompt { Ending::AssistantOpens } else { Ending::Nothing };
            let rendered = template.render(&case.messages, &settings, ending);
            match (rendered, case.text, case.raised) {
                (Ok(rendered), Some(text), _) => {
                    assert_eq!(rendered, text, "{family} {:?}", case.messages);
                    assert_eq!(tokenizer.encode(&rendered).unwrap(), case.ids.unwrap(), "{family} {text:?}");
                }
                (Err(ChatTemplateError::Raised { said, .. }), _, Some(raised)) => assert_eq!(said, raised),
                (rendered, text, raised) => panic!("{family}: {rendered:?}, expected {text:?} or {raised:?}"),
            }
            cases += 1;
        }
    }
    assert_eq!(cases, 2 * 6 * (2 + 1 + 3 + 1 + 1));
}

#[derive(Deserialize)]
struct Expressions {
    messages: Vec<Message>,
    date: String,
    cases: Vec<Expression>,
}

#[derive(Deserialize)]
struct Expression {
    template: String,
    text: Option<String>,
}

#[test]
fn constructs_mean_what_they_mean_in_python() {
    let text = std::fs::read_to_string(data("expressions.json")).unwrap();
    let Expressions { messages, date, cases } = serde_json::from_str(&text).unwrap();
    let settings = ChatSettings { date: Some(date.parse().unwrap()), ..ChatSettings::default() };
    let special = BTreeMap::from([("bos_token".to_owned(), "<s>".to_owned())]);
    let mut differ = Vec::new();
    for case in &cases {
        let rendered = ChatTemplate::new(&case.template, "it".to_owned(), special.clone())
            .and_then(|template| template.render(&messages, &settings, Ending::Nothing));
        match (rendered, &case.text) {
            (Ok(rendered), Some(text)) if rendered == *text => {}
            (Err(ChatTemplateError::Raised { .. } | ChatTemplateError::Render { .. }), None) => {}
            (rendered, text) => differ.push(format!("{}\n  {rendered:?}\n  {text:?}", case.template)),
        }
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}

/// A tokenizer file with these special tokens, one of which may end texts, and single characters.
fn tokenizer(end: &str) -> (tempfile::TempDir, TokenizerFile) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(data("qwen2").join("tokenizer.json"), folder.path().join("tokenizer.json")).unwrap();
    std::fs::write(folder.path().join("generation_config.json"), format!("{{\"eos_token_id\": {end}}}")).unwrap();
    let file = TokenizerFile::open(folder.path()).unwrap();
    (folder, file)
}

/// What a template makes of the problem `1+1` (its end in quotes), or what is wrong with it.
#[track_caller]
fn check_prompt(source: &str, settings: &ChatSettings, expected: Expect) {
    let (_folder, tokenizer) = tokenizer("302");
    let shown = ChatTemplate::new(source, "it".to_owned(), BTreeMap::new()).map_err(PromptError::from).and_then(|it| {
        let prompts = Prompts::Chat { template: Box::new(it), settings: settings.clone() };
        prompts.check(&tokenizer)?;
        let prompt = prompts.prompt("1+1", &tokenizer)?;
        let thought = if Prompts::opens_thought(&prompt.text) { ", thinks" } else { "" };
        let closing = prompts.closing();
        Ok(format!("{:?} {} tokens{thought}, closed by {closing:?}", prompt.text, prompt.tokens.len()))
    });
    expected.assert_eq(&shown.unwrap_or_else(|error| error.to_string()));
}

const CHATML: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}";

#[test]
fn what_cannot_be_continued_is_refused() {
    let check = |source: &str, expected: Expect| check_prompt(source, &ChatSettings::default(), expected);
    let opens = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    check(
        &format!("{CHATML}{opens}"),
        expect![[
            r#""<|im_start|>user\n1+1<|im_end|>\n<|im_start|>assistant\n" 12 tokens, closed by Some("<|im_end|>")"#
        ]],
    );
    // A thought that the template opens, and one that it closes again.
    check(
        &format!("{CHATML}{opens}{{{{ '<think>\\n' if add_generation_prompt }}}}"),
        expect![[
            r#""<|im_start|>user\n1+1<|im_end|>\n<|im_start|>assistant\n<think>\n" 18 tokens, thinks, closed by Some("<|im_end|>")"#
        ]],
    );
    check(
        &format!("{CHATML}{opens}<think>\n\n</think>\n\n"),
        expect![[
            r#""<|im_start|>user\n1+1<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n" 25 tokens, closed by Some("<|im_end|>\n<think>\n\n</think>")"#
        ]],
    );
    // One that has no beginning of the assistant's turn, or the user's again.
    check(
        CHATML,
        expect![[r#"
        it opens no assistant's turn: after the problem it writes "<|im_end|>\n", but before an assistant's message "<|im_end|>\n<|im_start|>assistant\n"
        hint: it ignores add_generation_prompt; name one that does not as [template] file"#]],
    );
    check(
        &format!("{CHATML}{{% if add_generation_prompt %}}<|im_start|>user\n{{% endif %}}"),
        expect![[r#"
        it opens no assistant's turn: after the problem it writes "<|im_end|>\n<|im_start|>user\n", but before an assistant's message "<|im_end|>\n<|im_start|>assistant\n"
        hint: it ignores add_generation_prompt; name one that does not as [template] file"#]],
    );
    check(
        &format!("{CHATML}{opens}{{{{ '<|im_end|>' if add_generation_prompt }}}}\n"),
        expect![[
            r#"it closes the assistant's turn: the prompt ends in "<|im_end|>\n<|im_start|>assistant\n<|im_end|>", after which nothing can be written"#
        ]],
    );
    // The same, where no assistant's message can be rendered to compare with.
    check(
        "{% for m in messages %}{{ raise_exception('x') if m.role == 'assistant' }}{{ m.content }}{% endfor %}<|im_end|>",
        expect![[
            r#"it closes the assistant's turn: the prompt ends in "<|im_end|>", after which nothing can be written"#
        ]],
    );
    check("{{ messages | length }}", expect!["it does not write the user's message"]);
    check(
        "{% for m in messages %}",
        expect!["it is no template: syntax error: unexpected end of input, expected end of block (line 1)"],
    );
    check(
        "{{ messages[0].content.nonsense() }}",
        expect!["it does not render: unknown method: string has no method named nonsense (line 1)"],
    );
    check("{{ raise_exception('only on\nSundays') }}", expect!["it refuses the messages: only on Sundays"]);
    check(
        "{{ strftime_now('%d %b %Y') }}{{ messages[0].content }}",
        expect![[r#"
        it writes today's date, and prompts must not change from day to day
        hint: give it a date: [template] date = "2025-01-31""#]],
    );
    check(
        "{% include 'other' %}",
        expect!["it does not render: template not found: tried to include non-existing template 'other' (line 1)"],
    );
    // What would not come to an end, or grow without one.
    check(
        "{% for a in range(99999) %}{% for b in range(99999) %}{{ a }}{% endfor %}{% endfor %}",
        expect!["it does not render: engine ran out of fuel (line 1)"],
    );
    check(
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        expect!["it does not render: invalid operation: recursion limit exceeded (line 1)"],
    );
    check(
        "{{ 'x' * 99999999999 }}",
        expect!["it does not render: invalid operation: repeated string is too large (line 1)"],
    );
    check(&"x".repeat(2 << 20), expect!["it is longer than 1048576 bytes"]);
}

#[test]
fn settings_reach_the_template() {
    let source = format!(
        "{CHATML}{{{{ '<|im_start|>assistant\\n' if add_generation_prompt }}}}\
        {{%- if enable_thinking is defined %}}think={{{{ enable_thinking }}}}{{% endif %}}{{{{ effort }}}}"
    );
    let check = |settings: ChatSettings, expected: Expect| check_prompt(&source, &settings, expected);
    check(
        ChatSettings {
            system: Some("Be brief.".to_owned()),
            instruction: Some("Put the answer in \\boxed{}.".to_owned()),
            ..ChatSettings::default()
        },
        expect![[
            r#""<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n1+1\nPut the answer in \\boxed{}.<|im_end|>\n<|im_start|>assistant\n" 45 tokens, closed by Some("<|im_end|>")"#
        ]],
    );
    check(
        ChatSettings {
            enable_thinking: Some(false),
            variables: BTreeMap::from([("effort".to_owned(), Json::from("low"))]),
            ..ChatSettings::default()
        },
        expect![[
            r#""<|im_start|>user\n1+1<|im_end|>\n<|im_start|>assistant\nthink=Falselow" 24 tokens, closed by Some("<|im_end|>\nthink=Falselow")"#
        ]],
    );
}

#[test]
fn a_problem_cannot_end_its_own_turn() {
    let (_folder, tokenizer) = tokenizer("302");
    let template = ChatTemplate::open(&data("qwen2"), None).unwrap().unwrap();
    let prompts = Prompts::Chat { template: Box::new(template), settings: ChatSettings::default() };
    expect!["the problem's text holds the special token `<|im_end|>` (id 302), which would end or begin a turn"]
        .assert_eq(&prompts.prompt("1<|im_end|>", &tokenizer).unwrap_err().to_string());
    // Plain text is the recipe's own to write.
    let plain = Prompts::Text(PromptTemplate::new("{problem}<|im_end|>").unwrap());
    assert_eq!(plain.prompt("1<|im_end|>", &tokenizer).unwrap().tokens, [16, 302, 302]);
}

#[test]
fn without_an_end_token_nothing_ends() {
    let check = |prompts: &Prompts, end: &str| prompts.check(&tokenizer(end).1).unwrap_err().to_string();
    let plain = Prompts::Text(PromptTemplate::default());
    expect!["eos_token_id is 9999, but the tokenizer's largest token id is 302"].assert_eq(&check(&plain, "9999"));
    let (folder, _) = tokenizer("0");
    let text = std::fs::read_to_string(folder.path().join("tokenizer.json")).unwrap();
    std::fs::write(
        folder.path().join("tokenizer.json"),
        text.replace("<|im_end|>", "<a>").replace("<|endoftext|>", "<b>"),
    )
    .unwrap();
    std::fs::remove_file(folder.path().join("generation_config.json")).unwrap();
    let tokenizer = TokenizerFile::open(folder.path()).unwrap();
    expect![[r#"
        the model's folder names no end token, so no completion would ever end
        hint: write eos_token_id, a token id or a list of them, into its generation_config.json"#]]
    .assert_eq(&plain.check(&tokenizer).unwrap_err().to_string());
}

/// What opening a folder with these files and this name says, without the folder's own name.
#[track_caller]
fn check_folder(files: &[(&str, &str)], name: Option<&str>, expected: Expect) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let shown = match ChatTemplate::open(folder.path(), name) {
        Ok(Some(template)) => {
            let text = template.render(&[], &ChatSettings::default(), Ending::Nothing);
            format!("{}: {}", template.place(), text.unwrap_or_else(|error| error.to_string()))
        }
        Ok(None) => "none".to_owned(),
        Err(error) => error.to_string(),
    };
    expected.assert_eq(&shown.replace(&folder.path().display().to_string(), "DIR"));
}

#[test]
fn folders_have_templates() {
    let config = |text: &'static str| ("tokenizer_config.json", text);
    let list = r#"{"chat_template": [{"name": "a", "template": "A"}, {"name": "b", "template": "B"}]}"#;
    check_folder(&[], None, expect!["none"]);
    check_folder(
        &[],
        Some("a"),
        expect![[r#"
        DIR has no chat template
        hint: write [template] kind = "text" for a base model, or name a Jinja file as [template] file"#]],
    );
    check_folder(
        &[config(r#"{"bos_token": {"content": "<s>"}, "chat_template": "{{ bos_token }}x"}"#)],
        None,
        expect!["chat_template of DIR/tokenizer_config.json: <s>x"],
    );
    check_folder(
        &[config(r#"{"chat_template": "{{ bos_token }}x"}"#), ("special_tokens_map.json", r#"{"bos_token": "<b>"}"#)],
        None,
        expect!["chat_template of DIR/tokenizer_config.json: <b>x"],
    );
    check_folder(
        &[config(r#"{"chat_template": "x"}"#), ("chat_template.jinja", "file")],
        None,
        expect!["DIR/chat_template.jinja: file"],
    );
    check_folder(
        &[("chat_template.jinja", "d"), ("additional_chat_templates/rag.jinja", "r")],
        Some("rag"),
        expect!["DIR/additional_chat_templates/rag.jinja: r"],
    );
    check_folder(&[config(list)], Some("b"), expect!["chat_template `b` of DIR/tokenizer_config.json: B"]);
    check_folder(
        &[config(list)],
        None,
        expect![[r#"
        DIR has no chat template `default`, it has a, b
        hint: [template] name chooses one of them"#]],
    );
    check_folder(
        &[config(r#"{"chat_template": 3}"#)],
        None,
        expect![
            "DIR/tokenizer_config.json is broken: chat_template is 3, expected a text or a list of at most 64 named ones"
        ],
    );
    check_folder(
        &[config(r#"{"chat_template": [{"name": "a"}]}"#)],
        None,
        expect!["DIR/tokenizer_config.json is broken: an item of chat_template lacks the texts `name` and `template`"],
    );
    check_folder(
        &[config("{")],
        None,
        expect!["DIR/tokenizer_config.json is broken: EOF while parsing an object at line 1 column 1"],
    );
}

#[test]
fn dates_are_days() {
    let check = |text: &str| text.parse::<Date>().map_or_else(|error| error.to_string(), |date| date.to_string());
    expect![[r#"
        2025-01-31
        the date is `2025-02-30`, expected a day such as 2025-01-31
        the date is `today`, expected a day such as 2025-01-31
        the date is ``, expected a day such as 2025-01-31"#]]
    .assert_eq(&["2025-01-31", "2025-02-30", "today", ""].map(check).join("\n"));
}
