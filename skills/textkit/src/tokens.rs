//! Splits text into words, hashtags, mentions, addresses.
//! It keeps the text as it is; folding and stop words are the caller's business. Word borders follow UAX #29.
//! Called by everything here that looks at words.

use unicode_segmentation::UnicodeSegmentation;

use crate::clean::is_url;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A word or a number.
    Word,
    /// What follows a `#`, without it.
    Hashtag,
    /// What follows an `@`, without it.
    Mention,
    /// A link or an e-mail address.
    Address,
}

/// One token and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    /// What it is.
    pub kind: Kind,
    /// The text, without `#` or `@`.
    pub text: &'a str,
    /// Byte offset of the first byte, `#` and `@` not included.
    pub start: usize,
    /// True when only spaces stand between the previous token and this one.
    pub follows: bool,
}

/// The tokens of a text, in order.
#[must_use]
pub fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut found: Vec<Token<'_>> = Vec::with_capacity(text.len() / 6);
    let mut end_of_previous = 0;
    for chunk in text.split_whitespace() {
        let offset = chunk.as_ptr() as usize - text.as_ptr() as usize;
        if is_url(chunk) || is_email(chunk) {
            push(&mut found, &mut end_of_previous, text, Kind::Address, (chunk, offset));
            continue;
        }
        for (at, word) in chunk.unicode_word_indices() {
            let kind = match chunk.as_bytes().get(at.wrapping_sub(1)) {
                Some(b'#') => Kind::Hashtag,
                Some(b'@') => Kind::Mention,
                _ => Kind::Word,
            };
            push(&mut found, &mut end_of_previous, text, kind, (word, offset + at));
        }
    }
    found
}

fn push<'a>(found: &mut Vec<Token<'a>>, previous: &mut usize, all: &str, kind: Kind, token: (&'a str, usize)) {
    let (text, start) = token;
    let mark = usize::from(matches!(kind, Kind::Hashtag | Kind::Mention));
    let between = all.get(*previous..start - mark).unwrap_or("");
    let follows = !found.is_empty() && between.chars().all(|c| c == ' ' || c == '\u{a0}');
    *previous = start + text.len();
    found.push(Token { kind, text, start, follows });
}

/// Has the chunk the shape of an e-mail address, punctuation around it aside?
fn is_email(chunk: &str) -> bool {
    let core = chunk.trim_matches(|c: char| !c.is_alphanumeric());
    match core.split_once('@') {
        Some((name, host)) => {
            name.chars().last().is_some_and(char::is_alphanumeric)
                && host.contains('.')
                && host.chars().all(|c| c.is_alphanumeric() || ".-".contains(c))
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<(Kind, &str)> {
        tokens(text).into_iter().map(|token| (token.kind, token.text)).collect()
    }

    #[test]
    fn kinds_are_told_apart() {
        use Kind::{Address, Hashtag, Mention, Word};
        assert_eq!(
            shown("Ask @ada: don't miss #Rust_2026 at https://a.example/x?y=1, mail ada@b.example!"),
            [
                (Word, "Ask"),
                (Mention, "ada"),
                (Word, "don't"),
                (Word, "miss"),
                (Hashtag, "Rust_2026"),
                (Word, "at"),
                (Address, "https://a.example/x?y=1,"),
                (Word, "mail"),
                (Address, "ada@b.example!"),
            ]
        );
    }

    #[test]
    fn neighbours_are_known_across_spaces_only() {
        let follows: Vec<bool> = tokens("open source, rust #wasm").iter().map(|token| token.follows).collect();
        assert_eq!(follows, [false, true, false, true]);
    }

    #[test]
    fn other_scripts_have_tokens_too() {
        assert_eq!(shown("привет мир").len(), 2);
        assert_eq!(shown("東京").len(), 2);
        assert!(shown("  …!? 🦀").is_empty());
    }
}
