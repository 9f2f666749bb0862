//! The command line: arguments in, exit status out. Everything else is in the library.

use std::process::ExitCode;

use clap::Parser;
use toehold::command_line::CommandLine;

// Temporaries of a training step are handed out again instead of going back to the system, which on
// small models is a third of the time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    toehold::command_line::run(CommandLine::parse())
}
