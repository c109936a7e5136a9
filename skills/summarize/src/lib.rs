//! Summarises texts by their most central sentences, in the order in which they stand.
//! It never writes a sentence of its own: every sentence of the summary stands in a text, so nothing is made up.
//! Runs after trends were found; its `summary` is what a post is drafted from.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test may end with a panic"))]

mod choose;
mod graph;

use chimera_skill::prelude::*;
use textkit::{
    StopWords, Vector, Vocabulary, Weight, chars, clean, clusters, ends_sentence, key, round4, saturation, sentences,
    tokens, weight,
};

/// Most keywords that are returned.
const MAX_KEYWORDS: usize = 10;
/// Most sentences that are looked at; of more, a sample is taken evenly.
const MAX_SENTENCES: usize = 20_000;
/// Longest sentence that is quoted, in characters; longer ones are lists, tables or code.
const MAX_SENTENCE: usize = 600;

/// The texts to summarise.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The texts to summarise: posts, articles, notes. At most 20,000.
    pub texts: Vec<String>,
    /// How many sentences the summary has at most; 3 if absent.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 50))]
    pub max_sentences: usize,
    /// The topics that matter most: sentences about them are preferred.
    #[serde(default)]
    pub focus: Vec<String>,
}

/// The summary.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Output {
    /// The summary: its sentences, joined.
    pub summary: String,
    /// The sentences of the summary, in its order.
    pub sentences: Vec<Sentence>,
    /// The words that characterise the texts, the strongest first, at most 10.
    pub keywords: Vec<String>,
}

/// One sentence of the summary.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Sentence {
    /// The sentence, without links and hanging hashtags.
    pub text: String,
    /// How central the sentence is, compared with the most central one, 0 to 1.
    pub score: f64,
    /// Which of the texts the sentence is from, counted from 0.
    pub source: usize,
}

fn three() -> usize {
    3
}

/// One sentence that could be quoted.
#[derive(Debug)]
struct Candidate {
    text: String,
    source: usize,
    /// Its place within its text.
    place: usize,
    terms: Vec<u32>,
    vector: Vector,
    /// How many sentences say the same.
    copies: usize,
}

/// Summarises texts by extracting their most central sentences.
#[chimera_skill::skill]
pub fn summarize(ctx: &mut Context, input: Input) -> Result<Outcome<Output>, Failure> {
    check(&input)?;
    let mut vocabulary = Vocabulary::default();
    let candidates = candidates(&input.texts, &mut vocabulary);
    if candidates.is_empty() {
        return Err(Failure::invalid_input("no-sentences", "The texts have no sentence to summarise."));
    }
    ctx.progress(0.4, format!("weighing {} sentences", candidates.len()));
    let focus = focus_terms(&input.focus, &vocabulary);
    let keywords = keywords(&candidates, &vocabulary);
    let kept = graph::shortlist(candidates, &vocabulary, &focus);
    let scores = graph::centrality(&kept, &focus);
    ctx.progress(0.8, "choosing sentences");
    let chosen = choose::diverse(&kept, &scores, input.max_sentences);

    let sentences: Vec<Sentence> = chosen
        .iter()
        .map(|at| Sentence { text: kept[*at].text.clone(), score: round4(scores[*at]), source: kept[*at].source })
        .collect();
    let summary = sentences.iter().map(|sentence| closed(&sentence.text)).collect::<Vec<_>>().join(" ");
    let (confidence, evidence) = confidence(&kept, &chosen, &keywords, &focus, &input.focus);
    let output =
        Output { summary, sentences, keywords: keywords.iter().map(|id| vocabulary.surface(*id).to_owned()).collect() };
    let outcome = Outcome::new(output).confidence(confidence);
    Ok(evidence.into_iter().fold(outcome, Outcome::evidence))
}

fn check(input: &Input) -> Result<(), Failure> {
    if input.texts.iter().all(|text| text.trim().is_empty()) {
        return Err(Failure::invalid_input("no-texts", "There is no text to summarise; pass at least one."));
    }
    if input.texts.len() > 20_000 {
        return Err(Failure::invalid_input("too-many-texts", "More than 20,000 texts; pass a sample."));
    }
    if input.max_sentences == 0 || input.max_sentences > 50 {
        return Err(Failure::invalid_input(
            "max-sentences",
            format!("`max_sentences` is {}; it must be 1 to 50.", input.max_sentences),
        ));
    }
    Ok(())
}

/// The sentences that say something; of several that say the same, the first stands for all.
fn candidates(texts: &[String], vocabulary: &mut Vocabulary) -> Vec<Candidate> {
    let raw: Vec<(usize, usize, String)> = texts
        .iter()
        .enumerate()
        .flat_map(|(source, text)| {
            let cleaned = sentences(text).into_iter().map(clean).enumerate();
            cleaned.map(move |(place, sentence)| (source, place, sentence))
        })
        .filter(|(_, _, sentence)| sentence.chars().any(char::is_alphabetic) && chars(sentence) <= MAX_SENTENCE)
        .collect();
    let step = raw.len().div_ceil(MAX_SENTENCES).max(1);
    let raw: Vec<(usize, usize, String)> = raw.into_iter().step_by(step).collect();
    let tokenised: Vec<_> = raw.iter().map(|(_, _, sentence)| tokens(sentence)).collect();
    let stop = StopWords::for_text(tokenised.iter().flatten().map(|token| token.text));
    let terms: Vec<Vec<u32>> = tokenised.iter().map(|tokens| vocabulary.add(tokens, &stop)).collect();
    let shingles: Vec<Vec<u64>> =
        terms.iter().map(|terms| terms.iter().map(|term| u64::from(*term) + 1).collect()).collect();
    let first = clusters(&shingles);
    let mut copies = vec![0_usize; first.len()];
    for at in &first {
        copies[*at] += 1;
    }
    // One content word is an interjection, not a statement; if there is nothing else, it has to do.
    let least = if terms.iter().any(|terms| terms.len() >= 3) { 3 } else { 1 };
    raw.into_iter()
        .zip(terms)
        .enumerate()
        .filter(|(at, (_, terms))| first[*at] == *at && terms.len() >= least)
        .map(|(at, ((source, place, text), terms))| {
            let vector = vocabulary.vector(&terms);
            Candidate { text, source, place, terms, vector, copies: copies[at] }
        })
        .collect()
}

/// The terms of the topics that occur in the texts. `#RiverCleanup` also means its two words.
fn focus_terms(focus: &[String], vocabulary: &Vocabulary) -> Vec<u32> {
    let mut found: Vec<u32> = focus
        .iter()
        .flat_map(|topic| {
            let spaced = split_camel(topic);
            let words = tokens(topic).into_iter().map(|token| key(token.text));
            let parts: Vec<String> = words.chain(tokens(&spaced).into_iter().map(|token| key(token.text))).collect();
            parts
        })
        .filter_map(|word| vocabulary.id(&word))
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

fn split_camel(topic: &str) -> String {
    let mut spaced = String::with_capacity(topic.len() + 4);
    let mut small = false;
    for c in topic.chars() {
        if c.is_uppercase() && small {
            spaced.push(' ');
        }
        small = c.is_lowercase();
        spaced.push(if c == '_' || c == '#' { ' ' } else { c });
    }
    spaced
}

/// The strongest terms: those that many statements use and that are not the background of all of them.
fn keywords(candidates: &[Candidate], vocabulary: &Vocabulary) -> Vec<u32> {
    let mut weights = std::collections::BTreeMap::<u32, f64>::new();
    for candidate in candidates {
        let voices = 1.0 + (candidate.copies as f64).ln();
        for (term, share) in candidate.vector.iter() {
            *weights.entry(term).or_default() += share * voices;
        }
    }
    let mut ranked: Vec<(u32, f64)> = weights.into_iter().collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| vocabulary.key_of(a.0).cmp(vocabulary.key_of(b.0))));
    // "Great" and "bought" characterise nothing, unless there is nothing else.
    let telling: Vec<u32> = ranked
        .iter()
        .map(|(term, _)| *term)
        .filter(|term| weight(vocabulary.surface(*term)) != Weight::Filler)
        .take(MAX_KEYWORDS)
        .collect();
    if telling.is_empty() { ranked.into_iter().take(MAX_KEYWORDS).map(|(term, _)| term).collect() } else { telling }
}

/// The sentence with a full stop if it has no end of its own.
fn closed(sentence: &str) -> String {
    if ends_sentence(sentence) {
        return sentence.to_owned();
    }
    format!("{}.", sentence.trim_end_matches([',', ';', ':', '-', '–', '—', ' ']))
}

/// How well the summary stands for the texts: how much of their vocabulary's weight it carries, whether it speaks of the
/// focus, and whether there was enough to summarise.
fn confidence(
    kept: &[Candidate],
    chosen: &[usize],
    keywords: &[u32],
    focus: &[u32],
    wanted: &[String],
) -> (f64, Vec<String>) {
    let said: std::collections::BTreeSet<u32> = chosen.iter().flat_map(|at| kept[*at].terms.iter().copied()).collect();
    let covered = keywords.iter().filter(|term| said.contains(term)).count();
    let coverage = covered as f64 / keywords.len().max(1) as f64;
    let complete = chosen.len() == kept.len();
    let words: usize = kept.iter().map(|candidate| candidate.terms.len()).sum();
    let enough = saturation(words as f64, 6.0);
    // One sentence cannot carry as much as three; more than two fifths of the keywords is never needed.
    let expected = (0.05 + 0.12 * chosen.len() as f64).min(0.4);
    // The focus may be absent from the texts (then nothing can be said about it) or only from the summary.
    let focused = match (wanted.is_empty(), focus.is_empty()) {
        (true, _) => 1.0,
        (false, true) => 0.6,
        (false, false) => {
            // Each sentence can be expected to speak of one thing.
            let hits = focus.iter().filter(|term| said.contains(term)).count();
            let hoped = focus.len().min(chosen.len().max(2));
            0.75 + 0.25 * (hits as f64 / hoped as f64).min(1.0)
        }
    };
    let carries = if complete { 1.0 } else { 0.6 + 0.4 * (coverage / expected).min(1.0) };
    let evidence = vec![
        format!("{} of {} usable sentences", chosen.len(), kept.len()),
        format!("the summary uses {covered} of {} keywords", keywords.len()),
        if wanted.is_empty() {
            "no focus was asked for".to_owned()
        } else {
            format!("{} words of the focus occur in the texts", focus.len())
        },
    ];
    (round4((0.96 * carries * focused * enough).clamp(0.0, 1.0)), evidence)
}

#[cfg(test)]
mod tests;
