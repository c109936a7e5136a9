//! What is talked about, in Weaviate: the class `ContentTrend`, an object a topic.
//!
//! The figures are the truth's ([`Truth::top_trends`]); here topics are found that are about the same as a text. They are a
//! picture of the last rebuild and never a reason to act. Called by [`crate::Indexes`].
//!
//! [`Truth::top_trends`]: chimera_core::ports::Truth::top_trends

use super::client::{Connection, id_for};
use super::graphql::Literal;
use super::schema::{self, TRENDS};
use super::{PortResult, WeaviateOptions, candidates, cosine, numbers, text, vector_of, vectors_of};
use crate::corpus::Blend;
use crate::embed::{Embedder, Purpose};
use chimera_core::records::TrendTop;
use serde_json::json;
use std::fmt;
use std::sync::Arc;
use weaviate_community::collections::objects::Object;
use weaviate_community::collections::query::GetQuery;

/// Topics in Weaviate.
pub struct WeaviateTrends {
    connection: Arc<Connection>,
    embedder: Arc<dyn Embedder>,
}

impl fmt::Debug for WeaviateTrends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeaviateTrends").field("connection", &self.connection).finish_non_exhaustive()
    }
}

impl WeaviateTrends {
    /// The topics in that Weaviate; their class is made if it is not there, and thrown away first if another model filled it.
    ///
    /// # Errors
    /// [`chimera_core::ports::PortError`] when Weaviate cannot be reached.
    pub async fn open(options: WeaviateOptions, embedder: Arc<dyn Embedder>) -> PortResult<Self> {
        let index = Self::new(super::connect(options)?, embedder);
        index.prepare().await?;
        Ok(index)
    }

    /// Throws everything of it in Weaviate away.
    ///
    /// # Errors
    /// [`chimera_core::ports::PortError`] when Weaviate cannot be reached.
    pub async fn destroy(self) -> PortResult<()> {
        self.connection.drop_class(TRENDS).await
    }

    pub(crate) fn new(connection: Arc<Connection>, embedder: Arc<dyn Embedder>) -> Self {
        Self { connection, embedder }
    }

    /// Makes the class if it is not there; throws it away first if another model filled it.
    pub(crate) async fn prepare(&self) -> PortResult<bool> {
        let properties = vec![
            schema::exact("model"),
            schema::kept("topic"),
            schema::filtered("weight", "number"),
            schema::filtered("count", "int"),
        ];
        let class = schema::class(&self.connection.class(TRENDS), properties);
        self.connection.ensure_class(class, self.embedder.model()).await
    }

    /// Makes Weaviate hold exactly these topics.
    ///
    /// # Errors
    /// [`chimera_core::ports::PortError`] when Weaviate cannot be reached or refuses.
    pub async fn replace(&self, topics: &[TrendTop]) -> PortResult<()> {
        self.connection.drop_class(TRENDS).await?;
        self.prepare().await?;
        let texts: Vec<&str> = topics.iter().map(|topic| topic.topic.as_str()).collect();
        let vectors = vectors_of(self.embedder.as_ref(), &texts, Purpose::Document).await;
        let object = |(topic, vector): (&TrendTop, Option<crate::embed::Vector>)| {
            let properties = json!({
                "topic": topic.topic,
                "weight": topic.weight,
                "count": topic.count,
                "model": self.embedder.model().as_str(),
            });
            let id = id_for(&[TRENDS, &topic.topic]);
            let mut object = Object::builder(&self.connection.class(TRENDS), properties).with_id(id).build();
            object.vector = numbers(vector.as_ref());
            object
        };
        self.connection.upsert(topics.iter().zip(vectors).map(object).collect()).await
    }

    /// The topics that are about the same as a text, nearest first, each with its likeness, 0 to 1.
    ///
    /// # Errors
    /// [`chimera_core::ports::PortError`] when Weaviate cannot be reached.
    pub async fn near(&self, query: &str, limit: usize) -> PortResult<Vec<(TrendTop, f64)>> {
        let query = chimera_core::text::truncated(query.to_owned(), crate::MAX_QUERY_BYTES);
        let Some(vector) = vector_of(self.embedder.as_ref(), &query, Purpose::Query).await else {
            return Ok(Vec::new());
        };
        let near = Literal::object([("vector", Literal::vector(vector.values()))]);
        let model = Literal::equals("model", "valueText", Literal::text(self.embedder.model().as_str()));
        let get = GetQuery::builder(&self.connection.class(TRENDS), vec!["topic", "weight", "count"])
            .with_where(model.as_str())
            .with_near_vector(near.as_str())
            .with_limit(candidates(limit))
            .with_additional(vec!["vector"]);
        let blend = Blend::of(self.embedder.as_ref());
        let mut found: Vec<(TrendTop, f64)> = self
            .connection
            .get(TRENDS, get)
            .await?
            .iter()
            .map(|object| {
                let likeness = cosine(Some(&vector), object).map_or(0.0, |cosine| blend.likeness(cosine));
                let weight = object["weight"].as_f64().unwrap_or(0.0);
                let count = object["count"].as_u64().unwrap_or(0);
                (TrendTop { topic: text(object, "topic").to_owned(), weight, count }, f64::from(likeness))
            })
            .filter(|(_, likeness)| *likeness > 0.0)
            .collect();
        found.sort_by(|a, b| b.1.total_cmp(&a.1));
        found.truncate(limit.min(crate::MAX_HITS));
        Ok(found)
    }
}
