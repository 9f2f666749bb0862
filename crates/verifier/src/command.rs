//! A verifier that is a program of the user's own, asked over JSON lines.
//!
//! One process is started and kept. Each request is one line on its standard input, each reply one line
//! on its standard output, matched by `id`:
//!
//! ```text
//! > {"id": 7, "reference": "4", "text": "the answer is 4"}
//! < {"id": 7, "outcome": "correct", "extracted": "4"}
//! < {"id": 7, "error": "cannot read the reference"}
//! ```
//!
//! `outcome` is one of the words of [`Outcome`]; `extracted` may be left out. A process that ends,
//! misses the deadline, writes a line that is too long or is no reply is killed, and started anew for
//! the next request; if it ended, the request is made once more. No shell is involved. The process runs
//! as the user, without a sandbox: it is the user's own, and reads only texts.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::{Outcome, Verdict};

/// How the process is started, and how long it may take.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandSpec {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// From a request to its reply, the start of the process included.
    #[serde(default = "default_deadline")]
    pub deadline: Duration,
    /// The longest line it may write.
    #[serde(default = "default_line_bytes")]
    pub line_bytes: usize,
}

fn default_deadline() -> Duration {
    Duration::from_secs(10)
}

fn default_line_bytes() -> usize {
    1 << 20
}

impl CommandSpec {
    /// A command with 10 seconds and 1 MiB for each reply.
    pub fn new(command: Vec<String>) -> CommandSpec {
        CommandSpec { command, deadline: default_deadline(), line_bytes: default_line_bytes() }
    }
}

/// A command verifier: its process, while there is one.
#[derive(Debug)]
pub struct CommandVerifier {
    spec: CommandSpec,
    process: Option<Process>,
    next_id: u64,
    starts: u64,
}

/// Why there is no verdict. None of these says anything about the text, so no reward is due.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// There is no program to start.
    #[error("the verifier's command is empty")]
    Empty,
    /// The program cannot be started.
    #[error("the verifier `{command}` cannot be started: {source}")]
    Start {
        /// The program.
        command: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// It ended before it replied, twice.
    #[error("the verifier `{command}` ended before it replied{said}")]
    Ended {
        /// The program.
        command: String,
        /// The end of its standard error, after a colon; empty where it wrote none.
        said: String,
    },
    /// It did not reply in time.
    #[error("the verifier `{command}` has not replied after {deadline:?}")]
    Deadline {
        /// The program.
        command: String,
        /// The time it had.
        deadline: Duration,
    },
    /// It wrote a line that is too long.
    #[error("the verifier `{command}` wrote a line of more than {limit} bytes")]
    LongLine {
        /// The program.
        command: String,
        /// What a line may have.
        limit: usize,
    },
    /// It wrote a line that is no reply.
    #[error(
        "the verifier `{command}` wrote `{line}`, expected a reply such as {{\"id\": 1, \"outcome\": \"correct\"}}: {reason}"
    )]
    Malformed {
        /// The program.
        command: String,
        /// The line, shortened.
        line: String,
        /// What is wrong with it.
        reason: String,
    },
    /// It says itself that it cannot judge.
    #[error("the verifier `{command}` cannot judge: {message}")]
    Refused {
        /// The program.
        command: String,
        /// Its words, shortened.
        message: String,
    },
}

impl CommandVerifier {
    /// A verifier whose process is started with the first request.
    ///
    /// # Errors
    /// The command is empty.
    pub fn new(spec: CommandSpec) -> Result<CommandVerifier, CommandError> {
        if spec.command.is_empty() {
            return Err(CommandError::Empty);
        }
        Ok(CommandVerifier { spec, process: None, next_id: 1, starts: 0 })
    }

    /// Asks for one verdict.
    ///
    /// # Errors
    /// There is no verdict: see [`CommandError`]. The next request starts the process anew if it is gone.
    pub fn verify(&mut self, reference: &str, text: &str) -> Result<Verdict, CommandError> {
        // A time beyond the clock's end is no deadline; a year is none either.
        let now = Instant::now();
        let deadline = now.checked_add(self.spec.deadline).unwrap_or(now + Duration::from_secs(365 * 86_400));
        match self.ask(reference, text, deadline) {
            // A process may have ended since its last reply, for reasons of its own; a new one is asked once.
            Err(CommandError::Ended { .. }) => self.ask(reference, text, deadline),
            result => result,
        }
    }

    /// Starts the process if it does not run: a command that cannot be started is found before its first
    /// request.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(&mut self) -> Result<(), CommandError> {
        if self.process.is_none() {
            self.starts += 1;
            self.process = Some(Process::start(&self.spec)?);
        }
        Ok(())
    }

    /// How often the process was started.
    pub fn starts(&self) -> u64 {
        self.starts
    }

    fn ask(&mut self, reference: &str, text: &str, deadline: Instant) -> Result<Verdict, CommandError> {
        let id = self.next_id;
        self.next_id += 1;
        self.start()?;
        let Some(mut process) = self.process.take() else { return Err(CommandError::Empty) };
        let request = serde_json::json!({ "id": id, "reference": reference, "text": text });
        let result = process.exchange(&self.spec, id, format!("{request}\n"), deadline);
        // Only a process that keeps to the protocol is kept.
        if matches!(result, Ok(_) | Err(CommandError::Refused { .. })) {
            self.process = Some(process);
        }
        result
    }
}

/// A running process and the threads at its pipes.
#[derive(Debug)]
struct Process {
    child: Child,
    requests: Sender<String>,
    lines: Receiver<Line>,
    /// The end of standard error, when it is closed.
    said: Receiver<String>,
}

/// What the reading thread found.
#[derive(Debug)]
enum Line {
    Whole(Vec<u8>),
    TooLong,
}

#[derive(Deserialize)]
struct Reply {
    id: u64,
    outcome: Option<Outcome>,
    extracted: Option<String>,
    error: Option<String>,
}

impl Process {
    fn start(spec: &CommandSpec) -> Result<Process, CommandError> {
        let failed = |source| CommandError::Start { command: name(spec), source };
        let [program, arguments @ ..] = spec.command.as_slice() else { return Err(CommandError::Empty) };
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (requests, to_write) = mpsc::channel::<String>();
        let (found, lines) = mpsc::channel();
        let (last_words, said) = mpsc::channel();
        let process = Process { child, requests, lines, said };
        let (Some(mut stdin), Some(stdout), Some(mut stderr)) = pipes else {
            return Err(failed(std::io::Error::other("a pipe is missing")));
        };
        let limit = spec.line_bytes;
        // Each thread ends when its pipe or its channel does. Writing has one of its own, since a process that
        // does not read must not keep a request beyond its deadline.
        let thread = |work: Box<dyn FnOnce() + Send>| {
            thread::Builder::new().stack_size(256 << 10).spawn(work).map(drop).map_err(failed)
        };
        thread(Box::new(move || {
            for request in to_write {
                if stdin.write_all(request.as_bytes()).and_then(|()| stdin.flush()).is_err() {
                    break;
                }
            }
        }))?;
        thread(Box::new(move || read_lines(stdout, limit, &found)))?;
        thread(Box::new(move || {
            let mut end: Vec<u8> = Vec::new();
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = stderr.read(&mut buffer) {
                end.extend_from_slice(&buffer[..count]);
                end.drain(..end.len().saturating_sub(600));
            }
            let _ = last_words.send(String::from_utf8_lossy(&end).trim().to_owned());
        }))?;
        Ok(process)
    }

    fn exchange(
        &mut self,
        spec: &CommandSpec,
        id: u64,
        request: String,
        deadline: Instant,
    ) -> Result<Verdict, CommandError> {
        // A writer that has ended means a process that has; reading says so.
        let _ = self.requests.send(request);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = match self.lines.recv_timeout(left) {
                Ok(Line::Whole(line)) => line,
                Ok(Line::TooLong) => {
                    return Err(CommandError::LongLine { command: name(spec), limit: spec.line_bytes });
                }
                Err(RecvTimeoutError::Timeout) => {
                    return Err(CommandError::Deadline { command: name(spec), deadline: spec.deadline });
                }
                Err(RecvTimeoutError::Disconnected) => return Err(self.ended(spec)),
            };
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let malformed = |reason: String| CommandError::Malformed {
                command: name(spec),
                line: shorten(&String::from_utf8_lossy(&line)),
                reason,
            };
            let reply: Reply = serde_json::from_slice(&line).map_err(|error| malformed(error.to_string()))?;
            // An id of the past is a reply that came after all; one of the future is a fault.
            match reply.id {
                past if past < id => continue,
                future if future > id => return Err(malformed(format!("its id is {future}, expected {id}"))),
                _ => {}
            }
            return match (reply.outcome, reply.error) {
                (Some(outcome), None) => Ok(Verdict { outcome, extracted: reply.extracted }),
                (None, Some(message)) => Err(CommandError::Refused { command: name(spec), message: shorten(&message) }),
                _ => Err(malformed("it has neither or both of `outcome` and `error`".to_owned())),
            };
        }
    }

    fn ended(&mut self, spec: &CommandSpec) -> CommandError {
        // Its standard error may be held open by a process that it started: it is not waited for long.
        let said = self.said.recv_timeout(Duration::from_millis(200)).unwrap_or_default();
        let said = if said.is_empty() { said } else { format!(": {said}") };
        CommandError::Ended { command: name(spec), said }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Passes lines on until the end, or until one is too long.
fn read_lines(stdout: ChildStdout, limit: usize, found: &Sender<Line>) {
    let mut reader = BufReader::new(stdout);
    loop {
        let mut line = Vec::new();
        let count = match reader.by_ref().take(limit as u64 + 1).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(count) => count,
        };
        let complete = line.ends_with(b"\n");
        let message = if count > limit && !complete { Line::TooLong } else { Line::Whole(line) };
        let last = matches!(message, Line::TooLong);
        if found.send(message).is_err() || last {
            return;
        }
    }
}

fn name(spec: &CommandSpec) -> String {
    spec.command.first().map(|program| shorten(program)).unwrap_or_default()
}

fn shorten(text: &str) -> String {
    let text = text.trim();
    match text.char_indices().nth(200) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
