//! The one writer: takes jobs from a channel and commits many at once.
//!
//! Each job is one script under a savepoint of its own, so a stale or failing one never costs its neighbours anything, and nobody
//! is answered before the batch is durable. It decides nothing about what is written. Started by
//! [`SqliteStore::open`](super::SqliteStore::open).

use super::chain::{Appended, Heads};
use super::guards;
use super::installed::Installed;
use super::purge::Purge;
use super::recent::Recent;
use super::rows::PortResult;
use super::script::{Control, Frame, Script};
use super::transport::{self, OutboxClaim};
use super::writes::{self, Check};
use crate::error::port_error;
use crate::folder::FolderLock;
use chimera_core::change::{Change, Committed, Durability, Outbox, Write};
use chimera_core::failpoint;
use chimera_core::ports::{Notice, PortError, PortErrorKind};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection as _, SqliteConnection};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::Instant;

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
    pub(super) options: SqliteConnectOptions,
    /// None after an error that the connection may not have survived.
    pub(super) db: Option<SqliteConnection>,
    pub(super) jobs: mpsc::Receiver<Job>,
    pub(super) notices: broadcast::Sender<Notice>,
    pub(super) group_window: Duration,
    pub(super) group_max: usize,
    /// Released only when the last write is over.
    pub(super) lock: Arc<FolderLock>,
    /// Dropped at the very end: whoever closes the store waits for it.
    pub(super) running: watch::Sender<()>,
    pub(super) installed: Arc<Installed>,
    pub(super) recent: Arc<Recent>,
    pub(super) heads: Heads,
    pub(super) purge: Purge,
    /// How long the connection waits when it commits.
    pub(super) waits: Durability,
    pub(super) last_batch: usize,
}

impl Writer {
    /// Runs until every store handle is gone or the store is closed; whatever was accepted by then is still committed.
    pub(super) async fn run(mut self) {
        while let Some(first) = self.jobs.recv().await {
            let batch = self.gather(first).await;
            self.commit(batch).await;
        }
        let Self { db, lock, running, .. } = self;
        if let Some(db) = db
            && let Err(error) = db.close().await
        {
            tracing::warn!(%error, "closing the database");
        }
        drop(lock);
        drop(running);
    }

    /// The first job and whatever waits with it. Callers that were answered together tend to come back together: when
    /// the last batch was larger than what is here, the rest of it is waited for, for a moment. A lone caller is not.
    async fn gather(&mut self, first: Job) -> Vec<Job> {
        let mut batch = vec![first];
        self.drain(&mut batch);
        let until = Instant::now() + self.group_window;
        while batch.len() < self.last_batch {
            match tokio::time::timeout_at(until, self.jobs.recv()).await {
                Ok(Some(job)) => batch.push(job),
                Ok(None) | Err(_) => break,
            }
            self.drain(&mut batch);
        }
        self.last_batch = batch.len();
        batch
    }

    fn drain(&mut self, batch: &mut Vec<Job>) {
        while batch.len() < self.group_max
            && let Ok(job) = self.jobs.try_recv()
        {
            batch.push(job);
        }
    }

    async fn commit(&mut self, batch: Vec<Job>) {
        let (works, replies): (Vec<Work>, Vec<_>) = batch.into_iter().map(|job| (job.work, job.reply)).unzip();
        match self.transact(&works).await {
            Ok(done) => {
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
                self.abandon().await;
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
    async fn abandon(&mut self) {
        self.heads.forget();
        self.waits = Durability::Now;
        // What was thrown away may be there again.
        self.purge = Purge::default();
        if let Some(db) = self.db.take() {
            let _ = db.close_hard().await;
        }
    }

    /// One transaction for the whole batch. An error here is everybody's; a job's own is in its answer.
    async fn transact(&mut self, works: &[Work]) -> PortResult<Batch> {
        let db = match &mut self.db {
            Some(db) => db,
            none => none.insert(SqliteConnection::connect_with(&self.options).await.map_err(port_error)?),
        };
        let durability = if works.iter().all(|work| work.durability() == Durability::WithNext) {
            Durability::WithNext
        } else {
            Durability::Now
        };
        if durability != self.waits {
            wait(db, durability).await?;
            self.waits = durability;
        }
        let is_heard = self.notices.receiver_count() > 0;
        let mut batch = Batch::default();
        let mut has_changes = false;
        let mut control = Control::Begin;
        for work in works {
            has_changes |= matches!(work, Work::Commit(_));
            let told = is_heard.then_some(&mut batch.notices);
            let mut turn = JobTurn { db, heads: &mut self.heads, purge: &mut self.purge, control };
            let answer = turn.take(work, told).await?;
            let is_kept = matches!(&answer, Ok(answer) if !matches!(answer, Answer::Committed(Committed::Stale(_))));
            control = if is_kept { Control::Keep } else { Control::Undo };
            batch.answers.push(answer);
        }
        let mut end = Script::default();
        self.heads.write(&mut end)?;
        if has_changes {
            failpoint::hit("store.before_commit");
        }
        end.run(db, control, Frame::Commit).await?.end?;
        if has_changes {
            failpoint::hit("store.after_commit");
        }
        self.heads.commit();
        for (work, answer) in works.iter().zip(&batch.answers) {
            match (work, answer) {
                (Work::Commit(change), Ok(Answer::Committed(Committed::Applied))) => {
                    self.installed.written(&change.writes);
                    self.recent.written(&change.writes);
                }
                (_, Ok(Answer::Committed(Committed::Stale(guard)))) => self.recent.stale(guard),
                _ => {}
            }
        }
        Ok(batch)
    }
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

/// Has commits wait for the disk, or not. SQLite takes this while it reads the statement, so it must not be kept prepared.
async fn wait(db: &mut SqliteConnection, durability: Durability) -> PortResult<()> {
    let wish = match durability {
        Durability::Now => "PRAGMA synchronous = FULL",
        Durability::WithNext => "PRAGMA synchronous = NORMAL",
    };
    sqlx::raw_sql(wish).execute(db).await.map(drop).map_err(port_error)
}

#[derive(Default)]
struct Batch {
    answers: Vec<PortResult<Answer>>,
    notices: Vec<Notice>,
}

/// A job's turn in the transaction.
struct JobTurn<'t> {
    db: &'t mut SqliteConnection,
    heads: &'t mut Heads,
    purge: &'t mut Purge,
    /// What is to be said before anything else.
    control: Control,
}

impl JobTurn<'_> {
    /// Does one job. The outer error is the whole batch's, the inner one the job's own, which is undone then.
    async fn take(&mut self, work: &Work, told: Option<&mut Vec<Notice>>) -> PortResult<PortResult<Answer>> {
        if let Work::Commit(change) = work {
            return self.commit(change, told).await;
        }
        let mut script = Script::default();
        if let Err(error) = add(&mut script, work) {
            return self.refuse(error).await;
        }
        let ran = script.run(self.db, self.control, Frame::Job).await?;
        if let Err(error) = ran.end {
            return Ok(Err(error));
        }
        Ok(match work {
            Work::ClaimOutbox(claim) => match self.purge.turn(self.db, claim.now).await {
                Ok(()) => transport::claimed_outbox(&ran.done).map(Answer::Outbox),
                Err(error) => Err(error),
            },
            _ => Ok(Answer::Done),
        })
    }

    async fn commit(&mut self, change: &Change, told: Option<&mut Vec<Notice>>) -> PortResult<PortResult<Answer>> {
        if !self.heads.know(&change.audit) {
            // Read in the transaction, so that nobody else appends meanwhile.
            self.open().await?;
            if let Err(error) = self.heads.find(self.db, &change.audit).await {
                return Ok(Err(error));
            }
            self.control = Control::Keep;
        }
        let mut script = Script::default();
        let filled = fill(&mut script, change, self.heads);
        let (checks, appended) = match filled {
            Ok(filled) => filled,
            Err(error) => return self.refuse(error).await,
        };
        let ran = script.run(self.db, self.control, Frame::Job).await?;
        if let Some(guard) = guards::first_broken(&change.guards, &ran.done) {
            return Ok(Ok(Answer::Committed(Committed::Stale(guard.clone()))));
        }
        if let Err(error) = ran.end {
            return Ok(Err(error));
        }
        for check in checks {
            if let Err(error) = check.settle(self.db, &ran.done).await {
                return Ok(Err(error));
            }
        }
        let events = self.heads.keep(appended);
        if let Some(told) = told {
            told.extend(events.into_iter().map(|event| Notice::Audited(Box::new(event))));
            told.extend(change.writes.iter().filter_map(|write| match write {
                Write::PutOutbox(row) => Some(Notice::Outbox(row.topic)),
                _ => None,
            }));
        }
        Ok(Ok(Answer::Committed(Committed::Applied)))
    }

    /// A job of no statements: what comes after it finds one to keep or to undo.
    async fn open(&mut self) -> PortResult<()> {
        Script::default().run(self.db, self.control, Frame::Job).await?.end
    }

    /// What cannot even be written as statements.
    async fn refuse(&mut self, error: PortError) -> PortResult<PortResult<Answer>> {
        self.open().await?;
        Ok(Err(error))
    }
}

/// The statements of a change: its guards, its writes, its audit events.
fn fill<'c>(script: &mut Script, change: &'c Change, heads: &Heads) -> PortResult<(Vec<Check<'c>>, Appended)> {
    change.guards.iter().try_for_each(|guard| guards::add(script, guard))?;
    let checks = writes::add(script, &change.writes)?;
    Ok((checks, heads.append(script, &change.audit)?))
}

/// The statements of everything else.
fn add(script: &mut Script, work: &Work) -> PortResult<()> {
    match work {
        Work::Commit(_) => {}
        Work::ClaimOutbox(claim) => transport::claim_outbox(script, claim),
        Work::ReleaseOutboxClaims => transport::release_outbox_claims(script),
    }
    Ok(())
}
