//! Rotary frequencies, plain and scaled to longer contexts.
//!
//! Pair `i` of a head of `d` numbers is turned by `position · base^(−2i/d)`. The scalings change these
//! frequencies, and YaRN the size of what is turned. All is computed in `f32` in the order of transformers'
//! operations, because a frequency's rounding is multiplied by the position: in `f64` the angles at
//! position 32,768 would be off by up to 0.002.
//!
//! * linear: every frequency divided by `factor`;
//! * llama3: those whose wavelength is above `original / low_freq_factor` divided by `factor`, those below
//!   `original / high_freq_factor` kept, a ramp between;
//! * YaRN (arXiv 2309.00071): a ramp over the pairs between those that turn `beta_fast` and `beta_slow`
//!   times in the original context; queries and keys multiplied by `attention_factor`.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{ModelConfig, ShapeError};

/// How the rotary frequencies were changed for longer contexts; in JSON as in `rope_parameters`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "rope_type", rename_all = "lowercase")]
pub enum RopeScaling {
    /// Not at all.
    #[default]
    Default,
    /// Divided by `factor`.
    Linear {
        /// At least 1.
        factor: f64,
    },
    /// As Llama 3.1 does: low frequencies are divided, high ones kept.
    Llama3 {
        /// What low frequencies are divided by, at least 1.
        factor: f64,
        /// `original / low_freq_factor` is the wavelength above which they are divided.
        low_freq_factor: f64,
        /// `original / high_freq_factor` is the wavelength below which they are kept.
        high_freq_factor: f64,
        /// Positions of the training before.
        original_max_position_embeddings: usize,
    },
    /// YaRN.
    Yarn {
        /// What slow pairs are divided by, at least 1.
        factor: f64,
        /// What queries and keys are multiplied by.
        attention_factor: f64,
        /// Turns in the original context above which a pair is kept.
        beta_fast: f64,
        /// Turns in the original context below which a pair is divided by `factor`.
        beta_slow: f64,
        /// Whether the ramp begins and ends at whole pairs.
        truncate: bool,
        /// Positions of the training before.
        original_max_position_embeddings: usize,
    },
}

impl RopeScaling {
    /// The object that `config.json` holds for it.
    pub(super) fn to_json(self, theta: f64) -> Value {
        let mut value = match self {
            RopeScaling::Default => json!({ "rope_type": "default" }),
            RopeScaling::Linear { factor } => json!({ "rope_type": "linear", "factor": factor }),
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => {
                json!({
                    "rope_type": "llama3", "factor": factor, "low_freq_factor": low_freq_factor,
                    "high_freq_factor": high_freq_factor,
                    "original_max_position_embeddings": original_max_position_embeddings,
                })
            }
            RopeScaling::Yarn {
                factor,
                attention_factor,
                beta_fast,
                beta_slow,
                truncate,
                original_max_position_embeddings,
            } => json!({
                "rope_type": "yarn", "factor": factor, "attention_factor": attention_factor,
                "beta_fast": beta_fast, "beta_slow": beta_slow, "truncate": truncate,
                "original_max_position_embeddings": original_max_position_embeddings,
            }),
        };
        value["rope_theta"] = json!(theta);
        value
    }

    /// Whether the numbers make sense together.
    pub(super) fn check(self, theta: f64) -> Result<(), ShapeError> {
        let wrong = |key, found: String, expected: &str| Err(ShapeError { key, found, expected: expected.into() });
        let above_zero = |number: f64| number.is_finite() && number > 0.0;
        let (factor, original) = match self {
            RopeScaling::Default => return Ok(()),
            RopeScaling::Linear { factor } => (factor, 1),
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => {
                if !(above_zero(low_freq_factor) && above_zero(high_freq_factor) && low_freq_factor < high_freq_factor)
                {
                    let expected = format!("above 0 and below `high_freq_factor` = {high_freq_factor}");
                    return wrong("low_freq_factor", low_freq_factor.to_string(), &expected);
                }
                (factor, original_max_position_embeddings)
            }
            RopeScaling::Yarn {
                factor,
                attention_factor,
                beta_fast,
                beta_slow,
                original_max_position_embeddings,
                ..
            } => {
                if !(above_zero(beta_slow) && above_zero(beta_fast) && beta_slow <= beta_fast) {
                    let expected = format!("above 0 and at most `beta_fast` = {beta_fast}");
                    return wrong("beta_slow", beta_slow.to_string(), &expected);
                }
                if !above_zero(attention_factor) {
                    return wrong("attention_factor", attention_factor.to_string(), "above 0");
                }
                if theta <= 1.0 {
                    return wrong("rope_theta", theta.to_string(), "above 1 for YaRN");
                }
                (factor, original_max_position_embeddings)
            }
        };
        if !(factor.is_finite() && factor >= 1.0) {
            return wrong("factor", factor.to_string(), "at least 1");
        }
        if original == 0 {
            return wrong("original_max_position_embeddings", "0".into(), "at least 1");
        }
        Ok(())
    }
}

/// YaRN's usual factor of attention: `0.1 · scale · ln factor + 1`.
pub(super) fn attention_factor(factor: f64, scale: f64) -> f64 {
    if factor <= 1.0 { 1.0 } else { 0.1 * scale * factor.ln() + 1.0 }
}

impl ModelConfig {
    /// Radians per position of each pair of a head.
    pub(crate) fn frequencies(&self) -> Vec<f32> {
        let (dim, half) = (self.head_dim as f32, self.head_dim / 2);
        // The power in f64 of an exponent in f32: what a good power in f32 gives.
        let wavelengths: Vec<f32> =
            (0..half).map(|pair| self.rope_theta.powf(f64::from((2 * pair) as f32 / dim)) as f32).collect();
        let plain = wavelengths.iter().map(|wavelength| 1.0 / wavelength);
        match self.rope_scaling {
            RopeScaling::Default => plain.collect(),
            RopeScaling::Linear { factor } => plain.map(|frequency| frequency / factor as f32).collect(),
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => {
                let (original, factor) = (original_max_position_embeddings as f64, factor as f32);
                let longest = (original / low_freq_factor) as f32;
                let shortest = (original / high_freq_factor) as f32;
                plain
                    .map(|frequency| {
                        // A number divided by a tensor is, in torch, its product with the reciprocal.
                        let wavelength = 1.0 / frequency * (2.0 * PI) as f32;
                        if wavelength > longest {
                            frequency / factor
                        } else if wavelength < shortest {
                            frequency
                        } else {
                            let smooth = (1.0 / wavelength * original as f32 - low_freq_factor as f32)
                                / (high_freq_factor - low_freq_factor) as f32;
                            (1.0 - smooth) * frequency / factor + smooth * frequency
                        }
                    })
                    .collect()
            }
            RopeScaling::Yarn { factor, beta_fast, beta_slow, truncate, original_max_position_embeddings, .. } => {
                let pair = |turns: f64| {
                    let original = original_max_position_embeddings as f64;
                    self.head_dim as f64 * (original / (turns * 2.0 * PI)).ln() / (2.0 * self.rope_theta.ln())
                };
                let (mut first, mut last) = (pair(beta_fast), pair(beta_slow));
                if truncate {
                    (first, last) = (first.floor(), last.ceil());
                }
                (first, last) = (first.max(0.0), last.min(self.head_dim as f64 - 1.0));
                if first == last {
                    last += 0.001;
                }
                let ramp = |pair: usize| ((pair as f32 - first as f32) / (last - first) as f32).clamp(0.0, 1.0);
                wavelengths
                    .iter()
                    .enumerate()
                    .map(|(pair, wavelength)| {
                        let kept = 1.0 - ramp(pair);
                        1.0 / (factor as f32 * wavelength) * (1.0 - kept) + 1.0 / wavelength * kept
                    })
                    .collect()
            }
        }
    }

    /// What turned queries and keys are multiplied by.
    pub(crate) fn rotary_size(&self) -> f32 {
        match self.rope_scaling {
            RopeScaling::Yarn { attention_factor, .. } => attention_factor as f32,
            _ => 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(scaling: RopeScaling, expected: [u32; 32]) {
        let mut config = ModelConfig::new(8, 128, 1, 2, 1, 8);
        (config.rope_theta, config.rope_scaling) = (1e6, scaling);
        let found = config.frequencies();
        let bits: Vec<u32> = found.iter().map(|frequency| frequency.to_bits()).collect();
        assert_eq!(bits, expected, "{found:?}");
    }

    /// The bits of transformers 5.19 with torch 2.13, for heads of 64 numbers and a base of a million.
    #[test]
    fn frequencies_are_transformers_to_the_bit() {
        let llama3 = RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 128,
        };
        check(
            llama3,
            [
                0x3f800000, 0x3f263de0, 0x3ed7e89b, 0x3e8c3504, 0x3e220e51, 0x3d75b69d, 0x3cab55a7, 0x3bc7763f,
                0x3b8186e3, 0x3b28398b, 0x3ada7bf2, 0x3a8de12d, 0x3a38449c, 0x39ef520e, 0x399b690d, 0x3949d75c,
                0x3903126f, 0x38aa3b44, 0x385d1725, 0x380f9272, 0x37ba7753, 0x37722ce2, 0x371d43a4, 0x36cc3fbe,
                0x3684a2b2, 0x362c431d, 0x35dfba4f, 0x359148e3, 0x353cb0c1, 0x34f51070, 0x349f23e4, 0x344eaf79,
            ],
        );
        let yarn = RopeScaling::Yarn {
            factor: 4.0,
            attention_factor: attention_factor(4.0, 1.0),
            beta_fast: 32.0,
            beta_slow: 1.0,
            truncate: true,
            original_max_position_embeddings: 256,
        };
        check(
            yarn,
            [
                0x3f800000, 0x3f186363, 0x3eb3ec81, 0x3e524f86, 0x3df2cb5f, 0x3d89f53c, 0x3d19940d, 0x3ca637df,
                0x3c2cb3d9, 0x3ba8398b, 0x3b5a7bf2, 0x3b0de12d, 0x3ab8449c, 0x3a6f520e, 0x3a1b690d, 0x39c9d75c,
                0x3983126f, 0x392a3b44, 0x38dd1725, 0x388f9272, 0x383a7753, 0x37f22ce2, 0x379d43a4, 0x374c3fbe,
                0x3704a2b2, 0x36ac431d, 0x365fba4f, 0x361148e3, 0x35bcb0c1, 0x35751070, 0x351f23e4, 0x34ceaf79,
            ],
        );
    }
}
