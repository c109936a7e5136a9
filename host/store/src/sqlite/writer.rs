//! The one writer: takes jobs from a channel and commits many at once.
//!
//! It is a thread that holds the one connection which writes: everything of a batch is done there in a row, and what costs
//! a change of thread is only to hand a job in and to be answered. A stale or failing job never costs its neighbours
//! anything, and nobody is answered before the batch is durable. It decides nothing about what is written. Started by [`SqliteStore::open`](super::SqliteStore::open).

use super::chain::Heads;
use super::checkpoint::{self, Checkpoints};
use super::connection::{self, Place};
use super::guards;
use super::purge::Purge;
use super::recent::Recent;
use super::statement;
use super::transport::{self, OutboxClaim};
use super::writes;
use crate::error::write_error;
use crate::folder::FolderLock;
use crate::installed::Installed;
use crate::rows::PortResult;
use chimera_core::change::{Change, Committed, Durability, Outbox, Write};
use chimera_core::failpoint;
use chimera_core::ports::{Notice, PortError, PortErrorKind};
use rusqlite::Connection;
use std::sync::Arc;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

/// Something to be written, and who waits for it.
pub(super) struct Job {
    pub(super) work: Work,
    pub(super) reply: oneshot::Sender<PortResult<Answer>>,
}

/// Something to be written.
pub(super) enum Work {
    Commit(Change),
    ClaimOutbox(OutboxClaim),
    ReleaseOutboxClaims,
}

/// What came of it.
pub(super) enum Answer {
    Committed(Committed),
    Outbox(Vec<Outbox>),
    Done,
}

pub(super) struct Writer {
    pub(super) place: Place,
    /// None after an error that the connection may not have survived.
    pub(super) db: Option<Connection>,
    pub(super) jobs: mpsc::Receiver<Job>,
    pub(super) notices: broadcast::Sender<Notice>,
    pub(super) group_max: usize,
    /// Released only when the last write is over.
    pub(super) lock: Arc<FolderLock>,
    /// Dropped at the very end: whoever closes the store waits for it.
    pub(super) running: watch::Sender<()>,
    pub(super) checkpoints: Checkpoints,
    pub(super) installed: Arc<Installed>,
    pub(super) recent: Arc<Recent>,
    pub(super) heads: Heads,
    pub(super) purge: Purge,
    /// How long the connection waits when it commits.
    pub(super) waits: Durability,
}

impl Writer {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn start(self) -> std::io::Result<()> {
        let thread = std::thread::Builder::new().name("chimera-store".to_owned());
        thread.spawn(move || self.run()).map(drop)
    }

    /// Runs until every store handle is gone or the store is closed; whatever was accepted by then is still committed.
    fn run(mut self) {
        while let Some(first) = self.jobs.blocking_recv() {
            let mut batch = vec![first];
            self.drain(&mut batch);
            self.commit(batch);
        }
        let Self { db, lock, running, checkpoints, .. } = self;
        checkpoints.end();
        if let Some(db) = db
            && let Err((_, error)) = db.close()
        {
            tracing::warn!(%error, "closing the database");
        }
        drop(lock);
        drop(running);
    }

    /// Whatever came while the last batch was committed.
    fn drain(&mut self, batch: &mut Vec<Job>) {
        while batch.len() < self.group_max
            && let Ok(job) = self.jobs.try_recv()
        {
            batch.push(job);
        }
    }

    fn commit(&mut self, batch: Vec<Job>) {
        let (works, replies): (Vec<Work>, Vec<_>) = batch.into_iter().map(|job| (job.work, job.reply)).unzip();
        match self.transact(&works) {
            Ok(done) => {
                self.remember(works, &done.answers);
                for (reply, answer) in replies.into_iter().zip(done.answers) {
                    // A caller that stopped waiting reads the truth again.
                    let _ = reply.send(answer);
                }
                for notice in done.notices {
                    let _ = self.notices.send(notice);
                }
            }
            Err(error) => {
                tracing::error!(%error, jobs = works.len(), "a batch could not be committed");
                self.abandon();
                let kind = match error.kind {
                    PortErrorKind::Corrupt => PortErrorKind::Corrupt,
                    _ => PortErrorKind::Unavailable,
                };
                for reply in replies {
                    let _ = reply.send(Err(PortError::new(kind, error.message.clone())));
                }
            }
        }
    }

    /// Closing the connection rolls back whatever is open on it; the next batch connects anew.
    fn abandon(&mut self) {
        self.heads.forget();
        self.waits = Durability::Now;
        // What was thrown away may be there again.
        self.purge = Purge::default();
        self.db = None;
    }

    /// One transaction for the whole batch. An error here is everybody's; a job's own is in its answer.
    fn transact(&mut self, works: &[Work]) -> PortResult<Batch> {
        let db = match &mut self.db {
            Some(db) => db,
            none => none.insert(connect(&self.place).map_err(write_error)?),
        };
        let durability = if works.iter().all(|work| work.durability() == Durability::WithNext) {
            Durability::WithNext
        } else {
            Durability::Now
        };
        if durability != self.waits {
            connection::wait(db, durability).map_err(write_error)?;
            self.waits = durability;
        }
        let is_heard = self.notices.receiver_count() > 0;
        let mut turn = BatchTurn { db, heads: &mut self.heads, purge: &mut self.purge, is_heard };
        let batch = match turn.take(works, Undo::Batch)? {
            Some(batch) => batch,
            // One of them failed, and costs its neighbours nothing but this.
            None => turn.take(works, Undo::Job)?.unwrap_or_default(),
        };
        self.heads.commit();
        self.checkpoints.after_commit(db);
        Ok(batch)
    }

    /// What was committed is kept as it is: it was made for this and is needed for nothing else.
    fn remember(&self, works: Vec<Work>, answers: &[PortResult<Answer>]) {
        for (work, answer) in works.into_iter().zip(answers) {
            match (work, answer) {
                (Work::Commit(change), Ok(Answer::Committed(Committed::Applied))) => {
                    self.installed.written(&change.writes);
                    self.recent.written(change.writes);
                }
                (_, Ok(Answer::Committed(Committed::Stale(guard)))) => self.recent.stale(guard),
                _ => {}
            }
        }
    }
}

/// Opens the connection that writes.
pub(super) fn connect(place: &Place) -> rusqlite::Result<Connection> {
    let db = connection::open(place)?;
    checkpoint::count_only(&db);
    Ok(db)
}

impl Work {
    /// Claims are hints that are lifted at every start.
    fn durability(&self) -> Durability {
        match self {
            Self::Commit(change) => change.durability,
            _ => Durability::WithNext,
        }
    }
}

#[derive(Default)]
struct Batch {
    answers: Vec<PortResult<Answer>>,
    notices: Vec<Notice>,
}

/// What is undone when a job fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Undo {
    /// Everything. A job that is stale has written nothing yet, so hardly any has to be undone, and SQLite need not keep what
    /// each of them changes.
    Batch,
    /// What it has done itself.
    Job,
}

/// A batch's turn on the connection.
struct BatchTurn<'t> {
    db: &'t Connection,
    heads: &'t mut Heads,
    purge: &'t mut Purge,
    is_heard: bool,
}

impl BatchTurn<'_> {
    /// Does every job in one transaction; none if all of it was undone because one failed. An error is the whole batch's,
    /// a job's own is in its answer.
    fn take(&mut self, works: &[Work], undo: Undo) -> PortResult<Option<Batch>> {
        self.heads.begin();
        let mut batch = Batch::default();
        let has_changes = works.iter().any(|work| matches!(work, Work::Commit(_)));
        statement::run(self.db, "BEGIN IMMEDIATE")?;
        for work in works {
            let told = &mut batch.notices;
            let answer = match undo {
                Undo::Batch => match self.work(work, told) {
                    Ok(answer) => Ok(answer),
                    Err(error) if self.db.is_autocommit() => return Err(error),
                    Err(_) => return statement::run(self.db, "ROLLBACK").map(|()| None),
                },
                Undo::Job => self.work_apart(work, told)?,
            };
            batch.answers.push(answer);
        }
        self.heads.write(self.db)?;
        if has_changes {
            failpoint::hit("store.before_commit");
        }
        statement::run(self.db, "COMMIT")?;
        if has_changes {
            failpoint::hit("store.after_commit");
        }
        Ok(Some(batch))
    }

    /// Does a job, or undoes it. The outer error is the whole batch's.
    fn work_apart(&mut self, work: &Work, told: &mut Vec<Notice>) -> PortResult<PortResult<Answer>> {
        statement::run(self.db, "SAVEPOINT job")?;
        let done = self.work(work, told);
        match done {
            Ok(answer) => {
                statement::run(self.db, "RELEASE job")?;
                Ok(Ok(answer))
            }
            // After some errors SQLite ends the transaction by itself, with whatever else was in it.
            Err(error) if self.db.is_autocommit() => Err(error),
            Err(error) => {
                statement::run(self.db, "ROLLBACK TO job")?;
                statement::run(self.db, "RELEASE job")?;
                Ok(Err(error))
            }
        }
    }

    fn work(&mut self, work: &Work, told: &mut Vec<Notice>) -> PortResult<Answer> {
        match work {
            Work::Commit(change) => self.commit(change, told).map(Answer::Committed),
            Work::ClaimOutbox(claim) => {
                let claimed = transport::claim_outbox(self.db, claim)?;
                self.purge.turn(self.db, claim.now)?;
                Ok(Answer::Outbox(claimed))
            }
            Work::ReleaseOutboxClaims => transport::release_outbox_claims(self.db).map(|()| Answer::Done),
        }
    }

    /// Guards first: what is stale has written nothing.
    fn commit(&mut self, change: &Change, told: &mut Vec<Notice>) -> PortResult<Committed> {
        if let Some(guard) = guards::first_broken(self.db, &change.guards)? {
            return Ok(Committed::Stale(guard.clone()));
        }
        writes::apply(self.db, &change.writes)?;
        // Looked up in the transaction, so that nobody else appends meanwhile.
        self.heads.find(self.db, &change.audit)?;
        let appended = self.heads.append(self.db, &change.audit)?;
        let events = self.heads.keep(appended);
        if self.is_heard {
            told.extend(events.into_iter().map(|event| Notice::Audited(Arc::new(event))));
            told.extend(change.writes.iter().filter_map(|write| match write {
                Write::PutOutbox(row) => Some(Notice::Outbox(row.topic)),
                _ => None,
            }));
        }
        Ok(Committed::Applied)
    }
}
