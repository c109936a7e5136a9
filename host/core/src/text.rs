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

/// The text with control characters (but tab and newline) replaced by `�`: safe to print on a terminal.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{FFFD}' } else { c }).collect()
}
