//! A model that hashes: its tokens depend on the prompt and the seed alone, so whoever asked can say what the
//! answer has to be.

use std::sync::Mutex;

use super::{Asked, Model, Written};

/// Tokens of its vocabulary; token 0 is the end.
pub const VOCABULARY: u32 = 1000;

/// The model. Its weights are a name, which its scores depend on and its tokens do not.
pub struct Toy {
    weights: Mutex<String>,
    /// Tokens of a completion.
    length: usize,
}

impl Toy {
    pub fn new(weights: &str, length: usize) -> Toy {
        Toy { weights: Mutex::new(weights.to_owned()), length }
    }

    /// What it writes.
    pub fn written(&self, tokens: &[u32], seed: i64, max_tokens: usize) -> Written {
        let start = tokens.iter().fold(seed as u64, |hash, &token| mixed(hash ^ u64::from(token)));
        let length = self.length.min(max_tokens);
        let ends = length < max_tokens;
        let token = |at: usize| {
            let is_end = ends && at + 1 == length;
            if is_end { 0 } else { 1 + (mixed(start ^ at as u64) % u64::from(VOCABULARY - 1)) as u32 }
        };
        let tokens: Vec<u32> = (0..length).map(token).collect();
        let behavior = tokens.iter().map(|&token| -(token as f32) / 256.0).collect();
        (tokens, behavior, ends)
    }
}

impl Model for Toy {
    fn complete(&self, asked: &Asked) -> Written {
        let mut written = self.written(&asked.tokens, asked.seed, asked.max_tokens);
        if asked.top_k == 1 {
            written.1.fill(0.0);
        }
        written
    }

    fn score(&self, tokens: &[u32]) -> Vec<f32> {
        scores(&self.weights.lock().unwrap(), tokens)
    }

    fn load(&self, folder: &str) -> Result<(), String> {
        let weights = std::fs::read_to_string(format!("{folder}/weights")).map_err(|error| error.to_string())?;
        *self.weights.lock().unwrap() = weights;
        Ok(())
    }

    fn tokens_of(&self, text: &str) -> Vec<u32> {
        text.bytes().map(u32::from).collect()
    }

    fn text_of(&self, tokens: &[u32]) -> String {
        tokens.iter().filter(|&&token| token > 0).map(|token| format!("{token} ")).collect()
    }
}

/// The log-probabilities that the weights of this name give `tokens[1..]`.
pub fn scores(weights: &str, tokens: &[u32]) -> Vec<f32> {
    let hash = weights.bytes().fold(7, |hash, byte| mixed(hash ^ u64::from(byte)));
    tokens.iter().skip(1).map(|&token| -((mixed(hash ^ u64::from(token)) % 512) as f32) / 128.0).collect()
}

pub fn mixed(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
