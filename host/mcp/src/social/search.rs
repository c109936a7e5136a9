//! Finding posts: the words that a query and a post share, the rarer the better.
//!
//! A small lexical ranking (inverse document frequency, normalised by length) over what is in memory; it reads one seed
//! file and writes nothing. Called by the server.

use super::SocialError;
use super::store::{Post, read_text};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Most posts of a seed file.
const MAX_SEED: usize = 100_000;
/// Longest text of a seed post in bytes.
const MAX_SEED_TEXT: usize = 16 * 1024;

#[derive(Deserialize)]
struct Seed {
    #[serde(default)]
    id: Option<serde_json::Value>,
    text: String,
    #[serde(default)]
    author: Option<String>,
    #[serde(default)]
    url: Option<String>,
    #[serde(default)]
    created_at: Option<String>,
    #[serde(default)]
    likes: Option<u64>,
}

/// Posts from a JSONL file: objects with a `text`, and `id`, `author`, `url`, `created_at`, `likes` where known. Lines
/// that are none are passed over and counted.
pub(super) fn read_seed(path: &Path) -> Result<(Vec<Post>, usize), SocialError> {
    let Some(text) = read_text(path)? else {
        let source = std::io::Error::from(std::io::ErrorKind::NotFound);
        return Err(SocialError::Io { path: PathBuf::from(path), problem: "cannot be read", source });
    };
    let mut posts = Vec::new();
    let mut skipped = 0;
    for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        match serde_json::from_str::<Seed>(line) {
            Ok(seed) if posts.len() < MAX_SEED && !seed.text.trim().is_empty() => {
                let id = match seed.id {
                    Some(serde_json::Value::String(id)) => id,
                    Some(serde_json::Value::Number(id)) => id.to_string(),
                    _ => format!("seed-{}", at + 1),
                };
                posts.push(Post {
                    id,
                    text: chimera_core::text::truncated(seed.text, MAX_SEED_TEXT),
                    author: seed.author,
                    url: seed.url,
                    created_at: seed.created_at,
                    likes: seed.likes,
                });
            }
            _ => skipped += 1,
        }
    }
    Ok((posts, skipped))
}

/// The posts that share words with a query, best first; all of them, newest last first, if the query has no word.
pub(super) fn search<'p>(posts: &[&'p Post], query: &str, limit: usize) -> Vec<&'p Post> {
    let wanted: BTreeSet<String> = words(query).collect();
    if wanted.is_empty() {
        return posts.iter().rev().take(limit).copied().collect();
    }
    let texts: Vec<Vec<String>> = posts.iter().map(|post| words(&post.text).collect()).collect();
    let mut frequency: BTreeMap<&str, usize> = BTreeMap::new();
    for text in &texts {
        for word in text.iter().collect::<BTreeSet<_>>() {
            *frequency.entry(word).or_default() += 1;
        }
    }
    let rarity = |word: &str| (1.0 + posts.len() as f64 / *frequency.get(word).unwrap_or(&1) as f64).ln();
    let mut scored: Vec<(f64, usize)> = texts
        .iter()
        .enumerate()
        .filter_map(|(at, text)| {
            let shared: f64 = wanted.iter().filter(|word| text.contains(word)).map(|word| rarity(word)).sum();
            (shared > 0.0).then(|| (shared / (1.0 + text.len() as f64 / 100.0), at))
        })
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)));
    scored.into_iter().take(limit).map(|(_, at)| posts[at]).collect()
}

fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| word.chars().count() > 1).map(str::to_lowercase)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may end with a panic")]

    use super::*;

    fn post(id: &str, text: &str) -> Post {
        Post { id: id.to_owned(), text: text.to_owned(), author: None, url: None, created_at: None, likes: None }
    }

    #[test]
    fn rare_words_count_more_and_nothing_shared_is_not_found() {
        let posts =
            [post("a", "the sea is wide"), post("b", "the sea otter"), post("c", "the the the"), post("d", "Otter!")];
        let all: Vec<&Post> = posts.iter().collect();
        let ids = |query, limit| search(&all, query, limit).iter().map(|post| post.id.clone()).collect::<Vec<_>>();
        assert_eq!(ids("sea otter", 10), ["b", "d", "a"]);
        assert_eq!(ids("sea otter", 1), ["b"]);
        assert_eq!(ids("mountain", 10), Vec::<String>::new());
        assert_eq!(ids("?", 2), ["d", "c"]);
    }

    #[test]
    fn a_seed_file_is_read_leniently() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seed.jsonl");
        std::fs::write(
            &path,
            "{\"text\":\"one\",\"id\":7,\"more\":1}\nnot json\n\n{\"text\":\"two\"}\n{\"text\":\" \"}\n",
        )
        .unwrap();
        let (posts, skipped) = read_seed(&path).unwrap();
        assert_eq!(posts.iter().map(|post| post.id.as_str()).collect::<Vec<_>>(), ["7", "seed-4"]);
        assert_eq!(skipped, 2);
        assert!(read_seed(&folder.path().join("none")).is_err());
    }
}
