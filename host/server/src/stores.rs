//! Where truth, queue, bytes and everything that passes are: in the data folder and in memory, or on servers that other
//! processes share.
//!
//! The only place that knows which store stands behind a port. It decides nothing about what is stored. Opened and closed by
//! the wiring.

use crate::config::{Config, Store};
use crate::wiring::StartError;
use chimera_agents::fleet::Fleet;
use chimera_agents::planner::scheduler::Scheduler;
use chimera_core::audit::{Actor, AuditDraft};
use chimera_core::change::Change;
use chimera_core::clock::{Clock, SystemClock};
use chimera_core::ports::listen::{Heard, Receiver};
use chimera_core::ports::{Blobs, Notice, Queue, RateLimits, Scratch, Truth, TruthScratch};
use chimera_registry::{FolderBlobs, LayeredBlobs};
use chimera_store::{
    FallbackQueue, FallbackQueues, FallbackTerms, FolderLock, MemoryQueue, MemoryRateLimits, PostgresOptions,
    PostgresStore, QueueStats, Redis, RedisNotices, RedisOptions, RedisQueue, RedisRateLimits, RedisScratch,
    SqliteOptions, SqliteStore, StoreError, claim_folder,
};
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::broadcast::error::RecvError;

/// The stores of one process.
pub(crate) enum Stores {
    /// In the data folder and in memory.
    Alone(SqliteStore),
    /// On servers; the data folder is this process's all the same.
    Shared { store: PostgresStore, passing: Option<Passing>, _lock: FolderLock },
}

/// What passes through Redis.
#[derive(Clone)]
pub(crate) struct Passing {
    redis: Redis,
    queue: FallbackQueue,
    notices: RedisNotices,
}

/// What this process does and what others tell, as it happens.
#[derive(Clone)]
pub struct News {
    truth: Arc<dyn Truth>,
    passing: Option<Passing>,
}

impl News {
    /// Hears of it from now on.
    pub fn listen(&self) -> Receiver {
        let own = self.truth.subscribe();
        match &self.passing {
            Some(passing) => passing.notices.join(own),
            None => own,
        }
    }

    /// Which queue is used, and what it took, if others stand by.
    pub fn queue_stats(&self) -> Option<QueueStats> {
        self.passing.as_ref().map(|passing| passing.queue.stats())
    }
}

impl Stores {
    /// Opens them. A Redis that is away is waited for by nobody.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is left open then.
    pub(crate) async fn open(config: &Config) -> Result<Self, StoreError> {
        let data_dir = &config.data_dir.value;
        let address = match &config.store.value {
            Store::Sqlite => return Ok(Self::Alone(SqliteStore::open(SqliteOptions::new(data_dir)).await?)),
            Store::Postgres(address) => address,
        };
        let _lock = claim_folder(data_dir)?;
        let redis = |setting: &Option<crate::config::Setting<crate::address::Address>>| {
            setting.as_ref().map(|setting| Redis::lazy(RedisOptions::new(setting.value.secret()))).transpose()
        };
        let (primary, backup) = (redis(&config.redis)?, redis(&config.redis_backup)?);
        let store = PostgresStore::open(PostgresOptions::new(address.secret())).await?;
        let passing = primary.map(|redis| Passing::open(redis, backup, &store));
        Ok(Self::Shared { store, passing, _lock })
    }

    pub(crate) fn truth(&self) -> Arc<dyn Truth> {
        match self {
            Self::Alone(store) => Arc::new(store.clone()),
            Self::Shared { store, .. } => Arc::new(store.clone()),
        }
    }

    pub(crate) fn queue(&self) -> Arc<dyn Queue> {
        match self {
            Self::Alone(_) => Arc::new(MemoryQueue::new()),
            Self::Shared { passing: Some(passing), .. } => Arc::new(passing.queue.clone()),
            Self::Shared { store, .. } => Arc::new(store.queue()),
        }
    }

    /// What tells the present to everybody who works on the truth: the server's clock if others do too.
    pub(crate) fn clock(&self) -> Arc<dyn Clock> {
        match self {
            Self::Alone(_) => Arc::new(SystemClock),
            Self::Shared { store, .. } => store.clock(),
        }
    }

    /// The skills' bytes: in a folder that is this process's, and for all where the truth is.
    pub(crate) fn blobs(&self, folder: FolderBlobs) -> Arc<dyn Blobs> {
        match self {
            Self::Alone(_) => Arc::new(folder),
            Self::Shared { store, .. } => Arc::new(LayeredBlobs::new(folder, Arc::new(store.clone()))),
        }
    }

    /// Ephemeral memory.
    pub(crate) fn scratch(&self) -> Arc<dyn Scratch> {
        match self.passing() {
            Some(passing) => Arc::new(RedisScratch::new(passing.redis.clone(), self.truth())),
            None => Arc::new(TruthScratch::new(self.truth())),
        }
    }

    pub(crate) fn rates(&self) -> Arc<dyn RateLimits> {
        match self.passing() {
            Some(passing) => Arc::new(RedisRateLimits::new(passing.redis.clone())),
            None => Arc::new(MemoryRateLimits::new()),
        }
    }

    pub(crate) fn news(&self) -> News {
        News { truth: self.truth(), passing: self.passing().cloned() }
    }

    pub(crate) fn fleet(&self, data_dir: &Path) -> Result<Fleet, StartError> {
        match self {
            Self::Alone(_) => Ok(Fleet::Alone),
            Self::Shared { .. } => Ok(Fleet::Shared { node: node(data_dir)? }),
        }
    }

    /// Writes down whenever another queue is used from now on, and fills that one at once. Ends with the queue.
    pub(crate) fn watch_queue(&self, scheduler: &Scheduler) {
        let Some(passing) = self.passing() else { return };
        let (mut switches, scheduler) = (passing.queue.watch(), scheduler.clone());
        tokio::spawn(async move {
            loop {
                let mut change = Change::new();
                match switches.recv().await {
                    Ok(switch) => change.audit(
                        AuditDraft::new("queue.switched", Actor::System, switch.at).detail(json!({ "switch": switch })),
                    ),
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return,
                }
                if let Err(error) = scheduler.refill().await {
                    tracing::warn!(%error, "the queue that is used now is filled by the next sweep");
                }
                if !change.audit.is_empty()
                    && let Err(error) = scheduler.truth().commit(change).await
                {
                    tracing::warn!(%error, "that another queue is used could not be written down");
                }
            }
        });
    }

    fn passing(&self) -> Option<&Passing> {
        match self {
            Self::Alone(_) => None,
            Self::Shared { passing, .. } => passing.as_ref(),
        }
    }

    pub(crate) async fn close(self) {
        match self {
            Self::Alone(store) => store.close().await,
            Self::Shared { store, .. } => store.close().await,
        }
    }
}

impl Passing {
    fn open(redis: Redis, backup: Option<Redis>, store: &PostgresStore) -> Self {
        let queues = FallbackQueues {
            primary: Arc::new(RedisQueue::new(redis.clone())),
            backup: backup.map(|backup| Arc::new(RedisQueue::new(backup)) as Arc<dyn Queue>),
            last: Arc::new(store.queue()),
        };
        let queue = FallbackQueue::start(queues, FallbackTerms::default(), store.clock());
        let notices = RedisNotices::start(redis.clone());
        tokio::spawn(forward(store.clone(), notices.clone()));
        Self { redis, queue, notices }
    }
}

/// Tells the other processes, event by event, what happens in this one. What wakes their loops they hear from the database,
/// and so does this process: that is not told on.
async fn forward(store: PostgresStore, notices: RedisNotices) {
    let mut own = store.subscribe();
    // The store ends with its handles, of which this must not be one.
    drop(store);
    loop {
        match own.next().await {
            Heard::Notice(notice @ (Notice::Audited(_) | Notice::Progress { .. })) => notices.publish(notice),
            Heard::Notice(_) => {}
            Heard::Missed => notices.publish(Notice::Elsewhere),
            Heard::Closed => return,
        }
    }
}

/// What this process's agents are told from others' by: drawn once for a data folder, which is one process's at a time.
fn node(data_dir: &Path) -> Result<String, StartError> {
    let path = data_dir.join("node");
    let unusable = |error: std::io::Error| StartError::Node { path: path.clone(), error };
    match std::fs::read_to_string(&path) {
        Ok(text) if is_node(text.trim()) => return Ok(text.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(unusable(error)),
    }
    let mut bytes = [0; 6];
    getrandom::fill(&mut bytes).map_err(|error| unusable(std::io::Error::other(error)))?;
    let drawn = hex::encode(bytes);
    crate::auth::write_private(&path, &format!("{drawn}\n")).map_err(unusable)?;
    Ok(drawn)
}

fn is_node(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
