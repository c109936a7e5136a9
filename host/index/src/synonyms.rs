//! Everyday words that mean nearly the same, for goals written by people who do not know the skills' names.
//!
//! It is a small table of office English, no thesaurus: a word that is not in it still matches itself. Called by
//! [`crate::corpus`] for documents and queries alike.

use crate::words::{Word, stem};
use std::collections::HashMap;
use std::sync::OnceLock;

/// A group of words that mean nearly the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Concept(pub(crate) u16);

/// One group a line: single words first, then after `|` phrases, whose words may have up to two others between them.
const GROUPS: [&str; 36] = [
    "find search discover detect spot locate identify seek hunt explore lookup uncover | look for, look up, see what, figure out, find out",
    "trend trending popular viral buzz hot hype hashtag rising topic discuss discussion conversation chatter talk | talking about, people talk, going around, on everyone mind",
    "summarize summary condense shorten abridge digest recap tldr synopsis gist overview compress | boil down, sum up, cut down, in short, key points, main points, short version, in brief",
    "write draft compose author formulate prepare create generate produce copywriting | write up, come up with, put together, put into words",
    "post tweet message status caption announcement toot blog microblog",
    "check verify validate inspect examine review audit ensure confirm screen vet assess proofread | make sure, look over, go over, double check",
    "policy rule guideline regulation compliance comply compliant conform obey law legal allowed forbidden prohibited banned violation breach violate | house style, code of conduct, in line with",
    "publish release share broadcast submit upload launch announce | put online, go live, put out, send out, put up, make public, get out there, bring online",
    "translate translation localize language | other language",
    "image picture photo illustration graphic photograph drawing",
    "email mail inbox letter newsletter",
    "pay payment invoice bill charge purchase buy checkout",
    "delete remove erase purge discard wipe | get rid, throw away, take down",
    "convert transform change reformat export",
    "schedule calendar appointment meeting reminder agenda",
    "count tally total statistics measure calculate compute sum | add up, how many",
    "classify categorize label tag sort cluster organize",
    "sentiment mood opinion feeling emotion attitude | how people feel",
    "extract parse scrape pull | pick out, take out",
    "compare diff difference contrast versus",
    "text document article content passage prose copy",
    "people audience user public customer community folks crowd readers",
    "save store keep remember archive record",
    "fetch download retrieve load collect gather | get hold",
    "reply answer respond response",
    "fix repair correct mend improve",
    "error bug fault mistake problem defect",
    "price cost fee rate",
    "rank score rate prioritize order | best first",
    "explain describe clarify interpret",
    "notify alert warn inform remind",
    "merge combine join unite aggregate",
    "chart plot graph visualize diagram",
    "monitor watch track observe follow | keep an eye",
    "short brief concise compact small tiny",
    "plan strategy roadmap outline",
];

const IRREGULAR: [(&str, &str); 16] = [
    ("written", "writ"),
    ("wrote", "writ"),
    ("found", "find"),
    ("sent", "send"),
    ("made", "mak"),
    ("said", "say"),
    ("told", "tell"),
    ("seen", "see"),
    ("shown", "show"),
    ("kept", "keep"),
    ("chosen", "choos"),
    ("chose", "choos"),
    ("drew", "draw"),
    ("drawn", "draw"),
    ("news", "news"),
    ("people", "people"),
];

/// The stem of a form that no ending explains.
pub(crate) fn irregular(word: &str) -> Option<&'static str> {
    IRREGULAR.iter().find(|(form, _)| *form == word).map(|(_, stem)| *stem)
}

struct Table {
    words: HashMap<String, Vec<Concept>>,
    phrases: Vec<(Vec<String>, Concept)>,
}

fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut table = Table { words: HashMap::new(), phrases: Vec::new() };
        for (number, group) in (0_u16..).zip(GROUPS) {
            let concept = Concept(number);
            let (singles, phrases) = group.split_once('|').unwrap_or((group, ""));
            for word in singles.split_whitespace() {
                let concepts = table.words.entry(stem(word)).or_default();
                if !concepts.contains(&concept) {
                    concepts.push(concept);
                }
            }
            let stems = |phrase: &str| phrase.split_whitespace().map(stem).collect::<Vec<_>>();
            table.phrases.extend(phrases.split(',').map(stems).filter(|words| !words.is_empty()).map(|w| (w, concept)));
        }
        table
    })
}

/// The groups a stem belongs to.
pub(crate) fn concepts_of(stem: &str) -> &'static [Concept] {
    table().words.get(stem).map_or(&[], Vec::as_slice)
}

/// Words that may stand between two words of a phrase.
const MAX_GAP: usize = 2;

/// The phrases in a text: where each begins and ends, and its group.
pub(crate) fn phrases_in(words: &[Word]) -> Vec<(usize, usize, Concept)> {
    let mut found = Vec::new();
    for (phrase, concept) in &table().phrases {
        for start in 0..words.len() {
            let is_known = found.iter().any(|(_, _, known)| known == concept);
            if let Some(end) = phrase_end(words, start, phrase).filter(|_| !is_known) {
                found.push((start, end, *concept));
                break;
            }
        }
    }
    found
}

fn phrase_end(words: &[Word], start: usize, phrase: &[String]) -> Option<usize> {
    let (first, rest) = phrase.split_first()?;
    if words.get(start)?.stem != *first {
        return None;
    }
    rest.iter().try_fold(start, |at, wanted| {
        (at + 1..=at + 1 + MAX_GAP).find(|next| words.get(*next).is_some_and(|word| word.stem == *wanted))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::words;

    #[test]
    fn words_and_phrases_name_their_group() {
        let group = |text: &str| concepts_of(&stem(text)).first().copied();
        assert_eq!(group("condensed"), group("summary"));
        assert_eq!(group("obeys"), group("policies"));
        assert_ne!(group("find"), group("publish"));
        let boil = phrases_in(&words("please boil it all down", 100));
        assert_eq!(boil.first().map(|found| (found.0, found.1)), Some((1, 4)));
        assert!(phrases_in(&words("boil the eggs for nine minutes down there", 100)).is_empty());
    }
}
