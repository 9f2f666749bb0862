//! Programs run against tests, in a sandbox.
//!
//! [`run`] compiles a program once if its language wants that, runs it in a fresh sandbox for each
//! test, and compares outside what came out. What is expected never enters the sandbox, so a program
//! can neither read it nor change the comparison: whatever it does to its own interpreter, it can only
//! print another text or return another value.
//!
//! Unlike the other verdicts of this crate this one depends on a clock and on the machine. A failure of
//! the machine is `Infra`, which no reward may be made of.
//!
//! The modules, in reading order: [`Job`] and [`ProgramVerdict`]; [`Limits`]; [`Walls`] and [`Level`];
//! [`Comparison`]; [`Tests`] as a problem writes them; `source` finds the program in a text; `json` and `harness` for returned values; `sandbox` runs one process tree.

mod compare;
mod harness;
mod job;
mod json;
mod limits;
mod reference;
mod sandbox;
mod source;
mod walls;

pub use compare::Comparison;
pub use job::{AfterFailure, Job, Language, Program, ProgramOutcome, ProgramVerdict, Sandbox, Test};
pub use limits::Limits;
pub use reference::Tests;
pub(crate) use source::{Found as FoundCode, code_begins, find as find_code};
pub use walls::{Level, Wall, Walls};

use harness::Returned;
use json::Json;
use sandbox::{End, Execution, Finished, Workplace};

/// The walls that this process can build here, of those asked for.
///
/// They are tried at the first call and remembered. None can be built on another system than Linux.
pub fn reachable(walls: Walls) -> Walls {
    sandbox::reachable(walls)
}

/// Runs a job. It blocks for at most the sum of the wall limits and a little more; calls on several
/// threads run side by side.
pub fn run(job: &Job) -> ProgramVerdict {
    let mut verdict = ProgramVerdict {
        outcome: ProgramOutcome::Infra,
        passed: 0,
        total: job.tests.len(),
        failed: None,
        detail: String::new(),
        walls: reachable(job.sandbox.walls),
    };
    if let Err(failure) = run_tests(job, &mut verdict) {
        verdict.outcome = failure.outcome;
        verdict.detail = failure.detail;
    }
    verdict
}

/// Why a test, or the whole job, did not pass.
struct Failure {
    outcome: ProgramOutcome,
    detail: String,
}

impl Failure {
    fn new(outcome: ProgramOutcome, detail: impl Into<String>) -> Failure {
        Failure { outcome, detail: detail.into() }
    }

    fn infra(detail: impl Into<String>) -> Failure {
        Failure::new(ProgramOutcome::Infra, detail)
    }
}

/// Fills the verdict in; an error ends the job before or between tests.
fn run_tests(job: &Job, verdict: &mut ProgramVerdict) -> Result<(), Failure> {
    let (walls, level) = (verdict.walls, verdict.walls.level());
    if level < job.sandbox.minimum {
        let minimum = job.sandbox.minimum;
        return Err(Failure::infra(format!(
            "the sandbox reaches level `{level}` here (walls: {walls}), the job wants `{minimum}`"
        )));
    }
    if job.tests.is_empty() {
        return Err(Failure::infra("the job has no tests"));
    }
    let place = prepare(job, walls)?;
    if let Language::Command { compile: Some(compile), .. } = &job.program.language {
        self::compile(job, compile, &place)?;
    }
    for (index, test) in job.tests.iter().enumerate() {
        match run_test(job, test, &place) {
            Ok(()) => verdict.passed += 1,
            Err(failure) => {
                // A job that the machine failed is not judged, whatever came before: its counts are not whole.
                let machine = failure.outcome == ProgramOutcome::Infra;
                if verdict.failed.is_none() || machine {
                    verdict.failed = Some(index);
                    verdict.outcome = failure.outcome;
                    verdict.detail = failure.detail;
                }
                if job.after_failure == AfterFailure::Stop || machine {
                    return Ok(());
                }
            }
        }
    }
    if verdict.failed.is_none() {
        verdict.outcome = ProgramOutcome::Pass;
    }
    Ok(())
}

/// The folder with the source file.
fn prepare(job: &Job, walls: Walls) -> Result<Workplace, Failure> {
    let file = match &job.program.language {
        Language::Python { .. } => "main.py",
        Language::Command { file, .. } => file,
    };
    let plain = !file.is_empty() && !file.contains(['/', '\0']) && file != "." && file != "..";
    let none = file.is_empty() && job.program.source.is_empty();
    if !(plain || none) {
        return Err(Failure::infra(format!("the source file's name is `{file}`, expected a name without folders")));
    }
    Workplace::new(file, &job.program.source, &job.sandbox, walls).map_err(|error| Failure::infra(error.to_string()))
}

fn compile(job: &Job, command: &[String], place: &Workplace) -> Result<(), Failure> {
    let execution = Execution { command, stdin: b"", request: None, limits: &job.compile_limits, compiles: true };
    let finished = place.execute(&execution).map_err(|error| Failure::infra(error.to_string()))?;
    match judge_end(&finished, &job.compile_limits) {
        Ok(()) => Ok(()),
        Err(failure) => Err(Failure::new(ProgramOutcome::Compile, failure.detail)),
    }
}

fn run_test(job: &Job, test: &Test, place: &Workplace) -> Result<(), Failure> {
    let call = match test {
        Test::Input { .. } => None,
        Test::Call { function, arguments, expected } => Some(Call::read(function, arguments, expected)?),
    };
    let python;
    let command = match &job.program.language {
        Language::Command { run, .. } => run,
        Language::Python { interpreter } => {
            python = python_command(interpreter, call.is_some())?;
            &python
        }
    };
    let execution = Execution {
        command,
        stdin: if let Test::Input { stdin, .. } = test { stdin.as_bytes() } else { b"" },
        request: call.as_ref().map(|call| call.request.as_bytes()),
        limits: &job.limits,
        compiles: false,
    };
    let finished = place.execute(&execution).map_err(|error| Failure::infra(error.to_string()))?;
    judge_end(&finished, &job.limits)?;
    match (&call, test) {
        (Some(call), _) => call.judge(&finished, job.comparison),
        (None, Test::Input { stdout, .. }) => match str::from_utf8(&finished.stdout) {
            Ok(printed) if job.comparison.same_text(stdout, printed) => Ok(()),
            Ok(_) => Err(Failure::new(ProgramOutcome::Wrong, "another output than expected")),
            Err(_) => Err(Failure::new(ProgramOutcome::Wrong, "the output is not UTF-8")),
        },
        // `call` is there for every other kind of test.
        (None, Test::Call { .. }) => Err(Failure::infra("the call has no request")),
    }
}

/// `-I` keeps the interpreter from reading its user's files; `-B` from writing beside the program.
fn python_command(interpreter: &std::path::Path, call: bool) -> Result<Vec<String>, Failure> {
    let Some(interpreter) = interpreter.to_str() else {
        return Err(Failure::infra(format!("the interpreter's path `{}` is not UTF-8", interpreter.display())));
    };
    let mut command = vec![interpreter, "-I", "-B", "-X", "utf8"];
    if call {
        command.extend(["-c", harness::PYTHON]);
    }
    command.push("{source}");
    Ok(command.into_iter().map(str::to_owned).collect())
}

/// A function call: what goes in, and what stays outside.
struct Call {
    nonce: String,
    request: String,
    expected: Json,
}

impl Call {
    fn read(function: &str, arguments: &str, expected: &str) -> Result<Call, Failure> {
        let Some(arguments @ Json::List(_)) = Json::read(arguments) else {
            return Err(Failure::infra(format!("the arguments of `{function}` are not a JSON list")));
        };
        let Some(expected) = Json::read(expected) else {
            return Err(Failure::infra(format!("the expected value of `{function}` is not JSON")));
        };
        let nonce = sandbox::nonce().map_err(|error| Failure::infra(error.to_string()))?;
        let request = harness::request(&nonce, function, &arguments);
        Ok(Call { nonce, request, expected })
    }

    fn judge(&self, finished: &Finished, comparison: Comparison) -> Result<(), Failure> {
        match harness::read(&finished.returned, &self.nonce) {
            Returned::Value(value) if same_value(&self.expected, value.clone(), comparison) => Ok(()),
            Returned::Value(_) => Err(Failure::new(ProgramOutcome::Wrong, "another value than expected")),
            Returned::Nothing => Err(Failure::new(ProgramOutcome::Runtime, "it ended without returning a value")),
            Returned::Forged => Err(Failure::new(
                ProgramOutcome::Runtime,
                "the channel of returned values holds something else than one record with the call's nonce",
            )),
        }
    }
}

fn same_value(expected: &Json, found: Json, comparison: Comparison) -> bool {
    match (comparison, expected, found) {
        (Comparison::AnyOrder, Json::List(expected), Json::List(mut found)) => {
            expected.len() == found.len()
                && expected.iter().all(|wanted| match found.iter().position(|value| wanted.same(value, 0.0)) {
                    Some(at) => {
                        found.swap_remove(at);
                        true
                    }
                    None => false,
                })
        }
        (_, expected, found) => expected.same(&found, comparison.tolerance()),
    }
}

/// What a bad end says of the program; the output is not looked at.
fn judge_end(finished: &Finished, limits: &Limits) -> Result<(), Failure> {
    let (outcome, what) = match finished.end {
        End::Exited(0) => return Ok(()),
        End::OutOfTime => (ProgramOutcome::Timeout, format!("it ran longer than {:?}", limits.wall)),
        End::OutOfCpu => (ProgramOutcome::Timeout, format!("it used more processor time than {:?}", limits.cpu)),
        End::TooMuchOutput => {
            (ProgramOutcome::OutputLimit, format!("it put out more than {} bytes", limits.output_bytes))
        }
        End::TooLargeFile => {
            (ProgramOutcome::OutputLimit, format!("it wrote a file of more than {} bytes", limits.file_bytes))
        }
        End::Exited(code) => (runtime_or_memory(&finished.stderr), format!("it ended with exit code {code}")),
        End::Killed(9) => {
            (ProgramOutcome::Memory, "the kernel ended it (signal 9), as it does when memory is short".into())
        }
        End::Killed(signal) => (runtime_or_memory(&finished.stderr), format!("it ended by signal {signal}")),
    };
    let said = tail(&finished.stderr);
    let detail = if said.is_empty() { what } else { format!("{what}: {said}") };
    Err(Failure::new(outcome, detail))
}

/// A refused allocation is the program's own matter, and the kernel keeps no record of it: what is left
/// is the runtimes' own words. A program may write them too; either outcome is a failure.
fn runtime_or_memory(stderr: &[u8]) -> ProgramOutcome {
    const WORDS: [&str; 6] =
        ["memoryerror", "bad_alloc", "out of memory", "cannot allocate memory", "memory allocation of", "outofmemory"];
    let said = tail(stderr).to_ascii_lowercase();
    if WORDS.iter().any(|word| said.contains(word)) { ProgramOutcome::Memory } else { ProgramOutcome::Runtime }
}

/// The last 600 bytes or less, as text.
fn tail(stderr: &[u8]) -> String {
    let begins = stderr.len().saturating_sub(600);
    String::from_utf8_lossy(&stderr[begins..]).trim().to_owned()
}
