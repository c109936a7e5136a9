//! `chimera doctor`: what is configured, what is there, and what is missing.
//!
//! Looks and tells; it changes nothing and sends nothing but one question to the server on this machine. Values that may
//! hold secrets are not shown. Called by the dispatcher.

use super::Env;
use super::client::{Client, Listener};
use super::error::{CliResult, Exit};
use super::output::{Format, Style, Table, bytes, print_json, say};
use super::skill::guest::{self, TARGET, TargetState};
use crate::config::{Config, Store};
use crate::folder::{self, shell_word};
use chimera_sandbox::Confinement;
use chimera_store::PostgresStore;
use serde::Serialize;
use serde_json::json;
use std::io::ErrorKind;
use std::path::Path;

/// Less free space than this is worth a warning.
const LITTLE_SPACE: u64 = 1 << 30;
/// Less than this stops writing soon.
const NO_SPACE: u64 = 50 << 20;

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Health {
    /// As it should be.
    Ok,
    /// Works, but something could be better.
    Warning,
    /// Does not work.
    Failed,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Check {
    name: &'static str,
    health: Health,
    found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "String::is_empty")]
    fix: String,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, health: Health::Ok, found: found.into(), fix: String::new() }
    }

    fn bad(name: &'static str, health: Health, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, health, found: found.into(), fix: fix.into() }
    }
}

pub(super) async fn run(env: Env) -> CliResult {
    let config = env.config()?;
    let folder = config.data_dir.value.clone();
    let held = look_at_lock(&folder);
    let mut checks = vec![data_folder(&folder), lock(&held), server(&config, &held).await, disk(&folder)];
    checks.extend(store(&config).await);
    checks.extend(kernel());
    checks.push(compiling(config.sandbox_confinement.value).await);
    checks.push(target().await);
    let has_failed = checks.iter().any(|check| check.health == Health::Failed);
    match env.format {
        Format::Json => {
            let settings: Vec<_> = config
                .describe()
                .into_iter()
                .map(|(name, value, source)| json!({ "name": name, "value": value, "source": source }))
                .collect();
            print_json(&json!({
                "version": env!("CARGO_PKG_VERSION"), "ok": !has_failed, "config_file": config.file,
                "settings": settings, "checks": checks,
            }));
        }
        Format::Human => print(&config, &checks),
    }
    Ok(if has_failed { Exit::Failed } else { Exit::Done })
}

fn print(config: &Config, checks: &[Check]) {
    let style = Style::stdout();
    let mut table = Table::new(&["SETTING", "VALUE", "FROM"]);
    for (name, value, source) in config.describe() {
        table.row([name, value, source]);
    }
    table.print("");
    say("");
    for check in checks {
        let mark = match check.health {
            Health::Ok => style.green("ok     "),
            Health::Warning => style.yellow("warning"),
            Health::Failed => style.red("failed "),
        };
        say(&format!("{mark} {:<12} {}", check.name, check.found));
        if !check.fix.is_empty() {
            say(&format!("{:8}{:<12} → {}", "", "", check.fix));
        }
    }
}

fn data_folder(folder: &Path) -> Check {
    let name = "data folder";
    match std::fs::metadata(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Check::ok(name, format!("{} is not there yet; the first start makes it", folder.display()))
        }
        Err(error) => Check::bad(
            name,
            Health::Failed,
            format!("{} cannot be looked at: {error}", folder.display()),
            "check its permissions, or choose another with --data-dir",
        ),
        Ok(found) if !found.is_dir() => Check::bad(
            name,
            Health::Failed,
            format!("{} is not a folder", folder.display()),
            "choose another with --data-dir",
        ),
        Ok(found) => {
            if let Err(refused) = folder::check(folder) {
                return Check::bad(name, Health::Failed, refused.what(), refused.fix());
            }
            match tempfile::tempfile_in(folder) {
                Err(error) => Check::bad(
                    name,
                    Health::Failed,
                    format!("{} cannot be written: {error}", folder.display()),
                    "make it writable for this user",
                ),
                Ok(_) if is_open_to_others(&found) => Check::bad(
                    name,
                    Health::Warning,
                    format!("{} can be read by other users of this machine", folder.display()),
                    format!("chmod 700 {}", shell_word(folder)),
                ),
                Ok(_) => Check::ok(name, format!("{} can be written", folder.display())),
            }
        }
    }
}

#[cfg(unix)]
fn is_open_to_others(found: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    found.permissions().mode() & 0o077 != 0
}

#[cfg(not(unix))]
fn is_open_to_others(_: &std::fs::Metadata) -> bool {
    false
}

/// Whether a process holds the data folder. The lock is the operating system's: it ends with its holder.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Lock {
    /// Nobody has used the folder yet.
    Unused,
    /// Nobody holds it.
    Free,
    /// A running process holds it.
    Held,
    /// It cannot be told.
    Unknown(String),
}

fn look_at_lock(folder: &Path) -> Lock {
    let file = match std::fs::File::open(folder.join("chimera.lock")) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Lock::Unused,
        Err(error) => return Lock::Unknown(error.to_string()),
    };
    match file.try_lock() {
        Ok(()) => Lock::Free,
        Err(std::fs::TryLockError::WouldBlock) => Lock::Held,
        Err(std::fs::TryLockError::Error(error)) => Lock::Unknown(error.to_string()),
    }
}

fn lock(found: &Lock) -> Check {
    let name = "lock";
    match found {
        Lock::Unused => Check::ok(name, "nobody has used the folder yet"),
        Lock::Free => Check::ok(name, "free"),
        Lock::Held => Check::ok(name, "held by a running server"),
        Lock::Unknown(problem) => Check::bad(
            name,
            Health::Warning,
            format!("cannot be tried: {problem}"),
            "keep the data folder on a local disk that knows file locks, readable for this user",
        ),
    }
}

/// The database server, if the truth is on one.
async fn store(config: &Config) -> Option<Check> {
    let Store::Postgres(address) = &config.store.value else { return None };
    Some(match PostgresStore::look(address.secret()).await {
        Ok(found) => Check::ok("store", found),
        Err(error) => Check::bad("store", Health::Failed, error.to_string(), ""),
    })
}

async fn server(config: &Config, lock: &Lock) -> Check {
    let name = "server";
    match Client::find(config) {
        Ok(None) if *lock == Lock::Held => Check::bad(
            name,
            Health::Warning,
            "one holds the data folder, but has not written where it listens",
            "it starts or stops just now; if this stays so, stop it and start it again with `chimera serve`",
        ),
        Ok(None) => Check::ok(name, "not running"),
        Ok(Some(client)) => match client.listener().await {
            Ok(listener) => judge_server(lock, listener, client.url(), client.pid()),
            Err(error) => Check::bad(name, Health::Failed, error.what, error.fix),
        },
        Err(error) => Check::bad(name, Health::Failed, error.what, error.fix),
    }
}

/// What the lock and the proof say together: the file that names the address outlives a server that was killed, and its
/// port may be another program's by now.
fn judge_server(lock: &Lock, listener: Listener, url: &str, pid: u32) -> Check {
    let name = "server";
    let warning = |found: String, fix: &str| Check::bad(name, Health::Warning, found, fix);
    match (listener, lock) {
        (Listener::Ours, Lock::Held | Lock::Unknown(_)) => Check::ok(name, format!("running at {url} (process {pid})")),
        (Listener::Ours, Lock::Free | Lock::Unused) => warning(
            format!("running at {url} (process {pid}), but the data folder's lock does not show it"),
            "it starts or stops just now; if this stays so, keep the data folder on a local disk that knows file locks",
        ),
        (Listener::Stranger, Lock::Held) => Check::bad(
            name,
            Health::Failed,
            format!("one holds the data folder, but what listens at {url} does not know its token"),
            "stop the server and start it again with `chimera serve`: its token or its address file was changed",
        ),
        (Listener::Stranger | Listener::Silent, Lock::Free | Lock::Unused) => warning(
            format!("not running; something else listens at {url}, where it was"),
            "server.json is left over from a server that died: start `chimera serve`, with another --listen if the port \
             is taken",
        ),
        (Listener::Nobody, Lock::Free | Lock::Unused) => warning(
            format!("not running; it was at {url} and was not stopped in order"),
            "start it again with `chimera serve`",
        ),
        (Listener::Stranger, Lock::Unknown(_)) => warning(
            format!("something else listens at {url}"),
            "server.json is left over from a server that died, or its token was changed: start `chimera serve` again",
        ),
        (Listener::Silent | Listener::Nobody, Lock::Held | Lock::Unknown(_)) => warning(
            format!("does not answer at {url}"),
            "it starts, stops or hangs: look at its log, and start it again if this stays so",
        ),
    }
}

fn disk(folder: &Path) -> Check {
    let name = "disk";
    let there = folder.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    match rustix::fs::statvfs(there) {
        Ok(found) => {
            let free = found.f_bavail.saturating_mul(found.f_frsize);
            let told = format!("{} free", bytes(free));
            match free {
                0..NO_SPACE => {
                    Check::bad(name, Health::Failed, told, "make room, or choose another disk with --data-dir")
                }
                NO_SPACE..LITTLE_SPACE => Check::bad(name, Health::Warning, told, "make room soon"),
                _ => Check::ok(name, told),
            }
        }
        Err(error) => {
            Check::bad(name, Health::Warning, format!("cannot be measured: {error}"), "check the disk yourself")
        }
    }
}

/// What the sandbox takes from the kernel.
fn kernel() -> Vec<Check> {
    let Ok(release) = std::fs::read_to_string("/proc/sys/kernel/osrelease") else {
        return vec![Check::ok("kernel", "not Linux; fresh instances are made without its shortcuts")];
    };
    let release = release.trim();
    let mut checks = vec![if has_pagemap_scan(release) {
        Check::ok("kernel", format!("{release}; PAGEMAP_SCAN makes fresh instances quick"))
    } else {
        Check::ok("kernel", format!("{release}; no PAGEMAP_SCAN (6.7 and later): fresh instances take longer"))
    }];
    let maps =
        std::fs::read_to_string("/proc/sys/vm/max_map_count").ok().and_then(|text| text.trim().parse::<u64>().ok());
    if let Some(maps) = maps {
        checks.push(match maps {
            0..65_530 => Check::bad(
                "memory maps",
                Health::Warning,
                format!("vm.max_map_count is {maps}"),
                "sysctl -w vm.max_map_count=65530, or fewer skills can run at once",
            ),
            _ => Check::ok("memory maps", format!("vm.max_map_count is {maps}")),
        });
    }
    checks
}

/// Whether a stranger's component is compiled behind walls: tried with a real child of this program.
async fn compiling(wanted: Confinement) -> Check {
    let name = "compiler";
    let program = match crate::executable::this_program() {
        Ok(program) => program,
        Err(error) => {
            let found = format!("this program cannot find itself: {error}");
            return Check::bad(name, Health::Failed, found, "start it by its full path");
        }
    };
    match (wanted, chimera_sandbox::check_confinement(&program).await) {
        (Confinement::LimitsOnly, Ok(())) => Check::bad(
            name,
            Health::Warning,
            "runs with limits on memory and time alone, though this system could confine it",
            "take `sandbox_confinement` out of the configuration",
        ),
        (_, Ok(())) => Check::ok(name, "confined: no files, network, programs or processes (tried)"),
        (Confinement::LimitsOnly, Err(why)) => Check::bad(
            name,
            Health::Warning,
            format!("has limits on memory and time alone: {why}"),
            "install only skills whose authors you trust",
        ),
        (Confinement::WhereKnown, Err(why)) if !cfg!(target_os = "linux") => Check::bad(
            name,
            Health::Warning,
            format!("has limits on memory and time alone: {why}"),
            "install skills of strangers on Linux",
        ),
        (_, Err(why)) => Check::bad(
            name,
            Health::Failed,
            format!("cannot be confined, so nothing is compiled: {why}"),
            "use a kernel with seccomp; or, if you trust every author, set `sandbox_confinement = \"limits-only\"`",
        ),
    }
}

/// Linux 6.7 brought the call that tells which pages of an instance were written.
fn has_pagemap_scan(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (6, 7)
}

async fn target() -> Check {
    let name = "wasm target";
    let here = std::env::current_dir().unwrap_or_else(|_| "/".into());
    let add = format!("rustup target add {TARGET}");
    match guest::target_state(&here).await {
        TargetState::Installed => Check::ok(name, format!("{TARGET} is installed")),
        TargetState::Missing => {
            Check::bad(name, Health::Warning, format!("{TARGET} is missing; skills cannot be built yet"), add)
        }
        TargetState::MissingWithoutRustup => Check::bad(
            name,
            Health::Warning,
            format!("{TARGET} is missing, and so is rustup; skills cannot be built"),
            format!("install Rust with rustup, then {add}"),
        ),
        TargetState::NoCargo => Check::bad(
            name,
            Health::Warning,
            "there is no cargo; skills can be run but not built",
            "install Rust with rustup",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_told_apart_by_number() {
        assert!(has_pagemap_scan("6.7.0-arch1"));
        assert!(has_pagemap_scan("6.12.1"));
        assert!(has_pagemap_scan("10.0"));
        assert!(!has_pagemap_scan("6.6.87"));
        assert!(!has_pagemap_scan("5.15.0"));
        assert!(!has_pagemap_scan("odd"));
    }

    #[test]
    fn a_folder_that_is_a_file_fails_and_an_absent_one_does_not() {
        let place = tempfile::tempdir().expect("a folder");
        let file = place.path().join("file");
        std::fs::write(&file, "").expect("a file");
        assert_eq!(data_folder(&file).health, Health::Failed);
        assert_eq!(data_folder(&place.path().join("absent")).health, Health::Ok);
    }
    #[cfg(unix)]
    #[test]
    fn a_folder_that_serve_refuses_fails_here_too() {
        use std::os::unix::fs::PermissionsExt as _;
        let place = tempfile::tempdir().expect("a folder");
        let check = |mode| {
            std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(mode)).expect("a mode");
            data_folder(place.path())
        };
        for mode in [0o777, 0o775] {
            let found = check(mode);
            assert_eq!(found.health, Health::Failed, "{mode:o}: {found:?}");
            assert!(found.fix.contains("chmod go-w"), "{found:?}");
        }
        assert_eq!(check(0o755).health, Health::Warning);
        assert_eq!(check(0o700).health, Health::Ok);
    }

    #[test]
    fn lock_and_server_never_contradict_each_other() {
        let locks = [Lock::Unused, Lock::Free, Lock::Held, Lock::Unknown("no locks".to_owned())];
        for listener in [Listener::Ours, Listener::Stranger, Listener::Silent, Listener::Nobody] {
            for lock in &locks {
                let check = judge_server(lock, listener, "http://127.0.0.1:1", 7);
                let place = format!("{listener:?}, {lock:?}: {check:?}");
                assert_eq!(check.found.starts_with("running"), listener == Listener::Ours, "{place}");
                let is_dead = listener != Listener::Ours && matches!(lock, Lock::Unused | Lock::Free);
                assert_eq!(check.found.starts_with("not running"), is_dead, "{place}");
                assert_eq!(check.health != Health::Ok, !check.fix.is_empty(), "{place}");
            }
        }
        assert_eq!(judge_server(&Lock::Held, Listener::Ours, "", 7).health, Health::Ok);
        assert_eq!(judge_server(&Lock::Held, Listener::Stranger, "", 7).health, Health::Failed);
    }

    #[tokio::test]
    async fn a_held_folder_without_an_address_is_not_said_to_be_idle() {
        let place = tempfile::tempdir().expect("a folder");
        let config = Config::for_data_dir(place.path().to_owned());
        assert_eq!(look_at_lock(place.path()), Lock::Unused);
        let file = std::fs::File::create(place.path().join("chimera.lock")).expect("a file");
        assert_eq!(look_at_lock(place.path()), Lock::Free);
        assert_eq!(server(&config, &Lock::Free).await.health, Health::Ok);
        file.lock().expect("a lock");
        assert_eq!(look_at_lock(place.path()), Lock::Held);
        assert_eq!(server(&config, &Lock::Held).await.health, Health::Warning);
    }
}
