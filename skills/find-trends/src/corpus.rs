//! Reads the posts: the phrases of each, what each post weighs, and which posts are copies of each other.
//! It ranks nothing. The skill builds one corpus for each run; `rank.rs` reads it.

use std::collections::{BTreeMap, BTreeSet};

use textkit::{Kind, StopWords, Token, Weight, clusters, is_wide, key, tokens, weight};

use crate::Post;
use crate::time;

/// All that the ranking needs to know of the posts.
#[derive(Debug)]
pub(crate) struct Corpus {
    terms: Vec<Term>,
    posts: Vec<Entry>,
    clusters: Vec<usize>,
}

/// One phrase: a word, a pair of neighbouring words, or a hashtag. What reads the same without spaces is one phrase,
/// so `climate action` and `#ClimateAction` meet.
#[derive(Debug, Default)]
pub(crate) struct Term {
    /// The posts that mention it, in order.
    pub(crate) posts: Vec<usize>,
    /// The words of a pair.
    pub(crate) pair: Option<(String, String)>,
    /// The word of a single word.
    pub(crate) word: Option<String>,
    /// How often it is written with a `#`.
    pub(crate) tagged: usize,
    surfaces: BTreeMap<String, usize>,
}

/// What one post brings.
#[derive(Debug)]
struct Entry {
    weight: f64,
    author: Option<usize>,
    seconds: Option<i64>,
    length: usize,
}

impl Term {
    /// The most frequent way in which it is written.
    pub(crate) fn surface(&self) -> &str {
        self.surfaces.iter().max_by(|a, b| a.1.cmp(b.1).then(b.0.cmp(a.0))).map_or("", |(surface, _)| surface)
    }
}

impl Corpus {
    /// Reads the posts.
    pub(crate) fn read(posts: &[Post]) -> Self {
        let tokenised: Vec<Vec<Token<'_>>> = posts.iter().map(|post| tokens(&post.text)).collect();
        let words = || tokenised.iter().flatten().filter(|token| token.kind == Kind::Word).map(|token| token.text);
        let stop = StopWords::for_text(words());
        let clusters = clusters(&tokenised.iter().map(|tokens| fingerprints(tokens)).collect::<Vec<_>>());
        let entries = weigh(posts, &tokenised, &clusters);
        Self { terms: collect(&tokenised, &stop), posts: entries, clusters }
    }

    pub(crate) fn terms(&self) -> &[Term] {
        &self.terms
    }

    pub(crate) fn len(&self) -> usize {
        self.posts.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// The cluster of copies that a post belongs to.
    pub(crate) fn cluster(&self, post: usize) -> usize {
        self.clusters[post]
    }

    /// What a post weighs: less when it is one of many copies, more when many like it.
    pub(crate) fn weight(&self, post: usize) -> f64 {
        self.posts[post].weight
    }

    /// Number of words of a post.
    pub(crate) fn length(&self, post: usize) -> usize {
        self.posts[post].length
    }

    /// When a post was written.
    pub(crate) fn seconds(&self, post: usize) -> Option<i64> {
        self.posts[post].seconds
    }

    /// Number of different texts that have a word.
    pub(crate) fn voices(&self) -> usize {
        (0..self.posts.len()).filter(|at| self.clusters[*at] == *at && self.posts[*at].length > 0).count()
    }

    /// Number of different texts among some posts.
    pub(crate) fn voices_of(&self, posts: &[usize]) -> usize {
        posts.iter().map(|at| self.clusters[*at]).collect::<BTreeSet<_>>().len()
    }

    /// Share of different authors among those posts whose author is known; 1 when none is.
    pub(crate) fn diversity(&self, posts: &[usize]) -> f64 {
        let authors: Vec<usize> = posts.iter().filter_map(|at| self.posts[*at].author).collect();
        if authors.len() < 2 {
            return 1.0;
        }
        let different = authors.iter().collect::<BTreeSet<_>>().len();
        different as f64 / authors.len() as f64
    }
}

fn fingerprints(tokens: &[Token<'_>]) -> Vec<u64> {
    tokens
        .iter()
        .filter(|token| token.kind != Kind::Address && token.kind != Kind::Mention)
        .map(|token| {
            token.text.chars().flat_map(char::to_lowercase).fold(0xcbf2_9ce4_8422_2325_u64, |hash, c| {
                (hash ^ u64::from(u32::from(c))).wrapping_mul(0x0100_0000_01b3)
            })
        })
        .collect()
}

fn weigh(posts: &[Post], tokenised: &[Vec<Token<'_>>], clusters: &[usize]) -> Vec<Entry> {
    let mut copies = BTreeMap::<usize, usize>::new();
    for cluster in clusters {
        *copies.entry(*cluster).or_default() += 1;
    }
    let likes = |post: &Post| post.likes.filter(|likes| likes.is_finite() && *likes > 0.0).unwrap_or(0.0);
    let most = posts.iter().map(likes).fold(0.0, f64::max);
    let mut authors = BTreeMap::<&str, usize>::new();
    posts
        .iter()
        .enumerate()
        .map(|(at, post)| {
            // A hundred copies together weigh as much as five or six different posts.
            let count = copies.get(&clusters[at]).copied().unwrap_or(1) as f64;
            let damping = (1.0 + count.ln()) / count;
            let liked = if most > 0.0 { likes(post).ln_1p() / most.ln_1p() } else { 0.0 };
            let author = post.author.as_deref().filter(|name| !name.is_empty()).map(|name| {
                let next = authors.len();
                *authors.entry(name).or_insert(next)
            });
            Entry {
                weight: damping * (1.0 + 0.5 * liked),
                author,
                seconds: post.created_at.as_deref().and_then(time::seconds),
                length: tokenised[at].len(),
            }
        })
        .collect()
}

/// The phrases of all posts.
fn collect(tokenised: &[Vec<Token<'_>>], stop: &StopWords) -> Vec<Term> {
    let mut ids = BTreeMap::<String, usize>::new();
    let mut terms: Vec<Term> = Vec::new();
    for (at, tokens) in tokenised.iter().enumerate() {
        let mut previous: Option<(&Token<'_>, String)> = None;
        for token in tokens {
            let content = content_key(token, stop);
            // A hashtag is meant as a topic, whatever word it is.
            let says = if token.kind == Kind::Word { weight(token.text) } else { Weight::Full };
            if let (Some(word), Some((before, first))) = (&content, &previous)
                && token.follows
                && token.kind == Kind::Word
                && makes_pair(weight(before.text), says)
            {
                let joiner = if first.chars().all(is_wide) && word.chars().all(is_wide) { "" } else { " " };
                let surface = format!("{}{joiner}{}", before.text, token.text);
                let term = entry(&mut ids, &mut terms, format!("{first}{word}"));
                term.pair.get_or_insert_with(|| (first.clone(), word.clone()));
                mention(term, at, surface);
            }
            if let Some(word) = &content {
                // A single ideograph is a word part; only pairs of them are phrases.
                if says == Weight::Full && (!word.chars().all(is_wide) || word.chars().count() > 1) {
                    let term = entry(&mut ids, &mut terms, word.clone());
                    term.word.get_or_insert_with(|| word.clone());
                    if token.kind == Kind::Hashtag {
                        term.tagged += 1;
                        mention(term, at, format!("#{}", token.text));
                    } else {
                        mention(term, at, token.text.to_owned());
                    }
                }
            }
            previous = content.filter(|_| token.kind == Kind::Word).map(|word| (token, word));
        }
    }
    terms
}

/// Two words are a phrase if neither goes with everything and they are not both vague.
fn makes_pair(first: Weight, second: Weight) -> bool {
    first != Weight::Filler && second != Weight::Filler && (first == Weight::Full || second == Weight::Full)
}

fn entry<'a>(ids: &mut BTreeMap<String, usize>, terms: &'a mut Vec<Term>, key: String) -> &'a mut Term {
    let next = terms.len();
    let id = *ids.entry(key).or_insert(next);
    if id == next {
        terms.push(Term::default());
    }
    &mut terms[id]
}

fn mention(term: &mut Term, post: usize, surface: String) {
    if term.posts.last() != Some(&post) {
        term.posts.push(post);
    }
    *term.surfaces.entry(surface).or_default() += 1;
}

/// The key of a token that can be (part of) a topic.
fn content_key(token: &Token<'_>, stop: &StopWords) -> Option<String> {
    if !matches!(token.kind, Kind::Word | Kind::Hashtag) || !token.text.chars().any(char::is_alphabetic) {
        return None;
    }
    let long = token.text.chars().nth(if token.kind == Kind::Hashtag { 1 } else { 2 }).is_some();
    let short_name =
        token.text.chars().nth(1).is_some() && token.text.chars().all(|c| c.is_uppercase() || c.is_numeric());
    if !(long || short_name || token.text.chars().all(is_wide)) || stop.contains(token.text) {
        return None;
    }
    Some(key(token.text).replace('_', ""))
}
