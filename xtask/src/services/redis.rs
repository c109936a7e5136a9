//! A Redis server of our own: in memory only.
//!
//! Called by [`super::ensure`] and [`super::down`].

use super::{Place, stop_by_pid, write_private};
use crate::run::output;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The program.
pub const PROGRAM: &str = "redis-server";

fn home(folder: &Path) -> PathBuf {
    folder.join("redis")
}

pub fn url(port: u16, password: &str) -> String {
    format!("redis://:{password}@127.0.0.1:{port}/0")
}

pub fn start(place: &Place<'_>) -> Result<()> {
    let folder = home(place.folder);
    fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    // In a file, because everybody may read what a program was started with.
    let settings = format!(
        "bind 127.0.0.1\nport {}\nrequirepass {}\ndir {}\npidfile {}\nlogfile log\nsave \"\"\nappendonly no\ndaemonize yes\n",
        place.port,
        place.password,
        folder.display(),
        pid_file(place.folder).display(),
    );
    let file = folder.join("redis.conf");
    write_private(&file, &settings)?;
    output(Command::new(PROGRAM).arg(&file).current_dir(&folder)).map(drop)
}

pub fn stop(folder: &Path) -> Result<()> {
    stop_by_pid(&pid_file(folder))
}

fn pid_file(folder: &Path) -> PathBuf {
    home(folder).join("pid")
}
