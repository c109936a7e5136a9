//! `chimera approvals`: what waits for a human, and the human's answers.
//!
//! Shows the exact thing to decide on and sends exactly what the human said; it decides nothing by itself. Called by
//! the dispatcher.

use super::args::ApprovalsCommand;
use super::client::{Client, segment};
use super::error::{CliError, CliResult, Exit};
use super::inputs::json_or_file;
use super::output::{Style, Table, one_line, say};
use super::{Env, list, read, text};
use chimera_core::approval::{Answer, Approval, ApprovalKind, ApprovalState, HumanDecision};
use chimera_core::text::printable;
use serde_json::{Value, json};

pub(super) async fn run(env: Env, command: ApprovalsCommand) -> CliResult {
    let client = env.client()?;
    match command {
        ApprovalsCommand::List { all, campaign } => {
            let mut query: Vec<(&str, &str)> = campaign.as_deref().map(|id| ("campaign", id)).into_iter().collect();
            if !all {
                query.push(("state", "open"));
            }
            let found = client.get("/api/v1/approvals", &query).await?;
            env.show(&found, print_list);
            Ok(Exit::Done)
        }
        ApprovalsCommand::Show { id } => {
            let found = client.get(&path(&id), &[]).await?;
            match env.format {
                super::Format::Json => super::output::print_json(&found),
                super::Format::Human => print_one(&one(found)?),
            }
            Ok(Exit::Done)
        }
        ApprovalsCommand::Approve { id, value, note } => {
            let edited = value.map(|value| json_or_file(&value, "value")).transpose()?;
            decide(&env, &client, &id, HumanDecision::Approve, edited, note).await
        }
        ApprovalsCommand::Edit { id, arguments, note } => {
            let edited = json_or_file(&arguments, "arguments")?;
            if !edited.is_object() {
                return Err(CliError::usage(
                    "the new arguments are not a JSON object",
                    "write for example '{\"text\": \"…\"}'",
                ));
            }
            decide(&env, &client, &id, HumanDecision::Approve, Some(edited), note).await
        }
        ApprovalsCommand::Reject { id, note } => decide(&env, &client, &id, HumanDecision::Reject, None, note).await,
        ApprovalsCommand::Retry { id, note } => decide(&env, &client, &id, HumanDecision::Retry, None, note).await,
    }
}

fn path(id: &str) -> String {
    format!("/api/v1/approvals/{}", segment(id))
}

fn one(found: Value) -> CliResult<Approval> {
    let inner = found.get("approval").cloned().unwrap_or(found);
    read(inner)
}

async fn decide(
    env: &Env,
    client: &Client,
    id: &str,
    decision: HumanDecision,
    edited: Option<Value>,
    note: Option<String>,
) -> CliResult {
    let answer = Answer { decision, edited, note };
    let done = client.post(&format!("{}/decide", path(id)), &json!(answer)).await?;
    env.show(&done, |_| {
        let said = match decision {
            HumanDecision::Approve => "Approved",
            HumanDecision::Reject => "Rejected",
            HumanDecision::Retry => "Sent back",
        };
        say(&format!("{said}: {id}"));
    });
    Ok(Exit::Done)
}

fn print_list(found: &Value) {
    let mut table = Table::new(&["APPROVAL", "KIND", "STATE", "WHAT", "DEADLINE"]);
    for approval in list(found, "approvals") {
        table.row(["/id", "/kind", "/state", "/title", "/deadline"].map(|pointer| text(approval, pointer)));
    }
    table.print("Nothing waits for a human.");
}

/// Shows one approval with the exact arguments.
pub(super) fn print_one(approval: &Approval) {
    for line in describe(approval, Style::stdout()) {
        say(&line);
    }
}

/// One approval, line by line, with how to answer it.
pub(super) fn describe(approval: &Approval, style: Style) -> Vec<String> {
    let mut lines = exact(approval, style);
    if approval.state == ApprovalState::Open {
        lines.push(style.dim(&how_to_answer(approval)));
    } else if let Some(by) = &approval.decided_by {
        let note = approval.note.as_ref().map_or(String::new(), |note| format!(": {}", one_line(note, 300)));
        lines.push(format!("decided by {by}{note}"));
    }
    lines
}

/// What is asked and exactly what is decided on, line by line.
pub(super) fn exact(approval: &Approval, style: Style) -> Vec<String> {
    let state = json!(approval.state);
    let mut lines = vec![
        format!("{} {}", style.bold(&one_line(&approval.title, 600)), style.state(state.as_str().unwrap_or(""))),
        format!("why: {}", one_line(&approval.reason, 600)),
    ];
    lines.extend(exact_call(approval));
    let shown = approval.payload.get("arguments").unwrap_or(&approval.payload);
    let pretty = serde_json::to_string_pretty(shown).unwrap_or_default();
    lines.extend(pretty.lines().map(|line| format!("  {}", printable(line))));
    lines
}

fn exact_call(approval: &Approval) -> Option<String> {
    let server = text(&approval.payload, "/server");
    let tool = text(&approval.payload, "/tool");
    (!tool.is_empty()).then(|| format!("sends to {} the call {}:", one_line(server, 80), one_line(tool, 80)))
}

fn how_to_answer(approval: &Approval) -> String {
    let id = approval.id;
    match approval.kind {
        ApprovalKind::Question => format!("answer: chimera approvals approve {id} --value JSON"),
        ApprovalKind::Effect => format!("answer: chimera approvals approve|reject {id}, or edit {id} --arguments JSON"),
        _ => format!("answer: chimera approvals approve|reject {id}"),
    }
}
