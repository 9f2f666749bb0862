//! From a problem to the tokens before the assistant's first.
//!
//! What is checked once, before anything is sampled, on a message that stands for a problem:
//!
//! * the template renders, and writes the message;
//! * the prompt goes at least as far as what stands before an assistant's message in a chat that has one
//!   (white space and `<think>`, `</think>` apart: a template may open a thought that the message lacks, or
//!   close an empty one). This holds for templates whose user's turn ends where the assistant's begins
//!   (`[/INST]`), and fails for those that ignore `add_generation_prompt`;
//! * the prompt does not end in what closes an assistant's turn, nor in an end token.

use super::{ChatSettings, ChatTemplate, Ending, Message, PromptError};
use crate::TokenId;
use crate::tokenizer::{PromptTemplate, TokenizerFile};

/// Tokens at the end of a prompt that may be `<think>` and white space: bytes, in the worst case.
const THOUGHT_OPENING: usize = 16;

/// How problems become prompts.
#[derive(Clone, Debug)]
pub enum Prompts {
    /// A text around the statement, as base models are asked.
    Text(PromptTemplate),
    /// The model's own chat template.
    Chat {
        /// The template.
        template: Box<ChatTemplate>,
        /// What it is told.
        settings: ChatSettings,
    },
}

/// A problem as the policy reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// After the template.
    pub text: String,
    /// The text in tokens, none added.
    pub tokens: Vec<TokenId>,
}

impl Prompts {
    /// The prompt of a problem.
    ///
    /// # Errors
    /// The template refuses it, it cannot be encoded, it has no token, or (in a chat) it holds a special
    /// token, with which a problem could end its own turn.
    pub fn prompt(&self, problem: &str, tokenizer: &TokenizerFile) -> Result<Prompt, PromptError> {
        let text = match self {
            Prompts::Text(template) => template.render(problem),
            Prompts::Chat { template, settings } => {
                if let Some((token, id)) = tokenizer.special_token_in(problem)? {
                    return Err(PromptError::SpecialToken { token, id });
                }
                template.render(&settings.messages(problem), settings, Ending::AssistantOpens)?
            }
        };
        let tokens = tokenizer.encode(&text)?;
        if tokens.is_empty() {
            return Err(PromptError::Empty { place: self.place() });
        }
        Ok(Prompt { text, tokens })
    }

    /// Checks what can be checked without a problem.
    ///
    /// # Errors
    /// No end token; or a chat template that does not render, opens no assistant's turn, or closes it.
    pub fn check(&self, tokenizer: &TokenizerFile) -> Result<(), PromptError> {
        let end_tokens = tokenizer.end_tokens();
        if end_tokens.is_empty() {
            return Err(PromptError::NoEndToken);
        }
        if let Some(&id) = end_tokens.iter().find(|&&id| id > tokenizer.largest_id()) {
            return Err(PromptError::UnknownEndToken { id, largest_id: tokenizer.largest_id() });
        }
        let Prompts::Chat { template, settings } = self else { return Ok(()) };
        let prompt = template.render(&settings.messages(ASKED), settings, Ending::AssistantOpens)?;
        let lost = || PromptError::ProblemLost { place: self.place() };
        let opening = prompt.rsplit_once(ASKED).map(|(_, after)| after).ok_or_else(lost)?;
        if let Some((before, after)) = self.around_an_answer()
            && let Some((_, expected)) = before.rsplit_once(ASKED)
        {
            if !without_thoughts(opening).starts_with(&without_thoughts(expected)) {
                let (found, expected) = (opening.to_owned(), expected.to_owned());
                return Err(PromptError::NoGenerationPrompt { place: self.place(), found, expected });
            }
            let closing = after.trim();
            if !closing.is_empty() && opening.trim_end().ends_with(closing) {
                return Err(PromptError::ClosedTurn { place: self.place(), found: opening.to_owned() });
            }
        }
        let last = tokenizer.encode(prompt.trim_end())?.last().copied();
        if last.is_some_and(|last| end_tokens.contains(&last)) && !self.ends_users_turn(opening) {
            return Err(PromptError::ClosedTurn { place: self.place(), found: opening.to_owned() });
        }
        Ok(())
    }

    /// What closes an assistant's turn; none for plain text, or where the template writes nothing there.
    pub fn closing(&self) -> Option<String> {
        let (_, after) = self.around_an_answer()?;
        let closing = after.trim();
        (!closing.is_empty()).then(|| closing.to_owned())
    }

    /// Whether the prompt's last word opens a thought, which the policy goes on with.
    pub fn opens_thought(prompt: &str) -> bool {
        prompt.trim_end().ends_with("<think>")
    }

    /// The same of a prompt in tokens.
    pub fn leaves_thought_open(prompt: &[TokenId], tokenizer: &TokenizerFile) -> bool {
        let end = &prompt[prompt.len().saturating_sub(THOUGHT_OPENING)..];
        Prompts::opens_thought(&tokenizer.decode_raw(end))
    }

    /// Where the template is from.
    pub fn place(&self) -> String {
        match self {
            Prompts::Text(template) => format!("{:?}", template.as_str()),
            Prompts::Chat { template, .. } => template.place().to_owned(),
        }
    }

    /// What stands before and after an assistant's message that answers; none where the template does not
    /// render such a chat, which is no concern of a prompt.
    fn around_an_answer(&self) -> Option<(String, String)> {
        let Prompts::Chat { template, settings } = self else { return None };
        let mut messages = settings.messages(ASKED);
        messages.push(Message::assistant(ANSWERED));
        let whole = template.render(&messages, settings, Ending::Nothing).ok()?;
        let (before, after) = whole.rsplit_once(ANSWERED)?;
        Some((before.to_owned(), after.to_owned()))
    }

    /// Whether what follows the user's message is the same with and without the assistant's beginning, as in
    /// templates where one token (an end token even) ends one turn and begins the other.
    fn ends_users_turn(&self, opening: &str) -> bool {
        let Prompts::Chat { template, settings } = self else { return false };
        let shut = template.render(&settings.messages(ASKED), settings, Ending::Nothing);
        shut.is_ok_and(|shut| shut.ends_with(opening)) && self.around_an_answer().is_some()
    }
}

/// Stand for a problem and an answer: words that no template writes or looks for.
const ASKED: &str = "QZJXAsked7";
const ANSWERED: &str = "QZJXAnswered7";

fn without_thoughts(text: &str) -> String {
    text.replace("<think>", "").replace("</think>", "").split_whitespace().collect()
}
