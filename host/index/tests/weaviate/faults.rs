//! Weaviate goes away in the middle, comes back, or is never there: search goes on, and nothing is lost.
//!
//! Between the index and the real server stands a cable: a port of our own that passes bytes on, and can be pulled out.

use super::contract::{agent, item, skill};
use super::{Classes, options};
use chimera_core::ports::{MemoryIndex as _, SkillIndex as _};
use chimera_index::{
    HashedLexical, IndexOptions, Indexes, WeaviateMemory, WeaviateOptions, WeaviateSkills, WeaviateStatus,
};
use serde_json::json;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// A port that leads to another one.
struct Cable {
    port: SocketAddr,
    server: String,
    carrying: Option<JoinHandle<()>>,
}

impl Cable {
    async fn to(server: &str) -> Self {
        let server = server.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let mut cable = Self { port, server, carrying: None };
        cable.plug_in().await;
        cable
    }

    async fn plug_in(&mut self) {
        let listener = TcpListener::bind(self.port).await.unwrap();
        let server = self.server.clone();
        self.carrying = Some(tokio::spawn(async move {
            // Dropped with the task, and every connection with it.
            let mut connections = JoinSet::new();
            while let Ok((mut near, _)) = listener.accept().await {
                let server = server.clone();
                connections.spawn(async move {
                    if let Ok(mut far) = TcpStream::connect(server).await {
                        let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                    }
                });
            }
        }));
    }

    async fn pull_out(&mut self) {
        if let Some(carrying) = self.carrying.take() {
            carrying.abort();
            let _ = carrying.await;
        }
    }
}

async fn open(options: WeaviateOptions) -> Indexes {
    Indexes::open(IndexOptions { weaviate: Some(options), ..IndexOptions::default() }).await.unwrap()
}

async fn settle(indexes: &Indexes) {
    assert!(indexes.settled(Duration::from_secs(60)).await, "{:?}", indexes.status());
    assert_eq!(indexes.status().weaviate, WeaviateStatus::Up);
}

#[tokio::test]
async fn what_was_written_while_it_was_away_is_there_when_it_is_back() {
    let options = options();
    let _classes = Classes(options.clone());
    let mut cable = Cable::to(&options.url).await;
    let indexes = open(WeaviateOptions { url: format!("http://{}/", cable.port), ..options.clone() }).await;
    settle(&indexes).await;
    let (skills, memory) = (indexes.skills(), indexes.memory());
    let paint = skill("acme/paint", "1.0.0", "Paints walls.", &["paint"]);
    skills.put(&paint).await.unwrap();
    memory.put(&item(1, agent(1), "Plums are ripe.", json!({}))).await.unwrap();
    assert_eq!(skills.search("paint", 5).await.unwrap().len(), 1);

    cable.pull_out().await;
    let started = Instant::now();
    assert_eq!(skills.search("paint", 5).await.unwrap().len(), 1, "the embedded index answers at once");
    assert!(matches!(indexes.status().weaviate, WeaviateStatus::Down { .. }));
    skills.put(&skill("acme/bread", "1.0.0", "Bakes bread.", &["bread"])).await.unwrap();
    skills.remove(&paint.skill).await.unwrap();
    memory.put(&item(2, agent(1), "The bicycle needs oil.", json!({}))).await.unwrap();
    memory.forget(agent(1), item(1, agent(1), "", json!({})).id).await.unwrap();
    let found = async || {
        let bread = skills.search("bread", 5).await.unwrap().len();
        let paint = skills.search("paint", 5).await.unwrap().iter().filter(|hit| hit.score > 0.5).count();
        let oil = memory.search(agent(1), "bicycle oil", 1).await.unwrap()[0].item.text.clone();
        (bread, paint, oil)
    };
    let wanted = (1, 0, "The bicycle needs oil.".to_owned());
    assert_eq!(found().await, wanted, "while it is away");
    assert!(started.elapsed() < Duration::from_secs(15), "nobody waits for what is not there");
    let WeaviateStatus::Down { noted, compares_everything: false, .. } = indexes.status().weaviate else {
        panic!("{:?}", indexes.status())
    };
    assert_eq!(noted, 4);

    cable.plug_in().await;
    settle(&indexes).await;
    assert_eq!(found().await, wanted, "when it is back");
    // And it is Weaviate that knows it, not only the embedded index.
    let embedder = Arc::new(HashedLexical::default());
    let there = WeaviateSkills::open(options.clone(), embedder.clone()).await.unwrap();
    let names: Vec<String> =
        there.search("bread paint", 5).await.unwrap().iter().map(|hit| hit.skill.name.to_string()).collect();
    assert_eq!(names, ["acme/bread"]);
    let there = WeaviateMemory::open(options, embedder).await.unwrap();
    let hits = there.search(agent(1), "bicycle plums oil ripe", 5).await.unwrap();
    assert_eq!(hits.iter().map(|hit| hit.item.id.as_u128()).collect::<Vec<_>>(), [2]);
}

#[tokio::test]
async fn a_server_that_lost_everything_is_filled_again() {
    let options = options();
    let _classes = Classes(options.clone());
    let mut cable = Cable::to(&options.url).await;
    let indexes = open(WeaviateOptions { url: format!("http://{}/", cable.port), ..options.clone() }).await;
    settle(&indexes).await;
    let skills = indexes.skills();
    for number in 0..150 {
        let name = format!("acme/weather-{number}");
        skills.put(&skill(&name, "1.0.0", "Tells the weather.", &["weather"])).await.unwrap();
    }
    cable.pull_out().await;
    skills.search("weather", 5).await.unwrap();
    let embedder = Arc::new(HashedLexical::default());
    let open_there = async || WeaviateSkills::open(options.clone(), embedder.clone()).await.unwrap();
    open_there().await.destroy().await.unwrap();
    cable.plug_in().await;
    settle(&indexes).await;
    assert_eq!(open_there().await.search("weather", 500).await.unwrap().len(), 150);
    let (filled, _) = indexes.last_reconciled().unwrap();
    assert_eq!((filled.written, filled.kept), (150, 0));
}

#[tokio::test]
async fn a_server_that_is_never_there_costs_nobody_anything() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let indexes = open(WeaviateOptions::new(&format!("http://{nobody}")).unwrap()).await;
    let started = Instant::now();
    for number in 0..500 {
        let version = skill(&format!("acme/weather-{number}"), "1.0.0", "Tells the weather.", &["weather"]);
        indexes.skills().put(&version).await.unwrap();
        assert!(!indexes.skills().search("weather", 5).await.unwrap().is_empty());
    }
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    assert!(!indexes.settled(Duration::from_millis(100)).await);
    let WeaviateStatus::Down { noted: 500, .. } = indexes.status().weaviate else { panic!("{:?}", indexes.status()) };
}

#[tokio::test]
async fn more_than_can_be_noted_is_compared() {
    let options = options();
    let _classes = Classes(options.clone());
    let mut cable = Cable::to(&options.url).await;
    cable.pull_out().await;
    let indexes = open(WeaviateOptions { url: format!("http://{}/", cable.port), ..options.clone() }).await;
    let memory = indexes.memory();
    for number in 0..10_050 {
        // Many agents: one would forget its oldest.
        memory.put(&item(number, agent(number % 50), "x", json!({}))).await.unwrap();
    }
    for number in 20..10_050 {
        memory.forget(agent(number % 50), item(number, agent(1), "", json!({})).id).await.unwrap();
    }
    let WeaviateStatus::Down { noted: 10_000, compares_everything: true, .. } = indexes.status().weaviate else {
        panic!("{:?}", indexes.status())
    };
    drop(cable);
}
