//! The project's own chores: `cargo xtask test`, `services`, `lint`, `skills`, `deny`.
//!
//! A developer, the workflows and CI all run the same commands from here. It never changes the machine without saying
//! what it wants to install and asking first, unless `--yes` or `CI=true` says that it may.

mod fuzz;
mod prerequisites;
mod run;
mod services;
mod suites;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Chores of the Chimera project.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Set up what the tests need and run every test of the workspace, guests included.
    Test(TestOptions),
    /// The private servers that the tests need (PostgreSQL): start them and print where they are, or stop them.
    #[command(subcommand)]
    Services(ServicesChore),
    /// Formatting and clippy, warnings as errors, in all workspaces.
    Lint,
    /// Build the bundled skills into `target/guests/chimera`.
    Skills,
    /// Licences, advisories and sources of all dependencies (installs cargo-deny if it is missing).
    Deny {
        /// Install what is missing without asking.
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Subcommand)]
enum ServicesChore {
    /// Start what is not running, on free ports of the loopback; prints what tests have to be told.
    Up {
        /// Install what is missing without asking.
        #[arg(long)]
        yes: bool,
    },
    /// Stop them and throw their data away.
    Down,
}

/// How to run the tests.
#[derive(clap::Args)]
struct TestOptions {
    /// Install what is missing without asking (as with CI=true).
    #[arg(long)]
    yes: bool,
    /// Run the long suites (faults, fuzz) at their full size, and hold times against their bounds.
    #[arg(long)]
    full: bool,
    /// Only these suites, by name; all if absent.
    #[arg(long, value_delimiter = ',')]
    only: Vec<suites::Suite>,
}

fn main() -> ExitCode {
    let result = match Cli::parse().chore {
        Chore::Test(options) => suites::test(&options),
        Chore::Services(ServicesChore::Up { yes }) => services::up_and_tell(yes),
        Chore::Services(ServicesChore::Down) => services::down(),
        Chore::Lint => suites::lint(),
        Chore::Skills => suites::build_skills(),
        Chore::Deny { yes } => suites::deny(yes),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
