//! `chimera bench`: what is measured, and against what.
//!
//! Every baseline is measured in the same run as the figure that is held against it, in turn with it: the machine's mood
//! is in both. Nothing here judges; whoever reads the figures does. Called by the dispatcher.

mod calls;
pub(crate) mod cold_start;
mod guests;
mod parked;
mod report;
mod sandbox;

use super::Env;
use super::args::{BenchArgs, BenchName};
use super::error::{CliResult, Exit};
use super::output::tell;

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effort {
    /// Enough for a look.
    Quick,
    /// Enough to quote.
    Full,
}

impl Effort {
    /// One of two sizes.
    fn of<T>(self, quick: T, full: T) -> T {
        match self {
            Self::Quick => quick,
            Self::Full => full,
        }
    }
}

pub(super) async fn run(env: Env, args: BenchArgs) -> CliResult {
    if cfg!(debug_assertions) {
        tell("this is a debug build: its figures say nothing; build with --release to measure");
    }
    let effort = if args.quick { Effort::Quick } else { Effort::Full };
    let (name, results) = match args.name {
        BenchName::Sandbox => ("sandbox", sandbox::run(&env, effort).await?),
    };
    let report = report::Report::new(name, results);
    if effort == Effort::Full {
        let path = report.save()?;
        tell(&format!("kept as {}", path.display()));
    }
    env.show(&report.to_json(), |_| report.print());
    Ok(Exit::Done)
}
