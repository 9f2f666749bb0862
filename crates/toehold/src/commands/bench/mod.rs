//! `toehold bench`: how fast this machine samples, learns and steps, against what it can do at most.
//!
//! Everything is measured in this process, one cell after the other: a cell is a kind of work on one size
//! of workload, with the given tokens of a group shared or not. Each cell has a fresh policy, a round to
//! warm up, and `--rounds` timed ones, of which the median is printed. `docs/bench.md` says what the
//! numbers mean.

mod measure;
mod print;
mod round;
mod serve;
mod workload;

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use toehold_policy::{Dtype, ModelConfig, PolicyOptions, Sharing, kernels};

use self::measure::{Ceilings, Setting};
use self::round::Work;
use self::workload::{Origin, Size, Workload, check_length};
use crate::interrupt::Interrupted;
use crate::terminal::Output;

/// Group sizes of the table of growth.
const GROUPS: [usize; 5] = [1, 2, 4, 8, 16];

/// Measures sampling, learning and GRPO steps, with and without shared prefixes.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// A Hugging Face folder to measure, instead of a named shape
    #[arg(long, value_name = "DIR", conflicts_with = "shape")]
    pub model: Option<PathBuf>,
    /// A named shape with random weights
    #[arg(long, value_enum, default_value_t = Shape::T)]
    pub shape: Shape,
    /// The numbers of matrix products; everything else, sums included, is f32
    #[arg(long, value_enum, default_value_t = DtypeArg::F32)]
    pub dtype: DtypeArg,
    /// Only these parts, separated by commas [default: all]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PARTS")]
    pub only: Vec<Part>,
    /// Starts, each with tokens of its own
    #[arg(long, default_value_t = 8, value_name = "STARTS")]
    pub groups: usize,
    /// Rollouts of each start
    #[arg(long, default_value_t = 8, value_name = "ROLLOUTS")]
    pub group: usize,
    /// Given tokens of each start, prompt and prefix together
    #[arg(long, default_value_t = 192, value_name = "TOKENS")]
    pub prefix: usize,
    /// Tokens of each completion
    #[arg(long, default_value_t = 64, value_name = "TOKENS")]
    pub completion: usize,
    /// Starts from a file, one JSON object a line, instead of random ones
    #[arg(long, value_name = "FILE", conflicts_with_all = ["groups", "prefix"])]
    pub tokens: Option<PathBuf>,
    /// Timed rounds of each cell, after one that is not counted
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// Threads to compute on [default: all of the machine's]
    #[arg(long)]
    pub threads: Option<usize>,
    /// Whether a group's given tokens are computed once
    #[arg(long, value_enum, default_value_t = SharingArg::Both)]
    pub sharing: SharingArg,
    /// Run one round of one part for every line read, and print it as JSON: for programs that alternate
    #[arg(long)]
    pub rounds_from_stdin: bool,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Matrix products and memory: what this machine can do at most
    Ceilings,
    /// Completions of all starts
    Sampling,
    /// Gradient of given traces and the optimizer's step
    Learning,
    /// A whole GRPO step: sample, weigh, learn, publish
    Step,
    /// The step's time as prefix and group grow
    Growth,
}

/// Shapes of published measurements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shape {
    /// Width 256, 6 layers, 8 heads on 4, feed-forward 768, vocabulary 512
    T,
    /// Width 512, 12 layers, 8 heads on 4, feed-forward 1536, vocabulary 4096
    S,
}

/// Number formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DtypeArg {
    /// 32 bits
    F32,
    /// The upper 16 of them
    Bf16,
}

/// Whether prefixes are shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SharingArg {
    /// Once for all rollouts of a start
    On,
    /// Once for each rollout
    Off,
    /// Both, one after the other
    Both,
}

/// Runs the command.
///
/// # Errors
/// Numbers that make no sense, a model or a file that cannot be read or does not fit, and Ctrl-C.
pub fn run(args: &BenchArgs, output: &Output) -> Result<()> {
    let threads = threads(args)?;
    let origin = args.model.as_deref().map_or(Origin::Named(args.shape), Origin::Folder);
    let config = origin.config()?;
    let workload = workload(args, &config)?;
    let mut setting = Setting { origin, dtype: args.dtype.into(), threads, rounds: args.rounds, ceilings: None };
    if args.rounds_from_stdin {
        return serve::run(args, &setting, &workload, output);
    }

    let parts = if args.only.is_empty() { Part::value_variants() } else { &args.only[..] };
    // Shares need the ceilings, so they are measured even where nobody asks to see them.
    let ceilings = ceilings(threads);
    setting.ceilings = Some(ceilings);
    print::head(&setting, &config, output)?;
    for (index, &part) in parts.iter().enumerate() {
        let done = match part {
            Part::Ceilings => print::ceilings(&ceilings, output),
            Part::Sampling => compare(args, &setting, Work::Sampling, &workload, output),
            Part::Learning => compare(args, &setting, Work::Learning, &workload, output),
            Part::Step => compare(args, &setting, Work::Step, &workload, output),
            Part::Growth => growth(args, &setting, &config, output),
        };
        done.map_err(|error| match error.is::<Interrupted>() {
            true => Interrupted { resume: resume_command(&parts[index..]) }.into(),
            false => error,
        })?;
    }
    Ok(())
}

/// One kind of work with the sharing that was asked for.
fn compare(args: &BenchArgs, setting: &Setting<'_>, work: Work, workload: &Workload, output: &Output) -> Result<()> {
    let mut cells = Vec::new();
    for &sharing in args.sharing.of() {
        let cell = measure::cell(setting, work, workload, sharing)?;
        print::event("measured", &cell, output)?;
        cells.push(cell);
    }
    print::cells(&cells, output)
}

/// The step's time with prefixes of the given length and four times that, and with groups of 1 to 16.
fn growth(args: &BenchArgs, setting: &Setting<'_>, config: &ModelConfig, output: &Output) -> Result<()> {
    let base = Size { groups: args.groups, group: args.group, prefix: args.prefix, completion: args.completion };
    let prefixes = [args.prefix, args.prefix.saturating_mul(4)].map(|prefix| Size { prefix, ..base });
    let groups = GROUPS.map(|group| Size { group, ..base });
    for (what, sizes) in [("prefix", &prefixes[..]), ("group", &groups[..])] {
        let mut cells = Vec::new();
        for &sharing in args.sharing.of() {
            for &size in sizes {
                if let Err(error) = check_length(size.prefix, size.completion, config.max_position_embeddings) {
                    output.warn(format!("left out of the growth: {error}"));
                    continue;
                }
                let workload = Workload::random(size, config.vocab_size);
                let cell = measure::cell(setting, Work::Step, &workload, sharing)?;
                print::event("grown", &cell, output)?;
                cells.push(cell);
            }
        }
        print::growth(what, &cells, output)?;
    }
    Ok(())
}

/// What measures the parts that are left; the other arguments are the reader's to repeat.
fn resume_command(parts: &[Part]) -> String {
    let name = |part: &Part| part.to_possible_value().map_or(String::new(), |value| value.get_name().to_owned());
    format!("toehold bench --only {}", parts.iter().map(name).collect::<Vec<_>>().join(","))
}

fn ceilings(threads: usize) -> Ceilings {
    Ceilings {
        products_f32: kernels::measure_products(Dtype::F32, threads),
        products_bf16: kernels::measure_products(Dtype::Bf16, threads),
        bandwidth: kernels::measure_bandwidth(threads),
    }
}

fn threads(args: &BenchArgs) -> Result<usize> {
    let counts = [
        ("groups", args.groups),
        ("group", args.group),
        ("prefix", args.prefix),
        ("completion", args.completion),
        ("rounds", args.rounds),
        ("threads", args.threads.unwrap_or(1)),
    ];
    if let Some((name, _)) = counts.iter().find(|(_, count)| *count == 0) {
        bail!("--{name} is 0, expected at least 1");
    }
    Ok(PolicyOptions { threads: args.threads, ..PolicyOptions::default() }.thread_count())
}

fn workload(args: &BenchArgs, config: &ModelConfig) -> Result<Workload> {
    let BenchArgs { groups, group, prefix, completion, .. } = *args;
    match &args.tokens {
        Some(path) => Workload::read(path, group, completion, config),
        None => {
            check_length(prefix, completion, config.max_position_embeddings)?;
            Ok(Workload::random(Size { groups, group, prefix, completion }, config.vocab_size))
        }
    }
}

impl SharingArg {
    fn of(self) -> &'static [Sharing] {
        match self {
            SharingArg::On => &[Sharing::Shared],
            SharingArg::Off => &[Sharing::Separate],
            SharingArg::Both => &[Sharing::Separate, Sharing::Shared],
        }
    }
}

impl From<DtypeArg> for Dtype {
    fn from(dtype: DtypeArg) -> Dtype {
        match dtype {
            DtypeArg::F32 => Dtype::F32,
            DtypeArg::Bf16 => Dtype::Bf16,
        }
    }
}
