//! What a campaign's tasks took and what came out.
//!
//! The report is made by the agents' room, which the demo asks as well. Called by the CLI and by people.

use super::extract::Id;
use super::{AppState, Problem};
use axum::Json;
use axum::extract::State;
use chimera_agents::report::campaign_report;
use chimera_core::ids::CampaignId;
use serde_json::{Value, json};

/// `GET /api/v1/campaigns/{id}/report`
pub(super) async fn campaign(State(state): State<AppState>, Id(id): Id<CampaignId>) -> Result<Json<Value>, Problem> {
    Ok(Json(json!(campaign_report(state.truth(), id).await?)))
}
