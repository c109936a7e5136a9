//! The index of what agents remember in Weaviate: the class `AgentMemory`, an object an item.
//!
//! Whose an item is stands in a filter that the agent's id alone decides; a query's text is always within its quotes
//! ([`super::graphql`]), and whatever comes back is checked against the agent once more. It forgets an agent's oldest where
//! the truth does. Called by [`crate::Indexes`].

use super::client::{Connection, id_for, id_of};
use super::graphql::Literal;
use super::schema::{self, MEMORY};
use super::{
    PortResult, Reconciled, WeaviateOptions, candidates, cosine, numbers, passed_over, score, text, vector_of,
    vectors_of,
};
use crate::corpus::{Blend, Terms, query_terms, score_found, terms_of};
use crate::embed::{Embedder, Purpose, Vector};
use async_trait::async_trait;
use chimera_core::clock::{Clock as _, SystemClock, Timestamp};
use chimera_core::digest::Digest;
use chimera_core::ids::AgentId;
use chimera_core::ports::{MemoryHit, MemoryIndex, PortError};
use chimera_core::records::MemoryItem;
use serde_json::{Value, json};
use std::fmt;
use std::sync::Arc;
use uuid::Uuid;
use weaviate_community::collections::objects::Object;
use weaviate_community::collections::query::{GetBuilder, GetQuery};

/// The searched property's weight and usual length, as in the embedded index.
const WEIGHT: f32 = 1.5;
const USUAL: f32 = 20.0;
/// Items that are embedded and written together.
const AT_ONCE: usize = 64;
/// Oldest items that are looked at when some must go.
const OLDEST_AT_ONCE: u32 = 100;

/// Agents' memory in Weaviate.
pub struct WeaviateMemory {
    connection: Arc<Connection>,
    embedder: Arc<dyn Embedder>,
}

impl fmt::Debug for WeaviateMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeaviateMemory").field("connection", &self.connection).finish_non_exhaustive()
    }
}

impl WeaviateMemory {
    /// The index in that Weaviate; its class is made if it is not there, and thrown away first if another model filled it.
    ///
    /// # Errors
    /// [`PortError`] when Weaviate cannot be reached, or the embedder has no vectors of one length.
    pub async fn open(options: WeaviateOptions, embedder: Arc<dyn Embedder>) -> PortResult<Self> {
        let index = Self::new(super::connect(options)?, embedder);
        index.prepare().await?;
        Ok(index)
    }

    /// Throws everything of it in Weaviate away.
    ///
    /// # Errors
    /// [`PortError`] when Weaviate cannot be reached.
    pub async fn destroy(self) -> PortResult<()> {
        self.connection.drop_class(MEMORY).await
    }

    pub(crate) fn new(connection: Arc<Connection>, embedder: Arc<dyn Embedder>) -> Self {
        Self { connection, embedder }
    }

    /// Makes the class if it is not there; throws it away first if another model filled it.
    pub(crate) async fn prepare(&self) -> PortResult<bool> {
        let mut properties: Vec<_> = ["agent", "item", "model"].into_iter().map(schema::exact).collect();
        properties.extend(["text", "metadata", "mark"].into_iter().map(schema::kept));
        properties.push(schema::filtered("size", "int"));
        properties.extend(["created_at", "written_at"].into_iter().map(schema::moment));
        properties.push(schema::searched("in_text"));
        let class = schema::class(&self.connection.class(MEMORY), properties);
        self.connection.ensure_class(class, self.embedder.model()).await
    }

    /// Makes Weaviate hold these items: writes what is missing or different. If they are all that the truth held at some
    /// moment, what is too much and was written before then is removed; what is newer, another process has written.
    pub(crate) async fn reconcile(
        &self,
        items: &[MemoryItem],
        truth_as_of: Option<Timestamp>,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> PortResult<Reconciled> {
        let mut known = self.connection.marks(MEMORY).await?;
        let mut done = Reconciled::default();
        let mut missing = Vec::new();
        for item in items {
            if known.remove(&id_of_item(item.agent, item.id)).is_some_and(|known| known.mark == self.mark(item)) {
                done.kept += 1;
            } else {
                missing.push(item);
            }
        }
        progress(done.kept);
        for some in missing.chunks(AT_ONCE) {
            self.write(some).await?;
            done.written += some.len() as u64;
            progress(done.kept + done.written);
        }
        for (id, known) in known {
            if truth_as_of.is_some_and(|moment| known.written_at < moment.as_millis()) {
                self.connection.remove(MEMORY, id).await?;
                done.removed += 1;
            }
        }
        Ok(done)
    }

    async fn write(&self, items: &[&MemoryItem]) -> PortResult<()> {
        let texts: Vec<&str> = items.iter().map(|item| item.text.as_str()).collect();
        let vectors = vectors_of(self.embedder.as_ref(), &texts, Purpose::Document).await;
        let objects = items.iter().zip(vectors).map(|(item, vector)| self.object(item, vector.as_ref())).collect();
        self.connection.upsert(objects).await
    }

    fn object(&self, item: &MemoryItem, vector: Option<&Vector>) -> Object {
        let properties = json!({
            "agent": item.agent.to_string(),
            "item": item.id.to_string(),
            "text": item.text,
            // As text: Weaviate would take the members for properties of its own.
            "metadata": item.metadata.to_string(),
            "created_at": item.created_at.as_millis(),
            "size": item.size(),
            "model": self.embedder.model().as_str(),
            "in_text": terms_of(&item.text).join(" "),
            "mark": self.mark(item),
            "written_at": SystemClock.now().as_millis(),
        });
        let class = self.connection.class(MEMORY);
        let mut object = Object::builder(&class, properties).with_id(id_of_item(item.agent, item.id)).build();
        object.vector = numbers(vector);
        object
    }

    /// Changes whenever anything of the object would.
    fn mark(&self, item: &MemoryItem) -> String {
        let (agent, id, metadata) = (item.agent.to_string(), item.id.to_string(), item.metadata.to_string());
        let at = item.created_at.as_millis().to_string();
        let parts = [self.embedder.model().as_str(), &agent, &id, &item.text, &metadata, &at];
        Digest::of_parts(&parts.map(str::as_bytes)).hex()
    }

    fn query(&self, properties: Vec<&str>) -> GetBuilder {
        GetQuery::builder(&self.connection.class(MEMORY), properties)
    }

    /// Forgets an agent's oldest items until there are no more than the truth keeps.
    async fn forget_oldest(&self, agent: AgentId, but: Uuid) -> PortResult<()> {
        let own = own(agent);
        let (mut items, mut bytes) = self.connection.count(MEMORY, &own, "size").await?;
        let is_too_much =
            |items: u64, bytes: u64| items > MemoryItem::MAX_ITEMS as u64 || bytes > MemoryItem::MAX_BYTES as u64;
        while is_too_much(items, bytes) {
            let by_age = Literal::list([Literal::object([
                ("path", Literal::list([Literal::text("created_at")])),
                ("order", Literal::keyword("asc")),
            ])]);
            let oldest = self
                .query(vec!["item", "size"])
                .with_where(own.as_str())
                .with_sort(by_age.as_str())
                .with_limit(OLDEST_AT_ONCE)
                .with_additional(vec!["id"]);
            let oldest = self.connection.get(MEMORY, oldest).await?;
            let mut gone = 0;
            for object in oldest {
                let id = id_of(&object)?;
                if id == but || !is_too_much(items, bytes) {
                    continue;
                }
                self.connection.remove(MEMORY, id).await?;
                items -= 1;
                bytes = bytes.saturating_sub(object["size"].as_u64().unwrap_or(0));
                gone += 1;
            }
            if gone == 0 {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Only what is this agent's.
fn own(agent: AgentId) -> Literal {
    Literal::equals("agent", "valueText", Literal::agent(agent))
}

fn id_of_item(agent: AgentId, item: Uuid) -> Uuid {
    id_for(&[MEMORY, &agent.to_string(), &item.to_string()])
}

#[async_trait]
impl MemoryIndex for WeaviateMemory {
    async fn put(&self, item: &MemoryItem) -> Result<(), PortError> {
        self.write(&[item]).await?;
        self.forget_oldest(item.agent, id_of_item(item.agent, item.id)).await
    }

    async fn forget(&self, agent: AgentId, item: Uuid) -> Result<(), PortError> {
        self.connection.remove(MEMORY, id_of_item(agent, item)).await
    }

    async fn search(&self, agent: AgentId, query: &str, limit: usize) -> Result<Vec<MemoryHit>, PortError> {
        let query = chimera_core::text::truncated(query.to_owned(), crate::MAX_QUERY_BYTES);
        let terms = query_terms(&query);
        let limit = limit.min(crate::MAX_HITS);
        if terms.is_empty() || limit == 0 {
            return Ok(Vec::new());
        }
        let vector = vector_of(self.embedder.as_ref(), &query, Purpose::Query).await;
        let blend = Blend::of(self.embedder.as_ref());
        let words = Literal::text(&terms.join(" "));
        let properties = Literal::list([Literal::text("in_text")]);
        let model = Literal::equals("model", "valueText", Literal::text(self.embedder.model().as_str()));
        let get = self
            .query(vec!["agent", "item", "text", "metadata", "created_at", "in_text"])
            .with_where(Literal::all([own(agent), model]).as_str())
            .with_limit(candidates(limit));
        let get = match &vector {
            Some(vector) => get
                .with_hybrid(
                    Literal::object([
                        ("query", words),
                        ("vector", Literal::vector(vector.values())),
                        ("alpha", Literal::share(blend.share)),
                        ("fusionType", Literal::keyword("relativeScoreFusion")),
                        ("properties", properties),
                    ])
                    .as_str(),
                )
                .with_additional(vec!["vector"]),
            None => get.with_bm25(Literal::object([("query", words), ("properties", properties)]).as_str()),
        };
        let found = self.connection.get(MEMORY, get).await?;
        let fields: Vec<Vec<Terms<'_>>> = found
            .iter()
            .map(|object| vec![Terms { weight: WEIGHT, usual: USUAL, terms: text(object, "in_text") }])
            .collect();
        let scored = score_found(&query, &fields);
        let mut hits: Vec<MemoryHit> = found
            .iter()
            .zip(scored)
            .filter_map(|(object, (words, _))| {
                let score = score(blend, words, cosine(vector.as_ref(), object));
                Some(MemoryHit { item: read_item(object)?, score })
            })
            .filter(|hit| hit.score > 0.0 && hit.item.agent == agent)
            .collect();
        hits.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.item.id.cmp(&b.item.id)));
        hits.truncate(limit);
        Ok(hits)
    }
}

fn read_item(object: &Value) -> Option<MemoryItem> {
    let item = json!({
        "id": object.get("item"),
        "agent": object.get("agent"),
        "text": object.get("text"),
        "metadata": serde_json::from_str::<Value>(text(object, "metadata")).ok()?,
        "created_at": Timestamp::from_millis(object.get("created_at")?.as_f64()? as i64),
    });
    serde_json::from_value(item).inspect_err(|error| passed_over("item", error)).ok()
}
