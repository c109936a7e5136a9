//! A connection to Weaviate: `weaviate-community` with a bound of time on everything, errors that have a kind, and the few
//! calls that the crate cannot make.
//!
//! The crate (0.2.2, made for server 1.21) cannot: put the cursor of a listing into quotes; filter an aggregate (it writes the
//! filter down a second time under another name); tell which objects of a batch failed (its answer's list is private);
//! remove what is not there without an error. For the first two a raw query is written here, of [`Literal`]s; the third is
//! read from the answer written out as JSON again; the fourth is a removal by filter. The key never leaves this module.
//! Called by the two indexes and [`super::reconcile`].

use super::graphql::Literal;
use crate::embed::ModelName;
use chimera_core::digest::Digest;
use chimera_core::ports::{PortError, PortErrorKind};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::time::Duration;
use uuid::Uuid;
use weaviate_community::WeaviateClient;
use weaviate_community::collections::batch::{BatchDeleteRequest, MatchConfig};
use weaviate_community::collections::objects::{MultiObjects, Object};
use weaviate_community::collections::query::{GetBuilder, GetQuery, RawQuery};
use weaviate_community::collections::schema::Class;

/// Objects of one request.
pub(super) const BATCH: usize = 100;
/// Objects of one page of a listing.
const PAGE: usize = 500;

/// Where Weaviate is, and how it is used.
#[derive(Clone, PartialEq, Eq)]
pub struct WeaviateOptions {
    /// The server's address, `http://host:port` or `https://host:port`, without a key.
    pub url: String,
    /// Sent as a bearer token.
    pub key: Option<String>,
    /// How long a search may take before the embedded index answers instead.
    pub search_timeout: Duration,
    /// How long a request that writes may take.
    pub write_timeout: Duration,
    /// What the classes' names begin with, so that several can share a server: empty, or letters and digits with a capital
    /// first.
    pub prefix: String,
}

impl WeaviateOptions {
    /// A server by its address; a key may stand where a password does: `http://:KEY@host:port`.
    ///
    /// # Errors
    /// [`WeaviateError`] when that is no such address.
    pub fn new(url: &str) -> Result<Self, WeaviateError> {
        let mut parsed =
            reqwest_with_tls::Url::parse(url).map_err(|_| WeaviateError("its address is not one".to_owned()))?;
        if !matches!(parsed.scheme(), "http" | "https") || parsed.host_str().is_none() {
            return Err(WeaviateError("its address must begin with http:// or https://".to_owned()));
        }
        let key = parsed.password().map(str::to_owned);
        let cleared = parsed.set_password(None).and_then(|()| parsed.set_username(""));
        cleared.map_err(|()| WeaviateError("its address cannot carry a key".to_owned()))?;
        parsed.set_path("/");
        Ok(Self {
            url: parsed.to_string(),
            key,
            search_timeout: Duration::from_secs(2),
            write_timeout: Duration::from_secs(30),
            prefix: String::new(),
        })
    }
}

impl fmt::Debug for WeaviateOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeaviateOptions")
            .field("url", &self.url)
            .field("has_key", &self.key.is_some())
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

/// Weaviate cannot be used as it was described.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Weaviate cannot be used: {0}")]
pub struct WeaviateError(String);

/// The connection. It keeps none open that is not in use, and makes none before the first call.
pub(crate) struct Connection {
    client: WeaviateClient,
    options: WeaviateOptions,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("options", &self.options).finish_non_exhaustive()
    }
}

/// What tells an object that is as it should be from one that is not.
#[derive(Debug)]
pub(super) struct Marked {
    /// Of everything in it.
    pub(super) mark: String,
    /// When it was written, in milliseconds since 1970.
    pub(super) written_at: i64,
}

/// How long a call may take.
#[derive(Debug, Clone, Copy)]
enum Patience {
    Search,
    Write,
}

impl Connection {
    pub(crate) fn new(options: WeaviateOptions) -> Result<Self, WeaviateError> {
        let mut letters = options.prefix.chars();
        let is_name = letters.next().is_none_or(|first| first.is_ascii_uppercase())
            && letters.all(|c| c.is_ascii_alphanumeric())
            && options.prefix.len() <= 64;
        if !is_name {
            return Err(WeaviateError("its prefix must be letters and digits with a capital first".to_owned()));
        }
        // The crate ends the process on a key that is no header.
        if options.key.as_ref().is_some_and(|key| !key.bytes().all(|byte| (0x21..0x7f).contains(&byte))) {
            return Err(WeaviateError("its key has characters that no key has".to_owned()));
        }
        let mut builder = WeaviateClient::builder(&options.url);
        if let Some(key) = &options.key {
            builder = builder.with_auth_secret(key);
        }
        let client = builder.build().map_err(|_| WeaviateError("no client can be made for its address".to_owned()))?;
        Ok(Self { client, options })
    }

    /// The full name of a class.
    pub(super) fn class(&self, name: &str) -> String {
        format!("{}{name}", self.options.prefix)
    }

    /// Where it is, without the key.
    pub(crate) fn address(&self) -> &str {
        &self.options.url
    }

    /// Does it answer, and is it ready to work?
    ///
    /// # Errors
    /// `Unavailable`, with what keeps it from that.
    pub(crate) async fn ready(&self) -> Result<(), PortError> {
        let is_ready = self.within(Patience::Search, self.client.is_ready()).await?;
        if is_ready { Ok(()) } else { Err(unavailable("is not ready")) }
    }

    async fn within<T>(
        &self,
        patience: Patience,
        call: impl Future<Output = Result<T, Box<dyn Error>>>,
    ) -> Result<T, PortError> {
        let limit = match patience {
            Patience::Search => self.options.search_timeout,
            Patience::Write => self.options.write_timeout,
        };
        match tokio::time::timeout(limit, call).await {
            Ok(answer) => answer.map_err(|error| told(error.as_ref())),
            Err(_) => Err(unavailable("does not answer in time")),
        }
    }

    /// Makes a class if it is not there. One that was filled by another model is thrown away first: its vectors may have
    /// another length, and could not be compared in any case. Says whether the class is new.
    pub(super) async fn ensure_class(&self, class: Class, model: &ModelName) -> Result<bool, PortError> {
        let name = class.class.clone();
        let mark = description(model);
        let known = self.within(Patience::Write, self.client.schema.get()).await?;
        if let Some(known) = known.classes.iter().find(|known| known.class == name) {
            if known.description.as_deref() == Some(&mark) {
                return Ok(false);
            }
            tracing::info!(class = name, "another model filled it: it is filled anew");
            self.within(Patience::Write, self.client.schema.delete(&name)).await?;
        }
        let class = Class { description: Some(mark), ..class };
        match self.within(Patience::Write, self.client.schema.create_class(&class)).await {
            Ok(_) => Ok(true),
            // Another process was quicker.
            Err(error) if error.message.contains("already exists") => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Throws a class away with everything in it; no error if there is none.
    pub(super) async fn drop_class(&self, name: &str) -> Result<(), PortError> {
        match self.within(Patience::Write, self.client.schema.delete(&self.class(name))).await {
            Err(error) if error.kind != PortErrorKind::Permanent => Err(error),
            _ => Ok(()),
        }
    }

    /// Writes objects, some at a time; what has the same id is replaced.
    pub(super) async fn upsert(&self, objects: Vec<Object>) -> Result<(), PortError> {
        let mut objects = objects.into_iter();
        loop {
            let some: Vec<Object> = objects.by_ref().take(BATCH).collect();
            if some.is_empty() {
                return Ok(());
            }
            let answer =
                self.within(Patience::Write, self.client.batch.objects_batch_add(MultiObjects::new(some), None, None));
            let answer = serde_json::to_value(answer.await?).unwrap_or_default();
            let failed = answer.as_array().into_iter().flatten().find(|object| object["result"]["status"] == "FAILED");
            if let Some(failed) = failed {
                return Err(unavailable(&format!("refused an object: {}", failed["result"]["errors"])));
            }
        }
    }

    /// Changes single properties of an object.
    pub(super) async fn patch(&self, class: &str, id: Uuid, properties: Value) -> Result<(), PortError> {
        let class = self.class(class);
        // The server takes an object here; the crate calls it properties.
        let object = json!({ "class": class, "id": id, "properties": properties });
        self.within(Patience::Write, self.client.objects.update(&object, &class, &id, None)).await.map(drop)
    }

    /// Removes what a filter finds; no error if that is nothing.
    pub(super) async fn remove_where(&self, class: &str, filter: Value) -> Result<u64, PortError> {
        let request = BatchDeleteRequest::builder(MatchConfig::new(&self.class(class), filter)).build();
        let answer = self.within(Patience::Write, self.client.batch.objects_batch_delete(request, None, None)).await?;
        if answer.results.failed > 0 {
            return Err(unavailable("could not remove everything that it should"));
        }
        Ok(answer.results.successful)
    }

    /// Removes one object; no error if there is none.
    pub(super) async fn remove(&self, class: &str, id: Uuid) -> Result<(), PortError> {
        self.remove_where(class, json!({ "path": ["id"], "operator": "Equal", "valueText": id })).await.map(drop)
    }

    /// What a query finds: the objects of the class.
    pub(super) async fn get(&self, class: &str, query: GetBuilder) -> Result<Vec<Value>, PortError> {
        let query: GetQuery = query.build();
        let answer = self.within(Patience::Search, self.client.query.get(query)).await?;
        objects(answer, "Get", &self.class(class))
    }

    /// A query that the crate cannot write.
    async fn raw(&self, verb: &str, class: &str, query: &str) -> Result<Vec<Value>, PortError> {
        let answer = self.within(Patience::Write, self.client.query.raw(RawQuery::new(query))).await?;
        objects(answer, verb, &self.class(class))
    }

    /// How many objects a filter finds, and the sum of one of their numbers.
    pub(super) async fn count(&self, class: &str, filter: &Literal, sum_of: &str) -> Result<(u64, u64), PortError> {
        let name = self.class(class);
        let query = format!("{{Aggregate{{{name}(where:{filter}){{meta{{count}} {sum_of}{{sum}}}}}}}}");
        let found = self.raw("Aggregate", class, &query).await?;
        let number =
            |pointer: &str| found.first().and_then(|v| v.pointer(pointer)).and_then(Value::as_f64).unwrap_or(0.0);
        Ok((number("/meta/count") as u64, number(&format!("/{sum_of}/sum")) as u64))
    }

    /// What is known of every object of a class, by its id.
    pub(super) async fn marks(&self, class: &str) -> Result<HashMap<Uuid, Marked>, PortError> {
        let objects = self.all(class, "mark written_at").await?;
        let marked = |object: &Value| {
            let mark = object["mark"].as_str().unwrap_or("").to_owned();
            Ok((id_of(object)?, Marked { mark, written_at: object["written_at"].as_f64().unwrap_or(0.0) as i64 }))
        };
        objects.iter().map(marked).collect()
    }

    /// Every object of a class with some of its properties, a page at a time.
    async fn all(&self, class: &str, properties: &str) -> Result<Vec<Value>, PortError> {
        let name = self.class(class);
        let mut all: Vec<Value> = Vec::new();
        loop {
            let after = all.last().map(id_of).transpose()?;
            let after = after.map_or_else(String::new, |id| format!(",after:{}", Literal::text(&id.to_string())));
            let query = format!("{{Get{{{name}(limit:{PAGE}{after}){{{properties} _additional{{id}}}}}}}}");
            let page = self.raw("Get", class, &query).await?;
            let is_last = page.len() < PAGE;
            all.extend(page);
            if is_last {
                return Ok(all);
            }
        }
    }
}

/// How a class is marked with the model that its vectors are of.
fn description(model: &ModelName) -> String {
    format!("Chimera's; do not write to it. Layout 1, model {model}")
}

/// An object's id.
pub(super) fn id_of(object: &Value) -> Result<Uuid, PortError> {
    let id = object.pointer("/_additional/id").and_then(Value::as_str);
    id.and_then(|id| id.parse().ok()).ok_or_else(|| unavailable("answered with an object without an id"))
}

/// An id that follows from what it names: the same thing is the same object, whoever writes it.
pub(super) fn id_for(parts: &[&str]) -> Uuid {
    let parts: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes()).collect();
    let digest = Digest::of_parts(&parts);
    let mut bytes = [0_u8; 16];
    bytes.copy_from_slice(&digest.as_bytes()[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

fn objects(mut answer: Value, verb: &str, class: &str) -> Result<Vec<Value>, PortError> {
    if let Some(error) = answer.pointer("/errors/0/message").and_then(Value::as_str) {
        return Err(unavailable(&format!("could not answer: {error}")));
    }
    match answer.pointer_mut(&format!("/data/{verb}/{class}")).map(Value::take) {
        Some(Value::Array(objects)) => Ok(objects),
        Some(Value::Null) => Ok(Vec::new()),
        _ => Err(unavailable("answered with something else than objects")),
    }
}

fn unavailable(what: &str) -> PortError {
    let what = chimera_core::text::truncated(what.to_owned(), 1024);
    PortError::new(PortErrorKind::Unavailable, format!("Weaviate {what}"))
}

/// The crate's errors have no kind: those of the transport are reqwest's own, the others carry the status in their text.
fn told(error: &(dyn Error + 'static)) -> PortError {
    if let Some(error) = error.downcast_ref::<reqwest_with_tls::Error>() {
        let what = if error.is_timeout() {
            "does not answer in time"
        } else if error.is_decode() {
            "answered with something that cannot be read"
        } else {
            "cannot be reached"
        };
        return unavailable(what);
    }
    let text = chimera_core::text::truncated(error.to_string(), 1024);
    let lower = text.to_lowercase();
    let is_refusal = ["status code 4", "status code `4"].iter().any(|status| lower.contains(status))
        && !["429", "401", "403"].iter().any(|status| lower.contains(status));
    let kind = if is_refusal { PortErrorKind::Permanent } else { PortErrorKind::Unavailable };
    PortError::new(kind, format!("Weaviate refused: {text}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may end with a panic")]

    use super::*;

    #[test]
    fn a_key_is_taken_out_of_the_address_and_never_shown() {
        let options = WeaviateOptions::new("http://:very-secret@127.0.0.1:8080/x").unwrap();
        assert_eq!((options.url.as_str(), options.key.as_deref()), ("http://127.0.0.1:8080/", Some("very-secret")));
        let connection = Connection::new(options).unwrap();
        assert!(!format!("{connection:?}").contains("secret"));
    }

    #[test]
    fn what_cannot_be_used_is_refused() {
        for url in ["", "127.0.0.1:80", "ftp://127.0.0.1"] {
            assert!(WeaviateOptions::new(url).is_err(), "{url}");
        }
        let options = WeaviateOptions::new("http://127.0.0.1:1").unwrap();
        for prefix in ["small", "Has space", "Has{brace", "1"] {
            let options = WeaviateOptions { prefix: prefix.to_owned(), ..options.clone() };
            assert!(Connection::new(options).is_err(), "{prefix}");
        }
        let options = WeaviateOptions { key: Some("a\nb".to_owned()), ..options };
        assert!(Connection::new(options).is_err());
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_unavailable() {
        let connection = Connection::new(WeaviateOptions::new("http://127.0.0.1:9").unwrap()).unwrap();
        assert_eq!(connection.ready().await.unwrap_err().message, "Weaviate cannot be reached");
        let error = connection.all("Skills", "name").await.unwrap_err();
        assert_eq!(error.kind, PortErrorKind::Unavailable);
    }
}
