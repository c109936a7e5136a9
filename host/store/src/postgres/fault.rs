//! Why a transaction did not come about, and so what is done about it.
//!
//! Everything inside a writing transaction returns a [`Fault`]; the batch decides by it. Classes and codes are those of
//! PostgreSQL's manual, appendix A (SQLSTATE). Made from the driver's errors, and from those of a noun that cannot be
//! written.

use crate::error::postgres_error;
use chimera_core::ports::PortError;

pub(super) type Written<T> = Result<T, Fault>;

/// What stood in the way of a transaction.
#[derive(Debug)]
pub(super) enum Fault {
    /// One of the changes: it will not work.
    Change(PortError),
    /// What somebody else did at the same time: it may work now.
    Others(PortError),
    /// The server or the way to it.
    Connection(PortError),
}

impl From<PortError> for Fault {
    fn from(error: PortError) -> Self {
        Self::Change(error)
    }
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(|error| error.code()).map(|code| code.into_owned());
        let is_from_server = code.is_some();
        let fault = match code.as_deref() {
            // Unique violation, serialization failure, deadlock, lock not available, out of shared memory for locks.
            Some("23505" | "40001" | "40P01" | "55P03" | "53200") => Self::Others,
            // Data, constraints, and what a limit of the program says.
            Some(code) if ["22", "23", "42", "54"].contains(&code.get(..2).unwrap_or_default()) => Self::Change,
            // A value that cannot be encoded or decoded.
            _ if !is_from_server
                && !matches!(error, sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::Tls(_)) =>
            {
                Self::Change
            }
            _ => Self::Connection,
        };
        fault(postgres_error(error))
    }
}

impl Fault {
    /// The error that a caller is told.
    pub(super) fn into_error(self) -> PortError {
        match self {
            Self::Change(error) | Self::Others(error) | Self::Connection(error) => error,
        }
    }
}
