//! Finds what a set of posts talks about: topics, how strong each is, and the posts that show it best.
//! It reads only its input, and tells the host which topics it saw; copies and loud authors do not count as many voices.
//! Runs first in a content campaign: its `topics` and `texts` are what the next skills work on.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test may end with a panic"))]

mod corpus;
mod rank;
mod time;

use std::collections::BTreeSet;

use chimera_skill::prelude::*;
use textkit::{round4, saturation, squeeze};

use corpus::Corpus;
use rank::Topic;

/// Most texts that are handed on.
const MAX_TEXTS: usize = 40;
/// Most post ids that are listed for one trend.
const MAX_IDS: usize = 50;

/// The posts to look through.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The posts to find trends in, at most 20,000; the more, the surer the result.
    pub posts: Vec<Post>,
    /// How many trends to return at most, strongest first; 5 if absent.
    #[serde(default = "five")]
    #[schemars(range(min = 1, max = 50))]
    pub top: usize,
}

/// One post.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Post {
    /// The post's id.
    pub id: String,
    /// The post's full text.
    pub text: String,
    /// Who wrote the post; one author does not count as many voices.
    #[serde(default)]
    pub author: Option<String>,
    /// When the post was written, RFC 3339 or RFC 2822; recent topics count more.
    #[serde(default)]
    pub created_at: Option<String>,
    /// How many people liked the post.
    #[serde(default)]
    pub likes: Option<f64>,
}

/// What the posts talk about.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Output {
    /// The names of the trends, strongest first.
    pub topics: Vec<String>,
    /// The trends with their figures, strongest first.
    pub trends: Vec<Trend>,
    /// The full texts of the posts that represent the strongest trends best, without duplicates, at most 40.
    pub texts: Vec<String>,
    /// How many posts were looked through.
    pub post_count: usize,
}

/// One trend.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Trend {
    /// What it is about: a phrase or a hashtag.
    pub topic: String,
    /// How strong it is compared with the strongest trend, 0 to 1.
    pub score: f64,
    /// How many posts mention it.
    pub post_count: usize,
    /// The ids of posts that mention it, the most representative first, at most 50.
    pub post_ids: Vec<String>,
}

fn five() -> usize {
    5
}

/// Finds the trending topics in a set of posts.
#[chimera_skill::skill]
pub fn find_trends(ctx: &mut Context, input: Input) -> Result<Outcome<Output>, Failure> {
    check(&input)?;
    ctx.progress(0.1, format!("reading {} posts", input.posts.len()));
    let corpus = Corpus::read(&input.posts);
    if corpus.is_empty() {
        return Err(Failure::invalid_input("no-words", "No post has a word to work with; pass posts with text."));
    }
    ctx.progress(0.5, format!("ranking {} phrases", corpus.terms().len()));
    let topics = rank::topics(&corpus, input.top);
    if topics.is_empty() {
        return Err(Failure::invalid_input("no-topics", "The posts have no content words in common; pass more posts."));
    }
    report(ctx, &topics);

    let strongest = topics[0].score.max(f64::MIN_POSITIVE);
    let trends = topics
        .iter()
        .map(|topic| Trend {
            topic: topic.name.clone(),
            score: round4(topic.score / strongest),
            post_count: topic.posts.len(),
            post_ids: topic.posts.iter().take(MAX_IDS).map(|at| input.posts[*at].id.clone()).collect(),
        })
        .collect();
    let texts = representative(&input.posts, &corpus, &topics);
    let (confidence, evidence) = confidence(&corpus, &topics);
    let output = Output {
        topics: topics.iter().map(|topic| topic.name.clone()).collect(),
        trends,
        texts,
        post_count: input.posts.len(),
    };
    let outcome = Outcome::new(output).confidence(confidence);
    Ok(evidence.into_iter().fold(outcome, Outcome::evidence))
}

fn check(input: &Input) -> Result<(), Failure> {
    if input.posts.is_empty() {
        return Err(Failure::invalid_input("no-posts", "There are no posts to find trends in; pass at least one."));
    }
    if input.posts.len() > 20_000 {
        return Err(Failure::invalid_input(
            "too-many-posts",
            format!("{} posts are more than 20,000; pass a sample.", input.posts.len()),
        ));
    }
    if input.top == 0 || input.top > 50 {
        return Err(Failure::invalid_input("top", format!("`top` is {}; it must be 1 to 50.", input.top)));
    }
    Ok(())
}

/// Tells the host's trend memory what was seen. The trends are this skill's result either way, so a refusal is only logged.
fn report(ctx: &Context, topics: &[Topic]) {
    for topic in topics {
        let mut name = topic.name.as_str();
        while name.len() > 256 {
            name = &name[..name.floor_char_boundary(name.len().min(257) - 1)];
        }
        if let Err(failure) = ctx.trends().observe(name, round4(topic.weight), "chimera/find-trends") {
            warn!(ctx, "the trend memory did not take the topics: {failure}");
            return;
        }
    }
}

/// The best posts of each trend in turn, so that every trend is heard; one text of each cluster of copies.
fn representative(posts: &[Post], corpus: &Corpus, topics: &[Topic]) -> Vec<String> {
    let mut texts = Vec::new();
    let mut clusters = BTreeSet::new();
    let mut seen = BTreeSet::new();
    let longest = topics.iter().map(|topic| topic.posts.len()).max().unwrap_or(0);
    for rank in 0..longest {
        for topic in topics {
            let Some(at) = topic.posts.get(rank).copied() else { continue };
            let text = posts[at].text.trim();
            if clusters.insert(corpus.cluster(at)) && seen.insert(squeeze(text).to_lowercase()) {
                texts.push(text.to_owned());
                if texts.len() == MAX_TEXTS {
                    return texts;
                }
            }
        }
    }
    texts
}

/// How far the result can be trusted: how many different voices there are, how much of what they say the trends cover,
/// and how many of them stand behind the strongest trend.
fn confidence(corpus: &Corpus, topics: &[Topic]) -> (f64, Vec<String>) {
    let voices = corpus.voices();
    let covered: BTreeSet<usize> = topics.iter().flat_map(|topic| topic.posts.iter().copied()).collect();
    let coverage = covered.len() as f64 / corpus.len().max(1) as f64;
    let behind = topics[0].voices as f64;
    let shown = 0.55 + 0.3 * (coverage / 0.25).min(1.0) + 0.15 * saturation(behind, 2.0);
    // Never quite sure: a statistic over words does not know what they mean.
    let confidence = 0.97 * saturation(voices as f64, 8.0) * shown;
    let evidence = vec![
        format!("{voices} different texts among {} posts", corpus.len()),
        format!("the trends cover {:.0} % of the posts", coverage * 100.0),
        format!("{behind} different texts mention \"{}\"", topics[0].name),
    ];
    (round4(confidence.clamp(0.0, 1.0)), evidence)
}

#[cfg(test)]
mod tests;
