//! Folds text to what a reader takes it for: small letters, no accents, no invisible characters.
//! Every folded character knows the original character it came from. Called to match words that someone may disguise.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// One folded character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Folded {
    /// What it reads as.
    pub c: char,
    /// Index of the original character, counted in Unicode scalar values.
    pub from: usize,
    /// What it reads as when digits, symbols and look-alikes stand for letters.
    pub seen: char,
}

/// Folds a text. White space becomes a plain space.
#[must_use]
pub fn fold(text: &str) -> Vec<Folded> {
    let mut folded = Vec::with_capacity(text.len());
    for (from, original) in text.chars().enumerate() {
        for part in std::iter::once(original).nfkd() {
            if is_combining_mark(part) || is_invisible(part) {
                continue;
            }
            for c in part.to_lowercase() {
                match c {
                    'ß' => folded.extend(['s', 's'].map(|c| Folded { c, from, seen: c })),
                    'æ' => folded.extend(['a', 'e'].map(|c| Folded { c, from, seen: c })),
                    'œ' => folded.extend(['o', 'e'].map(|c| Folded { c, from, seen: c })),
                    'ø' => folded.push(Folded { c: 'o', from, seen: 'o' }),
                    'ł' => folded.push(Folded { c: 'l', from, seen: 'i' }),
                    c if is_combining_mark(c) => {}
                    c if c.is_whitespace() => folded.push(Folded { c: ' ', from, seen: ' ' }),
                    c => folded.push(Folded { c, from, seen: seen_as(c) }),
                }
            }
        }
    }
    folded
}

/// Zero-width and formatting characters, with which words are broken up unseen.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fe00}'..='\u{fe0f}' | '\u{34f}' | '\u{61c}' | '\u{180e}')
}

/// The letter that a digit, a symbol or a letter of another script is taken for. `i`, `l`, `1`, `!` and `|` read alike.
fn seen_as(c: char) -> char {
    match c {
        '0' => 'o',
        '1' | '!' | '|' | 'l' => 'i',
        '3' | '€' => 'e',
        '4' | '@' => 'a',
        '5' | '$' => 's',
        '7' | '+' => 't',
        '8' => 'b',
        '9' => 'g',
        'а' | 'α' => 'a',
        'в' | 'β' => 'b',
        'с' | 'ϲ' => 'c',
        'е' | 'ε' => 'e',
        'н' => 'h',
        'і' | 'ι' | 'ı' => 'i',
        'ј' => 'j',
        'к' | 'κ' => 'k',
        'м' => 'm',
        'о' | 'ο' | 'σ' => 'o',
        'р' | 'ρ' => 'p',
        'ѕ' => 's',
        'т' | 'τ' => 't',
        'у' | 'υ' => 'y',
        'х' | 'χ' => 'x',
        'ν' => 'v',
        'ω' => 'w',
        other => other,
    }
}

/// Is it a character of a script that is written without spaces between words?
#[must_use]
pub fn is_wide(c: char) -> bool {
    matches!(c, '\u{0e00}'..='\u{0eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}' | '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> String {
        fold(text).iter().map(|it| it.c).collect()
    }

    fn seen(text: &str) -> String {
        fold(text).iter().map(|it| it.seen).collect()
    }

    #[test]
    fn accents_case_and_hidden_characters_go() {
        assert_eq!(plain("ÉCLAIR Straße ﬁn\u{200b}e e\u{301}"), "eclair strasse fine e");
        assert_eq!(plain("Łódź"), "lodz");
    }

    #[test]
    fn disguises_read_alike() {
        assert_eq!(seen("5P4M"), seen("spam"));
        assert_eq!(seen("sсаm"), seen("scam"));
        assert_eq!(seen("V1ag|ra"), seen("viaglra"));
    }

    #[test]
    fn origins_count_characters() {
        let folded = fold("ßa");
        assert_eq!(folded.iter().map(|it| it.from).collect::<Vec<_>>(), [0, 0, 1]);
    }
}
