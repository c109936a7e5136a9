//! What one store holds: the run's ports, its recorder, its budgets, and how it ended.
//!
//! A state lives exactly as long as one call of a guest and is dropped with its store. It decides nothing about a call;
//! [`crate::answer`] does. Called by the host functions.

use crate::gate::{Gate, Pass, Wish};
use crate::limiter::Limiter;
use crate::logs::{Audience, LogSink};
use crate::recorder::{MAX_CALLS, Recorder};
use crate::run::RunEnd;
use crate::said::Said;
use crate::wasi::{GuestClock, Random, Reading};
use chimera_core::failure::{Failure, FailureKind, LimitName, codes};
use chimera_core::ports::{Budget, HostPorts, PortError, PortErrorKind};
use std::sync::Arc;
use std::time::Instant;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

/// The error that unwinds a guest whose run has ended; how it ended is in [`Host::ended`].
#[derive(Debug, thiserror::Error)]
#[error("the run has ended")]
pub(crate) struct Ended;

/// What one store holds.
pub(crate) struct State {
    pub(crate) wasi: WasiCtx,
    pub(crate) table: ResourceTable,
    pub(crate) limiter: Limiter,
    pub(crate) random: Random,
    pub(crate) host: Host,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// The contract's side of a state.
pub(crate) struct Host {
    pub(crate) ports: HostPorts,
    pub(crate) gate: Gate,
    pub(crate) recorder: Recorder,
    pub(crate) clock: Arc<GuestClock>,
    pub(crate) logs: LogSink,
    pub(crate) deadline: Instant,
    /// Largest JSON text in either direction.
    pub(crate) payload_bytes: usize,
    /// Most MCP calls of the run.
    pub(crate) max_mcp_calls: u32,
    /// Calls of the contract's functions so far.
    pub(crate) host_calls: u32,
    /// Calls among them that may reach a port.
    pub(crate) port_calls: u32,
    /// MCP calls among them.
    pub(crate) mcp_calls: u32,
    /// Calls of skills that are left of the task's.
    pub(crate) skill_calls_left: u32,
    /// What the guest's clocks last showed: they stand still there once it has made too many readings.
    pub(crate) last_reading: Reading,
    /// The number of the next tool call.
    pub(crate) next_tool_call: u32,
    /// What the guest was told could not be done.
    pub(crate) said: Said,
    /// Set when the run ends from within a host function.
    pub(crate) ended: Option<RunEnd>,
}

impl Host {
    /// Ends the run; the error unwinds the guest.
    pub(crate) fn end(&mut self, end: RunEnd) -> wasmtime::Error {
        self.ended.get_or_insert(end);
        wasmtime::Error::new(Ended)
    }

    /// Ends the run because the journal cannot be kept.
    pub(crate) fn end_without_journal(&mut self, error: &PortError) -> wasmtime::Error {
        self.end(RunEnd::Failed(journal_failure(error)))
    }

    /// Holds a wish against the manifest and counts the call.
    ///
    /// # Errors
    /// Ends the run when the wish is not declared.
    pub(crate) fn pass(&mut self, wish: Wish<'_>) -> wasmtime::Result<Pass> {
        self.host_calls = self.host_calls.saturating_add(1);
        self.gate.check(wish).map_err(|failure| self.end(RunEnd::Failed(failure)))
    }

    /// Takes one call from the budget of all ports.
    pub(crate) fn spend_call(&mut self) -> Result<(), Failure> {
        self.port_calls = self.port_calls.saturating_add(1);
        if self.port_calls > MAX_CALLS {
            let message = format!("the skill made more than {MAX_CALLS} host calls");
            return Err(Failure::new(FailureKind::Permanent, codes::CALL_LIMIT, message));
        }
        Ok(())
    }

    /// Takes one call from the budget of MCP calls.
    pub(crate) fn spend_mcp_call(&mut self) -> Result<(), Failure> {
        self.spend_call()?;
        if self.mcp_calls >= self.max_mcp_calls {
            let message = format!(
                "the skill made more than {} MCP calls; raise `limits.mcp_calls` in its manifest",
                self.max_mcp_calls
            );
            return Err(Failure::new(FailureKind::Permanent, codes::CALL_LIMIT, message));
        }
        self.mcp_calls += 1;
        Ok(())
    }

    /// Takes one call from what the task may make of skills; what is left then is the callee's as well. It ends the run
    /// instead of being told: each run of a tree that is spent ends when it next calls, and so all of it does.
    ///
    /// # Errors
    /// Ends the run when none is left.
    pub(crate) fn spend_skill_call(&mut self) -> wasmtime::Result<u32> {
        let Some(left) = self.skill_calls_left.checked_sub(1) else {
            const MAX: u32 = Budget::MAX_CALLS;
            let message = format!(
                "the skills of one task called each other more than {MAX} times: give each call more to do, or make \
                 several tasks of it"
            );
            let failure = Failure::new(FailureKind::Permanent, codes::CALL_LIMIT, message);
            let failure = failure.limit(LimitName::SkillCalls, MAX.into(), u64::from(MAX) + 1);
            return Err(self.end(RunEnd::Failed(failure)));
        };
        self.skill_calls_left = left;
        Ok(left)
    }

    /// People watching heard the replayed part already.
    pub(crate) fn tell_audience(&self) {
        let audience = if self.recorder.is_replaying() { Audience::Replay } else { Audience::Live };
        self.logs.set_audience(audience);
    }
}

/// The failure of a run whose journal cannot be read or kept.
pub(crate) fn journal_failure(error: &PortError) -> Failure {
    let (kind, code) = match error.kind {
        PortErrorKind::Closed => (FailureKind::Transient, crate::codes::LEASE_LOST),
        PortErrorKind::Unavailable => (FailureKind::Transient, codes::HOST),
        PortErrorKind::Corrupt | PortErrorKind::Permanent => (FailureKind::Permanent, codes::HOST),
    };
    Failure::new(kind, code, format!("the run's journal: {}", error.message))
}
