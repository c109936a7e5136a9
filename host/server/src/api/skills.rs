//! Skills: install, list, look at, find.
//!
//! Thin: admission is the registry's, finding the index's. A refusal is told with rule, evidence and fix. Called by the
//! dashboard and the CLI.

use super::extract::{Params, Raw};
use super::{AppState, Problem};
use crate::auth::Caller;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use chimera_core::skill::{SkillName, SkillVersion};
use chimera_registry::{InstallError, InstallOutcome, Refusal};
use serde::Deserialize;
use serde_json::{Value, json};

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

/// `POST /api/v1/skills`: 201 when it is new, 200 when the same bytes were there.
pub(super) async fn install(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    Raw(bytes): Raw,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let installed = state.handles().registry.install(bytes.to_vec(), caller.actor()).await.map_err(refused)?;
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
    let versions = state.truth().skills(None).await?;
    let shown: Vec<Value> = versions.iter().map(summary).collect();
    Ok(Json(json!({ "skills": shown })))
}

fn summary(version: &SkillVersion) -> Value {
    json!({
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
    let Path((namespace, name)) =
        path.map_err(|rejection| Problem::bad_request("invalid-path", rejection.body_text()))?;
    let name: SkillName =
        format!("{namespace}/{name}").parse().map_err(|error: chimera_core::skill::ParseSkillNameError| {
            Problem::bad_request("invalid-name", error.to_string())
        })?;
    let mut versions = state.truth().skills(Some(&name)).await?;
    if versions.is_empty() {
        return Err(Problem::not_found("installed skill", &name));
    }
    versions.sort_by(|a, b| b.skill.version.cmp(&a.skill.version));
    let grants = state.truth().grants(Some(&name)).await?;
    Ok(Json(json!({ "name": name, "versions": versions, "grants": grants })))
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
