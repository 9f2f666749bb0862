//! `toehold verify`: the verifier for itself, on JSON lines, on a problem file, or as an HTTP server.

mod forms;
mod rows;
mod serve;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value};
use toehold_verifier::Verifier;
use toehold_verifier::math::{Options, Row, RowVerdict, verify_row};

use crate::terminal::{self, Output};
use serve::Bounds;

/// Compares predictions with golds, one JSON object a line: `gold`, `prediction`, and where needed
/// `gold_form` and `prediction_form` ("bare": the string is the answer, the default; "text": the answer
/// is somewhere in it) and `options`.
///
/// Each line comes out again with `equal`, `outcome` and `extracted`. Where lines have `equal`, they are
/// taken for the truth, and a table by `kind` is printed at the end. docs/verifier.md has the rules.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// JSON lines; standard input where it is left out
    #[arg(value_name = "FILE", conflicts_with_all = ["check", "serve"])]
    pub file: Option<PathBuf>,
    /// List the problems of this file whose reference answer cannot be read, and do nothing else
    #[arg(long, value_name = "PROBLEMS", conflicts_with = "serve")]
    pub check: Option<PathBuf>,
    /// Answer over HTTP at this address: POST /verify, /openrlhf, /verl, GET /health
    #[arg(long, value_name = "ADDRESS")]
    pub serve: Option<String>,
    /// Only the last box is an answer, as it should be for training
    #[arg(long)]
    pub strict_boxed: bool,
    /// With --serve: the longest body of a request, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 16)]
    pub body_mib: usize,
    /// With --serve: connections at a time; more wait
    #[arg(long, default_value_t = 256)]
    pub connections: usize,
    /// With --serve: seconds for the verdicts of one request, and for each part of it to come
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub deadline: u64,
}

/// Lines that are judged before the next are read.
const CHUNK: usize = 4096;

/// Runs the command.
///
/// # Errors
/// A line that is no row, a file that cannot be read, references that cannot, an address in use.
pub fn run(args: &VerifyArgs, output: &Output) -> Result<()> {
    let options = Options { strict_boxed: args.strict_boxed, ..Options::default() };
    match (&args.check, &args.serve) {
        (Some(problems), _) => check(problems, output),
        (None, Some(address)) => {
            let deadline = Duration::from_secs(args.deadline.max(1));
            let (body, connections) = (args.body_mib.max(1) << 20, args.connections.max(1));
            let bounds = Bounds { body, connections, patience: deadline, deadline };
            let (requests, verdicts) = serve::serve(address, bounds, options, |address| {
                output.say(format!("listening on http://{address}, Ctrl-C to end"));
            })?;
            output.say(format!("{requests} requests, {verdicts} verdicts"));
            Ok(())
        }
        (None, None) => {
            let (name, lines): (String, Box<dyn BufRead>) = match &args.file {
                Some(path) => {
                    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
                    (path.display().to_string(), Box::new(BufReader::new(file)))
                }
                None => ("standard input".to_owned(), Box::new(io::stdin().lock())),
            };
            verify(&name, lines, &options, output)
        }
    }
}

/// One kind of rows whose truth is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
struct Tally {
    rows: u64,
    right: u64,
    /// Equal in truth, and not found to be.
    missed: u64,
    /// Not equal in truth, and accepted.
    accepted: u64,
}

fn verify(name: &str, lines: Box<dyn BufRead>, options: &Options, output: &Output) -> Result<()> {
    let mut tallies: BTreeMap<String, Tally> = BTreeMap::new();
    let mut outcomes: BTreeMap<String, u64> = BTreeMap::new();
    let mut numbered = lines.lines().enumerate();
    let mut broken = None;
    while broken.is_none() {
        let mut asked: Vec<(Map<String, Value>, Row)> = Vec::new();
        for (at, line) in numbered.by_ref().take(CHUNK) {
            let line = line.with_context(|| format!("{name}:{}: cannot read", at + 1))?;
            if line.trim().is_empty() {
                continue;
            }
            let columns = serde_json::from_str::<Map<String, Value>>(&line);
            match columns.and_then(|columns| rows::read(&columns).map(|row| (columns, row))) {
                Ok(one) => asked.push(one),
                Err(error) => {
                    // What came before is answered first, so that nothing is lost.
                    broken = Some(format!("{name}:{}: {error}", at + 1));
                    break;
                }
            }
        }
        if asked.is_empty() {
            break;
        }
        let verdicts = on_all_cores(&asked, options);
        for ((columns, row), verdict) in asked.into_iter().zip(verdicts) {
            *outcomes.entry(verdict.outcome.clone()).or_default() += 1;
            if let Some(expected) = row.equal {
                let kind = row.kind.unwrap_or_else(|| "–".to_owned());
                tallies.entry(kind).or_default().add(expected, verdict.equal);
            }
            let answered = rows::answered(columns, &verdict);
            output.data(serde_json::to_string(&answered)?)?;
            output.event(&answered)?;
        }
    }
    if let Some(broken) = broken {
        bail!("{broken}\nhint: a row has at least `gold` and `prediction`, both strings");
    }
    summarise(&tallies, &outcomes, output)
}

fn on_all_cores(asked: &[(Map<String, Value>, Row)], options: &Options) -> Vec<RowVerdict> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let share = asked.len().div_ceil(cores).max(1);
    std::thread::scope(|scope| {
        let judge = |part: &[(Map<String, Value>, Row)]| part.iter().map(|(_, row)| verify_row(row, options)).collect();
        let parts: Vec<_> = asked.chunks(share).map(|part| scope.spawn(move || -> Vec<_> { judge(part) })).collect();
        // The verifier panics on no input, which is fuzzed.
        parts.into_iter().flat_map(|part| part.join().expect("a verdict is no panic")).collect()
    })
}

impl Tally {
    fn add(&mut self, expected: bool, found: bool) {
        self.rows += 1;
        self.right += u64::from(expected == found);
        self.missed += u64::from(expected && !found);
        self.accepted += u64::from(!expected && found);
    }
}

fn summarise(tallies: &BTreeMap<String, Tally>, outcomes: &BTreeMap<String, u64>, output: &Output) -> Result<()> {
    let found: Vec<String> = outcomes.iter().map(|(outcome, count)| format!("{count} {outcome}")).collect();
    if found.is_empty() {
        output.warn("there are no rows");
    } else {
        output.say(format!("{} rows: {}", outcomes.values().sum::<u64>(), found.join(", ")));
    }
    if tallies.is_empty() {
        return Ok(());
    }
    let mut all = Tally::default();
    for tally in tallies.values() {
        all.rows += tally.rows;
        all.right += tally.right;
        all.missed += tally.missed;
        all.accepted += tally.accepted;
    }
    let row = |(kind, tally): (&str, &Tally)| {
        let share = format!("{:.1} %", 100.0 * tally.right as f64 / tally.rows.max(1) as f64);
        let counts = [tally.rows, tally.right, tally.missed, tally.accepted].map(|count| count.to_string());
        let [rows, right, missed, accepted] = counts;
        vec![kind.to_owned(), rows, right, share, missed, accepted]
    };
    let kinds = tallies.iter().map(|(kind, tally)| (kind.as_str(), tally));
    let rows: Vec<Vec<String>> = kinds.chain([("all", &all)]).map(row).collect();
    output.say(terminal::table(&["kind", "rows", "right", "share", "missed", "wrongly accepted"], &rows));
    output.event(&serde_json::json!({ "event": "verified", "outcomes": outcomes, "kinds": tallies, "all": all }))?;
    Ok(())
}

/// The columns of a problem that matter here.
#[derive(serde::Deserialize)]
struct Reference {
    id: String,
    answer: String,
    #[serde(default)]
    verifier: Option<String>,
}

fn check(path: &std::path::Path, output: &Output) -> Result<()> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let (mut problems, mut refused) = (0_u64, 0_u64);
    for (at, line) in BufReader::new(file).lines().enumerate() {
        let place = || format!("{}:{}", path.display(), at + 1);
        let line = line.with_context(|| format!("{}: cannot read", place()))?;
        if line.trim().is_empty() {
            continue;
        }
        problems += 1;
        let read = serde_json::from_str::<Reference>(&line).map_err(|error| error.to_string());
        let reason = read.and_then(|reference| {
            let verifier = reference.verifier.as_deref().unwrap_or(Verifier::Answer.as_str());
            let verifier: Verifier =
                verifier.parse().map_err(|error| format!("problem `{}`: {error}", reference.id))?;
            verifier.check_reference(&reference.answer).map_err(|error| format!("problem `{}`: {error}", reference.id))
        });
        if let Err(reason) = reason {
            refused += 1;
            output.data(format!("{}: {reason}", place()))?;
            output.event(&serde_json::json!({ "event": "refused", "line": at + 1, "reason": reason }))?;
        }
    }
    if refused > 0 {
        bail!("{refused} of {problems} problems have a reference that cannot be read");
    }
    output.say(format!("all {problems} references can be read"));
    Ok(())
}
