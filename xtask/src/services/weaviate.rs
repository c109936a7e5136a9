//! A Weaviate server of our own, built from its source: there is no package of it to install.
//!
//! The module in `tests/weaviate/` pins it with everything that it is made of. Building takes Go some minutes, so the program is
//! kept in the target folder until the pins change. Called by [`super::ensure`] and [`super::down`].

use super::{Place, STARTS_WITHIN, free_port, stop_by_pid, write_private};
use crate::run::{root, target_dir};
use anyhow::{Context, Result, bail};
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What builds it.
pub const GO: &str = "go";
/// Its main package.
const PACKAGE: &str = "github.com/weaviate/weaviate/cmd/weaviate-server";
/// Whom the key belongs to; it may do everything.
const USER: &str = "chimera";
/// How often the builder tells that it is still building.
const TOLD_EVERY: Duration = Duration::from_secs(10);
/// Lines of the compiler's that are shown when it fails.
const LAST_LINES: usize = 30;

fn home(folder: &Path) -> PathBuf {
    folder.join("weaviate")
}

fn pid_file(folder: &Path) -> PathBuf {
    home(folder).join("pid")
}

/// The key stands where a password does, so that one variable says everything.
pub fn url(port: u16, key: &str) -> String {
    format!("http://:{key}@127.0.0.1:{port}")
}

pub fn start(place: &Place<'_>) -> Result<()> {
    let program = build()?;
    let folder = home(place.folder);
    fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let log = fs::File::create(folder.join("log")).context("no log for Weaviate")?;
    let mut command = Command::new(program);
    command.args(["--scheme", "http", "--host", "127.0.0.1", "--port", &place.port.to_string()]);
    command
        .env("AUTHENTICATION_ANONYMOUS_ACCESS_ENABLED", "false")
        .env("AUTHENTICATION_APIKEY_ENABLED", "true")
        .env("AUTHENTICATION_APIKEY_ALLOWED_KEYS", place.password)
        .env("AUTHENTICATION_APIKEY_USERS", USER)
        .env("AUTHORIZATION_ADMINLIST_ENABLED", "true")
        .env("AUTHORIZATION_ADMINLIST_USERS", USER)
        .env("PERSISTENCE_DATA_PATH", folder.join("data"))
        .env("DEFAULT_VECTORIZER_MODULE", "none")
        .env("CLUSTER_HOSTNAME", "node1")
        .env("CLUSTER_IN_LOCALHOST", "true")
        .env("CLUSTER_ADVERTISE_ADDR", "127.0.0.1")
        .env("CLUSTER_BIND_ADDR", "127.0.0.1")
        .env("RAFT_BOOTSTRAP_EXPECT", "1")
        // It lets its port for other nodes be bound to every address only, so that one asks for a password.
        .env("CLUSTER_BASIC_AUTH_USERNAME", USER)
        .env("CLUSTER_BASIC_AUTH_PASSWORD", place.password)
        .env("API_BASED_MODULES_DISABLED", "true")
        .env("DISABLE_TELEMETRY", "true")
        .env("GO_PROFILING_DISABLE", "true")
        // A nearly full disk of a developer's is no reason to refuse a test's few objects.
        .env("DISK_USE_READONLY_PERCENTAGE", "100")
        .env("LOG_LEVEL", "warning");
    let raft = two_free_ports()?;
    command.env("RAFT_PORT", raft.to_string()).env("RAFT_INTERNAL_RPC_PORT", (raft + 1).to_string());
    for port in ["GRPC_PORT", "CLUSTER_GOSSIP_BIND_PORT", "CLUSTER_DATA_BIND_PORT"] {
        command.env(port, free_port()?.to_string());
    }
    let errors = log.try_clone().context("no log for Weaviate")?;
    // A group of its own: an interrupt at the terminal is for whoever stops it in order.
    command.current_dir(&folder).stdin(Stdio::null()).stdout(log).stderr(errors).process_group(0);
    let mut child = command.spawn().context("Weaviate does not start")?;
    write_private(&pid_file(place.folder), &child.id().to_string())?;
    let started = Instant::now();
    while !is_ready(place.port) {
        if let Some(status) = child.try_wait().context("cannot watch Weaviate")? {
            bail!("Weaviate ended with {status}:\n{}", last_of(&folder.join("log")));
        }
        if started.elapsed() > STARTS_WITHIN {
            bail!("Weaviate is not ready after {} s:\n{}", STARTS_WITHIN.as_secs(), last_of(&folder.join("log")));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

pub fn stop(folder: &Path) -> Result<()> {
    stop_by_pid(&pid_file(folder))
}

/// The first of two ports in a row that were free a moment ago: on the loopback it takes for granted that the second of
/// its ports follows the first, whatever it was told.
fn two_free_ports() -> Result<u16> {
    for _ in 0..100 {
        let port = free_port()?;
        let next = port.checked_add(1);
        if next.is_some_and(|next| TcpListener::bind((Ipv4Addr::LOCALHOST, next)).is_ok()) {
            return Ok(port);
        }
    }
    bail!("no two free ports in a row")
}

/// The end of a log.
fn last_of(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
}

/// It listens before it can answer.
fn is_ready(port: u16) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(b"GET /v1/.well-known/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.take(1024).read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

/// The program, built if it is not there or its pins have changed.
///
/// # Errors
/// When Go cannot build it; its last words are in the message.
fn build() -> Result<PathBuf> {
    let module = root().join("tests/weaviate");
    let folder = target_dir()?.join("weaviate");
    let (program, built_from) = (folder.join("weaviate-server"), folder.join("built-from"));
    let read = |name: &str| fs::read_to_string(module.join(name)).with_context(|| format!("cannot read {name}"));
    let pins = format!("{}{}", read("go.mod")?, read("go.sum")?);
    if program.is_file() && fs::read_to_string(&built_from).is_ok_and(|from| from == pins) {
        return Ok(program);
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let started = Instant::now();
    eprintln!("building Weaviate from its source; the first time takes many minutes");
    let mut go = Command::new(GO);
    go.args(["build", "-v", "-mod=readonly", "-trimpath", "-ldflags", "-s -w", "-o"]).arg(&program).arg(PACKAGE);
    go.env("CGO_ENABLED", "0").env("GOFLAGS", "").current_dir(&module).stdin(Stdio::null()).stderr(Stdio::piped());
    let mut child = go.spawn().context("cannot start go")?;
    let mut last = Vec::new();
    if let Some(errors) = child.stderr.take() {
        let (mut packages, mut told) = (0_u32, Instant::now());
        for line in BufReader::new(errors).lines() {
            let line = line.context("cannot read what go says")?;
            packages += 1;
            if told.elapsed() >= TOLD_EVERY {
                told = Instant::now();
                eprintln!("  {packages} packages after {} s", started.elapsed().as_secs());
            }
            if last.len() == LAST_LINES {
                last.remove(0);
            }
            last.push(line);
        }
    }
    if !child.wait().context("cannot wait for go")?.success() {
        bail!("Weaviate cannot be built; its module proxy must be within reach:\n{}", last.join("\n"));
    }
    fs::write(&built_from, pins).context("cannot note what Weaviate was built from")?;
    eprintln!("Weaviate is built ({} s)", started.elapsed().as_secs());
    Ok(program)
}
