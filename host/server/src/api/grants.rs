//! Grants: what a skill may do through which slot, given, taken back and explained.
//!
//! A grant names tools as they are now (each is pinned) and never widens a manifest. Nothing is decided here about a
//! call: the gateway does that, by the same rule that `explain` shows. Called by the CLI and by people.

use super::extract::{Body, Id, Params};
use super::{AppState, Problem};
use crate::auth::Caller;
use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use chimera_core::audit::AuditDraft;
use chimera_core::change::{Change, Context, Write};
use chimera_core::grant::{Grant, ToolMode, Want, covering};
use chimera_core::ids::{CampaignId, GrantId};
use chimera_core::manifest::Manifest;
use chimera_core::skill::{SkillName, SkillState};
use chimera_mcp::grant_command;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use utoipa::ToSchema;

/// The body of `POST /api/v1/grants`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewGrant {
    /// The skill: `namespace/name`.
    #[schema(value_type = String)]
    skill: SkillName,
    /// The slot of its manifest.
    slot: String,
    /// The configured MCP server that the slot is bound to.
    server: String,
    /// Only within this campaign; in every campaign if absent.
    #[schema(value_type = Option<String>)]
    campaign: Option<CampaignId>,
    /// The tools it may call, each with `read`, `effect-with-approval` or `effect`; null for what the server suggests.
    /// Every declared tool if absent.
    #[schema(value_type = Option<std::collections::BTreeMap<String, Option<String>>>)]
    tools: Option<BTreeMap<String, Option<ToolMode>>>,
    /// The resources it may read; every declared one if this and `tools` are absent, none if only this is.
    resources: Option<BTreeSet<String>>,
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
    slot: String,
    tool: String,
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
    Body(new): Body<NewGrant>,
) -> Result<(StatusCode, Json<Grant>), Problem> {
    let manifest = newest_manifest(&state, &new.skill).await?;
    if let Some(campaign) = new.campaign {
        state.truth().campaign(campaign).await?.ok_or_else(|| Problem::not_found("campaign", campaign))?;
    }
    let resources = granted_resources(&new, &manifest)?;
    let tools = granted_tools(&state, &new, &manifest).await?;
    let cx = state.context(&caller);
    let grant = Grant {
        id: GrantId::new(cx.ids),
        skill: new.skill,
        campaign: new.campaign,
        slot: new.slot,
        server: new.server,
        tools,
        resources,
        granted_by: cx.actor.clone(),
        granted_at: cx.now,
        revoked_at: None,
    };
    let mut change = Change::new();
    change.audit(event("grant.added", &grant, &cx));
    change.write(Write::PutGrant(grant.clone()));
    state.commit(change).await?;
    Ok((StatusCode::CREATED, Json(grant)))
}

/// The named tools as the server offers them now; every declared one if none is named.
async fn granted_tools(
    state: &AppState,
    new: &NewGrant,
    manifest: &Manifest,
) -> Result<BTreeMap<String, chimera_core::grant::ToolPolicy>, Problem> {
    let wished = new.tools.clone().unwrap_or_default();
    if let Some(slot) = manifest.capabilities.slot(&new.slot)
        && let Some(tool) = wished.keys().find(|tool| !slot.tools.contains(*tool))
    {
        let detail = format!(
            "`{}` declares no tool `{tool}` on slot `{}`, and a grant cannot widen a manifest; it declares: {}",
            new.skill,
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

fn granted_resources(new: &NewGrant, manifest: &Manifest) -> Result<BTreeSet<String>, Problem> {
    let declared = manifest.capabilities.slot(&new.slot).map(|slot| slot.resources.clone()).unwrap_or_default();
    match (&new.resources, &new.tools) {
        (None, None) => Ok(declared),
        (None, Some(_)) => Ok(BTreeSet::new()),
        (Some(wished), _) => match wished.iter().find(|uri| !declared.contains(*uri)) {
            None => Ok(wished.clone()),
            Some(uri) => {
                let detail = format!(
                    "`{}` declares no resource `{uri}` on slot `{}`; it declares: {}",
                    new.skill,
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

/// The manifest of the newest version that may be run, else of the newest.
async fn newest_manifest(state: &AppState, skill: &SkillName) -> Result<Arc<Manifest>, Problem> {
    let versions = state.truth().skills(Some(skill)).await?;
    let newest = versions.into_iter().max_by(|a, b| {
        (a.state == SkillState::Active, &a.skill.version).cmp(&(b.state == SkillState::Active, &b.skill.version))
    });
    newest.map(|version| version.manifest).ok_or_else(|| Problem::not_found("installed skill", skill))
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

fn event(action: &str, grant: &Grant, cx: &Context<'_>) -> AuditDraft {
    cx.event(action).about(grant.campaign, None).detail(json!({
        "grant": grant.id, "skill": grant.skill, "slot": grant.slot, "server": grant.server,
        "tools": grant.tools.iter().map(|(name, policy)| (name.clone(), policy.mode)).collect::<BTreeMap<_, _>>(),
        "resources": grant.resources,
    }))
}

/// `GET /api/v1/grants/explain`: the gateway's rule, step by step.
pub(super) async fn explain(
    State(state): State<AppState>,
    Params(query): Params<ExplainQuery>,
) -> Result<Json<Value>, Problem> {
    let ExplainQuery { skill, slot, tool, campaign } = query;
    let manifest = newest_manifest(&state, &skill).await?;
    let version = &manifest.skill.version;
    let denied = |reason: String, fix: String| Ok(Json(json!({ "allowed": false, "reason": reason, "fix": fix })));
    let Some(declared) = manifest.capabilities.slot(&slot) else {
        let reason = format!("{skill}@{version} declares no slot `{slot}`; calling it is a security violation");
        return denied(reason, "declare the slot in skill.toml and install a new version".to_owned());
    };
    if !declared.tools.contains(&tool) {
        let reason = format!(
            "{skill}@{version} does not declare the tool `{tool}` on slot `{slot}`; calling it is a security violation"
        );
        return denied(reason, "declare the tool in skill.toml and install a new version".to_owned());
    }
    let grants = state.truth().grants(Some(&skill)).await?;
    let Some(grant) = covering(&grants, &skill, campaign, &slot, Want::Tool(&tool)) else {
        let was_revoked = grants
            .iter()
            .any(|grant| grant.revoked_at.is_some() && grant.slot == slot && grant.tools.contains_key(&tool));
        let what = if was_revoked { "the grant was taken back" } else { "no grant covers it" };
        let command = grant_command(&skill, &slot, "SERVER", Want::Tool(&tool));
        return denied(format!("{skill}@{version} declares it, but {what}"), command);
    };
    let pinned = check_pin(&state, grant, &tool).await;
    let mode = grant.tools.get(&tool).map(|policy| policy.mode);
    let (is_allowed, reason) = match pinned {
        Pin::Same => (true, reason_of(mode)),
        Pin::Unknown(problem) => (
            true,
            format!("{}; whether the tool is still what was granted cannot be said now: {problem}", reason_of(mode)),
        ),
        Pin::Changed => (
            false,
            "the server's tool is no longer what was granted: its name, description or schema changed".to_owned(),
        ),
    };
    let mut told = json!({ "allowed": is_allowed, "reason": reason, "mode": mode, "grant": grant });
    if !is_allowed {
        let command = grant_command(&skill, &slot, &grant.server, Want::Tool(&tool));
        told["fix"] = json!(format!("look at the tool with `chimera mcp tools {}`, then: {command}", grant.server));
    }
    Ok(Json(told))
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

async fn check_pin(state: &AppState, grant: &Grant, tool: &str) -> Pin {
    let Some(pin) = grant.tools.get(tool).and_then(|policy| policy.pin) else { return Pin::Same };
    match state.handles().gateway.tools(&grant.server).await {
        Ok(tools) => match tools.iter().find(|offered| offered.info.name == tool) {
            Some(offered) if offered.pin == pin => Pin::Same,
            _ => Pin::Changed,
        },
        Err(error) => Pin::Unknown(error.to_string()),
    }
}
