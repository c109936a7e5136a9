//! A small disk of a test's own, to be filled, freed and made read-only.
//!
//! It is in memory. Called by the tests of a disk that is full or read-only.

use crate::privilege::system;
use anyhow::{Context, Result, ensure};
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// A disk; unmounted when dropped.
pub struct Disk {
    folder: tempfile::TempDir,
}

impl Disk {
    /// Mounts one with so many MiB.
    ///
    /// # Errors
    /// When the privilege is missing.
    pub fn mount(mib: u32) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().to_str().context("a path that is text")?;
        system("mount", &["-t", "tmpfs", "-o", &format!("size={mib}m,mode=0755"), "chimera-test", path])?;
        Ok(Self { folder })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Takes whatever room is left.
    ///
    /// # Errors
    /// When it cannot be written for another reason than being full.
    pub fn fill(&self) -> Result<()> {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(self.filler())?;
        // The last rest is smaller than a large piece.
        for piece in [1 << 20, 4 << 10, 1] {
            let piece = vec![b'x'; piece];
            loop {
                match file.write_all(&piece) {
                    Ok(()) => {}
                    Err(error) => {
                        ensure!(error.kind() == std::io::ErrorKind::StorageFull, "filling the disk: {error}");
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Gives the room back.
    ///
    /// # Errors
    /// When it was not filled.
    pub fn free(&self) -> Result<()> {
        Ok(std::fs::remove_file(self.filler())?)
    }

    /// Lets nobody write any more. Nobody may have a file open for writing.
    ///
    /// # Errors
    /// When somebody has.
    pub fn make_read_only(&self) -> Result<()> {
        self.remount("ro")
    }

    /// Lets everybody write again.
    ///
    /// # Errors
    /// When the privilege is missing.
    pub fn make_writable(&self) -> Result<()> {
        self.remount("rw")
    }

    fn remount(&self, how: &str) -> Result<()> {
        let path = self.path().to_str().context("a path that is text")?;
        system("mount", &["-o", &format!("remount,{how}"), path])
    }

    fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Some(path) = self.path().to_str() {
            // At once, and for good when the last file in it is closed.
            let _ = system("umount", &["--lazy", path]);
        }
    }
}
