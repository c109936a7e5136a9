//! `chimera mcp`: the operator's MCP servers, and the bundled one.
//!
//! `mcp serve` speaks MCP on standard input and output, so it prints nothing else there. Called by the dispatcher; the
//! gateway starts `mcp serve social` as a child process.

use super::args::{BundledServer, McpCommand};
use super::client::segment;
use super::error::{CliError, CliResult, Exit};
use super::output::Table;
use super::{Env, list, text};
use chimera_mcp::social::{KeyPolicy, SocialOptions};

pub(super) async fn run(env: Env, command: McpCommand) -> CliResult {
    match command {
        McpCommand::List => {
            let found = env.client()?.get("/api/v1/mcp/servers", &[]).await?;
            env.show(&found, |found| {
                let mut table = Table::new(&["SERVER", "STATE", "COMMAND"]);
                for server in list(found, "servers") {
                    table.row(["/name", "/state", "/command"].map(|pointer| text(server, pointer)));
                }
                table.print("No MCP servers are configured. Add [mcp.servers.NAME] to chimera.toml.");
            });
            Ok(Exit::Done)
        }
        McpCommand::Tools { server } => {
            let found = env.client()?.get(&format!("/api/v1/mcp/servers/{}/tools", segment(&server)), &[]).await?;
            env.show(&found, |found| {
                let mut table = Table::new(&["TOOL", "DESCRIPTION"]);
                for tool in list(found, "tools") {
                    table.row([text(tool, "/name"), text(tool, "/description")]);
                }
                table.print("The server has no tools.");
            });
            Ok(Exit::Done)
        }
        McpCommand::Serve { server } => serve(server).await,
    }
}

async fn serve(server: BundledServer) -> CliResult {
    let BundledServer::Social { state, no_idempotency, seed, delay_ms } = server;
    let options = SocialOptions {
        seed,
        idempotency: if no_idempotency { KeyPolicy::Ignored } else { KeyPolicy::Honoured },
        delay: std::time::Duration::from_millis(delay_ms),
        ..SocialOptions::new(state)
    };
    chimera_mcp::social::serve(options)
        .await
        .map_err(|error| CliError::failed(error.to_string(), "check the path given with --state"))?;
    Ok(Exit::Done)
}
