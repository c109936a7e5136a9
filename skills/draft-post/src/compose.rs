//! Chooses which sentences to say, and how short, so that the most of what counts is said within the limit.
//! It tries every combination of the best few sentences and their shorter forms; there are few enough. Called once or twice.

use std::collections::BTreeSet;

use textkit::chars;

use crate::Weights;
use crate::shorten::variants;

/// How many of the best sentences are combined.
const COMBINED: usize = 6;
/// A post of more sentences than this is an article.
const MOST_SENTENCES: usize = 4;

/// The statement of a post.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) text: String,
    pub(crate) sentences: usize,
    /// How many sentences lost a part.
    pub(crate) shortened: usize,
    /// True when no whole sentence fitted and one was ended with an ellipsis.
    pub(crate) cut: bool,
}

struct Choice {
    text: String,
    chars: usize,
    words: BTreeSet<String>,
    shortened: bool,
}

#[derive(Clone, Default)]
struct Combination {
    picks: Vec<(usize, usize)>,
    chars: usize,
    value: f64,
}

/// The best statement of at most `max_chars` characters; none when not even a few words fit.
pub(crate) fn best(statements: &[String], weights: &Weights, max_chars: usize) -> Option<Draft> {
    let options = options(statements, weights, max_chars);
    let mut best = Combination::default();
    search(&options, weights, max_chars, &Combination::default(), 0, &mut best);
    if best.picks.is_empty() {
        return cut(statements, weights, max_chars);
    }
    let picked: Vec<&Choice> = best.picks.iter().map(|(sentence, form)| &options[*sentence][*form]).collect();
    Some(Draft {
        text: picked.iter().map(|choice| choice.text.as_str()).collect::<Vec<_>>().join(" "),
        sentences: picked.len(),
        shortened: picked.iter().filter(|choice| choice.shortened).count(),
        cut: false,
    })
}

/// The best sentences, in their order, each with those of its forms that fit by themselves.
fn options(statements: &[String], weights: &Weights, max_chars: usize) -> Vec<Vec<Choice>> {
    let mut ranked: Vec<(f64, usize)> = statements
        .iter()
        .enumerate()
        .map(|(at, statement)| {
            let words = weights.words(statement);
            let weight: f64 = words.iter().map(|word| weights.weight(word)).sum();
            // Long sentences say more only because they are long.
            (weight / (8.0 + words.len() as f64).sqrt() * early(at), at)
        })
        .collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let mut chosen: Vec<usize> = ranked.into_iter().map(|(_, at)| at).take(COMBINED).collect();
    chosen.sort_unstable();
    chosen
        .into_iter()
        .map(|at| {
            variants(&statements[at])
                .into_iter()
                .enumerate()
                .map(|(form, text)| Choice {
                    chars: chars(&text),
                    words: weights.words(&text),
                    shortened: form > 0,
                    text,
                })
                .filter(|choice| choice.chars <= max_chars)
                .collect()
        })
        .collect()
}

/// What stands first in a summary is mostly what matters.
fn early(at: usize) -> f64 {
    1.0 + 0.2 / (1.0 + at as f64)
}

/// Every combination: each sentence in one of its forms, or not at all.
fn search(
    options: &[Vec<Choice>],
    weights: &Weights,
    max_chars: usize,
    so_far: &Combination,
    next: usize,
    best: &mut Combination,
) {
    if !so_far.picks.is_empty() && so_far.value > best.value {
        *best = so_far.clone();
    }
    if next == options.len() || so_far.picks.len() == MOST_SENTENCES {
        return;
    }
    search(options, weights, max_chars, so_far, next + 1, best);
    for (form, choice) in options[next].iter().enumerate() {
        let chars = so_far.chars + choice.chars + usize::from(!so_far.picks.is_empty());
        if chars > max_chars {
            continue;
        }
        let said: BTreeSet<&String> =
            so_far.picks.iter().flat_map(|(sentence, form)| &options[*sentence][*form].words).collect();
        let new: f64 = choice.words.iter().filter(|word| !said.contains(word)).map(|word| weights.weight(word)).sum();
        // Each further sentence and each shortened one must earn its place.
        let price = if so_far.picks.is_empty() { 0.0 } else { 1.0 } + if choice.shortened { 0.4 } else { 0.0 };
        let mut longer = so_far.clone();
        longer.picks.push((next, form));
        longer.chars = chars;
        longer.value += new * early(next) - price;
        search(options, weights, max_chars, &longer, next + 1, best);
    }
}

/// The beginning of the best sentence, ended at a word with an ellipsis. At least three words, or it says nothing.
fn cut(statements: &[String], weights: &Weights, max_chars: usize) -> Option<Draft> {
    let weight = |statement: &String| {
        weights.words(statement).iter().map(|word| weights.weight(word)).sum::<f64>()
            / (chars(statement).max(1) as f64).sqrt()
    };
    let best = statements.iter().rev().max_by(|a, b| weight(a).total_cmp(&weight(b)))?;
    let shortest = variants(best).pop()?;
    let mut text = String::new();
    let mut length = 0;
    let mut words = 0;
    for word in shortest.split_whitespace() {
        let more = chars(word) + usize::from(words > 0);
        // One character stays free for the ellipsis.
        if length + more + 1 > max_chars {
            break;
        }
        if words > 0 {
            text.push(' ');
        }
        text.push_str(word);
        length += more;
        words += 1;
    }
    let text = text.trim_end_matches(|c: char| !c.is_alphanumeric() && !matches!(c, ')' | '"' | '”' | '%')).to_owned();
    if words < 3 || text.is_empty() {
        return None;
    }
    Some(Draft { text: format!("{text}…"), sentences: 1, shortened: 1, cut: true })
}
