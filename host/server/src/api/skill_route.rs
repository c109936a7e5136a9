//! Which version of a skill new work gets: activate, roll back, try on a share, unload.
//!
//! Thin: the registry decides, and says why not. Work that has its version keeps it. Called by the CLI and by people.

use super::extract::Body;
use super::skills::named;
use super::{AppState, Problem};
use crate::auth::Caller;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use chimera_core::route::{CanaryTerms, Route};
use chimera_core::skill::SkillVersion;
use chimera_registry::{LoadedCode, RouteError};
use chimera_sandbox::Hold;
use semver::Version;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

type Name = Result<Path<(String, String)>, PathRejection>;

/// The body of `…/activate` and `…/unload`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OneVersion {
    /// An installed version, such as `1.2.0`.
    #[schema(value_type = String)]
    version: Version,
}

/// The body of `POST …/canary`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewCanary {
    /// An installed version, such as `1.2.0`.
    #[schema(value_type = String)]
    version: Version,
    /// Percent of new work that it gets, 1 to 99.
    share: u8,
    /// It is withdrawn when more than this share of its runs failed by its own fault, 0 to 1; 0.05 if absent.
    max_failures: Option<f64>,
    /// Not decided before this many runs; 50 if absent.
    min_runs: Option<u32>,
    /// It becomes active after this many runs within the bound; never by itself if absent.
    promote_after: Option<u32>,
}

/// A refused decision.
pub(super) fn problem(error: &RouteError) -> Problem {
    let detail = error.to_string();
    match error {
        RouteError::NotInstalled(_) => Problem::new(StatusCode::NOT_FOUND, "not-found", detail),
        RouteError::NotAllowed(..) => Problem::conflict("version-not-allowed", detail),
        RouteError::NoPrevious(_) => Problem::conflict("no-previous-version", detail),
        RouteError::NoCanary(_) => Problem::conflict("no-canary", detail),
        RouteError::NoActive(_) => Problem::conflict("no-active-version", detail),
        RouteError::ActiveAlready(_) => Problem::conflict("active-already", detail),
        RouteError::Terms(_) => Problem::unacceptable("invalid-terms", detail),
        RouteError::Busy(_) => Problem::conflict("stale", detail),
        RouteError::Host(error) => error.clone().into(),
    }
}

/// What a version is to its route; `first` is what new work gets.
pub(super) fn part(version: &SkillVersion, first: Option<&SkillVersion>, route: Option<&Route>) -> &'static str {
    let this = &version.skill.version;
    let canary = route.and_then(|route| route.canary.as_ref());
    if first.is_some_and(|first| first.skill.version == *this) {
        "active"
    } else if canary.is_some_and(|canary| canary.version == *this) {
        "canary"
    } else if route.is_some_and(|route| route.previous.contains(this)) {
        "previous"
    } else {
        ""
    }
}

/// Compiled code in memory, as it is shown.
pub(super) fn shown(code: &LoadedCode) -> Value {
    let resident = &code.resident;
    json!({
        "name": code.skill.as_ref().map(|skill| &skill.name),
        "version": code.skill.as_ref().map(|skill| &skill.version),
        "digest": resident.digest,
        "code_bytes": resident.code_bytes,
        "runs": resident.runs,
        "idle_ms": u64::try_from(resident.idle.as_millis()).unwrap_or(u64::MAX),
        "leaving": resident.hold == Hold::Leaving,
    })
}

fn routed(route: Result<Route, RouteError>) -> Result<Json<Value>, Problem> {
    route.map(|route| Json(json!({ "route": route }))).map_err(|error| problem(&error))
}

/// `GET /api/v1/skills/loaded`
pub(super) async fn loaded(State(state): State<AppState>) -> Json<Value> {
    let loaded: Vec<Value> = state.handles().registry.loaded().iter().map(shown).collect();
    Json(json!({ "loaded": loaded }))
}

/// `POST /api/v1/skills/{namespace}/{name}/activate`
pub(super) async fn activate(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    path: Name,
    Body(body): Body<OneVersion>,
) -> Result<Json<Value>, Problem> {
    let name = named(path)?;
    routed(state.handles().registry.activate(&name, &body.version, caller.actor()).await)
}

/// `POST /api/v1/skills/{namespace}/{name}/rollback`
pub(super) async fn rollback(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    path: Name,
) -> Result<Json<Value>, Problem> {
    let name = named(path)?;
    routed(state.handles().registry.rollback(&name, caller.actor()).await)
}

/// `POST /api/v1/skills/{namespace}/{name}/unload`
pub(super) async fn unload(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    path: Name,
    Body(body): Body<OneVersion>,
) -> Result<Json<Value>, Problem> {
    let name = named(path)?;
    let unloaded = state.handles().registry.unload(&name, &body.version, caller.actor()).await;
    unloaded.map(|was_there| Json(json!({ "unloaded": was_there }))).map_err(|error| problem(&error))
}

/// `POST /api/v1/skills/{namespace}/{name}/canary`
pub(super) async fn start_canary(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    path: Name,
    Body(body): Body<NewCanary>,
) -> Result<Json<Value>, Problem> {
    let name = named(path)?;
    let usual = CanaryTerms::of_share(body.share);
    let terms = CanaryTerms {
        share: body.share,
        max_failures: body.max_failures.unwrap_or(usual.max_failures),
        min_runs: body.min_runs.unwrap_or(usual.min_runs),
        promote_after: body.promote_after,
    };
    routed(state.handles().registry.start_canary(&name, &body.version, terms, caller.actor()).await)
}

/// `DELETE /api/v1/skills/{namespace}/{name}/canary`
pub(super) async fn stop_canary(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    path: Name,
) -> Result<Json<Value>, Problem> {
    let name = named(path)?;
    routed(state.handles().registry.stop_canary(&name, caller.actor()).await)
}

/// `POST /api/v1/skills/{namespace}/{name}/canary/promote`
pub(super) async fn promote_canary(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    path: Name,
) -> Result<Json<Value>, Problem> {
    let name = named(path)?;
    routed(state.handles().registry.promote_canary(&name, caller.actor()).await)
}
