//! The operator's servers: started when they are first needed, started again when they end, ended at shutdown.
//!
//! One connection a server; a server that fails to start or ends at once is left alone for a growing while, so that a
//! broken one costs nothing. It sends no call by itself. Called by the gateway and its ports.

use crate::client::{CallError, Live, connect};
use crate::config::{Idempotency, ServerCatalog, ServerConfig};
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

/// First pause after a failed start; doubles with each one.
const PAUSE: Duration = Duration::from_millis(100);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// What an operator sees of a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServerStatus {
    /// Its name in grants.
    pub name: String,
    /// The program.
    pub command: PathBuf,
    /// Whether it takes an idempotency key.
    pub idempotency: Idempotency,
    /// Where it is.
    pub state: ServerState,
    /// While running: the protocol revision spoken.
    pub protocol: Option<String>,
    /// While running: what it calls itself.
    pub implementation: Option<String>,
    /// While running: its process.
    pub pid: Option<u32>,
    /// Failed starts in a row.
    pub failures: u32,
    /// Why the last start failed or the last connection ended.
    pub problem: Option<String>,
}

/// Where a server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServerState {
    /// Not started: nothing has called it.
    Idle,
    /// Being started.
    Starting,
    /// Serves calls.
    Running,
    /// Could not be started, or ended; started again by the next call after a pause.
    Failed,
    /// The gateway is closed.
    Closed,
}

type Start = Shared<BoxFuture<'static, ()>>;

enum State {
    Idle,
    Starting(Start),
    Running(Arc<Live>),
    Failed { until: Instant },
    Closed,
}

struct Slot {
    state: State,
    failures: u32,
    problem: Option<String>,
}

/// One configured server and its connection.
pub(crate) struct Server {
    pub(crate) config: ServerConfig,
    slot: Mutex<Slot>,
    runtime: Handle,
}

/// All of them.
pub(crate) struct Pool {
    servers: BTreeMap<String, Arc<Server>>,
    /// Whose threads keep the connections: a call may come from one that a guest computes on.
    runtime: Handle,
}

impl Pool {
    /// To be called within the runtime that is to keep the connections.
    pub(crate) fn new(catalog: &ServerCatalog) -> Self {
        let runtime = Handle::current();
        let server = |config: &ServerConfig| {
            let slot = Mutex::new(Slot { state: State::Idle, failures: 0, problem: None });
            (config.name.clone(), Arc::new(Server { config: config.clone(), slot, runtime: runtime.clone() }))
        };
        Self { servers: catalog.iter().map(server).collect(), runtime }
    }

    /// The runtime that keeps the connections.
    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Arc<Server>> {
        self.servers.get(name)
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.servers.keys().cloned().collect()
    }

    pub(crate) fn statuses(&self) -> Vec<ServerStatus> {
        self.servers.values().map(|server| server.status()).collect()
    }

    pub(crate) async fn close(&self) {
        futures::future::join_all(self.servers.values().map(|server| server.close())).await;
    }
}

impl Server {
    fn slot(&self) -> std::sync::MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection that can be called; starts the server if need be.
    pub(crate) async fn live(self: &Arc<Self>, until: Instant) -> Result<Arc<Live>, CallError> {
        let start = match self.live_or_start()? {
            Ok(live) => return Ok(live),
            Err(start) => start,
        };
        // The start goes on when this caller's time is over: the next one finds the server running.
        if tokio::time::timeout_at(until.into(), start).await.is_err() {
            return Err(CallError::NotSent { problem: "it is still starting".to_owned(), retry_after: Some(PAUSE) });
        }
        let slot = self.slot();
        match &slot.state {
            State::Running(live) => Ok(live.clone()),
            _ => Err(slot.refusal()),
        }
    }

    fn live_or_start(self: &Arc<Self>) -> Result<Result<Arc<Live>, Start>, CallError> {
        let mut slot = self.slot();
        match &slot.state {
            State::Running(live) if live.is_usable() => {
                let live = live.clone();
                if slot.failures > 0 && live.is_proven() {
                    (slot.failures, slot.problem) = (0, None);
                }
                return Ok(Ok(live));
            }
            State::Running(live) => {
                let problem = live.fault().map_or_else(|| "it ended".to_owned(), |fault| fault.to_string());
                let may_start_at_once = live.is_proven() && live.fault().is_none();
                slot.problem = Some(problem);
                if !may_start_at_once {
                    slot.fail();
                    return Err(slot.refusal());
                }
            }
            State::Starting(start) => return Ok(Err(start.clone())),
            State::Failed { until } if *until > Instant::now() => return Err(slot.refusal()),
            State::Closed => return Err(slot.refusal()),
            State::Idle | State::Failed { .. } => {}
        }
        let server = self.clone();
        let task = self.runtime.spawn(async move {
            let connected = connect(&server.config).await;
            server.started(connected);
        });
        let start = task.map(|_| ()).boxed().shared();
        slot.state = State::Starting(start.clone());
        Ok(Err(start))
    }

    fn started(&self, connected: Result<Live, String>) {
        let mut slot = self.slot();
        match connected {
            _ if matches!(slot.state, State::Closed) => {}
            Ok(live) => {
                tracing::info!(server = self.config.name, protocol = live.protocol, "an MCP server is running");
                slot.state = State::Running(Arc::new(live));
            }
            Err(problem) => {
                tracing::warn!(server = self.config.name, problem, "an MCP server could not be started");
                slot.problem = Some(problem);
                slot.fail();
            }
        }
    }

    fn status(&self) -> ServerStatus {
        let slot = self.slot();
        let live = match &slot.state {
            State::Running(live) if live.is_usable() => Some(live),
            _ => None,
        };
        let state = match &slot.state {
            State::Idle => ServerState::Idle,
            State::Starting(_) => ServerState::Starting,
            State::Running(_) if live.is_some() => ServerState::Running,
            State::Running(_) | State::Failed { .. } => ServerState::Failed,
            State::Closed => ServerState::Closed,
        };
        ServerStatus {
            name: self.config.name.clone(),
            command: self.config.command.clone(),
            idempotency: self.config.idempotency.clone(),
            state,
            protocol: live.map(|live| live.protocol.clone()),
            implementation: live.and_then(|live| live.implementation.clone()),
            pid: live.and_then(|live| live.pid),
            failures: slot.failures,
            problem: slot.problem.clone(),
        }
    }

    async fn close(&self) {
        let state = std::mem::replace(&mut self.slot().state, State::Closed);
        match state {
            State::Running(live) => live.close().await,
            // What it starts is ended when the start finds the slot closed.
            State::Starting(start) => drop(start),
            State::Idle | State::Failed { .. } | State::Closed => {}
        }
    }
}

impl Slot {
    /// Why it cannot be called now, and when it may be tried again.
    fn refusal(&self) -> CallError {
        let (problem, retry_after) = match &self.state {
            State::Closed => (Some("this host is shutting down".to_owned()), None),
            State::Failed { until } => (self.problem.clone(), Some(until.saturating_duration_since(Instant::now()))),
            _ => (self.problem.clone(), Some(PAUSE)),
        };
        CallError::NotSent { problem: problem.unwrap_or_else(|| "it is not running".to_owned()), retry_after }
    }

    fn fail(&mut self) {
        self.failures = self.failures.saturating_add(1);
        let pause = PAUSE.saturating_mul(2_u32.saturating_pow((self.failures - 1).min(10))).min(LONGEST_PAUSE);
        self.state = State::Failed { until: Instant::now() + pause };
    }
}
