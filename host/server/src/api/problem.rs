//! Errors on the wire: RFC 9457 problem details with a stable `code`.
//!
//! A problem says what went wrong and what to do; it never shows a secret, and what only the operator of the machine
//! can mend is logged as well. Made by every controller; the codes are part of the API.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use chimera_core::ports::{PortError, PortErrorKind};
use serde_json::{Map, Value, json};
use std::fmt;

/// Longest detail in bytes.
const MAX_DETAIL: usize = 4096;

/// What a request is answered with when it cannot be done.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// The HTTP status.
    pub status: StatusCode,
    /// Stable kebab-case code.
    pub code: &'static str,
    /// What went wrong and what to do.
    pub detail: String,
    /// More members, such as `rule` and `fix` of a refused skill.
    pub more: Box<Map<String, Value>>,
}

impl Problem {
    /// A problem; the detail is cut to its limit.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        let detail = chimera_core::text::truncated(detail.into(), MAX_DETAIL);
        Self { status, code, detail, more: Box::default() }
    }

    /// 400: the request cannot be understood.
    pub fn bad_request(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    /// 404: there is no such thing.
    pub fn not_found(noun: &str, name: impl fmt::Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", format!("there is no {noun} `{name}`"))
    }

    /// 409: it does not fit how things are now.
    pub fn conflict(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, detail)
    }

    /// 422: understood, and not acceptable.
    pub fn unacceptable(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail)
    }

    /// The same problem with one more member.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.more.insert(key.to_owned(), value.into());
        self
    }

    /// The problem as JSON.
    pub fn to_json(&self) -> Value {
        let mut body = json!({
            "type": format!("urn:chimera:problem:{}", self.code),
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "code": self.code,
            "detail": self.detail,
        });
        if let Some(map) = body.as_object_mut() {
            for (key, value) in self.more.iter() {
                map.entry(key.clone()).or_insert_with(|| value.clone());
            }
        }
        body
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.detail, self.code)
    }
}

impl std::error::Error for Problem {}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        if self.status.is_server_error() {
            tracing::error!(code = %self.code, detail = %self.detail, "a request could not be served");
        }
        let mut response = (self.status, self.to_json().to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"chimera\""));
        }
        response
    }
}

impl From<PortError> for Problem {
    fn from(error: PortError) -> Self {
        match error.kind {
            PortErrorKind::Unavailable | PortErrorKind::Closed => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", format!("{error}; try again in a moment"))
            }
            PortErrorKind::Corrupt => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "corrupt", error.message),
            PortErrorKind::Permanent => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", error.message),
        }
    }
}
