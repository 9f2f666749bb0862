//! A job's folder, and each execution in it: lays the plan out, starts it, watches it, cleans up.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{self, PipeReader, PipeWriter, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{MemfdFlags, OFlags, SealFlags};
use tempfile::TempDir;

use crate::program::job::Sandbox;
use crate::program::limits::Limits;
use crate::program::sandbox::child::{Command, Plan, Step};
use crate::program::sandbox::landlock::Rules;
use crate::program::sandbox::spawn::{Mapping, Started, spawn};
use crate::program::sandbox::supervise::{Outputs, supervise, whole_seconds};
use crate::program::sandbox::{Execution, Finished, SandboxError, clean, layout, preparing, seccomp};
use crate::program::walls::{Wall, Walls};

/// The program's id as it sees itself where ids are mapped.
const INSIDE: u32 = 1000;
/// The first of 65,536 ids that no system gives to anybody; jobs take them in turn.
const FIRST_OUTSIDE: u32 = 0x7000_0000;
/// `nobody`, where a container has no such ids.
const NOBODY: u32 = 65_534;

/// A job's folder on the machine; it is removed at the end.
pub(crate) struct Workplace {
    /// None once removed.
    folder: Option<TempDir>,
    file: String,
    walls: Walls,
    readable: Vec<PathBuf>,
    environment: BTreeMap<String, String>,
    /// The id that the program really has; none where it keeps ours.
    outside: Option<u32>,
    executions: AtomicU32,
}

impl Drop for Workplace {
    fn drop(&mut self) {
        // What cannot be removed is left in the system's temporary folder, whose place it is.
        if let Some(folder) = self.folder.take() {
            let _ = clean::remove(&folder.keep());
        }
    }
}

impl Workplace {
    /// Makes the folder and writes the source, if there is a name for it.
    pub(crate) fn new(file: &str, source: &str, sandbox: &Sandbox, walls: Walls) -> Result<Workplace, SandboxError> {
        // Without links: it is mounted from under another root.
        let folder = fs::canonicalize(temporary(walls))
            .and_then(|temporary| tempfile::Builder::new().prefix("toehold-").tempdir_in(temporary))
            .map_err(preparing("make its folder"))?;
        let place = Workplace {
            folder: Some(folder),
            file: file.to_owned(),
            walls,
            readable: sandbox.readable.clone(),
            environment: sandbox.environment.clone(),
            outside: if walls.contains(Wall::Identity) { outside() } else { None },
            executions: AtomicU32::new(0),
        };
        let program = place.program()?;
        let make = || -> io::Result<()> {
            // Another id must pass through; it cannot list the folder.
            fs::set_permissions(place.root()?, Permissions::from_mode(0o711))?;
            fs::create_dir(&program)?;
            fs::set_permissions(&program, Permissions::from_mode(0o755))?;
            if !file.is_empty() {
                let path = program.join(file);
                fs::write(&path, source)?;
                fs::set_permissions(&path, Permissions::from_mode(0o644))?;
            }
            Ok(())
        };
        make().map_err(preparing("write the source"))?;
        Ok(place)
    }

    /// Runs a command to its end.
    pub(crate) fn execute(&self, execution: &Execution<'_>) -> Result<Finished, SandboxError> {
        let scratch = self.scratch()?;
        let result = self.execute_in(execution, &scratch);
        if !self.walls.contains(Wall::Files) {
            // A process that was just killed may still be making files; the rest goes with the job's folder.
            let _ = clean::remove(&scratch);
        }
        result
    }

    fn execute_in(&self, execution: &Execution<'_>, scratch: &Path) -> Result<Finished, SandboxError> {
        let words = self.words(execution.command)?;
        let [name, ..] = words.as_slice() else { return Err(SandboxError::NoCommand) };
        let program = find(name)?;
        let mut arguments = vec![layout::c_string(&program)?];
        for word in &words[1..] {
            arguments.push(layout::text(word)?);
        }
        let standard = [
            ("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin".to_owned()),
            ("TMPDIR".to_owned(), scratch.display().to_string()),
        ];
        let mut environment = BTreeMap::from(standard);
        environment.extend(self.environment.clone());
        let environment = environment.iter().map(|(name, value)| layout::text(&format!("{name}={value}")));
        let command = Command::new(arguments, environment.collect::<Result<_, _>>()?);
        if execution.compiles
            && let Some(outside) = self.outside
        {
            chown(self.program()?, Some(outside), Some(outside)).map_err(preparing("give the program its folder"))?;
        }
        // What lies in the program's own folder is visible anyway.
        let interpreter = (!program.starts_with(self.program_inside()?)).then_some(program.as_path());
        let (started, outputs) =
            self.start(execution, scratch, interpreter, Some(command)).map_err(|error| match error {
                SandboxError::Enter { step: Step::Start, source } => {
                    SandboxError::Start { command: name.clone(), source }
                }
                error => error,
            })?;
        supervise(&started, outputs, execution.limits)
    }

    /// Tries whether a process can get behind these walls; it does nothing there.
    pub(super) fn attempt(&self) -> Result<(), SandboxError> {
        let limits = Limits::default();
        let execution = Execution { command: &[], stdin: b"", request: None, limits: &limits, compiles: false };
        let (started, outputs) = self.start(&execution, &self.scratch()?, None, None)?;
        supervise(&started, outputs, &limits).map(drop)
    }

    fn start(
        &self,
        execution: &Execution<'_>,
        scratch: &Path,
        interpreter: Option<&Path>,
        command: Option<Command>,
    ) -> Result<(Started, Outputs), SandboxError> {
        let files = self.walls.contains(Wall::Files);
        let program = self.program()?;
        let visible = layout::visible(interpreter, &self.readable)?;
        let rules = if self.walls.contains(Wall::Landlock) {
            let make = || {
                let rules = Rules::new(&layout::paths(&visible), &layout::DEVICES)?;
                if execution.compiles {
                    rules.allow_all(&program)?
                } else {
                    rules.allow_reading(&program)?
                }
                Ok(rules)
            };
            Some(make().map_err(preparing::<io::Error>("make a Landlock rule set"))?)
        } else {
            None
        };
        let (mapping, identity) = self.identity();
        let mut mounts = Vec::new();
        let mut root = Default::default();
        if files {
            let limits = execution.limits;
            // A size of 0 would mean none, and the folder itself is one of the count.
            let (size, count) = (limits.file_bytes.max(1), limits.files.saturating_add(1));
            let options = format!("size={size},nr_inodes={count},mode=700,uid={INSIDE},gid={INSIDE}");
            mounts = layout::mounts(&visible, &program, execution.compiles, &options)?;
            root = layout::c_string(self.root().map_err(preparing("find its folder"))?)?;
        }
        let channels = Channels::new(execution)?;
        let mut plan = Plan {
            mapping: None,
            mounts,
            root,
            scratch: layout::c_string(scratch)?,
            descriptors: channels.inside(),
            limits: self.limits(execution.limits),
            identity,
            landlock: rules.as_ref().map(Rules::parts),
            filter: if self.walls.contains(Wall::Seccomp) {
                seccomp::filter(self.walls).map(Vec::as_slice)
            } else {
                None
            },
            program: command,
            failure: Default::default(),
        };
        let started = spawn(&mut plan, self.walls, mapping)?;
        Ok((started, channels.outputs))
    }

    /// How ids are mapped, and the id to change to.
    fn identity(&self) -> (Mapping, Option<u32>) {
        let namespaces = !self.walls.and(Walls::NAMESPACES).is_empty();
        match self.outside {
            Some(outside) => {
                (Mapping::Two { inside: INSIDE, outside }, Some(if namespaces { INSIDE } else { outside }))
            }
            None => {
                let (user, group) = (euid(), rustix::process::getegid().as_raw());
                (Mapping::Own { inside: INSIDE, user, group }, None)
            }
        }
    }

    fn limits(&self, limits: &Limits) -> Vec<(i32, u64)> {
        let counted_apart = self.outside.is_some() || !self.walls.and(Walls::NAMESPACES).is_empty();
        // Without an id or a namespace of its own a program's processes are counted with all of the user's.
        let others = if counted_apart { 0 } else { threads_of_user() };
        [
            (libc::RLIMIT_CPU, whole_seconds(limits.cpu)),
            (libc::RLIMIT_AS, limits.address_space_bytes),
            (libc::RLIMIT_STACK, limits.stack_bytes),
            (libc::RLIMIT_FSIZE, limits.file_bytes),
            (libc::RLIMIT_NOFILE, limits.open_files),
            (libc::RLIMIT_NPROC, limits.processes.saturating_add(others)),
            (libc::RLIMIT_CORE, 0),
            (libc::RLIMIT_MSGQUEUE, 0),
        ]
        .map(|(resource, bound)| (resource as i32, bound))
        .to_vec()
    }

    fn root(&self) -> io::Result<&Path> {
        self.folder.as_ref().map(TempDir::path).ok_or_else(|| io::Error::other("the folder is removed"))
    }

    /// The program's folder outside.
    fn program(&self) -> Result<PathBuf, SandboxError> {
        Ok(self.root().map_err(preparing("find its folder"))?.join("program"))
    }

    /// The program's folder as it sees it.
    fn program_inside(&self) -> Result<PathBuf, SandboxError> {
        if self.walls.contains(Wall::Files) { Ok(PathBuf::from(layout::PROGRAM)) } else { self.program() }
    }

    /// The scratch folder as the program sees it; a new one for each execution.
    fn scratch(&self) -> Result<PathBuf, SandboxError> {
        if self.walls.contains(Wall::Files) {
            return Ok(PathBuf::from(layout::SCRATCH));
        }
        let number = self.executions.fetch_add(1, Ordering::Relaxed);
        let make = || -> io::Result<PathBuf> {
            let path = self.root()?.join(format!("scratch-{number}"));
            fs::create_dir(&path)?;
            fs::set_permissions(&path, Permissions::from_mode(0o700))?;
            if let Some(outside) = self.outside {
                chown(&path, Some(outside), Some(outside))?;
            }
            Ok(path)
        };
        make().map_err(preparing("make a scratch folder"))
    }

    /// The command with its two placeholders filled in.
    fn words(&self, command: &[String]) -> Result<Vec<String>, SandboxError> {
        let folder = self.program_inside()?;
        let (program, source) = (folder.display().to_string(), folder.join(&self.file).display().to_string());
        // Python's harness holds braces of its own, so only these two names are replaced.
        Ok(command.iter().map(|word| word.replace("{source}", &source).replace("{program}", &program)).collect())
    }
}

/// Everything that leads into a program and out of it.
struct Channels {
    /// The sources of descriptors 0 to 4.
    inside: [Option<OwnedFd>; 5],
    outputs: Outputs,
}

impl Channels {
    fn new(execution: &Execution<'_>) -> Result<Channels, SandboxError> {
        let make = || -> io::Result<Channels> {
            let (stdout, to_stdout) = pipe()?;
            let (stderr, to_stderr) = pipe()?;
            let mut inside = [Some(sealed(execution.stdin)?), Some(to_stdout), Some(to_stderr), None, None];
            let mut returned = None;
            if let Some(request) = execution.request {
                let (reader, to_reader) = pipe()?;
                inside[3] = Some(sealed(request)?);
                inside[4] = Some(to_reader);
                returned = Some(reader);
            }
            Ok(Channels { inside, outputs: [Some(stdout), Some(stderr), returned] })
        };
        make().map_err(preparing("make its channels"))
    }

    fn inside(&self) -> [RawFd; 5] {
        self.inside.each_ref().map(|descriptor| descriptor.as_ref().map_or(-1, AsRawFd::as_raw_fd))
    }
}

/// Our end, which never blocks, and the program's.
fn pipe() -> io::Result<(PipeReader, OwnedFd)> {
    let (reader, writer): (PipeReader, PipeWriter) = io::pipe()?;
    rustix::fs::fcntl_setfl(&reader, OFlags::NONBLOCK)?;
    Ok((reader, above(writer.as_fd())?))
}

/// A file in memory that can no longer be changed, at its beginning.
fn sealed(bytes: &[u8]) -> io::Result<OwnedFd> {
    let memory = rustix::fs::memfd_create("input", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = File::from(memory);
    file.write_all(bytes)?;
    io::Seek::rewind(&mut file)?;
    rustix::fs::fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    above(file.as_fd())
}

/// A copy of a descriptor that is above 15, out of the way of those that a program gets.
fn above(descriptor: impl AsFd) -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(descriptor, 16)?)
}

/// A random word that no program can guess.
pub(crate) fn nonce() -> Result<String, SandboxError> {
    let mut bytes = [0; 16];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).map_err(preparing("draw a nonce"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Where jobs have their folders: `TMPDIR` if it is set, else in memory if programs can be started there,
/// since making and removing folders on a disk takes longer than all the rest.
///
/// Scratch lies beside the program where it is not in a root of its own, and could fill the memory; then
/// it is the disk after all.
fn temporary(walls: Walls) -> PathBuf {
    let memory = Path::new("/dev/shm");
    let starts = || {
        let writable = rustix::fs::access(memory, rustix::fs::Access::WRITE_OK).is_ok();
        let flags = rustix::fs::statvfs(memory).map(|system| system.f_flag);
        writable && flags.is_ok_and(|flags| !flags.contains(rustix::fs::StatVfsMountFlags::NOEXEC))
    };
    if walls.contains(Wall::Files) && std::env::var_os("TMPDIR").is_none() && starts() {
        return memory.to_owned();
    }
    std::env::temp_dir()
}

pub(super) fn euid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// The path of a command: as it is where it has a slash, else from `PATH`.
fn find(name: &str) -> Result<PathBuf, SandboxError> {
    if name.contains('/') {
        return std::path::absolute(name).map_err(preparing("find the command"));
    }
    let folders = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    std::env::split_paths(&folders)
        .map(|folder| folder.join(name))
        .find(|path| {
            path.is_absolute() && fs::metadata(path).is_ok_and(|file| file.is_file() && file.mode() & 0o111 != 0)
        })
        .ok_or_else(|| SandboxError::NotFound { command: name.to_owned() })
}

/// An id that no other job has at the moment, if this machine has so many; none where it has no second id
/// for us, as for the root of a container of one user.
pub(super) fn outside() -> Option<u32> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let id = FIRST_OUTSIDE + (NEXT.fetch_add(1, Ordering::Relaxed) + std::process::id()) % 65_536;
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let known = |id: u32| {
        map.lines().any(|line| {
            let mut numbers = line.split_whitespace().map(|word| word.parse::<u64>().unwrap_or(0));
            let (first, _, count) = (numbers.next(), numbers.next(), numbers.next());
            first.zip(count).is_some_and(|(first, count)| (first..first + count).contains(&u64::from(id)))
        })
    };
    [id, NOBODY].into_iter().find(|&id| known(id))
}

/// Threads of all processes of our user.
fn threads_of_user() -> u64 {
    let Ok(processes) = fs::read_dir("/proc") else { return 0 };
    let user = euid();
    let ours = processes.flatten().filter(|entry| {
        let name = entry.file_name();
        name.as_encoded_bytes().iter().all(u8::is_ascii_digit)
            && entry.metadata().is_ok_and(|process| process.uid() == user)
    });
    ours.map(|entry| fs::read_dir(entry.path().join("task")).map_or(1, |tasks| tasks.count() as u64)).sum()
}
