//! Runs skills: compile, cache, limit, link, invoke, journal.
//!
//! A skill is a WebAssembly component from a stranger. Every call gets a fresh store with its own fuel, memory, deadline
//! and output bounds, and reaches only what the caller's [`HostPorts`](chimera_core::ports::HostPorts) serve and the
//! manifest declares. This crate knows no database, no MCP transport and no task queue. Called by the worker's executor,
//! the judge, the registry's admission and `chimera skill build|test|run`.
//!
//! The way of one run: [`Sandbox::prepare`] compiles (or loads) a component, [`Sandbox::run`] builds a store, loads the
//! journal, and calls the guest; each host call passes the capability gate (`gate`), is answered from the journal or by
//! a port (`answer`), and is recorded (`recorder`) before the guest sees it.

#![deny(missing_docs)]
#![deny(unsafe_op_in_unsafe_fn)]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test may panic"))]

mod admission;
mod answer;
mod attempt;
mod cache;
mod calls;
mod compile;
mod config;
mod confine;
mod contract;
mod disk;
mod engine;
mod features;
pub mod floor;
mod gate;
mod heap;
mod limiter;
mod link;
mod logs;
mod prepared;
mod progress;
mod recorder;
mod resident;
mod run;
mod said;
mod sandbox;
mod state;
mod tag;
mod threads;
mod turns;
mod wasi;

/// A way to the cache for its fuzz target.
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::cache::fuzzing::Cache;
}

pub use attempt::check_confinement;
pub use compile::{compile_child_main, confined_child};
pub use config::{Compiler, Confinement, SandboxConfig, SandboxError, SandboxErrorKind};
pub use disk::write_in_pieces;
pub use features::served_features;
pub use heap::give_memory_back;
pub use logs::LogLine;
pub use prepared::Prepared;
pub use progress::{CompileStage, Compiling};
pub use recorder::Unwritten;
pub use resident::{Hold, Resident};
pub use run::{JudgeOpinion, JudgedCase, RunEnd, RunReport, RunRequest, Tape};
pub use sandbox::Sandbox;
pub use turns::take_short_turns;

/// Codes that only the sandbox gives; the shared ones are in [`chimera_core::failure::codes`] beside them.
pub mod codes {
    pub use chimera_core::failure::codes::{ANSWER_SIZE, ARGUMENT_INVALID, BUSY, LEASE_LOST, PAYLOAD_SIZE};
}
