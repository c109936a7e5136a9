//! Turns text of any language into words that can be compared.
//!
//! Text is normalised (NFKC, lower case, Latin letters without accents), cut at what is no letter or digit and at
//! `camelCase` humps; scripts that write no spaces become pairs of characters; English endings are taken off. It never
//! fails and never allocates more than its limits. Called for documents and queries alike.

use crate::synonyms;
use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::decompose_canonical;

/// Most words of one text.
pub(crate) const MAX_WORDS: usize = 4096;
/// Longest word in characters; the rest of a longer one is another word.
const MAX_WORD_CHARS: usize = 48;

/// One word of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Word {
    /// As it was written, normalised.
    pub(crate) shown: String,
    /// Without its ending: what is compared.
    pub(crate) stem: String,
    /// Too common to say anything.
    pub(crate) is_stop: bool,
}

/// The words of a text, at most [`MAX_WORDS`].
pub(crate) fn words(text: &str, max_bytes: usize) -> Vec<Word> {
    let text = &text[..chimera_core::text::floor_char_boundary(text, max_bytes)];
    let mut cutter = Cutter::default();
    for c in text.nfkc() {
        if !cutter.push(c) {
            break;
        }
    }
    cutter.end_word();
    cutter.words
}

#[derive(Default)]
struct Cutter {
    words: Vec<Word>,
    current: String,
    chars: usize,
    last_was_lower: bool,
    last_unspaced: Option<char>,
}

impl Cutter {
    /// Takes one more character; false when no more are wanted.
    fn push(&mut self, c: char) -> bool {
        if is_unspaced(c) {
            self.push_unspaced(c);
        } else if c.is_alphanumeric() || is_mark(c) {
            if (c.is_uppercase() && self.last_was_lower) || self.chars >= MAX_WORD_CHARS {
                self.end_word();
            }
            self.last_was_lower = c.is_lowercase();
            self.last_unspaced = None;
            self.chars += 1;
            c.to_lowercase().for_each(|c| push_plain(c, &mut self.current));
        } else {
            self.end_word();
        }
        self.words.len() < MAX_WORDS
    }

    fn push_unspaced(&mut self, c: char) {
        let before = self.last_unspaced;
        if before.is_none() {
            self.end_word();
        }
        let pair: String = before.into_iter().chain([c]).collect();
        self.words.push(Word { shown: pair.clone(), stem: pair, is_stop: false });
        self.last_unspaced = Some(c);
    }

    fn end_word(&mut self) {
        self.last_was_lower = false;
        self.last_unspaced = None;
        self.chars = 0;
        let shown = std::mem::take(&mut self.current);
        if shown.is_empty() || self.words.len() >= MAX_WORDS {
            return;
        }
        let is_stop = is_stop_word(&shown);
        let stem = stem(&shown);
        self.words.push(Word { shown, stem, is_stop });
    }
}

/// Combining marks belong to the letter before them (accents that NFKC could not join, vowel signs of Indic scripts).
fn is_mark(c: char) -> bool {
    matches!(c, '\u{0300}'..='\u{036F}' | '\u{0900}'..='\u{0DFF}' | '\u{064B}'..='\u{065F}')
}

/// Scripts that are written without spaces between words.
fn is_unspaced(c: char) -> bool {
    matches!(c,
        '\u{0E00}'..='\u{0EFF}' | '\u{1000}'..='\u{109F}' | '\u{1780}'..='\u{17FF}' | '\u{3040}'..='\u{30FF}'
        | '\u{3400}'..='\u{4DBF}' | '\u{4E00}'..='\u{9FFF}' | '\u{F900}'..='\u{FAFF}' | '\u{20000}'..='\u{3134F}')
        && c.is_alphanumeric()
}

/// A Latin letter without its accents; any other character as it is.
fn push_plain(c: char, out: &mut String) {
    let is_accented_latin = matches!(c, '\u{00C0}'..='\u{024F}' | '\u{1E00}'..='\u{1EFF}');
    if is_accented_latin {
        decompose_canonical(c, |part| {
            if !matches!(part, '\u{0300}'..='\u{036F}') {
                out.push(part);
            }
        });
    } else if !matches!(c, '\u{0300}'..='\u{036F}') {
        out.push(c);
    }
}

/// Takes English endings off, so that `summarise`, `summaries` and `summarization` meet. Other languages' words pass
/// nearly unchanged, and the same on both sides.
pub(crate) fn stem(word: &str) -> String {
    if word.len() < 4 || !word.bytes().all(|b| b.is_ascii_lowercase()) {
        return word.to_owned();
    }
    if let Some(regular) = synonyms::irregular(word) {
        return regular.to_owned();
    }
    let singular = strip_plural(word);
    let plain = strip_inflection(&singular);
    let root = strip_derivation(&plain);
    match root.strip_suffix('e') {
        Some(rest) if rest.len() >= 3 => rest.to_owned(),
        _ => root,
    }
}

fn strip_plural(word: &str) -> String {
    if let Some(rest) = word.strip_suffix("ies").filter(|rest| rest.len() >= 3) {
        return format!("{rest}y");
    }
    if let Some(rest) = word.strip_suffix("es")
        && ["ch", "sh", "ss", "x", "z"].iter().any(|end| rest.ends_with(end))
    {
        return rest.to_owned();
    }
    match word.strip_suffix('s') {
        Some(rest) if rest.len() >= 3 && !rest.ends_with(['s', 'u', 'i']) => rest.to_owned(),
        _ => word.to_owned(),
    }
}

fn strip_inflection(word: &str) -> String {
    let has_vowel = |rest: &str| rest.len() >= 3 && rest.bytes().any(|b| b"aeiouy".contains(&b));
    let stripped = word
        .strip_suffix("ing")
        .or_else(|| word.strip_suffix("ied").map(|_| &word[..word.len() - 2]))
        .or_else(|| word.strip_suffix("ed").filter(|rest| !rest.ends_with('e')))
        .filter(|rest| has_vowel(rest));
    let Some(rest) = stripped else { return word.to_owned() };
    let bytes = rest.as_bytes();
    let (last, before) = (bytes[bytes.len() - 1], bytes[bytes.len() - 2]);
    if last == before && !b"lsz".contains(&last) {
        return rest[..rest.len() - 1].to_owned();
    }
    if last == b'i' { format!("{}y", &rest[..rest.len() - 1]) } else { rest.to_owned() }
}

/// Endings that make one word of another, longest first, with what stays.
const DERIVATIONS: [(&str, &str); 22] = [
    ("ization", ""),
    ("isation", ""),
    ("izer", ""),
    ("iser", ""),
    ("ize", ""),
    ("ise", ""),
    ("iz", ""),
    ("is", ""),
    ("ation", ""),
    ("ition", ""),
    ("ement", ""),
    ("ment", ""),
    ("able", ""),
    ("ible", ""),
    ("ness", ""),
    ("ance", ""),
    ("ary", "ar"),
    ("ly", ""),
    ("tion", "t"),
    ("er", ""),
    ("or", ""),
    ("at", ""),
];

fn strip_derivation(word: &str) -> String {
    for (ending, stays) in DERIVATIONS {
        if let Some(rest) = word.strip_suffix(ending)
            && rest.len() >= 4
        {
            return format!("{rest}{stays}");
        }
    }
    word.to_owned()
}

fn is_stop_word(word: &str) -> bool {
    const STOP: &str = " a about above after again all also am an and any are as at be because been before being \
        both but by can could did do does doing down each few for from further get gets got had has have having he her \
        here hers him his how i if in into is it its just let like make makes me more most my need needs no nor not now \
        of off on once one only or other our out over own per please same she should so some something such than that \
        the their them then there these they thing things this those through to too under until up us use used using \
        very via want wants was we were what when where which while who whom why will with would you your ";
    let is_letter = word.len() == 1 && word.bytes().all(|b| b.is_ascii_alphabetic());
    is_letter || STOP.contains(&format!(" {word} "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stems(text: &str) -> Vec<String> {
        words(text, 4096).into_iter().filter(|word| !word.is_stop).map(|word| word.stem).collect()
    }

    #[test]
    fn endings_meet() {
        for family in [
            "summarize summarise summarization summarizes summarizing summarized summary summaries",
            "publish publishes publishing published publisher",
            "trend trends trending",
            "policy policies",
            "check checks checked checking checker",
            "write writes writing wrote written writer",
        ] {
            let all = stems(family);
            assert!(all.iter().all(|stem| *stem == all[0]), "{family}: {all:?}");
        }
    }

    #[test]
    fn names_and_accents_are_cut() {
        assert_eq!(stems("maxLength in_reply-to"), ["max", "length", "reply"]);
        assert_eq!(stems("Résumé ÜBERSICHT"), ["resum", "ubersicht"]);
        assert_eq!(stems("don't"), ["don"]);
    }

    #[test]
    fn scripts_without_spaces_become_pairs() {
        assert_eq!(stems("要約する"), ["要", "要約", "約す", "する"]);
        assert_eq!(stems("AI要約 text"), ["ai", "要", "要約", "text"]);
    }

    #[test]
    fn hostile_text_is_bounded() {
        assert!(words(&"a b c d ".repeat(1 << 16), usize::MAX).len() <= MAX_WORDS);
        let long = words(&"x".repeat(1 << 20), 1 << 20);
        assert!(long.len() <= MAX_WORDS && long.iter().all(|word| word.shown.len() <= 4 * MAX_WORD_CHARS));
        assert!(words(&"\u{FDFA}".repeat(5000), 1 << 20).len() <= MAX_WORDS);
    }
}
