//! The truth in one SQLite file: WAL, one writer with group commit, a few readers.
//!
//! One process owns the data folder for as long as the store is open. Nothing here decides what is written. Opened by
//! the binary and by tests.

mod chain;
mod checkpoint;
mod connection;
mod floor;
mod guards;
mod prepared;
mod purge;
mod reads;
mod recent;
mod rows;
mod statement;
mod transport;
mod writer;
mod writes;

use crate::error::{StoreError, closed};
use crate::folder::{self, FolderLock};
use crate::installed::Installed;
use crate::listen::{BroadcastListener, Notices};
use crate::rows::PortResult;
use chain::Heads;
use checkpoint::Checkpoints;
use chimera_core::change::{Change, Committed, Durability};
use chimera_core::ports::{Notice, PortError, PortErrorKind, listen};
use connection::Place;
pub use floor::SqliteFloor;
use prepared::Prepared;
use purge::Purge;
use recent::Recent;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection, SqlitePool};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use writer::{Answer, Job, Work, Writer};

static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/sqlite");

const DATABASE_FILE: &str = "chimera.db";
/// Jobs that may wait for the writer before callers wait to hand theirs in.
const WAITING_JOBS: usize = 1024;
/// Most changes of one job: the writer is at the first of many while the next are made ready.
const CHANGES_AT_ONCE: usize = 128;

/// How a store is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqliteOptions {
    /// The data folder; made with mode 0700 if it is missing.
    pub folder: PathBuf,
    /// Most changes in one transaction; at least 1. What comes while one is committed is in the next one together.
    pub group_max: usize,
    /// Connections for reading; at least 1.
    pub readers: u32,
    /// How long another program that holds the database (a backup, a shell) is waited for.
    pub busy_timeout: Duration,
}

impl SqliteOptions {
    /// The usual options for a folder: 500 changes, 4 readers, 5 s.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), ..Self::default() }
    }
}

impl Default for SqliteOptions {
    /// In `data` below the current folder.
    fn default() -> Self {
        Self { folder: PathBuf::from("data"), group_max: 500, readers: 4, busy_timeout: Duration::from_secs(5) }
    }
}

/// The truth and the queue in one SQLite file. Cloning it is cheap; the clones share everything.
///
/// [`close`](Self::close) it before the process ends; a process that dies instead loses nothing that was answered.
#[derive(Clone)]
pub struct SqliteStore {
    shared: Arc<Shared>,
}

struct Shared {
    readers: SqlitePool,
    path: PathBuf,
    /// What a closed store no longer has.
    open: Mutex<Option<Open>>,
    writer_runs: watch::Receiver<()>,
    installed: Arc<Installed>,
    recent: Arc<Recent>,
    changes_at_once: usize,
}

#[derive(Clone)]
struct Open {
    jobs: mpsc::Sender<Job>,
    notices: Notices,
    _lock: Arc<FolderLock>,
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("path", &self.shared.path).finish_non_exhaustive()
    }
}

impl SqliteStore {
    /// Opens the store, making the folder and the database if they are missing, and brings the schema up to date.
    ///
    /// # Errors
    /// [`StoreError`], which says what to do. Nothing is changed then.
    pub async fn open(options: SqliteOptions) -> Result<Self, StoreError> {
        let lock = Arc::new(folder::claim(&options.folder)?);
        let path = options.folder.join(DATABASE_FILE);
        // SQLite gives its side files the rights of the database, so this one call makes all of them private.
        drop(folder::open_private(&path)?);
        let connect = connect_options(&path, options.busy_timeout);
        let mut db =
            SqliteConnection::connect_with(&connect).await.map_err(|e| StoreError::from_sqlx(path.clone(), &e))?;
        migrate(&mut db, &path).await?;
        db.close().await.map_err(|e| StoreError::from_sqlx(path.clone(), &e))?;
        let readers = SqlitePoolOptions::new()
            .max_connections(options.readers.max(1))
            .test_before_acquire(false)
            .connect_with(connect.clone().pragma("query_only", "ON"))
            .await
            .map_err(|e| StoreError::from_sqlx(path.clone(), &e))?;
        let place = Place { path: path.clone(), busy_timeout: options.busy_timeout };
        let writing = writer::connect(&place).map_err(|e| StoreError::from_sqlite(path.clone(), &e))?;
        let (jobs, waiting) = mpsc::channel(WAITING_JOBS);
        let notices = Notices::default();
        let group_max = options.group_max.max(1);
        let changes_at_once = group_max.min(CHANGES_AT_ONCE);
        let (running, writer_runs) = watch::channel(());
        let installed = Arc::new(Installed::default());
        let recent = Arc::new(Recent::default());
        let writer = Writer {
            installed: installed.clone(),
            recent: recent.clone(),
            checkpoints: Checkpoints::start(place.clone()).map_err(|e| no_thread(&path, &e))?,
            place,
            db: Some(writing),
            jobs: waiting,
            next: None,
            notices: notices.clone(),
            group_max,
            lock: Arc::clone(&lock),
            running,
            heads: Heads::default(),
            purge: Purge::default(),
            waits: Durability::Now,
        };
        writer.start().map_err(|e| no_thread(&path, &e))?;
        let open = Mutex::new(Some(Open { jobs, notices, _lock: lock }));
        let shared = Shared { readers, path, open, writer_runs, installed, recent, changes_at_once };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Commits what was accepted, closes the database and gives the data folder free. Later calls are answered with
    /// [`PortErrorKind::Closed`], listeners hear that no more will come. Closing twice is no error.
    pub async fn close(&self) {
        let open = self.shared.open.lock().unwrap_or_else(PoisonError::into_inner).take();
        let lock = open.map(|open| open._lock);
        let mut writer_runs = self.shared.writer_runs.clone();
        while writer_runs.changed().await.is_ok() {}
        self.shared.readers.close().await;
        drop(lock);
    }

    /// Has SQLite look through the whole file for damage; takes time with a large one.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] with the first damage found, [`StoreError::Unavailable`] if it could not look.
    pub async fn check(&self) -> Result<(), StoreError> {
        let path = self.shared.path.clone();
        let found: String = sqlx::query_scalar("PRAGMA quick_check(1)")
            .fetch_one(self.reader())
            .await
            .map_err(|e| StoreError::from_sqlx(path.clone(), &e))?;
        if found == "ok" { Ok(()) } else { Err(StoreError::Corrupt { path, cause: found }) }
    }

    /// The database file.
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    fn reader(&self) -> &SqlitePool {
        &self.shared.readers
    }

    fn open_parts(&self) -> Option<Open> {
        self.shared.open.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has the writer do something. Once handed over it is done whole or not at all, also if the caller stops waiting.
    async fn ask(&self, work: Work) -> PortResult<Answer> {
        let mut answers = self.hand_over(vec![work]).await?.await.map_err(|_| closed())?;
        answers.pop().unwrap_or_else(|| Err(closed()))
    }

    /// Gives the writer a job; what will bring the answers.
    async fn hand_over(&self, works: Vec<Work>) -> PortResult<oneshot::Receiver<Vec<PortResult<Answer>>>> {
        let jobs = self.open_parts().ok_or_else(closed)?.jobs;
        let (reply, answers) = oneshot::channel();
        // Not holding the sender while waiting for the answers lets the writer end.
        jobs.send(Job { works, reply }).await.map_err(|_| closed())?;
        Ok(answers)
    }

    /// Commits several changes, each by itself, in their order.
    async fn commit_changes(&self, changes: Vec<Change>) -> Vec<PortResult<Committed>> {
        let (mut committed, mut waiting) = (Vec::with_capacity(changes.len()), Vec::new());
        let mut changes = changes.into_iter().peekable();
        while changes.peek().is_some() {
            let mut works = Vec::with_capacity(self.shared.changes_at_once.min(changes.len()));
            for change in changes.by_ref().take(self.shared.changes_at_once) {
                committed.push(Prepared::of(change).map(|prepared| {
                    works.push(Work::Commit(prepared));
                    // Until it is answered.
                    Committed::Applied
                }));
            }
            let count = works.len();
            waiting.push((count, self.hand_over(works).await));
        }
        let mut places = committed.iter_mut().filter(|committed| committed.is_ok());
        for (count, answers) in waiting {
            let answers = match answers {
                Ok(answers) => answers.await.unwrap_or_default(),
                Err(_) => Vec::new(),
            };
            let answers = answers.into_iter().chain(std::iter::repeat_with(|| Err(closed())));
            for (place, answer) in places.by_ref().take(count).zip(answers) {
                *place = answer.and_then(committed_of);
            }
        }
        committed
    }

    fn listen(&self) -> listen::Receiver {
        let open = self.open_parts();
        Box::new(open.map_or_else(BroadcastListener::closed, |open| open.notices.listen()))
    }

    fn send_notice(&self, notice: Notice) {
        if let Some(open) = self.open_parts() {
            open.notices.send(notice);
        }
    }
}

fn no_thread(path: &Path, error: &std::io::Error) -> StoreError {
    StoreError::Unavailable { path: path.to_owned(), cause: format!("no thread for it: {error}") }
}

fn committed_of(answer: Answer) -> PortResult<Committed> {
    match answer {
        Answer::Committed(committed) => Ok(committed),
        _ => Err(unexpected_answer()),
    }
}

fn unexpected_answer() -> PortError {
    PortError::new(PortErrorKind::Permanent, "the writer answered something else than it was asked")
}

fn connect_options(path: &Path, busy_timeout: Duration) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(busy_timeout)
        .pragma("journal_size_limit", "67108864")
        .statement_cache_capacity(200)
        .disable_statement_logging()
}

async fn migrate(db: &mut SqliteConnection, path: &Path) -> Result<(), StoreError> {
    let failed = |error: &sqlx::Error| StoreError::from_sqlx(path.to_owned(), error);
    let known = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0);
    let has_schema: bool =
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = '_sqlx_migrations')")
            .fetch_one(&mut *db)
            .await
            .map_err(|e| failed(&e))?;
    if has_schema {
        let found: Option<i64> = sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations")
            .fetch_one(&mut *db)
            .await
            .map_err(|e| failed(&e))?;
        if let Some(found) = found.filter(|found| *found > known) {
            return Err(StoreError::NewerSchema { path: path.to_owned(), found, known });
        }
    }
    MIGRATIONS.run(&mut *db).await.map_err(|error| match error {
        MigrateError::Execute(cause) | MigrateError::ExecuteMigration(cause, _) => failed(&cause),
        other => StoreError::Corrupt { path: path.to_owned(), cause: other.to_string() },
    })
}
