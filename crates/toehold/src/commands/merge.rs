//! `toehold merge`: the model that an adapter and its base are together, as a folder of its own.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use serde_json::json;
use toehold_policy::{Adapter, Policy, PolicyOptions};

use crate::terminal::Output;

/// Put a trained adapter into its model's weights: an ordinary Hugging Face folder.
///
/// `W + scale · B A` is computed for every matrix with an adapter, rounded once to f32 and then to the number
/// format of the model's files. In bf16 a small adapter may be lost in that rounding; merge into an f32 copy of
/// the model where that matters.
#[derive(Debug, Args)]
pub struct MergeArgs {
    /// A folder of PEFT's: adapter_config.json and adapter_model.safetensors; a checkpoint of a run is one
    #[arg(value_name = "ADAPTER")]
    pub adapter: PathBuf,
    /// The folder to write; it must not be there
    #[arg(value_name = "OUT")]
    pub out: PathBuf,
    /// The model's folder [default: the one that the adapter names]
    #[arg(long, value_name = "MODEL")]
    pub base: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// A folder that is no adapter or no model, an adapter for another model, and a folder that cannot be written.
pub fn run(args: &MergeArgs, output: &Output) -> Result<()> {
    let policy = match &args.base {
        Some(base) => {
            let policy = Policy::open(base, PolicyOptions::default())?;
            let adapter = Adapter::read(&args.adapter, policy.config())?;
            policy.with_adapter(adapter)?
        }
        None => Policy::open(&args.adapter, PolicyOptions::default())?,
    };
    let Some(adapter) = policy.adapter() else {
        bail!(
            "{} is a model, not an adapter\nhint: an adapter's folder has adapter_config.json and no config.json",
            args.adapter.display()
        );
    };
    policy.save_new_folder(&args.out)?;
    let (numbers, out) = (adapter.weights().count(), args.out.display());
    output.event(&json!({ "merged": out.to_string(), "adapter_parameters": numbers }))?;
    output.say(format!("{out}: the model with {numbers} numbers of the adapter in its weights"));
    Ok(())
}
