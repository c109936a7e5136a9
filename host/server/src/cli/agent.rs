//! `chimera agent`: agents from outside and their tokens.
//!
//! A token is printed once, when it is made, and kept nowhere; `revoke` takes all of an agent back. Called by the
//! dispatcher.

use super::args::AgentCommand;
use super::client::{Client, segment};
use super::error::{CliError, CliResult, Exit};
use super::output::{Table, say};
use super::{Env, list, text};
use serde_json::json;

pub(super) async fn run(env: Env, command: AgentCommand) -> CliResult {
    let client = env.client()?;
    match command {
        AgentCommand::List => {
            let found = client.get("/api/v1/agents", &[]).await?;
            env.show(&found, |found| {
                let mut table = Table::new(&["AGENT", "NAME", "TYPE", "TOKENS", "LAST SEEN"]);
                for agent in list(found, "agents") {
                    let tokens = agent["tokens"].to_string();
                    let [id, name, role, seen] = ["/id", "/name", "/type", "/last_seen"].map(|at| text(agent, at));
                    table.row([id, name, role, &tokens, seen]);
                }
                table.print("No agents are registered. Add one with `chimera agent add NAME`.");
            });
        }
        AgentCommand::Add { name, role } => {
            let made = client.post("/api/v1/agents", &json!({ "name": name, "type": role.as_str() })).await?;
            env.show(&made, |made| {
                let id = ["/agent/id", "/id"].iter().map(|at| text(made, at)).find(|id| !id.is_empty()).unwrap_or("");
                say(&format!("Registered {name} as {id}. Give it a token with `chimera agent token {name}`."));
            });
        }
        AgentCommand::Token { name } => {
            let id = find(&client, &name).await?;
            let made = client.post(&format!("/api/v1/agents/{}/token", segment(&id)), &json!({})).await?;
            env.show(&made, |made| say(text(made, "/token")));
        }
        AgentCommand::Revoke { name } => {
            let id = find(&client, &name).await?;
            let done = client.delete(&format!("/api/v1/agents/{}/tokens", segment(&id))).await?;
            env.show(&done, |done| {
                let name = text(done, "/agent/name");
                say(&match done["revoked"].as_u64().unwrap_or(0) {
                    0 => format!("{name} has no token that could be taken back."),
                    1 => format!("The token of {name} was taken back."),
                    count => format!("{count} tokens of {name} were taken back."),
                });
            });
        }
    }
    Ok(Exit::Done)
}

/// The id of an agent given by name or id.
async fn find(client: &Client, name: &str) -> CliResult<String> {
    let found = client.get("/api/v1/agents", &[]).await?;
    let agents = list(&found, "agents");
    let fits = |agent: &&serde_json::Value| text(agent, "/id") == name || text(agent, "/name") == name;
    let mut fitting = agents.iter().filter(fits);
    match (fitting.next(), fitting.next()) {
        (Some(agent), None) => Ok(text(agent, "/id").to_owned()),
        (Some(_), Some(_)) => Err(CliError::usage(
            format!("several agents are called `{name}`"),
            "name the id: `chimera agent list` shows it",
        )),
        (None, _) => Err(CliError::failed(
            format!("there is no agent `{name}`"),
            format!("`chimera agent list` shows those there are; `chimera agent add {name}` registers it"),
        )),
    }
}
