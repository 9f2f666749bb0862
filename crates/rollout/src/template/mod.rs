//! Chat templates: what a problem becomes before a model that was trained on chats reads it.
//!
//! A checkpoint brings a Jinja template that turns messages into text. [`ChatTemplate`] renders it as
//! transformers' `apply_chat_template` does; [`Prompts`] makes prompts of problems, by such a template or by
//! the plain text of a [`PromptTemplate`](crate::PromptTemplate), and tells before a run what would go wrong in it: a template
//! that does not render, that opens no assistant's turn, or that closes it.
//!
//! The prompt ends where the assistant's turn begins, and a prefix is the first tokens of that turn. Prompt
//! and prefix are joined as ids and never as text, so the border between them is where the policy itself
//! once had it, whether `<think>` was opened by the template (then it is in the prompt) or by the policy
//! (then it is in the prefix).
//!
//! The rendered text is encoded with its special tokens read as such and none added, and nothing of what
//! the template says depends on the clock.

mod engine;
mod errors;
mod prompts;
mod python;

use std::collections::BTreeMap;
use std::path::Path;

use chrono::{NaiveDate, NaiveDateTime, NaiveTime};
use minijinja::value::Serde;
use minijinja::{Environment, Value};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

pub use errors::{ChatTemplateError, PromptError};
pub use prompts::{Prompt, Prompts};

/// A chat template that was read and can render.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    /// Where it is from, for messages.
    place: String,
    /// `bos_token`, `eos_token` and the like, as the template may name them.
    special_tokens: BTreeMap<String, String>,
    hash: String,
}

/// One message of a chat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// Who says it.
    pub role: Role,
    /// What it says.
    pub content: String,
}

/// Who says something in a chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Whoever sets the scene.
    System,
    /// Whoever asks.
    User,
    /// The model.
    Assistant,
}

/// What a recipe tells a template beside the problem.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChatSettings {
    /// The system message; none leaves it to the template, which may have one of its own.
    pub system: Option<String>,
    /// Said after the problem, on a line of its own.
    pub instruction: Option<String>,
    /// The variable `enable_thinking` of Qwen3 and its like; none leaves it undefined.
    pub enable_thinking: Option<bool>,
    /// What `strftime_now` takes for today; none refuses a template that asks.
    pub date: Option<Date>,
    /// More variables of the template, by name.
    pub variables: BTreeMap<String, Json>,
}

/// What follows the last message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The beginning of the assistant's turn (`add_generation_prompt`).
    AssistantOpens,
    /// Nothing.
    Nothing,
}

/// A day, written `2025-01-31`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Date(NaiveDate);

impl ChatTemplate {
    /// Reads a model folder's template: `chat_template.jinja` and `additional_chat_templates/NAME.jinja`, or
    /// else `chat_template` of `tokenizer_config.json`, a text or a list of named ones. `name` chooses among
    /// several; without it the one called `default` is taken. None where the folder has no template.
    ///
    /// # Errors
    /// A file that cannot be read, a name that is not there, or a template that is no Jinja.
    pub fn open(model_dir: &Path, name: Option<&str>) -> Result<Option<ChatTemplate>, ChatTemplateError> {
        let config = read_config(model_dir)?;
        let found = named_templates(model_dir, &config)?;
        if found.is_empty() {
            return match name {
                None => Ok(None),
                Some(_) => Err(ChatTemplateError::Absent { folder: model_dir.to_owned() }),
            };
        }
        let wanted = name.unwrap_or("default");
        let Some((place, source)) = found.get(wanted) else {
            let names = found.keys().cloned().collect();
            return Err(ChatTemplateError::UnknownName {
                folder: model_dir.to_owned(),
                name: wanted.to_owned(),
                names,
            });
        };
        ChatTemplate::new(source, place.clone(), special_tokens(model_dir, &config)?).map(Some)
    }

    /// Reads the template in `file`, with the special tokens of the model folder.
    ///
    /// # Errors
    /// The file cannot be read, or is no Jinja.
    pub fn from_file(file: &Path, model_dir: &Path) -> Result<ChatTemplate, ChatTemplateError> {
        let source = read_text(file)?.ok_or_else(|| ChatTemplateError::Read {
            path: file.to_owned(),
            source: std::io::ErrorKind::NotFound.into(),
        })?;
        let config = read_config(model_dir)?;
        ChatTemplate::new(&source, file.display().to_string(), special_tokens(model_dir, &config)?)
    }

    /// Reads a template's text. `place` is named in messages.
    ///
    /// # Errors
    /// It is no Jinja, or longer than 1 MiB.
    pub fn new(
        source: &str,
        place: String,
        special_tokens: BTreeMap<String, String>,
    ) -> Result<ChatTemplate, ChatTemplateError> {
        if source.len() as u64 > engine::LONGEST_SOURCE {
            return Err(ChatTemplateError::TooLong { place, most: engine::LONGEST_SOURCE });
        }
        let hash = blake3::hash(source.as_bytes()).to_hex()[..16].to_owned();
        match engine::compile(source) {
            Ok(environment) => Ok(ChatTemplate { environment, place, special_tokens, hash }),
            Err(error) => Err(ChatTemplateError::Syntax { place, reason: sentence(&error) }),
        }
    }

    /// The text of these messages. `system` and `instruction` of the settings are already among them.
    ///
    /// # Errors
    /// The template raises, asks for a date that was not given, or does not come to an end.
    pub fn render(
        &self,
        messages: &[Message],
        settings: &ChatSettings,
        ending: Ending,
    ) -> Result<String, ChatTemplateError> {
        let mut variables: BTreeMap<&str, Value> = BTreeMap::new();
        for (name, token) in &self.special_tokens {
            variables.insert(name, Value::from(token.as_str()));
        }
        for (name, value) in &settings.variables {
            variables.insert(name, Value::from(Serde(value)));
        }
        let messages = messages
            .iter()
            .map(|message| Value::from_pairs([("role", message.role.as_str()), ("content", message.content.as_str())]));
        variables.insert("messages", messages.collect());
        variables.insert("tools", Value::from(()));
        variables.insert("documents", Value::from(()));
        variables.insert("add_generation_prompt", Value::from(ending == Ending::AssistantOpens));
        if let Some(is_enabled) = settings.enable_thinking {
            variables.insert("enable_thinking", Value::from(is_enabled));
        }
        if let Some(date) = settings.date {
            variables.insert(engine::DATE_VARIABLE, Value::from(date.to_string()));
        }
        engine::render(&self.environment, Value::from_pairs(variables)).map_err(|error| {
            let place = self.place.clone();
            match engine::raised(&error) {
                Some(said) => ChatTemplateError::Raised { place, said: said.replace('\n', " ") },
                None if engine::lacks_date(&error) => ChatTemplateError::NoDate { place },
                None => ChatTemplateError::Render { place, reason: sentence(&error) },
            }
        })
    }

    /// BLAKE3 of its text, the first 16 hexadecimal digits.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Where it is from: a file, and its name where there are several.
    pub fn place(&self) -> &str {
        &self.place
    }
}

impl Role {
    /// As templates know it.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        }
    }
}

impl Message {
    /// What the user says.
    pub fn user(content: impl Into<String>) -> Message {
        Message { role: Role::User, content: content.into() }
    }

    /// What is said before all.
    pub fn system(content: impl Into<String>) -> Message {
        Message { role: Role::System, content: content.into() }
    }

    /// What the assistant says.
    pub fn assistant(content: impl Into<String>) -> Message {
        Message { role: Role::Assistant, content: content.into() }
    }
}

impl ChatSettings {
    /// The messages that state a problem.
    pub fn messages(&self, problem: &str) -> Vec<Message> {
        let said = match &self.instruction {
            Some(instruction) => format!("{problem}\n{instruction}"),
            None => problem.to_owned(),
        };
        self.system.iter().map(Message::system).chain([Message::user(said)]).collect()
    }
}

impl Date {
    fn midnight(self) -> NaiveDateTime {
        self.0.and_time(NaiveTime::MIN)
    }
}

impl std::str::FromStr for Date {
    type Err = ChatTemplateError;

    fn from_str(text: &str) -> Result<Date, ChatTemplateError> {
        let date = text.parse().map(Date);
        date.map_err(|_| ChatTemplateError::Date { found: shorten(text) })
    }
}

impl TryFrom<String> for Date {
    type Error = ChatTemplateError;

    fn try_from(text: String) -> Result<Date, ChatTemplateError> {
        text.parse()
    }
}

impl From<Date> for String {
    fn from(date: Date) -> String {
        date.to_string()
    }
}

impl std::fmt::Display for Date {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Bytes of a `tokenizer_config.json`; those with many added tokens have some hundred thousand.
const LONGEST_CONFIG: u64 = 64 << 20;
/// Named templates of one folder.
const MOST_TEMPLATES: usize = 64;

/// Where each template of a folder stands, and its text.
type Named = BTreeMap<String, (String, String)>;

fn named_templates(model_dir: &Path, config: &Json) -> Result<Named, ChatTemplateError> {
    let mut found = Named::new();
    let path = model_dir.join("chat_template.jinja");
    if let Some(source) = read_text(&path)? {
        found.insert("default".to_owned(), (path.display().to_string(), source));
    }
    if let Ok(entries) = std::fs::read_dir(model_dir.join("additional_chat_templates")) {
        for entry in entries.flatten().take(MOST_TEMPLATES) {
            let path = entry.path();
            let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".jinja"));
            if let (Some(name), Some(source)) = (name, read_text(&path)?) {
                found.insert(name.to_owned(), (path.display().to_string(), source));
            }
        }
    }
    if !found.is_empty() {
        return Ok(found);
    }
    let path = model_dir.join("tokenizer_config.json");
    let broken = |reason: String| ChatTemplateError::Broken { path: path.clone(), reason };
    match config.get("chat_template") {
        None | Some(Json::Null) => {}
        Some(Json::String(source)) => {
            found.insert("default".to_owned(), (format!("chat_template of {}", path.display()), source.clone()));
        }
        Some(Json::Array(items)) if items.len() <= MOST_TEMPLATES => {
            for item in items {
                let text = |key: &str| item.get(key).and_then(Json::as_str);
                let (Some(name), Some(source)) = (text("name"), text("template")) else {
                    return Err(broken("an item of chat_template lacks the texts `name` and `template`".to_owned()));
                };
                let place = format!("chat_template `{}` of {}", shorten(name), path.display());
                found.insert(name.to_owned(), (place, source.to_owned()));
            }
        }
        Some(other) => {
            return Err(broken(format!(
                "chat_template is {}, expected a text or a list of at most {MOST_TEMPLATES} named ones",
                shorten(&other.to_string())
            )));
        }
    }
    Ok(found)
}

/// The special tokens that have a text, each of them one or a table with `content`.
fn special_tokens(model_dir: &Path, config: &Json) -> Result<BTreeMap<String, String>, ChatTemplateError> {
    let path = model_dir.join("special_tokens_map.json");
    let more = match read_text(&path)? {
        Some(text) => serde_json::from_str(&text)
            .map_err(|error| ChatTemplateError::Broken { path, reason: error.to_string() })?,
        None => Json::Null,
    };
    let names = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];
    let token = |name: &str| {
        let value = config.get(name).or_else(|| more.get(name))?;
        let text = value.as_str().or_else(|| value.get("content").and_then(Json::as_str))?;
        Some((name.to_owned(), text.to_owned()))
    };
    Ok(names.into_iter().filter_map(token).collect())
}

/// The folder's `tokenizer_config.json`; null where there is none.
fn read_config(model_dir: &Path) -> Result<Json, ChatTemplateError> {
    let path = model_dir.join("tokenizer_config.json");
    let Some(text) = read_text(&path)? else { return Ok(Json::Null) };
    serde_json::from_str(&text).map_err(|error| ChatTemplateError::Broken { path, reason: error.to_string() })
}

/// A file of bounded length; none where it is not there.
fn read_text(path: &Path) -> Result<Option<String>, ChatTemplateError> {
    use std::io::Read as _;
    let failed = |source| ChatTemplateError::Read { path: path.to_owned(), source };
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(failed(source)),
    };
    let mut text = String::new();
    file.take(LONGEST_CONFIG + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > LONGEST_CONFIG {
        return Err(ChatTemplateError::TooLong { place: path.display().to_string(), most: LONGEST_CONFIG });
    }
    Ok(Some(text))
}

/// What the engine says, in one line, without the name it knows the template by.
fn sentence(error: &minijinja::Error) -> String {
    let mut text = error.to_string().replace('\n', " ").replace("(in chat_template:", "(line ");
    if let Some((end, _)) = text.char_indices().nth(300) {
        text.truncate(end);
        text.push('…');
    }
    text
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
