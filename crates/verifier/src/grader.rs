//! Verdicts by every rule, those included that run something.
//!
//! A [`Grader`] has what a problem file must not name: the interpreter that programs are run by, the walls
//! and limits around them, the user's own command. It counts what it was asked and how often it had no
//! verdict to give ([`Outcome::Infra`]), so that whoever trains on its verdicts can stop when the verifier,
//! not the policy, is what fails.
//!
//! Several threads may ask one grader; [`Grader::verify_batch`] uses as many as there are cores. Verdicts
//! on text do not depend on that. Those on programs depend on a clock and on the machine's load.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::command::{CommandError, CommandSpec, CommandVerifier};
use crate::program::{
    self, FoundCode, Job, Language, Limits, Program, ProgramOutcome, ProgramVerdict, Sandbox, Test, Tests, find_code,
};
use crate::{Outcome, Verdict, Verifier};

/// What the rules need that run something.
#[derive(Clone, PartialEq, Debug)]
pub struct Resources {
    /// How programs are run; with none, [`Verifier::Program`] has no verdicts.
    pub program: Option<Runtime>,
    /// The user's own command; with none, [`Verifier::Command`] has no verdicts.
    pub command: Option<CommandSpec>,
    /// Processes of that command at a time.
    pub processes: NonZeroUsize,
    /// Verdicts at a time; none for as many as there are cores.
    pub threads: Option<NonZeroUsize>,
}

impl Default for Resources {
    fn default() -> Resources {
        Resources { program: None, command: None, processes: NonZeroUsize::MIN, threads: None }
    }
}

/// How programs are run.
#[derive(Clone, PartialEq, Debug)]
pub struct Runtime {
    /// The interpreter, or the commands that compile and run.
    pub language: Language,
    /// Bounds of each test.
    pub limits: Limits,
    /// Bounds of a compilation.
    pub compile_limits: Limits,
    /// The walls, and the least that is accepted.
    pub sandbox: Sandbox,
    /// Which part of a text is the program.
    pub code: Code,
}

/// Which part of a text is the program.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The last block between code fences.
    #[default]
    Fence,
    /// All of it.
    Text,
}

/// What a grader is asked.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// By which rule.
    pub verifier: Verifier,
    /// Compared with what.
    pub reference: &'a str,
    /// Prefix and completion, decoded.
    pub text: &'a str,
}

/// What a grader was asked so far.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Verdicts that it was asked for.
    pub asked: u64,
    /// Those that it failed to give.
    pub failed: u64,
    /// Why the last of these failed.
    pub reason: String,
}

impl Tally {
    /// Whether more than `share` of the verdicts are missing. Before 20 were asked for, the share is of 20: the
    /// first one says nothing.
    pub fn exceeds(&self, share: f64) -> bool {
        self.failed as f64 > share * self.asked.max(20) as f64
    }
}

/// Gives verdicts by every rule.
#[derive(Debug)]
pub struct Grader {
    resources: Resources,
    /// Processes of the command that wait for a request.
    idle: Mutex<Vec<CommandVerifier>>,
    /// Told when one is put back.
    returned: Condvar,
    tally: Mutex<Tally>,
}

/// Why a rule cannot give verdicts here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotReady {
    /// Nothing says how programs are run.
    #[error("the verifier `program` runs programs, but no interpreter and no command to run them is named")]
    NoLanguage,
    /// No command is named.
    #[error("the verifier `command` asks a program of yours, but none is named")]
    NoCommand,
    /// An empty program could not be run.
    #[error("no program can be run here: {reason}")]
    Program {
        /// What the sandbox says.
        reason: String,
    },
    /// The command cannot be started.
    #[error(transparent)]
    Command(CommandError),
}

/// Text verdicts that a thread is worth.
const TEXTS: usize = 64;

impl Grader {
    /// A grader with these resources; nothing is started yet.
    ///
    /// # Errors
    /// A command without a program.
    pub fn new(resources: Resources) -> Result<Grader, CommandError> {
        let idle = match &resources.command {
            Some(spec) => {
                (0..resources.processes.get()).map(|_| CommandVerifier::new(spec.clone())).collect::<Result<_, _>>()?
            }
            None => Vec::new(),
        };
        Ok(Grader { resources, idle: Mutex::new(idle), returned: Condvar::new(), tally: Mutex::default() })
    }

    /// Whether this rule can give verdicts here: an empty program is run, the command is started.
    ///
    /// # Errors
    /// Says why not.
    pub fn ready(&self, verifier: Verifier) -> Result<(), NotReady> {
        match verifier {
            Verifier::Program => {
                let runtime = self.resources.program.as_ref().ok_or(NotReady::NoLanguage)?;
                let nothing = Tests {
                    tests: vec![Test::Input { stdin: String::new(), stdout: String::new() }],
                    comparison: program::Comparison::default(),
                };
                let verdict = run(runtime, "", nothing);
                match verdict.outcome {
                    ProgramOutcome::Infra => Err(NotReady::Program { reason: verdict.detail }),
                    _ => Ok(()),
                }
            }
            Verifier::Command if self.resources.command.is_none() => Err(NotReady::NoCommand),
            Verifier::Command => self.with_command(|command| command.start().map_err(NotReady::Command)),
            _ => Ok(()),
        }
    }

    /// Compares the answer that `text` states with the reference, as [`Verifier::verify`] and by the rules
    /// that run something.
    pub fn verify(&self, verifier: Verifier, reference: &str, text: &str) -> Verdict {
        let verdict = match (verifier, &self.resources.program, &self.resources.command) {
            (Verifier::Program, Some(runtime), _) => judge(runtime, reference, text),
            (Verifier::Program, None, _) => Verdict::infra(NotReady::NoLanguage.to_string()),
            (Verifier::Command, _, Some(_)) => self.with_command(|command| {
                command.verify(reference, text).unwrap_or_else(|error| Verdict::infra(error.to_string()))
            }),
            (Verifier::Command, _, None) => Verdict::infra(NotReady::NoCommand.to_string()),
            _ => verifier.verify(reference, text),
        };
        let mut tally = lock(&self.tally);
        tally.asked += 1;
        if !verdict.outcome.is_judged() {
            tally.failed += 1;
            tally.reason = verdict.extracted.clone().unwrap_or_default();
        }
        verdict
    }

    /// Answers every question, in their order, on as many threads as are worth it.
    pub fn verify_batch(&self, questions: &[Question<'_>]) -> Vec<Verdict> {
        let one = |question: &Question<'_>| self.verify(question.verifier, question.reference, question.text);
        let running = questions.iter().filter(|question| question.verifier.runs()).count();
        let worth = running + questions.len().div_ceil(TEXTS);
        let threads = self.threads().min(worth).min(questions.len());
        if threads < 2 {
            return questions.iter().map(one).collect();
        }
        let next = AtomicUsize::new(0);
        let work = || {
            let mut done = Vec::new();
            while let Some((at, question)) = {
                let at = next.fetch_add(1, Ordering::Relaxed);
                questions.get(at).map(|question| (at, question))
            } {
                done.push((at, one(question)));
            }
            done
        };
        let mut done = std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let mut done = work();
            for other in others {
                match other.join() {
                    Ok(more) => done.extend(more),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            done
        });
        done.sort_unstable_by_key(|&(at, _)| at);
        done.into_iter().map(|(_, verdict)| verdict).collect()
    }

    /// Verdicts at a time.
    pub fn threads(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        self.resources.threads.map_or_else(cores, usize::from)
    }

    /// What it was asked so far.
    pub fn tally(&self) -> Tally {
        lock(&self.tally).clone()
    }

    /// Lends one of the command's processes out, waiting for one where all are at work.
    fn with_command<T>(&self, ask: impl FnOnce(&mut CommandVerifier) -> T) -> T {
        let idle = lock(&self.idle);
        let mut idle = self.returned.wait_while(idle, |idle| idle.is_empty()).unwrap_or_else(PoisonError::into_inner);
        // There is one: the wait ended, and there are as many as `processes`, at least 1, with a command.
        let mut command = idle.pop().expect("the wait ends when there is one");
        drop(idle);
        let answer = ask(&mut command);
        lock(&self.idle).push(command);
        self.returned.notify_one();
        answer
    }
}

/// A lock whose holder panicked is as good as any: what it guards is whole between statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The rule of `Verifier::Program`.
fn judge(runtime: &Runtime, reference: &str, text: &str) -> Verdict {
    let Ok(tests) = Tests::read(reference) else { return Verdict::without_answer(Outcome::Unreadable) };
    let source = match runtime.code {
        Code::Text if text.trim().is_empty() => return Verdict::without_answer(Outcome::NoAnswer),
        Code::Text => text,
        Code::Fence => match find_code(text) {
            FoundCode::Stated(source) => source,
            FoundCode::Nothing => return Verdict::without_answer(Outcome::NoAnswer),
            FoundCode::Unclosed => return Verdict::without_answer(Outcome::Unreadable),
        },
    };
    let verdict = run(runtime, source, tests);
    let outcome = match verdict.outcome {
        ProgramOutcome::Pass => Outcome::Correct,
        ProgramOutcome::Wrong => Outcome::Wrong,
        ProgramOutcome::Timeout => Outcome::Timeout,
        ProgramOutcome::Memory => Outcome::Memory,
        ProgramOutcome::Runtime => Outcome::Runtime,
        ProgramOutcome::Compile => Outcome::Compile,
        ProgramOutcome::OutputLimit => Outcome::OutputLimit,
        ProgramOutcome::Infra => return Verdict::infra(verdict.detail),
    };
    Verdict { outcome, extracted: Some(summary(&verdict)) }
}

fn run(runtime: &Runtime, source: &str, tests: Tests) -> ProgramVerdict {
    let Runtime { language, limits, compile_limits, sandbox, .. } = runtime.clone();
    let program = Program { language, source: source.to_owned() };
    let job = Job::new(program, tests.tests);
    program::run(&Job { limits, compile_limits, sandbox, comparison: tests.comparison, ..job })
}

/// How the tests went: `2 of 5 tests, then test 2 (from 0): it ran longer than 1s`.
fn summary(verdict: &ProgramVerdict) -> String {
    let ProgramVerdict { passed, total, failed, detail, .. } = verdict;
    match failed {
        Some(at) => format!("{passed} of {total} tests, then test {at} (from 0): {detail}"),
        None if detail.is_empty() => format!("{passed} of {total} tests"),
        None => format!("{passed} of {total} tests: {detail}"),
    }
}
