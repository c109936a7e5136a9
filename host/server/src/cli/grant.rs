//! `chimera grant`: which skill may use which tools of which server, and call which other skills.
//!
//! The server checks and keeps grants; this module only asks and shows. Called by the dispatcher.

use super::client::segment;
use super::error::{CliError, CliResult, Exit};
use super::output::{Style, Table, one_line, say};
use super::{Env, list, text};
use chimera_agents::planner::campaign_file::parse_skill;
use chimera_core::clock::{Clock, SystemClock, Timestamp};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Map, Value, json};
use std::time::Duration;

/// How a granted tool is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ModeArg {
    /// It changes nothing
    Read,
    /// It changes the world, and a human sees it first
    EffectWithApproval,
    /// It changes the world, without asking
    Effect,
}

impl ModeArg {
    /// The mode's name on the wire.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::EffectWithApproval => "effect-with-approval",
            Self::Effect => "effect",
        }
    }
}

/// `chimera grant …`
#[derive(Debug, Subcommand)]
pub(crate) enum GrantCommand {
    /// What is granted
    List,
    /// Let a skill use tools of a server, or call another skill
    #[command(after_help = "Examples:\n  chimera grant add chimera/publish-post --slot social --server social \
                            --tool publish_post\n  chimera grant add acme/report --skill chimera/summarize@^0.1")]
    Add(NewGrant),
    /// Take a grant back
    Revoke {
        /// The grant
        id: String,
    },
    /// Why a call is allowed, or is not
    Explain(Explained),
}

/// `chimera grant add …`
#[derive(Debug, Default, Args)]
pub(crate) struct NewGrant {
    /// The skill that may: namespace/name
    #[arg(value_name = "SKILL")]
    pub(super) who: String,
    /// The slot of its manifest (with --server)
    #[arg(long)]
    pub(super) slot: Option<String>,
    /// The configured MCP server that the slot is bound to
    #[arg(long)]
    pub(super) server: Option<String>,
    /// A tool it may call (repeatable) [default: every tool and resource that the manifest declares]
    #[arg(long = "tool")]
    pub(super) tools: Vec<String>,
    /// A resource it may read (repeatable)
    #[arg(long = "resource")]
    pub(super) resources: Vec<String>,
    /// How these tools are treated [default: what the server says of each, and an effect with approval otherwise]
    #[arg(long, value_enum, requires = "tools")]
    pub(super) mode: Option<ModeArg>,
    /// The other skill that it may call: namespace/name, with @REQUIREMENT if not in every version
    #[arg(long = "skill", value_name = "CALLEE[@REQ]")]
    pub(super) callee: Option<String>,
    /// Only within this campaign
    #[arg(long, value_name = "ID")]
    pub(super) campaign: Option<String>,
    /// Only until then: a span such as 90m, 12h or 7d, or an RFC 3339 time
    #[arg(long, value_name = "WHEN", value_parser = expiry)]
    pub(super) expires: Option<Timestamp>,
}

/// `chimera grant explain …`
#[derive(Debug, Args)]
pub(crate) struct Explained {
    /// The skill that would call: namespace/name
    #[arg(value_name = "SKILL")]
    who: String,
    /// The slot
    #[arg(long, requires = "tool", required_unless_present = "callee", conflicts_with = "callee")]
    slot: Option<String>,
    /// The tool
    #[arg(long, requires = "slot", conflicts_with = "callee")]
    tool: Option<String>,
    /// The other skill, instead of a slot and a tool
    #[arg(long = "skill", value_name = "CALLEE")]
    callee: Option<String>,
}

/// A moment, or a span from now.
fn expiry(text: &str) -> Result<Timestamp, String> {
    let span = text.char_indices().next_back().and_then(|(end, unit)| {
        let seconds = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            _ => return None,
        };
        text[..end].parse::<u64>().ok()?.checked_mul(seconds)
    });
    match span {
        Some(seconds) => Ok(SystemClock.now().plus(Duration::from_secs(seconds))),
        None => Timestamp::parse(text).map_err(|problem| format!("{problem}, or a span such as 90m, 12h or 7d")),
    }
}

pub(super) async fn run(env: Env, command: GrantCommand) -> CliResult {
    match command {
        GrantCommand::List => {
            let found = env.client()?.get("/api/v1/grants", &[]).await?;
            env.show(&found, print_list);
        }
        GrantCommand::Add(new) => {
            let body = new.body()?;
            let made = env.client()?.post("/api/v1/grants", &body).await?;
            env.show(&made, |made| {
                let id = text(made, "/id");
                let (what, of) = permitted(made);
                let who = &new.who;
                let told = if text(made, "/callee").is_empty() {
                    format!("{who} may use {what}: {of}")
                } else {
                    format!("{who} may call {what}, {of}")
                };
                say(&format!("Granted: {told}. Take it back with `chimera grant revoke {id}`."));
            });
        }
        GrantCommand::Revoke { id } => {
            let done = env.client()?.delete(&format!("/api/v1/grants/{}", segment(&id))).await?;
            env.show(&done, |_| say(&format!("Revoked: {id}")));
        }
        GrantCommand::Explain(asked) => {
            let named = [("slot", &asked.slot), ("tool", &asked.tool), ("callee", &asked.callee)];
            let named = named.iter().filter_map(|(key, value)| Some((*key, value.as_deref()?)));
            let query: Vec<(&str, &str)> = std::iter::once(("skill", asked.who.as_str())).chain(named).collect();
            let told = env.client()?.get("/api/v1/grants/explain", &query).await?;
            env.show(&told, explain);
            let is_allowed = told.get("allowed").and_then(Value::as_bool).unwrap_or(false);
            return Ok(if is_allowed { Exit::Done } else { Exit::Refused });
        }
    }
    Ok(Exit::Done)
}

impl NewGrant {
    /// A grant of a slot, as the manifest declares it.
    pub(super) fn of_slot(who: &str, slot: &str, server: &str) -> Self {
        let named = |name: &str| Some(name.to_owned());
        Self { who: who.to_owned(), slot: named(slot), server: named(server), ..Self::default() }
    }

    /// The body of the request; what is not named is left to the server, which takes what the manifest declares.
    pub(super) fn body(&self) -> CliResult<Value> {
        let mut body = json!({ "skill": self.who });
        let names_tools = !self.tools.is_empty() || !self.resources.is_empty();
        match (&self.callee, &self.slot, &self.server) {
            (Some(callee), None, None) if !names_tools => {
                let usage = |problem| CliError::usage(problem, "name the skill that may be called as namespace/name");
                let (callee, version) = parse_skill(callee).map_err(usage)?;
                body["callee"] = json!(callee);
                if let Some(version) = version {
                    body["version"] = json!(version);
                }
            }
            (None, Some(slot), Some(server)) => {
                body["slot"] = json!(slot);
                body["server"] = json!(server);
                self.name_tools(&mut body);
            }
            (Some(_), ..) => {
                let what = "a grant is for tools or for another skill, and this names both";
                return Err(CliError::usage(what, "make two grants: one with --slot and --server, one with --skill"));
            }
            (None, ..) => {
                let what = format!("this does not say what {} may do", self.who);
                let fix = "name --slot and --server to let it use tools, or --skill to let it call another skill";
                return Err(CliError::usage(what, fix));
            }
        }
        if let Some(campaign) = &self.campaign {
            body["campaign"] = json!(campaign);
        }
        if let Some(end) = self.expires {
            body["expires_at"] = json!(end);
        }
        Ok(body)
    }

    fn name_tools(&self, body: &mut Value) {
        if !self.tools.is_empty() {
            let mode = self.mode.map_or(Value::Null, |mode| json!(mode.as_str()));
            body["tools"] = self.tools.iter().map(|tool| (tool.clone(), mode.clone())).collect::<Map<_, _>>().into();
        } else if !self.resources.is_empty() {
            body["tools"] = json!({});
        }
        if !self.resources.is_empty() {
            body["resources"] = json!(self.resources);
        }
    }
}

/// What a grant is for, and which tools or versions of it.
fn permitted(grant: &Value) -> (String, String) {
    let callee = text(grant, "/callee");
    if !callee.is_empty() {
        let of = match text(grant, "/version") {
            "*" => "every version".to_owned(),
            version => format!("versions {version}"),
        };
        return (format!("skill {callee}"), of);
    }
    let tools = grant.get("tools").and_then(Value::as_object).map_or(Vec::new(), |tools| {
        tools.iter().map(|(name, policy)| format!("{name} ({})", text(policy, "/mode"))).collect()
    });
    let resources = list(grant, "resources").iter().filter_map(Value::as_str).map(str::to_owned);
    let of: Vec<String> = tools.into_iter().chain(resources).collect();
    (format!("server {} through slot {}", text(grant, "/server"), text(grant, "/slot")), of.join(", "))
}

fn state(grant: &Value, now: Timestamp) -> String {
    let end = text(grant, "/expires_at");
    if !text(grant, "/revoked_at").is_empty() {
        "revoked".to_owned()
    } else if end.is_empty() {
        "active".to_owned()
    } else if Timestamp::parse(end).is_ok_and(|end| end <= now) {
        "expired".to_owned()
    } else {
        format!("until {end}")
    }
}

fn print_list(found: &Value) {
    let now = SystemClock.now();
    let mut table = Table::new(&["GRANT", "SKILL", "MAY USE", "OF IT", "STATE"]);
    for grant in list(found, "grants") {
        let (what, of) = permitted(grant);
        table.row([text(grant, "/id"), text(grant, "/skill"), &what, &of, &state(grant, now)]);
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
    #![allow(clippy::unwrap_used, reason = "a test may end with a panic")]

    use super::*;

    #[test]
    fn what_is_not_named_is_left_to_the_server() {
        let slot = || NewGrant::of_slot("a/b", "s", "v");
        assert_eq!(slot().body().unwrap(), json!({ "skill": "a/b", "slot": "s", "server": "v" }));
        let tools = NewGrant {
            tools: vec!["t".into()],
            mode: Some(ModeArg::EffectWithApproval),
            campaign: Some("c".into()),
            ..slot()
        };
        let body = tools.body().unwrap();
        assert_eq!(body["tools"], json!({ "t": "effect-with-approval" }));
        assert_eq!(body["campaign"], json!("c"));
        let both = NewGrant { tools: vec!["t".into()], resources: vec!["r".into()], ..slot() };
        let body = both.body().unwrap();
        assert_eq!((&body["tools"], &body["resources"]), (&json!({ "t": null }), &json!(["r"])));
        let call = |callee: &str| NewGrant { who: "a/b".into(), callee: Some(callee.into()), ..NewGrant::default() };
        assert_eq!(call("c/d").body().unwrap(), json!({ "skill": "a/b", "callee": "c/d" }));
        let body = call("c/d@^0.1").body().unwrap();
        assert_eq!((&body["callee"], &body["version"]), (&json!("c/d"), &json!("^0.1")));
    }

    #[test]
    fn a_grant_is_of_one_kind() {
        let both = NewGrant { callee: Some("c/d".into()), ..NewGrant::of_slot("a/b", "s", "v") };
        let half = NewGrant { server: None, ..NewGrant::of_slot("a/b", "s", "v") };
        let tool =
            NewGrant { who: "a/b".into(), callee: Some("c/d".into()), tools: vec!["t".into()], ..Default::default() };
        let wrong = NewGrant { who: "a/b".into(), callee: Some("c/d@what".into()), ..NewGrant::default() };
        let neither = NewGrant { who: "a/b".into(), ..NewGrant::default() };
        for (new, told) in
            [(both, "both"), (half, "does not say"), (tool, "both"), (wrong, "what"), (neither, "does not")]
        {
            let error = new.body().unwrap_err();
            assert_eq!(error.exit, Exit::Usage);
            assert!(error.what.contains(told) && !error.fix.is_empty(), "{error:?}");
        }
    }

    #[test]
    fn an_expiry_is_a_moment_or_a_span() {
        let now = SystemClock.now();
        let day = expiry("1d").unwrap().since(now);
        assert!((86_400..86_500).contains(&day.as_secs()), "{day:?}");
        assert_eq!(expiry("2030-01-01T00:00:00Z").unwrap().to_string(), "2030-01-01T00:00:00Z");
        for bad in ["", "d", "tomorrow", "-1h", "99999999999999999999h", "5µ"] {
            assert!(expiry(bad).unwrap_err().contains("7d"), "{bad}");
        }
    }

    #[test]
    fn both_kinds_are_listed() {
        let call = json!({ "callee": "c/d", "version": "^0.1", "expires_at": "2030-01-01T00:00:00Z" });
        assert_eq!(permitted(&call), ("skill c/d".to_owned(), "versions ^0.1".to_owned()));
        assert_eq!(state(&call, Timestamp::EPOCH), "until 2030-01-01T00:00:00Z");
        assert_eq!(state(&call, Timestamp::MAX), "expired");
        let slot = json!({ "slot": "s", "server": "v", "tools": { "t": { "mode": "read" } }, "resources": ["r:1"] });
        assert_eq!(permitted(&slot), ("server v through slot s".to_owned(), "t (read), r:1".to_owned()));
        assert_eq!(state(&slot, Timestamp::MAX), "active");
        assert_eq!(state(&json!({ "revoked_at": "2030-01-01T00:00:00Z" }), Timestamp::EPOCH), "revoked");
    }
}
