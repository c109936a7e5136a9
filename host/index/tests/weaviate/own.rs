//! What is Weaviate's own: that vectors of two models never meet, and how fast it is.

use super::contract::{agent, item, skill};
use super::{Classes, options};
use async_trait::async_trait;
use chimera_core::ports::{MemoryIndex as _, PortError, SkillIndex as _};
use chimera_core::records::TrendTop;
use chimera_index::{
    Embedder, Embedding, HashedLexical, ModelName, Purpose, Vector, WeaviateMemory, WeaviateSkills, WeaviateTrends,
};
use serde_json::json;
use std::sync::Arc;

/// A model of that name: every text is the same vector.
struct Same {
    name: ModelName,
    values: Vec<f32>,
}

impl Same {
    fn new(name: &str, values: &[f32]) -> Arc<Self> {
        Arc::new(Self { name: ModelName::new(name), values: values.to_vec() })
    }
}

#[async_trait]
impl Embedder for Same {
    async fn embed(&self, texts: &[&str], _purpose: Purpose) -> Result<Vec<Embedding>, PortError> {
        let vector = Vector::new(self.name.clone(), self.values.clone());
        Ok(texts.iter().map(|_| Embedding::Dense(vector.clone())).collect())
    }

    fn model(&self) -> &ModelName {
        &self.name
    }

    fn share(&self) -> f64 {
        1.0
    }
}

#[tokio::test]
async fn vectors_of_two_models_never_meet() {
    let options = options();
    let _classes = Classes(options.clone());
    // Vectors of one length, so that nothing but the name tells them apart; then of another.
    let models = [Same::new("old", &[1.0, 0.0]), Same::new("new", &[1.0, 0.0]), Same::new("third", &[1.0, 0.0, 0.0])];
    for model in models {
        let skills = WeaviateSkills::open(options.clone(), model.clone()).await.unwrap();
        let memory = WeaviateMemory::open(options.clone(), model.clone()).await.unwrap();
        assert!(skills.search("paint", 5).await.unwrap().is_empty(), "{} found another's", model.name);
        assert!(memory.search(agent(1), "paint", 5).await.unwrap().is_empty(), "{} found another's", model.name);
        skills.put(&skill("acme/paint", "1.0.0", "Paints walls.", &["paint"])).await.unwrap();
        memory.put(&item(1, agent(1), "paint", json!({}))).await.unwrap();
        assert_eq!(skills.search("paint", 5).await.unwrap().len(), 1);
        assert_eq!(memory.search(agent(1), "paint", 5).await.unwrap().len(), 1);
        // The same model again finds what it has written.
        let again = WeaviateSkills::open(options.clone(), model).await.unwrap();
        assert_eq!(again.search("paint", 5).await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn the_same_thing_is_the_same_object_whoever_writes_it() {
    let options = options();
    let _classes = Classes(options.clone());
    let embedder = Arc::new(HashedLexical::default());
    let open = async || WeaviateMemory::open(options.clone(), embedder.clone()).await.unwrap();
    let (one, other) = (open().await, open().await);
    for _ in 0..3 {
        one.put(&item(1, agent(1), "Plums are ripe.", json!({}))).await.unwrap();
        other.put(&item(1, agent(1), "Plums are ripe.", json!({}))).await.unwrap();
    }
    assert_eq!(one.search(agent(1), "plums", 10).await.unwrap().len(), 1);
    other.forget(agent(1), item(1, agent(1), "", json!({})).id).await.unwrap();
    assert!(one.search(agent(1), "plums", 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn topics_near_a_text_are_found() {
    let options = options();
    let _classes = Classes(options.clone());
    let trends = WeaviateTrends::open(options, Arc::new(HashedLexical::default())).await.unwrap();
    let topic = |topic: &str, weight| TrendTop { topic: topic.to_owned(), weight, count: 3 };
    let all = [topic("river cleaning", 2.5), topic("football", 1.0), topic("\"}) {", 7.0)];
    for _ in 0..2 {
        trends.replace(&all).await.unwrap();
    }
    let found = trends.near("who cleans the rivers?", 2).await.unwrap();
    assert_eq!(found[0].0, all[0]);
    assert!(found.iter().all(|(_, likeness)| (0.0..=1.0).contains(likeness)) && found.len() <= 2);
    trends.replace(&all[1..]).await.unwrap();
    assert!(
        trends
            .near("who cleans the rivers?", 5)
            .await
            .unwrap()
            .iter()
            .all(|(topic, _)| topic.topic != "river cleaning")
    );
}
