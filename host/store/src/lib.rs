//! The truth in SQL, and the queue: what core's [`Truth`](chimera_core::ports::Truth) and
//! [`Queue`](chimera_core::ports::Queue) say.
//!
//! This crate decides nothing: it applies a [`Change`](chimera_core::change::Change) whole or not at all, and reads
//! nouns back as they were written. Opened by the binary; called by everything that reads or changes the truth.

#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod chain;
mod error;
mod fallback;
mod folder;
mod installed;
mod listen;
mod memory_queue;
mod memory_rates;
mod postgres;
mod redis;
mod rows;
mod sqlite;

pub use error::{StoreError, StoreErrorKind};
pub use fallback::{
    FallbackQueue, FallbackQueues, FallbackTerms, LATENCY_BOUNDS_US, QueueFigures, QueueRole, QueueStats, QueueSwitch,
    SwitchReason,
};
pub use folder::{FolderLock, claim as claim_folder};
pub use memory_queue::MemoryQueue;
pub use memory_rates::MemoryRateLimits;
pub use postgres::{PostgresFloor, PostgresOptions, PostgresQueue, PostgresStore, RawRows};
pub use redis::{NoticeStats, Redis, RedisNotices, RedisOptions, RedisQueue, RedisRateLimits, RedisScratch};
pub use sqlite::{SqliteFloor, SqliteOptions, SqliteStore};
