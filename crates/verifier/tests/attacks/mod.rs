//! What the sandbox's tests share: the program of attacks, compiled once, and jobs that run it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use toehold_verifier::program::{
    self, Job, Language, Level, Program, ProgramOutcome, ProgramVerdict, Test, Wall, Walls,
};

use tempfile::TempDir;

/// A folder that everybody may read, for files that a program must not.
pub(crate) fn folder() -> TempDir {
    let folder = tempfile::Builder::new().prefix("toehold-test-").tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    folder
}

/// The folder with the compiled program of attacks; it goes with the last that uses it.
fn program() -> Arc<TempDir> {
    static PROGRAM: Mutex<Weak<TempDir>> = Mutex::new(Weak::new());
    let mut program = PROGRAM.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(folder) = program.upgrade() {
        return folder;
    }
    let folder = Arc::new(folder());
    fs::write(folder.path().join("attack.c"), include_str!("attack.c")).unwrap();
    let mut compiler = Command::new("cc");
    let compiled = compiler.args(["-O1", "-w", "-o", "attack", "attack.c"]).current_dir(folder.path()).status();
    assert!(compiled.expect("a C compiler named cc").success());
    *program = Arc::downgrade(&folder);
    folder
}

/// A job with the files that it needs.
pub(crate) struct Attack {
    pub(crate) job: Job,
    _program: Arc<TempDir>,
}

impl Attack {
    /// One attack and the test that it is put to.
    pub(crate) fn with_test(words: &[&str], test: Test) -> Attack {
        let folder = program();
        let mut run = vec![folder.path().join("attack").display().to_string()];
        run.extend(words.iter().map(|word| (*word).to_owned()));
        let language = Language::Command { file: String::new(), compile: None, run };
        let mut job = Job::new(Program { language, source: String::new() }, vec![test]);
        job.sandbox.readable = vec![folder.path().to_owned()];
        job.sandbox.minimum = Level::Limits;
        Attack { job, _program: folder }
    }

    /// One attack and the text that it is to print.
    pub(crate) fn new(words: &[&str], expected: &str) -> Attack {
        Attack::with_test(words, Test::Input { stdin: String::new(), stdout: expected.to_owned() })
    }

    pub(crate) fn run(&self) -> ProgramVerdict {
        program::run(&self.job)
    }
}

/// Whether an attack prints `held` or `broke out`, as expected; if not, how it ended.
pub(crate) fn attack(words: &[&str], expected: &str, change: impl Fn(&mut Job)) -> Result<(), String> {
    let mut attack = Attack::new(words, expected);
    change(&mut attack.job);
    let verdict = attack.run();
    match verdict.outcome {
        ProgramOutcome::Pass => Ok(()),
        outcome => Err(format!("{outcome}: {}", verdict.detail)),
    }
}

/// A set of these walls, as far as they can be had here.
pub(crate) fn walls(list: &[Wall]) -> Walls {
    program::reachable(Walls::from(list.to_vec()))
}

/// All that can be had here but these.
pub(crate) fn without(list: &[Wall]) -> Walls {
    list.iter().fold(program::reachable(Walls::ALL), |walls, &wall| walls.without(wall))
}

/// Where root runs the tests, runs all of them but `this` once more as an ordinary user, without groups: its
/// walls are others, since only root can give programs an id of their own.
pub(crate) fn again_as_an_ordinary_user(this: &str) {
    const NOBODY: u32 = 65534;
    if !rustix::process::geteuid().is_root() {
        return;
    }
    // The build's folder may be closed to other users.
    let folder = folder();
    let copy = folder.path().join("tests");
    fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    fs::set_permissions(&copy, Permissions::from_mode(0o755)).unwrap();
    // With another user id the groups of root are given up, too.
    let mut again = Command::new(&copy);
    again.args(["--skip", this]).uid(NOBODY).gid(NOBODY).current_dir("/");
    let output = loop {
        match again.output() {
            // A process that another test has just forked may hold the copy open for writing until it is its own.
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => thread::sleep(Duration::from_millis(5)),
            output => break output.unwrap(),
        }
    };
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && !said.contains("ok. 0 passed"), "{said}");
}
