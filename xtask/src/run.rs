//! Running other programs: echo the command, pass its output through, count test results on the way.
//!
//! Called by every chore. It never hides output and never retries.

use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// Tests run so far.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    /// Tests that passed.
    pub passed: u64,
    /// Tests that failed.
    pub failed: u64,
    /// Tests that were not run.
    pub skipped: u64,
}

impl Totals {
    /// Adds another count.
    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }

    /// Reads one line of output: `test result: …` of Rust's test harness, `# pass N` of Node's, `Ran N tests` and then
    /// `FAILED (failures=N)` or `OK` of Python's.
    fn read_line(&mut self, line: &str) {
        if let Some(rest) = line.trim_start().strip_prefix("test result:") {
            for part in rest.split([';', '.']) {
                let mut words = part.split_whitespace();
                if let (Some(count), Some(what)) = (words.next().and_then(|n| n.parse::<u64>().ok()), words.next()) {
                    match what {
                        "passed" => self.passed += count,
                        "failed" => self.failed += count,
                        "ignored" => self.skipped += count,
                        _ => {}
                    }
                }
            }
        } else if let Some(rest) = line.strip_prefix("Ran ") {
            self.passed += rest.split_whitespace().next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
        } else if let Some(rest) = line.strip_prefix("FAILED (").or_else(|| line.strip_prefix("OK (")) {
            for part in rest.trim_end().trim_end_matches(')').split(", ") {
                if let Some((what, Ok(count))) = part.split_once('=').map(|(what, n)| (what, n.parse::<u64>())) {
                    match what {
                        "failures" | "errors" => self.failed += count,
                        "skipped" => self.skipped += count,
                        _ => continue,
                    }
                    self.passed = self.passed.saturating_sub(count);
                }
            }
        } else if let Some(rest) = line.trim_start().strip_prefix(['#', 'ℹ']) {
            let mut words = rest.split_whitespace();
            if let (Some(what), Some(count)) = (words.next(), words.next().and_then(|n| n.parse::<u64>().ok())) {
                match what {
                    "pass" => self.passed += count,
                    "fail" => self.failed += count,
                    "skipped" | "todo" | "cancelled" => self.skipped += count,
                    _ => {}
                }
            }
        }
    }
}

/// The project's root folder.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// A command in the project's root.
pub fn command(program: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args).current_dir(root());
    command
}

/// `cargo` in the project's root.
pub fn cargo(args: &[&str]) -> Command {
    command(&std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()), args)
}

/// Cargo's target folder.
///
/// # Errors
/// When cargo does not say where it is.
pub fn target_dir() -> Result<PathBuf> {
    let metadata = output(&mut cargo(&["metadata", "--format-version", "1", "--no-deps"]))?;
    let metadata: serde_json::Value =
        serde_json::from_str(&metadata).context("cargo metadata printed something else than JSON")?;
    metadata["target_directory"].as_str().map(PathBuf::from).context("cargo metadata names no target folder")
}

/// Is this run by the superuser?
///
/// # Errors
/// When the system does not say.
pub fn is_root() -> Result<bool> {
    Ok(output(&mut command("id", &["-u"]))?.trim() == "0")
}

/// Runs a command to its end.
///
/// # Errors
/// When it cannot be started or exits other than 0.
pub fn run(command: &mut Command) -> Result<()> {
    if !succeeds(command)? {
        bail!("{} failed", describe(command));
    }
    Ok(())
}

/// Runs a command to its end and tells whether it exited with 0.
///
/// # Errors
/// When it cannot be started.
pub fn succeeds(command: &mut Command) -> Result<bool> {
    let started = announce(command);
    let status = command.status().with_context(|| format!("cannot start {:?}", command.get_program()))?;
    finish(command, started);
    if !status.success() {
        eprintln!("{status}");
    }
    Ok(status.success())
}

/// Runs a command and returns what it printed.
///
/// # Errors
/// When it cannot be started or exits other than 0.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start {:?}", command.get_program()))?;
    if !output.status.success() {
        bail!("{} failed with {}", describe(command), output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a test command, passing its output through and counting its results. A failing run is counted, not an error,
/// so that the suites after it still run; one that fails without a single failed test counts as one.
///
/// # Errors
/// When it cannot be started.
pub fn run_tests(command: &mut Command) -> Result<Totals> {
    let started = announce(command);
    let mut child =
        command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start {:?}", command.get_program()))?;
    let mut totals = Totals::default();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).split(b'\n') {
            let line = line.context("cannot read the tests' output")?;
            let line = String::from_utf8_lossy(&line);
            totals.read_line(&line);
            println!("{line}");
        }
    }
    let status = child.wait().context("cannot wait for the tests")?;
    finish(command, started);
    if !status.success() && totals.failed == 0 {
        eprintln!("error: {} failed with {status}", describe(command));
        totals.failed = 1;
    }
    Ok(totals)
}

fn announce(command: &Command) -> Instant {
    println!("\n▶ {}", describe(command));
    let _ = std::io::stdout().flush();
    Instant::now()
}

fn finish(command: &Command, started: Instant) {
    println!("  ({:.0} s) {}", started.elapsed().as_secs_f64(), describe(command));
}

fn describe(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    if let Some(name) = Path::new(&text).file_name() {
        text = name.to_string_lossy().into_owned();
    }
    for arg in command.get_args() {
        text.push(' ');
        text.push_str(&arg.to_string_lossy());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_read_from_every_harness() {
        let mut totals = Totals::default();
        totals.read_line(
            "test result: FAILED. 12 passed; 1 failed; 2 ignored; 0 measured; 3 filtered out; finished in 0.1s",
        );
        totals.read_line("# pass 4");
        totals.read_line("ℹ fail 1");
        totals.read_line("# a comment of pass 9 kinds");
        totals.read_line("Ran 8 tests in 0.001s");
        totals.read_line("FAILED (failures=1, errors=2, skipped=1)");
        assert_eq!(totals, Totals { passed: 20, failed: 5, skipped: 3 });
    }
}
