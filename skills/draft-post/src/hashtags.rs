//! Hashtags from topics.
//! It only ever adds them behind the text, and only if they fit. Called once the statement stands.

use textkit::{chars, is_wide};

/// The topic with spaces where a hashtag has capitals or underscores: `#RiverCleanup` is `River Cleanup`.
pub(crate) fn spaced(topic: &str) -> String {
    let mut spaced = String::with_capacity(topic.len() + 4);
    let mut small = false;
    for c in topic.trim_start_matches('#').chars() {
        if c.is_uppercase() && small {
            spaced.push(' ');
        }
        small = c.is_lowercase() || c.is_numeric();
        spaced.push(if c == '_' { ' ' } else { c });
    }
    spaced
}

/// The topics as hashtags, without doubles, at most `most`. A topic that would make none is left out.
pub(crate) fn from_topics(topics: &[String], most: usize) -> Vec<String> {
    let mut tags: Vec<String> = Vec::new();
    for topic in topics {
        let Some(tag) = tag(topic) else { continue };
        if tags.len() < most && !tags.iter().any(|other| other.to_lowercase() == tag.to_lowercase()) {
            tags.push(tag);
        }
    }
    tags
}

fn tag(topic: &str) -> Option<String> {
    let topic = topic.trim();
    let tag: String = if topic.starts_with('#') && !topic.contains(char::is_whitespace) {
        topic.chars().filter(|c| c.is_alphanumeric() || *c == '_').collect()
    } else {
        let words: Vec<&str> = topic.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
        if words.len() == 1 { words[0].to_owned() } else { words.iter().map(|word| capital(word)).collect() }
    };
    let usable = tag.chars().any(char::is_alphabetic) && (2..=40).contains(&chars(&tag));
    usable.then(|| format!("#{tag}"))
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    match letters.next() {
        Some(first) if !is_wide(first) => first.to_uppercase().chain(letters).collect(),
        _ => word.to_owned(),
    }
}

/// The text with those hashtags that it does not have yet and that fit.
pub(crate) fn add(text: &str, tags: &[String], max_chars: usize) -> String {
    let mut post = text.to_owned();
    for tag in tags {
        let has = post
            .split_whitespace()
            .any(|word| word.trim_end_matches(|c: char| !c.is_alphanumeric()).to_lowercase() == tag.to_lowercase());
        if !has && chars(&post) + 1 + chars(tag) <= max_chars {
            post.push(' ');
            post.push_str(tag);
        }
    }
    post
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_become_hashtags() {
        let topics =
            ["river cleanup", "#Rust", "rust", "C++", "night-train", "42", "  ", "東京 タワー"].map(str::to_owned);
        assert_eq!(from_topics(&topics, 9), ["#RiverCleanup", "#Rust", "#NightTrain", "#東京タワー"]);
        assert_eq!(from_topics(&topics, 1), ["#RiverCleanup"]);
        assert_eq!(spaced("#RiverCleanup_2"), "River Cleanup 2");
    }

    #[test]
    fn only_what_fits_and_is_missing_is_added() {
        let tags = ["#Rust".to_owned(), "#WebAssembly".to_owned(), "#Go".to_owned()];
        assert_eq!(add("I like #rust.", &tags, 17), "I like #rust. #Go");
        assert_eq!(add("x", &tags, 6), "x #Go");
    }
}
