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

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
