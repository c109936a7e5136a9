//! Posts as JSON lines, or as one JSON array.
//!
//! Accepts the field names that exports commonly use and refuses what has no text; it never guesses a text from other
//! fields. Called by [`super::parse`].

use super::{FeedError, MAX_POSTS, MAX_TEXT, Place, Post, field, text, too_many};
use serde_json::{Map, Value};

/// One object a line; empty lines are skipped.
pub(super) fn parse_lines(input: &str) -> Result<Vec<Post>, FeedError> {
    let mut posts = Vec::new();
    for (index, line) in input.lines().enumerate() {
        let place = Place::Line(index + 1);
        if line.trim().is_empty() {
            continue;
        }
        if posts.len() == MAX_POSTS {
            return Err(too_many(place));
        }
        let value = serde_json::from_str(line).map_err(|error| {
            FeedError::new(place, format!("is not JSON (column {}): {}", error.column(), plain(&error)))
        })?;
        posts.push(post(value, place, index + 1)?);
    }
    Ok(posts)
}

/// One array of objects.
pub(super) fn parse_array(input: &str) -> Result<Vec<Post>, FeedError> {
    let values: Vec<Value> = serde_json::from_str(input)
        .map_err(|error| FeedError::new(Place::Line(error.line()), format!("is not JSON: {}", plain(&error))))?;
    if values.len() > MAX_POSTS {
        return Err(too_many(Place::Entry(MAX_POSTS + 1)));
    }
    values.into_iter().enumerate().map(|(index, value)| post(value, Place::Entry(index + 1), index + 1)).collect()
}

/// The problem without serde's own position, which counts from another place.
fn plain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or(&text).to_owned()
}

fn post(value: Value, place: Place, number: usize) -> Result<Post, FeedError> {
    let Value::Object(map) = value else {
        return Err(FeedError::new(place, "is not an object; write for example {\"text\": \"what the post says\"}"));
    };
    let words = words(&map);
    let said = text::normalised(&words, MAX_TEXT);
    if said.is_empty() {
        let problem = "has no text: one of the fields text, content, body, title must be a string that says something";
        return Err(FeedError::new(place, problem));
    }
    Ok(Post {
        id: scalar(&map, &["id", "id_str", "guid"]).unwrap_or_else(|| format!("post-{number}")),
        text: said,
        author: scalar(&map, &["author", "username", "user"]),
        created_at: scalar(&map, &["created_at", "date", "datetime", "published"]),
        likes: ["likes", "like_count", "favorites"].iter().find_map(|name| map.get(*name)?.as_u64()),
    })
}

/// The title and the text, or whichever there is.
fn words(map: &Map<String, Value>) -> String {
    let string = |name: &&str| map.get(*name).and_then(Value::as_str).filter(|text| !text.trim().is_empty());
    let body = ["text", "content", "body"].iter().find_map(string);
    let title = string(&"title");
    match (title, body) {
        (Some(title), Some(body)) => text::joined(title, body),
        (Some(only), None) | (None, Some(only)) => only.to_owned(),
        (None, None) => String::new(),
    }
}

fn scalar(map: &Map<String, Value>, names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| match map.get(*name)? {
        Value::String(text) => field(text),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    })
}
