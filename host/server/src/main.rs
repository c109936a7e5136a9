//! `chimera`: the whole platform in one program.
//!
//! It only hands over to the command line, which starts or asks everything else. Nothing is decided here.

mod address;
mod api;
mod auth;
mod cli;
mod config;
mod dashboard;
mod executable;
mod folder;
mod listener;
mod proof;
mod serve;
mod stores;
mod wiring;

use mimalloc::MiMalloc;
use std::process::ExitCode;

/// Much of a task's memory is freed by another thread than the one that asked for it, which costs the C library's allocator a
/// fifth of the task.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    cli::run()
}
