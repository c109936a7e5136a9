//! The agents: a planner that turns goals into plans, workers that run skills, and a judge that decides what is good
//! enough, with a human where it may not.
//!
//! Every one of them changes the truth only through [`planner::scheduler::Scheduler`]. This crate knows no SQL, no MCP
//! transport and no HTTP. Started by the server as a [`swarm::Swarm`].

#![forbid(unsafe_code)]

pub mod error;
pub mod fleet;
pub mod judge;
pub mod planner;
pub mod report;
pub mod swarm;
pub mod worker;

mod runner;
#[cfg(test)]
mod testkit;

pub use error::{AgentError, AgentErrorKind};
