//! A PostgreSQL server of one test's own, to be stopped, killed and started again.
//!
//! Its data is in a folder of the test's and goes with it. Run by root it belongs to the user `postgres`, because it refuses
//! root. Called by the tests of a database that goes away.

use anyhow::{Context, Result, bail};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A server; stopped when dropped.
pub struct Postgres {
    folder: tempfile::TempDir,
    port: u16,
}

impl Postgres {
    /// Makes a cluster and starts it.
    ///
    /// # Errors
    /// When PostgreSQL is not installed or does not start.
    pub fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let server = Self { folder, port };
        if is_root() {
            run(Command::new("chown").arg("postgres:").arg(server.folder.path()))?;
        }
        let mut init = program("initdb")?;
        init.args(["--username", "chimera", "--auth", "trust", "--encoding", "UTF8", "--no-locale", "--no-sync"]);
        run(init.arg("--pgdata").arg(server.data()))?;
        server.up()?;
        Ok(server)
    }

    /// The address of its only database.
    pub fn url(&self) -> String {
        format!("postgres://chimera@127.0.0.1:{}/postgres", self.port)
    }

    /// Starts it again.
    ///
    /// # Errors
    /// When it does not start.
    pub fn up(&self) -> Result<()> {
        let settings = format!(
            "-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c max_connections=200",
            self.port
        );
        let mut start = program("pg_ctl")?;
        start.args(["start", "--wait", "--silent", "--options", &settings]);
        run(start.arg("--log").arg(self.folder.path().join("log")).arg("--pgdata").arg(self.data()))
    }

    /// Ends it at once, as a crash would: what was committed is found again in its log.
    ///
    /// # Errors
    /// When it does not end.
    pub fn crash(&self) -> Result<()> {
        let mut stop = program("pg_ctl")?;
        run(stop.args(["stop", "--wait", "--silent", "--mode", "immediate", "--pgdata"]).arg(self.data()))
    }

    /// The ids of all its processes.
    ///
    /// # Errors
    /// When it does not run.
    pub fn processes(&self) -> Result<Vec<u32>> {
        let file = std::fs::read_to_string(self.data().join("postmaster.pid"))?;
        let first: u32 = file.lines().next().context("no process id")?.trim().parse()?;
        let children = std::fs::read_to_string(format!("/proc/{first}/task/{first}/children"))?;
        let children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
        Ok(std::iter::once(first).chain(children).collect())
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.data().join("postmaster.pid").is_file() {
            let _ = self.crash();
        }
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// One of its programs, as a user that it accepts.
fn program(name: &str) -> Result<Command> {
    let program = bin()?.join(name);
    let mut command = if is_root() {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.current_dir("/");
    Ok(command)
}

/// Debian keeps its programs out of the path, a folder a version.
fn bin() -> Result<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    versions.sort();
    if let Some((_, bin)) = versions.pop() {
        return Ok(bin);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .find(|folder| Path::join(folder, "initdb").is_file())
        .context("PostgreSQL is not installed; run the tests through `cargo xtask test`")
}

fn run(command: &mut Command) -> Result<()> {
    // Not its output: the server that it starts would hold the pipe.
    let status = command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null()).status()?;
    if !status.success() {
        bail!("{command:?} ended with {status}");
    }
    Ok(())
}
