//! The embedded indexes meet the contract, with every embedder that needs no server.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod contract;

use chimera_index::{HashedLexical, IndexOptions, Indexes, LexicalIndex, LexicalMemory};
use contract::Place;
use std::sync::Arc;

mod lexical {
    use super::*;

    async fn open() -> Place<()> {
        Place { skills: Arc::new(LexicalIndex::new()), memory: Arc::new(LexicalMemory::new()), guard: () }
    }

    index_contract!(open);
}

mod dense {
    use super::*;

    async fn open() -> Place<()> {
        let embedder = Arc::new(HashedLexical::default());
        let skills = Arc::new(LexicalIndex::with_embedder(embedder.clone()));
        Place { skills, memory: Arc::new(LexicalMemory::with_embedder(embedder)), guard: () }
    }

    index_contract!(open);
}

mod as_the_platform_opens_them {
    use super::*;

    async fn open() -> Place<Indexes> {
        let indexes = Indexes::open(IndexOptions::default()).await.unwrap();
        Place { skills: indexes.skills(), memory: indexes.memory(), guard: indexes }
    }

    index_contract!(open);
}
