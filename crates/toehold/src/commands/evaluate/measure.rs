//! What is measured on request, and what all of these measurements share.
//!
//! Each is kept in the run's folder as `measured-NAME.json` with the options it was made with, and
//! measured again only for other options. Before is the base policy, after the one that training ended
//! with.

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum, value_parser};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use toehold_policy::Policy;
use toehold_rollout::Problem;
use toehold_training::evaluation::confidence::WINDOW;
use toehold_training::evaluation::online::OnlinePlan;
use toehold_training::recipe::SWITCH_WORDS;

use super::vote::{BAR, WARM_UP};
use super::{
    drift, guessing, keywords, last_checkpoint, likelihood, online, perturbed, restored, robustness, underthinking,
    vote,
};
use crate::interrupt::{self, Interrupted};
use crate::prepare::Prepared;
use crate::run_folder::write_whole;
use crate::terminal::{self, Output, Progress};
use crate::thought_switch::check_penalty;

/// The share of the votes that is a clear result; DeepConf's number.
const CONSENSUS: f64 = 0.95;

/// What else is measured.
#[derive(Clone, Debug, Args)]
pub struct MeasureArgs {
    /// Measure this, too; several are separated by commas
    #[arg(long, value_enum, value_delimiter = ',', value_name = "WHAT")]
    pub measure: Vec<Measure>,
    /// Tokens of a window of confidence, in `vote` and `online`
    #[arg(long, default_value_t = WINDOW, value_name = "TOKENS", value_parser = at_least_one)]
    pub window: usize,
    /// Completions of each problem that are sampled whole and set the bar, in `online`
    #[arg(long, default_value_t = WARM_UP, value_name = "COMPLETIONS", value_parser = value_parser!(u32).range(1..))]
    pub warm_up: u32,
    /// The share of their lowest windows that the bar lets pass, in `online`
    #[arg(long, default_value_t = BAR, value_name = "SHARE", value_parser = some_share)]
    pub kept: f64,
    /// The share of the votes with which an answer has won, in `online`
    #[arg(long, default_value_t = CONSENSUS, value_name = "SHARE", value_parser = some_share)]
    pub consensus: f64,
    /// Words that begin another thought, in `underthinking`, separated by commas; those of
    /// [evaluate.thought_switch], or wait, alternatively, but, try, unless given
    #[arg(long, value_delimiter = ',', value_name = "WORDS")]
    pub switch: Vec<String>,
    /// Measure `underthinking` with this penalty on switching thoughts, too (TIP: 3); with that of
    /// [evaluate.thought_switch] unless given
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub penalty: Option<f32>,
    /// Tokens from a thought's beginning in which --penalty holds
    #[arg(long, default_value_t = 600, value_name = "TOKENS", requires = "penalty")]
    pub penalty_window: u32,
    /// Strategies to count, in `keywords`: words or phrases, separated by commas, with `|` between those of one
    /// strategy; those of the problems' family, or common words of reasoning, unless given
    #[arg(long, value_delimiter = ',', value_name = "PHRASES")]
    pub keyword: Vec<String>,
    /// Characters of a plain completion that are read, in `keywords`; all unless given
    #[arg(long, value_name = "CHARACTERS", value_parser = at_least_one)]
    pub beginning: Option<usize>,
    /// Traces whose likelihood is followed, in `likelihood`, by their rows in the store and separated by commas;
    /// one of each outcome per problem unless given
    #[arg(long, value_delimiter = ',', value_name = "ROWS")]
    pub trace: Vec<i64>,
    /// The text that opens an answer, in `guessing`; unless given, the one that each problem's verifier reads an
    /// answer after
    #[arg(long, value_name = "TEXT")]
    pub opening: Option<String>,
    /// Tokens of a guess at most, in `guessing`: few, so that there is no room for work
    #[arg(long, default_value_t = 32, value_name = "TOKENS", value_parser = value_parser!(u32).range(1..))]
    pub guess_tokens: u32,
    /// The share of right guesses above which a problem is listed for being left out, in `guessing`
    #[arg(long, default_value_t = 0.2, value_name = "SHARE", value_parser = share)]
    pub guessable: f64,
}

/// A measurement on request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Measure {
    /// Majority votes, votes weighed by confidence, and stopping early
    Vote,
    /// Votes in which doubtful completions are stopped and a clear result ends the vote
    Online,
    /// Success from the beginnings of wrong and of right traces, with corrupted ones as controls
    Robustness,
    /// How far the policy has moved from the stored prefixes, in log-probability and in success
    Drift,
    /// Success on the training problems with other numbers
    Perturbed,
    /// How much of a wrong trace comes after a thought that would have led to the answer
    Underthinking,
    /// Which strategies the rollouts of training speak of, by step
    Keywords,
    /// How likely stored traces are under each checkpoint
    Likelihood,
    /// How often each problem's answer is guessed where it is asked for at once
    Guessing,
}

/// What every measurement works with.
pub(super) struct Workplace<'a> {
    pub(super) prepared: &'a Prepared,
    /// Of this run: training ones, then held-out ones.
    pub(super) problems: &'a [Problem],
    pub(super) policies: Policies,
    bar: Progress,
    done: u64,
    /// The command that goes on after an interruption.
    resume: String,
}

/// The two policies that are compared.
pub(super) struct Policies {
    pub(super) before: Policy,
    pub(super) after: Policy,
}

/// The same of both policies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Both<T> {
    pub(super) before: T,
    pub(super) after: T,
}

/// A result with the options it was made with.
#[derive(Serialize, Deserialize)]
struct Kept<T> {
    options: Value,
    result: T,
}

/// Measures and prints what was asked for, each once, in the order in which it was asked.
///
/// # Errors
/// Training is unfinished, a policy cannot sample, there is nothing to measure on, or Ctrl-C.
pub(super) fn execute(prepared: &Prepared, args: &MeasureArgs, output: &Output) -> Result<()> {
    let mut left = args.measure.as_slice();
    while let Some((&measure, rest)) = left.split_first() {
        left = rest;
        let text = match measure {
            Measure::Vote => {
                let found = kept(prepared, "vote", json!({ "window": args.window }), output, |place| {
                    vote::measure(place, args.window)
                })?;
                told(output, "vote", &found, vote::table(&found))
            }
            Measure::Online => {
                let plan = args.online()?;
                let options = json!({
                    "window": plan.window, "warm-up": plan.warm_up, "kept": plan.kept, "consensus": plan.consensus
                });
                let found = kept(prepared, "online", options, output, |place| online::measure(place, &plan))?;
                told(output, "online", &found, online::table(&found))
            }
            Measure::Robustness => {
                let found = robustness(prepared, output)?;
                told(output, "robustness", &found, robustness::table(&found))
            }
            Measure::Drift => {
                let robust = robustness(prepared, output)?;
                let found = kept(prepared, "drift", json!({}), output, |place| drift::measure(place, &robust))?;
                told(output, "drift", &found, drift::table(&found))
            }
            Measure::Perturbed => {
                let found = kept(prepared, "perturbed", json!({}), output, perturbed::measure)?;
                told(output, "perturbed", &found, perturbed::table(&found))
            }
            Measure::Underthinking => {
                let (words, penalty) = args.thought_switch(prepared)?;
                let mut options = json!({ "switch": words });
                if let Some((penalty, window)) = penalty {
                    options["penalty"] = json!(penalty);
                    options["penalty-window"] = json!(window);
                }
                let found = kept(prepared, "underthinking", options, output, |place| {
                    underthinking::measure(place, &words, penalty)
                })?;
                told(output, "underthinking", &found, underthinking::table(&found))
            }
            Measure::Keywords => {
                let words = keywords::strategies(prepared, &args.keyword)?;
                let written: Vec<String> = words.iter().map(|strategy| strategy.keywords.join("|")).collect();
                let options = json!({ "keyword": written, "beginning": args.beginning });
                let found = kept(prepared, "keywords", options, output, |place| {
                    keywords::measure(place, &words, args.beginning)
                })?;
                told(output, "keywords", &found, keywords::table(&found))
            }
            Measure::Likelihood => {
                let found = kept(prepared, "likelihood", json!({ "trace": args.trace }), output, |place| {
                    likelihood::measure(place, &args.trace)
                })?;
                told(output, "likelihood", &found, likelihood::table(&found))
            }
            Measure::Guessing => {
                let options = json!({ "opening": args.opening, "guess-tokens": args.guess_tokens });
                let found = kept(prepared, "guessing", options, output, |place| {
                    guessing::measure(place, args.opening.as_deref(), args.guess_tokens)
                })?;
                guessing::list(prepared, &found, args.guessable)?;
                told(output, "guessing", &found, guessing::table(prepared, &found, args.guessable))
            }
        }?;
        output.data(text)?;
    }
    Ok(())
}

fn robustness(prepared: &Prepared, output: &Output) -> Result<robustness::Robustness> {
    kept(prepared, "robustness", json!({}), output, robustness::measure)
}

/// Tells a program what was found; gives what is printed for a person.
fn told(output: &Output, name: &str, found: &impl Serialize, text: String) -> Result<String> {
    output.event(&json!({ "event": name, "measured": found }))?;
    Ok(format!("\n{text}"))
}

/// What the run's folder has of this measurement with these options, measured where it has not.
fn kept<T: Serialize + DeserializeOwned>(
    prepared: &Prepared,
    name: &str,
    options: Value,
    output: &Output,
    measure: impl FnOnce(&mut Workplace<'_>) -> Result<T>,
) -> Result<T> {
    let path = prepared.folder.path().join(format!("measured-{name}.json"));
    if path.exists() {
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        // A file of other options, or of another release, is measured anew.
        if let Ok(kept) = serde_json::from_str::<Kept<T>>(&text)
            && kept.options == options
        {
            return Ok(kept.result);
        }
    }
    let after = restored(prepared.base.fork(), &last_checkpoint(prepared)?)?;
    let problems = prepared.all_problems();
    let mut place = Workplace {
        prepared,
        problems: &problems,
        policies: Policies { before: prepared.base.fork(), after },
        bar: Progress::start(output, name, None, "measurements"),
        done: 0,
        resume: resume_command(prepared, name, &options),
    };
    let kept = Kept { options, result: measure(&mut place)? };
    place.bar.finish();
    let text = serde_json::to_string(&kept)?;
    write_whole(&path, text.as_bytes())?;
    // As it will be read: a number can change in its last digit when it is written and read.
    Ok(serde_json::from_str::<Kept<T>>(&text)?.result)
}

/// The command that measures this with these options.
fn resume_command(prepared: &Prepared, name: &str, options: &Value) -> String {
    let mut command = format!("{} --measure {name}", prepared.resume_command("evaluate"));
    for (option, value) in options.as_object().into_iter().flatten() {
        let word = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let words = |values: &Vec<Value>| values.iter().map(word).collect::<Vec<_>>().join(",");
        let value = value.as_array().map_or_else(|| word(value), words);
        // Left out, or left empty, means what it meant.
        if value.is_empty() || value == "null" {
            continue;
        }
        command.push_str(&format!(" --{option} {}", terminal::quoted(&value)));
    }
    command
}

/// A penalty on logits, and its window in tokens.
type Penalty = (f32, u32);

impl MeasureArgs {
    fn online(&self) -> Result<OnlinePlan> {
        let window = u32::try_from(self.window).context("--window is too large")?;
        Ok(OnlinePlan { warm_up: self.warm_up, kept: self.kept, window, consensus: self.consensus })
    }

    /// The words that begin another thought, and a penalty on them with its window where one is asked for, here
    /// or in the recipe.
    fn thought_switch(&self, prepared: &Prepared) -> Result<(Vec<String>, Option<Penalty>)> {
        let written = prepared.plan.evaluate.thought_switch.as_ref();
        let of_recipe = || written.map_or_else(|| SWITCH_WORDS.map(str::to_owned).to_vec(), |one| one.words.clone());
        let words = if self.switch.is_empty() { of_recipe() } else { self.switch.clone() };
        self.penalty.map_or(Ok(()), check_penalty)?;
        let penalty = match self.penalty {
            Some(penalty) => Some((penalty, self.penalty_window)),
            None => written.map(|one| (one.penalty, one.window)),
        };
        Ok((words, penalty))
    }
}

impl Workplace<'_> {
    /// Says what comes next.
    ///
    /// # Errors
    /// Ctrl-C was pressed.
    pub(super) fn tick(&mut self, label: &str) -> Result<()> {
        self.bar.set(self.done, label);
        self.done += 1;
        if interrupt::requested() {
            return Err(Interrupted { resume: self.resume.clone() }.into());
        }
        Ok(())
    }
}

impl Policies {
    /// The two by name, in the order of the tables.
    pub(super) fn each(&mut self) -> [(&'static str, &mut Policy); 2] {
        [("before", &mut self.before), ("after", &mut self.after)]
    }
}

impl<T> Both<T> {
    /// Of two results in the order of [`Policies::each`]; none of another number.
    pub(super) fn of(results: Vec<T>) -> Option<Both<T>> {
        let mut results = results.into_iter();
        let both = Both { before: results.next()?, after: results.next()? };
        results.next().is_none().then_some(both)
    }

    /// The two by name.
    pub(super) fn each(&self) -> [(&'static str, &T); 2] {
        [("before", &self.before), ("after", &self.after)]
    }
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        Ok(_) => Err("expected in [0, 1]".to_owned()),
        Err(error) => Err(format!("{error}")),
    }
}

fn some_share(text: &str) -> Result<f64, String> {
    share(text).ok().filter(|share| *share > 0.0).ok_or_else(|| "expected above 0 and at most 1".to_owned())
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("expected at least 1".to_owned()),
        Ok(number) => Ok(number),
        Err(error) => Err(format!("{error}")),
    }
}
