//! The posts in their file: every change is read, made and written under one lock, and written whole or not at all.
//!
//! The file is JSON lines, one post a line, oldest first; it is replaced by renaming a synced neighbour over it, so a
//! process that is killed leaves the old file or the new one. It knows no protocol. Called by the server and by reports.

use super::{KeyPolicy, SocialError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Longest text in characters.
pub const MAX_TEXT_CHARS: usize = 500;
/// Largest file that is read.
const MAX_FILE_BYTES: u64 = 64 * 1024 * 1024;

/// A post.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Post {
    /// Its id.
    pub id: String,
    /// Its text.
    pub text: String,
    /// Who wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// Where it can be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// When it was written, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,
    /// How many people liked it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub likes: Option<u64>,
}

/// A line of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Row {
    #[serde(flatten)]
    post: Post,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    idempotency_key: Option<String>,
}

/// The published posts, oldest first; none if the file does not exist. Takes no lock: the file is always whole.
///
/// # Errors
/// [`SocialError::Io`] and [`SocialError::Corrupt`], with the file's name.
pub fn read_posts(state: &Path) -> Result<Vec<Post>, SocialError> {
    Ok(read_rows(state)?.into_iter().map(|row| row.post).collect())
}

fn read_rows(state: &Path) -> Result<Vec<Row>, SocialError> {
    let Some(text) = read_text(state)? else { return Ok(Vec::new()) };
    let row = |(at, line): (usize, &str)| {
        serde_json::from_str(line)
            .map_err(|e| SocialError::Corrupt { path: state.to_owned(), problem: format!("line {}: {e}", at + 1) })
    };
    text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).map(row).collect()
}

/// A whole file as text; none if it does not exist.
pub(super) fn read_text(path: &Path) -> Result<Option<String>, SocialError> {
    let failed = |source| SocialError::Io { path: path.to_owned(), problem: "cannot be read", source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut text = String::new();
    let size = file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
    if size as u64 > MAX_FILE_BYTES {
        let problem = format!("it is larger than {} MiB", MAX_FILE_BYTES >> 20);
        return Err(SocialError::Corrupt { path: path.to_owned(), problem });
    }
    Ok(Some(text))
}

/// The store of one server.
#[derive(Debug)]
pub(super) struct Store {
    state: PathBuf,
    lock: PathBuf,
    keys: KeyPolicy,
    posts_per_minute: u32,
}

impl Store {
    pub(super) fn new(state: PathBuf, keys: KeyPolicy, posts_per_minute: u32) -> Self {
        let mut lock = state.clone().into_os_string();
        lock.push(".lock");
        Self { state, lock: lock.into(), keys, posts_per_minute }
    }

    pub(super) fn posts(&self) -> Result<Vec<Post>, SocialError> {
        read_posts(&self.state)
    }

    /// Publishes a text; the post that the key published before, if it did. Durable when it returns.
    pub(super) fn publish(&self, text: &str, key: Option<&str>, now: OffsetDateTime) -> Result<Post, SocialError> {
        let chars = text.chars().count();
        if text.trim().is_empty() || chars > MAX_TEXT_CHARS {
            return Err(SocialError::Text { chars });
        }
        let key = key.filter(|_| self.keys == KeyPolicy::Honoured);
        if key.is_some_and(|key| key.is_empty() || key.len() > 256) {
            return Err(SocialError::Key);
        }
        let _locked = self.locked()?;
        let mut rows = read_rows(&self.state)?;
        if let Some(key) = key
            && let Some(row) = rows.iter().find(|row| row.idempotency_key.as_deref() == Some(key))
        {
            let is_same = row.post.text == text;
            return if is_same { Ok(row.post.clone()) } else { Err(SocialError::KeyReused) };
        }
        self.check_rate(&rows, now)?;
        let id = format!("post-{}", uuid::Uuid::now_v7().simple());
        let post = Post {
            url: Some(format!("social://posts/{id}")),
            id,
            text: text.to_owned(),
            author: Some("chimera".to_owned()),
            created_at: now.format(&Rfc3339).ok(),
            likes: None,
        };
        rows.push(Row { post: post.clone(), idempotency_key: key.map(str::to_owned) });
        self.replace(&rows)?;
        Ok(post)
    }

    fn check_rate(&self, rows: &[Row], now: OffsetDateTime) -> Result<(), SocialError> {
        let written = |row: &Row| OffsetDateTime::parse(row.post.created_at.as_deref()?, &Rfc3339).ok();
        let window = now - time::Duration::MINUTE;
        let recent: Vec<_> = rows.iter().filter_map(written).filter(|at| *at > window).collect();
        match recent.iter().min() {
            Some(first) if recent.len() >= self.posts_per_minute as usize => {
                let wait = (*first - window).whole_milliseconds().max(1);
                let retry_after_ms = u64::try_from(wait).unwrap_or(u64::MAX);
                Err(SocialError::RateLimited { limit: self.posts_per_minute, retry_after_ms })
            }
            _ => Ok(()),
        }
    }

    /// The lock is another file than the posts': that one is replaced, and a lock goes with the file it was taken on.
    fn locked(&self) -> Result<File, SocialError> {
        let failed = |source| SocialError::Io { path: self.lock.clone(), problem: "cannot be locked", source };
        if let Some(folder) = self.folder() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&self.lock).map_err(failed)?;
        file.lock().map_err(failed)?;
        Ok(file)
    }

    fn folder(&self) -> Option<&Path> {
        self.state.parent().filter(|folder| !folder.as_os_str().is_empty())
    }

    fn replace(&self, rows: &[Row]) -> Result<(), SocialError> {
        let failed = |source| SocialError::Io { path: self.state.clone(), problem: "cannot be written", source };
        let folder = self.folder().unwrap_or(Path::new("."));
        let temporary = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
        let mut out = BufWriter::new(temporary.as_file());
        for row in rows {
            serde_json::to_writer(&mut out, row).map_err(|e| failed(e.into()))?;
            out.write_all(b"\n").map_err(failed)?;
        }
        out.flush().map_err(failed)?;
        drop(out);
        temporary.as_file().sync_all().map_err(failed)?;
        temporary.persist(&self.state).map_err(|e| failed(e.error))?;
        // The new name is durable only with its folder.
        #[cfg(unix)]
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may end with a panic")]

    use super::*;

    fn store(keys: KeyPolicy) -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path().join("deep/posts.jsonl"), keys, 3);
        (folder, store)
    }

    fn at(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_800_000_000 + seconds).unwrap()
    }

    #[test]
    fn the_same_key_gives_the_same_post() {
        let (_folder, store) = store(KeyPolicy::Honoured);
        let first = store.publish("hello", Some("k"), at(0)).unwrap();
        assert_eq!(store.publish("hello", Some("k"), at(1)).unwrap(), first);
        assert!(matches!(store.publish("other", Some("k"), at(1)), Err(SocialError::KeyReused)));
        let second = store.publish("hello", None, at(2)).unwrap();
        assert_eq!(store.posts().unwrap(), [first, second]);
    }

    #[test]
    fn ignored_keys_are_not_even_kept() {
        let (_folder, store) = store(KeyPolicy::Ignored);
        store.publish("hello", Some("k"), at(0)).unwrap();
        store.publish("hello", Some("k"), at(1)).unwrap();
        assert_eq!(store.posts().unwrap().len(), 2);
        assert!(!std::fs::read_to_string(&store.state).unwrap().contains("idempotency"));
    }

    #[test]
    fn limits_are_kept() {
        let (_folder, store) = store(KeyPolicy::Honoured);
        assert!(matches!(store.publish(" ", None, at(0)), Err(SocialError::Text { .. })));
        assert!(matches!(store.publish(&"é".repeat(501), None, at(0)), Err(SocialError::Text { chars: 501 })));
        store.publish(&"é".repeat(500), None, at(0)).unwrap();
        store.publish("b", None, at(10)).unwrap();
        store.publish("c", Some("k"), at(20)).unwrap();
        let limited = store.publish("d", None, at(30)).unwrap_err();
        assert!(matches!(limited, SocialError::RateLimited { limit: 3, retry_after_ms: 30_000 }), "{limited}");
        store.publish("c", Some("k"), at(30)).unwrap();
        store.publish("d", None, at(61)).unwrap();
    }

    #[test]
    fn a_foreign_file_is_left_alone() {
        let (_folder, store) = store(KeyPolicy::Honoured);
        store.publish("hello", None, at(0)).unwrap();
        std::fs::write(&store.state, "{\"id\": 1}\n").unwrap();
        let error = store.publish("hello", None, at(100)).unwrap_err();
        assert!(matches!(&error, SocialError::Corrupt { problem, .. } if problem.contains("line 1")), "{error}");
        assert_eq!(std::fs::read_to_string(&store.state).unwrap(), "{\"id\": 1}\n");
    }

    #[test]
    fn many_writers_lose_no_post() {
        let (_folder, store) = store(KeyPolicy::Honoured);
        let store = Store { posts_per_minute: 1000, ..store };
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let store = &store;
                scope.spawn(move || {
                    for post in 0..5 {
                        store.publish("x", Some(&format!("{}", post * 10 + writer % 2)), at(0)).unwrap();
                    }
                });
            }
        });
        assert_eq!(store.posts().unwrap().len(), 10);
    }
}
