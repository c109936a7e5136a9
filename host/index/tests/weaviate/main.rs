//! The indexes in a real Weaviate: the contract that every index meets, and what is its own.
//!
//! `CHIMERA_TEST_WEAVIATE` says where the server is; `cargo xtask test` starts one and sets it. Each test has classes of its own,
//! told from the others' by a prefix, and throws them away.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../contract/mod.rs"]
mod contract;
mod faults;
mod own;

use chimera_index::{
    Embedder, HashedLexical, IndexOptions, Indexes, WeaviateMemory, WeaviateOptions, WeaviateSkills, WeaviateTrends,
};
use contract::Place;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// The server, and class names that nobody else uses.
fn options() -> WeaviateOptions {
    let url = std::env::var("CHIMERA_TEST_WEAVIATE").expect(
        "CHIMERA_TEST_WEAVIATE is not set: run `cargo xtask test`, or `cargo xtask services up` and what it prints",
    );
    let prefix = format!("T{}", Uuid::now_v7().simple());
    WeaviateOptions { prefix, search_timeout: Duration::from_secs(20), ..WeaviateOptions::new(&url).unwrap() }
}

/// Throws the classes away.
struct Classes(WeaviateOptions);

impl Drop for Classes {
    fn drop(&mut self) {
        let options = self.0.clone();
        // A thread of its own, because the test's runtime may not be waited for here.
        let done = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let embedder: Arc<dyn Embedder> = Arc::new(HashedLexical::default());
                WeaviateSkills::open(options.clone(), embedder.clone()).await.unwrap().destroy().await.unwrap();
                WeaviateMemory::open(options.clone(), embedder.clone()).await.unwrap().destroy().await.unwrap();
                WeaviateTrends::open(options, embedder).await.unwrap().destroy().await.unwrap();
            });
        });
        let _ = done.join();
    }
}

mod alone {
    use super::*;

    async fn open() -> Place<Classes> {
        let options = options();
        let embedder = Arc::new(HashedLexical::default());
        let skills = Arc::new(WeaviateSkills::open(options.clone(), embedder.clone()).await.unwrap());
        let memory = Arc::new(WeaviateMemory::open(options.clone(), embedder).await.unwrap());
        Place { skills, memory, guard: Classes(options) }
    }

    index_contract!(open);
}

mod behind_the_fallback {
    use super::*;

    async fn open() -> Place<(Indexes, Classes)> {
        let options = options();
        let weaviate = Some(options.clone());
        let indexes = Indexes::open(IndexOptions { weaviate, ..IndexOptions::default() }).await.unwrap();
        assert!(indexes.settled(Duration::from_secs(30)).await, "{:?}", indexes.status());
        Place { skills: indexes.skills(), memory: indexes.memory(), guard: (indexes, Classes(options)) }
    }

    index_contract!(open);
}
