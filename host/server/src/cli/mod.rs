//! The command line: reads what was asked, finds the server or starts one, prints what came out.
//!
//! Commands that touch data talk to the server that owns the data folder; only `serve` and `demo` start one. A command
//! never opens another process's database. Called by `main`.

mod agent;
mod approvals;
mod args;
mod audit;
mod bench;
mod campaign;
mod client;
mod demo;
mod doctor;
mod error;
mod feed;
mod grant;
mod index;
mod inputs;
mod live;
mod mcp;
mod model;
mod output;
mod search;
mod serve;
mod skill;
mod stop;
mod task;

use crate::config::{Config, ConfigError, Flags};
use args::{Cli, Command, Global};
use clap::Parser;
use client::Client;
use error::{CliError, CliResult, Exit};
pub(crate) use model::folder_in as model_folder;
use output::Format;
use serde_json::Value;
use std::process::ExitCode;

/// What to do about a configuration that cannot be used; the error itself names the place.
const MEND_CONFIG: &str = "mend it there; docs/configuration.md lists every setting";

/// What every command is given.
#[derive(Debug, Clone)]
pub(crate) struct Env {
    global: Global,
    /// For people or for programs.
    pub(crate) format: Format,
}

impl Env {
    fn new(global: Global) -> Self {
        let format = if global.json { Format::Json } else { Format::Human };
        Self { global, format }
    }

    /// What the global flags say.
    pub(crate) fn flags(&self) -> Flags {
        Flags {
            config: self.global.config.clone(),
            data_dir: self.global.data_dir.clone(),
            log: self.global.log.clone(),
            ..Flags::default()
        }
    }

    /// The configuration with the global flags and these.
    pub(crate) fn config_with(&self, flags: Flags) -> CliResult<Config> {
        // No command can tell more of a configuration that cannot be read than the error does.
        Config::load(flags).map_err(|error| match error {
            ConfigError::Unreadable { .. } => CliError::failed(
                error.to_string(),
                "let this user read it and its folder, or choose others with --config and --data-dir",
            ),
            error => CliError::usage(error.to_string(), MEND_CONFIG),
        })
    }

    /// The configuration with the global flags only.
    pub(crate) fn config(&self) -> CliResult<Config> {
        self.config_with(self.flags())
    }

    /// The running server.
    pub(crate) fn client(&self) -> CliResult<Client> {
        Client::discover(&self.config()?)
    }

    /// Prints a value as JSON, or for people by `human`.
    pub(crate) fn show(&self, value: &Value, human: impl FnOnce(&Value)) {
        match self.format {
            Format::Json => output::print_json(value),
            Format::Human => human(value),
        }
    }
}

/// Reads the command line and does what it says.
pub(crate) fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Done };
            let _ = error.print();
            return exit.into();
        }
    };
    // The compiler's child must set its own limits before any thread or runtime exists.
    if matches!(cli.command, Command::CompileComponent) {
        return chimera_sandbox::compile_child_main();
    }
    // What is measured has a runtime of its own.
    if let Command::ColdStart(args) = &cli.command {
        return bench::cold_start::child(args);
    }
    match start(cli) {
        Ok(exit) => exit.into(),
        Err(error) => {
            error.print();
            error.exit.into()
        }
    }
}

fn start(cli: Cli) -> CliResult {
    let env = Env::new(cli.global);
    if matches!(cli.command, Command::Serve(_)) {
        chimera_sandbox::take_short_turns();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::failed(format!("no threads could be started: {error}"), "check `ulimit -u`"))?;
    let outcome = runtime.block_on(dispatch(env, cli.command));
    // A worker that is inside a blocking call must not keep a finished command from ending.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    outcome
}

async fn dispatch(env: Env, command: Command) -> CliResult {
    match command {
        Command::Demo(args) => demo::run(env, args).await,
        Command::Serve(args) => serve::run(env, args).await,
        Command::Skill(command) => skill::run(env, command).await,
        Command::Search(args) => search::run(env, args).await,
        Command::Campaign(command) => campaign::run(env, command).await,
        Command::Task(command) => task::run(env, command).await,
        Command::Approvals(command) => approvals::run(env, command).await,
        Command::Grant(command) => grant::run(env, command).await,
        Command::Mcp(command) => mcp::run(env, command).await,
        Command::Agent(command) => agent::run(env, command).await,
        Command::Audit(command) => audit::run(env, command).await,
        Command::Model(command) => model::run(env, command).await,
        Command::Index(command) => index::run(env, command).await,
        Command::Doctor => doctor::run(env).await,
        Command::Bench(args) => bench::run(env, args).await,
        Command::CompileComponent | Command::ColdStart(_) => Ok(Exit::Done),
    }
}

/// A text member of an answer; empty if it has none.
pub(crate) fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

/// The elements of an answer's list.
pub(crate) fn list<'v>(value: &'v Value, name: &str) -> &'v [Value] {
    value.get(name).or(Some(value)).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Reads an answer as one of core's values.
pub(crate) fn read<T: serde::de::DeserializeOwned>(value: Value) -> CliResult<T> {
    serde_json::from_value(value).map_err(|error| {
        CliError::failed(
            format!("the server's answer cannot be understood: {error}"),
            "the server may be of another version than this program: `chimera --version`",
        )
    })
}
