//! `chimera audit`: the hash chains, checked and shown.
//!
//! The server reads the chains; a broken one ends the command with exit code 1. Called by the dispatcher.

use super::args::AuditCommand;
use super::error::{CliResult, Exit};
use super::output::{Style, Table, say};
use super::{Env, list, text};
use serde_json::Value;

pub(super) async fn run(env: Env, command: AuditCommand) -> CliResult {
    let client = env.client()?;
    match command {
        AuditCommand::Verify { campaign } => {
            let query: Vec<(&str, &str)> = campaign.as_deref().map(|id| ("campaign", id)).into_iter().collect();
            let found = client.get("/api/v1/audit/verify", &query).await?;
            env.show(&found, print_verdict);
            let is_valid = found.get("valid").and_then(Value::as_bool).unwrap_or(false);
            Ok(if is_valid { Exit::Done } else { Exit::Failed })
        }
        AuditCommand::List { campaign } => {
            let query: Vec<(&str, &str)> = campaign.as_deref().map(|id| ("campaign", id)).into_iter().collect();
            let found = client.get("/api/v1/audit", &query).await?;
            env.show(&found, print_events);
            Ok(Exit::Done)
        }
    }
}

fn print_verdict(found: &Value) {
    let style = Style::stdout();
    let is_valid = found.get("valid").and_then(Value::as_bool).unwrap_or(false);
    let mut table = Table::new(&["CHAIN", "EVENTS", "RESULT", "HEAD"]);
    for chain in list(found, "chains") {
        let problem = text(chain, "/problem");
        let events = chain.get("events").and_then(Value::as_u64).unwrap_or(0).to_string();
        let result = if problem.is_empty() { "ok" } else { problem };
        table.row([text(chain, "/chain"), &events, result, text(chain, "/head")]);
    }
    table.print("The audit log is empty.");
    say(&if is_valid { style.green("audit chain: valid") } else { style.red("audit chain: BROKEN") });
}

fn print_events(found: &Value) {
    let mut table = Table::new(&["SEQ", "WHEN", "ACTION", "BY", "DETAIL"]);
    for event in list(found, "events") {
        let seq = event.get("seq").and_then(Value::as_u64).unwrap_or(0).to_string();
        let detail = event.get("detail").map(Value::to_string).unwrap_or_default();
        table.row([&seq, text(event, "/at"), text(event, "/action"), text(event, "/actor"), &detail]);
    }
    table.print("The chain is empty.");
}
