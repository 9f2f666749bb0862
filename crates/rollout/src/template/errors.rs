//! What can be wrong with a chat template, and with the prompts that it makes.

use std::path::PathBuf;

use crate::TokenId;
use crate::tokenizer::{TemplateError, TokenizerError};

/// Why a chat template cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChatTemplateError {
    /// The folder has none.
    #[error(
        "{} has no chat template\nhint: write [template] kind = \"text\" for a base model, or name a Jinja file as [template] file",
        folder.display()
    )]
    Absent {
        /// The model folder.
        folder: PathBuf,
    },
    /// The folder has others.
    #[error(
        "{} has no chat template `{name}`, it has {}\nhint: [template] name chooses one of them",
        folder.display(), names.join(", ")
    )]
    UnknownName {
        /// The model folder.
        folder: PathBuf,
        /// What was asked for.
        name: String,
        /// What there is.
        names: Vec<String>,
    },
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{} is broken: {reason}", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file or a template is longer than any real one.
    #[error("{place} is longer than {most} bytes")]
    TooLong {
        /// Which.
        place: String,
        /// The most, in bytes.
        most: u64,
    },
    /// It is no Jinja, or not of this engine.
    #[error("{place} is no template: {reason}")]
    Syntax {
        /// Which.
        place: String,
        /// What is wrong with it.
        reason: String,
    },
    /// It failed.
    #[error("{place} does not render: {reason}")]
    Render {
        /// Which.
        place: String,
        /// What is wrong.
        reason: String,
    },
    /// It called `raise_exception`.
    #[error("{place} refuses the messages: {said}")]
    Raised {
        /// Which.
        place: String,
        /// What it says.
        said: String,
    },
    /// It called `strftime_now`, and there is no date.
    #[error(
        "{place} writes today's date, and prompts must not change from day to day\n\
         hint: give it a date: [template] date = \"2025-01-31\""
    )]
    NoDate {
        /// Which.
        place: String,
    },
    /// What is no date.
    #[error("the date is `{found}`, expected a day such as 2025-01-31")]
    Date {
        /// What was found, shortened.
        found: String,
    },
}

/// Why there is no prompt.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PromptError {
    /// The chat template cannot be used.
    #[error(transparent)]
    Chat(#[from] ChatTemplateError),
    /// The text template cannot be used.
    #[error(transparent)]
    Text(#[from] TemplateError),
    /// The text cannot be encoded.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// Nothing opens the assistant's turn.
    #[error(
        "{place} opens no assistant's turn: after the problem it writes {found:?}, but before an assistant's message {expected:?}\n\
         hint: it ignores add_generation_prompt; name one that does not as [template] file"
    )]
    NoGenerationPrompt {
        /// Which template.
        place: String,
        /// The end of the prompt.
        found: String,
        /// What stands before an assistant's message.
        expected: String,
    },
    /// The assistant's turn is over before it began.
    #[error("{place} closes the assistant's turn: the prompt ends in {found:?}, after which nothing can be written")]
    ClosedTurn {
        /// Which template.
        place: String,
        /// The end of the prompt.
        found: String,
    },
    /// The statement is not in the prompt.
    #[error("{place} does not write the user's message")]
    ProblemLost {
        /// Which template.
        place: String,
    },
    /// The statement has a token in it that means something to the model.
    #[error("the problem's text holds the special token `{token}` (id {id}), which would end or begin a turn")]
    SpecialToken {
        /// The token.
        token: String,
        /// Its id.
        id: TokenId,
    },
    /// The prompt is empty.
    #[error("there are no tokens after the template {place}")]
    Empty {
        /// Which template.
        place: String,
    },
    /// Nothing would ever end a completion.
    #[error(
        "the model's folder names no end token, so no completion would ever end\n\
         hint: write eos_token_id, a token id or a list of them, into its generation_config.json"
    )]
    NoEndToken,
    /// An end token that the tokenizer does not have.
    #[error("eos_token_id is {id}, but the tokenizer's largest token id is {largest_id}")]
    UnknownEndToken {
        /// The id.
        id: TokenId,
        /// Of the tokenizer.
        largest_id: TokenId,
    },
}
