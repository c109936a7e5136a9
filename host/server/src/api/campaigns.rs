//! Campaigns: start, list, look at, stop, report.
//!
//! Thin: the scheduler makes and stops them, the report is the agents'. Called by the dashboard and the CLI.

use super::extract::{Body, Id, Params};
use super::{AppState, Problem};
use crate::auth::Caller;
use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use chimera_agents::planner::campaign_file::NewCampaign;
use chimera_core::campaign::{Campaign, CampaignState, CampaignView};
use chimera_core::ids::CampaignId;
use serde::Deserialize;
use serde_json::{Value, json};

/// Bytes of the goal that a list shows.
const GOAL_SHOWN: usize = 300;

/// The query of `GET /api/v1/campaigns`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CampaignsQuery {
    state: Option<CampaignState>,
    limit: Option<usize>,
}

/// `POST /api/v1/campaigns`
pub(super) async fn create(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    Body(campaign): Body<NewCampaign>,
) -> Result<(StatusCode, Json<CampaignView>), Problem> {
    let made = state.handles().scheduler.create_campaign(campaign, caller.actor()).await?;
    Ok((StatusCode::CREATED, Json(view(&state, made.id).await?)))
}

/// `GET /api/v1/campaigns`: newest first, without their inputs.
pub(super) async fn list(
    State(state): State<AppState>,
    Params(query): Params<CampaignsQuery>,
) -> Result<Json<Value>, Problem> {
    let states: Vec<CampaignState> = query.state.into_iter().collect();
    let campaigns = state.truth().campaigns(&states).await?;
    let limit = query.limit.unwrap_or(100).clamp(1, 1000);
    let shown: Vec<Value> = campaigns.iter().take(limit).map(summary).collect();
    Ok(Json(json!({ "campaigns": shown })))
}

fn summary(campaign: &Campaign) -> Value {
    let open = campaign.questions.iter().filter(|question| !campaign.answers.contains_key(&question.key)).count();
    json!({
        "id": campaign.id,
        "title": campaign.title,
        "goal": chimera_core::text::truncated(campaign.goal.clone(), GOAL_SHOWN),
        "state": campaign.state,
        "open_questions": open,
        "plan_ms": campaign.plan_ms,
        "failure": campaign.failure,
        "created_at": campaign.created_at,
        "updated_at": campaign.updated_at,
        "finished_at": campaign.finished_at,
    })
}

async fn view(state: &AppState, id: CampaignId) -> Result<CampaignView, Problem> {
    state.truth().campaign_view(id).await?.ok_or_else(|| Problem::not_found("campaign", id))
}

/// `GET /api/v1/campaigns/{id}`
pub(super) async fn show(State(state): State<AppState>, Id(id): Id<CampaignId>) -> Result<Json<CampaignView>, Problem> {
    view(&state, id).await.map(Json)
}

/// `POST /api/v1/campaigns/{id}/cancel`
pub(super) async fn cancel(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    Id(id): Id<CampaignId>,
) -> Result<Json<CampaignView>, Problem> {
    state.handles().scheduler.cancel_campaign(id, "the operator stopped it", caller.actor()).await?;
    view(&state, id).await.map(Json)
}
