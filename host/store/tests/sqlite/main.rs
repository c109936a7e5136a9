//! The SQLite store: the contract that every implementation meets, and what is its own.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../contract/mod.rs"]
mod contract;
mod crash;
mod own;

use chimera_core::ports::{Queue, Truth, TruthScratch};
use chimera_store::{MemoryQueue, SqliteOptions, SqliteStore};
use contract::model::{Lasting, batches, random_changes_do_what_the_model_says};
use contract::pace::ByHand;
use contract::scratch::Setup;
use proptest::prelude::*;
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

async fn open_queue() -> (Arc<dyn Queue>, ByHand, ()) {
    (Arc::new(MemoryQueue::new()), ByHand, ())
}

async fn open_scratch() -> (Setup, ByHand, TempDir) {
    let (truth, guard) = open_truth().await;
    (Setup { scratch: Arc::new(TruthScratch::new(truth.clone())), truth }, ByHand, guard)
}

truth_contract!(crate::open_truth);
queue_contract!(crate::open_queue);
scratch_contract!(crate::open_scratch);

impl Lasting for TempDir {
    type Store = SqliteStore;

    async fn open(&self) -> SqliteStore {
        SqliteStore::open(SqliteOptions { group_max: 3, ..SqliteOptions::new(self.path()) }).await.unwrap()
    }

    async fn close(&self, store: SqliteStore) {
        store.close().await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_changes(batches in batches()) {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(random_changes_do_what_the_model_says(&folder, batches));
    }
}
