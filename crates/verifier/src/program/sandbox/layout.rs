//! What a program sees of the machine: the system's own folders, what the user names, and nothing else.
//!
//! With a root of its own a program finds `/program` (its source, read-only after compilation),
//! `/scratch` (its working folder, in memory), `/tmp`
//! as another name of its scratch folder, three devices, and these folders. There is no `/proc`, `/sys`,
//! `/home` or `/etc` but for the linker's cache.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::program::sandbox::child::Mount;
use crate::program::sandbox::{SandboxError, preparing};

/// Where a program's folder appears in a root of its own.
pub(super) const PROGRAM: &str = "/program";
/// Where scratch appears in a root of its own.
pub(super) const SCRATCH: &str = "/scratch";
/// Readable and writable, and harmless.
pub(super) const DEVICES: [&str; 3] = ["/dev/null", "/dev/zero", "/dev/urandom"];

/// What any program needs to start; those that a system does not have are left out.
const SYSTEM: [&str; 9] =
    ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache", "/etc/alternatives", "/nix/store"];

/// One thing of the machine that a program may read and execute.
#[derive(Debug)]
pub(super) struct Visible {
    /// Its path inside, as the user knows it.
    path: PathBuf,
    /// Its path outside, without links: under another root they would lead elsewhere.
    real: PathBuf,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Folder,
    File,
    /// A link such as `/bin` to `usr/bin`; inside it is a link as well.
    Link(PathBuf),
}

/// The system's folders, the interpreter's, and what the user names.
pub(super) fn visible(interpreter: Option<&Path>, readable: &[PathBuf]) -> Result<Vec<Visible>, SandboxError> {
    let mut all = Vec::new();
    for path in SYSTEM.map(Path::new) {
        let Ok(metadata) = fs::symlink_metadata(path) else { continue };
        let kind = match metadata.file_type() {
            kind if kind.is_symlink() => match fs::read_link(path) {
                Ok(text) => Kind::Link(text),
                Err(_) => continue,
            },
            kind if kind.is_dir() => Kind::Folder,
            _ => Kind::File,
        };
        all.push(Visible { path: path.to_owned(), real: path.to_owned(), kind });
    }
    for path in readable {
        if !path.is_absolute() {
            return Err(SandboxError::Relative { path: path.display().to_string() });
        }
        let real = fs::canonicalize(path).map_err(preparing("find a `readable` path"))?;
        add(&mut all, path);
        add(&mut all, &real);
    }
    if let Some(interpreter) = interpreter {
        let real = fs::canonicalize(interpreter).map_err(preparing("find the command"))?;
        for path in [interpreter, &real] {
            if !covered(&all, path) {
                runtime(&mut all, path);
            }
        }
    }
    Ok(all)
}

/// The paths themselves, for rules.
pub(super) fn paths(visible: &[Visible]) -> Vec<PathBuf> {
    visible.iter().filter(|one| !matches!(one.kind, Kind::Link(_))).map(|one| one.path.clone()).collect()
}

fn covered(all: &[Visible], path: &Path) -> bool {
    all.iter().any(|one| path.starts_with(&one.path))
}

fn add(all: &mut Vec<Visible>, path: &Path) {
    if covered(all, path) {
        return;
    }
    let kind = if path.is_dir() { Kind::Folder } else { Kind::File };
    let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    all.push(Visible { path: path.to_owned(), real, kind });
}

/// An interpreter that lies elsewhere brings its `lib` where that is a Python's, and the file that makes a
/// virtual environment one. Not its whole prefix, which may be somebody's home.
fn runtime(all: &mut Vec<Visible>, interpreter: &Path) {
    add(all, interpreter);
    let Some(prefix) = interpreter.parent().and_then(Path::parent) else { return };
    let library = prefix.join("lib");
    let python = fs::read_dir(&library).is_ok_and(|mut entries| {
        entries.any(|entry| entry.is_ok_and(|entry| entry.file_name().as_bytes().starts_with(b"python3")))
    });
    if python {
        add(all, &library);
        let environment = prefix.join("pyvenv.cfg");
        if environment.is_file() {
            add(all, &environment);
        }
    }
}

/// The steps to a root of its own.
pub(super) fn mounts(
    visible: &[Visible],
    program: &Path,
    compiles: bool,
    scratch_options: &str,
) -> Result<Vec<Mount>, SandboxError> {
    let mut steps = Vec::new();
    let mut folders: Vec<PathBuf> = Vec::new();
    for one in visible {
        let folder = matches!(one.kind, Kind::Folder);
        place(&mut steps, &mut folders, &one.path, folder)?;
        match &one.kind {
            Kind::Link(text) => steps.push(Mount::Link { text: c_string(text)?, at: c_string(&one.path)? }),
            Kind::Folder | Kind::File => bind(&mut steps, &one.real, &one.path, folder)?,
        }
    }
    for device in DEVICES.map(Path::new) {
        place(&mut steps, &mut folders, device, false)?;
        bind(&mut steps, device, device, false)?;
    }
    place(&mut steps, &mut folders, Path::new(PROGRAM), true)?;
    bind(&mut steps, program, Path::new(PROGRAM), true)?;
    place(&mut steps, &mut folders, Path::new(SCRATCH), true)?;
    let temporary = Path::new("/tmp");
    if !visible.iter().any(|one| one.path.starts_with(temporary)) {
        steps.push(Mount::Link { text: text(SCRATCH)?, at: c_string(temporary)? });
    }
    steps.push(Mount::DropOld);
    steps.push(Mount::Seal);
    if compiles {
        steps.push(Mount::Unseal(c_string(Path::new(PROGRAM))?));
    }
    let options = text(scratch_options)?;
    steps.push(Mount::Memory { target: c_string(Path::new(SCRATCH))?, options });
    Ok(steps)
}

/// Makes the folders that a path lies in, and itself if it is one.
fn place(steps: &mut Vec<Mount>, folders: &mut Vec<PathBuf>, path: &Path, itself: bool) -> Result<(), SandboxError> {
    let mut above: Vec<&Path> = path.ancestors().skip(usize::from(!itself)).collect();
    above.reverse();
    for folder in above.into_iter().skip(1) {
        if !folders.iter().any(|made| made == folder) {
            steps.push(Mount::Directory(c_string(folder)?));
            folders.push(folder.to_owned());
        }
    }
    Ok(())
}

fn bind(steps: &mut Vec<Mount>, from: &Path, to: &Path, folder: bool) -> Result<(), SandboxError> {
    if !folder {
        steps.push(Mount::EmptyFile(c_string(to)?));
    }
    let mut source = PathBuf::from("/old");
    source.extend(from.components().skip(1));
    steps.push(Mount::Bind { source: c_string(&source)?, target: c_string(to)? });
    Ok(())
}

/// For system calls.
pub(super) fn c_string(path: &Path) -> Result<CString, SandboxError> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| SandboxError::ZeroByte { text: path.display().to_string() })
}

/// For system calls.
pub(super) fn text(text: &str) -> Result<CString, SandboxError> {
    CString::new(text).map_err(|_| SandboxError::ZeroByte { text: text.to_owned() })
}
