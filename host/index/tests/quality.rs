//! Does a clause of a goal find the skill that a human would pick?

#![allow(clippy::unwrap_used)]

use chimera_core::clock::Timestamp;
use chimera_core::digest::Digest;
use chimera_core::ids::AgentId;
use chimera_core::manifest::Manifest;
use chimera_core::ports::{MemoryIndex, SkillIndex};
use chimera_core::records::MemoryItem;
use chimera_core::skill::{SkillRef, SkillState, SkillVersion};
use chimera_index::{LexicalIndex, LexicalMemory};
use serde_json::json;
use std::sync::Arc;
use uuid::Uuid;

fn skill(name: &str, version: &str, summary: &str, keywords: &[&str], examples: &[&str]) -> SkillVersion {
    let manifest = Manifest::from_value(json!({
        "manifest": 1,
        "skill": {
            "name": name, "version": version, "summary": summary, "license": "Apache-2.0", "effects": "none",
            "keywords": keywords, "examples": examples,
        },
        "io": {
            "input": { "type": "object", "properties": { "text": { "type": "string" } } },
            "output": { "type": "object" },
        },
    }))
    .unwrap();
    let skill = SkillRef {
        name: name.parse().unwrap(),
        version: version.parse().unwrap(),
        digest: Digest::of(format!("{name}{version}").as_bytes()),
    };
    SkillVersion {
        skill,
        manifest: Arc::new(manifest),
        state: SkillState::Active,
        size: 1,
        installed_at: Timestamp::EPOCH,
    }
}

/// The bundled skills, in the words of their own manifests.
fn bundled() -> [SkillVersion; 5] {
    [
        skill(
            "chimera/find-trends",
            "0.1.0",
            "Finds the trending topics in a set of posts and the posts that represent them best.",
            &["trends", "trending", "topics", "posts", "hashtags", "analyse", "popular"],
            &[
                "find trends in these posts",
                "what are people talking about",
                "find the trending topics",
                "analyse what is popular in the feed",
            ],
        ),
        skill(
            "chimera/summarize",
            "0.1.0",
            "Summarises texts by their most central sentences, with keywords, optionally focused on topics.",
            &["summarize", "summary", "summarise", "digest", "condense", "keywords", "extract"],
            &["summarize what people say", "summarise the posts about the topic", "give me a digest of these texts"],
        ),
        skill(
            "chimera/draft-post",
            "0.1.0",
            "Drafts a social media post from a summary, to a brief and a length limit, with hashtags.",
            &["draft", "write", "post", "tweet", "compose", "hashtags", "social media"],
            &[
                "draft a post about it",
                "write a short post for our followers",
                "compose a tweet of at most 280 characters",
            ],
        ),
        skill(
            "chimera/check-policy",
            "0.1.0",
            "Checks a draft against a publishing policy: length, banned words, hashtags, links, personal data.",
            &["policy", "check", "compliance", "moderation", "banned words", "personal data", "safety"],
            &[
                "check the draft against our policy",
                "make sure the post is compliant",
                "review the text for banned words",
            ],
        ),
        skill(
            "chimera/publish-post",
            "0.1.0",
            "Publishes a text as a post through the operator's social server.",
            &["publish", "post", "social", "send", "share", "announce"],
            &["publish the post", "post it on the social network", "share the approved draft with our followers"],
        ),
    ]
}

/// Clauses as campaign owners write them, few of them in the words of a manifest.
const CLAUSES: [(&str, &str); 42] = [
    ("see what people are talking about", "find-trends"),
    ("find out what is hot right now", "find-trends"),
    ("discover rising topics in the feed", "find-trends"),
    ("look for buzz among our users", "find-trends"),
    ("spot popular subjects in these posts", "find-trends"),
    ("figure out which hashtags are going viral", "find-trends"),
    ("Find what is talked about in these posts", "find-trends"),
    ("identify the conversations of the week", "find-trends"),
    ("boil it down", "summarize"),
    ("sum up the discussion", "summarize"),
    ("condense the articles into a few sentences", "summarize"),
    ("write a summary of it", "summarize"),
    ("give me the gist", "summarize"),
    ("shorten the text to its key points", "summarize"),
    ("make a recap of what was said", "summarize"),
    ("summarise it in three sentences", "summarize"),
    ("a brief overview of the documents", "summarize"),
    ("write a short post", "draft-post"),
    ("draft a tweet with at most 280 characters", "draft-post"),
    ("compose a message for our followers", "draft-post"),
    ("write something for social media about the river", "draft-post"),
    ("come up with a post about cycling", "draft-post"),
    ("put together a text for Mastodon with two hashtags", "draft-post"),
    ("create a social media update from the summary", "draft-post"),
    ("prepare a draft", "draft-post"),
    ("make sure it obeys our rules", "check-policy"),
    ("verify that it follows the guidelines", "check-policy"),
    ("check it against the house style", "check-policy"),
    ("review the draft for forbidden words", "check-policy"),
    ("is it compliant with the regulations?", "check-policy"),
    ("screen the text for personal data", "check-policy"),
    ("validate the post against policy", "check-policy"),
    ("ensure nothing prohibited is in there", "check-policy"),
    ("put it online", "publish-post"),
    ("publish it", "publish-post"),
    ("send it out to our followers", "publish-post"),
    ("release the announcement", "publish-post"),
    ("share it on the social network", "publish-post"),
    ("go live with it", "publish-post"),
    ("announce it publicly", "publish-post"),
    ("broadcast the approved text", "publish-post"),
    ("upload the post", "publish-post"),
];

#[tokio::test]
async fn clauses_find_the_skill_that_a_human_would_pick() {
    let index = LexicalIndex::new();
    for version in bundled() {
        index.put(&version).await.unwrap();
    }
    let mut misses = Vec::new();
    for (clause, wanted) in CLAUSES {
        let hits = index.search(clause, 3).await.unwrap();
        let names: Vec<String> =
            hits.iter().map(|hit| format!("{} {:.2} {:?}", hit.skill.name.name(), hit.score, hit.matched)).collect();
        if hits.first().is_none_or(|hit| hit.skill.name.name() != wanted) {
            misses.push(format!("{clause:?} wants {wanted}, found {names:?}"));
        }
        println!("{clause:?} → {names:?}");
    }
    let recall = 1.0 - misses.len() as f64 / CLAUSES.len() as f64;
    println!("recall@1 = {recall:.3} over {} clauses", CLAUSES.len());
    assert!(recall >= 0.9, "recall@1 {recall:.2}\n{}", misses.join("\n"));
}

#[tokio::test]
async fn what_no_skill_can_do_scores_low() {
    let index = LexicalIndex::new();
    for version in bundled() {
        index.put(&version).await.unwrap();
    }
    for clause in [
        "bake a chocolate cake",
        "book a flight to Lisbon",
        "transfer 500 euros to the supplier",
        "render the video in 4k",
        "compile the kernel with debug symbols",
    ] {
        let best = index.search(clause, 1).await.unwrap().first().map_or(0.0, |hit| hit.score);
        println!("{clause:?}: {best:.3}");
        assert!(best < 0.25, "{clause:?} scored {best:.2}");
    }
    let sure = index.search("summarize the posts", 1).await.unwrap()[0].score;
    assert!(sure > 0.5, "{sure}");
}

#[tokio::test]
async fn only_the_newest_active_version_of_a_name_is_found() {
    let index = LexicalIndex::new();
    let old = skill("acme/paint", "1.0.0", "Paints walls.", &["paint"], &[]);
    let new = skill("acme/paint", "1.1.0", "Paints walls and doors.", &["paint"], &[]);
    let pre = skill("acme/paint", "2.0.0-rc.1", "Paints everything.", &["paint"], &[]);
    for version in [&new, &old, &pre] {
        index.put(version).await.unwrap();
    }
    let found = |hits: Vec<chimera_core::ports::SkillHit>| {
        hits.into_iter().map(|hit| hit.skill.version.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(found(index.search("paint", 10).await.unwrap()), ["1.1.0"]);
    index.put(&SkillVersion { state: SkillState::Suspended, ..new.clone() }).await.unwrap();
    assert_eq!(found(index.search("paint", 10).await.unwrap()), ["1.0.0"]);
    index.put(&new).await.unwrap();
    index.remove(&new.skill).await.unwrap();
    index.remove(&old.skill).await.unwrap();
    assert_eq!(found(index.search("paint", 10).await.unwrap()), ["2.0.0-rc.1"]);
    index.remove(&pre.skill).await.unwrap();
    assert!(index.search("paint", 10).await.unwrap().is_empty() && index.is_empty());
}

#[tokio::test]
async fn other_languages_and_scripts_find_their_own() {
    let index = LexicalIndex::new();
    for version in [
        skill("acme/uebersetzen", "1.0.0", "Übersetzt Texte ins Englische.", &["Übersetzung"], &[]),
        skill("acme/youyaku", "1.0.0", "文章を要約する", &["要約"], &[]),
        skill("acme/perevod", "1.0.0", "Переводит тексты на английский", &["перевод"], &[]),
        skill("acme/resume", "1.0.0", "Résume des documents", &["résumé"], &[]),
    ] {
        index.put(&version).await.unwrap();
    }
    for (query, wanted) in [
        ("Text übersetzen", "uebersetzen"),
        ("この文章を要約して", "youyaku"),
        ("перевести текст", "perevod"),
        ("RESUMÉ du document", "resume"),
    ] {
        let hits = index.search(query, 1).await.unwrap();
        assert_eq!(hits.first().map(|hit| hit.skill.name.name()), Some(wanted), "{query}");
    }
}

#[tokio::test]
async fn hostile_queries_end_soon_and_find_nothing_wrong() {
    let index = LexicalIndex::new();
    for version in bundled() {
        index.put(&version).await.unwrap();
    }
    for query in
        ["", " ", "\0\u{202E}", "'''", &"a".repeat(1 << 20), &"publish ".repeat(1 << 17), &"🦀".repeat(1 << 16)]
    {
        let hits = index.search(query, usize::MAX).await.unwrap();
        assert!(hits.len() <= 5 && hits.iter().all(|hit| (0.0..=1.0).contains(&hit.score)));
    }
}

#[tokio::test]
async fn an_agent_that_remembers_too_much_forgets_its_oldest() {
    let memory = LexicalMemory::new();
    let (agent, other) = (AgentId::from_uuid(Uuid::from_u128(1)), AgentId::from_uuid(Uuid::from_u128(2)));
    let item = |agent, number: usize, text: String| MemoryItem {
        id: Uuid::from_u128(number as u128),
        agent,
        text,
        metadata: json!({}),
        created_at: Timestamp::from_millis(number as i64),
    };
    let is_known = async |agent, word: &str| !memory.search(agent, word, 1).await.unwrap().is_empty();
    memory.put(&item(other, 0, "zebra".to_owned())).await.unwrap();
    // Numbers as words that share no letters' order: n-grams must not make up for a forgotten text.
    memory.put(&item(agent, 1, "walnut".to_owned())).await.unwrap();
    memory.put(&item(agent, 2, "jigsaw".to_owned())).await.unwrap();
    for number in 3..=MemoryItem::MAX_ITEMS {
        memory.put(&item(agent, number, "x".to_owned())).await.unwrap();
    }
    assert!(is_known(agent, "walnut").await && is_known(agent, "jigsaw").await);
    memory.put(&item(agent, MemoryItem::MAX_ITEMS + 1, "x".to_owned())).await.unwrap();
    assert!(!is_known(agent, "walnut").await, "there were too many items");
    assert!(is_known(agent, "jigsaw").await);
    let metadata = json!({ "filler": "y".repeat(MemoryItem::MAX_BYTES - 1000) });
    let large = item(agent, MemoryItem::MAX_ITEMS + 2, "quince".to_owned());
    memory.put(&MemoryItem { metadata, ..large }).await.unwrap();
    assert!(!is_known(agent, "jigsaw").await, "there were too many bytes");
    assert!(is_known(agent, "quince").await && is_known(other, "zebra").await);
}

#[tokio::test]
async fn an_agent_recalls_only_its_own_memories() {
    let memory = LexicalMemory::new();
    let agents = [AgentId::from_uuid(Uuid::from_u128(1)), AgentId::from_uuid(Uuid::from_u128(2))];
    let item = |id: u128, agent: usize, text: &str| MemoryItem {
        id: Uuid::from_u128(id),
        agent: agents[agent],
        text: text.to_owned(),
        metadata: json!({ "n": id as u64 }),
        created_at: Timestamp::EPOCH,
    };
    memory.put(&item(1, 0, "The owner likes short posts without emoji.")).await.unwrap();
    memory.put(&item(2, 0, "Cycling posts do well on Mondays.")).await.unwrap();
    memory.put(&item(3, 1, "The other owner likes emoji.")).await.unwrap();
    let hits = memory.search(agents[0], "does the owner like emojis?", 5).await.unwrap();
    assert_eq!(hits[0].item.id, Uuid::from_u128(1));
    assert!(hits.iter().all(|hit| hit.item.agent == agents[0]));
    memory.put(&item(1, 0, "Plums are ripe.")).await.unwrap();
    let hits = memory.search(agents[0], "emoji", 5).await.unwrap();
    assert!(hits.iter().all(|hit| hit.item.id != Uuid::from_u128(1)), "a replaced text is not found any more");
}
