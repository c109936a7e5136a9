//! The one writer: takes jobs from a channel and commits many at once.
//!
//! It is a thread that holds the one connection which writes: everything of a batch is done there in a row, and what costs
//! a change of thread is only to hand a job in and to be answered. A stale or failing job never costs its neighbours
//! anything, and nobody is answered before the batch is durable. It decides nothing about what is written. Started by [`SqliteStore::open`](super::SqliteStore::open).

use super::chain::{Heads, Place as InChain, write_events};
use super::checkpoint::{self, Checkpoints};
use super::connection::{self, Place};
use super::guards;
use super::prepared::{Event, Prepared, Row};
use super::purge::Purge;
use super::recent::Recent;
use super::statement::{self, Session};
use super::transport::{self, OutboxClaim};
use super::writes::{self, Counts};
use crate::error::write_error;
use crate::folder::FolderLock;
use crate::installed::Installed;
use crate::listen::Notices;
use crate::rows::PortResult;
use chimera_core::change::{Committed, Durability, Outbox, Write};
use chimera_core::failpoint;
use chimera_core::ports::{Notice, PortError, PortErrorKind};
use chimera_core::skill::SkillRef;
use rusqlite::Connection;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};

/// Things to be written, each by itself, and who waits for all of them.
pub(super) struct Job {
    pub(super) works: Vec<Work>,
    /// Answers in the order of the works.
    pub(super) reply: oneshot::Sender<Vec<PortResult<Answer>>>,
}

/// Something to be written.
pub(super) enum Work {
    Commit(Prepared),
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
    /// A job for which there was no room in the last batch.
    pub(super) next: Option<Job>,
    pub(super) notices: Notices,
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
        while let Some(first) = self.next.take().or_else(|| self.jobs.blocking_recv()) {
            let batch = self.gather(first);
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
    fn gather(&mut self, first: Job) -> Vec<Job> {
        let mut works = first.works.len();
        let mut batch = vec![first];
        while works < self.group_max
            && let Ok(job) = self.jobs.try_recv()
        {
            works += job.works.len();
            if works > self.group_max {
                self.next = Some(job);
                break;
            }
            batch.push(job);
        }
        batch
    }

    fn commit(&mut self, batch: Vec<Job>) {
        let mut works = Vec::with_capacity(batch.iter().map(|job| job.works.len()).sum());
        let mut replies = Vec::with_capacity(batch.len());
        for job in batch {
            replies.push((job.works.len(), job.reply));
            works.extend(job.works);
        }
        match self.transact(&works) {
            Ok(Batch { answers, places }) => {
                let notices = self.remember(works, &answers, places);
                let mut answers = answers.into_iter();
                for (count, reply) in replies {
                    // A caller that stopped waiting reads the truth again.
                    let _ = reply.send(answers.by_ref().take(count).collect());
                }
                self.notices.send_all(notices);
            }
            Err(error) => {
                tracing::error!(%error, jobs = works.len(), "a batch could not be committed");
                self.abandon();
                let kind = match error.kind {
                    PortErrorKind::Corrupt => PortErrorKind::Corrupt,
                    _ => PortErrorKind::Unavailable,
                };
                for (count, reply) in replies {
                    let failed = || Err(PortError::new(kind, error.message.clone()));
                    let _ = reply.send(std::iter::repeat_with(failed).take(count).collect());
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
        let sets_routes = works.iter().any(Work::sets_routes);
        let installed = &self.installed;
        // What is kept of routes is what was there before the batch.
        let counts = |skill: &SkillRef| sets_routes || installed.is_on_trial(skill) != Some(false);
        let session = Session::on(db);
        let mut turn = BatchTurn { db: &session, heads: &mut self.heads, purge: &mut self.purge, counts: &counts };
        let batch = match turn.take(works, Undo::Batch)? {
            Some(batch) => batch,
            // One of them failed, and costs its neighbours nothing but this.
            None => turn.take(works, Undo::Job)?.unwrap_or_default(),
        };
        drop(session);
        self.heads.commit();
        self.checkpoints.after_commit(db);
        Ok(batch)
    }

    /// What was committed is kept as it is: it was made for this and is needed for nothing else. Gives what listeners are
    /// to be told.
    fn remember(&self, works: Vec<Work>, answers: &[PortResult<Answer>], places: Vec<InChain>) -> Vec<Notice> {
        let is_heard = self.notices.are_heard();
        let (mut places, mut told) = (places.into_iter(), Vec::new());
        for (work, answer) in works.into_iter().zip(answers) {
            match (work, answer) {
                (Work::Commit(Prepared { rows, events, .. }), Ok(Answer::Committed(Committed::Applied))) => {
                    self.installed.written(rows.iter().map(|row| &row.write));
                    let placed = events.into_iter().zip(places.by_ref());
                    if is_heard {
                        told.extend(placed.map(|(event, place)| Notice::Audited(Arc::new(place.take(event)))));
                        told.extend(rows.iter().filter_map(|row| match &row.write {
                            Write::PutOutbox(row) => Some(Notice::Outbox(row.topic)),
                            _ => None,
                        }));
                    } else {
                        placed.for_each(drop);
                    }
                    self.recent.written(rows.into_iter().map(|row| row.write));
                }
                (_, Ok(Answer::Committed(Committed::Stale(guard)))) => self.recent.stale(guard),
                _ => {}
            }
        }
        told
    }
}

/// Opens the connection that writes.
pub(super) fn connect(place: &Place) -> rusqlite::Result<Connection> {
    let db = connection::open(place)?;
    checkpoint::count_only(&db);
    Ok(db)
}

impl Work {
    /// Does it change which versions are on trial?
    fn sets_routes(&self) -> bool {
        let is_route = |row: &Row| matches!(row.write, Write::PutRoute(_));
        matches!(self, Self::Commit(change) if change.rows.iter().any(is_route))
    }

    /// Claims are hints that are lifted at every start.
    fn durability(&self) -> Durability {
        match self {
            Self::Commit(change) => change.durability,
            _ => Durability::WithNext,
        }
    }
}

/// Events of a batch with their places, in their order.
type Placed<'w> = Vec<(&'w Event, InChain)>;

#[derive(Default)]
struct Batch {
    answers: Vec<PortResult<Answer>>,
    /// Of the events of all changes that were applied, in their order.
    places: Vec<InChain>,
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
struct BatchTurn<'t, 'c> {
    db: &'t Session<'c>,
    heads: &'t mut Heads,
    purge: &'t mut Purge,
    counts: Counts<'t>,
}

impl BatchTurn<'_, '_> {
    /// Does every job in one transaction; none if all of it was undone because one failed. An error is the whole batch's,
    /// a job's own is in its answer.
    fn take(&mut self, works: &[Work], undo: Undo) -> PortResult<Option<Batch>> {
        self.heads.begin();
        let (mut answers, mut placed) = (Vec::with_capacity(works.len()), Vec::with_capacity(works.len()));
        let has_changes = works.iter().any(|work| matches!(work, Work::Commit(_)));
        statement::run(self.db, "BEGIN IMMEDIATE")?;
        for work in works {
            let placed = &mut placed;
            let answer = match undo {
                Undo::Batch => match self.work(work, placed) {
                    Ok(answer) => Ok(answer),
                    Err(error) if self.db.is_autocommit() => return Err(error),
                    Err(_) => return statement::run(self.db, "ROLLBACK").map(|()| None),
                },
                Undo::Job => self.work_apart(work, placed)?,
            };
            answers.push(answer);
        }
        write_events(self.db, &placed)?;
        self.heads.write(self.db)?;
        if has_changes {
            failpoint::hit("store.before_commit");
        }
        statement::run(self.db, "COMMIT")?;
        if has_changes {
            failpoint::hit("store.after_commit");
        }
        Ok(Some(Batch { answers, places: placed.into_iter().map(|(_, place)| place).collect() }))
    }

    /// Does a job, or undoes it. The outer error is the whole batch's.
    fn work_apart<'w>(&mut self, work: &'w Work, places: &mut Placed<'w>) -> PortResult<PortResult<Answer>> {
        statement::run(self.db, "SAVEPOINT job")?;
        let (heads, placed) = (self.heads.appended(), places.len());
        match self.work(work, places) {
            Ok(answer) => {
                statement::run(self.db, "RELEASE job")?;
                Ok(Ok(answer))
            }
            // After some errors SQLite ends the transaction by itself, with whatever else was in it.
            Err(error) if self.db.is_autocommit() => Err(error),
            Err(error) => {
                statement::run(self.db, "ROLLBACK TO job")?;
                statement::run(self.db, "RELEASE job")?;
                self.heads.take_back(heads);
                places.truncate(placed);
                Ok(Err(error))
            }
        }
    }

    fn work<'w>(&mut self, work: &'w Work, places: &mut Placed<'w>) -> PortResult<Answer> {
        match work {
            Work::Commit(change) => self.commit(change, places).map(Answer::Committed),
            Work::ClaimOutbox(claim) => {
                let claimed = transport::claim_outbox(self.db, claim)?;
                self.purge.turn(self.db, claim.now)?;
                Ok(Answer::Outbox(claimed))
            }
            Work::ReleaseOutboxClaims => transport::release_outbox_claims(self.db).map(|()| Answer::Done),
        }
    }

    /// Guards first: what is stale has written nothing.
    fn commit<'w>(&mut self, change: &'w Prepared, places: &mut Placed<'w>) -> PortResult<Committed> {
        if let Some(guard) = guards::first_broken(self.db, &change.guards)? {
            return Ok(Committed::Stale(guard.clone()));
        }
        writes::apply(self.db, &change.rows, self.counts)?;
        self.heads.append(self.db, &change.events, places)?;
        Ok(Committed::Applied)
    }
}
