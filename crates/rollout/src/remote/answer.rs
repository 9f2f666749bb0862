//! From a choice as it was read to a completion that may be kept.
//!
//! A completion is kept if it can be what the run asked for, and refused by name otherwise: an end token is its
//! last token and nowhere else; without one it has exactly as many tokens as were allowed; every token is one of
//! the vocabulary and has a log-probability that is finite and at most 0 (1e-3 of rounding is forgiven).
//!
//! Text is made tokens again only where the fleet was told that its servers give nothing else. The tokens then
//! must decode to the same text and be as many as the log-probabilities; whether the server really sampled
//! *these* tokens nobody can say, so such completions serve collection only.

use super::protocol::Choice;
use crate::{Completion, SamplingParams, StopReason, TokenId, TokenizerFile};

/// What a completion is held against.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules<'a> {
    /// What was asked.
    pub params: &'a SamplingParams,
    /// Tokens of the vocabulary.
    pub vocabulary: usize,
    /// Makes tokens of text, where servers give nothing else.
    pub text: Option<&'a TokenizerFile>,
}

/// Why a choice is refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Neither `stop` nor `length`.
    #[error("a completion ended as `{0}`, expected `stop` or `length`")]
    Unfinished(String),
    /// Tokens were asked for and text came.
    #[error(
        "a completion has text and no token ids\nhint: sampler.kind = \"openai\" takes text, for `toehold sample` only"
    )]
    TextOnly,
    /// Text that does not come back from its tokens.
    #[error("a completion's text {begins:?} does not come back when it is made tokens and text again")]
    Retokenized {
        /// Its first characters.
        begins: String,
    },
    /// Counts differ.
    #[error("a completion has {behavior} log-probabilities, expected {tokens}, one per token")]
    Behavior {
        /// What came.
        behavior: usize,
        /// Tokens.
        tokens: usize,
    },
    /// NaN, infinite or above 0.
    #[error("log-probability {value} of token {at} of a completion, expected a finite number of at most 0")]
    Number {
        /// Which token.
        at: usize,
        /// The number.
        value: f32,
    },
    /// Not in the vocabulary.
    #[error("a completion has token {token}, but the policy's vocabulary has {vocabulary} tokens")]
    UnknownToken {
        /// The token.
        token: TokenId,
        /// Tokens of the policy.
        vocabulary: usize,
    },
    /// No token, more than asked for, or fewer without an end.
    #[error("a completion has {tokens} tokens and ended as `{finish}`, where at most {max_tokens} were asked for")]
    Length {
        /// How many.
        tokens: usize,
        /// The server's word.
        finish: String,
        /// How many were allowed.
        max_tokens: u32,
    },
    /// The server's end tokens are not the run's.
    #[error("a completion ended with token {token}, which is none of the run's end tokens {stop:?}")]
    OtherEnd {
        /// Its last token.
        token: TokenId,
        /// The run's.
        stop: Vec<TokenId>,
    },
    /// It went on after its end.
    #[error("a completion goes on after its end token {token}")]
    WentOn {
        /// The end token.
        token: TokenId,
    },
}

/// Makes a completion of a choice.
///
/// # Errors
/// See [`Refusal`].
pub(super) fn completion(choice: Choice, rules: &Rules<'_>) -> Result<Completion, Refusal> {
    let Rules { params, vocabulary, text: tokenizer } = *rules;
    let finish = choice.finish.unwrap_or_else(|| "nothing".to_owned());
    if finish != "stop" && finish != "length" {
        return Err(Refusal::Unfinished(finish));
    }
    let mut behavior = choice.behavior;
    let tokens = match (choice.tokens, choice.text, tokenizer) {
        (Some(tokens), ..) => tokens,
        (None, Some(text), Some(tokenizer)) => {
            let differs = || Refusal::Retokenized { begins: text.chars().take(40).collect() };
            let mut tokens = tokenizer.encode_exactly(&text).ok_or_else(differs)?;
            // The text leaves its end token out, the log-probabilities do not.
            if let (true, Some(&end)) = (behavior.len() == tokens.len() + 1 && finish == "stop", params.stop.first()) {
                tokens.push(end);
            }
            tokens
        }
        _ => return Err(Refusal::TextOnly),
    };
    if behavior.len() != tokens.len() {
        return Err(Refusal::Behavior { behavior: behavior.len(), tokens: tokens.len() });
    }
    for (at, value) in behavior.iter_mut().enumerate() {
        if !value.is_finite() || *value > 1e-3 {
            return Err(Refusal::Number { at, value: *value });
        }
        *value = value.min(0.0);
    }
    if let Some(&token) = tokens.iter().find(|&&token| token as usize >= vocabulary) {
        return Err(Refusal::UnknownToken { token, vocabulary });
    }
    let max_tokens = params.max_tokens;
    let Some((&last, before)) = tokens.split_last().filter(|_| tokens.len() <= max_tokens as usize) else {
        return Err(Refusal::Length { tokens: tokens.len(), finish, max_tokens });
    };
    if let Some(&token) = before.iter().find(|token| params.stop.contains(token)) {
        return Err(Refusal::WentOn { token });
    }
    let stop = if params.stop.contains(&last) {
        StopReason::EndOfText
    } else if tokens.len() == max_tokens as usize {
        StopReason::Length
    } else if finish == "stop" {
        return Err(Refusal::OtherEnd { token: last, stop: params.stop.clone() });
    } else {
        // The server's own limit was shorter.
        return Err(Refusal::Length { tokens: tokens.len(), finish, max_tokens });
    };
    Ok(Completion { tokens, behavior, stop })
}
