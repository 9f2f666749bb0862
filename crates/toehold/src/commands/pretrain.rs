//! `toehold pretrain`: a small base policy for a synthetic family.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use toehold_rollout::synthetic::{Chain, Countdown, Family, Methods};

use crate::base::{self, BaseSpec, Phase};
use crate::interrupt;
use crate::terminal::{Output, Progress};

/// Makes an ordinary Hugging Face folder: `config.json`, `model.safetensors`, `tokenizer.json`.
#[derive(Debug, Args)]
pub struct PretrainArgs {
    /// The family of problems
    #[arg(long, value_enum, default_value_t = BaseFamily::Chain)]
    pub family: BaseFamily,
    /// The folder to make
    #[arg(long, value_name = "DIR", default_value = "runs/base")]
    pub out: PathBuf,
    /// Seed of weights and worked solutions
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Share of steps that the chain's base takes by the careful method, where it has two
    #[arg(long, default_value_t = CAREFUL, value_name = "SHARE")]
    pub careful: f64,
    /// Part of the usual number of steps, for a quick look; the policy is then worse
    #[arg(long, default_value_t = 1.0, value_name = "SHARE")]
    pub effort: f64,
}

/// How rarely the base takes the careful method: seldom enough that a success is nearly always luck.
pub const CAREFUL: f64 = 0.01;

/// The bases there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BaseFamily {
    /// Chains with a careful method that is rare and a careless one that is common
    Chain,
    /// Chains with two methods, the careful one the rarer the longer the chain: hard, medium and
    /// saturated problems in one set
    ChainGraded,
    /// Chains with one method and a solver that slips seldom and repairs half of its slips: saturated
    /// problems whose failures can be recovered from
    ChainRepair,
    /// The same on chains of up to fourteen steps: short ones are saturated and long ones of medium
    /// difficulty
    ChainRepairLong,
    /// Chains with one method and a solver that often slips: the contrast
    ChainOneMethod,
    /// Reach a target from given numbers
    Countdown,
}

/// Runs the command.
///
/// # Errors
/// When the folder is there already, cannot be written, or Ctrl-C was pressed.
pub fn run(args: &PretrainArgs, output: &Output) -> Result<()> {
    if args.out.exists() {
        bail!("{} is there already\nhint: remove it, or choose another folder with --out", args.out.display());
    }
    if !(args.effort > 0.0 && args.effort <= 10.0) {
        bail!("--effort is {}, expected a share above 0 and at most 10", args.effort);
    }
    let mut spec = args.family.spec(args.seed, args.careful);
    for phase in &mut spec.phases {
        phase.steps = ((phase.steps as f64 * args.effort) as u64).max(1);
    }
    make(&spec, &args.out, output)
}

/// Makes the base of `spec` with a progress bar, and says what came out.
///
/// # Errors
/// As [`base::pretrain`].
pub fn make(spec: &BaseSpec, out: &std::path::Path, output: &Output) -> Result<()> {
    let steps = spec.phases.iter().map(|phase| phase.steps).sum();
    let mut bar = Progress::start(output, "pretrain", Some(steps), "steps");
    let mut last = 0.0;
    base::pretrain(spec, out, &mut |at| {
        last = at.loss;
        bar.set(at.step, &format!("loss {:.3}", at.loss));
        interrupt::flow()
    })?;
    bar.finish();
    output.say(format!("base policy in {} ({steps} steps, last loss {last:.3} nats a token)", out.display()));
    Ok(())
}

impl BaseFamily {
    /// The recipe of this base. Those of the two chains are calibrated (`docs/log.md`); that of countdown
    /// only works.
    pub fn spec(self, seed: u64, careful: f64) -> BaseSpec {
        let phases = match self {
            BaseFamily::Chain => vec![
                Phase { family: chain(2, (1, 7), 0.5, 0.02, Methods::Two), steps: 500, rate: 3e-3 },
                Phase { family: chain(2, (3, 7), careful, 0.02, Methods::Two), steps: 100, rate: 1e-3 },
            ],
            BaseFamily::ChainOneMethod => vec![
                Phase { family: chain(1, (1, 9), 1.0, 0.02, Methods::One), steps: 1000, rate: 3e-3 },
                Phase { family: chain(1, (3, 9), 1.0, 0.76, Methods::One), steps: 200, rate: 1e-3 },
            ],
            BaseFamily::ChainGraded => {
                let rich = Phase { family: chain(2, (1, 7), 0.5, 0.02, Methods::Two), steps: 500, rate: 3e-3 };
                // In turns, so that what is learnt last is nowhere all there is.
                let turn = [((1, 2), 1.0), ((3, 4), 0.6), ((5, 6), careful)].map(|(steps, careful)| Phase {
                    family: chain(2, steps, careful, 0.02, Methods::Two),
                    steps: 8,
                    rate: 1e-3,
                });
                std::iter::once(rich).chain((0..16).flat_map(|_| turn.clone())).collect()
            }
            BaseFamily::ChainRepair => repairing((1, 5)),
            BaseFamily::ChainRepairLong => repairing((1, 14)),
            BaseFamily::Countdown => {
                vec![Phase { family: Family::Countdown(Countdown::default()), steps: 800, rate: 3e-3 }]
            }
        };
        BaseSpec { width: 64, layers: 3, heads: 4, feed_forward: 176, phases, batch: 64, seed }
    }
}

/// Slips are common at first, so that noticing them is learnt.
fn repairing(steps: (u32, u32)) -> Vec<Phase> {
    let solver =
        |noise, repair| Family::Chain(Chain { methods: Methods::One, noise, repair, steps, ..Chain::default() });
    vec![
        Phase { family: solver(0.4, 0.9), steps: 1000, rate: 3e-3 },
        Phase { family: solver(0.04, 0.5), steps: 200, rate: 1e-3 },
    ]
}

fn chain(operands: u32, steps: (u32, u32), careful: f64, noise: f64, methods: Methods) -> Family {
    Family::Chain(Chain { modulus: 4, operands, steps, careful, noise, methods, repair: 0.0 })
}
