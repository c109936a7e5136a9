//! A PostgreSQL server of our own.
//!
//! It refuses to be run by root, so its programs are run as the user that Debian makes for it. Called by
//! [`super::ensure`] and [`super::down`].

use super::{Place, write_private};
use crate::prerequisites;
use crate::run::{command, is_root, output};
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Who owns the data when this is run by root, whom PostgreSQL refuses.
const USER: &str = "postgres";
/// The role that owns everything in it.
const ROLE: &str = "chimera";

fn data(folder: &Path) -> PathBuf {
    folder.join("postgres")
}

pub fn url(port: u16, password: &str) -> String {
    format!("postgres://{ROLE}:{password}@127.0.0.1:{port}/postgres")
}

pub fn start(place: &Place<'_>) -> Result<()> {
    let folder = data(place.folder);
    fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let password_file = folder.join("password");
    write_private(&password_file, place.password)?;
    if is_root()? {
        // It must be able to go through the folder that all servers share, and no further.
        output(command("chmod", &["711"]).arg(place.folder))?;
        output(command("chown", &["-R", &format!("{USER}:")]).arg(&folder))?;
    }
    let cluster = folder.join("data");
    let mut init = program("initdb")?;
    init.args(["--username", ROLE, "--auth", "scram-sha-256", "--encoding", "UTF8", "--no-locale", "--no-sync"]);
    init.arg("--pwfile").arg(&password_file).arg("--pgdata").arg(&cluster);
    output(&mut init)?;
    // Its own socket is not needed, and its folder's path might be too long for one.
    let settings = format!(
        "-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c max_connections=300 -c shared_buffers=256MB",
        place.port
    );
    let mut start = program("pg_ctl")?;
    start.args(["start", "--wait", "--silent", "--options", &settings]);
    start.arg("--log").arg(folder.join("log")).arg("--pgdata").arg(&cluster);
    output(&mut start).map(drop)
}

pub fn stop(folder: &Path) -> Result<()> {
    let cluster = data(folder).join("data");
    if !cluster.join("postmaster.pid").is_file() {
        return Ok(());
    }
    let mut stop = program("pg_ctl")?;
    stop.args(["stop", "--wait", "--silent", "--mode", "immediate", "--pgdata"]).arg(cluster);
    output(&mut stop).map(drop)
}

/// One of its programs, as the user that it accepts.
fn program(name: &str) -> Result<Command> {
    let program = bin()?.join(name);
    let mut command = if is_root()? {
        let mut command = Command::new("runuser");
        command.args(["-u", USER, "--"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    // Its children must not keep a folder in use that may go away.
    command.current_dir("/");
    Ok(command)
}

/// Where PostgreSQL's own programs are: Debian keeps them out of the path, a folder a version.
pub fn bin() -> Result<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    versions.sort();
    if let Some((_, bin)) = versions.pop() {
        return Ok(bin);
    }
    prerequisites::which("initdb")
        .and_then(|initdb| initdb.parent().map(Path::to_path_buf))
        .context("PostgreSQL's initdb is neither in /usr/lib/postgresql nor on the path")
}
