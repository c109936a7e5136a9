//! What is talked about: the strongest topics of a window.
//!
//! Read-only: skills observe through their own interface. Called by the CLI and by people.

use super::extract::Params;
use super::{AppState, Problem};
use axum::Json;
use axum::extract::State;
use chimera_core::clock::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

/// A day.
const DEFAULT_WINDOW: u64 = 24 * 3600;

/// The query of `GET /api/v1/trends`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TrendsQuery {
    window_seconds: Option<u64>,
    limit: Option<u32>,
}

/// `GET /api/v1/trends`
pub(super) async fn top(
    State(state): State<AppState>,
    Params(query): Params<TrendsQuery>,
) -> Result<Json<Value>, Problem> {
    let window = query.window_seconds.unwrap_or(DEFAULT_WINDOW);
    let millis = i64::try_from(window).unwrap_or(i64::MAX).saturating_mul(1000);
    let since = Timestamp::from_millis(state.now().as_millis().saturating_sub(millis));
    let trends = state.truth().top_trends(since, query.limit.unwrap_or(20).clamp(1, 200)).await?;
    Ok(Json(json!({ "since": since, "trends": trends })))
}
