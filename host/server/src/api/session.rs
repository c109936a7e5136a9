//! Who the caller is, and links that log a browser in.
//!
//! A link opens one session, once; the operator's token never becomes part of an address. Called by the dashboard, the
//! CLI and the demo.

use super::{AppState, Problem};
use crate::auth::Caller;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::{Extension, Json};
use serde_json::{Value, json};

/// `GET /api/v1/session`
pub(super) async fn show(Extension(caller): Extension<Caller>) -> Json<Value> {
    Json(json!({ "actor": caller.actor() }))
}

/// `POST /api/v1/session/links`
pub(super) async fn link(
    State(state): State<AppState>,
    headers: HeaderMap,
) -> Result<(StatusCode, Json<Value>), Problem> {
    // The site check has found this host to be ours.
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("127.0.0.1");
    let ticket = state.auth().mint_ticket(state.now()).map_err(|error| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", format!("no random numbers: {error}"))
    })?;
    Ok((StatusCode::CREATED, Json(json!({ "url": format!("http://{host}/?token={ticket}") }))))
}
