//! Watches a program: reads what it puts out, ends it at its limits, and says how it ended.

use std::io::{self, PipeReader, Read};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, kill_process_group, pidfd_open};

use crate::program::limits::Limits;
use crate::program::sandbox::spawn::{self, Ended, Started};
use crate::program::sandbox::{End, Finished, SandboxError, preparing};

/// Standard output, standard error, the channel of returned values: our ends, which never block.
pub(super) type Outputs = [Option<PipeReader>; 3];

/// Waits for the end of a program and of everything it started.
pub(super) fn supervise(started: &Started, outputs: Outputs, limits: &Limits) -> Result<Finished, SandboxError> {
    let mut outputs = outputs.map(|pipe| Output { pipe, bytes: Vec::new() });
    let watched = watch(started, &mut outputs, limits);
    // Everything is ended and waited for even where watching failed. The group is killed before its first
    // process is waited for, so that its number cannot yet belong to another.
    kill(started);
    let ended = spawn::wait(started).map_err(preparing("wait for the program"))?;
    let mut stopped = watched?;
    for output in &mut outputs {
        // What was still in the pipe when the program ended.
        if stopped.is_none() && !output.read(limits.output_bytes).map_err(preparing("read the output"))? {
            stopped = Some(End::TooMuchOutput);
        }
    }
    let end = stopped.unwrap_or_else(|| how(&ended, limits));
    let [stdout, stderr, returned] = outputs.map(|output| output.bytes);
    Ok(Finished { end, stdout, stderr, returned })
}

struct Output {
    /// None at its end.
    pipe: Option<PipeReader>,
    bytes: Vec<u8>,
}

impl Output {
    /// Reads what is there; false once there was too much.
    fn read(&mut self, limit: usize) -> io::Result<bool> {
        let mut buffer = [0; 16 << 10];
        while let Some(pipe) = &mut self.pipe {
            match pipe.read(&mut buffer) {
                Ok(0) => self.pipe = None,
                Ok(count) if self.bytes.len() + count > limit => {
                    self.pipe = None;
                    return Ok(false);
                }
                Ok(count) => self.bytes.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

/// Returns when the first process has ended, or with the reason to end it.
fn watch(started: &Started, outputs: &mut [Output; 3], limits: &Limits) -> Result<Option<End>, SandboxError> {
    // A time beyond the clock's end is no limit.
    let deadline = Instant::now().checked_add(limits.wall);
    let process = handle(started)?;
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return Ok(Some(End::OutOfTime));
        }
        let mut polled = Vec::with_capacity(4);
        polled.push(PollFd::new(&process, PollFlags::IN));
        let open = outputs.iter().enumerate().filter_map(|(index, output)| Some((index, output.pipe.as_ref()?)));
        let (indices, pipes): (Vec<usize>, Vec<&PipeReader>) = open.unzip();
        polled.extend(pipes.into_iter().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        match poll(&mut polled, left.map(timespec).as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(preparing("watch the program")(error)),
        }
        let ended = !polled[0].revents().is_empty();
        let ready: Vec<usize> = indices
            .iter()
            .zip(&polled[1..])
            .filter(|(_, pipe)| !pipe.revents().is_empty())
            .map(|(&at, _)| at)
            .collect();
        for index in ready {
            if !outputs[index].read(limits.output_bytes).map_err(preparing("read the output"))? {
                return Ok(Some(End::TooMuchOutput));
            }
        }
        if ended {
            return Ok(None);
        }
    }
}

fn handle(started: &Started) -> Result<OwnedFd, SandboxError> {
    let pid =
        Pid::from_raw(started.pid).ok_or_else(|| preparing("name the process")(io::Error::other("its id is 0")))?;
    pidfd_open(pid, PidfdFlags::empty()).map_err(preparing("get a handle of the process"))
}

fn timespec(time: Duration) -> Timespec {
    Timespec { tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX), tv_nsec: i64::from(time.subsec_nanos()) }
}

/// Ends the first process, with which a process namespace ends, and its group, which without such a
/// namespace is all it could make. Both may be gone already.
fn kill(started: &Started) {
    if let Some(pid) = Pid::from_raw(started.pid) {
        let _ = kill_process_group(pid, Signal::KILL);
        let _ = kill_process(pid, Signal::KILL);
    }
}

fn how(ended: &Ended, limits: &Limits) -> End {
    let status = ended.status;
    if libc::WIFEXITED(status) {
        return End::Exited(libc::WEXITSTATUS(status));
    }
    let signal = libc::WTERMSIG(status);
    // The kernel's limit counts whole ticks, its usage is exact; on a shared machine they differ by a third.
    let used_up = ended.cpu_seconds >= whole_seconds(limits.cpu) as f64 * 0.5;
    match signal {
        libc::SIGXCPU => End::OutOfCpu,
        libc::SIGKILL if used_up => End::OutOfCpu,
        libc::SIGXFSZ => End::TooLargeFile,
        signal => End::Killed(signal),
    }
}

/// The kernel counts whole seconds, at least one.
pub(super) fn whole_seconds(time: Duration) -> u64 {
    time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0)).max(1)
}
