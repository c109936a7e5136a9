//! The page at `/`: one plain document, one style sheet, two scripts, all inside the binary.
//!
//! It holds no data and no secret: everything it shows it asks the API for, with the session that its tab keeps. It
//! fetches nothing from anywhere else, and its policy forbids it to. Called by the router.

use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};

const PAGE: &str = include_str!("index.html");
const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("app.js");
const EVENTS: &str = include_str!("events.js");
const ICON: &str = include_str!("icon.svg");

/// Scripts, styles and requests from this server only; no inline script, no frame, no other origin.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// `GET /`
pub(crate) async fn page() -> Response {
    let mut response = asset("text/html; charset=utf-8", PAGE);
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    response
}

/// `GET /assets/style.css`
pub(crate) async fn style() -> Response {
    asset("text/css; charset=utf-8", STYLE)
}

/// `GET /assets/app.js`
pub(crate) async fn script() -> Response {
    asset("text/javascript; charset=utf-8", SCRIPT)
}

/// `GET /assets/events.js`
pub(crate) async fn events() -> Response {
    asset("text/javascript; charset=utf-8", EVENTS)
}

/// `GET /assets/icon.svg`
pub(crate) async fn icon() -> Response {
    asset("image/svg+xml", ICON)
}

fn asset(kind: &'static str, text: &'static str) -> Response {
    // Asked for again each time, so that page and server are always of one version.
    ([(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-cache")], text).into_response()
}
