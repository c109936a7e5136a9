//! Posts from files: JSON lines, a JSON array, RSS 2.0 or Atom.
//!
//! A feed is hostile: sizes, counts and depth are capped, no entity but the predefined ones is ever expanded, no
//! address is fetched, and markup inside descriptions is removed. An error names the line or the entry. Called by
//! `chimera demo --input` and `chimera campaign run --input name=@file`.

mod json;
mod text;
mod xml;

#[cfg(test)]
mod tests;

use serde::Serialize;
use std::fmt;
use std::path::Path;

/// Largest file in bytes: what a campaign's inputs may hold.
pub(crate) const MAX_BYTES: usize = chimera_core::campaign::MAX_INPUT_BYTES;
/// Most posts in a file.
pub(crate) const MAX_POSTS: usize = 5_000;
/// Longest text of a post in bytes; longer ones are cut.
pub(crate) const MAX_TEXT: usize = 8 * 1024;
/// Longest id, author, date or address in bytes; longer ones are cut.
const MAX_FIELD: usize = 512;

/// One post.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub(crate) struct Post {
    /// Names it within its file.
    pub(crate) id: String,
    /// What it says, without markup.
    pub(crate) text: String,
    /// Who wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) author: Option<String>,
    /// When, as the file writes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) created_at: Option<String>,
    /// How many liked it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) likes: Option<u64>,
}

/// A file that is not a feed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub(crate) struct FeedError {
    /// Where.
    pub(crate) place: Place,
    /// What is wrong.
    pub(crate) problem: String,
}

/// Where a feed is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The file as a whole.
    File,
    /// A line, from 1.
    Line(usize),
    /// An element of an array, or an entry of a feed, from 1.
    Entry(usize),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File => f.write_str("the file"),
            Self::Line(line) => write!(f, "line {line}"),
            Self::Entry(entry) => write!(f, "entry {entry}"),
        }
    }
}

impl FeedError {
    fn new(place: Place, problem: impl Into<String>) -> Self {
        Self { place, problem: problem.into() }
    }
}

/// Reads the posts of a file's bytes. What it is shows by its first character: `<` is XML, `[` a JSON array, `{` JSON
/// lines.
///
/// # Errors
/// [`FeedError`] with the place and the problem; also when there is no post in it.
pub(crate) fn parse(bytes: &[u8]) -> Result<Vec<Post>, FeedError> {
    if bytes.len() > MAX_BYTES {
        let problem = format!("is {} bytes; at most {MAX_BYTES} are read: split it", bytes.len());
        return Err(FeedError::new(Place::File, problem));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let line = bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
        FeedError::new(Place::Line(line), "is not UTF-8; convert the file to UTF-8 first")
    })?;
    let posts = match text.trim_start().chars().next() {
        Some('<') => xml::parse(text)?,
        Some('[') => json::parse_array(text)?,
        Some('{') => json::parse_lines(text)?,
        Some(_) => {
            let problem =
                "is neither JSON lines nor RSS nor Atom; each line should be an object such as {\"text\": \"…\"}";
            return Err(FeedError::new(Place::Line(1), problem));
        }
        None => return Err(FeedError::new(Place::File, "is empty")),
    };
    if posts.is_empty() {
        return Err(FeedError::new(Place::File, "has no posts in it"));
    }
    Ok(posts)
}

/// Does the name of this file promise a feed?
pub(crate) fn is_feed_name(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("").to_ascii_lowercase();
    matches!(extension.as_str(), "jsonl" | "ndjson" | "rss" | "atom" | "xml")
}

/// A field, cut to its limit; none if nothing is left of it.
fn field(text: &str) -> Option<String> {
    let text = text.trim();
    (!text.is_empty()).then(|| chimera_core::text::truncated(text.to_owned(), MAX_FIELD))
}

fn too_many(place: Place) -> FeedError {
    FeedError::new(place, format!("is one post too many; at most {MAX_POSTS} are read: split the file"))
}
