//! Bad input: one clear message that says what to do, the exit code of the contract, and nothing lost.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test may end with a panic")]

use anyhow::{Result, ensure};
use chimera_tests::{Server, assert_clear, binary, chimera, make_private, said};
use serde_json::{Value, json};
use std::fs::Permissions;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn write(folder: &Path, name: &str, content: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Runs the program as a user whom file modes apply to: root may read everything.
struct Plain {
    place: tempfile::TempDir,
    program: PathBuf,
}

/// The user that nothing belongs to.
const NOBODY: u32 = 65_534;

impl Plain {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        chmod(place.path(), 0o755);
        // The folder that the program was built in need not be open to others.
        let program = place.path().join("chimera");
        // Copied by another process: a child that another test starts meanwhile would inherit the file, open for writing,
        // and what is open for writing cannot be run.
        let copied = Command::new("cp").arg(binary()).arg(&program).status().unwrap();
        assert!(copied.success());
        chmod(&program, 0o755);
        Self { place, program }
    }

    /// A data folder of the user's own.
    fn folder(&self, name: &str) -> PathBuf {
        let folder = self.place.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        make_private(&folder).unwrap();
        if is_root() {
            std::os::unix::fs::chown(&folder, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        folder
    }

    fn run(&self, data: &Path, args: &[&str]) -> Output {
        let mut command = Command::new(&self.program);
        command.args(args).env("CHIMERA_DATA_DIR", data).current_dir(self.place.path()).stdin(Stdio::null());
        if is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command.output().unwrap()
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Takes everybody's access away, the owner's as well.
fn lock_away(path: &Path) {
    if is_root() {
        std::os::unix::fs::chown(path, Some(0), Some(0)).unwrap();
    }
    chmod(path, 0o000);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_campaigns_are_refused_and_nothing_is_lost() -> Result<()> {
    let data = tempfile::tempdir()?;
    let files = tempfile::tempdir()?;
    let server = Server::start(data.path()).await?;
    server.install_bundled().await?;

    let malformed = write(files.path(), "malformed.yaml", "goal: [unclosed\nsteps: {{{");
    assert_clear(&chimera(data.path(), &["campaign", "run", &malformed]), 2, &["malformed.yaml"]);

    let unknown_field = write(files.path(), "field.yaml", "goal: publish something\ngaol: typo\n");
    assert_clear(&chimera(data.path(), &["campaign", "run", &unknown_field]), 2, &["gaol"]);

    let unknown_skill = write(
        files.path(),
        "skill.yaml",
        "goal: sum up\nsteps:\n  - id: a\n    skill: chimera/sumarize\n    input: { texts: [] }\n",
    );
    assert_clear(
        &chimera(data.path(), &["campaign", "run", &unknown_skill]),
        2,
        &["chimera/sumarize", "chimera/summarize"],
    );

    let cyclic = write(
        files.path(),
        "cycle.yaml",
        "goal: go round\nsteps:\n  - id: a\n    skill: chimera/summarize\n    input: { texts: [\"x\"] }\n    depends_on: [b]\n  \
         - id: b\n    skill: chimera/summarize\n    input: { texts: [\"x\"] }\n    depends_on: [a]\n",
    );
    assert_clear(&chimera(data.path(), &["campaign", "run", &cyclic]), 2, &["circle"]);

    let huge = write(files.path(), "huge.yaml", &format!("goal: \"{}\"\n", "publish this ".repeat(80_000)));
    assert_clear(&chimera(data.path(), &["campaign", "run", &huge]), 2, &["goal"]);

    assert_clear(&chimera(data.path(), &["campaign", "run", "/does/not/exist.yaml"]), 1, &["/does/not/exist.yaml"]);
    assert_clear(&chimera(data.path(), &["campaign", "explode"]), 2, &["explode"]);
    assert_clear(&chimera(data.path(), &["task", "show", "not-an-id"]), 2, &["not-an-id"]);

    let (status, problem) =
        server.request("POST", "/api/v1/campaigns", Some(&json!({ "goal": "x".repeat(1 << 20) }))).await?;
    ensure!((400..500).contains(&status), "{status} {problem}");
    ensure!(problem["code"].is_string(), "not a problem document: {problem}");

    let skills = server.get("/api/v1/skills").await?;
    ensure!(skills.to_string().matches("\"digest\"").count() >= 5, "something was lost: {skills}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_and_a_taken_folder_are_told() -> Result<()> {
    let data = tempfile::tempdir()?;
    let server = Server::start(data.path()).await?;
    let address = server.url.trim_start_matches("http://").to_owned();

    let other = tempfile::tempdir()?;
    make_private(other.path())?;
    assert_clear(&chimera(other.path(), &["serve", "--listen", &address]), 1, &[&address, "--listen"]);
    assert_clear(
        &chimera(data.path(), &["serve", "--listen", "127.0.0.1:0"]),
        1,
        &["another", &server.pid().to_string()],
    );
    assert_clear(&chimera(other.path(), &["serve", "--listen", "0.0.0.0:0"]), 2, &["own machine"]);
    ensure!(server.get("/readyz").await.is_ok(), "the first server must not suffer");
    Ok(())
}

#[test]
fn an_unusable_data_folder_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a-file");
    std::fs::write(&file, "not a folder").unwrap();
    assert_clear(&chimera(&file, &["serve", "--listen", "127.0.0.1:0"]), 1, &["a-file"]);

    let broken = folder.path().join("broken");
    std::fs::create_dir(&broken).unwrap();
    make_private(&broken).unwrap();
    std::fs::write(broken.join("chimera.db"), "this is no database, but it is somebody's file").unwrap();
    assert_clear(&chimera(&broken, &["serve", "--listen", "127.0.0.1:0"]), 1, &["chimera.db"]);
    let kept = std::fs::read_to_string(broken.join("chimera.db")).unwrap();
    assert_eq!(kept, "this is no database, but it is somebody's file", "nothing may be lost");
}

#[test]
fn a_data_folder_that_cannot_be_read_is_told() {
    let plain = Plain::new();
    let folder = plain.folder("locked");
    lock_away(&folder);
    for args in [&["serve", "--listen", "127.0.0.1:0"][..], &["campaign", "status"], &["doctor"]] {
        assert_clear(&plain.run(&folder, args), 1, &["locked", "cannot be read", "--data-dir"]);
    }
    chmod(&folder, 0o700);
}

#[test]
fn a_configuration_that_cannot_be_read_is_not_taken_for_absent() {
    let plain = Plain::new();
    let folder = plain.folder("data");
    let file = folder.join("chimera.toml");
    std::fs::write(&file, "[mcp.servers.social]\ncommand = \"/usr/bin/mine\"\n").unwrap();
    lock_away(&file);
    for args in [&["serve", "--listen", "127.0.0.1:0"][..], &["doctor"]] {
        assert_clear(&plain.run(&folder, args), 1, &["chimera.toml", "cannot be read", "--config"]);
    }
    assert!(!folder.join("chimera.db").exists(), "nothing may start on a guess");
    assert_clear(&chimera(&folder, &["doctor", "--config", "/does/not/exist.toml"]), 1, &["/does/not/exist.toml"]);
}

#[test]
fn a_data_folder_that_others_may_write_into_is_refused() {
    let plain = Plain::new();
    let folder = plain.folder("shared");
    for mode in [0o775, 0o777] {
        chmod(&folder, mode);
        assert_clear(&plain.run(&folder, &["serve", "--listen", "127.0.0.1:0"]), 1, &["shared", "chmod go-w"]);
        let doctor = plain.run(&folder, &["doctor"]);
        assert_eq!(doctor.status.code(), Some(1), "{}", said(&doctor));
        assert!(said(&doctor).contains("chmod go-w"), "{}", said(&doctor));
    }
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0, "nothing may be written there");
}

/// Another program that took the port: remembers what it is sent and claims to be healthy.
fn listen_like_a_stranger(address: &str) -> Arc<Mutex<String>> {
    let listener = TcpListener::bind(address).unwrap();
    let heard = Arc::new(Mutex::new(String::new()));
    let memory = heard.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let mut request = vec![0_u8; 64 << 10];
            let length = stream.read(&mut request).unwrap_or(0);
            memory.lock().unwrap().push_str(&String::from_utf8_lossy(&request[..length]));
            let body = r#"{"status":"ok","version":"0.1.0"}"#;
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close", body.len());
            let _ = write!(stream, "{head}\r\ncontent-type: application/json\r\n\r\n{body}");
        }
    });
    heard
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_takes_a_dead_servers_port_is_not_sent_the_token() -> Result<()> {
    let data = tempfile::tempdir()?;
    let mut server = Server::start(data.path()).await?;
    assert_clear(&chimera(data.path(), &["campaign", "status"]), 0, &[]);
    server.kill9();
    ensure!(data.path().join("server.json").exists(), "a killed server leaves its address behind");
    let heard = listen_like_a_stranger(server.url.trim_start_matches("http://"));
    let token = std::fs::read_to_string(data.path().join("operator.token"))?;

    for args in [&["campaign", "status"][..], &["approvals", "list"], &["audit", "verify"]] {
        let words = ["something else listens", "server.json", "chimera serve"];
        assert_clear(&chimera(data.path(), args), 1, &words);
    }
    let doctor = chimera(data.path(), &["doctor", "--json"]);
    let report: Value = serde_json::from_slice(&doctor.stdout)?;
    let found = |name: &str| {
        let checks = report["checks"].as_array().cloned().unwrap_or_default();
        checks.iter().find(|check| check["name"] == name).map(|check| check["found"].to_string()).unwrap_or_default()
    };
    ensure!(found("lock").contains("free"), "{report:#}");
    ensure!(found("server").contains("not running; something else listens"), "{report:#}");

    let heard = heard.lock().unwrap().to_lowercase();
    ensure!(heard.matches("get /healthz?challenge=").count() == 4, "{heard}");
    for secret in [token.trim().to_lowercase().as_str(), "authorization", "bearer", "/api/"] {
        ensure!(!heard.contains(secret), "a stranger was sent `{secret}`:\n{heard}");
    }

    let _again = Server::start(data.path()).await?;
    assert_clear(&chimera(data.path(), &["campaign", "status"]), 0, &[]);
    Ok(())
}

#[test]
fn without_a_server_the_cli_says_how_to_start_one() {
    let folder = tempfile::tempdir().unwrap();
    assert_clear(&chimera(folder.path(), &["campaign", "status"]), 1, &["chimera serve"]);
}

#[test]
fn a_refused_component_names_rule_evidence_and_fix() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let data = tempfile::tempdir().unwrap();
        let _server = Server::start(data.path()).await.unwrap();
        let file = data.path().join("not-wasm.wasm");
        std::fs::write(&file, b"\0asm\x01\0\0\0").unwrap();
        let output = chimera(data.path(), &["skill", "install", file.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(3), "{}", said(&output));
        assert!(said(&output).contains("component"), "{}", said(&output));
    });
}
