//! Text that PostgreSQL can keep.
//!
//! Its text has no character NUL, and ours may: so NUL is written as an escape that begins with U+10FFFF, a code point that
//! Unicode assigns to nobody, and that code point as another. JSON has escapes of its own and needs none of this. Called by
//! everything that binds or reads a text that strangers chose.

use std::borrow::Cow;

const ESCAPE: char = '\u{10FFFF}';
const NUL: char = '0';
const ITSELF: char = '1';

/// The text as it is kept.
pub(super) fn kept(text: &str) -> Cow<'_, str> {
    if !text.contains(['\0', ESCAPE]) {
        return Cow::Borrowed(text);
    }
    let mut kept = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        match character {
            '\0' => kept.extend([ESCAPE, NUL]),
            ESCAPE => kept.extend([ESCAPE, ITSELF]),
            other => kept.push(other),
        }
    }
    Cow::Owned(kept)
}

/// The text as it was given. What somebody else wrote without our escapes is taken as it is.
pub(super) fn given(kept: String) -> String {
    if !kept.contains(ESCAPE) {
        return kept;
    }
    let mut given = String::with_capacity(kept.len());
    let mut characters = kept.chars().peekable();
    while let Some(character) = characters.next() {
        match (character, characters.peek()) {
            (ESCAPE, Some(&NUL)) => given.push('\0'),
            (ESCAPE, Some(&ITSELF)) => given.push(ESCAPE),
            _ => {
                given.push(character);
                continue;
            }
        }
        characters.next();
    }
    given
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn whatever_is_kept_is_given_back(text in "[a01\\x00\u{10FFFF}✓]{0,40}|\\PC{0,40}") {
            let written = kept(&text).into_owned();
            prop_assert!(!written.contains('\0'));
            prop_assert_eq!(given(written), text);
        }
    }
}
