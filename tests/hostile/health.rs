//! What a server holds on to, counted from outside: memory, threads, open files, children.
//!
//! It reads `/proc` and changes nothing. Called before and after the attacks.

use anyhow::{Context, Result};
use std::time::{Duration, Instant};

/// How much more memory a server may hold afterwards.
const MEMORY_SLACK: u64 = 64 << 20;
/// Most files of compiled skills: a sandbox keeps 64, and few here have more than one memory.
const MOST_CACHED: usize = 64 * 3;
/// How long it may take to give back what it took: longer than a client keeps a connection that it does not use.
const PATIENCE: Duration = Duration::from_secs(120);
/// It has given back what it gives back when its memory did not fall for so long.
const QUIET: Duration = Duration::from_secs(5);
/// A fall of memory that counts, in bytes.
const FALL: u64 = 1 << 20;

/// What a process holds on to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    /// Resident memory in bytes.
    pub resident: u64,
    /// Threads.
    pub threads: usize,
    /// Open files, those of `cached` aside.
    pub files: usize,
    /// Open files of compiled skills: each that is kept in memory has its code, and an image of its memory.
    pub cached: usize,
    /// Child processes, zombies included.
    pub children: usize,
}

impl Health {
    /// Of a process, now.
    ///
    /// # Errors
    /// When it is gone.
    pub fn of(pid: u32) -> Result<Self> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let number = |name: &str| -> Result<u64> {
            let line = status.lines().find(|line| line.starts_with(name)).context("no such line")?;
            Ok(line.split_whitespace().nth(1).context("no number")?.parse()?)
        };
        let mut children = 0;
        for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
            // A thread may end while it is looked at.
            let list = std::fs::read_to_string(task?.path().join("children")).unwrap_or_default();
            children += list.split_whitespace().count();
        }
        // A file may be closed while it is looked at.
        let open = std::fs::read_dir(format!("/proc/{pid}/fd"))?.filter_map(|file| file.ok()?.path().read_link().ok());
        let (cached, files): (Vec<_>, Vec<_>) =
            open.partition(|file| ["/cache/", "memfd:"].iter().any(|kept| file.to_string_lossy().contains(kept)));
        Ok(Self {
            resident: number("VmRSS:")? * 1024,
            threads: number("Threads:")? as usize,
            files: files.len(),
            cached: cached.len(),
            children,
        })
    }

    /// Is this no more than there was before, and the slack of memory?
    fn is_back(&self, before: &Self) -> bool {
        self.resident <= before.resident + MEMORY_SLACK
            && self.threads <= before.threads
            && self.files <= before.files
            && self.children <= before.children
            && self.cached <= MOST_CACHED
    }

    /// Waits until the process holds no more than before and gives nothing back any more, or for as long as the patience
    /// lasts; what it holds then, and whether that is no more than before.
    ///
    /// # Errors
    /// When it is gone.
    pub async fn settle(pid: u32, before: &Self) -> Result<(Self, bool)> {
        let started = Instant::now();
        let (mut lowest, mut fell) = (u64::MAX, started);
        loop {
            let now = Self::of(pid)?;
            if now.resident.saturating_add(FALL) <= lowest {
                (lowest, fell) = (now.resident, Instant::now());
            }
            let is_back = now.is_back(before);
            if (is_back && fell.elapsed() > QUIET) || started.elapsed() > PATIENCE {
                return Ok((now, is_back));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}
