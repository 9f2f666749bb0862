//! The list of allowed system calls.
//!
//! It is a list of what programs need, not of what is dangerous, so a call that a newer kernel brings is
//! refused until somebody adds it. A refused call fails with `ENOSYS`, as if the kernel did not have
//! it, which runtimes are written for. Calls of another architecture's table (32-bit on a 64-bit
//! kernel) end the process.
//!
//! Not there, among others: `socket`, `connect`, `bind`, `ptrace`, `process_vm_*`, `pidfd_*`, `mount`
//! and its family, `unshare`, `setns`, `clone3`, `bpf`, `perf_event_open`, `userfaultfd`, `io_uring_*`,
//! `keyctl`, `open_by_handle_at`, `fanotify_*`, `personality`, `seccomp`, `set*id`, `mknod`.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Length, SeccompCmpOp as Op, SeccompCondition, SeccompFilter,
    SeccompRule,
};

use crate::program::walls::{Wall, Walls};

/// `CLONE_NEW*`, all that `clone` knows, and `CLONE_PARENT`, by which our own process would get a child that
/// it does not wait for.
const NOT_IN_CLONE: u64 = 0x7e02_8000;

/// The filter for a set of walls; none where this machine's architecture is unknown to the compiler.
pub(super) fn filter(walls: Walls) -> Option<&'static BpfProgram> {
    static WITH_PROCESSES: OnceLock<Option<BpfProgram>> = OnceLock::new();
    static WITHOUT: OnceLock<Option<BpfProgram>> = OnceLock::new();
    let alone = walls.contains(Wall::Processes);
    let cell = if alone { &WITH_PROCESSES } else { &WITHOUT };
    cell.get_or_init(|| compile(alone).ok()).as_ref()
}

/// `alone`: whether the program sees no processes but its own.
fn compile(alone: bool) -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules: BTreeMap<c_long, Vec<SeccompRule>> = BTreeMap::new();
    for call in FREE.iter().chain(OLD) {
        rules.insert(*call, Vec::new());
    }
    if alone {
        // Without a process-id namespace these would reach strangers, and a group of one's own would
        // outlive the kill of the program's group.
        for call in AMONG_ITS_OWN {
            rules.insert(*call, Vec::new());
        }
    }
    let one = |conditions: Vec<SeccompCondition>| SeccompRule::new(conditions).map(|rule| vec![rule]);
    let when = SeccompCondition::new;
    rules.insert(libc::SYS_clone, one(vec![when(0, Length::Qword, Op::MaskedEq(NOT_IN_CLONE), 0)?])?);
    // Only its own limits: with a foreign id it would change those of another process of the same user.
    rules.insert(libc::SYS_prlimit64, one(vec![when(0, Length::Dword, Op::Eq, 0)?])?);
    // Not the signal that ends it with the supervisor.
    let parent_death = libc::PR_SET_PDEATHSIG as u64;
    rules.insert(libc::SYS_prctl, one(vec![when(0, Length::Dword, Op::Ne, parent_death)?])?);
    // `TIOCSTI` and `TIOCLINUX`, whose types differ between C libraries: no typing into a terminal.
    let typing = [0x5412, 0x541c];
    let no_typing = typing.into_iter().map(|request| when(1, Length::Dword, Op::Ne, request));
    rules.insert(libc::SYS_ioctl, one(no_typing.collect::<Result<_, _>>()?)?);
    // A pair of connected streams reaches nobody else; a datagram socket could be given an address.
    rules.insert(
        libc::SYS_socketpair,
        one(vec![
            when(0, Length::Dword, Op::Eq, libc::AF_UNIX as u64)?,
            when(1, Length::Dword, Op::MaskedEq(0xf), libc::SOCK_STREAM as u64)?,
        ])?,
    );
    let arch = std::env::consts::ARCH.try_into()?;
    let refuse = SeccompAction::Errno(libc::ENOSYS as u32);
    SeccompFilter::new(rules, refuse, SeccompAction::Allow, arch)?.try_into()
}

const AMONG_ITS_OWN: &[c_long] = &[
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_tgkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_setsid,
    libc::SYS_setpgid,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_setscheduler,
    libc::SYS_setpriority,
];

/// Allowed with any arguments.
const FREE: &[c_long] = &[
    // Files that are open, or that the other walls let it open.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_preadv2,
    libc::SYS_pwritev2,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_lseek,
    libc::SYS_ftruncate,
    libc::SYS_truncate,
    libc::SYS_fallocate,
    libc::SYS_fadvise64,
    libc::SYS_readahead,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_sync_file_range,
    libc::SYS_copy_file_range,
    libc::SYS_sendfile,
    libc::SYS_splice,
    libc::SYS_tee,
    libc::SYS_getdents64,
    libc::SYS_getcwd,
    libc::SYS_chdir,
    libc::SYS_fchdir,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_readlinkat,
    libc::SYS_renameat2,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_utimensat,
    libc::SYS_umask,
    libc::SYS_getxattr,
    libc::SYS_lgetxattr,
    libc::SYS_fgetxattr,
    libc::SYS_listxattr,
    libc::SYS_llistxattr,
    libc::SYS_flistxattr,
    libc::SYS_flock,
    libc::SYS_fcntl,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_pipe2,
    libc::SYS_eventfd2,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_memfd_create,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_shutdown,
    libc::SYS_getsockopt,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    // Memory.
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_msync,
    libc::SYS_mincore,
    libc::SYS_mlock,
    libc::SYS_munlock,
    libc::SYS_brk,
    libc::SYS_membarrier,
    // Signals to itself, processes and threads.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_rt_sigsuspend,
    libc::SYS_sigaltstack,
    libc::SYS_signalfd4,
    libc::SYS_restart_syscall,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_wait4,
    libc::SYS_waitid,
    libc::SYS_set_tid_address,
    libc::SYS_set_robust_list,
    libc::SYS_futex,
    libc::SYS_futex_waitv,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_getparam,
    libc::SYS_sched_getscheduler,
    libc::SYS_sched_get_priority_max,
    libc::SYS_sched_get_priority_min,
    libc::SYS_getpriority,
    // Who and when it is.
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_gettid,
    libc::SYS_getpgid,
    libc::SYS_getsid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getresuid,
    libc::SYS_getresgid,
    libc::SYS_getgroups,
    libc::SYS_capget,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_getcpu,
    libc::SYS_getrusage,
    libc::SYS_times,
    libc::SYS_getrandom,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_gettimeofday,
    libc::SYS_getitimer,
    libc::SYS_setitimer,
    libc::SYS_timer_create,
    libc::SYS_timer_settime,
    libc::SYS_timer_gettime,
    libc::SYS_timer_getoverrun,
    libc::SYS_timer_delete,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_timerfd_gettime,
];

/// Older forms of the same, which newer architectures do not have.
#[cfg(target_arch = "x86_64")]
const OLD: &[c_long] = &[
    libc::SYS_open,
    libc::SYS_creat,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_unlink,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_link,
    libc::SYS_symlink,
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_lchown,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_futimesat,
    libc::SYS_getdents,
    libc::SYS_dup2,
    libc::SYS_pipe,
    libc::SYS_poll,
    libc::SYS_select,
    libc::SYS_epoll_create,
    libc::SYS_epoll_wait,
    libc::SYS_eventfd,
    libc::SYS_signalfd,
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_getpgrp,
    libc::SYS_getrlimit,
    libc::SYS_time,
    libc::SYS_alarm,
    libc::SYS_pause,
    libc::SYS_arch_prctl,
];

/// Older forms of the same, which newer architectures do not have.
#[cfg(not(target_arch = "x86_64"))]
const OLD: &[c_long] = &[];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_filters_compile() {
        for walls in [Walls::ALL, Walls::NONE] {
            let length = filter(walls).expect("a known architecture").len();
            assert!((100..4096).contains(&length), "{length} instructions, expected fewer than the kernel's 4096");
        }
    }
}
