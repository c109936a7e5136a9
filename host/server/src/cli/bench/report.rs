//! What a benchmark reports: figures with their baselines, and the machine that they were measured on.
//!
//! It measures nothing. Filled by the benchmarks, printed and kept by [`super::run`].

use crate::cli::error::{CliError, CliResult};
use crate::cli::output::{Table, say};
use serde::Serialize;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

/// One figure.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Figure {
    /// What was measured.
    pub(super) metric: String,
    /// The figure.
    pub(super) value: f64,
    /// Its unit.
    pub(super) unit: &'static str,
    /// The baseline's figure, if there is one.
    pub(super) baseline: Option<f64>,
    /// What the baseline is.
    pub(super) baseline_name: Option<&'static str>,
    /// The figure over its baseline.
    pub(super) ratio: Option<f64>,
}

impl Figure {
    /// A figure by itself.
    pub(super) fn alone(metric: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { metric: metric.into(), value, unit, baseline: None, baseline_name: None, ratio: None }
    }

    /// A figure and what it is held against.
    pub(super) fn against(
        metric: impl Into<String>,
        value: f64,
        unit: &'static str,
        baseline: f64,
        baseline_name: &'static str,
    ) -> Self {
        Self {
            baseline: Some(baseline),
            baseline_name: Some(baseline_name),
            ratio: Some(value / baseline),
            ..Self::alone(metric, value, unit)
        }
    }
}

/// All figures of one benchmark.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    name: &'static str,
    commit: String,
    machine: String,
    kernel: String,
    build: &'static str,
    results: Vec<Figure>,
}

impl Report {
    pub(super) fn new(name: &'static str, results: Vec<Figure>) -> Self {
        let build = if cfg!(debug_assertions) { "debug" } else { "release" };
        Self { name, commit: commit(), machine: machine(), kernel: kernel(), build, results }
    }

    pub(super) fn to_json(&self) -> Value {
        json!(self)
    }

    pub(super) fn print(&self) {
        say(&format!("{} ({} build, commit {})", self.name, self.build, self.commit));
        say(&format!("{}; {}", self.machine, self.kernel));
        let mut table = Table::new(&["METRIC", "VALUE", "UNIT", "BASELINE", "OF", "RATIO"]);
        for figure in &self.results {
            table.row([
                figure.metric.clone(),
                rounded(figure.value),
                figure.unit.to_owned(),
                figure.baseline.map(rounded).unwrap_or_default(),
                figure.baseline_name.unwrap_or_default().to_owned(),
                figure.ratio.map(|ratio| format!("{ratio:.3}")).unwrap_or_default(),
            ]);
        }
        table.print("Nothing was measured.");
    }

    /// Keeps the report under `target/bench/`; returns where.
    pub(super) fn save(&self) -> CliResult<PathBuf> {
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| checkout().join("target"), PathBuf::from);
        let folder = target.join("bench");
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let path = folder.join(format!("{}-{seconds}.json", self.name));
        std::fs::create_dir_all(&folder)
            .and_then(|()| std::fs::write(&path, format!("{:#}\n", self.to_json())))
            .map_err(|error| {
                CliError::failed(format!("{} cannot be written: {error}", path.display()), "set CARGO_TARGET_DIR")
            })?;
        Ok(path)
    }
}

/// The checkout that this program was built from.
pub(super) fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn rounded(value: f64) -> String {
    if value >= 1000.0 { format!("{value:.0}") } else { format!("{value:.3}") }
}

fn told(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).current_dir(checkout()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

fn commit() -> String {
    told("git", &["describe", "--always", "--dirty", "--abbrev=12"]).unwrap_or_else(|| "unknown".to_owned())
}

fn kernel() -> String {
    told("uname", &["-srm"]).unwrap_or_else(|| std::env::consts::OS.to_owned())
}

fn machine() -> String {
    let read = |path: &str, field: &str| {
        let text = std::fs::read_to_string(path).ok()?;
        let line = text.lines().find(|line| line.starts_with(field))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let model = read("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let memory = read("/proc/meminfo", "MemTotal").unwrap_or_default();
    format!("{model}, {cores} cores, {memory}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_carries_its_baseline_and_the_ratio() {
        let figure = json!(Figure::against("call_p50_us", 12.0, "us", 10.0, "bare"));
        assert_eq!(figure["ratio"], json!(1.2));
        assert_eq!(figure["baseline_name"], json!("bare"));
        assert_eq!(json!(Figure::alone("x", 1.0, "us"))["ratio"], Value::Null);
    }

    #[test]
    fn a_report_names_the_machine() {
        let report = Report::new("sandbox", Vec::new()).to_json();
        for field in ["name", "commit", "machine", "kernel", "results"] {
            assert!(!report[field].is_null(), "{field}");
        }
        assert!(report["machine"].as_str().is_some_and(|machine| machine.contains("cores")));
    }
}
