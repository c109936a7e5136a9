//! Connections to the server, and what each is told first.
//!
//! A session that stops in the middle of a transaction must not hold its locks for ever, whatever the server's own settings
//! are. Called by the writers and by the pools.

use super::CONNECT;
use super::pool::within;
use crate::error::postgres_error;
use crate::rows::PortResult;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, PgConnection, raw_sql};

/// A process that stops within a transaction loses it, and others wait for a lock and for an answer only so long. The
/// isolation is the one that the locks of a batch are made for. Compiling a plan takes longer than these statements do.
const SETTINGS: &str = "SET idle_in_transaction_session_timeout = '10s';
    SET lock_timeout = '10s';
    SET statement_timeout = '60s';
    SET default_transaction_isolation = 'read committed';
    SET synchronous_commit = on;
    SET jit = off";

/// Opens a connection, within the time that this may take.
pub(super) async fn open(options: &PgConnectOptions) -> PortResult<PgConnection> {
    let opened = async {
        let mut db = options.connect().await?;
        prepare(&mut db).await?;
        Ok(db)
    };
    within(CONNECT, opened).await.map_err(postgres_error)
}

/// Tells a new connection what every one is told.
pub(super) async fn prepare(db: &mut PgConnection) -> sqlx::Result<()> {
    raw_sql(SETTINGS).execute(db).await.map(drop)
}

/// Tells a new connection for what need not be on disk.
pub(super) async fn prepare_loose(db: &mut PgConnection) -> sqlx::Result<()> {
    prepare(db).await?;
    raw_sql("SET synchronous_commit = off").execute(db).await.map(drop)
}
