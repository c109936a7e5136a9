//! Ranks the phrases of a corpus and merges those that are about the same thing.
//! The score is a damped TF-IDF: voices that mention the phrase, times how special it is, how recent, how widely said.
//! Called once for each run.

use textkit::round4;

use crate::corpus::{Corpus, Term};

/// How many of the best phrases are looked at when topics are merged.
const CANDIDATES: usize = 400;

/// A topic: one or more phrases that the same posts use.
#[derive(Debug)]
pub(crate) struct Topic {
    /// How it is written most often.
    pub(crate) name: String,
    /// How strong it is; comparable within one run.
    pub(crate) score: f64,
    /// The weight of the posts behind it.
    pub(crate) weight: f64,
    /// The posts that mention it, the most representative first.
    pub(crate) posts: Vec<usize>,
    /// Number of different texts among them.
    pub(crate) voices: usize,
}

struct Group<'a> {
    label: &'a Term,
    members: Vec<&'a Term>,
    posts: Vec<usize>,
    score: f64,
}

/// The strongest topics, strongest first, at most `top`.
pub(crate) fn topics(corpus: &Corpus, top: usize) -> Vec<Topic> {
    let window = Window::of(corpus);
    let mut ranked: Vec<(f64, &Term)> = candidates(corpus)
        .into_iter()
        .map(|term| (score(corpus, term, window), term))
        .filter(|(score, _)| *score > 0.0)
        .collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.surface().cmp(b.1.surface())));
    ranked.truncate(CANDIDATES);

    let mut groups: Vec<Group<'_>> = Vec::new();
    for (score, term) in ranked {
        match groups.iter_mut().find(|group| same_topic(group, term)) {
            Some(group) => join(group, term),
            None => groups.push(Group { label: term, members: vec![term], posts: term.posts.clone(), score }),
        }
    }
    groups.truncate(top);
    groups.iter().map(|group| finish(corpus, group)).collect()
}

/// The phrases that enough different texts use; if there are none, those of a single text.
fn candidates(corpus: &Corpus) -> Vec<&Term> {
    let least = |voices: usize| {
        corpus
            .terms()
            .iter()
            .filter(|term| term.posts.len() >= voices && corpus.voices_of(&term.posts) >= voices)
            .collect::<Vec<_>>()
    };
    let shared = least(2.max(corpus.len() / 500));
    if shared.is_empty() { least(1) } else { shared }
}

fn score(corpus: &Corpus, term: &Term, window: Option<Window>) -> f64 {
    let weight: f64 = term.posts.iter().map(|at| corpus.weight(*at)).sum();
    // What every post says is the background, not a trend; and being said twice as often is not being twice the trend.
    let rarity = (1.0 + corpus.len() as f64 / term.posts.len() as f64).ln();
    let burst = window.map_or(1.0, |window| window.burst(corpus, &term.posts));
    let diversity = corpus.diversity(&term.posts).sqrt();
    let form = match (&term.pair, term.tagged) {
        (Some(_), _) => 1.5,
        (None, tagged) if tagged * 2 >= term.posts.len() => 1.3,
        _ => 1.0,
    };
    weight.powf(0.8) * rarity.powf(1.3) * burst * diversity * form
}

/// Which part of the posts' time counts as recent.
#[derive(Clone, Copy, Debug)]
struct Window {
    recent_from: i64,
    share: f64,
}

impl Window {
    /// The most recent third of the time that the posts span; none when too few of them say when they were written.
    fn of(corpus: &Corpus) -> Option<Self> {
        let times: Vec<i64> = (0..corpus.len()).filter_map(|at| corpus.seconds(at)).collect();
        if times.len() < 6 || times.len() * 10 < corpus.len() * 6 {
            return None;
        }
        let (first, last) = (times.iter().min()?, times.iter().max()?);
        if last - first < 60 {
            return None;
        }
        let recent_from = last - (last - first) / 3;
        let recent = times.iter().filter(|time| **time >= recent_from).count();
        Some(Self { recent_from, share: recent as f64 / times.len() as f64 })
    }

    /// How much more recent these posts are than all posts, 0.5 to 2; smoothed, so that a few posts prove little.
    fn burst(self, corpus: &Corpus, posts: &[usize]) -> f64 {
        let times: Vec<i64> = posts.iter().filter_map(|at| corpus.seconds(*at)).collect();
        let recent = times.iter().filter(|time| **time >= self.recent_from).count() as f64;
        let expected = times.len() as f64 * self.share;
        ((recent + 2.0) / (expected + 2.0)).clamp(0.5, 2.0)
    }
}

/// Are the phrase and the group about the same thing: mostly the same posts, or words in common and many of the posts?
fn same_topic(group: &Group<'_>, term: &Term) -> bool {
    let common = overlap(&group.posts, &term.posts) as f64;
    let smaller = group.posts.len().min(term.posts.len()).max(1) as f64;
    let all = (group.posts.len() + term.posts.len()) as f64 - common;
    if group.members.iter().any(|member| shares_word(member, term)) {
        return common / smaller >= 0.5;
    }
    // Single posts share everything with each other by chance; only a real overlap joins unrelated words.
    common / all >= 0.6 && smaller >= 2.0
}

fn shares_word(a: &Term, b: &Term) -> bool {
    let words = |term: &Term| -> Vec<String> {
        let pair = term.pair.iter().flat_map(|(first, second)| [first.clone(), second.clone()]);
        pair.chain(term.word.clone()).collect()
    };
    let others = words(b);
    words(a).iter().any(|word| others.contains(word))
}

/// Joins a weaker phrase to a group. A pair that most posts of a single word use names the topic better than the word.
fn join<'a>(group: &mut Group<'a>, term: &'a Term) {
    let extends = group.label.pair.is_none() && term.pair.is_some() && shares_word(group.label, term);
    if extends && term.posts.len() * 2 >= group.label.posts.len() {
        group.label = term;
    }
    group.members.push(term);
    // Only what names the topic and little else brings posts in: "player" belongs to other topics than "dvd player" too.
    let mostly = overlap(&group.posts, &term.posts) * 10 >= term.posts.len() * 7;
    if extends || (mostly && shares_word(group.label, term)) {
        group.posts.extend(&term.posts);
        group.posts.sort_unstable();
        group.posts.dedup();
    }
}

/// Number of posts in both sorted lists.
fn overlap(a: &[usize], b: &[usize]) -> usize {
    let (mut i, mut j, mut count) = (0, 0, 0);
    while i < a.len() && j < b.len() {
        match a[i].cmp(&b[j]) {
            std::cmp::Ordering::Less => i += 1,
            std::cmp::Ordering::Greater => j += 1,
            std::cmp::Ordering::Equal => {
                count += 1;
                i += 1;
                j += 1;
            }
        }
    }
    count
}

fn finish(corpus: &Corpus, group: &Group<'_>) -> Topic {
    let mut posts: Vec<(f64, usize)> = group
        .posts
        .iter()
        .map(|at| {
            let said = group.members.iter().filter(|term| term.posts.binary_search(at).is_ok()).count() as f64;
            // Very short posts say little; very long ones say other things too.
            let length = corpus.length(*at) as f64;
            let fitting = if length < 8.0 { length / 8.0 } else { (40.0 / length.max(40.0)).sqrt() };
            (corpus.weight(*at) * (1.0 + said.ln_1p()) * fitting, *at)
        })
        .collect();
    posts.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let weight = group.posts.iter().map(|at| corpus.weight(*at)).sum();
    Topic {
        name: group.label.surface().to_owned(),
        score: round4(group.score),
        weight,
        voices: corpus.voices_of(&group.posts),
        posts: posts.into_iter().map(|(_, at)| at).collect(),
    }
}
