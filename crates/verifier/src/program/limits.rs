//! How much a program may use. Limits always hold, whatever walls there are.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Bounds of one execution: of one test, or of a compilation.
///
/// Memory is bounded per process by the kernel's `RLIMIT_AS`, so a job may use up to
/// `processes · address_space_bytes` (a control group, which would bound the sum, is not given to
/// ordinary users).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Time on the clock, from the start of the program to the end of its last process.
    pub wall: Duration,
    /// Processor time of each process, rounded up to whole seconds.
    pub cpu: Duration,
    /// Address space of each process: more than its memory in use, since reserved space counts.
    pub address_space_bytes: u64,
    /// Stack of each process's first thread.
    pub stack_bytes: u64,
    /// What may be printed to standard output, to standard error, and returned by a call: each.
    pub output_bytes: usize,
    /// The largest file, and all of scratch where it lies in memory.
    pub file_bytes: u64,
    /// Files and folders in scratch, where it lies in memory.
    pub files: u64,
    /// Open files of each process.
    pub open_files: u64,
    /// Processes and threads at a time.
    pub processes: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            wall: Duration::from_secs(10),
            cpu: Duration::from_secs(10),
            address_space_bytes: 2 << 30,
            stack_bytes: 64 << 20,
            output_bytes: 1 << 20,
            file_bytes: 64 << 20,
            files: 1_000,
            open_files: 64,
            processes: 16,
        }
    }
}

impl Limits {
    /// Bounds that compilers keep to: more processes, memory and time than a test.
    pub fn compilation() -> Limits {
        Limits {
            wall: Duration::from_secs(30),
            cpu: Duration::from_secs(30),
            address_space_bytes: 4 << 30,
            file_bytes: 256 << 20,
            files: 10_000,
            open_files: 256,
            processes: 64,
            ..Limits::default()
        }
    }
}
