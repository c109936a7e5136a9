//! Finds words and phrases however they are written: case, accents, invisible characters, look-alikes, s p a c e d.
//! It matches whole words only, so that a banned word inside an innocent one is left alone. Called for each banned term.

use std::collections::{BTreeMap, BTreeSet};

use textkit::{fold, is_wide};

/// A place where a term was found.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Hit<'a> {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) text: &'a str,
    /// True when it only reads like the term.
    pub(crate) disguised: bool,
}

/// A text, prepared for many searches.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    text: &'a str,
    /// Byte offset of each original character, and the end.
    offsets: Vec<usize>,
    plain: Line,
    seen: Line,
    spaced: Line,
}

/// One way to read the text: characters, where each comes from, and where words begin.
#[derive(Debug, Default)]
struct Line {
    chars: Vec<char>,
    from: Vec<usize>,
    /// Where each character occurs at the start of a word, so that a search looks at few places.
    starts: BTreeMap<char, Vec<usize>>,
    /// For scripts without spaces every place is a start.
    disguise: Disguise,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Disguise {
    #[default]
    None,
    Letters,
    Spaces,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        let mut folded = fold(text);
        for at in 0..folded.len() {
            // "wow!" ends with an exclamation mark, "k!ck" does not.
            let inside = folded.get(at + 1).is_some_and(|next| next.c.is_alphanumeric());
            if matches!(folded[at].c, '!' | '|' | '+') && !inside {
                folded[at].seen = ' ';
            }
        }
        let plain = Line::new(folded.iter().map(|it| (it.c, it.from)), Disguise::None);
        let seen = Line::new(folded.iter().map(|it| (it.seen, it.from)), Disguise::Letters);
        let spaced = Line::new(
            collapse(&folded.iter().map(|it| (it.seen, it.from)).collect::<Vec<_>>()).into_iter(),
            Disguise::Spaces,
        );
        let offsets = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
        Self { text, offsets, plain, seen, spaced }
    }

    /// Does the text have this phrase, case, accents and spacing aside? Disguises do not count as having it.
    pub(crate) fn contains(&self, phrase: &str) -> bool {
        let chars: Vec<char> = Line::new(fold(phrase).iter().map(|it| (it.c, it.from)), Disguise::None).trimmed();
        !self.plain.find(&chars).is_empty()
    }

    /// Every place where the term stands or is meant, each once.
    pub(crate) fn find(&self, term: &str) -> Vec<Hit<'a>> {
        let folded = fold(term);
        let plain = Line::new(folded.iter().map(|it| (it.c, it.from)), Disguise::None).trimmed();
        let seen = Line::new(folded.iter().map(|it| (it.seen, it.from)), Disguise::None).trimmed();
        let mut hits = BTreeSet::new();
        let mut taken = BTreeSet::new();
        for (line, chars) in [(&self.plain, &plain), (&self.seen, &seen), (&self.spaced, &seen)] {
            for (first, last) in line.find(chars) {
                let (start, end) = (line.from[first], line.from[last] + 1);
                let text = &self.text[self.offsets[start]..self.offsets[end]];
                if line.disguise != Disguise::None && !is_disguise(text, line.disguise) {
                    continue;
                }
                if taken.insert(start) {
                    hits.insert(Hit { start, end, text, disguised: line.disguise != Disguise::None });
                }
            }
        }
        hits.into_iter().collect()
    }
}

/// Is this really a disguised word and not a number or an ordinary word that happens to read alike ("fail", "fali")?
fn is_disguise(text: &str, disguise: Disguise) -> bool {
    let letters = text.chars().filter(|c| c.is_alphabetic()).count();
    match disguise {
        Disguise::None => true,
        Disguise::Letters => {
            let replaced = text.chars().any(|c| c.is_ascii_digit() || "!|@$€+".contains(c));
            let mixed = text.chars().any(|c| c.is_ascii_alphabetic())
                && text.chars().any(|c| matches!(c, '\u{370}'..='\u{3ff}' | '\u{400}'..='\u{4ff}'));
            letters > 0 && (replaced || mixed)
        }
        Disguise::Spaces => letters >= 3,
    }
}

/// Joins runs of at least three single characters with single separators between them: `s p a m`, `s.p.a.m`.
fn collapse(chars: &[(char, usize)]) -> Vec<(char, usize)> {
    let alphanumeric = |at: usize| chars.get(at).is_some_and(|(c, _)| c.is_alphanumeric());
    let single = |at: usize| alphanumeric(at) && !alphanumeric(at + 1) && (at == 0 || !alphanumeric(at - 1));
    let mut joined: Vec<(char, usize)> = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        let mut run = vec![at];
        while single(at) && single(run[run.len() - 1] + 2) {
            run.push(run[run.len() - 1] + 2);
        }
        if run.len() >= 3 {
            joined.push((' ', chars[at].1));
            joined.extend(run.iter().map(|at| chars[*at]));
            joined.push((' ', chars[run[run.len() - 1]].1));
        } else {
            // What was not collapsed is found by the other readings.
            joined.push((' ', chars[at].1));
        }
        at = run[run.len() - 1] + 1;
    }
    joined
}

impl Line {
    /// White space and punctuation between words become one space, so that `free,  money` reads as `free money`.
    fn new(chars: impl Iterator<Item = (char, usize)>, disguise: Disguise) -> Self {
        let mut line = Self { disguise, ..Self::default() };
        for (c, from) in chars {
            let c = if c.is_alphanumeric() || "@#$+".contains(c) { c } else { ' ' };
            let after_space = line.chars.last().is_none_or(|last| *last == ' ');
            if c == ' ' && after_space {
                continue;
            }
            if c != ' ' && (!is_word(line.chars.last().copied()) || !is_word(Some(c)) || is_wide(c)) {
                line.starts.entry(c).or_default().push(line.chars.len());
            }
            line.chars.push(c);
            line.from.push(from);
        }
        line
    }

    fn trimmed(self) -> Vec<char> {
        let mut chars = self.chars;
        while chars.last() == Some(&' ') {
            chars.pop();
        }
        chars
    }

    /// First and last index of each whole-word occurrence.
    fn find(&self, term: &[char]) -> Vec<(usize, usize)> {
        let (Some(first), Some(last)) = (term.first(), term.last()) else { return Vec::new() };
        let wide_end = is_wide(*last);
        self.starts
            .get(first)
            .into_iter()
            .flatten()
            .filter(|start| self.chars[**start..].starts_with(term))
            .map(|start| (*start, start + term.len() - 1))
            .filter(|(_, end)| wide_end || !is_word(Some(*last)) || !is_word(self.chars.get(end + 1).copied()))
            .collect()
    }
}

fn is_word(c: Option<char>) -> bool {
    c.is_some_and(char::is_alphanumeric)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str, term: &str) -> Vec<String> {
        Reader::new(text).find(term).into_iter().map(|hit| hit.text.to_owned()).collect()
    }

    #[test]
    fn whole_words_in_any_dress() {
        assert_eq!(found("Scam! a SCÁM, scams, scammer", "scam"), ["Scam", "SCÁM"]);
        assert_eq!(found("classic pass ass", "ass"), ["ass"]);
        assert_eq!(found("get free,\n MONEY now", "free money"), ["free,\n MONEY"]);
        assert_eq!(found("Straße", "strasse"), ["Straße"]);
    }

    #[test]
    fn disguises_are_seen_through() {
        for text in ["$c4m", "5CAM", "sc@m!!", "sсаm", "s\u{200b}cam", "s c a m", "s.c.a.m", "S-C-A-M!"] {
            assert_eq!(found(text, "scam").len(), 1, "{text}");
        }
        for text in ["100 5 7", "fali", "a b c", "I am a man", "sc am", "s c a m p"] {
            assert!(
                found(text, "scam").is_empty() && found(text, "fail").is_empty() && found(text, "ioo").is_empty(),
                "{text}"
            );
        }
    }

    #[test]
    fn terms_with_digits_and_other_scripts_match_themselves() {
        assert_eq!(found("call 911 now", "911"), ["911"]);
        assert_eq!(found("план и план", "план").len(), 2);
        assert_eq!(found("これは詐欺です", "詐欺"), ["詐欺"]);
        assert!(Reader::new("Ad: paid partnership").contains("PAID  partnership"));
        assert!(!Reader::new("p4id partnership").contains("paid partnership"));
    }

    #[test]
    fn places_count_characters() {
        let reader = Reader::new("🦀🦀 spam");
        let hits = reader.find("spam");
        assert_eq!((hits[0].start, hits[0].end, hits[0].disguised), (3, 7, false));
    }
}
