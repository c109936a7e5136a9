//! A wall clock of one process's own, which jumps when it is told to.
//!
//! It is libfaketime's: the process is started with it, and reads from a file how far it is off. The monotonic clock goes on
//! as it is, as it does on a machine whose clock is set. Called by the tests of clocks that jump.

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A clock.
pub struct WallClock {
    library: PathBuf,
    file: PathBuf,
}

impl WallClock {
    /// One that is right, kept in this folder under this name.
    ///
    /// # Errors
    /// When libfaketime is not installed.
    pub fn create(folder: &Path, name: &str) -> Result<Self> {
        let library = library().context("run the tests through `cargo xtask test`, which installs faketime")?;
        let clock = Self { library, file: folder.join(format!("{name}.clock")) };
        clock.set(0)?;
        Ok(clock)
    }

    /// What a process is given to go by it.
    pub fn environment(&self) -> [(String, String); 4] {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        [
            ("LD_PRELOAD".to_owned(), text(&self.library)),
            ("FAKETIME_TIMESTAMP_FILE".to_owned(), text(&self.file)),
            ("FAKETIME_CACHE_DURATION".to_owned(), "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC".to_owned(), "1".to_owned()),
        ]
    }

    /// Jumps to so many hours before or after the right time; the process sees it when this returns.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub async fn jump(&self, hours: i32) -> Result<()> {
        self.set(hours)?;
        // The file is looked at once a second.
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        Ok(())
    }

    fn set(&self, hours: i32) -> Result<()> {
        // Replaced as a whole: nobody reads half of it.
        let next = self.file.with_extension("next");
        std::fs::write(&next, format!("{:+}\n", hours * 3600))?;
        Ok(std::fs::rename(next, &self.file)?)
    }
}

/// Debian keeps it in a folder for each kind of processor.
fn library() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten().map(|entry| entry.path());
    folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1")).find(|library| library.is_file())
}
