//! `social`: a sample MCP server in a process of its own, so that there is somewhere to publish.
//!
//! It speaks the real protocol over its standard streams, keeps its posts in one locked file, and recognises a call that
//! it was sent before by its idempotency key. It is no part of the gateway and shares nothing with it. Called by
//! `chimera mcp serve social` and by the tests; [`read_posts`] is for reports.

mod search;
mod server;
mod store;

pub use server::serve;
pub use store::{MAX_TEXT_CHARS, Post, read_posts};

use std::path::PathBuf;
use std::time::Duration;

/// How the server is run.
#[derive(Debug, Clone)]
pub struct SocialOptions {
    /// The file that holds the posts; made when the first is published. Beside it lies a lock file.
    pub state: PathBuf,
    /// Whether it recognises calls by their key.
    pub idempotency: KeyPolicy,
    /// A JSONL file of posts that can be searched besides the published ones.
    pub seed: Option<PathBuf>,
    /// How long it waits after it has published and before it answers: for tests that end a process in between.
    pub delay: Duration,
    /// Most posts within one minute.
    pub posts_per_minute: u32,
}

impl SocialOptions {
    /// Keys honoured, nothing to search, no delay, 60 posts a minute.
    pub fn new(state: impl Into<PathBuf>) -> Self {
        Self {
            state: state.into(),
            idempotency: KeyPolicy::Honoured,
            seed: None,
            delay: Duration::ZERO,
            posts_per_minute: 60,
        }
    }
}

/// Whether the server recognises a call that it was sent before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyPolicy {
    /// The same key gives the same post.
    #[default]
    Honoured,
    /// Keys are neither advertised nor looked at.
    Ignored,
}

/// Why the server cannot run, or its file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SocialError {
    /// A file could not be read or written.
    #[error("{}: {problem}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        problem: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The posts' file holds something else.
    #[error("{}: is not a file of posts: {problem}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where it is wrong.
        problem: String,
    },
    /// The text is empty or too long.
    #[error("the text has {chars} characters; a post has 1 to {MAX_TEXT_CHARS}")]
    Text {
        /// How many it has.
        chars: usize,
    },
    /// The key is empty or too long.
    #[error("an idempotency key has 1 to 256 bytes")]
    Key,
    /// The key was used for another text.
    #[error("this idempotency key was used for another text")]
    KeyReused,
    /// Too many posts within a minute.
    #[error("rate limited: at most {limit} posts a minute; try again in {retry_after_ms} ms")]
    RateLimited {
        /// The limit.
        limit: u32,
        /// When a post will be taken again.
        retry_after_ms: u64,
    },
    /// The conversation could not be begun or broke down.
    #[error("the MCP conversation failed: {0}")]
    Protocol(String),
}
