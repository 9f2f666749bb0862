//! Landlock: which files may be opened for what, whatever the path to them is.
//!
//! The rule set is made before `clone` and entered after it, in the new process, which first adds the
//! rule for its scratch folder. That folder may lie on a file system that only the new process has, so
//! a library that makes and enters a rule set in one go does not fit; the three calls are made here.
//! Rights that the running kernel does not know are left out, the oldest interface (ABI 1, Linux 5.13)
//! still refuses every foreign file.

#![expect(unsafe_code, reason = "Landlock's three system calls have no wrapper in the C library")]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use libc::{c_int, c_long};

const EXECUTE: u64 = 1;
const WRITE_FILE: u64 = 1 << 1;
const READ_FILE: u64 = 1 << 2;
const READ_DIR: u64 = 1 << 3;
/// The 13 rights of ABI 1.
const ALL_OF_ABI_1: u64 = (1 << 13) - 1;
const REFER: u64 = 1 << 13;
const TRUNCATE: u64 = 1 << 14;
const IOCTL_DEV: u64 = 1 << 15;
const TCP: u64 = 0b11;
const ABSTRACT_SOCKETS_AND_SIGNALS: u64 = 0b11;
/// The rights that the kernel accepts for what is not a folder.
const OF_A_FILE: u64 = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV;

/// A rule set that is not yet entered.
pub(super) struct Rules {
    set: OwnedFd,
    /// Every right that the set is about.
    handled: u64,
}

/// `struct landlock_ruleset_attr`.
#[repr(C)]
struct Attributes {
    files: u64,
    net: u64,
    scoped: u64,
}

/// `struct landlock_path_beneath_attr`.
#[repr(C, packed)]
pub(super) struct Beneath {
    rights: u64,
    parent: RawFd,
}

/// The kernel's Landlock interface, 0 where it has none.
fn abi() -> c_long {
    // SAFETY: with no attributes and the flag for the version the call only returns a number.
    let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, 0_usize, 0_usize, 1_u32) };
    version.max(0)
}

impl Rules {
    /// A set by which everything is refused but reading and executing `readable`, and reading and writing
    /// `devices`. A path that does not exist is left out.
    pub(super) fn new(readable: &[PathBuf], devices: &[&str]) -> io::Result<Rules> {
        let abi = abi();
        if abi == 0 {
            return Err(io::Error::from_raw_os_error(libc::ENOSYS));
        }
        let from = |first: c_long, rights: u64| if abi >= first { rights } else { 0 };
        let handled = ALL_OF_ABI_1 | from(2, REFER) | from(3, TRUNCATE) | from(5, IOCTL_DEV);
        let attributes =
            Attributes { files: handled, net: from(4, TCP), scoped: from(6, ABSTRACT_SOCKETS_AND_SIGNALS) };
        // Older kernels know a shorter structure, whose end is cut off at the first field they lack.
        let size: usize = if abi >= 6 {
            24
        } else if abi >= 4 {
            16
        } else {
            8
        };
        // SAFETY: the attributes live through the call and are at least `size` bytes long.
        let set = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, &raw const attributes, size, 0_u32) };
        let Some(set) = RawFd::try_from(set).ok().filter(|&set| set >= 0) else {
            return Err(io::Error::last_os_error());
        };
        // SAFETY: the descriptor was just returned by the kernel and belongs to nobody else.
        let set = unsafe { OwnedFd::from_raw_fd(set) };
        // Out of the way of the descriptors that a program gets.
        let set = rustix::io::fcntl_dupfd_cloexec(set, 16)?;
        let rules = Rules { set, handled };
        for path in readable {
            rules.allow_reading(path)?;
        }
        for device in devices {
            rules.allow(Path::new(device), READ_FILE | WRITE_FILE)?;
        }
        Ok(rules)
    }

    /// Allows reading and executing in one more folder.
    pub(super) fn allow_reading(&self, path: &Path) -> io::Result<()> {
        self.allow(path, EXECUTE | READ_FILE | READ_DIR)
    }

    /// Allows everything in one more folder.
    pub(super) fn allow_all(&self, path: &Path) -> io::Result<()> {
        self.allow(path, self.handled)
    }

    fn allow(&self, path: &Path, rights: u64) -> io::Result<()> {
        let file = match File::options().read(true).custom_flags(libc::O_PATH | libc::O_CLOEXEC).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let rights = if file.metadata()?.is_dir() { rights } else { rights & OF_A_FILE };
        match add(self.set.as_raw_fd(), self.handled & rights, file.as_raw_fd()) {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// The set's descriptor and the rights that scratch gets.
    pub(super) fn parts(&self) -> (RawFd, u64) {
        (self.set.as_raw_fd(), self.handled)
    }
}

/// Adds one rule; 0 on success. Makes one system call and nothing else, so it may follow `clone`.
pub(super) fn add(set: RawFd, rights: u64, parent: RawFd) -> c_long {
    let rule = Beneath { rights, parent };
    // SAFETY: the rule lives through the call; type 1 says that it is a `landlock_path_beneath_attr`.
    unsafe { libc::syscall(libc::SYS_landlock_add_rule, set, 1 as c_int, &raw const rule, 0_u32) }
}

/// Enters a set; 0 on success. Makes one system call and nothing else, so it may follow `clone`.
pub(super) fn enter(set: RawFd) -> c_long {
    // SAFETY: the call takes two numbers and changes only what the calling process may do.
    unsafe { libc::syscall(libc::SYS_landlock_restrict_self, set, 0_u32) }
}
