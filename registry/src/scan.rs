//! Looks at a skill's texts and bytes for what a human should know before trusting it.
//!
//! Every finding carries its rule and evidence and none of them vetoes: blind refusals without reasons have burnt
//! people. It never prints a secret that it finds. Called by [`crate::Registry`] at installation.

use chimera_core::manifest::Manifest;
use chimera_core::skill::SkillName;
use chimera_core::text::{printable, truncated};
use serde_json::Value;
use std::fmt;

/// What kind of finding it is. The codes are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FindingRule {
    /// Something shaped like a credential.
    SecretLike,
    /// A name that is easily mistaken for an installed one.
    NameLookalike,
    /// Text that talks to a language model instead of a human.
    PromptInjection,
    /// Characters that are not seen, or turn the writing around.
    HiddenText,
}

impl FindingRule {
    /// The rule's stable kebab-case code.
    pub const fn code(self) -> &'static str {
        match self {
            Self::SecretLike => "secret-like",
            Self::NameLookalike => "name-lookalike",
            Self::PromptInjection => "prompt-injection",
            Self::HiddenText => "hidden-text",
        }
    }
}

/// Something a human should look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Why.
    pub rule: FindingRule,
    /// Where and what; safe to print.
    pub evidence: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule.code(), self.evidence)
    }
}

/// Most findings of one skill.
const MAX_FINDINGS: usize = 32;

/// Everything found in a component, its manifest and its name.
pub fn scan<'n>(wasm: &[u8], manifest: &Manifest, installed: impl Iterator<Item = &'n SkillName>) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(secrets(wasm));
    for (field, text) in texts(manifest) {
        findings.extend(injection(&field, &text));
        findings.extend(hidden(&field, &text));
    }
    findings.extend(lookalike(&manifest.skill.name, installed));
    findings.truncate(MAX_FINDINGS);
    findings
}

/// The texts of a manifest that a human or a language model will read.
fn texts(manifest: &Manifest) -> Vec<(String, String)> {
    let skill = &manifest.skill;
    let mut texts = vec![("skill.summary".to_owned(), skill.summary.clone())];
    texts.extend(skill.keywords.iter().map(|text| ("skill.keywords".to_owned(), text.clone())));
    texts.extend(skill.examples.iter().map(|text| ("skill.examples".to_owned(), text.clone())));
    for slot in &manifest.capabilities.mcp {
        texts.push((format!("capabilities.mcp.{}.reason", slot.slot), slot.reason.clone()));
    }
    for (field, schema) in [("io.input", &manifest.io.input), ("io.output", &manifest.io.output)] {
        describe_schema(field, schema, &mut texts, 0);
    }
    texts
}

fn describe_schema(field: &str, schema: &Value, texts: &mut Vec<(String, String)>, depth: u32) {
    if depth > 64 || texts.len() > 4096 {
        return;
    }
    match schema {
        Value::Object(map) => {
            for (key, value) in map {
                match value {
                    Value::String(text) if key == "description" || key == "title" => {
                        texts.push((field.to_owned(), text.clone()));
                    }
                    other => describe_schema(field, other, texts, depth + 1),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| describe_schema(field, item, texts, depth + 1)),
        _ => {}
    }
}

/// How credentials begin, how long they are at least after that, and what they are.
const SECRET_SHAPES: [(&str, usize, &str); 9] = [
    ("-----BEGIN PRIVATE KEY", 0, "a private key"),
    ("-----BEGIN RSA PRIVATE KEY", 0, "a private key"),
    ("-----BEGIN EC PRIVATE KEY", 0, "a private key"),
    ("-----BEGIN OPENSSH PRIVATE KEY", 0, "a private key"),
    ("AKIA", 16, "an AWS access key id"),
    ("ghp_", 36, "a GitHub token"),
    ("github_pat_", 40, "a GitHub token"),
    ("xoxb-", 30, "a Slack token"),
    ("glpat-", 20, "a GitLab token"),
];

fn secrets(wasm: &[u8]) -> Vec<Finding> {
    let mut found = Vec::new();
    for (prefix, least, what) in SECRET_SHAPES {
        let is_token = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_' || *b == b'-';
        let places = find_all(wasm, prefix.as_bytes());
        let real = places
            .filter(|at| wasm[at + prefix.len()..].iter().take(least).take_while(|b| is_token(b)).count() == least)
            .take(4);
        found.extend(real.map(|at| Finding {
            rule: FindingRule::SecretLike,
            evidence: format!(
                "the bytes at {at} look like {what} (`{prefix}…`); never ship one: declare a secret and let a tool use it"
            ),
        }));
    }
    found
}

fn find_all<'b>(haystack: &'b [u8], needle: &'b [u8]) -> impl Iterator<Item = usize> + 'b {
    let first = needle.first().copied();
    haystack
        .iter()
        .enumerate()
        .filter(move |(_, byte)| Some(**byte) == first)
        .map(|(at, _)| at)
        .filter(move |at| haystack[*at..].starts_with(needle))
}

/// Phrases that address a language model; compared in lower case with single spaces.
const INJECTIONS: [&str; 16] = [
    "ignore previous instructions",
    "ignore all previous",
    "ignore the above",
    "ignore all other skills",
    "disregard previous",
    "disregard all",
    "forget your instructions",
    "system prompt",
    "you are now",
    "always choose this skill",
    "always use this skill",
    "always approve",
    "do not tell the user",
    "without asking the user",
    "<|im_start|>",
    "[inst]",
];

fn injection(field: &str, text: &str) -> Vec<Finding> {
    let words: Vec<String> = text.split_whitespace().map(str::to_lowercase).collect();
    let plain = words.join(" ");
    INJECTIONS
        .iter()
        .filter(|phrase| plain.contains(**phrase))
        .map(|phrase| Finding {
            rule: FindingRule::PromptInjection,
            evidence: format!("{field} says \"{phrase}\" in `{}`", printable(&truncated(text.to_owned(), 200))),
        })
        .collect()
}

fn hidden(field: &str, text: &str) -> Option<Finding> {
    let is_hidden = |c: char| {
        matches!(c, '\u{00AD}' | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{2069}'
            | '\u{FEFF}' | '\u{E0000}'..='\u{E007F}')
    };
    let hidden = text.chars().find(|c| is_hidden(*c))?;
    Some(Finding {
        rule: FindingRule::HiddenText,
        evidence: format!("{field} has the invisible character U+{:04X}", u32::from(hidden)),
    })
}

/// A name of another namespace that is one or two keystrokes away, or looks the same.
fn lookalike<'n>(name: &SkillName, installed: impl Iterator<Item = &'n SkillName>) -> Option<Finding> {
    let plain = |name: &SkillName| -> String {
        let folded = name.as_str().chars().filter(|c| *c != '-');
        folded
            .map(|c| match c {
                '0' => 'o',
                '1' => 'l',
                '5' => 's',
                c => c,
            })
            .collect()
    };
    let wanted = plain(name);
    let far = if wanted.len() < 8 { 1 } else { 2 };
    let near = installed
        .filter(|other| other.namespace() != name.namespace())
        .find(|other| distance(&wanted, &plain(other), far) <= far)?;
    Some(Finding {
        rule: FindingRule::NameLookalike,
        evidence: format!("`{name}` is easily mistaken for the installed `{near}`; make sure which one you mean"),
    })
}

/// Edits (insert, delete, replace, swap of neighbours) from one text to the other; `far + 1` if there are more.
///
/// Optimal string alignment (Damerau, 1964).
fn distance(a: &str, b: &str, far: usize) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len().abs_diff(b.len()) > far {
        return far + 1;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replace = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replace.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()].min(far + 1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn name(text: &str) -> SkillName {
        text.parse().unwrap()
    }

    #[test]
    fn lookalikes_are_found_across_namespaces_only() {
        let installed = [name("chimera/summarize"), name("acme/echo")];
        let hit = |text: &str| lookalike(&name(text), installed.iter()).map(|finding| finding.evidence);
        assert!(hit("chimaera/summarize").unwrap().contains("chimera/summarize"));
        assert!(hit("ch1mera/summarize").is_some());
        assert!(hit("cihmera/summarize").unwrap().contains("chimera/summarize"));
        assert!(hit("acne/echo").is_some());
        assert!(hit("acme/echos").is_none(), "the same publisher");
        assert!(hit("other/summarize").is_none());
    }

    #[test]
    fn a_secret_is_found_but_not_shown() {
        let token = format!("xx{}_{}yy", "ghp", "a1".repeat(18));
        let findings = secrets(token.as_bytes());
        assert_eq!(findings.len(), 1);
        assert!(!findings[0].evidence.contains("a1a1"));
        assert!(secrets(b"ghp_short").is_empty());
    }

    #[test]
    fn injections_are_found_through_odd_spacing() {
        let found = injection("skill.summary", "Please  IGNORE previous\u{a0}instructions.");
        assert_eq!(found[0].rule, FindingRule::PromptInjection);
        assert!(injection("skill.summary", "Ignores stop words in posts").is_empty());
        assert!(hidden("skill.summary", "pay\u{202E}lap").is_some());
        assert!(hidden("skill.summary", "Zusammenfassung für Übersichten").is_none());
    }

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance("abcd", "abdc", 2), 1);
        assert_eq!(distance("abcd", "abcd", 2), 0);
        assert_eq!(distance("abcd", "axcx", 2), 2);
        assert_eq!(distance("abcd", "wxyz", 2), 3);
    }
}
