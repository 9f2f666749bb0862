//! The penalty on switching thoughts as it is asked for: words become tokens of a model's tokenizer.

use anyhow::{Result, bail};
use clap::Args;
use toehold_rollout::{ConfidenceStop, SamplingParams, SwitchPenalty, TokenId, TokenizerFile};
use toehold_training::evaluation::confidence::WINDOW;
use toehold_training::recipe::{SWITCH_WORDS, ThoughtSwitch};

/// What changes or ends a completion while it is drawn.
#[derive(Clone, Debug, Args)]
pub struct SteerArgs {
    /// Penalise another thought: this is taken from the logits of the words that begin one (TIP: 3)
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub penalty: Option<f32>,
    /// Tokens from a thought's beginning in which --penalty holds
    #[arg(long, value_name = "TOKENS", default_value_t = 600, requires = "penalty")]
    pub penalty_window: u32,
    /// Words that begin another thought, for --penalty; separated by commas
    #[arg(long, value_delimiter = ',', value_name = "WORDS", default_values = SWITCH_WORDS, requires = "penalty")]
    pub switch: Vec<String>,
    /// End a completion where the mean log-probability of its last tokens falls below this, in nats
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub stop_below: Option<f64>,
    /// Tokens that --stop-below takes the mean of; a shorter completion goes on
    #[arg(long, value_name = "TOKENS", default_value_t = WINDOW as u32, requires = "stop_below")]
    pub stop_window: u32,
}

impl SteerArgs {
    /// The same parameters with what was asked for.
    ///
    /// # Errors
    /// A number out of range, and words that the tokenizer does not have.
    pub fn applied(&self, params: SamplingParams, tokenizer: &TokenizerFile) -> Result<SamplingParams> {
        let SteerArgs { penalty, penalty_window, switch, stop_below, stop_window } = self;
        let mut params = params;
        if let Some(penalty) = *penalty {
            check_penalty(penalty)?;
            let tokens = switch_tokens(tokenizer, switch, "--switch")?;
            params.thought_switch = Some(SwitchPenalty { tokens, penalty, window: *penalty_window });
        }
        if let Some(below) = *stop_below {
            if below.is_nan() {
                bail!("--stop-below is NaN, expected a number");
            }
            if *stop_window == 0 {
                bail!("--stop-window is 0, expected at least 1");
            }
            params.stop_below = Some(ConfidenceStop { window: *stop_window, below });
        }
        Ok(params)
    }
}

/// The range of `--penalty`.
///
/// # Errors
/// It is outside.
pub fn check_penalty(penalty: f32) -> Result<()> {
    if !(0.0..=SwitchPenalty::MOST).contains(&penalty) {
        bail!("--penalty is {penalty}, expected at least 0 and at most 1e6");
    }
    Ok(())
}

/// The penalty of a recipe's table `[evaluate.thought_switch]`.
///
/// # Errors
/// Words that the tokenizer does not have.
pub fn of_recipe(settings: &ThoughtSwitch, tokenizer: &TokenizerFile) -> Result<SwitchPenalty> {
    let tokens = switch_tokens(tokenizer, &settings.words, "[evaluate.thought_switch] words")?;
    Ok(SwitchPenalty { tokens, penalty: settings.penalty, window: settings.window })
}

/// The first token of each word, as a line's first word and inside a line, in small and capital letters;
/// those that the tokenizer does not know are left out. `place` is where the words were written.
///
/// # Errors
/// The tokenizer knows none of the words.
pub fn switch_tokens(tokenizer: &TokenizerFile, words: &[String], place: &str) -> Result<Vec<TokenId>> {
    let mut found = Vec::new();
    for word in words.iter().filter(|word| !word.is_empty()) {
        let mut letters = word.chars();
        let capital: String = letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect();
        for text in [word.clone(), capital.clone(), format!(" {word}"), format!(" {capital}")] {
            let token = tokenizer.encode(&text).ok().and_then(|tokens| tokens.first().copied());
            let Some(token) = token else { continue };
            let written = tokenizer.decode_raw(&[token]);
            let is_known = !written.trim().is_empty() && text.trim().starts_with(written.trim());
            if is_known && !found.contains(&token) {
                found.push(token);
            }
        }
    }
    if found.is_empty() {
        bail!("the tokenizer has none of the words {}\nhint: name others with {place}", words.join(", "));
    }
    Ok(found)
}
