//! `chimera grant`: which skill may use which tools of which server.
//!
//! The server checks and keeps grants; this module only asks and shows. Called by the dispatcher.

use super::args::{GrantCommand, ModeArg};
use super::client::segment;
use super::error::{CliResult, Exit};
use super::output::{Style, Table, one_line, say};
use super::{Env, list, text};
use serde_json::{Map, Value, json};

pub(super) async fn run(env: Env, command: GrantCommand) -> CliResult {
    let client = env.client()?;
    match command {
        GrantCommand::List => {
            let found = client.get("/api/v1/grants", &[]).await?;
            env.show(&found, print_list);
        }
        GrantCommand::Add { skill, slot, server, tools, resources, mode, campaign } => {
            let body = new_grant(&skill, &slot, &server, &tools, &resources, mode, campaign.as_deref());
            let made = client.post("/api/v1/grants", &body).await?;
            env.show(&made, |made| {
                let id = ["/grant/id", "/id"].iter().map(|at| text(made, at)).find(|id| !id.is_empty()).unwrap_or("");
                say(&format!("Granted: {skill} may use server {server} through its slot {slot}. Take it back with `chimera grant revoke {id}`."));
            });
        }
        GrantCommand::Revoke { id } => {
            let done = client.delete(&format!("/api/v1/grants/{}", segment(&id))).await?;
            env.show(&done, |_| say(&format!("Revoked: {id}")));
        }
        GrantCommand::Explain { skill, slot, tool } => {
            let query = [("skill", skill.as_str()), ("slot", slot.as_str()), ("tool", tool.as_str())];
            let told = client.get("/api/v1/grants/explain", &query).await?;
            env.show(&told, explain);
            let is_allowed = told.get("allowed").and_then(Value::as_bool).unwrap_or(false);
            return Ok(if is_allowed { Exit::Done } else { Exit::Refused });
        }
    }
    Ok(Exit::Done)
}

/// The body of a new grant; what is not named is left to the server, which takes what the manifest declares.
pub(super) fn new_grant(
    skill: &str,
    slot: &str,
    server: &str,
    tools: &[String],
    resources: &[String],
    mode: Option<ModeArg>,
    campaign: Option<&str>,
) -> Value {
    let mut body = json!({ "skill": skill, "slot": slot, "server": server });
    if !tools.is_empty() {
        let mode = mode.map_or(Value::Null, |mode| json!(mode.as_str()));
        body["tools"] = tools.iter().map(|tool| (tool.clone(), mode.clone())).collect::<Map<_, _>>().into();
    } else if !resources.is_empty() {
        body["tools"] = json!({});
    }
    if !resources.is_empty() {
        body["resources"] = json!(resources);
    }
    if let Some(campaign) = campaign {
        body["campaign"] = json!(campaign);
    }
    body
}

fn print_list(found: &Value) {
    let mut table = Table::new(&["GRANT", "SKILL", "SLOT", "SERVER", "TOOLS", "STATE"]);
    for grant in list(found, "grants") {
        let tools: Vec<String> = grant.get("tools").and_then(Value::as_object).map_or(Vec::new(), |tools| {
            tools.iter().map(|(name, policy)| format!("{name} ({})", text(policy, "/mode"))).collect()
        });
        let state = if text(grant, "/revoked_at").is_empty() { "active" } else { "revoked" };
        table.row([
            text(grant, "/id"),
            text(grant, "/skill"),
            text(grant, "/slot"),
            text(grant, "/server"),
            &tools.join(", "),
            state,
        ]);
    }
    table.print("Nothing is granted. A skill reaches nothing until you grant it: `chimera grant add --help`.");
}

fn explain(told: &Value) {
    let style = Style::stdout();
    let is_allowed = told.get("allowed").and_then(Value::as_bool).unwrap_or(false);
    say(&if is_allowed { style.green("allowed") } else { style.red("denied") });
    for name in ["reason", "fix", "command"] {
        let line = text(told, &format!("/{name}"));
        if !line.is_empty() {
            say(&format!("{name}: {}", one_line(line, 600)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_named_is_left_to_the_server() {
        let body = new_grant("a/b", "s", "v", &[], &[], None, None);
        assert_eq!(body, json!({ "skill": "a/b", "slot": "s", "server": "v" }));
        let body = new_grant("a/b", "s", "v", &["t".into()], &[], Some(ModeArg::EffectWithApproval), Some("c"));
        assert_eq!(body["tools"], json!({ "t": "effect-with-approval" }));
        assert_eq!(body["campaign"], json!("c"));
        let body = new_grant("a/b", "s", "v", &["t".into()], &["r".into()], None, None);
        assert_eq!((&body["tools"], &body["resources"]), (&json!({ "t": null }), &json!(["r"])));
    }
}
