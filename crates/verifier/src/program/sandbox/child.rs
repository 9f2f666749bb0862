//! What the new process does between `clone` and `exec`.
//!
//! It shares its maker's memory, whose thread waits meanwhile. So it makes system calls from a plan
//! that was laid out before, and writes two numbers; it allocates nothing, locks nothing, and cannot
//! panic. The order is fixed by what each wall takes away: mounts need the rights that `Identity` drops,
//! Landlock forbids mounts, and the seccomp filter forbids nearly everything that comes before it.

#![expect(unsafe_code, reason = "system calls between `clone` and `exec`, where no library may be used")]

use std::ffi::{CStr, CString};
use std::fmt;
use std::os::fd::RawFd;
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};

use libc::{c_char, c_int, c_long, c_ulong, c_void};
use seccompiler::sock_filter;

use crate::program::sandbox::landlock;

/// All that the new process needs to know.
pub(super) struct Plan {
    /// Two ends of pipes: it writes to the first and waits at the second until its ids are mapped.
    pub(super) mapping: Option<(RawFd, RawFd)>,
    /// Steps to a root of its own; empty for none.
    pub(super) mounts: Vec<Mount>,
    /// Where the new root is mounted at first; empty for none.
    pub(super) root: CString,
    pub(super) scratch: CString,
    /// Sources of descriptors 0 to 4; -1 leaves one closed. All are above 15.
    pub(super) descriptors: [RawFd; 5],
    /// Resources and their bounds.
    pub(super) limits: Vec<(c_int, u64)>,
    /// User and group id, as the new process sees them.
    pub(super) identity: Option<u32>,
    /// A Landlock set, and the rights of scratch.
    pub(super) landlock: Option<(RawFd, u64)>,
    pub(super) filter: Option<&'static [sock_filter]>,
    /// None only tries whether all of this can be had.
    pub(super) program: Option<Command>,
    pub(super) failure: Failure,
}

/// What `execve` gets.
pub(super) struct Command {
    arguments: Strings,
    environment: Strings,
}

impl Command {
    pub(super) fn new(arguments: Vec<CString>, environment: Vec<CString>) -> Command {
        Command { arguments: Strings::new(arguments), environment: Strings::new(environment) }
    }
}

/// Strings and the array of pointers to them, which ends with a null pointer.
struct Strings {
    pointers: Vec<*const c_char>,
    /// Keeps alive what the pointers point to; the texts themselves do not move with it.
    _texts: Vec<CString>,
}

impl Strings {
    fn new(texts: Vec<CString>) -> Strings {
        let pointers = texts.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect();
        Strings { pointers, _texts: texts }
    }
}

// SAFETY: the pointers point into the strings beside them, which nobody changes.
unsafe impl Sync for Strings {}

/// One step to a root of its own; paths are as seen after the change of root, the old one at `/old`.
pub(super) enum Mount {
    Directory(CString),
    EmptyFile(CString),
    Link {
        text: CString,
        at: CString,
    },
    Bind {
        source: CString,
        target: CString,
    },
    /// The old root is left for ever.
    DropOld,
    /// Everything mounted so far becomes read-only.
    Seal,
    /// One bound folder may be written again.
    Unseal(CString),
    /// A file system in memory.
    Memory {
        target: CString,
        options: CString,
    },
}

/// Where and why it failed, written by the new process and read by its maker.
#[derive(Default)]
pub(super) struct Failure {
    step: AtomicI32,
    errno: AtomicI32,
}

impl Failure {
    /// The step that failed and the system's error number.
    pub(super) fn get(&self) -> Option<(Step, i32)> {
        let step = Step::ALL.get(usize::try_from(self.step.load(Ordering::Acquire) - 1).ok()?)?;
        Some((*step, self.errno.load(Ordering::Acquire)))
    }
}

/// The steps, in their order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    Map,
    Session,
    Mount,
    Scratch,
    Descriptors,
    Limits,
    Identity,
    Privileges,
    Landlock,
    Seccomp,
    Start,
}

impl Step {
    const ALL: [Step; 11] = [
        Step::Map,
        Step::Session,
        Step::Mount,
        Step::Scratch,
        Step::Descriptors,
        Step::Limits,
        Step::Identity,
        Step::Privileges,
        Step::Landlock,
        Step::Seccomp,
        Step::Start,
    ];
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::Map => "get its user id mapped",
            Step::Session => "begin a session",
            Step::Mount => "mount a root of its own",
            Step::Scratch => "enter its scratch folder",
            Step::Descriptors => "arrange its open files",
            Step::Limits => "set its limits",
            Step::Identity => "change its user id",
            Step::Privileges => "drop its privileges",
            Step::Landlock => "enter Landlock",
            Step::Seccomp => "load its seccomp filter",
            Step::Start => "start the program",
        })
    }
}

/// The first function of the new process.
pub(super) extern "C" fn main(plan: *mut c_void) -> c_int {
    // SAFETY: `spawn` passes a plan that outlives the call, since it waits for `exec` or the end; all
    // parts that change are atomic.
    let plan = unsafe { &*plan.cast::<Plan>() };
    let Err(step) = enter(plan) else { exit(0) };
    // SAFETY: the location is the maker's own, whose thread waits.
    let errno = unsafe { *libc::__errno_location() };
    plan.failure.errno.store(errno, Ordering::Release);
    plan.failure.step.store(step as i32 + 1, Ordering::Release);
    exit(127)
}

fn exit(code: c_int) -> ! {
    // SAFETY: ends the process without running anything of its maker's.
    unsafe { libc::_exit(code) }
}

/// All steps. It returns only where a step failed, or where there is no program to start.
fn enter(plan: &Plan) -> Result<(), Step> {
    default_signals();
    if let Some((ready, go)) = plan.mapping {
        wait_for_mapping(ready, go)?;
    }
    // SAFETY: a call without arguments.
    done(unsafe { libc::setsid() }, Step::Session)?;
    if !plan.root.is_empty() {
        change_root(&plan.root)?;
        for mount in &plan.mounts {
            perform(mount)?;
        }
    }
    // SAFETY: sets a mask of the new process alone.
    unsafe { libc::umask(0o022) };
    // SAFETY: the path ends with a zero byte.
    done(unsafe { libc::chdir(plan.scratch.as_ptr()) }, Step::Scratch)?;
    arrange(&plan.descriptors)?;
    for &(resource, bound) in &plan.limits {
        let limit = libc::rlimit64 { rlim_cur: bound, rlim_max: bound };
        // SAFETY: the limit lives through the call, which concerns the calling process (0).
        let result = unsafe { libc::prlimit64(0, resource as _, &raw const limit, ptr::null_mut()) };
        done(result, Step::Limits)?;
    }
    drop_privileges(plan.identity)?;
    if let Some((set, rights)) = plan.landlock {
        enter_landlock(set, rights, &plan.scratch)?;
    }
    close_from(5);
    if let Some(filter) = plan.filter {
        load(filter)?;
    }
    let Some(program) = &plan.program else { return Ok(()) };
    unblock_signals();
    let (arguments, environment) = (&program.arguments.pointers, &program.environment.pointers);
    // SAFETY: both arrays end with a null pointer, and their strings live in the plan.
    unsafe { libc::execve(arguments[0], arguments.as_ptr(), environment.as_ptr()) };
    Err(Step::Start)
}

fn done(result: c_int, step: Step) -> Result<(), Step> {
    if result < 0 { Err(step) } else { Ok(()) }
}

/// What its maker handles or ignores, the program must not inherit: Rust programs ignore `SIGPIPE`.
fn default_signals() {
    for signal in 1..=64 {
        // SAFETY: the new process has a table of its own; numbers that cannot be set are refused.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

fn unblock_signals() {
    // SAFETY: the set is written by `sigemptyset` before it is read.
    unsafe {
        let mut none = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
    }
}

/// One byte each way; anything but a 1 means that there is no mapping.
fn wait_for_mapping(ready: RawFd, go: RawFd) -> Result<(), Step> {
    let mut answer = 0_u8;
    // SAFETY: both calls touch one byte that lives through them.
    unsafe {
        if libc::write(ready, (&raw const answer).cast(), 1) != 1 {
            return Err(Step::Map);
        }
        if libc::read(go, (&raw mut answer).cast(), 1) != 1 || answer != 1 {
            return Err(Step::Map);
        }
    }
    Ok(())
}

/// A small file system in memory becomes `/`, what was `/` becomes `/old`.
fn change_root(root: &CStr) -> Result<(), Step> {
    let memory = c"tmpfs".as_ptr();
    let options = c"size=1m,nr_inodes=512,mode=755".as_ptr();
    let quiet = libc::MS_NOSUID | libc::MS_NODEV;
    // SAFETY: every path and option ends with a zero byte.
    unsafe {
        let private = libc::MS_REC | libc::MS_PRIVATE;
        done(libc::mount(ptr::null(), c"/".as_ptr(), ptr::null(), private, ptr::null()), Step::Mount)?;
        done(libc::mount(memory, root.as_ptr(), memory, quiet, options.cast()), Step::Mount)?;
        done(libc::chdir(root.as_ptr()), Step::Mount)?;
        done(libc::mkdir(c"old".as_ptr(), 0o755), Step::Mount)?;
        let moved = libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c"old".as_ptr());
        done(if moved < 0 { -1 } else { 0 }, Step::Mount)?;
        done(libc::chdir(c"/".as_ptr()), Step::Mount)
    }
}

fn perform(mount: &Mount) -> Result<(), Step> {
    let (nothing, no_data) = (ptr::null(), ptr::null());
    // SAFETY: every path and option ends with a zero byte.
    let result = unsafe {
        match mount {
            // Its parents come first in the list; one that is there already does no harm.
            Mount::Directory(path) => match libc::mkdir(path.as_ptr(), 0o755) {
                -1 if *libc::__errno_location() == libc::EEXIST => 0,
                result => result,
            },
            Mount::EmptyFile(path) => {
                let file = libc::open(path.as_ptr(), libc::O_CREAT | libc::O_WRONLY | libc::O_CLOEXEC, 0o644);
                if file < 0 { -1 } else { libc::close(file) }
            }
            Mount::Link { text, at } => libc::symlink(text.as_ptr(), at.as_ptr()),
            Mount::Bind { source, target } => {
                libc::mount(source.as_ptr(), target.as_ptr(), nothing, libc::MS_BIND | libc::MS_REC, no_data)
            }
            Mount::DropOld => match libc::umount2(c"/old".as_ptr(), libc::MNT_DETACH) {
                0 => libc::rmdir(c"/old".as_ptr()),
                result => result,
            },
            Mount::Seal => set_mount_flags(c"/", libc::AT_RECURSIVE, libc::MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID, 0),
            Mount::Unseal(path) => set_mount_flags(path, 0, MOUNT_ATTR_NOSUID, libc::MOUNT_ATTR_RDONLY),
            Mount::Memory { target, options } => {
                let memory = c"tmpfs".as_ptr();
                let quiet = libc::MS_NOSUID | libc::MS_NODEV;
                libc::mount(memory, target.as_ptr(), memory, quiet, options.as_ptr().cast())
            }
        }
    };
    done(result, Step::Mount)
}

const MOUNT_ATTR_NOSUID: u64 = libc::MOUNT_ATTR_NOSUID;

fn set_mount_flags(path: &CStr, flags: c_int, set: u64, clear: u64) -> c_int {
    // `struct mount_attr`.
    #[repr(C)]
    struct Attributes {
        set: u64,
        clear: u64,
        propagation: u64,
        user_namespace: u64,
    }
    let attributes = Attributes { set, clear, propagation: 0, user_namespace: 0 };
    let size = size_of::<Attributes>();
    // SAFETY: the path ends with a zero byte, the attributes live through the call and have the size given.
    let result = unsafe {
        libc::syscall(libc::SYS_mount_setattr, libc::AT_FDCWD, path.as_ptr(), flags, &raw const attributes, size)
    };
    if result < 0 { -1 } else { 0 }
}

/// Puts the sources at 0 to 4; they are all above 15, so none is overwritten before it is copied.
fn arrange(sources: &[RawFd; 5]) -> Result<(), Step> {
    for (target, &source) in (0..).zip(sources) {
        // SAFETY: the table of open files belongs to the new process alone.
        unsafe {
            if source < 0 {
                libc::close(target);
            } else {
                done(libc::dup2(source, target), Step::Descriptors)?;
            }
        }
    }
    Ok(())
}

/// Closes everything from `first` on.
fn close_from(first: c_int) {
    // SAFETY: the table of open files belongs to the new process alone, nothing above is used any more.
    unsafe {
        if libc::syscall(libc::SYS_close_range, first as c_long, c_long::from(u32::MAX), 0_u32) == 0 {
            return;
        }
        // Before Linux 5.9: all that a process may have open by default, many times over.
        for descriptor in first..65_536 {
            libc::close(descriptor);
        }
    }
}

fn drop_privileges(identity: Option<u32>) -> Result<(), Step> {
    // `struct __user_cap_header_struct` of version 3 and its data: no capability in any set.
    let header = [0x2008_0522_u32, 0];
    let none = [0_u32; 6];
    // SAFETY: all arguments are numbers or arrays that live through the calls. Ids are changed by the system
    // calls themselves, since the C library's functions would change them in all of the maker's threads.
    unsafe {
        if let Some(id) = identity {
            let changed = libc::syscall(libc::SYS_setgroups, 0_usize, ptr::null::<u32>()) == 0
                && libc::syscall(libc::SYS_setresgid, id, id, id) == 0
                && libc::syscall(libc::SYS_setresuid, id, id, id) == 0;
            done(if changed { 0 } else { -1 }, Step::Identity)?;
        }
        done(
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1 as c_ulong, 0 as c_ulong, 0 as c_ulong, 0 as c_ulong),
            Step::Privileges,
        )?;
        let dropped = libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr());
        done(if dropped < 0 { -1 } else { 0 }, Step::Privileges)?;
        // The program ends with the thread that supervises it. It comes after the change of ids, which clears it.
        done(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as c_ulong), Step::Privileges)
    }
}

fn enter_landlock(set: RawFd, rights: u64, scratch: &CStr) -> Result<(), Step> {
    // SAFETY: the path ends with a zero byte.
    let folder = unsafe { libc::open(scratch.as_ptr(), libc::O_PATH | libc::O_CLOEXEC) };
    done(folder, Step::Landlock)?;
    let entered = landlock::add(set, rights, folder) == 0 && landlock::enter(set) == 0;
    done(if entered { 0 } else { -1 }, Step::Landlock)
}

fn load(filter: &[sock_filter]) -> Result<(), Step> {
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut().cast() };
    let mode = c_ulong::from(libc::SECCOMP_MODE_FILTER);
    // SAFETY: the program describes a slice of instructions, laid out as the kernel's; it is only read.
    done(unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program) }, Step::Seccomp)
}
