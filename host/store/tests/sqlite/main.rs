//! The SQLite store: the contract that every implementation meets, and what is its own.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../contract/mod.rs"]
mod contract;
mod crash;
mod model;
mod own;

use chimera_core::ports::{Queue, Truth};
use chimera_store::{MemoryQueue, SqliteOptions, SqliteStore};
use std::sync::Arc;
use tempfile::TempDir;

/// A store in a folder that goes away with the guard.
async fn open() -> (SqliteStore, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(SqliteOptions::new(folder.path().join("data"))).await.unwrap();
    (store, folder)
}

async fn open_truth() -> (Arc<dyn Truth>, TempDir) {
    let (store, guard) = open().await;
    (Arc::new(store), guard)
}

async fn open_queue() -> (Arc<dyn Queue>, ()) {
    (Arc::new(MemoryQueue::new()), ())
}

truth_contract!(crate::open_truth);
queue_contract!(crate::open_queue);
