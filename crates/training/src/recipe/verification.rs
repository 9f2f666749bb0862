//! The table `[verifier]`: what verifiers need that run something.
//!
//! A problem file says what is right (tests, a reference); it never says what is run. That stands here, in
//! the words of whoever starts the run: the interpreter, the command, the walls and limits around programs,
//! and how many failures of the verifier itself are put up with.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use toehold_verifier::command::CommandSpec;
use toehold_verifier::program::{Language, Level, Limits, Sandbox};
use toehold_verifier::{Code, Resources, Runtime};

use super::{RecipeError, section};

section! {
    /// The table `[verifier]`. Without it only verifiers of text can be used.
    Verification from VerificationWritten {
        /// Programs are Python, run by this interpreter: a path, or a name that is looked up in `PATH`.
        python: Option<PathBuf> = None,
        /// Programs are of another language: the command that runs one; `{source}` is its file, `{program}`
        /// the folder it lies in.
        run: Vec<String> = Vec::new(),
        /// The command that compiles one, once, before `run`.
        compile: Vec<String> = Vec::new(),
        /// The name of a program's file, with the ending that its language wants; for `run` alone.
        file: String = "main".to_owned(),
        /// Where a completion states its program: `fence`, the last block between code fences, or `text`, all of it.
        code: Code = Code::Fence,
        /// The least that the sandbox must reach: `isolated`, `restricted` or `limits`.
        sandbox: Level = Level::Restricted,
        /// Files and folders that programs may read besides the system's own; absolute paths.
        readable: Vec<PathBuf> = Vec::new(),
        /// Seconds that each test of a program may take, on the clock and of processor time; at most 3600.
        test_seconds: f64 = 10.0,
        /// Seconds that compiling may take; at most 3600.
        compile_seconds: f64 = 30.0,
        /// Address space of each process of a program, in MiB.
        memory_mib: u32 = 2048,
        /// What a program may print, in KiB.
        output_kib: u32 = 1024,
        /// The largest file that a program may write, and all of them together, in MiB.
        file_mib: u32 = 64,
        /// Files that a program may make.
        files: u32 = 1000,
        /// Processes and threads that a program may have at a time.
        processes: u32 = 16,
        /// A program of yours that gives verdicts, and its arguments: it reads and writes JSON lines.
        command: Vec<String> = Vec::new(),
        /// Seconds in which it must reply; at most 3600.
        command_seconds: f64 = 10.0,
        /// How many of it run side by side.
        command_processes: usize = 1,
        /// Verdicts at a time; 0 for as many as there are cores.
        threads: usize = 0,
        /// The share of verdicts that may be missing because the verifier itself failed, in `[0, 1]`; above it
        /// the run stops.
        infra_share: f64 = 0.1,
    }
}

impl Verification {
    /// What a grader is made of.
    pub fn resources(&self) -> Resources {
        let command = CommandSpec { deadline: seconds(self.command_seconds), ..CommandSpec::new(self.command.clone()) };
        Resources {
            program: self.runtime(),
            command: (!self.command.is_empty()).then_some(command),
            processes: NonZeroUsize::new(self.command_processes).unwrap_or(NonZeroUsize::MIN),
            threads: NonZeroUsize::new(self.threads),
        }
    }

    fn runtime(&self) -> Option<Runtime> {
        let language = match &self.python {
            Some(interpreter) => Language::Python { interpreter: interpreter.clone() },
            None if self.run.is_empty() => return None,
            None => Language::Command {
                file: self.file.clone(),
                compile: (!self.compile.is_empty()).then(|| self.compile.clone()),
                run: self.run.clone(),
            },
        };
        let limits = |limits: Limits, time: f64| Limits { wall: seconds(time), cpu: seconds(time), ..limits };
        let of_tests = Limits {
            address_space_bytes: u64::from(self.memory_mib) << 20,
            output_bytes: (self.output_kib as usize) << 10,
            file_bytes: u64::from(self.file_mib) << 20,
            files: u64::from(self.files),
            processes: u64::from(self.processes),
            ..Limits::default()
        };
        Some(Runtime {
            language,
            limits: limits(of_tests, self.test_seconds),
            compile_limits: limits(Limits::compilation(), self.compile_seconds),
            sandbox: Sandbox { minimum: self.sandbox, readable: self.readable.clone(), ..Sandbox::default() },
            code: self.code,
        })
    }

    /// Checks every range.
    pub(super) fn check(&self) -> Result<(), RecipeError> {
        const HOUR: &str = "above 0 and at most 3600";
        let check = |key, found: String, is_in_range, expected| match is_in_range {
            true => Ok(()),
            false => Err(RecipeError::OutOfRange { section: "verifier", key, found, expected }),
        };
        let time = |key, found: f64| check(key, found.to_string(), found > 0.0 && found <= 3600.0, HOUR);
        let many = |key, found: u32| check(key, found.to_string(), found > 0, "at least 1");
        let shown = |words: &[String]| format!("{words:?}");
        let beside = self.python.is_none() || self.run.is_empty();
        check("run", "written beside `python`".to_owned(), beside, "one of the two")?;
        let compiled = self.compile.is_empty() || !self.run.is_empty();
        check("compile", shown(&self.compile), compiled, "`run` beside it")?;
        for (key, words) in [("run", &self.run), ("compile", &self.compile), ("command", &self.command)] {
            check(key, shown(words), words.first().is_none_or(|word| !word.is_empty()), "a program and its arguments")?;
        }
        let is_name = !self.file.is_empty() && !self.file.contains(['/', '\0']) && !self.file.starts_with('.');
        check("file", self.file.clone(), is_name, "a file's name")?;
        for path in &self.readable {
            check("readable", path.display().to_string(), path.is_absolute(), "absolute paths")?;
        }
        time("test_seconds", self.test_seconds)?;
        time("compile_seconds", self.compile_seconds)?;
        time("command_seconds", self.command_seconds)?;
        many("memory_mib", self.memory_mib)?;
        many("output_kib", self.output_kib)?;
        many("file_mib", self.file_mib)?;
        many("files", self.files)?;
        many("processes", self.processes)?;
        let side_by_side = self.command_processes;
        check("command_processes", side_by_side.to_string(), (1..=256).contains(&side_by_side), "1 to 256")?;
        check("threads", self.threads.to_string(), self.threads <= 1024, "0 to 1024")?;
        let share = self.infra_share;
        check("infra_share", share.to_string(), (0.0..=1.0).contains(&share), "in [0, 1]")
    }
}

/// A time whose range was checked.
fn seconds(time: f64) -> Duration {
    Duration::try_from_secs_f64(time).unwrap_or(Duration::from_secs(3600))
}
