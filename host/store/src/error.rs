//! What can go wrong with a store, in the operator's words.
//!
//! [`StoreError`] is for opening; once open, callers get core's [`PortError`], made from an error of the readers'
//! driver by [`port_error`], from one of the writer's by [`write_error`], and nowhere else. Neither ever carries a bound value, so no secret can leak through them.

use chimera_core::ports::{PortError, PortErrorKind};
use std::path::PathBuf;

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process owns the data folder.
    #[error(
        "the data folder `{}` is in use by {}; talk to that process, stop it, or choose another folder with --data-dir",
        .folder.display(),
        holder(*.pid)
    )]
    Locked {
        /// The data folder.
        folder: PathBuf,
        /// The process, if it has written its id already.
        pid: Option<u32>,
    },
    /// The folder or a file in it cannot be used.
    #[error(
        "cannot use `{}`: {cause}; make it readable and writable for this user, or choose another folder with --data-dir",
        .path.display()
    )]
    Unreadable {
        /// What cannot be used.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// The database was written by a newer program.
    #[error(
        "`{}` has schema {found} and this program knows only up to {known}: upgrade the program, nothing was changed",
        .path.display()
    )]
    NewerSchema {
        /// The database.
        path: PathBuf,
        /// The schema it has.
        found: i64,
        /// The newest schema this program knows.
        known: i64,
    },
    /// The database is damaged or is something else.
    #[error(
        "`{}` cannot be read as a Chimera database: {cause}; restore it from a backup, or move it away to start empty",
        .path.display()
    )]
    Corrupt {
        /// The database.
        path: PathBuf,
        /// What does not fit.
        cause: String,
    },
    /// The database could not be opened just now.
    #[error("cannot open `{}`: {cause}; check the disk's space and health, then try again", .path.display())]
    Unavailable {
        /// The database.
        path: PathBuf,
        /// Why.
        cause: String,
    },
}

/// Decides what the caller does with a [`StoreError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// Another process owns the data folder: talk to it.
    Locked,
    /// The operator must change the folder or its rights.
    Unreadable,
    /// The operator must upgrade the program.
    NewerSchema,
    /// The operator must restore a backup.
    Corrupt,
    /// May work later.
    Unavailable,
}

impl StoreError {
    /// What kind of error it is.
    pub const fn kind(&self) -> StoreErrorKind {
        match self {
            Self::Locked { .. } => StoreErrorKind::Locked,
            Self::Unreadable { .. } => StoreErrorKind::Unreadable,
            Self::NewerSchema { .. } => StoreErrorKind::NewerSchema,
            Self::Corrupt { .. } => StoreErrorKind::Corrupt,
            Self::Unavailable { .. } => StoreErrorKind::Unavailable,
        }
    }

    pub(crate) fn from_sqlx(path: PathBuf, error: &sqlx::Error) -> Self {
        Self::from_code(path, primary_code(error), error.to_string())
    }

    pub(crate) fn from_sqlite(path: PathBuf, error: &rusqlite::Error) -> Self {
        Self::from_code(path, error.sqlite_error().map(|error| primary(error.extended_code)), error.to_string())
    }

    fn from_code(path: PathBuf, code: Option<u32>, cause: String) -> Self {
        match code {
            Some(codes::CORRUPT | codes::NOT_A_DATABASE | codes::GENERIC) => Self::Corrupt { path, cause },
            Some(codes::CANNOT_OPEN | codes::READ_ONLY | codes::PERMISSION) => Self::Unreadable { path, cause },
            _ => Self::Unavailable { path, cause },
        }
    }
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

/// SQLite's primary result codes (sqlite.org/rescode.html).
mod codes {
    pub(super) const GENERIC: u32 = 1;
    pub(super) const PERMISSION: u32 = 3;
    pub(super) const READ_ONLY: u32 = 8;
    pub(super) const CORRUPT: u32 = 11;
    pub(super) const CANNOT_OPEN: u32 = 14;
    pub(super) const TOO_BIG: u32 = 18;
    pub(super) const CONSTRAINT: u32 = 19;
    pub(super) const MISMATCH: u32 = 20;
    pub(super) const NOT_A_DATABASE: u32 = 26;
    /// An extended one.
    pub(super) const FOREIGN_KEY: i32 = 787;
}

fn primary_code(error: &sqlx::Error) -> Option<u32> {
    error.as_database_error()?.code()?.parse().ok().map(primary)
}

fn primary(extended: i32) -> u32 {
    extended.unsigned_abs() & 0xff
}

fn kind_of(code: Option<u32>) -> PortErrorKind {
    match code {
        Some(codes::CORRUPT | codes::NOT_A_DATABASE) => PortErrorKind::Corrupt,
        Some(codes::GENERIC | codes::CONSTRAINT | codes::MISMATCH | codes::TOO_BIG) => PortErrorKind::Permanent,
        _ => PortErrorKind::Unavailable,
    }
}

/// The port's error for an error of the writer's connection.
pub(crate) fn write_error(error: rusqlite::Error) -> PortError {
    let kind = match &error {
        rusqlite::Error::SqliteFailure(failure, _) if failure.extended_code == codes::FOREIGN_KEY => {
            return reference_missing();
        }
        rusqlite::Error::SqliteFailure(failure, _) => kind_of(Some(primary(failure.extended_code))),
        rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::Utf8Error(..)
        | rusqlite::Error::InvalidColumnType(..) => PortErrorKind::Corrupt,
        _ => PortErrorKind::Permanent,
    };
    PortError::new(kind, format!("database: {error}"))
}

fn reference_missing() -> PortError {
    PortError::new(
        PortErrorKind::Permanent,
        "a row that is referred to does not exist: write a task's campaign, step and spec in the same change or before",
    )
}

/// The port's error for a database error.
pub(crate) fn port_error(error: sqlx::Error) -> PortError {
    let kind = match &error {
        sqlx::Error::Database(database) if database.is_foreign_key_violation() => return reference_missing(),
        sqlx::Error::Database(_) => kind_of(primary_code(&error)),
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => PortErrorKind::Corrupt,
        sqlx::Error::PoolClosed => PortErrorKind::Closed,
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::WorkerCrashed => PortErrorKind::Unavailable,
        _ => PortErrorKind::Permanent,
    };
    PortError::new(kind, format!("database: {error}"))
}

/// The port's error once the store is closed.
pub(crate) fn closed() -> PortError {
    PortError::new(PortErrorKind::Closed, "the store is closed")
}
