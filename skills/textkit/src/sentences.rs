//! Splits text into sentences.
//! It survives abbreviations, initials, numbers, links, hard-wrapped lines and lists; it never loses a word.
//! Called by the skills that choose sentences.

/// Words that are written with a full stop and do not end a sentence, in the languages of the stop-word lists.
const ABBREVIATIONS: &[&str] = &[
    "a.k.a", "abb", "abs", "adm", "al", "apr", "approx", "art", "aug", "ave", "bd", "bsp", "bspw", "bzw", "ca", "cap",
    "capt", "cf", "ch", "cit", "co", "col", "corp", "d.h", "dec", "dept", "dr", "dra", "e.g", "ed", "eds", "eq", "esp",
    "est", "evtl", "ex", "feb", "fig", "figs", "fr", "fri", "gal", "gen", "ggf", "gov", "hon", "hr", "i.e", "inc",
    "inkl", "jan", "jr", "jul", "jun", "lt", "ltd", "m.e", "max", "mr", "mrs", "ms", "mt", "min", "mio", "mlle", "mme",
    "mrd", "mwst", "nov", "nr", "nº", "núm", "oct", "op", "p.ej", "pag", "pág", "ph.d", "phd", "pp", "prof", "pt",
    "rep", "rev", "resp", "s.a", "sec", "sen", "sep", "sept", "sig", "sog", "sr", "sra", "st", "str", "tel", "tbd",
    "u.a", "u.k", "u.s", "usw", "v", "vgl", "viz", "vol", "vs", "z.b", "z.t", "zzgl",
];

/// Words after an ordinal number that show that the number's full stop did not end the sentence ("am 3. Mai").
const MONTHS: &[&str] = &[
    "januar",
    "februar",
    "märz",
    "april",
    "mai",
    "juni",
    "juli",
    "august",
    "september",
    "oktober",
    "november",
    "dezember",
];

/// The sentences of a text, trimmed, in order; none is empty.
#[must_use]
pub fn sentences(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for block in blocks(text) {
        let mut start = 0;
        let mut rest = block.char_indices().peekable();
        while let Some((at, c)) = rest.next() {
            if !is_terminator(c) {
                continue;
            }
            let mut end = at + c.len_utf8();
            while let Some(&(next, other)) = rest.peek() {
                if !is_terminator(other) && !is_closer(other) {
                    break;
                }
                end = next + other.len_utf8();
                rest.next();
            }
            if splits(&block[start..at], &block[at..end], &block[end..]) {
                push(&mut found, &block[start..end]);
                start = end;
            }
        }
        push(&mut found, &block[start..]);
    }
    found
}

/// Does a text end as a sentence does?
#[must_use]
pub fn ends_sentence(text: &str) -> bool {
    text.trim_end_matches(is_closer).ends_with(is_terminator)
}

fn push<'a>(found: &mut Vec<&'a str>, sentence: &'a str) {
    let sentence = sentence.trim();
    if !sentence.is_empty() {
        found.push(sentence);
    }
}

fn is_terminator(c: char) -> bool {
    matches!(c, '.' | '!' | '?' | '…' | '。' | '！' | '？' | '।' | '؟' | '۔')
}

/// Needs no space after it, because its script has none.
fn is_wide_terminator(c: char) -> bool {
    matches!(c, '。' | '！' | '？')
}

fn is_closer(c: char) -> bool {
    matches!(c, '"' | '\'' | ')' | ']' | '”' | '’' | '»' | '」' | '』' | '）')
}

/// Does `mark`, the terminators and closers between `before` and `after`, end a sentence?
fn splits(before: &str, mark: &str, after: &str) -> bool {
    if mark.starts_with(is_wide_terminator) {
        return true;
    }
    let Some(first) = after.chars().next() else {
        return true;
    };
    if !first.is_whitespace() {
        return false;
    }
    let next = after.trim_start();
    let opener = |c: char| matches!(c, '"' | '\'' | '(' | '[' | '“' | '‘' | '«' | '„' | '¿' | '¡');
    let begins = next.trim_start_matches(opener).chars().next();
    // A small letter goes on after a quotation ("Why?" she asked) and after an ellipsis; elsewhere people
    // simply do not bother with capitals.
    let goes_on = mark.ends_with(is_closer) || mark.contains('…') || mark.matches('.').count() > 1;
    if goes_on && begins.is_some_and(char::is_lowercase) {
        return false;
    }
    mark.starts_with(|c| c != '.') || mark.len() > 1 || !is_abbreviated(before, next)
}

/// Is the full stop after `before` that of an abbreviation, an initial or an ordinal number?
fn is_abbreviated(before: &str, next: &str) -> bool {
    let word = before.rsplit(char::is_whitespace).next().unwrap_or("");
    let word = word.trim_start_matches(|c: char| !c.is_alphanumeric());
    if word.is_empty() {
        return false;
    }
    let mut letters = word.chars();
    if let (Some(only), None) = (letters.next(), letters.next()) {
        // "J. Smith", but not the "I" of "so do I."
        if only.is_alphabetic() && !only.is_numeric() && !matches!(only, 'I' | 'i') && !crate::is_wide(only) {
            return true;
        }
    }
    if word.len() <= 2 && word.bytes().all(|b| b.is_ascii_digit()) {
        let month = next.split(|c: char| !c.is_alphabetic()).next().unwrap_or("").to_lowercase();
        let begins_list = before.trim_start().len() == word.len();
        return begins_list || MONTHS.contains(&month.as_str());
    }
    let lower = word.to_lowercase();
    ABBREVIATIONS.contains(&lower.as_str())
}

/// Blank lines, list items and headlines end a block; a hard-wrapped line does not.
fn blocks(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut start = 0;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let next_at = at + line.len();
        let following = text[next_at..].split('\n').next().unwrap_or("");
        if line.ends_with('\n') && breaks(line.trim(), following.trim()) {
            found.push(&text[start..next_at]);
            start = next_at;
        }
        at = next_at;
    }
    found.push(&text[start..]);
    found
}

fn breaks(line: &str, following: &str) -> bool {
    if line.is_empty() || following.is_empty() {
        return true;
    }
    let item = following.starts_with(['-', '*', '•', '–', '·', '#'])
        || following
            .split_once(['.', ')'])
            .is_some_and(|(n, _)| n.len() <= 2 && !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    let capital = following.chars().next().is_some_and(|c| !c.is_lowercase() && c.is_alphabetic());
    let short = line.len() < 50 && !line.ends_with([',', ';', '-', '–', '—']);
    item || (capital && short)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn abbreviations_initials_and_numbers_do_not_end_a_sentence() {
        assert_eq!(
            sentences("Dr. J. Smith paid 3.5 million, e.g. to Acme Inc. in the U.S. market. It worked! Did it? Yes."),
            ["Dr. J. Smith paid 3.5 million, e.g. to Acme Inc. in the U.S. market.", "It worked!", "Did it?", "Yes."]
        );
        assert_eq!(sentences("Am 3. Mai geht es los. Z. B. hier."), ["Am 3. Mai geht es los.", "Z. B. hier."]);
        assert_eq!(sentences("It ended in 2024. The next began."), ["It ended in 2024.", "The next began."]);
        assert_eq!(sentences("So do I. You too."), ["So do I.", "You too."]);
    }

    #[test]
    fn people_do_without_capitals() {
        assert_eq!(
            sentences("great camera. i love it! it is small... but heavy, e.g. with a lens. (really.) ok"),
            ["great camera.", "i love it!", "it is small... but heavy, e.g. with a lens.", "(really.) ok"]
        );
    }

    #[test]
    fn links_quotes_and_dots_stay_whole() {
        assert_eq!(
            sentences("See https://a.example/x.y?z=1. Then \"Why?\" she asked... and left. (Really.) Ok"),
            ["See https://a.example/x.y?z=1.", "Then \"Why?\" she asked... and left.", "(Really.)", "Ok"]
        );
    }

    #[test]
    fn lines_are_joined_or_split_by_what_they_are() {
        let wrapped = "This is a long line that somebody wrapped by hand at some\ncolumn, so it goes on. Next one.";
        assert_eq!(sentences(wrapped).len(), 2);
        assert_eq!(
            sentences("Headline\nThe text starts here.\n\n- one\n- two\n1. three"),
            ["Headline", "The text starts here.", "- one", "- two", "1. three"]
        );
    }

    #[test]
    fn scripts_without_spaces_split_too() {
        assert_eq!(sentences("今日は晴れ。明日は雨！本当？"), ["今日は晴れ。", "明日は雨！", "本当？"]);
    }

    #[test]
    fn nothing_is_lost_and_nothing_panics() {
        for text in ["", "...", "?!", "a", ".\n.\n.", "«»", "x.\u{a0}Y", "\r\n\r\n"] {
            let joined: String = sentences(text).concat();
            let kept = |t: &str| t.chars().filter(|c| !c.is_whitespace()).collect::<String>();
            assert_eq!(kept(&joined), kept(text), "{text:?}");
        }
    }
}
