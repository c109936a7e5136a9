//! The nouns of Chimera, the state machine, and the ports between its rooms.
//!
//! This crate does no I/O and knows no runtime: every decision is a pure function of what it is given, time, ids and
//! chance included. Every other crate depends on it and it depends on none of them.

#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod approval;
pub mod audit;
pub mod campaign;
pub mod change;
pub mod clock;
pub mod contract;
pub mod digest;
pub mod effect;
pub mod failpoint;
pub mod failure;
pub mod grant;
pub mod ids;
pub mod journal;
pub mod json;
pub mod machine;
pub mod manifest;
pub mod plan;
pub mod ports;
pub mod rate;
pub mod recorded;
pub mod records;
pub mod route;
pub mod schema;
pub mod skill;
pub mod task;
pub mod template;
pub mod text;
pub mod verdict;
