//! The connection that writes.
//!
//! How it is opened, and what it waits for. It holds no SQL of nouns. Called by the writer, by the checkpoints and when the
//! store is opened.

use chimera_core::change::Durability;
use rusqlite::{Connection, OpenFlags};
use std::path::PathBuf;
use std::time::Duration;

/// Statements that are kept prepared.
const STATEMENTS: usize = 200;
/// Pages of the database that are kept in memory, in KiB.
const CACHE_KIB: i64 = 8 << 10;

/// Where the database is, and how long another program that holds it is waited for.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    pub(super) busy_timeout: Duration,
}

/// Opens the database, which must be there; commits are waited for until they are on disk.
pub(super) fn open(place: &Place) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(&place.path, flags)?;
    db.busy_timeout(place.busy_timeout)?;
    db.set_prepared_statement_cache_capacity(STATEMENTS);
    db.pragma_update(None, "foreign_keys", true)?;
    db.pragma_update(None, "journal_size_limit", 64 << 20)?;
    // What a statement may have to undo is kept there: not in files of its own.
    db.pragma_update(None, "temp_store", "MEMORY")?;
    db.pragma_update(None, "cache_size", -CACHE_KIB)?;
    wait(&db, Durability::Now)?;
    Ok(db)
}

/// Has commits wait for the disk, or not.
pub(super) fn wait(db: &Connection, durability: Durability) -> rusqlite::Result<()> {
    let wish = match durability {
        Durability::Now => "FULL",
        Durability::WithNext => "NORMAL",
    };
    db.pragma_update(None, "synchronous", wish)
}
