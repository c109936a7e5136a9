//! Skills parked in a host call, all at once: what each of them keeps in memory, and that all of them answer afterwards.
//!
//! Resident memory is the process's as the kernel counts it, guests' pages, stacks and everything of ours included. Called
//! by the benchmark of the sandbox.

use super::guests::{Guest, ports};
use crate::cli::error::{CliError, CliResult};
use chimera_core::ports::{HostError, HostPorts, McpPort, ToolAnswer, ToolCall, ToolInfo};
use chimera_sandbox::floor::{Bare, Gate};
use chimera_sandbox::{RunEnd, Sandbox, SandboxConfig};
use serde_json::json;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What was found.
pub(super) struct Parked {
    /// KiB of resident memory a skill, with the sandbox around it.
    pub(super) whole_kib: f64,
    /// The same of the engine alone.
    pub(super) bare_kib: f64,
    /// How many were parked, and answered.
    pub(super) count: usize,
}

/// The longest that all of them may take to get there.
const PATIENCE: Duration = Duration::from_secs(20);

/// A tool that answers when its gate is open.
struct Waiting(Arc<Gate>);

#[async_trait::async_trait]
impl McpPort for Waiting {
    async fn list_tools(&self, _: &str, _: Instant) -> Result<Vec<ToolInfo>, HostError> {
        Ok(Vec::new())
    }
    async fn call_tool(&self, _: ToolCall, _: Instant) -> Result<ToolAnswer, HostError> {
        self.0.pass().await;
        Ok(ToolAnswer { text: "open".to_owned(), structured: None, is_error: false })
    }
    async fn read_resource(&self, _: &str, _: &str, _: Instant) -> Result<String, HostError> {
        Ok(String::new())
    }
    async fn replayed(&self, _: &ToolCall) {}
}

/// Parks so many, bare and whole.
pub(super) async fn measure(guest: &Guest, count: usize) -> CliResult<Parked> {
    let bare_kib = {
        let sandbox = sandbox(count)?;
        let (prepared, gate) = (guest.prepare(&sandbox).await?, Arc::new(Gate::new()));
        let bare = Bare::new(&sandbox, &prepared, gate.clone()).map_err(wrong)?;
        park(count, &gate, |number| {
            let bare = bare.clone();
            async move { bare.call(&json!({ "number": number }).to_string()).await.map(drop) }
        })
        .await?
    };
    let sandbox = sandbox(count)?;
    let (prepared, gate) = (guest.prepare(&sandbox).await?, Arc::new(Gate::new()));
    let ports = HostPorts { mcp: Arc::new(Waiting(gate.clone())), ..ports() };
    let whole_kib = park(count, &gate, |number| {
        let (sandbox, prepared, ports) = (sandbox.clone(), prepared.clone(), ports.clone());
        let request = guest.request(json!({ "number": number }));
        async move {
            match sandbox.run(&prepared, request, ports).await.end {
                RunEnd::Finished(_) => Ok(()),
                end => Err(format!("a parked skill ended with {end:?}")),
            }
        }
    })
    .await?;
    Ok(Parked { whole_kib, bare_kib, count })
}

fn sandbox(count: usize) -> CliResult<Sandbox> {
    Sandbox::new(SandboxConfig { max_concurrent: count, ..SandboxConfig::default() })
        .map_err(|error| CliError::failed(error.to_string(), "park fewer with --quick"))
}

/// Starts all of them, waits until they are parked, looks at the memory and lets them go; KiB each.
async fn park<F>(count: usize, gate: &Gate, start: impl Fn(usize) -> F) -> CliResult<f64>
where
    F: Future<Output = Result<(), String>> + Send + 'static,
{
    let before = resident_kib();
    let started = Instant::now();
    let running: Vec<_> = (0..count).map(|number| tokio::spawn(start(number))).collect();
    while gate.arrived() < count && started.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (arrived, after) = (gate.arrived(), resident_kib());
    gate.open();
    for task in running {
        task.await.map_err(|error| wrong(error.to_string()))?.map_err(wrong)?;
    }
    if arrived < count {
        return Err(wrong(format!("only {arrived} of {count} were parked within {PATIENCE:?}")));
    }
    Ok((after - before) / count as f64)
}

fn resident_kib() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_whitespace().nth(1).and_then(|text| text.parse::<f64>().ok()).unwrap_or(f64::NAN);
    pages * rustix::param::page_size() as f64 / 1024.0
}

fn wrong(why: String) -> CliError {
    CliError::failed(format!("skills cannot be parked: {why}"), "close what else needs memory, or use --quick")
}
