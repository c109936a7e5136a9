//! Grants: what a skill may do through which slot and which other skills it may call, given, taken back and explained.
//!
//! A grant names tools as they are now (each is pinned) and never widens a manifest. Nothing is decided here about a
//! call: the gateway and the worker do that, by the same rules that `explain` shows. Called by the CLI and by people.

use super::extract::{Body, Id, Params};
use super::{AppState, Problem};
use crate::auth::Caller;
use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use chimera_agents::planner::{list_names, nearest_names};
use chimera_core::audit::AuditDraft;
use chimera_core::change::{Change, Context, Write};
use chimera_core::clock::Timestamp;
use chimera_core::grant::{
    Asker, CallGrant, Calling, Grant, Permits, SlotGrant, ToolMode, ToolPolicy, Want, call_command, calling, covering,
};
use chimera_core::ids::{CampaignId, GrantId};
use chimera_core::manifest::Manifest;
use chimera_core::skill::{SkillName, SkillState};
use chimera_mcp::grant_command;
use semver::VersionReq;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use utoipa::ToSchema;

/// The body of `POST /api/v1/grants`: `slot` and `server`, or `callee`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewGrant {
    /// The skill: `namespace/name`.
    #[schema(value_type = String)]
    skill: SkillName,
    /// Only within this campaign; in every campaign if absent.
    #[schema(value_type = Option<String>)]
    campaign: Option<CampaignId>,
    /// From this moment on it covers nothing (RFC 3339); for good if absent.
    #[schema(value_type = Option<String>)]
    expires_at: Option<Timestamp>,
    /// The slot of its manifest.
    slot: Option<String>,
    /// The configured MCP server that the slot is bound to.
    server: Option<String>,
    /// The tools it may call, each with `read`, `effect-with-approval` or `effect`; null for what the server suggests.
    /// Every declared tool if absent.
    #[schema(value_type = Option<std::collections::BTreeMap<String, Option<String>>>)]
    tools: Option<BTreeMap<String, Option<ToolMode>>>,
    /// The resources it may read; every declared one if this and `tools` are absent, none if only this is.
    resources: Option<BTreeSet<String>>,
    /// The other skill that it may call: `namespace/name`.
    #[schema(value_type = Option<String>)]
    callee: Option<SkillName>,
    /// Which versions of the callee, such as `^0.1`; every one if absent.
    #[schema(value_type = Option<String>)]
    version: Option<VersionReq>,
}

/// What a new grant is to permit, before it is held against the manifest.
enum Wished {
    Slot(WishedSlot),
    Call(CallGrant),
}

struct WishedSlot {
    slot: String,
    server: String,
    tools: Option<BTreeMap<String, Option<ToolMode>>>,
    resources: Option<BTreeSet<String>>,
}

impl NewGrant {
    /// Which of the two kinds it is.
    fn wished(&mut self) -> Result<Wished, Problem> {
        let (slot, server) = (self.slot.take(), self.server.take());
        let (tools, resources) = (self.tools.take(), self.resources.take());
        let names_a_slot = slot.is_some() || server.is_some() || tools.is_some() || resources.is_some();
        match (self.callee.take(), self.version.take(), slot, server) {
            (Some(callee), version, ..) if !names_a_slot => {
                Ok(Wished::Call(CallGrant { callee, version: version.unwrap_or(VersionReq::STAR) }))
            }
            (None, None, Some(slot), Some(server)) => Ok(Wished::Slot(WishedSlot { slot, server, tools, resources })),
            (Some(_), ..) => {
                let detail = "a grant permits a slot or a callee, not both: make two grants of it";
                Err(Problem::unacceptable("grant-of-both-kinds", detail))
            }
            (None, ..) => {
                let detail = "a grant needs `slot` and `server` to let the skill use tools, or `callee` (and `version`, if \
                              not all) to let it call another skill";
                Err(Problem::unacceptable("grant-of-neither-kind", detail))
            }
        }
    }
}

/// The query of `GET /api/v1/grants`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GrantsQuery {
    skill: Option<SkillName>,
}

/// The query of `GET /api/v1/grants/explain`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExplainQuery {
    skill: SkillName,
    slot: Option<String>,
    tool: Option<String>,
    callee: Option<SkillName>,
    campaign: Option<CampaignId>,
}

/// `GET /api/v1/grants`
pub(super) async fn list(
    State(state): State<AppState>,
    Params(query): Params<GrantsQuery>,
) -> Result<Json<Value>, Problem> {
    Ok(Json(json!({ "grants": state.truth().grants(query.skill.as_ref()).await? })))
}

/// `POST /api/v1/grants`
pub(super) async fn create(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    Body(mut new): Body<NewGrant>,
) -> Result<(StatusCode, Json<Grant>), Problem> {
    let wished = new.wished()?;
    let manifest = newest_manifest(&state, &new.skill).await?;
    if let Some(campaign) = new.campaign {
        state.truth().campaign(campaign).await?.ok_or_else(|| Problem::not_found("campaign", campaign))?;
    }
    let permits = match wished {
        Wished::Slot(wished) => Permits::Slot(granted_slot(&state, wished, &manifest).await?),
        Wished::Call(wished) => Permits::Call(granted_call(&state, wished, &manifest).await?),
    };
    let cx = state.context(&caller);
    if let Some(end) = new.expires_at.filter(|end| *end <= cx.now) {
        let detail = format!("the grant would have expired already, at {end}: name a later moment, or none");
        return Err(Problem::unacceptable("expired", detail));
    }
    let grant = Grant {
        id: GrantId::new(cx.ids),
        skill: new.skill,
        campaign: new.campaign,
        permits,
        granted_by: cx.actor.clone(),
        granted_at: cx.now,
        expires_at: new.expires_at,
        revoked_at: None,
    };
    let mut change = Change::new();
    change.audit(event("grant.added", &grant, &cx));
    change.write(Write::PutGrant(grant.clone()));
    state.commit(change).await?;
    Ok((StatusCode::CREATED, Json(grant)))
}

async fn granted_slot(state: &AppState, wished: WishedSlot, manifest: &Manifest) -> Result<SlotGrant, Problem> {
    let resources = granted_resources(&wished, manifest)?;
    let tools = granted_tools(state, &wished, manifest).await?;
    Ok(SlotGrant { slot: wished.slot, server: wished.server, tools, resources })
}

/// A call that the manifest declares, of a skill that is there.
async fn granted_call(state: &AppState, wished: CallGrant, manifest: &Manifest) -> Result<CallGrant, Problem> {
    let declared = &manifest.capabilities.skills;
    if !declared.iter().any(|skill| skill.name == wished.callee) {
        let detail = format!(
            "`{}` does not declare that it calls `{}`, and a grant cannot widen a manifest; it declares: {}",
            manifest.skill.name,
            wished.callee,
            listed(&declared.iter().map(|skill| skill.name.to_string()).collect())
        );
        return Err(Problem::unacceptable("undeclared-skill", detail));
    }
    newest_manifest(state, &wished.callee).await?;
    Ok(wished)
}

/// The named tools as the server offers them now; every declared one if none is named.
async fn granted_tools(
    state: &AppState,
    new: &WishedSlot,
    manifest: &Manifest,
) -> Result<BTreeMap<String, ToolPolicy>, Problem> {
    let wished = new.tools.clone().unwrap_or_default();
    if let Some(slot) = manifest.capabilities.slot(&new.slot)
        && let Some(tool) = wished.keys().find(|tool| !slot.tools.contains(*tool))
    {
        let detail = format!(
            "`{}` declares no tool `{tool}` on slot `{}`, and a grant cannot widen a manifest; it declares: {}",
            manifest.skill.name,
            new.slot,
            listed(&slot.tools)
        );
        return Err(Problem::unacceptable("undeclared-tool", detail));
    }
    let modes = wished.iter().filter_map(|(tool, mode)| Some((tool.clone(), (*mode)?))).collect();
    let mut tools = state.handles().gateway.propose_grant(manifest, &new.slot, &new.server, &modes).await?;
    if new.tools.is_some() {
        tools.retain(|tool, _| wished.contains_key(tool));
    }
    Ok(tools)
}

fn granted_resources(new: &WishedSlot, manifest: &Manifest) -> Result<BTreeSet<String>, Problem> {
    let declared = manifest.capabilities.slot(&new.slot).map(|slot| slot.resources.clone()).unwrap_or_default();
    match (&new.resources, &new.tools) {
        (None, None) => Ok(declared),
        (None, Some(_)) => Ok(BTreeSet::new()),
        (Some(wished), _) => match wished.iter().find(|uri| !declared.contains(*uri)) {
            None => Ok(wished.clone()),
            Some(uri) => {
                let detail = format!(
                    "`{}` declares no resource `{uri}` on slot `{}`; it declares: {}",
                    manifest.skill.name,
                    new.slot,
                    listed(&declared)
                );
                Err(Problem::unacceptable("undeclared-resource", detail))
            }
        },
    }
}

/// Names for people.
fn listed(names: &BTreeSet<String>) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// The manifest of the newest version that may be run, else of the newest. Who mistyped the name is told the nearest.
async fn newest_manifest(state: &AppState, skill: &SkillName) -> Result<Arc<Manifest>, Problem> {
    let versions = state.truth().skills(Some(skill)).await?;
    let newest = versions.into_iter().max_by(|a, b| {
        (a.state == SkillState::Active, &a.skill.version).cmp(&(b.state == SkillState::Active, &b.skill.version))
    });
    if let Some(newest) = newest {
        return Ok(newest.manifest);
    }
    let installed = state.truth().skills(None).await?;
    let near = nearest_names(skill.as_str(), installed.iter().map(|version| &version.skill.name));
    let hint = if near.is_empty() {
        "install it with `chimera skill install FILE`".to_owned()
    } else {
        format!("did you mean {}? Or install it with `chimera skill install FILE`", list_names(&near))
    };
    Err(Problem::not_found("installed skill", skill).with("fix", hint))
}

/// `DELETE /api/v1/grants/{id}`; taking back what was taken back changes nothing.
pub(super) async fn revoke(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    Id(id): Id<GrantId>,
) -> Result<Json<Grant>, Problem> {
    let grant = state.truth().grant(id).await?.ok_or_else(|| Problem::not_found("grant", id))?;
    if grant.revoked_at.is_some() {
        return Ok(Json(grant));
    }
    let cx = state.context(&caller);
    let revoked = Grant { revoked_at: Some(cx.now), ..grant };
    let mut change = Change::new();
    change.audit(event("grant.revoked", &revoked, &cx));
    change.write(Write::PutGrant(revoked.clone()));
    state.commit(change).await?;
    Ok(Json(revoked))
}

fn event(action: &'static str, grant: &Grant, cx: &Context<'_>) -> AuditDraft {
    let mut detail = match &grant.permits {
        Permits::Slot(slot) => json!({
            "slot": slot.slot, "server": slot.server,
            "tools": slot.tools.iter().map(|(name, policy)| (name.clone(), policy.mode)).collect::<BTreeMap<_, _>>(),
            "resources": slot.resources,
        }),
        Permits::Call(call) => json!(call),
    };
    detail["grant"] = json!(grant.id);
    detail["skill"] = json!(grant.skill);
    if let Some(end) = grant.expires_at {
        detail["expires_at"] = json!(end);
    }
    cx.event(action).about(grant.campaign, None).detail(detail)
}

/// `GET /api/v1/grants/explain`: the rule of the gateway and of the worker, step by step.
pub(super) async fn explain(
    State(state): State<AppState>,
    Params(query): Params<ExplainQuery>,
) -> Result<Json<Value>, Problem> {
    let ExplainQuery { skill, slot, tool, callee, campaign } = query;
    let wanted = match (slot, tool, callee) {
        (Some(slot), Some(tool), None) => Call::Tool { slot, tool },
        (None, None, Some(callee)) => Call::Skill(callee),
        _ => return Err(Problem::bad_request("invalid-query", "name a `slot` and a `tool`, or a `callee`")),
    };
    let manifest = newest_manifest(&state, &skill).await?;
    let grants = state.truth().grants(Some(&skill)).await?;
    let asked = Asked { manifest: &manifest, grants: &grants, campaign, now: state.now() };
    match wanted {
        Call::Tool { slot, tool } => asked.tool(&state, &slot, &tool).await.map(Json),
        Call::Skill(callee) => asked.call(&state, &callee).await.map(Json),
    }
}

/// The call that is asked about.
enum Call {
    Tool { slot: String, tool: String },
    Skill(SkillName),
}

/// What is explained: a skill, and what was granted to it.
struct Asked<'a> {
    manifest: &'a Manifest,
    grants: &'a [Grant],
    campaign: Option<CampaignId>,
    now: Timestamp,
}

fn denied(reason: impl Into<String>, fix: impl Into<String>) -> Value {
    json!({ "allowed": false, "reason": reason.into(), "fix": fix.into() })
}

impl Asked<'_> {
    fn asker(&self) -> Asker<'_> {
        Asker { skill: &self.manifest.skill.name, campaign: self.campaign, now: self.now }
    }

    /// Why nothing covers it, when there was a grant of it.
    fn missing(&self, names: impl Fn(&Grant) -> bool) -> &'static str {
        let over = |grant: &&Grant| !grant.is_in_force(self.now) && names(grant);
        match self.grants.iter().filter(over).max_by_key(|grant| grant.granted_at) {
            None => "no grant covers it",
            Some(newest) if newest.revoked_at.is_some() => "the grant was taken back",
            Some(_) => "the grant has expired",
        }
    }

    async fn tool(&self, state: &AppState, slot: &str, tool: &str) -> Result<Value, Problem> {
        let (skill, version) = (&self.manifest.skill.name, &self.manifest.skill.version);
        let Some(declared) = self.manifest.capabilities.slot(slot) else {
            let reason = format!("{skill}@{version} declares no slot `{slot}`; calling it is a security violation");
            return Ok(denied(reason, "declare the slot in skill.toml and install a new version"));
        };
        if !declared.tools.contains(tool) {
            let reason = format!(
                "{skill}@{version} does not declare the tool `{tool}` on slot `{slot}`; calling it is a security \
                 violation"
            );
            return Ok(denied(reason, "declare the tool in skill.toml and install a new version"));
        }
        let Some((grant, permitted)) = covering(self.grants, self.asker(), slot, Want::Tool(tool)) else {
            let names = |grant: &Grant| {
                grant.slot().is_some_and(|permitted| permitted.slot == slot && permitted.tools.contains_key(tool))
            };
            let command = grant_command(skill, slot, "SERVER", Want::Tool(tool));
            return Ok(denied(format!("{skill}@{version} declares it, but {}", self.missing(names)), command));
        };
        let mode = permitted.tools.get(tool).map(|policy| policy.mode);
        let (is_allowed, reason) = match check_pin(state, permitted, tool).await {
            Pin::Same => (true, reason_of(mode)),
            Pin::Unknown(problem) => (
                true,
                format!(
                    "{}; whether the tool is still what was granted cannot be said now: {problem}",
                    reason_of(mode)
                ),
            ),
            Pin::Changed => (
                false,
                "the server's tool is no longer what was granted: its name, description or schema changed".to_owned(),
            ),
        };
        let mut told = json!({ "allowed": is_allowed, "reason": reason, "mode": mode, "grant": grant });
        if !is_allowed {
            let server = &permitted.server;
            let command = grant_command(skill, slot, server, Want::Tool(tool));
            told["fix"] = json!(format!("look at the tool with `chimera mcp tools {server}`, then: {command}"));
        }
        Ok(told)
    }

    async fn call(&self, state: &AppState, callee: &SkillName) -> Result<Value, Problem> {
        let (skill, version) = (&self.manifest.skill.name, &self.manifest.skill.version);
        let declared = self.manifest.capabilities.skills.iter().find(|declared| declared.name == *callee);
        let Some(declared) = declared else {
            let reason = format!(
                "{skill}@{version} does not declare that it calls `{callee}`; calling it is a security violation"
            );
            return Ok(denied(reason, "declare the skill in skill.toml and install a new version"));
        };
        let found = state.handles().registry.resolve(callee, Some(&declared.version), None).await?;
        let called = found.map(|found| found.skill.version);
        match calling(self.grants, self.asker(), callee, called.as_ref()) {
            Calling::NotGranted => {
                let names = |grant: &Grant| grant.call().is_some_and(|permitted| permitted.callee == *callee);
                let reason = format!("{skill}@{version} declares it, but {}", self.missing(names));
                Ok(denied(reason, call_command(skill, callee, None)))
            }
            Calling::OtherVersions(granted) => {
                let shown = called.as_ref().map(ToString::to_string).unwrap_or_default();
                let reason = format!("it would call {callee}@{shown}, and the grant is for `{}`", granted.version);
                Ok(denied(reason, call_command(skill, callee, called.as_ref())))
            }
            Calling::Granted(_) if called.is_none() => {
                let reason =
                    format!("a grant allows it, but no active version of `{callee}` meets `{}`", declared.version);
                Ok(denied(reason, format!("install a version of `{callee}` with `chimera skill install FILE`")))
            }
            Calling::Granted(grant) => {
                let reason = "the manifest declares it and a grant allows it";
                Ok(json!({ "allowed": true, "reason": reason, "version": called, "grant": grant }))
            }
        }
    }
}

fn reason_of(mode: Option<ToolMode>) -> String {
    match mode {
        Some(ToolMode::Read) => "the manifest declares it and a grant allows it, as reading",
        Some(ToolMode::EffectWithApproval) => {
            "the manifest declares it and a grant allows it, after a human has approved the exact arguments"
        }
        Some(ToolMode::Effect) => "the manifest declares it and a grant allows it, without asking a human",
        None => "a grant allows it",
    }
    .to_owned()
}

enum Pin {
    Same,
    Changed,
    Unknown(String),
}

async fn check_pin(state: &AppState, grant: &SlotGrant, tool: &str) -> Pin {
    let Some(pin) = grant.tools.get(tool).and_then(|policy| policy.pin) else { return Pin::Same };
    match state.handles().gateway.tools(&grant.server).await {
        Ok(tools) => match tools.iter().find(|offered| offered.info.name == tool) {
            Some(offered) if offered.pin == pin => Pin::Same,
            _ => Pin::Changed,
        },
        Err(error) => Pin::Unknown(error.to_string()),
    }
}
