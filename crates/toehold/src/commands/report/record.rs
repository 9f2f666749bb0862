//! What a run left behind in its folder.

use std::path::Path;

use anyhow::{Context, Result, bail};
use toehold_rollout::{Store, TokenizerFile};
use toehold_training::trainer::{Compute, Event};
use toehold_training::{Plan, Recipe};

use crate::commands::evaluate::{self, Measured};
use crate::hub;
use crate::run_folder::{Identity, read_events};

/// Everything a finished or unfinished run left behind.
pub struct RunRecord {
    /// Its plan.
    pub plan: Plan,
    /// Its plan as text.
    pub recipe: String,
    /// What it was made with.
    pub identity: Identity,
    /// What happened.
    pub events: Vec<Event>,
    /// What was measured, once the stage is done.
    pub measured: Option<Measured>,
    /// Its store.
    pub store: Store,
    /// The base policy's tokenizer, while the model folder is there.
    pub tokenizer: Option<TokenizerFile>,
}

/// What a run cost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// FLOPs in all, collection and imitation included, evaluation not.
    pub flops: f64,
    /// The part of them that collecting took.
    pub collection: f64,
    /// Optimizer steps.
    pub steps: u64,
}

impl RunRecord {
    /// Reads a run's folder.
    ///
    /// # Errors
    /// When it is none.
    pub fn read(folder: &Path) -> Result<RunRecord> {
        let path = folder.join("recipe.toml");
        if !path.exists() {
            bail!("{} is no run: it has no recipe.toml\nhint: a run's folder is runs/NAME", folder.display());
        }
        let recipe = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let plan: Plan = Recipe::parse(&recipe, &[])
            .and_then(|recipe| recipe.resolve())
            .with_context(|| path.display().to_string())?;
        let identity = folder.join("identity.json");
        let identity =
            std::fs::read_to_string(&identity).with_context(|| format!("cannot read {}", identity.display()))?;
        Ok(RunRecord {
            tokenizer: TokenizerFile::open(&hub::local(&plan.policy.model)).ok(),
            identity: serde_json::from_str(&identity)?,
            events: read_events(&folder.join("events.jsonl"))?,
            measured: evaluate::read(folder)?,
            store: Store::open_read_only(folder.join("traces.db"))?,
            plan,
            recipe,
        })
    }

    /// What it cost so far.
    pub fn cost(&self) -> Cost {
        let mut cost = Cost::default();
        let mut imitation = Compute::default();
        for event in &self.events {
            match event {
                Event::Imitated(at) => imitation = at.compute,
                Event::Started { flops, compute, .. } => {
                    // Imitation comes before the start, after the collection; all at one price a token.
                    let (all, imitated) = (compute.flops(1), imitation.flops(1));
                    let share = if all > 0.0 { (1.0 - imitated / all).max(0.0) } else { 0.0 };
                    cost = Cost { flops: *flops, collection: share * flops, steps: 0 };
                }
                Event::Step(at) => (cost.flops, cost.steps) = (at.flops, at.step),
                _ => {}
            }
        }
        cost
    }
}
