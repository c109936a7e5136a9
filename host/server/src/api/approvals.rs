//! Approvals: what waits for a human, and the human's answers.
//!
//! Thin: the judge's human-in-the-loop module carries an answer out. Only the first answer counts. Called by the dashboard, the CLI and the demo.

use super::extract::{Body, Id, Params};
use super::{AppState, Problem};
use crate::auth::Caller;
use axum::extract::State;
use axum::{Extension, Json};
use chimera_core::approval::{Answer, Approval, ApprovalState, HumanDecision};
use chimera_core::ids::{ApprovalId, CampaignId};
use chimera_core::ports::ApprovalFilter;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

/// Longest note in bytes.
const MAX_NOTE: usize = 4096;

/// The query of `GET /api/v1/approvals`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ApprovalsQuery {
    state: Option<ApprovalState>,
    campaign: Option<CampaignId>,
}

/// The body of `POST /api/v1/approvals/{id}/decide`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Decide {
    /// `approve`, `reject`, or `retry` where a task waits.
    #[schema(value_type = String)]
    decision: HumanDecision,
    /// Changed arguments, or the answer to a question.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    edited: Option<Value>,
    /// For the log; at most 4 KiB.
    #[serde(default)]
    note: Option<String>,
}

/// `GET /api/v1/approvals`
pub(super) async fn list(
    State(state): State<AppState>,
    Params(query): Params<ApprovalsQuery>,
) -> Result<Json<Value>, Problem> {
    let filter = ApprovalFilter { campaign: query.campaign, state: query.state, due_before: None };
    Ok(Json(json!({ "approvals": state.truth().approvals(&filter).await? })))
}

/// `GET /api/v1/approvals/{id}`
pub(super) async fn show(State(state): State<AppState>, Id(id): Id<ApprovalId>) -> Result<Json<Approval>, Problem> {
    read(&state, id).await.map(Json)
}

async fn read(state: &AppState, id: ApprovalId) -> Result<Approval, Problem> {
    state.truth().approval(id).await?.ok_or_else(|| Problem::not_found("approval", id))
}

/// `POST /api/v1/approvals/{id}/decide`
pub(super) async fn decide(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    Id(id): Id<ApprovalId>,
    Body(decide): Body<Decide>,
) -> Result<Json<Approval>, Problem> {
    if decide.note.as_ref().is_some_and(|note| note.len() > MAX_NOTE) {
        return Err(Problem::unacceptable("note-too-long", format!("a note is at most {MAX_NOTE} bytes")));
    }
    let asked = read(&state, id).await?;
    if asked.state != ApprovalState::Open {
        let by = asked.decided_by.map_or(String::new(), |actor| format!(" by {actor}"));
        return Err(Problem::conflict("already-decided", format!("approval {id} was decided before{by}")));
    }
    let answer = Answer { decision: decide.decision, edited: decide.edited, note: decide.note };
    Ok(Json(state.handles().hitl.decide(id, answer, caller.actor()).await?))
}
