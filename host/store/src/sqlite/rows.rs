//! Nouns as SQLite's readers find them.
//!
//! Called by the reads.

use crate::error::port_error;
use crate::rows::{BodyRow, PortResult, noun};
use serde::de::DeserializeOwned;
use sqlx::query::QueryAs;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Sqlite, SqliteExecutor};

/// Every noun that a query of names and bodies finds.
pub(super) async fn nouns<'e, T: DeserializeOwned>(
    table: &'static str,
    db: impl SqliteExecutor<'e>,
    query: QueryAs<'_, Sqlite, BodyRow, SqliteArguments>,
) -> PortResult<Vec<T>> {
    let rows = query.fetch_all(db).await.map_err(port_error)?;
    rows.iter().map(|(id, body)| noun(table, id, body)).collect()
}

/// Every noun that a query of names and bodies finds and that can be read. For lists that the whole house needs: one damaged
/// row must not keep it from starting, and is told of in the log.
pub(super) async fn readable<'e, T: DeserializeOwned>(
    table: &'static str,
    db: impl SqliteExecutor<'e>,
    query: QueryAs<'_, Sqlite, BodyRow, SqliteArguments>,
) -> PortResult<Vec<T>> {
    let rows = query.fetch_all(db).await.map_err(port_error)?;
    let read = rows
        .iter()
        .filter_map(|(id, body)| noun(table, id, body).inspect_err(|error| tracing::error!(%error, "left out")).ok());
    Ok(read.collect())
}

/// The one noun that a query of names and bodies finds.
pub(super) async fn optional<'e, T: DeserializeOwned>(
    table: &'static str,
    db: impl SqliteExecutor<'e>,
    query: QueryAs<'_, Sqlite, BodyRow, SqliteArguments>,
) -> PortResult<Option<T>> {
    let row = query.fetch_optional(db).await.map_err(port_error)?;
    row.map(|(id, body)| noun(table, &id, &body)).transpose()
}
