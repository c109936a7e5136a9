//! The rules, one function each.
//! A rule reports everything that it finds and decides nothing else. Called once for each run.

use textkit::{Kind, chars, fold, is_url, tokens};

use crate::personal;
use crate::wildcard;
use crate::words::Reader;
use crate::{Finding, MAX_PLACES, Policy};

/// Texts with fewer letters say nothing about shouting.
const LEAST_LETTERS: usize = 10;
/// Endings of a host name that are taken for a link without `https://`.
const ENDINGS: &[&str] = &[
    "com", "org", "net", "io", "dev", "app", "co", "me", "info", "biz", "shop", "online", "xyz", "link", "ly", "gg",
    "tv", "de", "uk", "fr", "es", "it", "nl", "eu", "ru", "cn", "ai",
];

/// How many rules a policy has.
pub(crate) fn checked(policy: &Policy) -> usize {
    [
        policy.max_chars.is_some(),
        !policy.banned_terms.is_empty(),
        !policy.banned_patterns.is_empty(),
        policy.max_hashtags.is_some(),
        policy.max_mentions.is_some(),
        policy.allow_links.is_some(),
        !policy.required_phrases.is_empty(),
        policy.max_caps_ratio.is_some(),
        policy.no_personal_data.is_some(),
    ]
    .into_iter()
    .filter(|has| *has)
    .count()
}

/// Everything that every rule finds.
pub(crate) fn all(text: &str, policy: &Policy) -> Vec<Finding> {
    let reader = Reader::new(text);
    let mut findings = Vec::new();
    length(text, policy, &mut findings);
    findings.extend(policy.banned_terms.iter().flat_map(|term| banned(&reader, term)));
    patterns(text, policy, &mut findings);
    tags(text, policy, &mut findings);
    if policy.allow_links == Some(false) {
        links(text, &mut findings);
    }
    for phrase in &policy.required_phrases {
        if !reader.contains(phrase) {
            findings.push(Finding::error("required_phrases", format!("\"{phrase}\" is missing")));
        }
    }
    capitals(text, policy, &mut findings);
    if policy.no_personal_data == Some(true) {
        findings.extend(personal::find(text));
    }
    findings
}

fn length(text: &str, policy: &Policy, findings: &mut Vec<Finding>) {
    let Some(most) = policy.max_chars else { return };
    let length = chars(text);
    if length > most {
        let finding = Finding::error("max_chars", format!("{length} characters, {} too many", length - most));
        findings.push(finding.at(most, length));
    }
}

fn banned(reader: &Reader<'_>, term: &str) -> Vec<Finding> {
    let found = reader.find(term);
    found
        .into_iter()
        .take(MAX_PLACES)
        .map(|hit| {
            let disguise = if hit.disguised { ", disguised" } else { "" };
            Finding::error("banned_terms", format!("\"{}\" (\"{term}\"{disguise})", hit.text)).at(hit.start, hit.end)
        })
        .collect()
}

/// Patterns are matched word by word, so `*` never runs over a space.
fn patterns(text: &str, policy: &Policy, findings: &mut Vec<Finding>) {
    if policy.banned_patterns.is_empty() {
        return;
    }
    let words = words(text);
    for pattern in &policy.banned_patterns {
        let parts: Vec<Vec<char>> = pattern.split_whitespace().map(folded).collect();
        let matching = words
            .windows(parts.len().max(1))
            .filter(|window| window.iter().zip(&parts).all(|(word, part)| wildcard::matches(part, &word.folded)));
        for window in matching.take(MAX_PLACES) {
            let (first, last) = (&window[0], &window[window.len() - 1]);
            let shown: Vec<&str> = window.iter().map(|word| word.text).collect();
            let evidence = format!("\"{}\" (\"{pattern}\")", shown.join(" "));
            findings.push(Finding::error("banned_patterns", evidence).at(first.start, last.end));
        }
    }
}

struct Word<'a> {
    text: &'a str,
    folded: Vec<char>,
    start: usize,
    end: usize,
}

/// The words between white space, without punctuation around them.
fn words(text: &str) -> Vec<Word<'_>> {
    let mut found = Vec::new();
    let (mut byte, mut at) = (0, 0);
    for chunk in text.split_whitespace() {
        let offset = chunk.as_ptr() as usize - text.as_ptr() as usize;
        let core = chunk.trim_matches(|c: char| !c.is_alphanumeric());
        let core_offset = core.as_ptr() as usize - text.as_ptr() as usize;
        let core_offset = if core.is_empty() { offset } else { core_offset };
        at += text.get(byte..core_offset).map_or(0, chars);
        byte = core_offset;
        if !core.is_empty() {
            found.push(Word { text: core, folded: folded(core), start: at, end: at + chars(core) });
        }
    }
    found
}

fn folded(text: &str) -> Vec<char> {
    fold(text).into_iter().map(|it| it.c).collect()
}

fn tags(text: &str, policy: &Policy, findings: &mut Vec<Finding>) {
    let tokens = tokens(text);
    for (rule, limit, kind, mark) in [
        ("max_hashtags", policy.max_hashtags, Kind::Hashtag, '#'),
        ("max_mentions", policy.max_mentions, Kind::Mention, '@'),
    ] {
        let Some(most) = limit else { continue };
        let found: Vec<String> =
            tokens.iter().filter(|token| token.kind == kind).map(|token| format!("{mark}{}", token.text)).collect();
        if found.len() > most {
            let shown = found.iter().take(20).cloned().collect::<Vec<_>>().join(" ");
            findings.push(Finding::error(rule, format!("{} instead of at most {most}: {shown}", found.len())));
        }
    }
}

fn links(text: &str, findings: &mut Vec<Finding>) {
    for word in words(text) {
        let lower = word.text.to_lowercase();
        if is_url(word.text) || lower.contains("://") || is_bare_link(&lower) {
            findings.push(Finding::error("allow_links", format!("\"{}\"", word.text)).at(word.start, word.end));
        }
    }
    // "example dot com" and "example (dot) com" are links for people.
    let spelled = words(text);
    for window in spelled.windows(3) {
        let [host, dot, ending] = window else { continue };
        let says_dot = dot.text.eq_ignore_ascii_case("dot");
        if says_dot && ENDINGS.contains(&ending.text.to_lowercase().as_str()) {
            let evidence = format!("\"{} {} {}\" reads like a link", host.text, dot.text, ending.text);
            findings.push(Finding::warning("allow_links", evidence).at(host.start, ending.end));
        }
    }
}

/// `example.com/x`, but not `end.Then` and not an e-mail address.
fn is_bare_link(word: &str) -> bool {
    let host = word.split(['/', '?', ':']).next().unwrap_or("");
    let Some((name, ending)) = host.rsplit_once('.') else { return false };
    !host.contains('@')
        && !name.is_empty()
        && name.chars().all(|c| c.is_alphanumeric() || c == '.' || c == '-')
        && name.chars().any(char::is_alphabetic)
        && ENDINGS.contains(&ending)
}

fn capitals(text: &str, policy: &Policy, findings: &mut Vec<Finding>) {
    let Some(most) = policy.max_caps_ratio else { return };
    // Only letters that have a case can shout.
    let cased = |c: &char| c.is_uppercase() || c.is_lowercase();
    let letters = text.chars().filter(cased).count();
    let capitals = text.chars().filter(|c| c.is_uppercase()).count();
    if letters < LEAST_LETTERS {
        return;
    }
    let ratio = capitals as f64 / letters as f64;
    if ratio > most {
        let evidence =
            format!("{:.0} % of the letters are capitals, at most {:.0} % may be", ratio * 100.0, most * 100.0);
        findings.push(Finding::error("max_caps_ratio", evidence));
    }
}
