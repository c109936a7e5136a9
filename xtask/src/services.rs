//! The servers that the tests need, private to this checkout: PostgreSQL.
//!
//! `services up` starts them on free ports of the loopback with passwords of their own and writes down where they are;
//! `services down` stops them and throws their data away. `test` starts what is not running, and stops what it has started.
//! Nothing here touches a server that was there before. Called by `main` and the suites.

use crate::prerequisites::{self, Consent};
use crate::run::{command, is_root, output, target_dir};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Who owns the data when this is run by root, whom PostgreSQL refuses.
const POSTGRES_USER: &str = "postgres";
/// The role that owns everything in it.
const ROLE: &str = "chimera";

/// Where the servers are.
pub struct Services {
    postgres_url: String,
}

/// Servers that are stopped again when this is dropped, unless they were running before.
pub struct Running {
    pub services: Services,
    was_started: bool,
}

impl Services {
    /// What a test program is told of them.
    pub fn environment(&self) -> [(&'static str, &str); 1] {
        [("CHIMERA_TEST_POSTGRES", &self.postgres_url)]
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
    if let Some(state) = read_state(&file)? {
        if let Some(services) = alive(&state) {
            return Ok(Running { services, was_started: false });
        }
        // They ended without having been stopped: with the machine, or killed.
        down()?;
    }
    prerequisites::ensure_services(consent)?;
    let folder = private_folder()?;
    let postgres = Postgres { folder: folder.clone(), bin: postgres_bin()?, port: free_port()? };
    let url = postgres.url(&password()?);
    // Written down first: what is started can be stopped, whatever happens.
    let state = json!({ "folder": folder, "postgres": { "url": url, "port": postgres.port } });
    write_private(&file, &state.to_string())?;
    eprintln!("starting PostgreSQL on port {} with its data in {}", postgres.port, folder.display());
    if let Err(error) = postgres.start(&url) {
        down()?;
        return Err(error);
    }
    Ok(Running { services: Services { postgres_url: url }, was_started: true })
}

/// `cargo xtask services down`.
///
/// # Errors
/// When a server cannot be stopped or its data cannot be removed.
pub fn down() -> Result<()> {
    let file = state_file()?;
    let Some(state) = read_state(&file)? else {
        eprintln!("no services are running");
        return Ok(());
    };
    let folder = PathBuf::from(state["folder"].as_str().context("the services' file names no folder")?);
    if folder.is_dir() {
        let postgres = Postgres { folder: folder.clone(), bin: postgres_bin()?, port: 0 };
        postgres.stop()?;
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))
}

/// A PostgreSQL server of our own.
struct Postgres {
    folder: PathBuf,
    bin: PathBuf,
    port: u16,
}

impl Postgres {
    fn data(&self) -> PathBuf {
        self.folder.join("postgres")
    }

    fn url(&self, password: &str) -> String {
        format!("postgres://{ROLE}:{password}@127.0.0.1:{}/postgres", self.port)
    }

    fn start(&self, url: &str) -> Result<()> {
        let password = url.split([':', '@']).nth(2).context("the address has no password")?;
        let password_file = self.folder.join("password");
        write_private(&password_file, password)?;
        if is_root()? {
            let owner = format!("{POSTGRES_USER}:");
            output(command("chown", &["-R", &owner]).arg(&self.folder))?;
        }
        let mut init = self.program("initdb")?;
        init.args(["--username", ROLE, "--auth", "scram-sha-256", "--encoding", "UTF8", "--no-locale", "--no-sync"]);
        init.arg("--pwfile").arg(&password_file).arg("--pgdata").arg(self.data());
        output(&mut init)?;
        // Its own socket is not needed, and its folder's path might be too long for one.
        let settings = format!(
            "-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c max_connections=300 -c shared_buffers=256MB",
            self.port
        );
        let mut start = self.program("pg_ctl")?;
        start.args(["start", "--wait", "--silent", "--options", &settings]);
        start.arg("--log").arg(self.folder.join("postgres.log")).arg("--pgdata").arg(self.data());
        output(&mut start).map(drop)
    }

    fn stop(&self) -> Result<()> {
        if !self.data().join("postmaster.pid").is_file() {
            return Ok(());
        }
        let mut stop = self.program("pg_ctl")?;
        stop.args(["stop", "--wait", "--silent", "--mode", "immediate", "--pgdata"]).arg(self.data());
        output(&mut stop).map(drop)
    }

    /// One of its programs, as the user that it accepts.
    fn program(&self, name: &str) -> Result<Command> {
        let program = self.bin.join(name);
        let mut command = if is_root()? {
            let mut command = Command::new("runuser");
            command.args(["-u", POSTGRES_USER, "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        // Its children must not keep a folder in use that may go away.
        command.current_dir("/");
        Ok(command)
    }
}

/// Where PostgreSQL's own programs are: Debian keeps them out of the path, a folder a version.
pub fn postgres_bin() -> Result<PathBuf> {
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

/// The services that a file tells of, if they answer.
fn alive(state: &Value) -> Option<Services> {
    let port = u16::try_from(state["postgres"]["port"].as_u64()?).ok()?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
    Some(Services { postgres_url: state["postgres"]["url"].as_str()?.to_owned() })
}

fn state_file() -> Result<PathBuf> {
    Ok(target_dir()?.join("services.json"))
}

fn read_state(file: &Path) -> Result<Option<Value>> {
    match fs::read_to_string(file) {
        Ok(text) => serde_json::from_str(&text).map(Some).with_context(|| format!("{} is damaged", file.display())),
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
