//! Hostile guests: one file of WebAssembly text (or one small generator) an attack, and what must become of each.
//!
//! Nothing here runs anything: [`attacks`] lists, [`build`](build::component) turns text into the bytes that a stranger
//! would hand in. Read by `tests/hostile.rs`, which installs and runs them on a real server.

pub mod bombs;
pub mod build;
pub mod health;
pub mod table;

pub use table::{Attack, Expected, attacks};
