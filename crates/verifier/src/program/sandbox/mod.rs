//! One process tree behind walls: started, watched, ended, and what it left.
//!
//! A program is the first process of its own namespaces where these are allowed, so that the kernel
//! itself ends everything it started when it ends. It is made with `clone(CLONE_VM | CLONE_VFORK)`, as
//! `posix_spawn` does: a trainer with many gigabytes is not copied. Between `clone` and `exec` the new
//! process makes system calls from a plan that was laid out before, and nothing else.
//!
//! The modules, in reading order: `workplace` is a job's folder and lays out each execution; `layout`
//! says what is visible; `landlock` and `seccomp` make the two filters; `child` is what happens between
//! `clone` and `exec`; `spawn` is `clone` itself; `supervise` watches; `probe` finds which walls can be
//! built; `clean` removes what is left. All are for Linux; elsewhere (`elsewhere`) nothing is run.

#![cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "nothing is run, so nothing is read or made"))]

#[cfg(target_os = "linux")]
mod child;
#[cfg(target_os = "linux")]
mod clean;
#[cfg(not(target_os = "linux"))]
mod elsewhere;
#[cfg(target_os = "linux")]
mod landlock;
#[cfg(target_os = "linux")]
mod layout;
#[cfg(target_os = "linux")]
mod probe;
#[cfg(target_os = "linux")]
mod seccomp;
#[cfg(target_os = "linux")]
mod spawn;
#[cfg(target_os = "linux")]
mod supervise;
#[cfg(target_os = "linux")]
mod workplace;

#[cfg(not(target_os = "linux"))]
pub(crate) use elsewhere::{Workplace, nonce, reachable};
#[cfg(target_os = "linux")]
pub(crate) use {probe::reachable, workplace::Workplace, workplace::nonce};

use crate::program::limits::Limits;

/// One run of a command.
pub(crate) struct Execution<'a> {
    /// The words, `{source}` and `{program}` not yet filled in.
    pub(crate) command: &'a [String],
    pub(crate) stdin: &'a [u8],
    /// What descriptor 3 gives; with none, there is no channel.
    pub(crate) request: Option<&'a [u8]>,
    pub(crate) limits: &'a Limits,
    /// Whether the program's folder may be written.
    pub(crate) compiles: bool,
}

/// What a process tree left.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) end: End,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    /// What came through descriptor 4.
    pub(crate) returned: Vec<u8>,
}

/// How a program ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    Exited(i32),
    /// By a signal that the sandbox did not send.
    Killed(i32),
    OutOfTime,
    OutOfCpu,
    TooMuchOutput,
    TooLargeFile,
}

/// A failure of the machine or of the job's description, never of the program.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SandboxError {
    #[cfg(not(target_os = "linux"))]
    #[error("programs are run on Linux only, this is {}", std::env::consts::OS)]
    System,
    #[cfg(target_os = "linux")]
    #[error("the sandbox cannot {step}: {source}")]
    Prepare { step: &'static str, source: std::io::Error },
    #[cfg(target_os = "linux")]
    #[error("the new process cannot {step}: {source}")]
    Enter { step: child::Step, source: std::io::Error },
    #[cfg(target_os = "linux")]
    #[error("the command is empty")]
    NoCommand,
    #[cfg(target_os = "linux")]
    #[error("`{command}` is not found in PATH\nhint: name it by its whole path")]
    NotFound { command: String },
    #[cfg(target_os = "linux")]
    #[error(
        "`{command}` cannot be started in the sandbox: {source}\n\
         hint: files outside of the system's folders are visible only if `readable` names them"
    )]
    Start { command: String, source: std::io::Error },
    #[cfg(target_os = "linux")]
    #[error("`{text}` holds a zero byte")]
    ZeroByte { text: String },
    #[cfg(target_os = "linux")]
    #[error("`{path}` is to be readable in the sandbox, expected an absolute path")]
    Relative { path: String },
}

/// For `map_err`: what the sandbox was about to do.
#[cfg(target_os = "linux")]
fn preparing<E: Into<std::io::Error>>(step: &'static str) -> impl FnOnce(E) -> SandboxError {
    move |error| SandboxError::Prepare { step, source: error.into() }
}
