//! Ctrl-C as a request: the current write is finished, then the work stops.

use std::ops::ControlFlow;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);
static INSTALLED: OnceLock<()> = OnceLock::new();

/// The exit status of a program that was interrupted (128 + SIGINT).
pub const EXIT_INTERRUPTED: u8 = 130;

/// From now on Ctrl-C sets a flag; a second one ends the process at once.
///
/// # Errors
/// When the system refuses a handler.
pub fn install() -> anyhow::Result<()> {
    if INSTALLED.set(()).is_ok() {
        ctrlc::set_handler(|| {
            if INTERRUPTED.swap(true, Ordering::SeqCst) {
                // The store is a write-ahead log and checkpoints are renamed into place: nothing is lost.
                #[allow(clippy::disallowed_methods, reason = "the user asked twice, from a signal thread")]
                std::process::exit(i32::from(EXIT_INTERRUPTED));
            }
        })?;
    }
    Ok(())
}

/// Whether Ctrl-C was pressed.
pub fn requested() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

/// What a long call's callback answers: go on, or stop because of Ctrl-C.
pub fn flow() -> ControlFlow<()> {
    if requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

/// The error that ends a command after Ctrl-C; `main` turns it into [`EXIT_INTERRUPTED`].
#[derive(Debug)]
pub struct Interrupted {
    /// The command that goes on from here.
    pub resume: String,
}

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "interrupted; everything so far is kept\nhint: `{}` goes on from here", self.resume)
    }
}

impl std::error::Error for Interrupted {}
