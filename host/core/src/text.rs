//! Small helpers for text that comes from outside.
//!
//! They cut and escape; they never interpret. Called by whatever stores or prints hostile text.

/// The text, cut to at most `max` bytes at a character boundary.
pub fn truncated(mut text: String, max: usize) -> String {
    if text.len() > max {
        text.truncate(floor_char_boundary(&text, max));
    }
    text
}

/// The largest index that is at most `index` and on a character boundary.
pub fn floor_char_boundary(text: &str, index: usize) -> usize {
    let mut at = index.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// The text with control characters (but tab and newline) and what else is not [printable](is_printable) replaced by
/// `�`: safe to print on a terminal, and what is seen is what is there.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if is_printable(c) || c == '\n' || c == '\t' { c } else { '\u{FFFD}' }).collect()
}

/// Neither a control character, nor one that turns the direction of writing (embeddings, overrides, isolates, marks), nor
/// one that nobody sees (zero-width spaces, invisible operators, tags): with those a text can look like another one, or
/// carry words that its reader does not see. Joiners are printable: emoji and many scripts need them.
pub fn is_printable(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{061C}' | '\u{200B}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}')
        && !matches!(c, '\u{2060}'..='\u{206F}' | '\u{FEFF}' | '\u{E0000}'..='\u{E007F}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_cannot_steer_a_terminal_or_turn_around() {
        assert_eq!(printable("a\u{1b}[2J\u{9b}\u{7f}\r\n\tb"), "a\u{FFFD}[2J\u{FFFD}\u{FFFD}\u{FFFD}\n\tb");
        assert_eq!(printable("pay \u{202e}001\u{2066}"), "pay \u{FFFD}001\u{FFFD}");
        assert_eq!(printable("go\u{e0067}\u{e006f}\u{200b}!"), "go\u{FFFD}\u{FFFD}\u{FFFD}!");
        assert_eq!(printable("עברית ü 👩‍💻"), "עברית ü 👩‍💻");
    }
}
