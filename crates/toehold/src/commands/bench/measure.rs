//! From rounds to numbers: median, range, rates, share of the ceiling, peak memory.

use anyhow::Result;
use serde::Serialize;
use toehold_policy::{Dtype, Sharing};
use toehold_rollout::Learner;

use super::round::{self, Round, Work};
use super::workload::{Origin, Workload};
use crate::interrupt::{self, Interrupted};

/// What this machine can do at most, measured in this process.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Ceilings {
    /// Matrix products in f32, FLOP/s on all threads.
    pub(super) products_f32: f64,
    /// Matrix products of bf16 with f32 sums, FLOP/s on all threads.
    pub(super) products_bf16: f64,
    /// Reading memory, bytes/s on all threads.
    pub(super) bandwidth: f64,
}

/// The same in every cell of a benchmark.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setting<'a> {
    pub(super) origin: Origin<'a>,
    pub(super) dtype: Dtype,
    pub(super) threads: usize,
    pub(super) rounds: usize,
    pub(super) ceilings: Option<Ceilings>,
}

/// One line of a table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Measured {
    pub(super) work: Work,
    pub(super) sharing: &'static str,
    pub(super) groups: usize,
    pub(super) group: usize,
    /// Given tokens of the longest start.
    pub(super) prefix: usize,
    pub(super) completion: usize,
    pub(super) rounds: usize,
    /// Median over the rounds.
    pub(super) seconds: f64,
    pub(super) fastest: f64,
    pub(super) slowest: f64,
    /// Of one round; see [`Round`].
    pub(super) sampled: u64,
    pub(super) learnt: u64,
    pub(super) computed: u64,
    /// Sampled tokens a second when sampling, otherwise learnt tokens a second.
    pub(super) tokens_per_second: f64,
    /// `2 N` FLOPs per sampled and `6 N` per computed token of learning, against matrix products.
    pub(super) share_of_ceiling: Option<f64>,
    /// Most memory this process held from the first round to the last, in bytes.
    pub(super) peak_bytes: Option<u64>,
}

/// Measures one cell with a policy of its own: a round to warm up, then the others.
///
/// # Errors
/// A policy that cannot be made or does not compute, and Ctrl-C.
pub(super) fn cell(setting: &Setting<'_>, work: Work, workload: &Workload, sharing: Sharing) -> Result<Measured> {
    reset_peak();
    let mut policy = setting.origin.policy(setting.dtype, sharing, setting.threads)?;
    let mut rounds = Vec::with_capacity(setting.rounds);
    for number in 0..=setting.rounds {
        let round = round::run(work, &mut policy, workload, sharing, number as u64)?;
        if interrupt::requested() {
            return Err(Interrupted { resume: String::new() }.into());
        }
        if number > 0 {
            rounds.push(round);
        }
    }
    let parameters = policy.parameter_count() as f64;
    let mut seconds: Vec<f64> = rounds.iter().map(|round| round.seconds).collect();
    seconds.sort_by(f64::total_cmp);
    let median = median(&seconds);
    let Round { sampled, learnt, computed, .. } = rounds[0];
    let flops = parameters * (2.0 * sampled as f64 + 6.0 * computed as f64);
    let ceiling = setting.ceilings.map(|ceilings| ceilings.of(setting.dtype));
    Ok(Measured {
        work,
        sharing: sharing_word(sharing),
        groups: workload.starts.len(),
        group: workload.group,
        prefix: workload.starts.iter().map(|start| start.given()).max().unwrap_or(0),
        completion: workload.completion,
        rounds: setting.rounds,
        seconds: median,
        fastest: seconds[0],
        slowest: seconds[seconds.len() - 1],
        sampled,
        learnt,
        computed,
        tokens_per_second: if work == Work::Sampling { sampled } else { learnt } as f64 / median,
        share_of_ceiling: ceiling.map(|ceiling| flops / median / ceiling),
        peak_bytes: peak(),
    })
}

impl Ceilings {
    fn of(&self, dtype: Dtype) -> f64 {
        match dtype {
            Dtype::F32 => self.products_f32,
            Dtype::Bf16 => self.products_bf16,
        }
    }
}

/// The word that is printed.
pub(super) fn sharing_word(sharing: Sharing) -> &'static str {
    match sharing {
        Sharing::Shared => "shared",
        Sharing::Separate => "separate",
    }
}

/// The middle of sorted values; between the two middle ones where their number is even.
fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) { (sorted[middle - 1] + sorted[middle]) / 2.0 } else { sorted[middle] }
}

/// Most memory this process ever held, or since [`reset_peak`]; none where the system does not say.
pub(super) fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// Begins to count anew, where the system can (Linux); elsewhere a cell's peak is that of all before it.
fn reset_peak() {
    std::fs::write("/proc/self/clear_refs", "5").ok();
}

#[cfg(test)]
mod tests {
    use super::{median, peak};

    #[test]
    fn the_middle() {
        assert_eq!(median(&[1.0]), 1.0);
        assert_eq!(median(&[1.0, 2.0, 9.0]), 2.0);
        assert_eq!(median(&[1.0, 2.0, 4.0, 9.0]), 3.0);
    }

    #[test]
    fn memory_that_was_touched_is_in_the_peak() {
        let Some(before) = peak() else { return };
        let touched = std::hint::black_box(vec![1u8; 256 << 20]);
        assert!(peak().is_some_and(|after| after > before && after >= touched.len() as u64));
    }
}
