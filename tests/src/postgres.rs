//! A PostgreSQL server of one test's own, to be stopped, killed and started again.
//!
//! Its data is in a folder of the test's and goes with it. Run by root it belongs to the user `postgres`, because it refuses
//! root. Called by the tests of a database that goes away.

use crate::disk::Disk;
use anyhow::{Context, Result, bail};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A server; stopped when dropped.
pub struct Postgres {
    folder: tempfile::TempDir,
    data: PathBuf,
    port: u16,
    addresses: Vec<Ipv4Addr>,
}

impl Postgres {
    /// Makes a cluster and starts it.
    ///
    /// # Errors
    /// When PostgreSQL is not installed or does not start.
    pub fn start() -> Result<Self> {
        Self::start_on(None, &[])
    }

    /// As [`Postgres::start`]; it can be reached at these addresses of the machine as well.
    ///
    /// # Errors
    /// As [`Postgres::start`].
    pub fn start_at(addresses: &[Ipv4Addr]) -> Result<Self> {
        Self::start_on(None, addresses)
    }

    /// As [`Postgres::start`], with its tables on a disk of their own. Its log of what was committed is elsewhere: without
    /// room for that it ends instead of refusing what is asked of it.
    ///
    /// # Errors
    /// As [`Postgres::start`].
    pub fn start_with_tables_on(disk: &Disk) -> Result<Self> {
        Self::start_on(Some(disk), &[])
    }

    fn start_on(disk: Option<&Disk>, addresses: &[Ipv4Addr]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let data = disk.map_or(folder.path(), Disk::path).join("data");
        let addresses = std::iter::once(Ipv4Addr::LOCALHOST).chain(addresses.iter().copied()).collect();
        let server = Self { folder, data, port, addresses };
        if is_root() {
            let folders = std::iter::once(server.folder.path()).chain(disk.map(Disk::path));
            run(Command::new("chown").arg("postgres:").args(folders))?;
        }
        let mut init = program("initdb")?;
        init.args(["--username", "chimera", "--auth", "trust", "--encoding", "UTF8", "--no-locale", "--no-sync"]);
        if disk.is_some() {
            init.arg("--waldir").arg(server.folder.path().join("log-of-commits"));
        }
        run(init.arg("--pgdata").arg(&server.data))?;
        server.admit()?;
        server.up()?;
        Ok(server)
    }

    /// Lets everybody in who can reach it.
    fn admit(&self) -> Result<()> {
        let mut rules = std::fs::OpenOptions::new().append(true).open(self.data.join("pg_hba.conf"))?;
        for address in &self.addresses {
            writeln!(rules, "host all all {address}/30 trust")?;
        }
        Ok(())
    }

    /// The address of its only database.
    pub fn url(&self) -> String {
        self.url_at(Ipv4Addr::LOCALHOST)
    }

    /// The same by another address of the machine.
    pub fn url_at(&self, address: Ipv4Addr) -> String {
        format!("postgres://chimera@{address}:{}/postgres", self.port)
    }

    /// Starts it again.
    ///
    /// # Errors
    /// When it does not start.
    pub fn up(&self) -> Result<()> {
        let addresses: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
        let settings = format!(
            "-p {} -c listen_addresses={} -c unix_socket_directories= -c max_connections=200",
            self.port,
            addresses.join(",")
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

    fn data(&self) -> &Path {
        &self.data
    }

    /// Takes writes no more, or again, in every session that is opened from now on.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub async fn set_read_only(&self, is_read_only: bool) -> Result<()> {
        let mut db = PgConnection::connect(&self.url()).await?;
        let setting = if is_read_only { "on" } else { "off" };
        // The session may be a read-only one itself; what is sent together is one transaction.
        sqlx::raw_sql("SET default_transaction_read_only = off").execute(&mut db).await?;
        let set = format!("ALTER DATABASE postgres SET default_transaction_read_only = {setting}");
        sqlx::raw_sql(AssertSqlSafe(set)).execute(&mut db).await?;
        Ok(())
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
