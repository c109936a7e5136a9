//! The outside world of Chimera: MCP servers, and the one way through which a skill may reach them.
//!
//! A [`Gateway`] holds the connections to the operator's servers and opens one port for each run; the port asks manifest
//! and grant, and keeps the effect ledger, so that every effect happens at most once. Nothing here decides what a skill
//! may do (an operator's grant does) and nothing here runs a skill. Called by the agents (ports), the API and the CLI
//! (servers, tools, proposals); [`social`] is a sample server of its own process.

#![deny(missing_docs)]

mod client;
mod config;
mod gateway;
mod ledger;
mod pool;
mod port;
pub mod social;
mod tool;
mod wire;

pub use client::MAX_ANSWER_BYTES;
pub use config::{CatalogError, Idempotency, ServerCatalog, ServerConfig};
pub use gateway::{Gateway, GatewayError, grant_command};
pub use pool::{ServerState, ServerStatus};
pub use port::codes;
pub use tool::ServerTool;
