//! The gateway: the operator's servers, and a port to them for each run.
//!
//! It owns the connections and shows their tools to the operator; what a run may do with them its port decides, by grant
//! and ledger. It stores nothing of its own. Made once by the binary; called by the agents, the API and the CLI.

use crate::client::{Age, CallError};
use crate::config::ServerCatalog;
use crate::pool::{Pool, Server, ServerStatus};
use crate::port::GatewayPort;
use crate::tool::ServerTool;
use chimera_core::audit::{Actor, AuditDraft, ReviewStatus};
use chimera_core::change::Change;
use chimera_core::clock::Clock;
use chimera_core::digest::Digest;
use chimera_core::grant::{ToolMode, ToolPolicy, Want};
use chimera_core::ids::IdSource;
use chimera_core::manifest::Manifest;
use chimera_core::ports::{Invocation, McpGateway, McpPort, ToolCall, Truth};
use chimera_core::skill::SkillName;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// The operator's servers and the ports to them. Cheap to clone; needs a tokio runtime.
#[derive(Clone)]
pub struct Gateway(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) truth: Arc<dyn Truth>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn IdSource>,
    pub(crate) pool: Pool,
    quarantined: Mutex<BTreeSet<(String, String, Option<Digest>)>>,
}

/// Why the gateway cannot show or propose something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GatewayError {
    /// No server of that name is configured.
    #[error("there is no MCP server `{name}`; configured are: {}. Add it to chimera.toml as [mcp.servers.{name}]", list(.known))]
    UnknownServer {
        /// The name.
        name: String,
        /// The configured ones.
        known: Vec<String>,
    },
    /// The server could not be started or did not answer.
    #[error("MCP server `{server}`: {problem}")]
    Unreachable {
        /// The server.
        server: String,
        /// What stood in the way.
        problem: String,
    },
    /// The skill's manifest has no such slot.
    #[error("`{skill}` declares no slot `{slot}`; it declares: {}", list(.declared))]
    UndeclaredSlot {
        /// The skill.
        skill: SkillName,
        /// The slot.
        slot: String,
        /// The declared ones.
        declared: Vec<String>,
    },
    /// A mode was given for a tool that the manifest does not declare.
    #[error("`{skill}` declares no tool `{tool}` on slot `{slot}`; a grant cannot widen a manifest")]
    UndeclaredTool {
        /// The skill.
        skill: SkillName,
        /// The slot.
        slot: String,
        /// The tool.
        tool: String,
    },
    /// The server offers not all that the skill wants.
    #[error("MCP server `{server}` has no tool {}; it has: {}", list(.missing), list(.offered))]
    MissingTools {
        /// The server.
        server: String,
        /// What the skill wants and the server does not have.
        missing: Vec<String>,
        /// What the server has.
        offered: Vec<String>,
    },
}

fn list(names: &[String]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    let shown: Vec<String> =
        names.iter().take(20).map(|name| format!("`{}`", chimera_core::text::printable(name))).collect();
    let more = if names.len() > 20 { format!(" and {} more", names.len() - 20) } else { String::new() };
    format!("{}{more}", shown.join(", "))
}

impl Gateway {
    /// A gateway to the servers of a catalog. Starts none of them: the first call does. The runtime
    /// in which this is called keeps the connections.
    pub fn new(truth: Arc<dyn Truth>, clock: Arc<dyn Clock>, ids: Arc<dyn IdSource>, catalog: &ServerCatalog) -> Self {
        let (pool, quarantined) = (Pool::new(catalog), Mutex::default());
        Self(Arc::new(Inner { truth, clock, ids, pool, quarantined }))
    }

    /// Every configured server and where it is. Starts none.
    pub fn servers(&self) -> Vec<ServerStatus> {
        self.0.pool.statuses()
    }

    /// The tools of a server, asked for now; starts it if need be. Takes at most the server's start and call limits.
    ///
    /// # Errors
    /// [`GatewayError::UnknownServer`] and [`GatewayError::Unreachable`].
    pub async fn tools(&self, server: &str) -> Result<Vec<ServerTool>, GatewayError> {
        let slot = self.0.server(server)?;
        let unreachable =
            |error: CallError| GatewayError::Unreachable { server: server.to_owned(), problem: error.to_string() };
        let live = slot.live(Instant::now() + slot.config.start_timeout).await.map_err(unreachable)?;
        let table = live.tools(Instant::now() + slot.config.call_timeout, Age::Now).await.map_err(unreachable)?;
        Ok(table.values().cloned().collect())
    }

    /// What a grant of a slot on a server would be: every tool that the manifest declares, pinned as it is now; read-only
    /// where the server says so, an effect that asks a human otherwise. `overrides` sets the mode of single tools.
    ///
    /// # Errors
    /// [`GatewayError`], also when the server does not have a tool that the slot declares.
    pub async fn propose_grant(
        &self,
        manifest: &Manifest,
        slot: &str,
        server: &str,
        overrides: &BTreeMap<String, ToolMode>,
    ) -> Result<BTreeMap<String, ToolPolicy>, GatewayError> {
        let skill = &manifest.skill.name;
        let declared = manifest.capabilities.slot(slot).ok_or_else(|| GatewayError::UndeclaredSlot {
            skill: skill.clone(),
            slot: chimera_core::text::truncated(slot.to_owned(), 64),
            declared: manifest.capabilities.mcp.iter().map(|slot| slot.slot.clone()).collect(),
        })?;
        if let Some(tool) = overrides.keys().find(|tool| !declared.tools.contains(*tool)) {
            return Err(GatewayError::UndeclaredTool {
                skill: skill.clone(),
                slot: slot.to_owned(),
                tool: tool.clone(),
            });
        }
        let offered: BTreeMap<String, ServerTool> =
            self.tools(server).await?.into_iter().map(|tool| (tool.info.name.clone(), tool)).collect();
        let missing: Vec<String> = declared.tools.iter().filter(|tool| !offered.contains_key(*tool)).cloned().collect();
        if !missing.is_empty() {
            let offered = offered.into_keys().collect();
            return Err(GatewayError::MissingTools { server: server.to_owned(), missing, offered });
        }
        let policy = |name: &String| {
            let tool = offered.get(name)?;
            let suggested = if tool.read_only_hint { ToolMode::Read } else { ToolMode::EffectWithApproval };
            let mode = overrides.get(name).copied().unwrap_or(suggested);
            Some((name.clone(), ToolPolicy { mode, pin: Some(tool.pin) }))
        };
        Ok(declared.tools.iter().filter_map(policy).collect())
    }

    /// Ends every server. Calls after this are refused; an effect that was under way stays an intent.
    pub async fn shutdown(&self) {
        self.0.pool.close().await;
    }
}

impl McpGateway for Gateway {
    fn open(&self, invocation: Invocation) -> Arc<dyn McpPort> {
        Arc::new(GatewayPort::new(self.0.clone(), invocation))
    }
}

impl Inner {
    pub(crate) fn server(&self, name: &str) -> Result<&Arc<Server>, GatewayError> {
        self.pool
            .get(name)
            .ok_or_else(|| GatewayError::UnknownServer { name: name.to_owned(), known: self.pool.names() })
    }

    /// Tells the operator, once for each change, that a granted tool is not what it was.
    pub(crate) async fn quarantine(&self, run: &Invocation, call: &ToolCall, server: &str, now: Option<&ServerTool>) {
        let mark = (server.to_owned(), call.tool.clone(), now.map(|tool| tool.pin));
        if !self.quarantined.lock().unwrap_or_else(PoisonError::into_inner).insert(mark) {
            return;
        }
        tracing::warn!(
            server,
            tool = call.tool,
            "a granted tool has changed; calls of it are denied until it is granted again"
        );
        let mut change = Change::new();
        let detail = json!({
            "skill": run.skill.name, "slot": call.slot, "server": server, "tool": call.tool,
            "pin_now": now.map(|tool| tool.pin),
        });
        let event = AuditDraft::new("grant.tool_changed", Actor::Worker(run.agent), self.clock.now());
        change.audit(event.about(run.campaign, Some(run.task)).review(ReviewStatus::Pending).detail(detail));
        if let Err(error) = self.truth.commit(change).await {
            tracing::error!(%error, "the change of a granted tool could not be written to the audit log");
        }
    }
}

/// The command with which an operator grants what a skill wants.
pub fn grant_command(skill: &SkillName, slot: &str, server: &str, want: Want<'_>) -> String {
    let command = format!("chimera grant add {skill} --slot {slot} --server {server}");
    match want {
        Want::Tool(tool) => format!("{command} --tool {}", quoted(tool)),
        Want::Resource(uri) => format!("{command} --resource {}", quoted(uri)),
        Want::List => command,
    }
}

/// One word of a shell command.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+=,".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may end with a panic")]

    use super::*;

    #[test]
    fn the_command_can_be_pasted() {
        let skill: SkillName = "acme/x".parse().unwrap();
        let command = grant_command(&skill, "s", "social", Want::Tool("publish_post"));
        assert_eq!(command, "chimera grant add acme/x --slot s --server social --tool publish_post");
        let hostile = grant_command(&skill, "s", "social", Want::Tool("a'; rm -rf / #"));
        assert!(hostile.ends_with(r"--tool 'a'\''; rm -rf / #'"), "{hostile}");
    }
}
