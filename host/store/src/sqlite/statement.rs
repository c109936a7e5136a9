//! One statement on the writer's connection.
//!
//! It is kept prepared by its text, and its values are bound in their order. It decides nothing about what is written.
//! Called by everything that works inside the writer's transaction.

use crate::error::write_error;
use crate::rows::PortResult;
use chimera_core::digest::Digest;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, Row, ToSql};
use std::cell::RefCell;
use std::rc::Rc;
use uuid::Uuid;
use uuid::fmt::Hyphenated;

/// The connection for the time of one batch, with the statements that the batch needed so far: the driver finds one by its
/// whole text each time, and this by where the text is, which is a constant.
pub(super) struct Session<'c> {
    db: &'c Connection,
    ready: RefCell<Vec<(Place, Shared<'c>)>>,
}

/// Where a statement's text is, and its length: of two constants one may lie within the other.
type Place = (usize, usize);
type Shared<'c> = Rc<RefCell<CachedStatement<'c>>>;

impl<'c> Session<'c> {
    /// Begins with no statement.
    pub(super) fn on(db: &'c Connection) -> Self {
        Self { db, ready: RefCell::default() }
    }

    /// Is no transaction open?
    pub(super) fn is_autocommit(&self) -> bool {
        self.db.is_autocommit()
    }

    fn statement(&self, sql: &'static str) -> rusqlite::Result<Shared<'c>> {
        let place = (sql.as_ptr() as usize, sql.len());
        let mut ready = self.ready.borrow_mut();
        if let Some((_, statement)) = ready.iter().find(|(of, _)| *of == place) {
            // One whose values are just being bound is not bound by somebody else meanwhile.
            if Rc::strong_count(statement) == 1 {
                return Ok(statement.clone());
            }
            return Ok(Rc::new(RefCell::new(self.db.prepare_cached(sql)?)));
        }
        let statement = Rc::new(RefCell::new(self.db.prepare_cached(sql)?));
        ready.push((place, statement.clone()));
        Ok(statement)
    }
}

/// A statement whose values are being bound.
#[must_use = "nothing is done until it runs"]
pub(super) struct Bound<'c> {
    statement: Shared<'c>,
    bound: usize,
    failed: Option<rusqlite::Error>,
}

/// Prepares a statement, or takes it as it was prepared before.
pub(super) fn statement<'c>(db: &Session<'c>, sql: &'static str) -> PortResult<Bound<'c>> {
    let statement = db.statement(sql).map_err(write_error)?;
    Ok(Bound { statement, bound: 0, failed: None })
}

impl Bound<'_> {
    /// The next value.
    pub(super) fn bind(mut self, value: impl ToSql) -> Self {
        self.bound += 1;
        let bound = self.statement.borrow_mut().raw_bind_parameter(self.bound, value);
        if let Err(error) = bound {
            self.failed.get_or_insert(error);
        }
        self
    }

    /// Runs it; how many rows it touched.
    pub(super) fn run(mut self) -> PortResult<usize> {
        self.complete()?;
        self.statement.borrow_mut().raw_execute().map_err(write_error)
    }

    /// Does it give any row?
    pub(super) fn has_any(self) -> PortResult<bool> {
        self.first(|_| Ok(())).map(|row| row.is_some())
    }

    /// The first row that it gives.
    pub(super) fn first<T>(mut self, read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>) -> PortResult<Option<T>> {
        self.complete()?;
        let mut statement = self.statement.borrow_mut();
        let mut rows = statement.raw_query();
        rows.next().map_err(write_error)?.map(read).transpose().map_err(write_error)
    }

    /// Every row that it gives.
    pub(super) fn all<T>(mut self, read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>) -> PortResult<Vec<T>> {
        self.complete()?;
        let mut statement = self.statement.borrow_mut();
        statement.raw_query().mapped(read).collect::<rusqlite::Result<_>>().map_err(write_error)
    }

    fn complete(&mut self) -> PortResult<()> {
        debug_assert_eq!(self.bound, self.statement.borrow().parameter_count(), "every value is bound");
        self.failed.take().map_or(Ok(()), |error| Err(write_error(error)))
    }
}

/// Runs a statement without values that comes again and again, such as those that begin and end a transaction.
pub(super) fn run(db: &Session<'_>, sql: &'static str) -> PortResult<()> {
    statement(db, sql)?.run().map(drop)
}

/// A short text of a known length, which costs no allocation.
pub(super) struct ShortText<const LENGTH: usize>([u8; LENGTH]);

impl<const LENGTH: usize> ToSql for ShortText<LENGTH> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Text(&self.0)))
    }
}

/// An id as SQL keeps it.
pub(super) fn id(id: Uuid) -> ShortText<{ Hyphenated::LENGTH }> {
    let mut text = [0; Hyphenated::LENGTH];
    id.hyphenated().encode_lower(&mut text);
    ShortText(text)
}

/// An optional id as SQL keeps it.
pub(super) fn id_of(of: Option<Uuid>) -> Option<ShortText<{ Hyphenated::LENGTH }>> {
    of.map(id)
}

/// A digest as SQL keeps it.
pub(super) fn digest(digest: &Digest) -> ShortText<{ Digest::TEXT_LENGTH }> {
    ShortText(digest.text())
}
