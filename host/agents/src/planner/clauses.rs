//! Splits a goal, in the owner's words, into the parts that can each be somebody's task.
//!
//! Sentences, list items, semicolons, "then", and commas or "and" before a verb separate parts; what only narrows a part
//! ("under 280 characters", "in English") stays with it. Nothing is looked up and nothing is dropped: a text that is no
//! instruction is kept as context. Called by the decomposer.

use super::words::{stem, words};
use std::collections::BTreeSet;

/// Most parts that a goal may have.
pub(crate) const MAX_CLAUSES: usize = 64;

/// Verbs that begin an instruction and are rarely anything else.
const VERBS: &[&str] = &[
    "aggregate",
    "analyse",
    "analyze",
    "announce",
    "answer",
    "archive",
    "ask",
    "assess",
    "build",
    "calculate",
    "check",
    "choose",
    "classify",
    "clean",
    "collect",
    "compare",
    "compose",
    "compute",
    "convert",
    "count",
    "create",
    "crawl",
    "deliver",
    "describe",
    "detect",
    "determine",
    "discover",
    "download",
    "draft",
    "edit",
    "email",
    "enrich",
    "evaluate",
    "examine",
    "explain",
    "export",
    "extract",
    "fetch",
    "find",
    "gather",
    "generate",
    "get",
    "identify",
    "import",
    "inspect",
    "learn",
    "load",
    "look",
    "make",
    "measure",
    "merge",
    "notify",
    "observe",
    "parse",
    "pick",
    "predict",
    "prepare",
    "produce",
    "publish",
    "pull",
    "read",
    "recommend",
    "remember",
    "remove",
    "render",
    "rewrite",
    "run",
    "save",
    "scan",
    "scrape",
    "search",
    "see",
    "select",
    "send",
    "shorten",
    "show",
    "simplify",
    "submit",
    "suggest",
    "summarise",
    "summarize",
    "synthesise",
    "synthesize",
    "tell",
    "transform",
    "translate",
    "tweet",
    "update",
    "upload",
    "validate",
    "verify",
    "write",
];

/// Verbs that are as often nouns: they count only before a word such as "the" or "it".
const VERBS_OR_NOUNS: &[&str] = &[
    "balance", "chart", "comment", "cluster", "document", "file", "filter", "forecast", "group", "index", "label",
    "list", "mail", "map", "match", "message", "monitor", "name", "order", "outline", "plan", "plot", "post", "price",
    "process", "query", "quote", "rank", "rate", "record", "reply", "report", "request", "research", "review",
    "schedule", "score", "share", "sort", "store", "study", "tag", "test", "track", "transfer", "trade", "watch",
];

/// Words that show that the word before them was a verb.
const AFTER_A_VERB: &[&str] = &[
    "a", "about", "all", "an", "any", "back", "by", "each", "every", "for", "from", "how", "in", "it", "its", "on",
    "our", "out", "some", "that", "the", "their", "them", "these", "this", "those", "to", "what", "which", "with",
    "your", "my",
];

/// Words between a connector and its verb.
const FILLERS: &[&str] = &[
    "after",
    "afterwards",
    "also",
    "finally",
    "first",
    "firstly",
    "last",
    "lastly",
    "next",
    "now",
    "please",
    "second",
    "secondly",
    "subsequently",
    "that",
    "then",
    "third",
    "thirdly",
];

/// A part that begins like this narrows the part before it.
const NARROWING: &[&str] = &[
    "at", "avoid", "be", "do", "don", "each", "ensure", "exclude", "in", "include", "it", "its", "keep", "limit",
    "mention", "never", "no", "only", "stay", "they", "under", "use", "using", "with", "within", "without",
];

/// What people write before the verb.
const LEAD_INS: &[&[&str]] = &[
    &["i", "would", "like", "you", "to"],
    &["i", "would", "like", "to"],
    &["i", "want", "you", "to"],
    &["i", "want", "to"],
    &["i", "need", "you", "to"],
    &["i", "need", "to"],
    &["i'd", "like", "you", "to"],
    &["i'd", "like", "to"],
    &["we'd", "like", "you", "to"],
    &["we'd", "like", "to"],
    &["let's"],
    &["we", "would", "like", "to"],
    &["we", "want", "to"],
    &["we", "need", "to"],
    &["your", "task", "is", "to"],
    &["the", "goal", "is", "to"],
    &["the", "task", "is", "to"],
    &["help", "me", "to"],
    &["help", "me"],
    &["help", "us", "to"],
    &["help", "us"],
    &["can", "you"],
    &["could", "you"],
    &["i", "want"],
    &["i", "need"],
    &["we", "want"],
    &["we", "need"],
    &["give", "me"],
    &["let", "us"],
    &["please"],
];

/// Words that turn a statement into a wish.
const WISHES: &[&str] = &["should", "must", "needs", "need", "want", "wants", "shall", "ought", "required"];

/// One part of a goal.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Clause {
    /// The owner's words.
    pub(crate) text: String,
    /// What it is.
    pub(crate) kind: ClauseKind,
    /// What narrows it, from parts of their own ("Keep it short.").
    pub(crate) narrowed_by: Vec<String>,
    /// The numbers in it.
    pub(crate) quantities: Vec<Quantity>,
}

/// What a part of a goal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClauseKind {
    /// Something is to be done.
    Instruction,
    /// Something is said; it may be background only.
    Statement,
}

/// A number that limits something: "at most 280 characters".
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Quantity {
    /// The most that is wanted.
    pub(crate) most: u64,
    /// What is counted, as a canonical stem: `char`, `word`, `sentenc`, `hashtag`, `topic`, …
    pub(crate) unit: String,
    /// "The top five": a ranking is cut.
    pub(crate) rank: Rank,
}

/// Whether a quantity cuts a ranking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rank {
    /// "Top five …".
    Top,
    /// Any other number.
    Plain,
}

/// The goal has more than [`MAX_CLAUSES`] parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooManyClauses;

impl Clause {
    /// The owner's words with everything that narrows them.
    pub(crate) fn full_text(&self) -> String {
        let mut text = self.text.clone();
        for more in &self.narrowed_by {
            text.push_str(". ");
            text.push_str(more);
        }
        text
    }
}

/// Splits a goal. `known_verbs` are further words that begin an instruction (the first words of installed skills' names).
pub(crate) fn split(goal: &str, known_verbs: &BTreeSet<String>) -> Result<Vec<Clause>, TooManyClauses> {
    let mut clauses: Vec<Clause> = Vec::new();
    let mut waiting: Vec<String> = Vec::new();
    for sentence in sentences(goal) {
        for part in split_sentence(&sentence, known_verbs) {
            let (text, kind) = classify(&part, known_verbs);
            if words(&text).is_empty() {
                continue;
            }
            if clauses.len() >= MAX_CLAUSES {
                return Err(TooManyClauses);
            }
            match kind {
                Some(kind) => clauses.push(Clause {
                    text,
                    kind,
                    narrowed_by: std::mem::take(&mut waiting),
                    quantities: Vec::new(),
                }),
                None => match clauses.iter_mut().rev().find(|clause| clause.kind == ClauseKind::Instruction) {
                    Some(before) => before.narrowed_by.push(text),
                    None => waiting.push(text),
                },
            }
        }
    }
    if let Some(first) = clauses.first_mut() {
        first.narrowed_by.append(&mut waiting);
    } else if !waiting.is_empty() {
        clauses.push(Clause {
            text: waiting.join(". "),
            kind: ClauseKind::Instruction,
            narrowed_by: Vec::new(),
            quantities: Vec::new(),
        });
    }
    for clause in &mut clauses {
        clause.quantities = quantities(&clause.full_text());
    }
    Ok(clauses)
}

/// Lines without their list marks, cut at the ends of sentences and at semicolons.
fn sentences(goal: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in goal.lines() {
        let line = without_list_mark(line.trim());
        let mut start = 0;
        let mut ends = line.char_indices().peekable();
        while let Some((at, c)) = ends.next() {
            let before_space =
                ends.peek().is_none_or(|(_, next)| next.is_whitespace() || matches!(next, '"' | ')' | '”'));
            if matches!(c, '.' | '!' | '?' | ';' | '。') && before_space && !is_abbreviation(&line[start..at]) {
                found.push(line[start..at].trim().to_owned());
                start = at + c.len_utf8();
            }
        }
        found.push(line[start..].trim().to_owned());
    }
    found.retain(|sentence| sentence.chars().any(char::is_alphanumeric));
    found
}

fn without_list_mark(line: &str) -> &str {
    let rest = line.trim_start_matches(['-', '*', '•', '–']).trim_start();
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    if (1..=3).contains(&digits)
        && let Some(after) = rest[digits..].strip_prefix(['.', ')', ':'])
        && after.starts_with(char::is_whitespace)
    {
        return after.trim_start();
    }
    rest
}

fn is_abbreviation(before: &str) -> bool {
    let last = before.rsplit(char::is_whitespace).next().unwrap_or_default().to_lowercase();
    ["e.g", "i.e", "eg", "ie", "vs", "mr", "mrs", "dr", "approx", "incl"].contains(&last.trim_start_matches('('))
}

#[derive(Debug)]
struct Word {
    start: usize,
    end: usize,
    lower: String,
}

fn spans(sentence: &str) -> Vec<Word> {
    let mut found = Vec::new();
    let mut start = None;
    let mut all = sentence.char_indices().chain([(sentence.len(), ' ')]).peekable();
    while let Some((at, c)) = all.next() {
        // A hyphen or an apostrophe belongs to a word only inside it: "280-character", but not "trends -> post".
        let joins = matches!(c, '\'' | '’' | '-')
            && start.is_some()
            && all.peek().is_some_and(|(_, next)| next.is_alphanumeric());
        let inside = c.is_alphanumeric() || joins;
        match (inside, start) {
            (true, None) => start = Some(at),
            (false, Some(from)) => {
                found.push(Word { start: from, end: at, lower: sentence[from..at].to_lowercase() });
                start = None;
            }
            _ => {}
        }
    }
    found
}

fn is_verb(word: &str, next: Option<&str>, known: &BTreeSet<String>) -> bool {
    if VERBS.contains(&word) {
        return true;
    }
    let may_be = VERBS_OR_NOUNS.contains(&word) || known.contains(word);
    may_be && next.is_some_and(|next| AFTER_A_VERB.contains(&next))
}

/// Cuts a sentence before every connector that leads to a verb, and before every "then" after a comma or an "and".
fn split_sentence(sentence: &str, known: &BTreeSet<String>) -> Vec<String> {
    let all = spans(sentence);
    let mut parts = Vec::new();
    let mut part_start = 0;
    let mut index = 1;
    while index < all.len() {
        let (connector, verb_at) = connector(sentence, &all, index);
        let next = all.get(verb_at + 1).map(|word| word.lower.as_str());
        let leads_to_verb = all.get(verb_at).is_some_and(|word| is_verb(&word.lower, next, known));
        let cut = match connector {
            Connector::None => false,
            Connector::Then => verb_at < all.len(),
            Connector::Plain => leads_to_verb,
        };
        if cut {
            parts.push(sentence[part_start..all[index - 1].end].to_owned());
            part_start = all[verb_at].start;
            index = verb_at + 1;
        } else {
            index += 1;
        }
    }
    parts.push(sentence[part_start..].to_owned());
    parts
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Connector {
    None,
    Plain,
    Then,
}

/// What connects the word at `index` to the one before it, and where the words after the connector begin.
fn connector(sentence: &str, all: &[Word], index: usize) -> (Connector, usize) {
    let gap = &sentence[all[index - 1].end..all[index].start];
    let arrow = gap.contains('→') || gap.contains("->") || gap.contains("=>");
    let mut connected = gap.contains([',', ':', '&', '+', '—', '–']) || arrow;
    let mut then = arrow;
    let mut at = index;
    if matches!(all[at].lower.as_str(), "and" | "or") {
        connected = true;
        at += 1;
    }
    while let Some(word) = all.get(at).filter(|word| FILLERS.contains(&word.lower.as_str())) {
        if word.lower == "then" {
            then |= connected;
            connected = true;
        } else if !connected {
            break;
        }
        at += 1;
    }
    match (connected, then) {
        (false, _) => (Connector::None, at),
        (true, true) => (Connector::Then, at),
        (true, false) => (Connector::Plain, at),
    }
}

/// The part without what people write before the verb, and what it is; none when it only narrows another part.
fn classify(part: &str, known: &BTreeSet<String>) -> (String, Option<ClauseKind>) {
    let part = part.trim().trim_matches([',', ':', '.', '!', '?', ';']).trim();
    let all = spans(part);
    let mut at = 0;
    let mut is_wish = false;
    loop {
        let lead = LEAD_INS.iter().find(|lead| {
            lead.iter()
                .enumerate()
                .all(|(offset, word)| all.get(at + offset).is_some_and(|found| matches(&found.lower, word)))
        });
        match lead {
            Some(lead) if at + lead.len() < all.len() => {
                at += lead.len();
                is_wish = true;
            }
            _ if at + 1 < all.len() && (FILLERS.contains(&all[at].lower.as_str()) || all[at].lower == "and") => at += 1,
            _ => break,
        }
    }
    let text = all.get(at).map_or(part, |word| &part[word.start..]).to_owned();
    let Some(first) = all.get(at) else { return (text, Some(ClauseKind::Statement)) };
    let next = all.get(at + 1).map(|word| word.lower.as_str());
    if first.lower == "make" && next == Some("sure") {
        return (text, None);
    }
    // A known verb may stand alone here: nothing but an imperative begins a sentence with "report" and ends it.
    let begins_with_verb = is_verb(&first.lower, next, known)
        || VERBS_OR_NOUNS.contains(&first.lower.as_str())
        || known.contains(&first.lower);
    if begins_with_verb || is_wish {
        return (text, Some(ClauseKind::Instruction));
    }
    if NARROWING.contains(&first.lower.split(['\'', '’']).next().unwrap_or_default()) {
        return (text, None);
    }
    let wishes = all.iter().any(|word| WISHES.contains(&word.lower.as_str()));
    (text, Some(if wishes { ClauseKind::Instruction } else { ClauseKind::Statement }))
}

fn matches(found: &str, word: &str) -> bool {
    found == word || found.replace('’', "'") == word
}

/// The numbers of a text that count something.
pub(crate) fn quantities(text: &str) -> Vec<Quantity> {
    let tokens = number_tokens(text);
    let mut found: Vec<Quantity> = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        let Some(number) = as_number(token) else { continue };
        let before: Vec<&str> = tokens[index.saturating_sub(3)..index].iter().map(String::as_str).collect();
        let strictly =
            matches!(before.as_slice(), [.., "under" | "below" | "beneath"] | [.., "less" | "fewer", "than"]);
        if matches!(before.as_slice(), [.., "at", "least"] | [.., "over" | "minimum"] | [.., "more", "than"])
            && !matches!(before.as_slice(), ["no" | "not", "more", "than"])
        {
            continue;
        }
        let rank = if matches!(before.as_slice(), [.., "top" | "best" | "first"]) { Rank::Top } else { Rank::Plain };
        let unit = tokens[index + 1..]
            .iter()
            .take(3)
            .take_while(|word| as_number(word).is_none())
            .map(|word| canonical_unit(&stem(word)))
            .find(|unit| UNITS.contains(&unit.as_str()))
            .or_else(|| {
                tokens.get(index + 1).filter(|word| as_number(word).is_none()).map(|word| canonical_unit(&stem(word)))
            });
        let unit = match (unit, rank) {
            (Some(unit), _) => unit,
            (None, Rank::Top) => "top".to_owned(),
            (None, Rank::Plain) => continue,
        };
        let most = if strictly { number.saturating_sub(1) } else { number };
        if !found.iter().any(|other| other.unit == unit) {
            found.push(Quantity { most, unit, rank });
        }
    }
    found
}

/// Units that are looked for behind an adjective ("three short sentences").
const UNITS: &[&str] =
    &["char", "word", "sentenc", "hashtag", "topic", "item", "paragraph", "line", "post", "keyword", "trend"];

/// Different words for the same unit.
pub(crate) fn canonical_unit(stem: &str) -> String {
    match stem {
        "character" | "char" | "letter" | "chr" => "char",
        "tag" | "hashtag" => "hashtag",
        other => other,
    }
    .to_owned()
}

fn number_tokens(text: &str) -> Vec<String> {
    text.split(|c: char| c.is_whitespace() || c == '-' || c == '/')
        .map(|token| token.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase())
        .filter(|token| !token.is_empty())
        .collect()
}

fn as_number(token: &str) -> Option<u64> {
    const NAMES: &[&str] =
        &["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"];
    if let Some(value) = NAMES.iter().position(|name| *name == token) {
        return u64::try_from(value).ok().filter(|value| *value > 0);
    }
    let digits: String = token.chars().filter(|c| *c != ',' && *c != '_').collect();
    if digits.is_empty() || digits.len() > 9 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|value| *value > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn texts(goal: &str) -> Vec<String> {
        split(goal, &BTreeSet::new()).expect("few").into_iter().map(|clause| clause.text).collect()
    }

    #[test]
    fn the_demo_goal_has_five_parts() {
        let goal = "Find what people are talking about in these posts, summarise the main trends, draft a post of at most 280 characters, check it against our policy and publish it.";
        assert_eq!(
            texts(goal),
            [
                "Find what people are talking about in these posts",
                "summarise the main trends",
                "draft a post of at most 280 characters",
                "check it against our policy",
                "publish it",
            ]
        );
    }

    #[test]
    fn lists_sentences_and_then() {
        assert_eq!(
            texts("1. Find the trends\n2) summarise them; then publish it"),
            ["Find the trends", "summarise them", "publish it"]
        );
        assert_eq!(texts("- collect posts\n- rank them"), ["collect posts", "rank them"]);
        assert_eq!(
            texts("Read the file, then frobnicate it and then send it"),
            ["Read the file", "frobnicate it", "send it"]
        );
        assert_eq!(texts("Find trends -> summarize -> publish"), ["Find trends", "summarize", "publish"]);
        assert_eq!(
            texts("Please find trends and finally post it to our channel"),
            ["find trends", "post it to our channel"]
        );
        assert_eq!(texts("I'd like you to draft a post. Could you publish it?"), ["draft a post", "publish it"]);
    }

    #[test]
    fn nouns_are_not_split_off() {
        assert_eq!(texts("Find trends in posts, comments and reports"), ["Find trends in posts, comments and reports"]);
        assert_eq!(texts("Draft a post and review for the press"), ["Draft a post", "review for the press"]);
        assert_eq!(texts("Compare price, rate and order volume"), ["Compare price, rate and order volume"]);
        assert_eq!(
            texts("Summarise e.g. the first item, in 3.5 lines"),
            ["Summarise e.g. the first item, in 3.5 lines"]
        );
    }

    #[test]
    fn what_narrows_stays_with_its_part() {
        let clauses =
            split("Draft a post. Keep it under 280 characters, with two hashtags. Publish it.", &BTreeSet::new())
                .expect("few");
        assert_eq!(clauses.len(), 2);
        assert_eq!(clauses[0].narrowed_by, ["Keep it under 280 characters, with two hashtags"]);
        assert_eq!(
            clauses[0].quantities,
            [
                Quantity { most: 279, unit: "char".into(), rank: Rank::Plain },
                Quantity { most: 2, unit: "hashtag".into(), rank: Rank::Plain }
            ]
        );
        assert!(clauses[1].quantities.is_empty());
    }

    #[test]
    fn numbers_are_understood() {
        let one = |text: &str| quantities(text).into_iter().next();
        let plain = |most, unit: &str| Some(Quantity { most, unit: unit.into(), rank: Rank::Plain });
        assert_eq!(one("at most 280 characters"), plain(280, "char"));
        assert_eq!(one("a 280-character post"), plain(280, "char"));
        assert_eq!(one("no more than 1,000 words"), plain(1000, "word"));
        assert_eq!(one("fewer than five hashtags"), plain(4, "hashtag"));
        assert_eq!(one("in three short sentences"), plain(3, "sentenc"));
        assert_eq!(one("the top five topics"), Some(Quantity { most: 5, unit: "topic".into(), rank: Rank::Top }));
        assert_eq!(one("the top 3"), Some(Quantity { most: 3, unit: "top".into(), rank: Rank::Top }));
        assert_eq!(one("at least 100 words"), None);
        assert_eq!(one("by 2026"), None);
    }

    #[test]
    fn background_is_a_statement() {
        let clauses =
            split("We are a bakery in Lyon. Draft a post. Our logo should be redrawn.", &BTreeSet::new()).expect("few");
        let kinds: Vec<ClauseKind> = clauses.iter().map(|clause| clause.kind).collect();
        assert_eq!(kinds, [ClauseKind::Statement, ClauseKind::Instruction, ClauseKind::Instruction]);
    }

    #[test]
    fn too_many_parts_are_refused() {
        assert_eq!(split(&"find it. ".repeat(65), &BTreeSet::new()), Err(TooManyClauses));
    }

    proptest! {
        #[test]
        fn splitting_never_panics_and_invents_no_word(goal in "([a-zA-Z]{1,9}|then|and|publish|find|é|→|\\PC)?([ ,.;:\n-]{1,2}([a-zA-Z]{1,9}|then|and|publish it|find|280 characters|\\PC)){0,30}") {
            if let Ok(clauses) = split(&goal, &BTreeSet::new()) {
                let known: BTreeSet<String> = words(&goal).into_iter().collect();
                for clause in clauses {
                    for word in words(&clause.full_text()) {
                        prop_assert!(known.contains(&word), "`{word}` is not in the goal");
                    }
                }
            }
        }
    }
}
