//! `clone`, and the mapping of ids.
//!
//! The maker's thread waits until the new process starts its program or ends, as with `vfork`. A new
//! user namespace needs its ids mapped from outside meanwhile; a second, short-lived thread does that.

#![expect(unsafe_code, reason = "`clone` with namespaces has no safe form")]

use std::fs;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;

use libc::c_int;

use crate::program::sandbox::child::{self, Plan, Step};
use crate::program::sandbox::{SandboxError, preparing};
use crate::program::walls::{Wall, Walls};

/// Ample for the few frames between `clone` and `exec`.
const STACK_BYTES: usize = 64 << 10;

/// How ids inside are ids outside.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mapping {
    /// One id inside, our own outside: all that an ordinary user may do.
    Own { inside: u32, user: u32, group: u32 },
    /// Root inside for the mounts, and an ordinary id that is dropped to.
    Two { inside: u32, outside: u32 },
}

/// A process that was started, not yet waited for.
pub(super) struct Started {
    pub(super) pid: c_int,
}

/// Starts a process by a plan. Namespaces are those of `walls`.
pub(super) fn spawn(plan: &mut Plan, walls: Walls, mapping: Mapping) -> Result<Started, SandboxError> {
    let namespaces = flags(walls);
    if namespaces == 0 {
        let id = AtomicI32::new(0);
        return started(plan, clone(plan, 0, &id));
    }
    let (mut ready, ready_end) = io::pipe().map_err(preparing("make a pipe"))?;
    let (go_end, mut go) = io::pipe().map_err(preparing("make a pipe"))?;
    plan.mapping = Some((ready_end.as_raw_fd(), go_end.as_raw_fd()));
    let plan = &*plan;
    let id = AtomicI32::new(0);
    thread::scope(|scope| {
        let mapper = thread::Builder::new().stack_size(128 << 10);
        let mapper = mapper.spawn_scoped(scope, || map(&mut ready, &mut go, &id, mapping));
        let mapper = mapper.map_err(preparing("start a thread"))?;
        let result = clone(plan, namespaces, &id);
        // The mapper waits for a byte or for the end of the pipe, so it ends even where `clone` failed.
        drop(ready_end);
        drop(go_end);
        let mapped = mapper.join().unwrap_or_else(|_| Err(io::Error::other("the mapping thread panicked")));
        match (started(plan, result), mapped) {
            (Err(SandboxError::Enter { step: Step::Map, .. }), Err(source)) => {
                Err(SandboxError::Enter { step: Step::Map, source })
            }
            (result, _) => result,
        }
    })
}

fn flags(walls: Walls) -> c_int {
    if walls.and(Walls::NAMESPACES).is_empty() {
        return 0;
    }
    let of = |wall: Wall, flags: c_int| if walls.contains(wall) { flags } else { 0 };
    libc::CLONE_NEWUSER
        | of(Wall::Processes, libc::CLONE_NEWPID)
        | of(Wall::Network, libc::CLONE_NEWNET)
        | of(Wall::Files, libc::CLONE_NEWNS)
        | of(Wall::Ipc, libc::CLONE_NEWIPC | libc::CLONE_NEWUTS)
}

/// Makes the process; returns when it has started its program or ended.
fn clone(plan: &Plan, namespaces: c_int, id: &AtomicI32) -> io::Result<c_int> {
    let dumpable = is_dumpable();
    // Whole 16-byte words, so that the end of the stack is aligned as the machine wants it.
    let mut stack = vec![0_u128; STACK_BYTES / 16];
    let flags = namespaces | libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PARENT_SETTID | libc::SIGCHLD;
    // SAFETY: the stack and the plan outlive the new process's use of them, since `CLONE_VFORK` suspends this
    // thread until then. All signals are blocked meanwhile, so no handler runs on the shared memory in the new
    // process. The id is written by the kernel before the new process runs.
    let result = unsafe {
        let mut all = std::mem::zeroed::<libc::sigset_t>();
        let mut before = std::mem::zeroed::<libc::sigset_t>();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        let top = stack.as_mut_ptr().add(stack.len()).cast();
        let argument = ptr::from_ref(plan).cast_mut().cast();
        let pid = libc::clone(child::main, top, flags, argument, id.as_ptr());
        let result = if pid < 0 { Err(io::Error::last_os_error()) } else { Ok(pid) };
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut());
        result
    };
    if dumpable {
        // SAFETY: a change of ids in the new process cleared this flag of the memory both shared; it is put back.
        unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0) };
    }
    result
}

/// Whether this process could be dumped and traced before the first sandbox was made.
fn is_dumpable() -> bool {
    static AT_FIRST: OnceLock<bool> = OnceLock::new();
    // SAFETY: the call returns a number and changes nothing.
    *AT_FIRST.get_or_init(|| unsafe { libc::prctl(libc::PR_GET_DUMPABLE, 0, 0, 0, 0) } == 1)
}

/// Waits for the new process's word, maps its ids, and tells it how that went.
fn map(ready: &mut PipeReader, go: &mut PipeWriter, id: &AtomicI32, mapping: Mapping) -> io::Result<()> {
    let mapped = match ready.read_exact(&mut [0]) {
        Ok(()) => write_maps(id.load(Ordering::Acquire), mapping),
        // No process was made.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
        Err(error) => Err(error),
    };
    // Whatever happened, the new process gets its byte: it would wait for ever, and its maker with it.
    go.write_all(&[u8::from(mapped.is_ok())])?;
    mapped
}

fn write_maps(pid: c_int, mapping: Mapping) -> io::Result<()> {
    let write = |name: &str, text: &str| fs::write(format!("/proc/{pid}/{name}"), text);
    match mapping {
        Mapping::Own { inside, user, group } => {
            write("setgroups", "deny")?;
            write("gid_map", &format!("{inside} {group} 1"))?;
            write("uid_map", &format!("{inside} {user} 1"))
        }
        Mapping::Two { inside, outside } => {
            let text = format!("0 0 1\n{inside} {outside} 1");
            write("gid_map", &text)?;
            write("uid_map", &text)
        }
    }
}

/// A process that failed before its program is waited for here.
fn started(plan: &Plan, pid: io::Result<c_int>) -> Result<Started, SandboxError> {
    let pid = pid.map_err(preparing("make a process"))?;
    let Some((step, errno)) = plan.failure.get() else { return Ok(Started { pid }) };
    // SAFETY: the process is our own child, and nobody else waits for it.
    unsafe { libc::waitpid(pid, ptr::null_mut(), 0) };
    Err(SandboxError::Enter { step, source: io::Error::from_raw_os_error(errno) })
}

/// How a process ended, and how much processor time it and its children used.
pub(super) struct Ended {
    /// As `wait4` gives it.
    pub(super) status: c_int,
    pub(super) cpu_seconds: f64,
}

/// Waits for a process.
pub(super) fn wait(started: &Started) -> io::Result<Ended> {
    let mut status = 0;
    // SAFETY: an all-zero `rusage` is a valid one; the process is our own child; both outputs live through the call.
    let (result, usage) = unsafe {
        let mut usage = std::mem::zeroed::<libc::rusage>();
        let result = loop {
            let result = libc::wait4(started.pid, &raw mut status, 0, &raw mut usage);
            if result >= 0 || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
                break result;
            }
        };
        (result, usage)
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 * 1e-6;
    Ok(Ended { status, cpu_seconds: seconds(usage.ru_utime) + seconds(usage.ru_stime) })
}
