//! `chimera serve`: runs the platform until it is told to stop.
//!
//! Only turns flags into configuration; starting and serving are [`crate::serve`]'s. Called by the dispatcher.

use super::Env;
use super::args::ServeArgs;
use super::error::{CliError, CliResult, Exit};
use super::output::Format;
use crate::config::{Config, Flags};
use crate::serve::Announce;

pub(super) async fn run(env: Env, args: ServeArgs) -> CliResult {
    let flags = Flags {
        listen: args.listen,
        workers: args.workers,
        planner_id: args.planner_id,
        store: args.store,
        roles: (!args.roles.is_empty()).then(|| args.roles.join(",")),
        ..env.flags()
    };
    let config = env.config_with(flags)?;
    start_logging(&config)?;
    let announce = match env.format {
        Format::Human => Announce::Text,
        Format::Json => Announce::Json,
    };
    crate::serve::run(config, announce).await.map_err(|error| CliError::failed(error.to_string(), ""))?;
    Ok(Exit::Done)
}

/// Logs what the configuration says.
pub(super) fn start_logging(config: &Config) -> CliResult<()> {
    crate::serve::start_logging(&config.log.value)
        .map_err(|problem| CliError::usage(problem, format!("the filter came from {}", config.log.source)))
}
