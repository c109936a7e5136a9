//! The search index: how it is, and filling it again.
//!
//! It starts the work and tells of it; the index itself does it. Called by the CLI and by people.

use super::AppState;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

/// `GET /api/v1/index`
pub(super) async fn show(State(state): State<AppState>) -> Json<Value> {
    Json(json!(state.handles().indexes.status()))
}

/// `POST /api/v1/index/rebuild`: one that runs already is as good as a new one.
pub(super) async fn rebuild(State(state): State<AppState>) -> (StatusCode, Json<Value>) {
    let handles = state.handles();
    handles.indexes.begin_rebuild(handles.truth.clone());
    (StatusCode::ACCEPTED, Json(json!(handles.indexes.status())))
}
