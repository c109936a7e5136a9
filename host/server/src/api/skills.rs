//! Skills: install, list, look at, find.
//!
//! Thin: admission is the registry's, finding the index's. A refusal is told with rule, evidence and fix. Called by the
//! dashboard and the CLI.

use super::extract::{Params, Raw};
use super::{AppState, Problem, skill_route};
use crate::auth::Caller;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use chimera_core::route::{CanaryTerms, Choices};
use chimera_core::skill::{SkillName, SkillVersion};
use chimera_registry::{Activation, InstallError, InstallOutcome, Refusal};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Hits given when nothing is asked.
const DEFAULT_HITS: usize = 10;
/// Longest query in bytes.
const MAX_QUERY: usize = 2048;

/// The query of `GET /api/v1/search`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SearchQuery {
    q: String,
    limit: Option<usize>,
}

/// The query of `POST /api/v1/skills`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InstallQuery {
    activate: Option<bool>,
    canary: Option<u8>,
}

impl InstallQuery {
    fn activation(&self) -> Result<Activation, Problem> {
        match (self.activate, self.canary) {
            (Some(_), Some(_)) => {
                Err(Problem::bad_request("invalid-query", "say either `activate` or `canary`, not both"))
            }
            (None, Some(share)) => Ok(Activation::Canary(CanaryTerms::of_share(share))),
            (Some(false), None) => Ok(Activation::No),
            (Some(true) | None, None) => Ok(Activation::IfNewest),
        }
    }
}

/// `POST /api/v1/skills`: 201 when it is new, 200 when the same bytes were there.
pub(super) async fn install(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    Params(query): Params<InstallQuery>,
    Raw(bytes): Raw,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let registry = &state.handles().registry;
    let installed = registry.install_as(bytes.to_vec(), query.activation()?, caller.actor()).await.map_err(refused)?;
    let route = registry.route(&installed.version.skill.name).await.map_err(|error| skill_route::problem(&error))?;
    let (status, outcome, approval) = match installed.outcome {
        InstallOutcome::New => (StatusCode::CREATED, "new", None),
        InstallOutcome::AwaitingConsent(approval) => (StatusCode::CREATED, "awaiting-consent", Some(approval)),
        InstallOutcome::AlreadyThere => (StatusCode::OK, "already-there", None),
    };
    let body = json!({
        "skill": installed.version,
        "outcome": outcome,
        "approval": approval,
        "warnings": installed.warnings,
        "route": route,
    });
    Ok((status, Json(body)))
}

/// `GET /api/v1/skills/compiling`
pub(super) async fn compiling(State(state): State<AppState>) -> Json<Value> {
    let all = state.handles().registry.compiling();
    let all: Vec<Value> = all
        .iter()
        .map(|it| {
            let seconds = it.since.elapsed().as_secs();
            json!({ "digest": it.digest.to_string(), "bytes": it.bytes, "stage": it.stage, "seconds": seconds })
        })
        .collect();
    Json(json!({ "compiling": all }))
}

pub(super) fn refused(error: InstallError) -> Problem {
    match error {
        InstallError::Refused(refusal) => refusal_problem(&refusal),
        InstallError::Terms(error) => Problem::unacceptable("invalid-terms", error.to_string()),
        InstallError::Host(error) => error.into(),
    }
}

fn refusal_problem(refusal: &Refusal) -> Problem {
    Problem::unacceptable(refusal.rule.code(), refusal.to_string())
        .with("rule", refusal.rule.code())
        .with("evidence", refusal.evidence.as_str())
        .with("fix", refusal.fix.as_str())
}

/// `GET /api/v1/skills`: every version, without its schemas.
pub(super) async fn list(State(state): State<AppState>) -> Result<Json<Value>, Problem> {
    let mut by_name: BTreeMap<SkillName, Vec<SkillVersion>> = BTreeMap::new();
    for version in state.truth().skills(None).await? {
        by_name.entry(version.skill.name.clone()).or_default().push(version);
    }
    let kept = state.truth().routes(None).await?;
    let mut shown = Vec::new();
    for (name, versions) in &by_name {
        let route = kept.iter().find(|route| route.name == *name);
        let first = Choices::of(versions.clone(), route, None).into_first(None);
        shown
            .extend(versions.iter().map(|version| summary(version, skill_route::part(version, first.as_ref(), route))));
    }
    Ok(Json(json!({ "skills": shown })))
}

fn summary(version: &SkillVersion, part: &str) -> Value {
    json!({
        "route": part,
        "name": version.skill.name,
        "version": version.skill.version,
        "digest": version.skill.digest,
        "state": version.state,
        "summary": version.manifest.skill.summary,
        "license": version.manifest.skill.license,
        "effects": version.manifest.skill.effects,
        "world": version.manifest.skill.world,
        "size": version.size,
        "installed_at": version.installed_at,
    })
}

/// `GET /api/v1/skills/{namespace}/{name}`: every version with its manifest, newest first.
pub(super) async fn show(
    State(state): State<AppState>,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<Json<Value>, Problem> {
    let name = named(path)?;
    let mut versions = state.truth().skills(Some(&name)).await?;
    if versions.is_empty() {
        return Err(Problem::not_found("installed skill", &name));
    }
    versions.sort_by(|a, b| b.skill.version.cmp(&a.skill.version));
    let grants = state.truth().grants(Some(&name)).await?;
    let registry = &state.handles().registry;
    let route = registry.route(&name).await.map_err(|error| skill_route::problem(&error))?;
    let loaded: Vec<Value> = registry
        .loaded()
        .iter()
        .filter(|code| code.skill.as_ref().is_some_and(|skill| skill.name == name))
        .map(skill_route::shown)
        .collect();
    let first = Choices::of(versions.clone(), Some(&route), None).into_first(None);
    let with_part = |version: &SkillVersion| {
        let mut shown = json!(version);
        shown["route"] = json!(skill_route::part(version, first.as_ref(), Some(&route)));
        shown
    };
    let versions: Vec<Value> = versions.iter().map(with_part).collect();
    Ok(Json(json!({ "name": name, "route": route, "loaded": loaded, "versions": versions, "grants": grants })))
}

/// The skill's name in a path.
pub(super) fn named(path: Result<Path<(String, String)>, PathRejection>) -> Result<SkillName, Problem> {
    let Path((namespace, name)) =
        path.map_err(|rejection| Problem::bad_request("invalid-path", rejection.body_text()))?;
    format!("{namespace}/{name}").parse().map_err(|error: chimera_core::skill::ParseSkillNameError| {
        Problem::bad_request("invalid-name", error.to_string())
    })
}

/// `GET /api/v1/search`
pub(super) async fn search(
    State(state): State<AppState>,
    Params(query): Params<SearchQuery>,
) -> Result<Json<Value>, Problem> {
    let text = chimera_core::text::truncated(query.q, MAX_QUERY);
    let limit = query.limit.unwrap_or(DEFAULT_HITS).clamp(1, 50);
    let hits = state.handles().index.search(&text, limit).await?;
    Ok(Json(json!({ "hits": hits })))
}
