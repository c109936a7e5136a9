//! Whether the process is alive and whether it can do work.
//!
//! They tell a probe as little as it needs and change nothing. Called by supervisors, the CLI and the demo.

use super::{AppState, Problem};
use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

/// `GET /healthz`
pub(super) async fn live() -> Json<Value> {
    Json(json!({ "status": "ok", "version": env!("CARGO_PKG_VERSION") }))
}

/// `GET /readyz`: reads from the truth and the queue.
pub(super) async fn ready(State(state): State<AppState>) -> Result<Json<Value>, Problem> {
    if state.is_closing() {
        let detail = "the server is shutting down";
        return Err(Problem::new(axum::http::StatusCode::SERVICE_UNAVAILABLE, "closing", detail));
    }
    state.truth().audit(None, 0, 1).await?;
    let queued = state.handles().queue.len(&state.handles().config.planner_id.value).await?;
    Ok(Json(json!({ "status": "ready", "queued": queued })))
}
