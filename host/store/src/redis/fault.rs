//! What can go wrong with Redis, as the callers are told it.
//!
//! A password is cut out of whatever a server says: what is not Redis may well repeat it. Called by [`super::link`].

use crate::error::StoreError;
use ::redis::{ErrorKind, RedisError, ServerError, ServerErrorKind};
use chimera_core::ports::{PortError, PortErrorKind};
use chimera_core::text::{printable, truncated};

/// Longest cause that is told, in bytes.
const MAX_CAUSE: usize = 300;

/// Which server it is and what must not be told of it.
#[derive(Clone)]
pub(super) struct Where {
    /// For people: without user and password.
    pub(super) address: String,
    /// The password, as it is sent.
    pub(super) secret: Option<String>,
}

impl Where {
    /// What has gone wrong, in words that have no secret.
    pub(super) fn cause(&self, error: &RedisError) -> String {
        let text = match error.kind() {
            _ if error.is_timeout() => "it does not answer in time".to_owned(),
            ErrorKind::Parse => "what answers there is not Redis".to_owned(),
            ErrorKind::AuthenticationFailed => "user or password are wrong".to_owned(),
            _ => match server_error(error) {
                Some(error) => {
                    format!("{} {}", error.code(), error.details().unwrap_or_default()).trim_end().to_owned()
                }
                None => error.to_string(),
            },
        };
        let text = match self.secret.as_deref() {
            Some(secret) if !secret.is_empty() => text.replace(secret, "…"),
            _ => text,
        };
        truncated(printable(&text), MAX_CAUSE)
    }

    /// The port's error for an error of Redis.
    pub(super) fn port_error(&self, error: &RedisError) -> PortError {
        self.port_error_of(kind(error), &self.cause(error))
    }

    /// The port's error for such a cause.
    pub(super) fn port_error_of(&self, kind: PortErrorKind, cause: &str) -> PortError {
        PortError::new(kind, format!("Redis at {}: {cause}", self.address))
    }

    /// The error for the operator at the start.
    pub(super) fn store_error(&self, error: &RedisError) -> StoreError {
        let (address, cause) = (self.address.clone(), self.cause(error));
        if is_refusal(error) {
            StoreError::RedisRefused { address, cause }
        } else {
            StoreError::RedisUnreachable { address, cause }
        }
    }
}

/// What the server said, of several things the first.
fn server_error(error: &RedisError) -> Option<ServerError> {
    error.clone().into_server_errors()?.first().map(|(_, error)| error.clone())
}

fn says(error: &RedisError, codes: &[&str]) -> bool {
    server_error(error).is_some_and(|error| codes.contains(&error.code()))
}

fn is_refusal(error: &RedisError) -> bool {
    match error.kind() {
        ErrorKind::AuthenticationFailed | ErrorKind::InvalidClientConfig => true,
        ErrorKind::Server(ServerErrorKind::NoPerm | ServerErrorKind::ResponseError) => true,
        _ => says(error, &["NOAUTH", "WRONGPASS"]),
    }
}

/// Of everything that a server refuses it may think better later: rights, memory, its role. Only keys that hold something
/// else will not heal.
fn kind(error: &RedisError) -> PortErrorKind {
    match error.kind() {
        _ if says(error, &["WRONGTYPE"]) => PortErrorKind::Corrupt,
        ErrorKind::UnexpectedReturnType => PortErrorKind::Corrupt,
        _ => PortErrorKind::Unavailable,
    }
}

/// Must another connection be made before anything else can be asked?
pub(super) fn breaks_connection(error: &RedisError) -> bool {
    match error.kind() {
        ErrorKind::Io | ErrorKind::Parse | ErrorKind::AuthenticationFailed => true,
        // It is another server's turn now, which the address may lead to.
        ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown) => true,
        _ => says(error, &["NOAUTH"]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_that_a_server_repeats_is_not_told() {
        let place = Where { address: "h:1".to_owned(), secret: Some("hunter2".to_owned()) };
        let says = "unknown command 'AUTH', with args beginning with: 'hunter2'\u{1b}[2J".to_owned();
        let error = RedisError::from((ErrorKind::Extension, "refused", says));
        let told = place.port_error(&error).message;
        assert!(!told.contains("hunter2") && !told.contains('\u{1b}') && told.contains("AUTH"), "{told}");
    }
}
