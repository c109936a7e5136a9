//! Extractors whose refusals are problems: JSON bodies, query strings, ids in paths.
//!
//! They parse and bound; they decide nothing. Unknown fields are refused by the types themselves. Called by every
//! controller through its arguments.

use super::problem::Problem;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use serde::de::DeserializeOwned;
use std::error::Error as _;
use std::fmt::Display;
use std::str::FromStr;

/// A JSON body.
pub(crate) struct Body<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        if !is_json(request.headers()) {
            let detail = "send the body as JSON, with the header `Content-Type: application/json`";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not-json", detail));
        }
        let bytes = Bytes::from_request(request, state).await.map_err(|e| refused_bytes(&e))?;
        let value = serde_json::from_slice(&bytes).map_err(|error| unexpected(&error))?;
        Ok(Self(value))
    }
}

/// Where the text is no JSON its place helps; where a value is refused the place is in a text that a program wrote.
fn unexpected(error: &serde_json::Error) -> Problem {
    if !error.is_data() {
        return Problem::bad_request("malformed-json", format!("the body is not JSON: {error}"));
    }
    let said = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let said = said.strip_suffix(&place).unwrap_or(&said);
    Problem::bad_request("invalid-body", format!("the body is not what is expected: {said}"))
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(kind) = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()) else { return false };
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

/// The bytes of a body.
pub(crate) struct Raw(pub(crate) Bytes);

impl<S: Send + Sync> FromRequest<S> for Raw {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        Bytes::from_request(request, state).await.map(Self).map_err(|e| refused_bytes(&e))
    }
}

fn refused_bytes(rejection: &BytesRejection) -> Problem {
    match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", "the body is larger than this route accepts")
        }
        status => Problem::new(status, "unreadable-body", rejection.body_text()),
    }
}

/// A query string.
pub(crate) struct Params<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Query(value) = Query::<T>::from_request_parts(parts, state).await.map_err(|rejection| {
            // The rejection's own words are a library's; what it was caused by names the parameter.
            let said = rejection.source().map_or_else(|| rejection.body_text(), ToString::to_string);
            Problem::bad_request("invalid-query", format!("the query is not what is expected: {said}"))
        })?;
        Ok(Self(value))
    }
}

/// The one parameter of a path.
pub(crate) struct Id<T>(pub(crate) T);

impl<S, T> FromRequestParts<S> for Id<T>
where
    S: Send + Sync,
    T: FromStr + Send,
    T::Err: Display,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(text) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|rejection| Problem::bad_request("invalid-path", rejection.body_text()))?;
        text.parse().map(Self).map_err(|error: T::Err| Problem::bad_request("invalid-id", error.to_string()))
    }
}
