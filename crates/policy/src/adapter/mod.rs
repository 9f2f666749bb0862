//! Low-rank adapters (LoRA, arXiv 2106.09685): two narrow matrices learnt beside a frozen one.
//!
//! `y = W x + s · B (A x)`, where A is `[rank, inputs]`, B `[outputs, rank]` and `s = alpha / rank`, or
//! `alpha / √rank` (rsLoRA, arXiv 2312.03732). A begins as PEFT begins it, uniform in ±1/√inputs, and B as zeros,
//! so a fresh adapter changes nothing, not even a bit.
//!
//! The numbers of an adapter are a list of named tensors, `model.layers.0.self_attn.q_proj.lora_A.weight` and
//! so on: what learns, saves and hashes weights does the same with it. [`peft`] reads and writes the folders of
//! Hugging Face's PEFT.

mod peft;

use std::path::Path;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use toehold_rollout::PolicyVersion;

pub use self::peft::ReadAdapterError;
pub(crate) use self::peft::{base_of, is_adapter_folder};
use crate::weights::{NamedTensor, Weights, matrices, uniform};
use crate::{ModelConfig, WriteWeightsError};

/// What kind of adapter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lora {
    /// Rows of A and columns of B; at least 1.
    pub rank: usize,
    /// What the product is multiplied by, before it is divided; finite.
    pub alpha: f64,
    /// The matrices that get an adapter, in every layer; at least one, each once.
    pub targets: Vec<Target>,
    /// What `alpha` is divided by.
    #[serde(default)]
    pub scaling: Scaling,
}

/// A matrix that every layer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Target {
    /// Queries.
    #[serde(rename = "q_proj")]
    Query,
    /// Keys.
    #[serde(rename = "k_proj")]
    Key,
    /// Values.
    #[serde(rename = "v_proj")]
    Value,
    /// What attention adds to the residual stream.
    #[serde(rename = "o_proj")]
    Output,
    /// The feed-forward layer's gate.
    #[serde(rename = "gate_proj")]
    Gate,
    /// What is gated.
    #[serde(rename = "up_proj")]
    Up,
    /// What the feed-forward layer adds to the residual stream.
    #[serde(rename = "down_proj")]
    Down,
}

/// What `alpha` is divided by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scaling {
    /// By the rank, as LoRA does.
    #[default]
    ByRank,
    /// By its root, as rsLoRA does, so that a higher rank does not learn more slowly.
    ByRootOfRank,
}

/// Numbers of an adapter that make no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the adapter's `{key}` is {found}, expected {expected}")]
pub struct LoraError {
    /// The key.
    pub key: &'static str,
    /// What is there.
    pub found: String,
    /// What is needed.
    pub expected: String,
}

/// An adapter for a model: its kind and its numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Adapter {
    lora: Lora,
    /// Sorted by name; names and shapes are those of [`Adapter::expected`].
    pub(crate) weights: Weights,
}

impl Target {
    /// All of them.
    pub const ALL: [Target; 7] =
        [Target::Query, Target::Key, Target::Value, Target::Output, Target::Gate, Target::Up, Target::Down];

    /// Its name in its layer.
    pub(crate) fn part(self) -> &'static str {
        match self {
            Target::Query => "self_attn.q_proj",
            Target::Key => "self_attn.k_proj",
            Target::Value => "self_attn.v_proj",
            Target::Output => "self_attn.o_proj",
            Target::Gate => "mlp.gate_proj",
            Target::Up => "mlp.up_proj",
            Target::Down => "mlp.down_proj",
        }
    }
}

impl Lora {
    /// What the product of A and B is multiplied by.
    pub fn scale(&self) -> f32 {
        let rank = self.rank as f64;
        let divisor = if self.scaling == Scaling::ByRank { rank } else { rank.sqrt() };
        (self.alpha / divisor) as f32
    }

    /// Whether the numbers make sense.
    ///
    /// # Errors
    /// The first that does not.
    pub fn check(&self) -> Result<(), LoraError> {
        let error = |key, found: String, expected: &str| Err(LoraError { key, found, expected: expected.into() });
        // What is larger than any matrix would only fill the memory.
        if !(1..=1 << 16).contains(&self.rank) {
            return error("rank", self.rank.to_string(), "at least 1 and at most 65536");
        }
        if !(self.alpha.is_finite() && self.scale().is_finite()) {
            return error("alpha", self.alpha.to_string(), "a finite number");
        }
        let mut targets = self.targets.clone();
        targets.sort_unstable();
        targets.dedup();
        if targets.is_empty() || targets.len() < self.targets.len() {
            return error("targets", format!("{:?}", self.targets), "at least one, each once");
        }
        Ok(())
    }
}

impl Adapter {
    /// An adapter that changes nothing yet; the same seed gives the same bits.
    ///
    /// # Errors
    /// When the numbers of `lora` make no sense.
    pub fn random(config: &ModelConfig, lora: Lora, seed: u64) -> Result<Adapter, LoraError> {
        lora.check()?;
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        let mut rng = ChaCha8Rng::from_seed(key);
        let tensors = Adapter::expected(config, &lora).into_iter().map(|(name, shape)| {
            let count = shape.iter().product();
            // Kaiming's uniform numbers with a = √5, torch's default for matrices.
            let bound = 1.0 / (shape[1] as f64).sqrt();
            let mut one = || (bound * (2.0 * uniform(&mut rng) - 1.0)) as f32;
            let values = if is_down(&name) { (0..count).map(|_| one()).collect() } else { vec![0.0; count] };
            NamedTensor { name, shape, values }
        });
        Ok(Adapter { weights: Weights { tensors: tensors.collect() }, lora })
    }

    /// Names and shapes of an adapter's tensors, sorted by name.
    pub fn expected(config: &ModelConfig, lora: &Lora) -> Vec<(String, Vec<usize>)> {
        let parts: Vec<&str> = lora.targets.iter().map(|target| target.part()).collect();
        let mut expected = Vec::new();
        for layer in 0..config.num_hidden_layers {
            for matrix in matrices(config).iter().filter(|matrix| parts.contains(&matrix.part)) {
                let [down, up] = names(layer, matrix.part);
                expected.push((down, vec![lora.rank, matrix.inputs]));
                expected.push((up, vec![matrix.outputs, lora.rank]));
            }
        }
        expected.sort();
        expected
    }

    /// Its kind.
    pub fn lora(&self) -> &Lora {
        &self.lora
    }

    /// Its numbers, sorted by name.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Reads a folder of PEFT's: `adapter_config.json` and `adapter_model.safetensors`, for a model of this
    /// shape.
    ///
    /// # Errors
    /// When a file is missing or broken, or the adapter needs what is not computed here.
    pub fn read(dir: &Path, config: &ModelConfig) -> Result<Adapter, ReadAdapterError> {
        peft::read(dir, config)
    }

    /// Writes the two files into `dir`, which exists; `base` is what the config calls the model's folder.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn save(&self, dir: &Path, base: Option<&Path>) -> Result<(), WriteWeightsError> {
        peft::write(dir, self, base)
    }

    /// With other numbers.
    pub(crate) fn with_weights(&self, weights: Weights) -> Adapter {
        Adapter { lora: self.lora.clone(), weights }
    }

    /// A and B beside one matrix, where it has an adapter.
    pub(crate) fn pair(&self, layer: usize, part: &str) -> Option<[&[f32]; 2]> {
        let [down, up] = self.places(layer, part)?;
        Some([&self.weights.tensors[down].values, &self.weights.tensors[up].values])
    }

    /// Where A and B beside one matrix stand in the list.
    pub(crate) fn places(&self, layer: usize, part: &str) -> Option<[usize; 2]> {
        let [down, up] = names(layer, part);
        Some([self.weights.find(&down)?, self.weights.find(&up)?])
    }

    /// The name of the model that `base` and this are together; that of `base` while every B is zero.
    pub(crate) fn version(&self, base: &PolicyVersion) -> PolicyVersion {
        let ups = self.weights.tensors.iter().filter(|tensor| !is_down(&tensor.name));
        if ups.flat_map(|tensor| &tensor.values).all(|&value| value == 0.0) {
            return base.clone();
        }
        let text = format!("{} + {:e} * {}", base.weights, self.lora.scale(), self.weights.version().weights);
        PolicyVersion { weights: blake3::hash(text.as_bytes()).to_hex()[..16].to_owned() }
    }

    /// Weights W made `W + s · B A`, each number summed up in f64 and rounded once.
    pub(crate) fn merged(&self, mut merged: Weights) -> Weights {
        let (rank, scale) = (self.lora.rank, f64::from(self.lora.scale()));
        for tensor in &self.weights.tensors {
            let Some(matrix) = tensor.name.strip_suffix(UP) else { continue };
            let down = self.weights.values(&format!("{matrix}{DOWN}"));
            let place = merged.position(&format!("{matrix}.weight"));
            let inputs = down.len() / rank;
            let mut sums = vec![0.0; inputs];
            for (up, row) in tensor.values.chunks_exact(rank).zip(merged.tensors[place].values.chunks_exact_mut(inputs))
            {
                sums.fill(0.0);
                for (&up, down) in up.iter().zip(down.chunks_exact(inputs)) {
                    for (sum, &down) in sums.iter_mut().zip(down) {
                        *sum += f64::from(up) * f64::from(down);
                    }
                }
                for (value, sum) in row.iter_mut().zip(&sums) {
                    *value = (f64::from(*value) + scale * sum) as f32;
                }
            }
        }
        merged
    }
}

const DOWN: &str = ".lora_A.weight";
const UP: &str = ".lora_B.weight";

/// Names of A and B.
fn names(layer: usize, part: &str) -> [String; 2] {
    [DOWN, UP].map(|ending| format!("model.layers.{layer}.{part}{ending}"))
}

fn is_down(name: &str) -> bool {
    name.ends_with(DOWN)
}
