//! What can be typed, and how an error becomes one sentence and an exit status.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::commands;
use crate::interrupt::{self, EXIT_INTERRUPTED, Interrupted};
use crate::terminal::Output;

/// Reinforcement learning for the problems a policy always fails or always solves.
///
/// toehold keeps every trace that was ever sampled, cuts prefixes out of them, and runs on-policy RL
/// from those prefixes with the gradient masked on the prefix.
///
/// Start with `toehold demo`: it needs nothing, takes minutes, and ends in a table and a report.
/// Then write a recipe (or copy one: `toehold methods` lists them) and `toehold run` it.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, max_term_width = 100)]
pub struct CommandLine {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// How to talk.
    #[command(flatten)]
    pub talk: TalkArgs,
}

/// How to talk; every command takes these.
#[derive(Clone, Copy, Debug, Args)]
pub struct TalkArgs {
    /// Print only results, warnings and errors
    #[arg(long, short, global = true, conflicts_with = "json", display_order = 100)]
    pub quiet: bool,
    /// Print results and events as JSON, one object a line, instead of tables
    #[arg(long, global = true, display_order = 101)]
    pub json: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// The whole job on problems and a base policy that it makes itself: minutes, nothing downloaded
    Demo(commands::demo::DemoArgs),
    /// Make a small base policy for a synthetic family: an ordinary Hugging Face folder
    Pretrain(commands::pretrain::PretrainArgs),
    /// Run a recipe: sample, cut, train, evaluate, report; what is already done is skipped
    Run(commands::run::RunArgs),
    /// Only the first stage of a recipe: sample until every problem has its traces
    Sample(commands::sample::SampleArgs),
    /// Only the second stage: cut prefixes out of the stored traces
    Cut(commands::cut::CutArgs),
    /// Only the third stage: train from plain and prefixed problems
    Train(commands::train::TrainArgs),
    /// Only the fourth stage: pass@k and the prefix sweep, before and after
    Evaluate(commands::evaluate::EvaluateArgs),
    /// Write the HTML report of one run, or of several side by side
    Report(commands::report::ReportArgs),
    /// List, filter and show stored traces, the prefix marked
    Traces(commands::traces::TracesArgs),
    /// List the curricula and objectives, or tell one's settings, or print its recipe
    Methods(commands::methods::MethodsArgs),
    /// Write a recipe's problems as JSON lines, as they are or with other numbers
    Problems(commands::problems::ProblemsArgs),
    /// Compare predictions with golds: JSON lines, a problem file's references, or an HTTP server
    Verify(commands::verify::VerifyArgs),
    /// Log-probabilities of given tokens, to compare with any other engine
    Score(commands::score::ScoreArgs),
    /// Complete a prompt, or JSON lines of prompts, after a prefix where one is given
    Generate(commands::generate::GenerateArgs),
    /// Show exactly the text and the ids that a problem becomes, the prefix marked
    ChatTemplate(commands::chat_template::ChatTemplateArgs),
    /// Put a trained adapter into its model's weights: an ordinary Hugging Face folder
    Merge(commands::merge::MergeArgs),
    /// Measure this machine: sampling, learning and GRPO steps, with and without shared prefixes
    Bench(commands::bench::BenchArgs),
    /// Take in traces that others sampled: verl's, TRL's, those of verifiers, or JSON lines
    Import(commands::import::ImportArgs),
    /// Write the prefixed problems, rewards, configuration and job files for another trainer
    Export(commands::export::ExportArgs),
    /// PrefixRL's separation made to run: completions by horizon, exponential against polynomial
    Theory(commands::theory::TheoryArgs),
}

/// A recipe and what is changed in it; shared by `run` and the single stages.
#[derive(Clone, Debug, Args)]
pub struct RecipeArgs {
    /// A recipe (TOML file), or the folder of a run, to go on with it
    #[arg(value_name = "RECIPE")]
    pub recipe: PathBuf,
    /// Change one value of the recipe, e.g. `--set train.steps=50`; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// The folder that holds the runs [default: the recipe's run.folder, which is runs]
    #[arg(long, value_name = "DIR")]
    pub runs: Option<PathBuf>,
}

/// The exit status of a program whose reader has gone (128 + SIGPIPE).
pub const EXIT_BROKEN_PIPE: u8 = 141;

/// Runs a command; errors go to standard error as `error: ...`.
///
/// Exit status: 0 done, 1 could not be done, 130 interrupted, 141 nobody reads standard output any more
/// (2, for arguments that make no sense, is clap's).
pub fn run(line: CommandLine) -> ExitCode {
    let output = Output::new(line.talk.quiet, line.talk.json);
    let result = interrupt::install().and_then(|()| match line.command {
        Command::Demo(args) => commands::demo::run(&args, &output),
        Command::Pretrain(args) => commands::pretrain::run(&args, &output),
        Command::Run(args) => commands::run::run(&args, &output),
        Command::Sample(args) => commands::sample::run(&args, &output),
        Command::Cut(args) => commands::cut::run(&args, &output),
        Command::Train(args) => commands::train::run(&args, &output),
        Command::Evaluate(args) => commands::evaluate::run(&args, &output),
        Command::Report(args) => commands::report::run(&args, &output),
        Command::Traces(args) => commands::traces::run(&args, &output),
        Command::Methods(args) => commands::methods::run(&args, &output),
        Command::Problems(args) => commands::problems::run(&args, &output),
        Command::Verify(args) => commands::verify::run(&args, &output),
        Command::Score(args) => commands::score::run(&args, &output),
        Command::Generate(args) => commands::generate::run(&args, &output),
        Command::ChatTemplate(args) => commands::chat_template::run(&args, &output),
        Command::Merge(args) => commands::merge::run(&args, &output),
        Command::Bench(args) => commands::bench::run(&args, &output),
        Command::Import(args) => commands::import::run(&args, &output),
        Command::Export(args) => commands::export::run(&args, &output),
        Command::Theory(args) => commands::theory::run(&args, &output),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if is_broken_pipe(&error) {
                // The reader has seen enough, as in `toehold traces RUN | head`: no complaint.
                return ExitCode::from(EXIT_BROKEN_PIPE);
            }
            output.error(&error);
            let interrupted = error.downcast_ref::<Interrupted>().is_some();
            if interrupted { ExitCode::from(EXIT_INTERRUPTED) } else { ExitCode::FAILURE }
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let is_pipe = |error: &std::io::Error| error.kind() == std::io::ErrorKind::BrokenPipe;
    error.chain().any(|cause| cause.downcast_ref::<std::io::Error>().is_some_and(is_pipe))
}
