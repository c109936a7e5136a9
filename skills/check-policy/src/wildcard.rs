//! Matches one word against a pattern with `*` and `?`.
//! It needs no backtracking beyond the last `*`, so no pattern can make it slow. Called for each word of a text.

/// Does the whole word match? `*` stands for any characters, `?` for exactly one.
pub(crate) fn matches(pattern: &[char], word: &[char]) -> bool {
    let (mut p, mut w) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while w < word.len() {
        match pattern.get(p) {
            Some('*') => {
                retry = Some((p + 1, w));
                p += 1;
            }
            Some(c) if *c == '?' || *c == word[w] => {
                p += 1;
                w += 1;
            }
            _ => {
                // Let the last star take one more character.
                let Some((after, from)) = retry else { return false };
                retry = Some((after, from + 1));
                (p, w) = (after, from + 1);
            }
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    #[test]
    fn stars_and_question_marks() {
        let matches = |pattern: &str, word: &str| {
            super::matches(&pattern.chars().collect::<Vec<_>>(), &word.chars().collect::<Vec<_>>())
        };
        for (pattern, word) in [
            ("free*", "freebie"),
            ("free*", "free"),
            ("*coin", "zorbcoin"),
            ("c?t", "cut"),
            ("*a*b*", "xaybz"),
            ("**", ""),
        ] {
            assert!(matches(pattern, word), "{pattern} {word}");
        }
        for (pattern, word) in [("free*", "carefree"), ("c?t", "ct"), ("", "x"), ("*a*b", "ba"), ("?", "")] {
            assert!(!matches(pattern, word), "{pattern} {word}");
        }
        assert!(!matches(&"*a".repeat(100), &"a".repeat(99)));
    }
}
