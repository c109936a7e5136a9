//! Drafts one post from a summary: what the brief asks for, within a length limit, without cutting a word.
//! It never writes a fact of its own: it chooses sentences of the summary, shortens them, and adds hashtags of the topics.
//! Runs between summarising and the policy check.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test may end with a panic"))]

mod compose;
mod hashtags;
mod shorten;

use std::collections::{BTreeMap, BTreeSet};

use chimera_skill::prelude::*;
use textkit::{Kind, StopWords, chars, clean, ends_sentence, key, round4, saturation, sentences, tokens};

/// The least limit that leaves room for a statement.
const LEAST_CHARS: usize = 20;
/// Most sentences of the summary that are looked at.
const MAX_SENTENCES: usize = 200;

/// What to write.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The summary to draft the post from; every statement of the post comes from here.
    pub summary: String,
    /// The topics the post is about: they steer the choice and become its hashtags.
    #[serde(default)]
    pub topics: Vec<String>,
    /// What the post should say and for whom, in the campaign owner's words.
    #[serde(default)]
    pub brief: Option<String>,
    /// The longest the post may be, in characters; 280 if absent.
    #[serde(default = "tweet")]
    #[schemars(range(min = 20, max = 10_000))]
    pub max_chars: usize,
    /// How many hashtags to add at most, if they fit; 2 if absent.
    #[serde(default = "two")]
    #[schemars(range(max = 30))]
    pub hashtags: usize,
}

/// The drafted post.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Output {
    /// The text of the post, ready to be checked and published.
    pub text: String,
    /// The length of the post in characters.
    pub chars: usize,
}

fn tweet() -> usize {
    280
}

fn two() -> usize {
    2
}

/// What counts in this draft: each word of the summary with its weight, and what was asked for.
#[derive(Debug, Default)]
struct Weights {
    of: BTreeMap<String, f64>,
    asked: BTreeSet<String>,
    stop: Option<StopWords>,
}

/// Drafts a social media post that fits a brief and a length limit.
#[chimera_skill::skill]
pub fn draft_post(ctx: &mut Context, input: Input) -> Result<Outcome<Output>, Failure> {
    if input.max_chars < LEAST_CHARS {
        return Err(Failure::invalid_input(
            "limit-too-small",
            format!("{} characters leave no room for a post; allow at least {LEAST_CHARS}.", input.max_chars),
        ));
    }
    let statements: Vec<String> =
        sentences(&input.summary).into_iter().map(clean).filter(|it| !it.is_empty()).take(MAX_SENTENCES).collect();
    let weights = weigh(&statements, &input);
    if weights.of.is_empty() {
        return Err(Failure::invalid_input("empty-summary", "The summary has no words to make a post of."));
    }
    let tags = hashtags::from_topics(&input.topics, input.hashtags.min(30));
    // Hashtags may take a quarter of the room, never more: the statement comes first.
    let wanted = tags.iter().map(|tag| chars(tag) + 1).sum::<usize>().min(input.max_chars / 4);
    let draft = compose::best(&statements, &weights, input.max_chars - wanted)
        .or_else(|| compose::best(&statements, &weights, input.max_chars));
    let Some(draft) = draft else {
        return Err(Failure::invalid_input(
            "nothing-fits",
            format!("Not even the first words of the summary fit into {} characters.", input.max_chars),
        ));
    };
    let text = hashtags::add(&draft.text, &tags, input.max_chars);
    debug!(ctx, "{} sentences, {} shortened", draft.sentences, draft.shortened);
    let (confidence, evidence) = confidence(&text, &draft, &weights, &input);
    let output = Output { chars: chars(&text), text };
    let outcome = Outcome::new(output).confidence(confidence);
    Ok(evidence.into_iter().fold(outcome, Outcome::evidence))
}

/// Words of a brief that speak of the post, not of its subject.
const ABOUT_THE_POST: &str = "announce article audience brief briefly call campaign caption character characters clear content customers draft engaging english exciting followers formal friendly fun hashtag hashtags headline informative informal invite limit linkedin mastodon mention message neutral news people play post posts professional promote public publish readers say sentence sentences share short social summarise summarize summary tell text tone trend trending trends tweet twitter update word words write writing";

/// Weighs the words of the summary: often said counts, asked for by brief or topic counts more.
fn weigh(statements: &[String], input: &Input) -> Weights {
    let tokenised: Vec<_> = statements.iter().map(|statement| tokens(statement)).collect();
    let stop = StopWords::for_text(tokenised.iter().flatten().map(|token| token.text));
    let mut of = BTreeMap::<String, f64>::new();
    for words in &tokenised {
        let distinct: BTreeSet<String> = words.iter().filter_map(|token| content(token, &stop)).collect();
        for word in distinct {
            *of.entry(word).or_default() += 1.0;
        }
    }
    for weight in of.values_mut() {
        *weight = 1.0 + weight.ln();
    }
    let ignored: BTreeSet<String> = ABOUT_THE_POST.split(' ').map(key).collect();
    let words_of = |text: &str| tokens(text).iter().filter_map(|token| content(token, &stop)).collect::<BTreeSet<_>>();
    let brief: BTreeSet<String> =
        input.brief.as_deref().map(words_of).unwrap_or_default().difference(&ignored).cloned().collect();
    let topics: BTreeSet<String> = input.topics.iter().flat_map(|topic| words_of(&hashtags::spaced(topic))).collect();
    for (word, weight) in &mut of {
        if brief.contains(word) {
            *weight *= 3.0;
        }
        if topics.contains(word) {
            *weight *= 2.0;
        }
    }
    let asked = brief.union(&topics).filter(|word| of.contains_key(*word)).cloned().collect();
    Weights { of, asked, stop: Some(stop) }
}

impl Weights {
    /// The content words of a text that the summary has.
    fn words(&self, text: &str) -> BTreeSet<String> {
        let Some(stop) = &self.stop else { return BTreeSet::new() };
        tokens(text).iter().filter_map(|token| content(token, stop)).filter(|word| self.of.contains_key(word)).collect()
    }

    fn weight(&self, word: &str) -> f64 {
        self.of.get(word).copied().unwrap_or(0.0)
    }
}

fn content(token: &textkit::Token<'_>, stop: &StopWords) -> Option<String> {
    let usable = matches!(token.kind, Kind::Word | Kind::Hashtag)
        && token.text.chars().any(char::is_alphanumeric)
        && !stop.contains(token.text);
    usable.then(|| key(token.text))
}

/// How well the draft does what was asked: whether it speaks of what brief and topics name, how much of the summary it
/// carries for its length, and whether sentences had to be cut.
fn confidence(text: &str, draft: &compose::Draft, weights: &Weights, input: &Input) -> (f64, Vec<String>) {
    let said = weights.words(text);
    let total: f64 = weights.of.values().sum();
    let carried: f64 = said.iter().map(|word| weights.weight(word)).sum::<f64>() / total.max(f64::MIN_POSITIVE);
    // A post of half the summary's length can carry half of it; what counts is whether it chose the better half.
    let room = (chars(text) as f64 / chars(&input.summary).max(1) as f64).clamp(0.05, 1.0);
    let chosen = (carried / room).min(1.0);
    let asked = weights.asked.len();
    let answered = weights.asked.iter().filter(|word| said.contains(*word)).count();
    // Two of the things asked for are as much as one short post can be expected to name.
    let answers = if asked == 0 { 1.0 } else { (answered as f64 / asked.min(2) as f64).min(1.0) };
    let unanswered_brief = asked == 0 && (input.brief.is_some() || !input.topics.is_empty());
    let whole = if draft.cut { 0.75 } else { 1.0 };
    let enough = saturation(said.len() as f64, 2.0);
    let fit = if unanswered_brief { 0.7 } else { 0.6 + 0.4 * answers };
    let confidence = 0.95 * fit * (0.8 + 0.2 * chosen) * whole * enough;
    let mut evidence = vec![
        format!(
            "{} of {} characters, {} sentences, {} of them shortened",
            chars(text),
            input.max_chars,
            draft.sentences,
            draft.shortened
        ),
        format!("carries {:.0} % of the summary's weight", carried * 100.0),
    ];
    if unanswered_brief {
        evidence.push("the summary says nothing about what brief and topics name".to_owned());
    } else if asked > 0 {
        evidence.push(format!("names {answered} of the {asked} words of brief and topics that the summary knows"));
    }
    if draft.cut {
        evidence.push("no sentence fitted whole; the post ends with an ellipsis".to_owned());
    }
    (round4(confidence.clamp(0.0, 1.0)), evidence)
}

/// The text as a sentence: with a capital at its start and a full stop if it has no end of its own.
fn closed(text: &str) -> String {
    let trimmed = text.trim_end_matches([',', ';', ':', '-', '–', '—', ' ']);
    let ended = if ends_sentence(trimmed) { trimmed.to_owned() } else { format!("{trimmed}.") };
    let first = ended.split_whitespace().next().unwrap_or("");
    // Names such as iPhone keep their small letter, and so do links and the like.
    if first.chars().skip(1).any(|c| c.is_uppercase() || c == '.' || c == '/') && !first.ends_with('.') {
        return ended;
    }
    let mut letters = ended.chars();
    match letters.next() {
        Some(letter) => letter.to_uppercase().chain(letters).collect(),
        None => ended,
    }
}

#[cfg(test)]
mod tests;
