//! What is kept in Redis, on a real server: the contracts that every implementation meets, and what is its own.
//!
//! `CHIMERA_TEST_REDIS` says where the server is; `cargo xtask test` starts one and sets it. Each test has a prefix of its
//! own. What breaks servers starts them itself.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../contract/mod.rs"]
mod contract;
mod faults;
mod leases;
mod notices;
mod own;

use chimera_core::clock::SystemClock;
use chimera_core::ports::{Queue, RateLimits};
use chimera_store::{
    FallbackQueue, FallbackQueues, FallbackTerms, MemoryQueue, MemoryRateLimits, Redis, RedisOptions, RedisQueue,
    RedisRateLimits, RedisScratch, SqliteOptions, SqliteStore,
};
use contract::pace::{ByHand, Really};
use contract::scratch::Setup;
use std::sync::Arc;
use tempfile::TempDir;
use uuid::Uuid;

/// The server's address.
fn server() -> String {
    std::env::var("CHIMERA_TEST_REDIS").expect(
        "CHIMERA_TEST_REDIS is not set: run `cargo xtask test`, or `cargo xtask services up` and what it prints",
    )
}

/// Keys of its own, which go away with it.
struct Keys {
    prefix: String,
}

impl Keys {
    fn new() -> Self {
        Self { prefix: format!("t{}:", Uuid::now_v7().simple()) }
    }

    fn options(&self) -> RedisOptions {
        // A busy machine is no fault.
        let response_timeout = std::time::Duration::from_secs(10);
        RedisOptions { prefix: self.prefix.clone(), response_timeout, ..RedisOptions::new(server()) }
    }

    async fn redis(&self) -> Redis {
        Redis::open(self.options()).await.unwrap()
    }
}

impl Keys {
    /// As if the server had come back empty. Apart from the test's runtime: it is also called where nothing can be awaited.
    fn remove_all(&self) {
        let options = self.options();
        let remove = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { Redis::open(options).await.unwrap().remove_all().await.unwrap() });
        };
        std::thread::spawn(remove).join().unwrap();
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.remove_all();
    }
}

async fn open_queue() -> (Arc<dyn Queue>, Really, Keys) {
    let keys = Keys::new();
    (Arc::new(RedisQueue::new(keys.redis().await)), Really::start(), keys)
}

/// Whatever queues stand in for each other, together they are a queue.
async fn open_fallback() -> (Arc<dyn Queue>, ByHand, ()) {
    let queues = FallbackQueues {
        primary: Arc::new(MemoryQueue::new()),
        backup: Some(Arc::new(MemoryQueue::new())),
        last: Arc::new(MemoryQueue::new()),
    };
    (Arc::new(FallbackQueue::start(queues, FallbackTerms::default(), Arc::new(SystemClock))), ByHand, ())
}

async fn open_rates() -> (Arc<dyn RateLimits>, Really, Keys) {
    let keys = Keys::new();
    (Arc::new(RedisRateLimits::new(keys.redis().await)), Really::start(), keys)
}

async fn open_memory_rates() -> (Arc<dyn RateLimits>, ByHand, ()) {
    (Arc::new(MemoryRateLimits::new()), ByHand, ())
}

/// Beside a truth in SQLite.
async fn open_scratch() -> (Setup, Really, (Keys, TempDir)) {
    let (keys, folder) = (Keys::new(), tempfile::tempdir().unwrap());
    let truth = Arc::new(SqliteStore::open(SqliteOptions::new(folder.path().join("data"))).await.unwrap());
    let scratch = Arc::new(RedisScratch::new(keys.redis().await, truth.clone()));
    (Setup { scratch, truth }, Really::start(), (keys, folder))
}

mod queue {
    use crate::{paced_contract, queue_contract};
    queue_contract!(crate::open_queue);
}

mod fallback_queue {
    use crate::{paced_contract, queue_contract};
    queue_contract!(crate::open_fallback);
}

mod rates {
    use crate::{paced_contract, rates_contract};
    rates_contract!(crate::open_rates);
}

mod memory_rates {
    use crate::{paced_contract, rates_contract};
    rates_contract!(crate::open_memory_rates);
}

mod scratch {
    use crate::{paced_contract, scratch_contract};
    scratch_contract!(crate::open_scratch);
}
