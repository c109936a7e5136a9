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
    /// The address of a server cannot be read.
    #[error(
        "the address of PostgreSQL cannot be read: {cause}; write it as `postgres://user:password@host:port/database`"
    )]
    Address {
        /// What does not fit. It never has the address, which may hold a password.
        cause: String,
    },
    /// The server cannot be reached, or cannot serve just now.
    #[error(
        "PostgreSQL at {address} cannot be used now: {cause}; check that it runs, that this machine reaches it, and its disk"
    )]
    Unreachable {
        /// Where it should be.
        address: String,
        /// Why.
        cause: String,
    },
    /// The server does not let this user in, or not do what is needed.
    #[error(
        "PostgreSQL at {address} refuses: {cause}; check user, password and database in its address, and that this user may \
         create tables there"
    )]
    Refused {
        /// Where it is.
        address: String,
        /// Why.
        cause: String,
    },
    /// The server's database was written by a newer program.
    #[error(
        "PostgreSQL at {address} has schema {found} and this program knows only up to {known}: upgrade the program, nothing \
         was changed"
    )]
    NewerServerSchema {
        /// Where it is.
        address: String,
        /// The schema it has.
        found: i64,
        /// The newest schema this program knows.
        known: i64,
    },
    /// The server's database holds something else, or a schema that was changed by hand.
    #[error(
        "PostgreSQL at {address} does not hold a Chimera database that this program knows: {cause}; use an empty database, or \
         restore this one from a backup"
    )]
    ForeignSchema {
        /// Where it is.
        address: String,
        /// What does not fit.
        cause: String,
    },
    /// The address of Redis cannot be read.
    #[error("the address of Redis cannot be read: {cause}; write it as `redis://user:password@host:port/number`")]
    RedisAddress {
        /// What does not fit. It never has the address, which may hold a password.
        cause: String,
    },
    /// Redis cannot be reached, or does not answer as Redis does.
    #[error(
        "Redis at {address} cannot be used now: {cause}; check that it runs there, that this machine reaches it, and that it \
         is not something else"
    )]
    RedisUnreachable {
        /// Where it should be.
        address: String,
        /// Why.
        cause: String,
    },
    /// Redis does not let this user in, or is not one that can be used.
    #[error(
        "Redis at {address} refuses: {cause}; check user, password and number of the database in its address, and that it is \
         Redis 6.2 or newer"
    )]
    RedisRefused {
        /// Where it is.
        address: String,
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
            Self::Unreadable { .. }
            | Self::Address { .. }
            | Self::Refused { .. }
            | Self::RedisAddress { .. }
            | Self::RedisRefused { .. } => StoreErrorKind::Unreadable,
            Self::NewerSchema { .. } | Self::NewerServerSchema { .. } => StoreErrorKind::NewerSchema,
            Self::Corrupt { .. } | Self::ForeignSchema { .. } => StoreErrorKind::Corrupt,
            Self::Unavailable { .. } | Self::Unreachable { .. } | Self::RedisUnreachable { .. } => {
                StoreErrorKind::Unavailable
            }
        }
    }

    pub(crate) fn from_sqlx(path: PathBuf, error: &sqlx::Error) -> Self {
        Self::from_code(path, primary_code(error), error.to_string())
    }

    pub(crate) fn from_sqlite(path: PathBuf, error: &rusqlite::Error) -> Self {
        Self::from_code(path, error.sqlite_error().map(|error| primary(error.extended_code)), error.to_string())
    }

    pub(crate) fn from_postgres(address: &str, error: &sqlx::Error) -> Self {
        let (address, cause) = (address.to_owned(), plain(error));
        match sqlstate(error).as_deref() {
            // Authorization, missing database, missing rights or schema.
            Some(code) if code.starts_with("28") || ["3D000", "42501", "3F000"].contains(&code) => {
                Self::Refused { address, cause }
            }
            Some(code) if code.starts_with("42") => Self::ForeignSchema { address, cause },
            _ => Self::Unreachable { address, cause },
        }
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
    pub(super) const FULL: u32 = 13;
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

/// What the operator can do about a database that cannot be written, by SQLite's code.
fn remedy(code: Option<u32>) -> &'static str {
    match code {
        Some(codes::FULL) => "; make room on its disk, and it goes on by itself",
        Some(codes::READ_ONLY) => "; make it writable for this user, and it goes on by itself",
        _ => "",
    }
}

/// The same by PostgreSQL's code.
fn remedy_by_sqlstate(code: Option<&str>) -> &'static str {
    match code {
        Some("53100") => "; make room on the server's disk, and it goes on by itself",
        Some("25006") => "; the database takes no writes now: let it, and it goes on by itself",
        _ => "",
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
    let code = error.sqlite_error().map(|error| primary(error.extended_code));
    PortError::new(kind, format!("database: {error}{}", remedy(code)))
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

/// PostgreSQL's code of an error (its manual, appendix A).
pub(crate) fn sqlstate(error: &sqlx::Error) -> Option<String> {
    Some(error.as_database_error()?.code()?.into_owned())
}

/// An error in the server's own words, without the driver's.
fn plain(error: &sqlx::Error) -> String {
    error.as_database_error().map_or_else(|| error.to_string(), |error| error.message().to_owned())
}

/// The port's error for an error of PostgreSQL.
pub(crate) fn postgres_error(error: sqlx::Error) -> PortError {
    let kind = match sqlstate(&error).as_deref() {
        Some("23503") => return reference_missing(),
        Some(code) => match code.get(..2).unwrap_or_default() {
            "XX" => PortErrorKind::Corrupt,
            "22" | "23" | "42" | "54" => PortErrorKind::Permanent,
            _ => PortErrorKind::Unavailable,
        },
        None => match &error {
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => PortErrorKind::Corrupt,
            sqlx::Error::PoolClosed => PortErrorKind::Closed,
            sqlx::Error::Encode(_) => PortErrorKind::Permanent,
            _ => PortErrorKind::Unavailable,
        },
    };
    let remedy = remedy_by_sqlstate(sqlstate(&error).as_deref());
    PortError::new(kind, format!("PostgreSQL: {}{remedy}", plain(&error)))
}

/// The port's error once the store is closed.
pub(crate) fn closed() -> PortError {
    PortError::new(PortErrorKind::Closed, "the store is closed")
}
