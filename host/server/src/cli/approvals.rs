//! `chimera approvals`: what waits for a human, and the human's answers.
//!
//! Shows the exact thing to decide on and sends exactly what the human said; it decides nothing by itself. Called by
//! the dispatcher.

use super::args::ApprovalsCommand;
use super::client::{Client, segment};
use super::error::{CliError, CliResult, Exit};
use super::inputs::json_or_file;
use super::output::{Style, Table, one_line, pretty, say};
use super::{Env, list, read, text};
use chimera_core::approval::{Answer, Approval, ApprovalKind, ApprovalState, HumanDecision};
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
        if let Some(edited) = &approval.edited {
            lines.push("what the human put in its place:".to_owned());
            lines.extend(indented(edited));
        }
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
    lines.extend(indented(shown));
    lines
}

/// A value line by line. What could mislead the eye is written as an escape: a human decides on what is there.
fn indented(value: &Value) -> Vec<String> {
    pretty(value).lines().map(|line| format!("  {line}")).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn approval(arguments: &Value, decided: &Value) -> Approval {
        let mut approval = json!({
            "id": "01900000-0000-7000-8000-000000000001", "campaign": null, "task": null, "kind": "effect",
            "title": "Publish?", "reason": "It changes the world.",
            "payload": { "server": "social", "tool": "publish_post", "arguments": arguments },
            "effect": null, "state": "open", "escalations": 0, "deadline": "2026-01-01T00:15:00Z",
            "created_at": "2026-01-01T00:00:00Z", "decided_by": null, "decided_at": null, "edited": null, "note": null,
        });
        for (name, value) in decided.as_object().into_iter().flatten() {
            approval[name] = value.clone();
        }
        read(approval).expect("an approval")
    }

    #[test]
    fn a_human_sees_what_is_there_and_not_what_it_looks_like() {
        let asked = approval(&json!({ "text": "pay 1\u{202e}00 to \u{1b}[2Kbob\u{9b}" }), &Value::Null);
        let lines = describe(&asked, Style::plain()).join("\n");
        assert!(lines.contains("pay 1\\u202e00") && lines.contains("\\u009b"), "{lines}");
        assert!(lines.chars().all(|c| c == '\n' || chimera_core::text::is_printable(c)), "{lines:?}");
    }

    #[test]
    fn a_decided_approval_shows_what_was_put_in_its_place() {
        let decided = json!({ "state": "approved", "decided_by": "operator:local", "edited": { "text": "mine" } });
        let lines = describe(&approval(&json!({ "text": "theirs" }), &decided), Style::plain()).join("\n");
        let (before, after) = lines.split_once("decided by operator:local").expect("who");
        assert!(before.contains("theirs") && after.contains("mine"), "{lines}");
    }
}
