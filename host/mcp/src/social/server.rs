//! The protocol's side of `social`: three tools over standard input and output.
//!
//! It turns calls into reads and writes of the store and errors into answers that say what to do; it decides nothing
//! about who may call. Ends when its input does. Called by [`super::serve`]'s callers only.

use super::search::{read_seed, search};
use super::store::{MAX_TEXT_CHARS, Post, Store};
use super::{KeyPolicy, SocialError, SocialOptions};
use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::handler::server::wrapper::{Json, Parameters};
use rmcp::model::{Implementation, RequestMetaObject, ServerCapabilities, ServerConfig};
use rmcp::{ServerHandler, ServiceExt, tool, tool_handler, tool_router};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;

/// The `_meta` key that carries an idempotency key.
const META_KEY: &str = "chimera/idempotency-key";
/// Most posts of one answer, and most bytes of their texts: an answer stays well below what clients take.
const MAX_LIMIT: usize = 1000;
const MAX_ANSWER_TEXT: usize = 256 * 1024;

#[derive(Debug, Deserialize, JsonSchema)]
struct SearchPosts {
    /// Words to look for; without any, the newest posts are given.
    query: String,
    /// How many posts at most, 1 to 1000; 20 if absent.
    #[serde(default = "twenty")]
    #[schemars(range(min = 1, max = 1000))]
    limit: usize,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct ListPosts {
    /// How many posts at most, 1 to 1000, newest first; 20 if absent.
    #[serde(default = "twenty")]
    #[schemars(range(min = 1, max = 1000))]
    limit: usize,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct PublishPost {
    /// The text, 1 to 500 characters.
    #[schemars(length(min = 1, max = 500))]
    text: String,
    /// A key of the caller's; the same key publishes once.
    #[serde(default)]
    #[schemars(length(min = 1, max = 256))]
    idempotency_key: Option<String>,
}

/// Some posts.
#[derive(Debug, Serialize, JsonSchema)]
struct Posts {
    /// The posts.
    posts: Vec<Post>,
}

/// What was published.
#[derive(Debug, Serialize, JsonSchema)]
struct Published {
    /// The post's id.
    id: String,
    /// Where it can be read.
    url: String,
    /// When it was published, RFC 3339.
    created_at: String,
}

fn twenty() -> usize {
    20
}

#[derive(Clone)]
struct Social {
    store: Arc<Store>,
    seed: Arc<Vec<Post>>,
    delay: Duration,
    tool_router: ToolRouter<Self>,
}

#[tool_router]
impl Social {
    fn new(options: SocialOptions) -> Result<Self, SocialError> {
        let seed = match &options.seed {
            Some(path) => {
                let (posts, skipped) = read_seed(path)?;
                if skipped > 0 {
                    eprintln!("{}: {skipped} lines are no posts and were passed over", path.display());
                }
                posts
            }
            None => Vec::new(),
        };
        let mut tool_router = Self::tool_router();
        if options.idempotency == KeyPolicy::Ignored {
            hide_key(&mut tool_router);
        }
        let store = Arc::new(Store::new(options.state, options.idempotency, options.posts_per_minute));
        Ok(Self { store, seed: Arc::new(seed), delay: options.delay, tool_router })
    }

    /// Posts that share words with a query, best first.
    #[tool(annotations(read_only_hint = true, open_world_hint = false))]
    async fn search_posts(&self, Parameters(wanted): Parameters<SearchPosts>) -> Result<Json<Posts>, String> {
        let limit = limit(wanted.limit)?;
        let published = self.published().await?;
        let all: Vec<&Post> = self.seed.iter().chain(&published).collect();
        Ok(Json(Posts { posts: bounded(search(&all, &wanted.query, limit)) }))
    }

    /// The posts that were published here, newest first.
    #[tool(annotations(read_only_hint = true, open_world_hint = false))]
    async fn list_posts(&self, Parameters(wanted): Parameters<ListPosts>) -> Result<Json<Posts>, String> {
        let limit = limit(wanted.limit)?;
        let published = self.published().await?;
        Ok(Json(Posts { posts: bounded(published.iter().rev().take(limit)) }))
    }

    /// Publishes a post for everyone to read. The same idempotency key publishes once.
    #[tool(annotations(read_only_hint = false, destructive_hint = false, open_world_hint = true))]
    async fn publish_post(
        &self,
        meta: RequestMetaObject,
        Parameters(wanted): Parameters<PublishPost>,
    ) -> Result<Json<Published>, String> {
        let key = wanted.idempotency_key.or_else(|| meta.get(META_KEY)?.as_str().map(str::to_owned));
        let store = self.store.clone();
        let write = move || store.publish(&wanted.text, key.as_deref(), OffsetDateTime::now_utc());
        let post = off_the_runtime(write).await?;
        tokio::time::sleep(self.delay).await;
        Ok(Json(Published {
            id: post.id,
            url: post.url.unwrap_or_default(),
            created_at: post.created_at.unwrap_or_default(),
        }))
    }
}

impl Social {
    async fn published(&self) -> Result<Vec<Post>, String> {
        let store = self.store.clone();
        off_the_runtime(move || store.posts()).await
    }
}

#[tool_handler(router = self.tool_router)]
impl ServerHandler for Social {
    fn get_info(&self) -> ServerConfig {
        let mut info = ServerConfig::new(ServerCapabilities::builder().enable_tools().build());
        info.server_info = Implementation::new("chimera-social", env!("CARGO_PKG_VERSION"));
        info.instructions = Some(format!("A small place to publish posts of up to {MAX_TEXT_CHARS} characters."));
        info
    }
}

async fn off_the_runtime<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SocialError> + Send + 'static,
) -> Result<T, String> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(error) => Err(format!("the server failed inside: {error}")),
    }
}

fn limit(wanted: usize) -> Result<usize, String> {
    if (1..=MAX_LIMIT).contains(&wanted) {
        Ok(wanted)
    } else {
        Err(format!("`limit` is {wanted}; write 1 to {MAX_LIMIT}"))
    }
}

/// As many of the posts as one answer may hold.
fn bounded<'p>(posts: impl IntoIterator<Item = &'p Post>) -> Vec<Post> {
    let mut size = 0;
    let fits = |post: &&Post| {
        size += post.text.len() + 256;
        size <= MAX_ANSWER_TEXT
    };
    posts.into_iter().take_while(fits).cloned().collect()
}

/// Takes the key out of the schema: a server that ignores keys must not seem to take them.
fn hide_key(router: &mut ToolRouter<Social>) {
    if let Some(route) = router.map.get_mut("publish_post") {
        let mut schema = route.attr.input_schema.as_ref().clone();
        if let Some(properties) = schema.get_mut("properties").and_then(|value| value.as_object_mut()) {
            properties.shift_remove("idempotency_key");
        }
        route.attr.input_schema = Arc::new(schema);
        route.attr.description = Some("Publishes a post for everyone to read.".into());
    }
}

/// Serves the tools over standard input and output until the input ends.
///
/// # Errors
/// [`SocialError`] if the seed cannot be read or the conversation cannot be begun.
pub async fn serve(options: SocialOptions) -> Result<(), SocialError> {
    let social = Social::new(options)?;
    let service = match social.serve(rmcp::transport::stdio()).await {
        Ok(service) => service,
        // Nobody spoke before the input ended: nothing was asked, so nothing went wrong.
        Err(rmcp::service::ServerInitializeError::ConnectionClosed(_)) => return Ok(()),
        Err(error) => return Err(SocialError::Protocol(error.to_string())),
    };
    service.waiting().await.map(|_| ()).map_err(|error| SocialError::Protocol(error.to_string()))
}
