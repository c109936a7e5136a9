//! Whether the process is alive, whether it can do work, and whether it is the one that is looked for.
//!
//! They tell a probe as little as it needs and change nothing. Called by supervisors, the CLI and the demo.

use super::extract::Params;
use super::{AppState, Problem};
use crate::proof::Challenge;
use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};

/// What a probe may ask for besides being alive. Anything else in the query is no business of a probe's.
#[derive(Deserialize)]
pub(super) struct Probe {
    challenge: Option<Challenge>,
}

/// `GET /healthz`
pub(super) async fn live(State(state): State<AppState>, Params(probe): Params<Probe>) -> Json<Value> {
    let mut answer = json!({ "status": "ok", "version": env!("CARGO_PKG_VERSION") });
    if let Some(challenge) = probe.challenge {
        answer["proof"] = state.auth().prover().prove(&challenge).into();
    }
    Json(answer)
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
