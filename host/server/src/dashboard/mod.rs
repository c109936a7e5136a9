//! The page at `/`: one plain document, one style sheet, one script, all inside the binary.
//!
//! It holds no data and no secret: everything it shows it asks the API for, with the session's cookie. It fetches nothing
//! from anywhere else, and its policy forbids it to. Called by the router.

use crate::api::AppState;
use crate::api::extract::{Body, Params};
use crate::api::problem::Problem;
use crate::auth::{SESSION_COOKIE, SESSION_LASTS};
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, SET_COOKIE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::ToSchema;

const PAGE: &str = include_str!("index.html");
const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("app.js");
const ICON: &str = include_str!("icon.svg");

/// Scripts, styles and requests from this server only; no inline script, no frame, no other origin.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// The query of `/`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Visit {
    /// A one-time ticket.
    token: Option<String>,
}

/// `GET /`: the page; with a ticket, a session and a redirect to the page without it.
pub(crate) async fn page(State(state): State<AppState>, Params(visit): Params<Visit>) -> Result<Response, Problem> {
    let Some(ticket) = visit.token else {
        let mut response = asset("text/html; charset=utf-8", PAGE);
        response.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
        return Ok(response);
    };
    // A ticket that was used before leads to the page as well, which then asks for the token.
    let mut response = (StatusCode::SEE_OTHER, [(LOCATION, "/")]).into_response();
    if state.auth().redeem(&ticket, state.now()) {
        response.headers_mut().insert(SET_COOKIE, session_cookie(&state)?);
    }
    Ok(response)
}

/// The body of `POST /login`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Login {
    /// The operator's token.
    token: String,
}

/// `POST /login`: the operator's token for a session.
pub(crate) async fn login(State(state): State<AppState>, Body(login): Body<Login>) -> Result<Response, Problem> {
    if !state.auth().is_operator(login.token.trim()) {
        let detail = "this is not the operator's token; it is in the file operator.token in the data folder";
        return Err(Problem::new(StatusCode::UNAUTHORIZED, "wrong-token", detail));
    }
    Ok((StatusCode::NO_CONTENT, [(SET_COOKIE, session_cookie(&state)?)]).into_response())
}

/// `POST /logout`: forgets the session's cookie.
pub(crate) async fn logout() -> Response {
    let gone = format!("{SESSION_COOKIE}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0");
    (StatusCode::NO_CONTENT, [(SET_COOKIE, gone)]).into_response()
}

fn session_cookie(state: &AppState) -> Result<HeaderValue, Problem> {
    let internal = |detail: String| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail);
    let session = state.auth().new_session(state.now()).map_err(|error| internal(error.to_string()))?;
    let seconds = SESSION_LASTS.as_secs();
    let cookie = format!("{SESSION_COOKIE}={session}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}");
    let mut value = HeaderValue::from_str(&cookie).map_err(|error| internal(error.to_string()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// `GET /assets/style.css`
pub(crate) async fn style() -> Response {
    asset("text/css; charset=utf-8", STYLE)
}

/// `GET /assets/app.js`
pub(crate) async fn script() -> Response {
    asset("text/javascript; charset=utf-8", SCRIPT)
}

/// `GET /assets/icon.svg`
pub(crate) async fn icon() -> Response {
    asset("image/svg+xml", ICON)
}

fn asset(kind: &'static str, text: &'static str) -> Response {
    // Asked for again each time, so that page and server are always of one version.
    ([(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-cache")], text).into_response()
}
