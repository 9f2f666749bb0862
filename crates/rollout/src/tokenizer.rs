//! The tokenizer of a model folder, and the template that makes a prompt of a problem.
//!
//! The folder's own `tokenizer.json` is used as it is; nothing is added to a text (no beginning token)
//! and what was sampled is never encoded again.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tokenizers::Tokenizer;

use crate::TokenId;

/// A `tokenizer.json` and the tokens that end a text for its model.
#[derive(Clone, Debug)]
pub struct TokenizerFile {
    tokenizer: Tokenizer,
    end_tokens: Vec<TokenId>,
    hash: String,
    largest_id: TokenId,
}

impl TokenizerFile {
    /// Opens the `tokenizer.json` of a model folder.
    ///
    /// The end tokens are `eos_token_id` (a number or a list) of `generation_config.json`, else of
    /// `config.json`; where neither says, every token of the vocabulary with a well-known name
    /// (`<|endoftext|>`, `<|im_end|>`, `</s>`, …).
    ///
    /// # Errors
    /// A missing or broken file, or a vocabulary without any token.
    pub fn open(model_dir: &Path) -> Result<TokenizerFile, TokenizerError> {
        let path = model_dir.join("tokenizer.json");
        let bytes = read_if_there(&path)?.ok_or_else(|| TokenizerError::Missing { folder: model_dir.to_owned() })?;
        let broken = |reason: String| TokenizerError::Broken { path: path.clone(), reason };
        let tokenizer = Tokenizer::from_bytes(&bytes).map_err(|source| broken(source.to_string()))?;
        let vocabulary = tokenizer.get_vocab(true);
        let largest_id = vocabulary.values().copied().max().ok_or_else(|| broken("it has no token".to_owned()))?;
        let end_tokens = match declared_end_tokens(model_dir)? {
            Some(tokens) => tokens,
            None => END_TOKEN_NAMES.iter().filter_map(|name| tokenizer.token_to_id(name)).collect(),
        };
        let hash = blake3::hash(&bytes).to_hex()[..16].to_owned();
        Ok(TokenizerFile { tokenizer, end_tokens, hash, largest_id })
    }

    /// The tokens of a text, nothing added.
    ///
    /// # Errors
    /// The tokenizer refuses the text: a word-level one without an unknown token, for example.
    pub fn encode(&self, text: &str) -> Result<Vec<TokenId>, TokenizerError> {
        let encoding = self
            .tokenizer
            .encode_fast(text, false)
            .map_err(|source| TokenizerError::Encode { text: shorten(text), reason: source.to_string() })?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The tokens of a text that decode to it again, to the letter; none where no such tokens are found.
    pub fn encode_exactly(&self, text: &str) -> Option<Vec<TokenId>> {
        let tokens = self.encode(text).ok()?;
        (self.decode(&tokens) == text).then_some(tokens)
    }

    /// The text of tokens, special ones left out. Ids outside the vocabulary have no text.
    pub fn decode(&self, tokens: &[TokenId]) -> String {
        self.text(tokens, true)
    }

    /// The text of tokens, end tokens left out and other special ones written out: the end of a thought is a
    /// special token for some models, and where it stands has to be found.
    pub fn decode_open(&self, tokens: &[TokenId]) -> String {
        let open: Vec<TokenId> = tokens.iter().copied().filter(|token| !self.end_tokens.contains(token)).collect();
        self.text(&open, false)
    }

    /// The text of tokens, special ones (an end of text) written out.
    pub fn decode_raw(&self, tokens: &[TokenId]) -> String {
        self.text(tokens, false)
    }

    /// The first special token that is written out in `text`, and its id; none where there is none.
    ///
    /// # Errors
    /// As [`TokenizerFile::encode`].
    pub fn special_token_in(&self, text: &str) -> Result<Option<(String, TokenId)>, TokenizerError> {
        let added = self.tokenizer.get_added_tokens_decoder();
        let special = |token: &TokenId| {
            added.get(token).filter(|token| token.special && text.contains(&token.content)).map(|t| t.content.clone())
        };
        Ok(self.encode(text)?.into_iter().find_map(|token| special(&token).map(|text| (text, token))))
    }

    /// The text of one token, a special one too; none for an id outside the vocabulary.
    pub fn token_text(&self, token: TokenId) -> Option<String> {
        self.tokenizer.id_to_token(token)
    }

    /// The tokens that end a text; empty where the folder names none.
    pub fn end_tokens(&self) -> &[TokenId] {
        &self.end_tokens
    }

    /// BLAKE3 of the file, its first 16 hexadecimal digits.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// The largest token id. Ids may have gaps, so it may exceed [`TokenizerFile::vocabulary_size`].
    pub fn largest_id(&self) -> TokenId {
        self.largest_id
    }

    /// How many tokens there are, added ones included.
    pub fn vocabulary_size(&self) -> usize {
        self.tokenizer.get_vocab_size(true)
    }

    /// Checks that every token id is one that a model with `model_vocabulary` tokens has. A model may
    /// have more: many pad their embeddings.
    ///
    /// # Errors
    /// A token id is too large for the model.
    pub fn check_vocabulary(&self, model_vocabulary: usize) -> Result<(), TokenizerError> {
        if (self.largest_id as usize) < model_vocabulary {
            return Ok(());
        }
        Err(TokenizerError::Vocabulary { largest_id: self.largest_id, model_vocabulary })
    }

    fn text(&self, tokens: &[TokenId], skip_special: bool) -> String {
        // A decoder can only fail on its own malformed settings; the bare tokens say more than nothing.
        self.tokenizer.decode(tokens, skip_special).unwrap_or_else(|_| {
            let words: Vec<String> = tokens.iter().filter_map(|&token| self.tokenizer.id_to_token(token)).collect();
            words.join(" ")
        })
    }
}

/// Makes a prompt of a problem: a text in which `{problem}` stands for the statement.
///
/// Other braces mean themselves, so `\boxed{}` needs no care; `{{word}}` writes `{word}`.
///
/// ```
/// use toehold_rollout::PromptTemplate;
/// let template = PromptTemplate::new("{problem}\nPut the answer in \\boxed{}.").unwrap();
/// assert_eq!(template.render("2 + 2"), "2 + 2\nPut the answer in \\boxed{}.");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromptTemplate {
    source: String,
    /// The texts around the statement, at least two.
    pieces: Vec<String>,
}

impl PromptTemplate {
    /// Reads a template.
    ///
    /// # Errors
    /// `{problem}` is not in it, or another `{word}` is.
    pub fn new(source: &str) -> Result<PromptTemplate, TemplateError> {
        let mut pieces = vec![String::new()];
        let mut rest = source;
        while let Some(open) = rest.find('{') {
            let (before, brace) = rest.split_at(open);
            push(&mut pieces, before);
            if let Some(word) = braced(brace, "{{", "}}") {
                push(&mut pieces, &format!("{{{word}}}"));
                rest = &brace[word.len() + 4..];
            } else if let Some(word) = braced(brace, "{", "}") {
                if word != "problem" {
                    return Err(TemplateError::UnknownPlaceholder { word: word.to_owned() });
                }
                pieces.push(String::new());
                rest = &brace[word.len() + 2..];
            } else {
                push(&mut pieces, "{");
                rest = &brace[1..];
            }
        }
        push(&mut pieces, rest);
        if pieces.len() < 2 {
            return Err(TemplateError::NoProblem { template: shorten(source) });
        }
        Ok(PromptTemplate { source: source.to_owned(), pieces })
    }

    /// The prompt of a problem. Braces in the statement mean nothing.
    pub fn render(&self, problem: &str) -> String {
        self.pieces.join(problem)
    }

    /// The template as it was written.
    pub fn as_str(&self) -> &str {
        &self.source
    }
}

impl Default for PromptTemplate {
    /// The statement and a line end, which a tokenizer of words drops.
    fn default() -> PromptTemplate {
        PromptTemplate { source: "{problem}\n".to_owned(), pieces: vec![String::new(), "\n".to_owned()] }
    }
}

/// Why a tokenizer cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// The folder has no `tokenizer.json`.
    #[error("{} has no tokenizer.json\nhint: a model folder needs config.json, model.safetensors and tokenizer.json", folder.display())]
    Missing {
        /// The model folder.
        folder: PathBuf,
    },
    /// A file is there and cannot be read.
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
    /// A text that has no tokens.
    #[error("cannot encode `{text}`: {reason}")]
    Encode {
        /// The text, shortened.
        text: String,
        /// What the tokenizer says.
        reason: String,
    },
    /// A token that the model does not have.
    #[error(
        "the tokenizer's largest token id is {largest_id}, but the model's vocabulary has {model_vocabulary} tokens\nhint: take the tokenizer from the model's own folder"
    )]
    Vocabulary {
        /// Of the tokenizer.
        largest_id: TokenId,
        /// Of the model.
        model_vocabulary: usize,
    },
}

/// Why a template was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// Nothing stands for the statement.
    #[error("the template `{template}` has no {{problem}}")]
    NoProblem {
        /// The template, shortened.
        template: String,
    },
    /// A word in braces that stands for nothing.
    #[error(
        "unknown placeholder {{{word}}}, expected {{problem}}\nhint: to write it as it is, double the braces: {{{{{word}}}}}"
    )]
    UnknownPlaceholder {
        /// The word.
        word: String,
    },
}

/// What checkpoints commonly call their end of text or of a turn.
const END_TOKEN_NAMES: [&str; 8] =
    ["<|endoftext|>", "<|im_end|>", "</s>", "<eos>", "<|eot_id|>", "<|end_of_text|>", "<|end|>", "<end_of_turn>"];

fn declared_end_tokens(model_dir: &Path) -> Result<Option<Vec<TokenId>>, TokenizerError> {
    for name in ["generation_config.json", "config.json"] {
        let path = model_dir.join(name);
        let Some(bytes) = read_if_there(&path)? else { continue };
        let broken = |reason: String| TokenizerError::Broken { path: path.clone(), reason };
        let config: Value = serde_json::from_slice(&bytes).map_err(|source| broken(source.to_string()))?;
        let Some(declared) = config.get("eos_token_id").filter(|value| !value.is_null()) else { continue };
        let token = |value: &Value| value.as_u64().and_then(|id| TokenId::try_from(id).ok());
        let tokens = match declared {
            Value::Array(ids) => ids.iter().map(token).collect(),
            id => token(id).map(|id| vec![id]),
        };
        let expected = || broken(format!("eos_token_id is {declared}, expected a token id or a list of them"));
        return tokens.filter(|tokens: &Vec<TokenId>| !tokens.is_empty()).map(Some).ok_or_else(expected);
    }
    Ok(None)
}

fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, TokenizerError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(TokenizerError::Read { path: path.to_owned(), source }),
    }
}

/// The word (letters and `_`) that a text begins with between `open` and `close`.
fn braced<'a>(text: &'a str, open: &str, close: &str) -> Option<&'a str> {
    let inner = text.strip_prefix(open)?;
    let word = &inner[..inner.find(|inner: char| !inner.is_ascii_alphabetic() && inner != '_')?];
    (!word.is_empty() && inner[word.len()..].starts_with(close)).then_some(word)
}

/// Adds literal text to the last piece.
fn push(pieces: &mut [String], text: &str) {
    if let Some(last) = pieces.last_mut() {
        last.push_str(text);
    }
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
