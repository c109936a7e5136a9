//! The PostgreSQL store on a real server: the contract that every implementation meets, and what is its own.
//!
//! `CHIMERA_TEST_POSTGRES` says where the server is; `cargo xtask test` starts one and sets it. Each test has a schema of its
//! own.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../contract/mod.rs"]
mod contract;
mod own;
mod silence;

use chimera_core::ports::{Queue, Truth, TruthScratch};
use chimera_store::{PostgresOptions, PostgresStore};
use contract::model::{Lasting, batches, random_changes_do_what_the_model_says};
use contract::pace::ByHand;
use contract::scratch::Setup;
use proptest::prelude::*;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use std::sync::Arc;
use uuid::Uuid;

/// The server's address.
fn server() -> String {
    std::env::var("CHIMERA_TEST_POSTGRES").expect(
        "CHIMERA_TEST_POSTGRES is not set: run `cargo xtask test`, or `cargo xtask services up` and what it prints",
    )
}

/// A schema that goes away with the guard.
struct Schema {
    name: String,
}

impl Schema {
    async fn create() -> Self {
        let name = format!("t{}", Uuid::now_v7().simple());
        let mut db = PgConnection::connect(&server()).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(format!("CREATE SCHEMA {name}"))).execute(&mut db).await.unwrap();
        Self { name }
    }

    /// The server's address with this schema as the only one.
    fn url(&self) -> String {
        let server = server();
        let separator = if server.contains('?') { '&' } else { '?' };
        format!("{server}{separator}options[search_path]={}", self.name)
    }

    async fn store(&self) -> PostgresStore {
        PostgresStore::open(PostgresOptions::new(self.url())).await.unwrap()
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        let drop_it = format!("DROP SCHEMA {} CASCADE", self.name);
        // A thread of its own, because the test's runtime may not be waited for here.
        let done = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut db = PgConnection::connect(&server()).await.unwrap();
                sqlx::raw_sql(AssertSqlSafe(drop_it)).execute(&mut db).await.unwrap();
            });
        });
        let _ = done.join();
    }
}

async fn open_truth() -> (Arc<dyn Truth>, Schema) {
    let schema = Schema::create().await;
    let store = schema.store().await;
    (Arc::new(store), schema)
}

async fn open_scratch() -> (Setup, ByHand, Schema) {
    let (truth, guard) = open_truth().await;
    (Setup { scratch: Arc::new(TruthScratch::new(truth.clone())), truth }, ByHand, guard)
}

truth_contract!(crate::open_truth);
scratch_contract!(crate::open_scratch);

async fn open_queue() -> (Arc<dyn Queue>, ByHand, Schema) {
    let schema = Schema::create().await;
    let store = schema.store().await;
    (Arc::new(store.queue()), ByHand, schema)
}

queue_contract!(crate::open_queue);

impl Lasting for Schema {
    type Store = PostgresStore;

    /// One writer: several take changes of one caller in any order.
    async fn open(&self) -> PostgresStore {
        let options = PostgresOptions { group_max: 3, writers: 1, ..PostgresOptions::new(self.url()) };
        PostgresStore::open(options).await.unwrap()
    }

    async fn close(&self, store: PostgresStore) {
        store.close().await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_changes(batches in batches()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let schema = Schema::create().await;
            random_changes_do_what_the_model_says(&schema, batches).await;
        });
    }
}
