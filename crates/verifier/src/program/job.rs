//! What is to be run, and what came of it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::program::compare::Comparison;
use crate::program::limits::Limits;
use crate::program::walls::{Level, Walls};

/// A program, its tests, and the conditions under which it runs.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// What is run.
    pub program: Program,
    /// In order; an empty list never passes.
    pub tests: Vec<Test>,
    /// Bounds of each test.
    #[serde(default)]
    pub limits: Limits,
    /// Bounds of the compilation.
    #[serde(default = "Limits::compilation")]
    pub compile_limits: Limits,
    /// The walls.
    #[serde(default)]
    pub sandbox: Sandbox,
    /// When an output is the expected one.
    #[serde(default)]
    pub comparison: Comparison,
    /// Whether tests after a failed one are run.
    #[serde(default)]
    pub after_failure: AfterFailure,
}

impl Job {
    /// A job under the default conditions.
    pub fn new(program: Program, tests: Vec<Test>) -> Job {
        Job {
            program,
            tests,
            limits: Limits::default(),
            compile_limits: Limits::compilation(),
            sandbox: Sandbox::default(),
            comparison: Comparison::default(),
            after_failure: AfterFailure::default(),
        }
    }
}

/// A program's text and how it is run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// How it is run.
    pub language: Language,
    /// Its text; empty where `language` names a program that exists.
    #[serde(default)]
    pub source: String,
}

/// How a program is run. Nothing is ever handed to a shell.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Language {
    /// Python, by an interpreter that the user names. Function calls need no preparation.
    Python {
        /// A path, or a name that is looked up in `PATH`.
        interpreter: PathBuf,
    },
    /// Anything else. In `compile` and `run`, `{source}` is the source file's path, `{program}` the folder
    /// it lies in, which compilation writes to and a test reads. The first word is looked up in `PATH`.
    Command {
        /// The source file's name, without folders.
        file: String,
        /// Run once, before the tests.
        #[serde(default)]
        compile: Option<Vec<String>>,
        /// Run for each test. For function calls it reads and writes the channel itself: the request from
        /// descriptor 3, one line `{"nonce": …, "value": …}` to descriptor 4.
        run: Vec<String>,
    },
}

/// One test.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Test {
    /// Standard input, and the standard output that is expected.
    Input {
        /// What is read.
        stdin: String,
        /// What is to be printed. It stays outside the sandbox.
        stdout: String,
    },
    /// A function's arguments, and the value that is expected.
    Call {
        /// A name, or names with points: `Solution.add` calls the method of a new `Solution`.
        function: String,
        /// A JSON list.
        arguments: String,
        /// A JSON value. It stays outside the sandbox.
        expected: String,
    },
}

/// The walls around a program.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sandbox {
    /// Those that are tried; one that cannot be had is left out.
    pub walls: Walls,
    /// What must be reached. Below it nothing is run and the outcome is `Infra`.
    pub minimum: Level,
    /// Files and folders that programs may read and execute besides the system's own (`/usr`, `/lib`, …).
    pub readable: Vec<PathBuf>,
    /// The environment besides `PATH` and `TMPDIR`; nothing is inherited.
    pub environment: BTreeMap<String, String>,
}

impl Default for Sandbox {
    fn default() -> Sandbox {
        Sandbox { walls: Walls::ALL, minimum: Level::Restricted, readable: Vec::new(), environment: BTreeMap::new() }
    }
}

/// What happens after a test that did not pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AfterFailure {
    /// Nothing: enough where only a full pass is rewarded.
    #[default]
    Stop,
    /// The other tests are run, for a reward by the count of passed tests.
    Continue,
}

/// What came of a job.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ProgramVerdict {
    /// `Pass` if every test passed, else what happened at the first that did not.
    pub outcome: ProgramOutcome,
    /// Tests that passed.
    pub passed: usize,
    /// Tests of the job, whether they were run or not.
    pub total: usize,
    /// The first test that did not pass, from 0; none for `Pass`, `Compile` and for `Infra` before the
    /// first test.
    pub failed: Option<usize>,
    /// What happened, in words; it may end with the last lines of standard error, which the program
    /// wrote.
    pub detail: String,
    /// The walls that stood.
    pub walls: Walls,
}

/// What happened at the first test that did not pass.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProgramOutcome {
    /// Every test passed.
    Pass,
    /// It ended well with another output or value.
    Wrong,
    /// It ran out of wall time or processor time.
    Timeout,
    /// It failed and says that memory was short, or the kernel ended it for that.
    Memory,
    /// It ended with an error, by a signal, or without a record of the returned value.
    Runtime,
    /// The compile command failed.
    Compile,
    /// It printed, returned or wrote more than it may.
    OutputLimit,
    /// The machine or the job is at fault, not the program: no reward is due, neither 0 nor 1.
    Infra,
}

impl ProgramOutcome {
    /// Every outcome.
    pub const ALL: [ProgramOutcome; 8] = [
        ProgramOutcome::Pass,
        ProgramOutcome::Wrong,
        ProgramOutcome::Timeout,
        ProgramOutcome::Memory,
        ProgramOutcome::Runtime,
        ProgramOutcome::Compile,
        ProgramOutcome::OutputLimit,
        ProgramOutcome::Infra,
    ];

    /// The word that is stored and printed.
    pub fn as_str(self) -> &'static str {
        match self {
            ProgramOutcome::Pass => "pass",
            ProgramOutcome::Wrong => "wrong",
            ProgramOutcome::Timeout => "timeout",
            ProgramOutcome::Memory => "memory",
            ProgramOutcome::Runtime => "runtime",
            ProgramOutcome::Compile => "compile",
            ProgramOutcome::OutputLimit => "output_limit",
            ProgramOutcome::Infra => "infra",
        }
    }

    /// Whether the verdict says anything about the program; if not, its trace is left out of training.
    pub fn is_judged(self) -> bool {
        self != ProgramOutcome::Infra
    }
}

impl fmt::Display for ProgramOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
