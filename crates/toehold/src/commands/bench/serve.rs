//! One round for every line of standard input, so that another program can alternate with this one.

use std::io::BufRead as _;

use anyhow::{Result, bail};
use serde_json::json;
use toehold_rollout::Learner;

use super::measure::{self, Setting};
use super::round::{self, Work};
use super::workload::Workload;
use super::{BenchArgs, Part};
use crate::interrupt::{self, Interrupted};
use crate::terminal::{Mode, Output};

/// Runs one round to warm up, says `{"event": "ready"}`, then one round for every line, whatever is on it,
/// until the input ends. Rounds are printed as `{"event": "round", ...}`; `peak_bytes` is of the whole
/// process.
///
/// # Errors
/// Arguments that leave open what to run, what the policy refuses, and Ctrl-C.
pub(super) fn run(args: &BenchArgs, setting: &Setting<'_>, workload: &Workload, output: &Output) -> Result<()> {
    if output.mode() != Mode::Json {
        bail!("--rounds-from-stdin prints its rounds as JSON\nhint: add --json");
    }
    let work = match args.only[..] {
        [Part::Sampling] => Work::Sampling,
        [Part::Learning] => Work::Learning,
        [Part::Step] => Work::Step,
        _ => bail!("--rounds-from-stdin runs one part\nhint: add --only sampling, --only learning or --only step"),
    };
    let [sharing] = *args.sharing.of() else {
        bail!("--rounds-from-stdin runs one part in one way\nhint: add --sharing on or --sharing off");
    };
    let mut policy = setting.origin.policy(setting.dtype, sharing, setting.threads)?;
    round::run(work, &mut policy, workload, sharing, 0)?;
    output.event(&json!({
        "event": "ready", "version": env!("CARGO_PKG_VERSION"), "work": work,
        "sharing": measure::sharing_word(sharing), "threads": setting.threads, "parameters": policy.parameter_count(),
    }))?;
    for (number, line) in (1..).zip(std::io::stdin().lock().lines()) {
        line?;
        let round = round::run(work, &mut policy, workload, sharing, number)?;
        if interrupt::requested() {
            bail!(Interrupted { resume: "toehold bench --rounds-from-stdin".into() });
        }
        let mut event = serde_json::to_value(round)?;
        event["event"] = "round".into();
        event["peak_bytes"] = measure::peak().into();
        output.event(&event)?;
    }
    Ok(())
}
