//! Removes a folder that a hostile program filled.
//!
//! Folders nested a hundred thousand deep would exhaust the stack, the path length or the descriptors
//! of a recursive removal. Here the content of each folder is first moved up beside it, so nothing is
//! ever opened deeper than two below the top, and each entry is moved once. Links are unlinked, never
//! followed. It is called when the program's processes are gone.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Removes a folder and all that is in it.
pub(super) fn remove(top: &Path) -> io::Result<()> {
    let mut moved = 0_u64;
    loop {
        let mut empty = true;
        for entry in fs::read_dir(top)? {
            let entry = entry?;
            empty = false;
            let path = entry.path();
            if entry.file_type()?.is_dir() {
                lift(&path, top, &mut moved)?;
                fs::remove_dir(&path)?;
            } else {
                fs::remove_file(&path)?;
            }
        }
        if empty {
            return fs::remove_dir(top);
        }
    }
}

/// Moves the content of a folder to the top, under names of our own.
fn lift(folder: &Path, top: &Path, moved: &mut u64) -> io::Result<()> {
    fs::set_permissions(folder, Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            // A folder without write permission for its owner cannot be moved: its `..` would change.
            fs::set_permissions(entry.path(), Permissions::from_mode(0o700))?;
            // A name that the program has taken is passed over; an empty folder of that name is replaced.
            loop {
                *moved += 1;
                match fs::rename(entry.path(), top.join(format!(".toehold-{moved}"))) {
                    Err(error) if is_taken(error.kind()) => {}
                    result => break result?,
                }
            }
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn is_taken(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
    use rustix::fs::{Mode, OFlags};

    use super::*;

    #[test]
    fn deep_closed_and_linked_folders() {
        let place = tempfile::tempdir().unwrap();
        let kept = place.path().join("kept");
        fs::create_dir(&kept).unwrap();
        fs::write(kept.join("file"), "x").unwrap();
        let top = place.path().join("top");
        fs::create_dir(&top).unwrap();
        std::os::unix::fs::symlink(&kept, top.join("link")).unwrap();
        // Deeper than the longest path, as a program makes it with `mkdir` and `chdir`.
        let (mode, open) = (Mode::from_raw_mode(0o700), OFlags::RDONLY | OFlags::DIRECTORY);
        let mut folder = rustix::fs::open(&top, open, Mode::empty()).unwrap();
        let name = "d".repeat(100);
        for _ in 0..200 {
            rustix::fs::mkdirat(&folder, &name, mode).unwrap();
            folder = rustix::fs::openat(&folder, &name, open, Mode::empty()).unwrap();
        }
        rustix::fs::mkdirat(&folder, "closed", Mode::empty()).unwrap();
        fs::create_dir_all(top.join(".toehold-1").join("inner")).unwrap();
        fs::write(top.join(".toehold-2"), "x").unwrap();
        remove(&top).unwrap();
        assert!(!top.exists());
        assert_eq!(fs::read_to_string(kept.join("file")).unwrap(), "x");
    }
}
