//! Celery with Redis, as the baseline of `chimera bench tasks`: a private Redis, a worker and a driver, started once and
//! given rounds in turn with Chimera's.
//!
//! What it runs is in `tests/benches/celery/`; its Python packages are installed into the target folder on first use. All
//! three processes listen on loopback only, and end with the benchmark. It judges nothing. Called by the benchmark of tasks.

use super::report::checkout;
use crate::cli::output::tell;
use serde::Deserialize;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// How long Redis may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a worker that was told to stop may take.
const FAREWELL: Duration = Duration::from_secs(10);

/// A running Celery.
pub(super) struct Celery {
    to_driver: Option<ChildStdin>,
    from_driver: BufReader<ChildStdout>,
    /// The driver, the worker and Redis, in the order in which they end.
    processes: Vec<(&'static str, Child)>,
    /// Logs, and whatever Redis writes.
    _folder: tempfile::TempDir,
}

#[derive(Deserialize)]
struct Round {
    tasks: u64,
    seconds: f64,
}

impl Celery {
    /// Starts it, and has it do a few tasks. It blocks for seconds, the first time for as long as pip takes.
    ///
    /// # Errors
    /// What is missing or does not work, in one sentence.
    pub(super) fn start() -> Result<Self, String> {
        let scripts = checkout().join("tests/benches/celery");
        let python = environment(&scripts)?;
        let folder = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
        let port = free_port().map_err(|error| format!("no free port: {error}"))?;
        let log = |name: &str| File::create(folder.path().join(name)).map_err(|error| format!("{name}: {error}"));
        let mut processes = Vec::new();
        let started = (|| {
            let redis = Command::new("redis-server")
                .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--appendonly", "no", "--dir"])
                .arg(folder.path())
                .stdin(Stdio::null())
                .stdout(log("redis.log")?)
                .spawn()
                .map_err(|error| format!("redis-server cannot be started ({error}): install Redis"))?;
            processes.push(("redis-server", redis));
            wait_for(port)?;
            let url = format!("redis://127.0.0.1:{port}/0");
            let python = |arguments: &[&str]| {
                let mut command = Command::new(&python);
                command.args(arguments).current_dir(&scripts).env("CHIMERA_BENCH_REDIS", &url);
                // Nothing is written into the checkout.
                command.env("PYTHONDONTWRITEBYTECODE", "1");
                command
            };
            let worker = python(&["-m", "celery", "-A", "app", "worker", "--loglevel", "ERROR"])
                .args(["--without-gossip", "--without-mingle", "--without-heartbeat"])
                .stdin(Stdio::null())
                .stdout(log("worker.log")?)
                .stderr(log("worker.err")?)
                .spawn()
                .map_err(|error| format!("Celery's worker cannot be started: {error}"))?;
            processes.insert(0, ("the worker", worker));
            let mut driver = python(&["drive.py"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(log("driver.err")?)
                .spawn()
                .map_err(|error| format!("Celery's driver cannot be started: {error}"))?;
            let pipes = driver.stdin.take().zip(driver.stdout.take());
            processes.insert(0, ("the driver", driver));
            pipes.ok_or_else(|| "Celery's driver has no pipes".to_owned())
        })();
        let (to_driver, from_driver) = match started {
            Ok(pipes) => pipes,
            Err(error) => {
                end(processes);
                return Err(error);
            }
        };
        let from_driver = BufReader::new(from_driver);
        let mut celery = Self { to_driver: Some(to_driver), from_driver, processes, _folder: folder };
        celery.round(100)?;
        Ok(celery)
    }

    /// Has it do so many tasks; the tasks a second. It blocks meanwhile.
    ///
    /// # Errors
    /// Why it did not.
    pub(super) fn round(&mut self, tasks: u64) -> Result<f64, String> {
        let to_driver = self.to_driver.as_mut().ok_or("Celery was stopped")?;
        writeln!(to_driver, "{tasks}").and_then(|()| to_driver.flush()).map_err(|error| error.to_string())?;
        let mut line = String::new();
        self.from_driver.read_line(&mut line).map_err(|error| error.to_string())?;
        let round: Round = serde_json::from_str(&line)
            .map_err(|_| "Celery's driver ended; tests/benches/celery/run.sh shows why".to_owned())?;
        Ok(round.tasks as f64 / round.seconds)
    }
}

impl Drop for Celery {
    fn drop(&mut self) {
        // At the end of its input the driver ends by itself.
        self.to_driver = None;
        end(std::mem::take(&mut self.processes));
    }
}

/// Tells each to stop, and kills what does not.
fn end(processes: Vec<(&'static str, Child)>) {
    for (name, mut child) in processes {
        if let Some(pid) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let until = Instant::now() + FAREWELL;
        while matches!(child.try_wait(), Ok(None)) {
            if Instant::now() > until {
                tell(&format!("{name} does not end and is killed"));
                let _ = child.kill();
                let _ = child.wait();
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A Python that has the packages: made in the target folder when their list changes.
fn environment(scripts: &Path) -> Result<PathBuf, String> {
    let wanted = scripts.join("requirements.txt");
    let list = std::fs::read_to_string(&wanted).map_err(|error| format!("{}: {error}", wanted.display()))?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| checkout().join("target"), PathBuf::from);
    let folder = target.join("bench/celery-env");
    let (python, mark) = (folder.join("bin/python"), folder.join("requirements.installed"));
    if std::fs::read_to_string(&mark).is_ok_and(|installed| installed == list) {
        return Ok(python);
    }
    tell("installing Celery into the target folder");
    let run = |command: &mut Command, what: &str| match command.stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let told = String::from_utf8_lossy(&output.stderr);
            Err(format!("{what} failed: {}", told.lines().last().unwrap_or_default()))
        }
        Err(error) => Err(format!("{what} cannot be started ({error}): install Python 3 with venv and pip")),
    };
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder), "making Celery's environment")?;
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]).arg(&wanted);
    run(&mut pip, "installing Celery")?;
    std::fs::write(&mark, list).map_err(|error| format!("{}: {error}", mark.display()))?;
    Ok(python)
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn wait_for(port: u16) -> Result<(), String> {
    let until = Instant::now() + PATIENCE;
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        if Instant::now() > until {
            return Err("redis-server does not answer".to_owned());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
