//! The writers: each takes whatever has come from the one channel and commits it together.
//!
//! There are a few of them, so that one gathers while another waits for the disk. What they write at the same time is held
//! apart by locks in the database, as between processes. Nobody is answered before the batch is durable, as far as its changes
//! ask for that. They decide nothing about what is written. Started by
//! [`PostgresStore::open`](super::PostgresStore::open).

use super::batch;
use super::connection;
use super::hints::{Hint, Hints};
use super::pool::silence;
use crate::error::postgres_error;
use crate::installed::Installed;
use crate::listen::Notices;
use crate::rows::PortResult;
use chimera_core::audit::AuditEvent;
use chimera_core::change::{Change, Committed, Write};
use chimera_core::ports::{Notice, PortError};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, mpsc, oneshot};

/// A change, and who waits for it.
pub(super) struct Job {
    pub(super) change: Change,
    pub(super) reply: oneshot::Sender<PortResult<Committed>>,
}

/// What the writers share.
#[derive(Clone)]
pub(super) struct Work {
    pub(super) jobs: Arc<Mutex<mpsc::Receiver<Job>>>,
    pub(super) connect: PgConnectOptions,
    /// How long a batch may take.
    pub(super) answers_within: Duration,
    pub(super) group_max: usize,
    pub(super) notices: Notices,
    pub(super) installed: Arc<Installed>,
    pub(super) hints: Arc<Hints>,
}

/// Runs until no more jobs can come; whatever was accepted by then is still committed.
pub(super) async fn run(work: Work, first: Option<PgConnection>) {
    let mut db = first;
    loop {
        let batch = work.gather().await;
        if batch.is_empty() {
            break;
        }
        let (changes, replies): (Vec<Change>, Vec<_>) = batch.into_iter().map(|job| (job.change, job.reply)).unzip();
        work.commit(&mut db, &changes, replies).await;
    }
    if let Some(db) = db
        && let Err(error) = db.close().await
    {
        tracing::debug!(%error, "closing a connection to the database");
    }
}

impl Work {
    /// What has come; nothing when no more can come.
    async fn gather(&self) -> Vec<Job> {
        let mut jobs = self.jobs.lock().await;
        let mut batch = Vec::with_capacity(16);
        jobs.recv_many(&mut batch, self.group_max).await;
        batch
    }

    async fn commit(
        &self,
        db: &mut Option<PgConnection>,
        changes: &[Change],
        replies: Vec<oneshot::Sender<PortResult<Committed>>>,
    ) {
        match self.transact(db, changes).await {
            Ok(done) => {
                let applied = |answer: &PortResult<Committed>| matches!(answer, Ok(Committed::Applied));
                let applied: Vec<bool> = done.answers.iter().map(applied).collect();
                // Before anybody is answered: whoever reads then must not find what was there before.
                for (change, _) in changes.iter().zip(&applied).filter(|(_, applied)| **applied) {
                    self.installed.written(&change.writes);
                }
                for (reply, answer) in replies.into_iter().zip(done.answers) {
                    // A caller that stopped waiting reads the truth again.
                    let _ = reply.send(answer);
                }
                let changes = changes.iter().zip(applied).filter_map(|(change, applied)| applied.then_some(change));
                self.tell(changes, done.events);
            }
            Err(error) => {
                tracing::error!(%error, jobs = changes.len(), "a batch could not be committed");
                *db = None;
                for reply in replies {
                    let _ = reply.send(Err(PortError::new(error.kind, error.message.clone())));
                }
            }
        }
    }

    /// Tells the listeners of changes that were applied, and of the events that all of them appended.
    fn tell<'c>(&self, changes: impl Iterator<Item = &'c Change>, events: Vec<AuditEvent>) {
        if !events.is_empty() {
            self.hints.add(Hint::Audited);
        }
        let (mut events, mut told) = (events.into_iter(), Vec::new());
        for change in changes {
            let of_change = events.by_ref().take(change.audit.len());
            told.extend(of_change.map(|event| Notice::Audited(Arc::new(event))));
            for write in &change.writes {
                if let Write::PutOutbox(row) = write {
                    self.hints.add(Hint::Outbox(row.topic));
                    told.push(Notice::Outbox(row.topic));
                }
            }
        }
        self.notices.send_all(told);
    }

    async fn transact(&self, db: &mut Option<PgConnection>, changes: &[Change]) -> PortResult<batch::Done> {
        let db = match db {
            Some(db) => db,
            none => none.insert(connection::open(&self.connect).await?),
        };
        let changes: Vec<&Change> = changes.iter().collect();
        let committed = tokio::time::timeout(self.answers_within, batch::commit(db, &changes)).await;
        committed.unwrap_or_else(|_| Err(postgres_error(silence(self.answers_within))))
    }
}
