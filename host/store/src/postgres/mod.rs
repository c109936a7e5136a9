//! The truth on a PostgreSQL server, which any number of processes share.
//!
//! A few writers join the changes of this process into transactions; what processes do at the same time is held apart by
//! locks on the rows that guards ask about. Nothing here decides what is written. Opened by the binary and by tests.

mod batch;
mod blobs;
mod bulk;
mod chain;
mod clock;
mod connection;
mod fault;
mod floor;
mod hints;
mod history;
mod known;
mod lookup;
mod pool;
mod queue;
mod reads;
mod single;
mod text;
mod transport;
mod writer;

use crate::error::{StoreError, closed};
use crate::installed::Installed;
use crate::listen::{BroadcastListener, Notices};
use chimera_core::change::{Change, Committed};
use chimera_core::clock::Clock;
use chimera_core::ports::{Notice, PortError, listen};
use clock::ServerClock;
pub use floor::{PostgresFloor, RawRows};
use hints::{Ear, Hint, Hints};
use history::History;
use lookup::Lookup;
use pool::{Pool, Use};
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, PgConnection};
use std::fmt;
use std::str::FromStr as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use writer::{Job, Work};

pub use queue::PostgresQueue;

static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/postgres");

/// Changes that may wait for the writers before callers wait to hand theirs in.
const WAITING_JOBS: usize = 4096;
/// How long a connection is waited for.
const CONNECT: Duration = Duration::from_secs(10);
/// How long versions and routes of skills may be kept, in case nobody told that they were changed.
const SKILLS_KEPT: Duration = Duration::from_secs(1);
/// Statements that are kept prepared on a connection.
const STATEMENTS: usize = 200;

/// How a store is opened.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresOptions {
    /// `postgres://user:password@host:port/database`, as libpq takes it, `?sslmode=…` included. It holds a secret.
    pub url: String,
    /// Most changes in one transaction; at least 1. What comes while one is committed is in the next one together.
    pub group_max: usize,
    /// Connections for writing; at least 1.
    pub writers: u32,
    /// Connections for reading; at least 1.
    pub readers: u32,
    /// Connections for what need not be on disk: claims, the queue, hints to other processes; at least 1.
    pub transports: u32,
    /// How long an answer may take: a server that cannot be reached any more says nothing, for as long as the network lets it.
    pub answers_within: Duration,
}

impl PostgresOptions {
    /// The usual options for a server: 500 changes, 2 writers, 8 readers, 4 for transport, 30 s for an answer.
    pub fn new(url: impl Into<String>) -> Self {
        let answers_within = Duration::from_secs(30);
        Self { url: url.into(), group_max: 500, writers: 2, readers: 8, transports: 4, answers_within }
    }
}

impl fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresOptions").field("group_max", &self.group_max).finish_non_exhaustive()
    }
}

/// The truth on a PostgreSQL server. Cloning it is cheap; the clones share everything.
///
/// [`close`](Self::close) it before the process ends; a process that dies instead loses nothing that was answered.
#[derive(Clone)]
pub struct PostgresStore {
    shared: Arc<Shared>,
}

struct Shared {
    readers: Pool,
    /// Its transactions are not waited for until they are on disk.
    loose: Pool,
    clock: Arc<ServerClock>,
    installed: Arc<Installed>,
    hints: Arc<Hints>,
    history: History,
    /// For people: without a password.
    address: String,
    /// What a closed store no longer has.
    open: Mutex<Option<Open>>,
    writers: TaskTracker,
    /// Ends what tells and hears other processes.
    stop: CancellationToken,
}

#[derive(Clone)]
struct Open {
    jobs: mpsc::Sender<Job>,
    notices: Notices,
    lookups: Lookups,
}

/// Reads by id of what is read most.
#[derive(Clone)]
struct Lookups {
    tasks: Lookup,
    specs: Lookup,
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore").field("address", &self.shared.address).finish_non_exhaustive()
    }
}

impl PostgresStore {
    /// Connects, and brings the schema up to date; of several processes one does that and the others wait for it.
    ///
    /// # Errors
    /// [`StoreError`], which says what to do. Nothing is changed then.
    pub async fn open(options: PostgresOptions) -> Result<Self, StoreError> {
        let connect = connect_options(&options.url)?;
        let address = address(&connect);
        let answers_within = options.answers_within;
        let failed = |error: sqlx::Error| StoreError::from_postgres(&address, &error);
        let mut db = reach(&connect, &address).await?;
        migrate(&mut db, &address).await?;
        connection::prepare(&mut db).await.map_err(failed)?;
        let clock = Arc::new(ServerClock::start(&mut db).await.map_err(failed)?);
        let readers = Pool::new(connect.clone(), options.readers, Use::Reading, answers_within);
        let loose = Pool::new(connect.clone(), options.transports, Use::Transport, answers_within);
        let installed = Arc::new(Installed::for_at_most(SKILLS_KEPT));
        let hints = Arc::new(Hints::new());
        let lookups = Lookups {
            tasks: Lookup::start(&readers, "SELECT id, body FROM tasks WHERE id = ANY($1)"),
            specs: Lookup::start(&readers, "SELECT id, body FROM task_specs WHERE id = ANY($1)"),
        };
        let (jobs, waiting) = mpsc::channel(WAITING_JOBS);
        let notices = Notices::default();
        let work = Work {
            jobs: Arc::new(tokio::sync::Mutex::new(waiting)),
            connect: connect.clone(),
            answers_within,
            group_max: options.group_max.max(1),
            notices: notices.clone(),
            installed: installed.clone(),
            hints: hints.clone(),
        };
        let stop = CancellationToken::new();
        let (heard, told_of) = (hints.clone(), notices.clone());
        let ear = Ear { connect, answers_within, hints: heard, installed: installed.clone(), notices: told_of };
        let listening = ear.attach().await.map_err(failed)?;
        tokio::spawn(ear.listen(listening, stop.clone()));
        let (followed, asked, until) = (clock.clone(), loose.clone(), stop.clone());
        tokio::spawn(async move { followed.follow(&asked, &until).await });
        let (telling, tells_on, told) = (hints.clone(), loose.clone(), stop.clone());
        tokio::spawn(async move { telling.tell(&tells_on, &told).await });
        let writers = TaskTracker::new();
        let mut first = Some(db);
        for _ in 0..options.writers.max(1) {
            writers.spawn(writer::run(work.clone(), first.take()));
        }
        writers.close();
        let open = Mutex::new(Some(Open { jobs, notices, lookups }));
        let shared = Shared {
            readers,
            loose,
            clock,
            installed,
            hints,
            history: History::default(),
            address,
            open,
            writers,
            stop,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Connects and looks, and changes nothing: what can be said of the server, for people.
    ///
    /// # Errors
    /// As [`PostgresStore::open`].
    pub async fn look(url: &str) -> Result<String, StoreError> {
        let connect = connect_options(url)?;
        let address = address(&connect);
        let mut db = reach(&connect, &address).await?;
        let version: Result<String, _> = sqlx::query_scalar("SHOW server_version").fetch_one(&mut db).await;
        let version = version.map_err(|error| StoreError::from_postgres(&address, &error))?;
        let schema = match state_of_schema(&mut db, &address).await? {
            Schema::Absent => "no tables yet: the first start makes them",
            Schema::Older => "older tables: the next start brings them up to date",
            Schema::UpToDate => "its tables are up to date",
        };
        Ok(format!("PostgreSQL {version} at {address}; {schema}"))
    }

    /// Commits what was accepted and closes the connections. Later calls are answered with
    /// [`Closed`](chimera_core::ports::PortErrorKind::Closed), listeners hear that no more will come. Closing twice is no
    /// error.
    pub async fn close(&self) {
        drop(self.shared.open.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.shared.writers.wait().await;
        self.shared.stop.cancel();
        self.shared.loose.close().await;
        self.shared.readers.close().await;
    }

    /// Where the server is, without any secret.
    pub fn address(&self) -> &str {
        &self.shared.address
    }

    /// The server's clock: the same present for all processes, wherever their own clocks stand.
    pub fn clock(&self) -> Arc<dyn Clock> {
        self.shared.clock.clone()
    }

    fn reader(&self) -> &Pool {
        &self.shared.readers
    }

    fn loose(&self) -> &Pool {
        &self.shared.loose
    }

    fn open_parts(&self) -> Option<Open> {
        self.shared.open.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Hands a change to the writers. Once handed over it is done whole or not at all, also if the caller stops waiting.
    async fn commit_change(&self, change: Change) -> Result<Committed, PortError> {
        let jobs = self.open_parts().ok_or_else(closed)?.jobs;
        let (reply, answer) = oneshot::channel();
        jobs.send(Job { change, reply }).await.map_err(|_| closed())?;
        // Not holding the sender while waiting lets the writers end.
        drop(jobs);
        answer.await.map_err(|_| closed())?
    }

    /// Hands several changes to the writers, as [`commit_change`](Self::commit_change) does one.
    async fn commit_changes(&self, changes: Vec<Change>) -> Vec<Result<Committed, PortError>> {
        let Some(Open { jobs, .. }) = self.open_parts() else { return changes.iter().map(|_| Err(closed())).collect() };
        let mut waiting = Vec::with_capacity(changes.len());
        for change in changes {
            let (reply, answer) = oneshot::channel();
            waiting.push(jobs.send(Job { change, reply }).await.map(|()| answer));
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
        let open = self.open_parts();
        Box::new(open.map_or_else(BroadcastListener::closed, |open| open.notices.listen()))
    }

    fn send_notice(&self, notice: Notice) {
        if notice == Notice::Queued {
            self.shared.hints.add(Hint::Queued);
        }
        if let Some(open) = self.open_parts() {
            open.notices.send(notice);
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn connect_options(url: &str) -> Result<PgConnectOptions, StoreError> {
    let options = PgConnectOptions::from_str(url).map_err(|error| StoreError::Address { cause: error.to_string() })?;
    let options = options.statement_cache_capacity(STATEMENTS).disable_statement_logging();
    Ok(match options.get_application_name() {
        Some(_) => options,
        None => options.application_name("chimera"),
    })
}

/// For people: without user and password.
fn address(options: &PgConnectOptions) -> String {
    let database = options.get_database().unwrap_or("the user's database");
    format!("{}:{}, database {database}", options.get_host(), options.get_port())
}

async fn reach(connect: &PgConnectOptions, address: &str) -> Result<PgConnection, StoreError> {
    let connected = tokio::time::timeout(CONNECT, connect.connect()).await.map_err(|_| StoreError::Unreachable {
        address: address.to_owned(),
        cause: format!("it does not answer within {CONNECT:?}"),
    })?;
    connected.map_err(|error| StoreError::from_postgres(address, &error))
}

/// What is there of the tables.
enum Schema {
    Absent,
    Older,
    UpToDate,
}

async fn state_of_schema(db: &mut PgConnection, address: &str) -> Result<Schema, StoreError> {
    let failed = |error: &sqlx::Error| StoreError::from_postgres(address, error);
    let known = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0);
    let has_schema: bool = sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL")
        .fetch_one(&mut *db)
        .await
        .map_err(|error| failed(&error))?;
    let foreign = |cause: String| StoreError::ForeignSchema { address: address.to_owned(), cause };
    if !has_schema {
        let has_tables: bool = sqlx::query_scalar("SELECT to_regclass('tasks') IS NOT NULL")
            .fetch_one(&mut *db)
            .await
            .map_err(|error| failed(&error))?;
        let cause = "there is a table `tasks`, and nothing that says which program made it";
        return if has_tables { Err(foreign(cause.to_owned())) } else { Ok(Schema::Absent) };
    }
    let found: Vec<(i64, Vec<u8>, bool)> =
        sqlx::query_as("SELECT version, checksum, success FROM _sqlx_migrations ORDER BY version")
            .fetch_all(&mut *db)
            .await
            .map_err(|error| failed(&error))?;
    if let Some(found) = found.iter().map(|(version, ..)| *version).filter(|found| *found > known).max() {
        return Err(StoreError::NewerServerSchema { address: address.to_owned(), found, known });
    }
    for (version, checksum, is_done) in &found {
        match MIGRATIONS.iter().find(|known| known.version == *version) {
            None => return Err(foreign(format!("its step {version} is not one of this program's"))),
            Some(known) if *known.checksum != **checksum => {
                return Err(foreign(format!("its step {version} is not the one that this program would take")));
            }
            Some(_) if !is_done => return Err(foreign(format!("its step {version} was begun and not finished"))),
            Some(_) => {}
        }
    }
    Ok(if found.len() == MIGRATIONS.iter().count() { Schema::UpToDate } else { Schema::Older })
}

async fn migrate(db: &mut PgConnection, address: &str) -> Result<(), StoreError> {
    // Migrating writes even when there is nothing to do, which a server that may only be read from does not allow.
    if let Schema::UpToDate = state_of_schema(db, address).await? {
        return Ok(());
    }
    MIGRATIONS.run(&mut *db).await.map_err(|error| match error {
        MigrateError::Execute(cause) | MigrateError::ExecuteMigration(cause, _) => {
            StoreError::from_postgres(address, &cause)
        }
        other => StoreError::ForeignSchema { address: address.to_owned(), cause: other.to_string() },
    })
}
