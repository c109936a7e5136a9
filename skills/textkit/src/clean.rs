//! Takes what is not language out of a post: links, repeat marks, trailing tag clouds, odd white space.
//! It never changes a word. Called before sentences are shown to people.

/// Is this chunk (no white space in it) a link?
#[must_use]
pub fn is_url(chunk: &str) -> bool {
    let core = chunk.trim_start_matches(|c: char| !c.is_alphanumeric());
    let lower: String = core.chars().take(8).flat_map(char::to_lowercase).collect();
    lower.starts_with("http://") || lower.starts_with("https://") || lower.starts_with("www.")
}

/// White space of any kind becomes one space; none is left at the ends.
#[must_use]
pub fn squeeze(text: &str) -> String {
    let mut squeezed = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !squeezed.is_empty() {
            squeezed.push(' ');
        }
        squeezed.push_str(word);
    }
    squeezed
}

/// The language of a sentence: no links, no `RT @name:`, no hashtags or mentions hanging at its end.
#[must_use]
pub fn clean(sentence: &str) -> String {
    let all: Vec<&str> = sentence.split_whitespace().filter(|word| !is_url(word)).collect();
    let mut words = all.as_slice();
    while let [mark, rest @ ..] = words {
        if rest.is_empty() || !matches!(*mark, "RT" | "rt" | "MT" | "-" | "*" | "•" | "–") {
            break;
        }
        words = match rest {
            [name, quoted @ ..] if name.starts_with('@') && name.ends_with(':') => quoted,
            _ => rest,
        };
    }
    // One hashtag at the end may be the object of the sentence ("I love #rust"); two or more are a tag cloud.
    let tagged = |word: &str| word.starts_with('#') || word.starts_with('@');
    let hanging = words.iter().rev().take_while(|word| tagged(word)).count();
    if hanging >= 2 || (hanging == 1 && words.len() >= 2 && ends_clause(words[words.len() - 2])) {
        words = &words[..words.len() - hanging];
    }
    words.join(" ")
}

fn ends_clause(word: &str) -> bool {
    word.ends_with(['.', '!', '?', ':', '…', '。', '！', '？'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn language_is_kept_and_the_rest_goes() {
        assert_eq!(clean("RT @ada: Rust 2.0 is out! https://x.example/1 #rust #wasm"), "Rust 2.0 is out!");
        assert_eq!(clean("I love #rust"), "I love #rust");
        assert_eq!(clean("Great talk. #rust"), "Great talk.");
        assert_eq!(clean("•  a\n b"), "a b");
        assert_eq!(clean("https://x.example"), "");
        assert_eq!(clean("RT"), "RT");
    }

    #[test]
    fn links_are_seen_behind_punctuation() {
        assert!(is_url("(https://x.example)") && is_url("WWW.x.example"));
        assert!(!is_url("wwworld") && !is_url("http") && !is_url(""));
    }

    #[test]
    fn white_space_is_squeezed() {
        assert_eq!(squeeze(" a\u{a0}\n\tb "), "a b");
    }
}
