//! Words of goals and manifests, brought to a common form so that they can be compared.
//!
//! A small English stemmer and stop list, nothing learned and nothing stored. It decides nothing by itself. Called by
//! the clause splitter and the decomposer.

use std::collections::BTreeSet;

/// Words that say nothing about what is wanted.
const STOP: &[&str] = &[
    "a", "about", "again", "against", "all", "an", "and", "any", "are", "as", "at", "be", "been", "being", "both",
    "but", "by", "can", "could", "did", "do", "does", "each", "finally", "first", "for", "from", "had", "has", "have",
    "he", "her", "his", "how", "i", "if", "in", "into", "is", "it", "its", "just", "last", "lastly", "let", "may",
    "me", "more", "most", "must", "my", "next", "no", "not", "of", "on", "one", "only", "or", "our", "out", "over",
    "please", "shall", "she", "should", "so", "some", "such", "than", "that", "the", "their", "them", "then", "there",
    "these", "they", "this", "those", "to", "up", "us", "was", "we", "were", "what", "when", "which", "who", "will",
    "with", "would", "you", "your",
];

/// The lowercased words of a text: runs of letters and digits (apostrophes inside are dropped with what follows).
pub(crate) fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphanumeric() && c != '\'' && c != '’')
        .map(|word| word.split(['\'', '’']).next().unwrap_or_default())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

/// Does the word say something about what is wanted?
pub(crate) fn is_content(word: &str) -> bool {
    word.chars().count() > 1 && !STOP.contains(&word) && !word.bytes().all(|b| b.is_ascii_digit())
}

/// The stems of the words that say something.
pub(crate) fn stems(text: &str) -> BTreeSet<String> {
    words(text).iter().filter(|word| is_content(word)).map(|word| stem(word)).collect()
}

/// A word without its grammatical ending; British and American spellings come out the same.
pub(crate) fn stem(word: &str) -> String {
    let mut word = word.to_lowercase();
    if !word.is_ascii() || word.len() < 4 {
        return word;
    }
    for (ending, instead) in [
        ("isations", "ize"),
        ("izations", "ize"),
        ("isation", "ize"),
        ("ization", "ize"),
        ("ising", "ize"),
        ("izing", "ize"),
        ("ised", "ize"),
        ("ized", "ize"),
        ("ises", "ize"),
        ("izes", "ize"),
        ("ise", "ize"),
        ("yse", "yze"),
        ("ysing", "yze"),
        ("ysed", "yze"),
        ("ysis", "yze"),
        ("ies", "y"),
        ("ied", "y"),
        ("aries", "ary"),
    ] {
        if word.len() > ending.len() + 2 && word.ends_with(ending) {
            word.truncate(word.len() - ending.len());
            word.push_str(instead);
            return finish(word);
        }
    }
    for ending in ["ing", "ed"] {
        if word.len() >= ending.len() + 3 && word.ends_with(ending) {
            word.truncate(word.len() - ending.len());
            let bytes = word.as_bytes();
            let doubled = bytes.len() > 3
                && bytes[bytes.len() - 1] == bytes[bytes.len() - 2]
                && !matches!(bytes[bytes.len() - 1], b'l' | b's' | b'z');
            if doubled {
                word.pop();
            }
            return finish(word);
        }
    }
    if word.ends_with('s') && !word.ends_with("ss") && !word.ends_with("us") && !word.ends_with("is") {
        word.pop();
        if ["sse", "xe", "che", "she", "zze"].iter().any(|ending| word.ends_with(ending)) {
            word.pop();
        }
    }
    finish(word)
}

/// `summarize` and `summary` are one word to a planner, and a trailing `e` tells nothing.
fn finish(mut word: String) -> String {
    if word.starts_with("summar") {
        return "summar".to_owned();
    }
    if word.len() > 3 && word.ends_with('e') {
        word.pop();
    }
    word
}

/// The stems of an identifier's parts: `max_chars`, `maxChars` and `max-chars` are all `max`, `char`.
pub(crate) fn identifier_stems(name: &str) -> Vec<String> {
    let mut spaced = String::with_capacity(name.len() + 4);
    let mut before_was_lower = false;
    for c in name.chars() {
        if c.is_uppercase() && before_was_lower {
            spaced.push(' ');
        }
        before_was_lower = c.is_lowercase() || c.is_ascii_digit();
        spaced.push(if c.is_alphanumeric() { c } else { ' ' });
    }
    spaced.split_whitespace().map(|part| stem(&part.to_lowercase())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn related_words_share_a_stem() {
        for (a, b) in [
            ("summarise", "summarizing"),
            ("summary", "summarise"),
            ("trends", "trend"),
            ("published", "publish"),
            ("policies", "policy"),
            ("checking", "check"),
            ("hashtags", "hashtag"),
            ("drafting", "drafts"),
            ("characters", "character"),
            ("sentences", "sentence"),
            ("analyse", "analyzing"),
            ("planned", "plan"),
            ("searches", "search"),
        ] {
            assert_eq!(stem(a), stem(b), "{a} / {b}");
        }
        assert_ne!(stem("post"), stem("policy"));
    }

    #[test]
    fn identifiers_are_split() {
        assert_eq!(identifier_stems("max_chars"), ["max", "char"]);
        assert_eq!(identifier_stems("maxSentences"), ["max", "sentenc"]);
    }

    proptest! {
        #[test]
        fn stemming_never_panics(text in "\\PC{0,60}") {
            let _ = stems(&text);
            let _ = identifier_stems(&text);
        }
    }
}
