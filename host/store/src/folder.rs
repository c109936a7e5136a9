//! The data folder: made private, and owned by one process at a time.
//!
//! The lock is the operating system's, so it ends with its holder however that dies; the process id in the lock file is
//! for people only and is never trusted. Called when a store is opened, and by the binary where the truth is elsewhere.

use crate::error::StoreError;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
#[cfg(unix)]
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

const LOCK_FILE: &str = "chimera.lock";

/// The right to use a data folder, until dropped.
#[derive(Debug)]
pub struct FolderLock {
    /// Closing the file releases the lock.
    _file: File,
}

/// Makes the folder if it is missing (mode 0700) and takes its lock.
///
/// # Errors
/// [`StoreError::Unreadable`] or [`StoreError::Locked`].
pub fn claim(folder: &Path) -> Result<FolderLock, StoreError> {
    make(folder)?;
    let path = folder.join(LOCK_FILE);
    let mut file = open_private(&path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(StoreError::Locked { folder: folder.to_owned(), pid: read_pid(&mut file) });
        }
        Err(TryLockError::Error(error)) => return Err(unreadable(path, &error)),
    }
    write_pid(&mut file).map_err(|error| unreadable(path, &error))?;
    Ok(FolderLock { _file: file })
}

/// Opens a file for this user only, making it if it is missing.
pub(crate) fn open_private(path: &Path) -> Result<File, StoreError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    options.mode(0o600);
    options.open(path).map_err(|error| unreadable(path.to_owned(), &error))
}

fn make(folder: &Path) -> Result<(), StoreError> {
    match std::fs::metadata(folder) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(StoreError::Unreadable { path: folder.to_owned(), cause: "it is not a folder".to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut builder = DirBuilder::new();
            builder.recursive(true);
            #[cfg(unix)]
            builder.mode(0o700);
            builder.create(folder).map_err(|error| unreadable(folder.to_owned(), &error))
        }
        Err(error) => Err(unreadable(folder.to_owned(), &error)),
    }
}

fn unreadable(path: PathBuf, error: &io::Error) -> StoreError {
    StoreError::Unreadable { path, cause: error.to_string() }
}

fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}
