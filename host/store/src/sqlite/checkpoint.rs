//! Carries what is in the write-ahead log over into the database, beside the writer.
//!
//! SQLite does it within a commit whenever the log has grown by a thousand pages, and whoever waits for that commit waits
//! for thousands of pages to reach the disk as well. Here a thread with a connection of its own does it, passively: neither
//! readers nor the writer wait for it (sqlite.org/c3ref/wal_checkpoint_v2.html). Only when it cannot keep up does
//! the writer carry over itself, so the log stays bounded. Started and told by the writer.

use super::connection::{self, Place};
use rusqlite::Connection;
use std::cell::Cell;
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender, TrySendError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Pages in the log from which on they are carried over: 8 MiB. A page that was written many times is carried over once.
const ENOUGH: i32 = 2_000;
/// Pages in the log from which on the writer does it itself: 64 MiB.
const TOO_MANY: i32 = 16_000;
/// How long the thread waits before it tries again what somebody else kept it from.
const PAUSE: Duration = Duration::from_millis(100);

const CARRY_OVER: &str = "PRAGMA wal_checkpoint(PASSIVE)";

thread_local! {
    /// Pages in the log after the last commit of this thread.
    static PAGES: Cell<i32> = const { Cell::new(0) };
}

/// The writer's end.
#[derive(Debug)]
pub(super) struct Checkpoints {
    wake: SyncSender<()>,
    /// Pages in the log when the thread was woken last.
    told: i32,
    thread: JoinHandle<()>,
}

/// Has this connection count the log's pages instead of carrying them over.
pub(super) fn count_only(db: &Connection) {
    db.wal_hook(Some(|_, pages| {
        PAGES.set(pages);
        Ok(())
    }));
}

impl Checkpoints {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn start(place: Place) -> std::io::Result<Self> {
        let (wake, woken) = mpsc::sync_channel(1);
        let thread = std::thread::Builder::new().name("chimera-carry".to_owned());
        let thread = thread.spawn(move || {
            // At once, so that it has what it takes from the beginning; if it cannot be had now it is tried again.
            let mut db = connection::open(&place).ok();
            while woken.recv().is_ok() {
                if let Err(error) = carry_over(&mut db, &place) {
                    tracing::debug!(%error, "the write-ahead log was not carried over; tried again");
                    db = None;
                    match woken.recv_timeout(PAUSE) {
                        Ok(()) | Err(RecvTimeoutError::Timeout) => {}
                        Err(RecvTimeoutError::Disconnected) => return,
                    }
                }
            }
        })?;
        Ok(Self { wake, told: 0, thread })
    }

    /// The writer's connection has committed.
    pub(super) fn after_commit(&mut self, db: &Connection) {
        let pages = PAGES.get();
        // The log is begun anew once all of it was carried over and nobody reads it.
        if pages < self.told {
            self.told = 0;
        }
        if pages >= TOO_MANY {
            if let Err(error) = passive(db) {
                tracing::warn!(%error, pages, "the write-ahead log grows: it could not be carried over");
            }
        } else if pages - self.told >= ENOUGH {
            self.told = pages;
            match self.wake.try_send(()) {
                Ok(()) | Err(TrySendError::Full(())) => {}
                Err(TrySendError::Disconnected(())) => tracing::error!("nobody carries the write-ahead log over"),
            }
        }
    }

    /// Waits for the thread, so that the connection that is closed last leaves no log behind.
    pub(super) fn end(self) {
        drop(self.wake);
        if self.thread.join().is_err() {
            tracing::error!("the thread that carries the write-ahead log over has panicked");
        }
    }
}

fn carry_over(db: &mut Option<Connection>, place: &Place) -> rusqlite::Result<()> {
    let db = match db {
        Some(db) => db,
        none => none.insert(connection::open(place)?),
    };
    passive(db)
}

fn passive(db: &Connection) -> rusqlite::Result<()> {
    db.prepare_cached(CARRY_OVER)?.query_row([], |_| Ok(()))
}
