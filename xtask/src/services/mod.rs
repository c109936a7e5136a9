//! The servers that the tests need, private to this checkout: PostgreSQL, Redis and Weaviate.
//!
//! `services up` starts them on free ports of the loopback with passwords of their own and writes down where they are;
//! `services down` stops them and throws their data away. `test` starts what is not running, and stops what it has started.
//! Nothing here touches a server that was there before. Called by `main` and the suites.

mod postgres;
mod redis;
mod weaviate;

use crate::prerequisites::{self, Consent};
use crate::run::{output, target_dir};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{Read, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

pub use postgres::bin as postgres_bin;
pub use redis::PROGRAM as REDIS;
pub use weaviate::GO;

/// How long a server may take to answer after it was started.
const STARTS_WITHIN: Duration = Duration::from_secs(60);

/// Where the servers are, as it is written down.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Services {
    /// Holds everything of theirs.
    folder: PathBuf,
    servers: Vec<Server>,
}

/// One of them.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Server {
    kind: Kind,
    /// With its password.
    url: String,
    port: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    Postgres,
    Redis,
    Weaviate,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Postgres, Self::Redis, Self::Weaviate];

    fn name(self) -> &'static str {
        match self {
            Self::Postgres => "PostgreSQL",
            Self::Redis => "Redis",
            Self::Weaviate => "Weaviate",
        }
    }

    /// In which variable a test program finds its address.
    fn variable(self) -> &'static str {
        match self {
            Self::Postgres => "CHIMERA_TEST_POSTGRES",
            Self::Redis => "CHIMERA_TEST_REDIS",
            Self::Weaviate => "CHIMERA_TEST_WEAVIATE",
        }
    }

    fn url(self, port: u16, password: &str) -> String {
        match self {
            Self::Postgres => postgres::url(port, password),
            Self::Redis => redis::url(port, password),
            Self::Weaviate => weaviate::url(port, password),
        }
    }

    fn start(self, place: &Place<'_>) -> Result<()> {
        match self {
            Self::Postgres => postgres::start(place),
            Self::Redis => redis::start(place),
            Self::Weaviate => weaviate::start(place),
        }
    }

    /// Does nothing if it does not run.
    fn stop(self, folder: &Path) -> Result<()> {
        match self {
            Self::Postgres => postgres::stop(folder),
            Self::Redis => redis::stop(folder),
            Self::Weaviate => weaviate::stop(folder),
        }
    }
}

/// Where a server is to be.
struct Place<'a> {
    folder: &'a Path,
    port: u16,
    password: &'a str,
}

/// Servers that are stopped again when this is dropped, unless they were running before.
pub struct Running {
    pub services: Services,
    was_started: bool,
}

impl Services {
    /// What a test program is told of them.
    pub fn environment(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.servers.iter().map(|server| (server.kind.variable(), server.url.as_str()))
    }

    fn are_all_there(&self) -> bool {
        let is_there = |kind| self.servers.iter().any(|server| server.kind == kind && answers(server.port));
        Kind::ALL.into_iter().all(is_there)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.was_started
            && let Err(error) = down()
        {
            eprintln!("the services could not be stopped: {error:#}");
        }
    }
}

/// `cargo xtask services up`.
///
/// # Errors
/// When something is missing and may not be installed, or does not start.
pub fn up_and_tell(yes: bool) -> Result<()> {
    let mut running = ensure(Consent::new(yes))?;
    running.was_started = false;
    for (name, value) in running.services.environment() {
        println!("export {name}='{value}'");
    }
    Ok(())
}

/// The servers, started if they are not running.
///
/// # Errors
/// When something is missing and may not be installed, or does not start.
pub fn ensure(consent: Consent) -> Result<Running> {
    let file = state_file()?;
    match read_state(&file)? {
        Some(services) if services.are_all_there() => return Ok(Running { services, was_started: false }),
        // They ended without having been stopped: with the machine, or killed.
        Some(_) => down()?,
        None => {}
    }
    prerequisites::ensure_services(consent)?;
    let folder = private_folder()?;
    let mut servers = Vec::new();
    let mut passwords = Vec::new();
    for kind in Kind::ALL {
        let (port, password) = (free_port()?, password()?);
        servers.push(Server { kind, url: kind.url(port, &password), port });
        passwords.push(password);
    }
    let services = Services { folder, servers };
    // Written down first: what is started can be stopped, whatever happens.
    write_private(&file, &serde_json::to_string(&services)?)?;
    for (server, password) in services.servers.iter().zip(&passwords) {
        eprintln!("starting {} on port {} in {}", server.kind.name(), server.port, services.folder.display());
        let place = Place { folder: &services.folder, port: server.port, password };
        if let Err(error) = server.kind.start(&place).and_then(|()| wait_for(server)) {
            down()?;
            return Err(error);
        }
    }
    Ok(Running { services, was_started: true })
}

/// `cargo xtask services down`.
///
/// # Errors
/// When a server cannot be stopped or its data cannot be removed.
pub fn down() -> Result<()> {
    let file = state_file()?;
    let Some(services) = read_state(&file)? else {
        eprintln!("no services are running");
        return Ok(());
    };
    let folder = &services.folder;
    if folder.is_dir() {
        for server in &services.servers {
            server.kind.stop(folder).with_context(|| format!("cannot stop {}", server.kind.name()))?;
        }
        fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))
}

/// A program that ends a server by the id that it has written down; it is waited for.
fn stop_by_pid(pid_file: &Path) -> Result<()> {
    let Ok(text) = fs::read_to_string(pid_file) else { return Ok(()) };
    let pid: u32 = text.lines().next().unwrap_or_default().trim().parse().context("its process id is unreadable")?;
    if !is_running(pid) {
        return Ok(());
    }
    output(Command::new("kill").arg(pid.to_string()))?;
    let started = Instant::now();
    while is_running(pid) {
        if started.elapsed() > STARTS_WITHIN {
            bail!("process {pid} does not end");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// One that has ended and was not waited for (a child of ours) does not run any more.
fn is_running(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    // The name before the state is in brackets and may hold anything.
    stat.is_ok_and(|stat| !stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z')))
}

fn answers(port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
}

fn wait_for(server: &Server) -> Result<()> {
    let started = Instant::now();
    while !answers(server.port) {
        if started.elapsed() > STARTS_WITHIN {
            bail!("{} does not answer on port {}", server.kind.name(), server.port);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn state_file() -> Result<PathBuf> {
    Ok(target_dir()?.join("services.json"))
}

fn read_state(file: &Path) -> Result<Option<Services>> {
    match fs::read_to_string(file) {
        Ok(text) => serde_json::from_str(&text)
            .map(Some)
            .with_context(|| format!("{} is damaged; end its servers and remove it", file.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
    }
}

/// A new folder that only its owner can look into. Not below the target folder, which another user may not reach.
fn private_folder() -> Result<PathBuf> {
    let folder = std::env::temp_dir().join(format!("chimera-services-{}", &password()?[..12]));
    fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
    Ok(folder)
}

fn write_private(file: &Path, text: &str) -> Result<()> {
    let written = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(file);
    written
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {}", file.display()))
}

/// Thirty-two characters that nobody can guess.
fn password() -> Result<String> {
    let mut bytes = [0_u8; 16];
    fs::File::open("/dev/urandom").and_then(|mut random| random.read_exact(&mut bytes)).context("no random numbers")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A port that was free a moment ago.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
    let port = listener.local_addr().context("no free port")?.port();
    if port == 0 { bail!("no free port") } else { Ok(port) }
}
