//! Everything that is printed: talk, data, events, progress and tables.
//!
//! Talk is for a person and goes to stderr; data is what was asked for and goes to stdout, so that a
//! pipe carries nothing else. With `--json` stdout carries one JSON object per line and nothing else;
//! with `--quiet` only data, warnings and errors are printed. Nothing outside this module prints.

mod number;
mod progress;
mod table;

use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use indicatif::{MultiProgress, ProgressDrawTarget};
use serde::Serialize;

pub(crate) use number::engineering;
pub use number::{bytes, count, duration, flops, outcomes, percent, percent_with_interval};
pub use progress::Progress;
pub use table::table;

/// Who reads what is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// A person: talk, progress and data.
    #[default]
    Human,
    /// A person who wants data and warnings only.
    Quiet,
    /// A program: one JSON object per line on stdout, warnings on stderr.
    Json,
}

impl Mode {
    /// The mode that the flags `--quiet` and `--json` ask for; `--json` has the last word.
    fn from_flags(quiet: bool, json: bool) -> Mode {
        match (quiet, json) {
            (_, true) => Mode::Json,
            (true, false) => Mode::Quiet,
            (false, false) => Mode::Human,
        }
    }
}

/// Where a command prints. Cheap to clone; all clones share their streams and their progress bars.
#[derive(Clone)]
pub struct Output {
    mode: Mode,
    streams: Arc<Mutex<Streams>>,
    bars: MultiProgress,
}

struct Streams {
    data: Box<dyn Write + Send>,
    talk: Box<dyn Write + Send>,
}

impl Output {
    /// Prints to this process's stdout and stderr as the flags `--quiet` and `--json` ask for; bars
    /// are drawn only in [`Mode::Human`] and when stderr is a terminal.
    pub fn new(quiet: bool, json: bool) -> Output {
        let mode = Mode::from_flags(quiet, json);
        let draws = mode == Mode::Human && io::stderr().is_terminal();
        let target = if draws { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let streams = Streams { data: Box::new(io::stdout()), talk: Box::new(io::stderr()) };
        Output { mode, streams: Arc::new(Mutex::new(streams)), bars: MultiProgress::with_draw_target(target) }
    }

    /// Prints data and talk to the given writers and draws no bars: for tests and for callers that
    /// keep the text.
    pub fn to_writers(mode: Mode, data: impl Write + Send + 'static, talk: impl Write + Send + 'static) -> Output {
        let streams = Streams { data: Box::new(data), talk: Box::new(talk) };
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::hidden());
        Output { mode, streams: Arc::new(Mutex::new(streams)), bars }
    }

    /// Who reads it.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Talk: one line to stderr, for a person only.
    pub fn say(&self, line: impl Display) {
        if self.mode == Mode::Human {
            self.talk(format_args!("{line}"));
        }
    }

    /// A warning: one line to stderr in every mode.
    pub fn warn(&self, line: impl Display) {
        self.talk(format_args!("warning: {line}"));
    }

    /// What ended a command, with its causes: to stderr in every mode.
    pub fn error(&self, error: &anyhow::Error) {
        self.talk(format_args!("error: {}", sentence(error)));
    }

    /// Data: one or more lines to stdout, except in [`Mode::Json`], where [`event`](Self::event)
    /// carries the same.
    ///
    /// # Errors
    /// When stdout cannot be written; `BrokenPipe` says that the reader has seen enough, and a
    /// command should then end without a complaint.
    pub fn data(&self, text: impl Display) -> io::Result<()> {
        if self.mode == Mode::Json {
            return Ok(());
        }
        self.bars.suspend(|| writeln!(self.lock().data, "{text}"))
    }

    /// An event: in [`Mode::Json`] one JSON object on one line of stdout, otherwise nothing.
    ///
    /// # Errors
    /// As [`data`](Self::data), and when the event has no JSON form.
    pub fn event(&self, event: &impl Serialize) -> io::Result<()> {
        if self.mode != Mode::Json {
            return Ok(());
        }
        // In one write, so that a line is never torn by another process on the same pipe.
        let mut line = serde_json::to_string(event)?;
        line.push('\n');
        let mut streams = self.lock();
        streams.data.write_all(line.as_bytes())?;
        streams.data.flush()
    }

    fn talk(&self, line: impl Display) {
        // A closed stderr is no reason to stop the work.
        self.bars.suspend(|| writeln!(self.lock().talk, "{line}").ok());
    }

    fn lock(&self) -> MutexGuard<'_, Streams> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An error and its causes as one sentence, then its hints, a line each.
///
/// A cause that its error's own message ends with is said once, and a hint that an error in the middle
/// of the chain has does not tear the sentence.
fn sentence(error: &anyhow::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut hints: Vec<String> = Vec::new();
    for cause in error.chain() {
        let text = cause.to_string();
        let (what, hint) = match text.split_once("\nhint: ") {
            Some((what, hint)) => (what, Some(hint)),
            None => (text.as_str(), None),
        };
        let what = what.trim_end();
        hints.extend(hint.map(|hint| format!("\nhint: {hint}")).filter(|hint| !hints.contains(hint)));
        if !parts.last().is_some_and(|last| last.ends_with(what)) {
            parts.push(what.to_owned());
        }
    }
    parts.join(": ") + &hints.concat()
}

/// A word as a shell reads it back.
pub fn quoted(word: &str) -> String {
    let is_plain = |letter: char| letter.is_alphanumeric() || "-_.,/:=".contains(letter);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use expect_test::{Expect, expect};
    use serde::Serialize;

    use super::{Mode, Output, Progress};

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Kept {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    #[derive(Serialize)]
    struct Step {
        step: u32,
        note: &'static str,
    }

    #[track_caller]
    fn check(mode: Mode, expected: Expect) {
        let (data, talk) = (Kept::default(), Kept::default());
        let output = Output::to_writers(mode, data.clone(), talk.clone());
        let mut progress = Progress::start(&output, "train", Some(2), "steps");
        output.say("reading problems.jsonl");
        output.warn("2 problems are repeated");
        progress.set(1, "reward 0.5");
        output.data("id  verdict\np1  correct").unwrap();
        output.event(&Step { step: 1, note: "two\nlines" }).unwrap();
        progress.finish();
        output.error(&anyhow::anyhow!("no such file").context("problems.jsonl cannot be read"));
        expected.assert_eq(&format!("stdout:\n{}stderr:\n{}", data.text(), talk.text()));
    }

    #[test]
    fn each_mode_prints_what_it_should() {
        check(
            Mode::Human,
            expect![[r#"
                stdout:
                id  verdict
                p1  correct
                stderr:
                reading problems.jsonl
                warning: 2 problems are repeated
                error: problems.jsonl cannot be read: no such file
            "#]],
        );
        check(
            Mode::Quiet,
            expect![[r#"
                stdout:
                id  verdict
                p1  correct
                stderr:
                warning: 2 problems are repeated
                error: problems.jsonl cannot be read: no such file
            "#]],
        );
        check(
            Mode::Json,
            expect![[r#"
                stdout:
                {"step":1,"note":"two\nlines"}
                stderr:
                warning: 2 problems are repeated
                error: problems.jsonl cannot be read: no such file
            "#]],
        );
    }

    #[test]
    fn flags_make_a_mode() {
        let modes = [(false, false), (true, false), (false, true), (true, true)].map(|(q, j)| Mode::from_flags(q, j));
        expect!["[Human, Quiet, Json, Json]"].assert_eq(&format!("{modes:?}"));
    }
}
