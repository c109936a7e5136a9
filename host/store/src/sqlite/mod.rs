//! The truth in one SQLite file: WAL, one writer with group commit, a few readers.
//!
//! One process owns the data folder for as long as the store is open. Nothing here decides what is written. Opened by
//! the binary and by tests.

mod chain;
mod checkpoint;
mod connection;
mod floor;
mod guards;
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
use crate::listen::{BroadcastListener, CAPACITY};
use chain::Heads;
use checkpoint::Checkpoints;
use chimera_core::change::Durability;
use chimera_core::ports::{Notice, PortError, PortErrorKind, listen};
use connection::Place;
pub use floor::SqliteFloor;
use purge::Purge;
use recent::Recent;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection, SqlitePool};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use writer::{Answer, Job, Work, Writer};

static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/sqlite");

const DATABASE_FILE: &str = "chimera.db";
/// Jobs that may wait for the writer before callers wait to hand theirs in.
const WAITING_JOBS: usize = 4096;

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
}

#[derive(Clone)]
struct Open {
    jobs: mpsc::Sender<Job>,
    notices: broadcast::Sender<Notice>,
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
        let (notices, _) = broadcast::channel(CAPACITY);
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
            notices: notices.clone(),
            group_max: options.group_max.max(1),
            lock: Arc::clone(&lock),
            running,
            heads: Heads::default(),
            purge: Purge::default(),
            waits: Durability::Now,
        };
        writer.start().map_err(|e| no_thread(&path, &e))?;
        let open = Mutex::new(Some(Open { jobs, notices, _lock: lock }));
        Ok(Self { shared: Arc::new(Shared { readers, path, open, writer_runs, installed, recent }) })
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
    async fn ask(&self, work: Work) -> Result<Answer, PortError> {
        let jobs = self.open_parts().ok_or_else(closed)?.jobs;
        let (reply, answer) = oneshot::channel();
        jobs.send(Job { work, reply }).await.map_err(|_| closed())?;
        // Not holding the sender while waiting lets the writer end.
        drop(jobs);
        answer.await.map_err(|_| closed())?
    }

    /// Has the writer do several things, as [`ask`](Self::ask) does one.
    async fn ask_all(&self, works: Vec<Work>) -> Vec<Result<Answer, PortError>> {
        let Some(Open { jobs, .. }) = self.open_parts() else { return works.iter().map(|_| Err(closed())).collect() };
        let mut waiting = Vec::with_capacity(works.len());
        for work in works {
            let (reply, answer) = oneshot::channel();
            waiting.push(jobs.send(Job { work, reply }).await.map(|()| answer));
        }
        drop(jobs);
        let mut answers = Vec::with_capacity(waiting.len());
        for answer in waiting {
            answers.push(match answer {
                Ok(answer) => answer.await.unwrap_or_else(|_| Err(closed())),
                Err(_) => Err(closed()),
            });
        }
        answers
    }

    fn listen(&self) -> listen::Receiver {
        let receiver = match self.open_parts() {
            Some(open) => open.notices.subscribe(),
            None => broadcast::channel(1).1,
        };
        Box::new(BroadcastListener(receiver))
    }

    fn send_notice(&self, notice: Notice) {
        if let Some(open) = self.open_parts() {
            // Nobody listening is no error.
            let _ = open.notices.send(notice);
        }
    }
}

fn no_thread(path: &Path, error: &std::io::Error) -> StoreError {
    StoreError::Unavailable { path: path.to_owned(), cause: format!("no thread for it: {error}") }
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
