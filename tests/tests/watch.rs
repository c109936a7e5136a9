//! `chimera skill run --watch`: every change is answered, bad input and a hanging skill are lived through, Ctrl-C ends it.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test may end with a panic")]

use anyhow::{Context, Result, ensure};
use chimera_tests::{PATIENCE, binary, guest};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Killed when dropped.
struct Watch(Child);

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Another size each time, so that the change is seen whatever the file system's clock.
fn write(path: &Path, text: &str) -> Result<()> {
    Ok(std::fs::write(path, text)?)
}

fn next(lines: &Receiver<String>) -> Result<Value> {
    let line = lines.recv_timeout(PATIENCE).context("no answer")?;
    Ok(serde_json::from_str(&line)?)
}

#[test]
fn every_change_is_answered_until_ctrl_c() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (component, input) = (folder.path().join("skill.wasm"), folder.path().join("input.json"));
    std::fs::copy(guest("misbehave"), &component)?;
    write(&input, r#"{"mode":"behave"}"#)?;
    let mut watch = Watch(
        Command::new(binary())
            .args(["--json", "skill", "run", "--watch", "--input"])
            .arg(format!("@{}", input.display()))
            .arg(&component)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?,
    );
    let out = BufReader::new(watch.0.stdout.take().unwrap());
    let (sender, lines) = channel();
    std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));

    let first = next(&lines)?;
    ensure!(first["outcome"]["output"]["ok"] == true, "{first}");
    write(&input, "no JSON at all, but text")?;
    let bad = next(&lines)?;
    ensure!(bad["error"].as_str().is_some_and(|error| error.contains("is not JSON")), "{bad}");
    write(&input, r#"{"mode":"trap"}"#)?;
    let trapped = next(&lines)?;
    ensure!(trapped["error"].as_str().is_some_and(|error| error.contains("[trap]")), "{trapped}");

    // It hangs until its own limit of 3 s; the next change does not wait for that.
    write(&input, r#"{"mode":"sleep-an-hour"}"#)?;
    std::thread::sleep(Duration::from_millis(600));
    write(&input, r#"{"mode":"behave", "again": true}"#)?;
    let again = next(&lines)?;
    ensure!(again["outcome"]["output"]["ok"] == true, "{again}");
    println!("{} ms from save to answer", again["took_ms"]);

    std::fs::copy(guest("bystander"), &component)?;
    let other = next(&lines)?;
    ensure!(other["error"].as_str().is_some_and(|error| error.contains("does not fit")), "{other}");

    let pid = rustix::process::Pid::from_raw(i32::try_from(watch.0.id())?).context("no process id")?;
    rustix::process::kill_process(pid, rustix::process::Signal::INT)?;
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        if let Some(status) = watch.0.try_wait()? {
            ensure!(status.success(), "{status}");
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    anyhow::bail!("Ctrl-C does not end it")
}
