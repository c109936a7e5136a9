//! Shorter ways to say a sentence: without what stands in parentheses, without an opening flourish, without a trailing clause.
//! It only takes away whole parts between punctuation, so what is left is still a sentence. Called for each sentence.

use crate::closed;

/// Words that begin a clause which can be left out after a comma, whatever follows in it.
const CLAUSES: &[&str] = &[
    "although", "though", "whereas", "because", "but", "weil", "obwohl", "wobei", "aber", "mais", "car", "aunque",
    "porque", "pero",
];

/// Words that begin a part which can be left out after a comma, up to the next comma or the end.
const PARTS: &[&str] = &[
    "which",
    "who",
    "whose",
    "where",
    "while",
    "as",
    "since",
    "after",
    "before",
    "including",
    "according",
    "said",
    "says",
    "adding",
    "making",
    "leaving",
    "with",
    "so",
    "während",
    "welche",
    "welcher",
    "welches",
    "sagte",
    "qui",
    "dont",
    "où",
    "quien",
    "donde",
];

/// A longer sentence, in bytes, is none; looking for its clauses would take long.
const LONGEST: usize = 2_000;

/// Fewer words than this are no statement.
const LEAST_WORDS: usize = 4;

/// Words that open a sentence and can go with their comma.
const OPENING: &[&str] = &[
    "however",
    "moreover",
    "furthermore",
    "meanwhile",
    "therefore",
    "also",
    "additionally",
    "in addition",
    "as a result",
    "for example",
    "for instance",
    "of course",
    "in fact",
    "well",
    "so",
    "now",
    "today",
    "yesterday",
    "still",
    "finally",
];

/// The sentence and its shorter forms, the longest first, each a whole sentence.
pub(crate) fn variants(sentence: &str) -> Vec<String> {
    let mut found = vec![closed(sentence)];
    if sentence.len() > LONGEST {
        return found;
    }
    let mut add = |variant: &str| {
        let variant = closed(variant.trim());
        let words = variant.split_whitespace().count();
        if words >= 3 && !found.contains(&variant) {
            found.push(variant);
        }
    };
    let plain = without_opening(&without_parentheses(sentence));
    add(&plain);
    let mut rest = plain;
    // Two cuts are enough: what is left after more is often not what the sentence meant.
    for _ in 0..2 {
        let Some(shorter) = without_clause(&rest) else { break };
        rest = shorter;
        add(&rest);
    }
    found
}

/// Takes out `(…)`, `[…]` and a pair of dashes with what is between them.
fn without_parentheses(sentence: &str) -> String {
    let mut kept = String::with_capacity(sentence.len());
    let mut depth = 0_usize;
    for c in sentence.chars() {
        match c {
            '(' | '[' | '（' => depth += 1,
            ')' | ']' | '）' if depth > 0 => depth -= 1,
            _ if depth == 0 => kept.push(c),
            _ => {}
        }
    }
    // An opened parenthesis that never closes is no parenthesis.
    let kept = if depth == 0 { kept } else { sentence.to_owned() };
    let squeezed = textkit::squeeze(&kept);
    let fixed = squeezed.replace(" ,", ",").replace(" .", ".").replace(" ;", ";").replace(" !", "!").replace(" ?", "?");
    for dash in [" – ", " — ", " - "] {
        let parts: Vec<&str> = fixed.split(dash).collect();
        if let [before, _, after] = parts.as_slice() {
            return format!("{before} {after}");
        }
    }
    fixed
}

fn without_opening(sentence: &str) -> String {
    if let Some((opening, rest)) = sentence.split_once(", ")
        && OPENING.contains(&opening.to_lowercase().as_str())
    {
        let mut letters = rest.chars();
        if let Some(first) = letters.next() {
            return first.to_uppercase().chain(letters).collect();
        }
    }
    sentence.to_owned()
}

/// The sentence without the last part that can go: what follows a semicolon or a dash, a clause at its end, or a part
/// between two commas. None when there is no such part, or too little would be left.
fn without_clause(sentence: &str) -> Option<String> {
    let mut best = None;
    for (at, c) in sentence.char_indices() {
        let (before, rest) = (&sentence[..at], &sentence[at + c.len_utf8()..]);
        if !rest.starts_with(' ') || before.split_whitespace().count() < LEAST_WORDS || inside_quotes(before) {
            continue;
        }
        let word = rest.trim_start().split(|c: char| !c.is_alphanumeric()).next().unwrap_or("").to_lowercase();
        let shorter = match c {
            ';' | '–' | '—' => Some(before.to_owned()),
            ',' if CLAUSES.contains(&word.as_str()) => Some(before.to_owned()),
            ',' if PARTS.contains(&word.as_str()) => match rest.split(',').collect::<Vec<_>>().as_slice() {
                [_] => Some(before.to_owned()),
                [_, after] => Some(format!("{before}{after}")),
                // A list of more parts: nobody knows where the clause ends.
                _ => None,
            },
            _ => None,
        };
        best = shorter.or(best);
    }
    best
}

fn inside_quotes(before: &str) -> bool {
    let plain = before.matches('"').count() % 2 == 1;
    let curly = before.matches(['“', '„', '«']).count() > before.matches(['”', '»']).count();
    plain || curly
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_go_and_sentences_stay() {
        assert_eq!(
            variants("However, the bridge (built in 1887) stays closed until May, because two arches have cracks."),
            [
                "However, the bridge (built in 1887) stays closed until May, because two arches have cracks.",
                "The bridge stays closed until May, because two arches have cracks.",
                "The bridge stays closed until May."
            ]
        );
        assert_eq!(variants("Rust is fast – really fast – and safe")[1], "Rust is fast and safe.");
    }

    #[test]
    fn quotes_and_lists_are_left_alone() {
        assert_eq!(variants("\"We came, and we saw\" was the motto."), ["\"We came, and we saw\" was the motto."]);
        assert_eq!(variants("Apples, pears, plums are ripe now.").len(), 1);
        assert_eq!(variants("The value, name, and resolution signed the lease.").len(), 1);
        assert_eq!(variants("The bridge, which was closed, reopens.").len(), 1);
        assert_eq!(
            variants("The old bridge over the Aller, which was closed in March, will be rebuilt.")[1],
            "The old bridge over the Aller will be rebuilt."
        );
        assert_eq!(variants("A smile :( and more").len(), 1);
    }
}
