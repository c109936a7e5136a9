//! Logging in and out, who the caller is, and links that log a browser in.
//!
//! A session is given in the answer and sent as `Authorization: Bearer`; nothing is ever put where a browser would send it
//! by itself. A link opens one session, once; the operator's token never becomes part of an address. Called by the
//! dashboard, the CLI and the demo.

use super::extract::Body;
use super::{AppState, Problem};
use crate::auth::{Caller, bearer};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

/// The body of `POST /login`: one of both.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Login {
    /// The operator's token.
    token: Option<String>,
    /// What stands behind `#ticket=` in a one-time link.
    ticket: Option<String>,
}

/// `POST /login`
pub(super) async fn login(State(state): State<AppState>, Body(login): Body<Login>) -> Result<Json<Value>, Problem> {
    let refused = |code, detail| Err(Problem::new(StatusCode::UNAUTHORIZED, code, detail));
    match (login.token, login.ticket) {
        (Some(token), None) if !state.auth().is_operator(token.trim()) => refused(
            "wrong-token",
            "this is not the operator's token; it is in the file operator.token in the data folder",
        ),
        (None, Some(ticket)) if !state.auth().redeem(&ticket, state.now()) => refused(
            "wrong-ticket",
            "this link was opened before, or is too old; log in with the operator's token, which is in the file \
             operator.token in the data folder",
        ),
        (Some(_), None) | (None, Some(_)) => {
            let session = state.auth().new_session(state.now()).map_err(no_random)?;
            Ok(Json(json!({ "session": session })))
        }
        (None, None) | (Some(_), Some(_)) => {
            Err(Problem::bad_request("invalid-body", "send either the operator's `token` or a link's `ticket`"))
        }
    }
}

/// `POST /logout`
pub(super) async fn logout(State(state): State<AppState>, headers: HeaderMap) -> Result<StatusCode, Problem> {
    if state.auth().end_session(bearer(&headers)?, state.now()) {
        return Ok(StatusCode::NO_CONTENT);
    }
    let detail = "only a session can be ended, and this request was not made with one";
    Err(Problem::conflict("no-session", detail))
}

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
    let ticket = state.auth().mint_ticket(state.now()).map_err(no_random)?;
    Ok((StatusCode::CREATED, Json(json!({ "url": login_link(&format!("http://{host}"), &ticket) }))))
}

/// The one-time link of a ticket. A fragment is never sent and so never logged; the page's script takes it.
pub(crate) fn login_link(server: &str, ticket: &str) -> String {
    format!("{server}/#ticket={ticket}")
}

fn no_random(error: getrandom::Error) -> Problem {
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", format!("no random numbers: {error}"))
}
