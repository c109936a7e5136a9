//! `chimera bench`: what is measured, and against what.
//!
//! Every baseline is measured in the same run as the figure that is held against it, in turn with it: the machine's mood
//! is in both. Nothing here judges; whoever reads the figures does. Called by the dispatcher.

mod calls;
mod celery;
pub(crate) mod cold_start;
mod guests;
mod parked;
mod pipeline;
mod redis;
mod report;
mod sandbox;
mod search;
mod store;
mod tasks;

use super::Env;
use super::args::{BenchArgs, BenchName};
use super::error::{CliError, CliResult, Exit};
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
        BenchName::Tasks if args.alone => ("tasks", tasks::alone(&env, effort, cluster(&args)).await?),
        BenchName::Tasks => ("tasks", tasks::run(&env, effort, cluster(&args)).await?),
        BenchName::Store => ("store", store::run(args.postgres.as_deref(), redis_url(&args), effort).await?),
        BenchName::Search => ("search", search::run(effort, args.model, args.weaviate).await?),
    };
    let report = report::Report::new(name, results);
    if effort == Effort::Full && !args.alone {
        let path = report.save()?;
        tell(&format!("kept as {}", path.display()));
    }
    env.show(&report.to_json(), |_| report.print());
    Ok(Exit::Done)
}

/// The PostgreSQL server to measure on: the flag's, else the one that the tests are given, else the store's.
fn postgres_url(flag: Option<&str>) -> CliResult<String> {
    let url = told(flag, ["CHIMERA_TEST_POSTGRES", "CHIMERA_STORE"], "postgres");
    url.ok_or_else(|| {
        CliError::usage(
            "no PostgreSQL server to measure on",
            "name one with --postgres URL, or start one: `cargo xtask services up`",
        )
    })
}

/// The servers of a cluster, if both are told of.
fn cluster(args: &BenchArgs) -> Option<tasks::Servers> {
    let postgres = postgres_url(args.postgres.as_deref()).ok()?;
    Some(tasks::Servers { postgres, redis: redis_url(args)? })
}

fn redis_url(args: &BenchArgs) -> Option<String> {
    told(args.redis.as_deref(), ["CHIMERA_TEST_REDIS", "CHIMERA_REDIS"], "redis")
}

/// A server's address: the flag's, else the first that the environment has.
fn told(flag: Option<&str>, variables: [&str; 2], scheme: &str) -> Option<String> {
    let of_environment = |name: &str| std::env::var(name).ok().filter(|url| url.starts_with(scheme));
    flag.map(str::to_owned).or_else(|| variables.into_iter().find_map(of_environment))
}
