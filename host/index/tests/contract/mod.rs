//! What every index does, whatever stands behind it. A test program names it with [`index_contract!`].

use chimera_core::clock::Timestamp;
use chimera_core::digest::Digest;
use chimera_core::ids::AgentId;
use chimera_core::manifest::Manifest;
use chimera_core::ports::{MemoryIndex, SkillIndex};
use chimera_core::records::MemoryItem;
use chimera_core::skill::{SkillRef, SkillState, SkillVersion};
use serde_json::{Value, json};
use std::sync::Arc;
use uuid::Uuid;

/// Two empty indexes, and what keeps them alive.
pub struct Place<G> {
    pub skills: Arc<dyn SkillIndex>,
    pub memory: Arc<dyn MemoryIndex>,
    pub guard: G,
}

/// Every case as a test of its own; the argument opens a [`Place`].
#[macro_export]
macro_rules! index_contract {
    ($open:path) => {
        $crate::index_contract!(@ $open,
            only_the_newest_active_version_of_a_name_is_found,
            a_version_that_is_put_again_replaces_itself,
            hits_are_sorted_and_no_more_than_were_asked_for,
            typing_errors_and_synonyms_find,
            other_languages_and_scripts_find_their_own,
            hostile_queries_find_nothing_wrong,
            hostile_texts_come_back_as_they_were,
            an_agent_recalls_only_its_own_whatever_it_asks,
            what_is_replaced_or_forgotten_is_found_no_more,
            an_agent_that_remembers_too_much_forgets_its_oldest,
        );
    };
    (@ $open:path, $($case:ident,)*) => {
        $(
            #[tokio::test]
            async fn $case() {
                let place = $open().await;
                $crate::contract::$case(place.skills.as_ref(), place.memory.as_ref()).await;
                let _kept_until_here = place.guard;
            }
        )*
    };
}

pub fn skill(name: &str, version: &str, summary: &str, keywords: &[&str]) -> SkillVersion {
    let manifest = Manifest::from_value(json!({
        "manifest": 1,
        "skill": { "name": name, "version": version, "license": "MIT", "effects": "none", "summary": summary,
                   "keywords": keywords, "examples": [] },
        "io": { "input": {}, "output": {} },
    }))
    .unwrap();
    SkillVersion {
        skill: SkillRef {
            name: name.parse().unwrap(),
            version: version.parse().unwrap(),
            digest: Digest::of(format!("{name}@{version}").as_bytes()),
        },
        manifest: Arc::new(manifest),
        state: SkillState::Active,
        size: 1,
        installed_at: Timestamp::EPOCH,
    }
}

pub fn agent(number: u128) -> AgentId {
    AgentId::from_uuid(Uuid::from_u128(number))
}

pub fn item(id: u128, agent: AgentId, text: &str, metadata: Value) -> MemoryItem {
    let created_at = Timestamp::from_millis(1_700_000_000_000 + id as i64);
    MemoryItem { id: Uuid::from_u128(id), agent, text: text.to_owned(), metadata, created_at }
}

async fn names(index: &dyn SkillIndex, query: &str) -> Vec<String> {
    let hits = index.search(query, 10).await.unwrap();
    hits.iter().map(|hit| format!("{}@{}", hit.skill.name.name(), hit.skill.version)).collect()
}

pub async fn only_the_newest_active_version_of_a_name_is_found(index: &dyn SkillIndex, _: &dyn MemoryIndex) {
    let old = skill("acme/paint", "1.0.0", "Paints walls.", &["paint"]);
    let new = skill("acme/paint", "1.10.0", "Paints walls and doors.", &["paint"]);
    let pre = skill("acme/paint", "2.0.0-rc.1", "Paints everything.", &["paint"]);
    for version in [&new, &old, &pre] {
        index.put(version).await.unwrap();
    }
    assert_eq!(names(index, "paint").await, ["paint@1.10.0"]);
    let hit = &index.search("paint", 1).await.unwrap()[0];
    assert_eq!((&hit.skill, hit.summary.as_str()), (&new.skill, "Paints walls and doors."));
    assert_eq!(hit.matched, ["paint"]);
    index.put(&SkillVersion { state: SkillState::Suspended, ..new.clone() }).await.unwrap();
    assert_eq!(names(index, "paint").await, ["paint@1.0.0"]);
    index.put(&new).await.unwrap();
    assert_eq!(names(index, "paint").await, ["paint@1.10.0"]);
    index.remove(&new.skill).await.unwrap();
    index.remove(&old.skill).await.unwrap();
    assert_eq!(names(index, "paint").await, ["paint@2.0.0-rc.1"]);
    index.remove(&pre.skill).await.unwrap();
    index.remove(&pre.skill).await.unwrap();
    assert!(names(index, "paint").await.is_empty());
}

pub async fn a_version_that_is_put_again_replaces_itself(index: &dyn SkillIndex, _: &dyn MemoryIndex) {
    index.put(&skill("acme/tool", "1.0.0", "Bakes bread.", &["bread"])).await.unwrap();
    index.put(&skill("acme/tool", "1.0.0", "Paints walls.", &["walls"])).await.unwrap();
    assert!(index.search("bread", 5).await.unwrap().iter().all(|hit| hit.matched.is_empty()));
    assert_eq!(names(index, "walls").await, ["tool@1.0.0"]);
}

pub async fn hits_are_sorted_and_no_more_than_were_asked_for(index: &dyn SkillIndex, _: &dyn MemoryIndex) {
    assert!(index.search("anything", 5).await.unwrap().is_empty(), "an empty index");
    for number in 0..30 {
        let name = format!("acme/weather-{number}");
        index.put(&skill(&name, "1.0.0", "Tells the weather of a town.", &["weather"])).await.unwrap();
    }
    index.put(&skill("acme/tides", "1.0.0", "Tells the tides of a harbour.", &["tides", "sea"])).await.unwrap();
    for limit in [0, 1, 7, 25] {
        let hits = index.search("what will the weather be in the harbour", limit).await.unwrap();
        assert_eq!(hits.len(), limit);
        assert!(hits.windows(2).all(|pair| pair[0].score >= pair[1].score));
        assert!(hits.iter().all(|hit| hit.score > 0.0 && hit.score <= 1.0));
    }
    assert_eq!(names(index, "tides at sea").await[0], "tides@1.0.0");
}

pub async fn typing_errors_and_synonyms_find(index: &dyn SkillIndex, _: &dyn MemoryIndex) {
    index.put(&skill("acme/summarize", "1.0.0", "Summarizes long documents.", &["summary"])).await.unwrap();
    index.put(&skill("acme/walls", "1.0.0", "Paints walls.", &["paint"])).await.unwrap();
    index.put(&skill("acme/bread", "1.0.0", "Bakes bread.", &["bake"])).await.unwrap();
    for query in ["sumarize dokuments", "condense this", "boil it down", "SUMMARISATION"] {
        assert_eq!(names(index, query).await[0], "summarize@1.0.0", "{query}");
    }
}

pub async fn other_languages_and_scripts_find_their_own(index: &dyn SkillIndex, _: &dyn MemoryIndex) {
    for (name, summary, keyword) in [
        ("acme/uebersetzen", "Übersetzt Texte ins Englische.", "Übersetzung"),
        ("acme/youyaku", "文章を要約する", "要約"),
        ("acme/perevod", "Переводит тексты на английский", "перевод"),
        ("acme/resume", "Résume des documents", "résumé"),
    ] {
        index.put(&skill(name, "1.0.0", summary, &[keyword])).await.unwrap();
    }
    for (query, wanted) in [
        ("Text übersetzen", "uebersetzen@1.0.0"),
        ("この文章を要約して", "youyaku@1.0.0"),
        ("перевести текст", "perevod@1.0.0"),
        ("RESUMÉ du document", "resume@1.0.0"),
    ] {
        assert_eq!(names(index, query).await.first().map(String::as_str), Some(wanted), "{query}");
    }
}

/// Texts that would do something if they were anything but text.
pub const HOSTILE: [&str; 14] = [
    "\"",
    "\\",
    "\\\"",
    "\"}) { _additional { id } } } #",
    "x\"}, where: {operator: NotEqual, path: [\"agent\"], valueText: \"\"}, hybrid: {query: \"",
    "\", alpha: 0}, limit: 1000) { agent text } } } ",
    "{ Get { AgentMemory { text } } }",
    "\u{2028}\u{2029}\r\n\t\u{0}\u{7f}",
    "\\u0022\\u007d",
    "\"\"\"block\"\"\"",
    "' OR 1=1; --",
    "*",
    "a^9999 b~2 (c AND d) +e -f",
    "\u{202e}🦀\u{ffff}",
];

pub async fn hostile_queries_find_nothing_wrong(index: &dyn SkillIndex, _: &dyn MemoryIndex) {
    index.put(&skill("acme/paint", "1.0.0", "Paints walls.", &["paint"])).await.unwrap();
    let hidden = skill("acme/hidden", "1.0.0", "Agents, texts and limits of where and hybrid.", &["alpha"]);
    index.put(&SkillVersion { state: SkillState::Suspended, ..hidden }).await.unwrap();
    let long = ["a".repeat(1 << 20), "paint ".repeat(1 << 17), "🦀".repeat(1 << 16), "\"".repeat(1 << 16)];
    let queries = HOSTILE.into_iter().chain(["", " ", "'''"]).chain(long.iter().map(String::as_str));
    for query in queries {
        let hits = index.search(query, usize::MAX).await.unwrap();
        let shown: String = query.chars().take(60).collect();
        assert!(hits.iter().all(|hit| hit.skill.name.name() == "paint"), "{shown}");
        assert!(hits.iter().all(|hit| (0.0..=1.0).contains(&hit.score)), "{shown}");
    }
    assert_eq!(names(index, "\"paint\" }").await, ["paint@1.0.0"]);
}

pub async fn hostile_texts_come_back_as_they_were(_: &dyn SkillIndex, memory: &dyn MemoryIndex) {
    for (number, text) in HOSTILE.into_iter().enumerate() {
        let metadata = json!({ "text": text, "id": "x", "agent": ["y"], "deep": { "n": 0.1 }, "": null, "1 2": true });
        let item = item(number as u128 + 1, agent(1), &format!("apricot {text}"), metadata);
        memory.put(&item).await.unwrap();
        let hits = memory.search(agent(1), &format!("apricot {text}"), 50).await.unwrap();
        let found = hits.into_iter().find(|hit| hit.item.id == item.id);
        assert_eq!(found.map(|hit| hit.item), Some(item), "{text:?}");
    }
}

pub async fn an_agent_recalls_only_its_own_whatever_it_asks(_: &dyn SkillIndex, memory: &dyn MemoryIndex) {
    memory.put(&item(1, agent(1), "The owner likes short posts without emoji.", json!({}))).await.unwrap();
    memory.put(&item(2, agent(1), "Cycling posts do well on Mondays.", json!({}))).await.unwrap();
    let secret = "The other owner's agent text: limit alpha hybrid where, and likes emoji.";
    memory.put(&item(3, agent(2), secret, json!({}))).await.unwrap();
    let hits = memory.search(agent(1), "does the owner like emojis?", 5).await.unwrap();
    assert_eq!(hits[0].item.id, Uuid::from_u128(1));
    let own_id = agent(2).to_string();
    let attacks = HOSTILE.iter().map(|text| (*text).to_owned()).chain([
        secret.to_owned(),
        own_id.clone(),
        format!(
            "\"}}}}, where: {{path: [\"agent\"], operator: Equal, valueText: \"{own_id}\"}}, hybrid: {{query: \"owner"
        ),
    ]);
    for attack in attacks {
        for limit in [1, 1000, usize::MAX] {
            let hits = memory.search(agent(1), &attack, limit).await.unwrap();
            assert!(hits.iter().all(|hit| hit.item.agent == agent(1)), "{attack}");
        }
    }
    assert!(memory.search(agent(3), "owner", 5).await.unwrap().is_empty(), "a stranger");
    // The same id is another item with another agent.
    memory.forget(agent(1), Uuid::from_u128(3)).await.unwrap();
    assert_eq!(memory.search(agent(2), "owner emoji", 5).await.unwrap().len(), 1);
}

pub async fn what_is_replaced_or_forgotten_is_found_no_more(_: &dyn SkillIndex, memory: &dyn MemoryIndex) {
    let finds = async |query: &str| {
        let hits = memory.search(agent(1), query, 5).await.unwrap();
        hits.iter().filter(|hit| hit.score > 0.3).map(|hit| hit.item.id.as_u128()).collect::<Vec<_>>()
    };
    memory.put(&item(1, agent(1), "Plums are ripe in August.", json!({ "n": 1 }))).await.unwrap();
    memory.put(&item(2, agent(1), "The bicycle needs oil.", json!({ "n": 2 }))).await.unwrap();
    assert_eq!((finds("ripe plums").await, finds("bicycle oil").await), (vec![1], vec![2]));
    memory.put(&item(1, agent(1), "Quinces keep until spring.", json!({ "n": 3 }))).await.unwrap();
    assert_eq!((finds("ripe plums").await, finds("quinces in spring").await), (vec![], vec![1]));
    let hit = &memory.search(agent(1), "quinces", 1).await.unwrap()[0];
    assert_eq!(hit.item.metadata, json!({ "n": 3 }));
    memory.forget(agent(1), Uuid::from_u128(1)).await.unwrap();
    memory.forget(agent(1), Uuid::from_u128(1)).await.unwrap();
    assert_eq!((finds("quinces").await, finds("bicycle oil").await), (vec![], vec![2]));
}

pub async fn an_agent_that_remembers_too_much_forgets_its_oldest(_: &dyn SkillIndex, memory: &dyn MemoryIndex) {
    let is_known = async |agent, word: &str| {
        let hits = memory.search(agent, word, 1).await.unwrap();
        hits.first().is_some_and(|hit| hit.item.text == word)
    };
    memory.put(&item(9, agent(2), "zebra", json!({}))).await.unwrap();
    for (number, word) in ["walnut", "jigsaw", "harbour"].into_iter().enumerate() {
        memory.put(&item(number as u128 + 1, agent(1), word, json!({}))).await.unwrap();
    }
    let filler = |bytes: usize| json!({ "filler": "y".repeat(bytes) });
    let most = MemoryItem::MAX_BYTES;
    memory.put(&item(10, agent(1), "quince", filler(most - 1000))).await.unwrap();
    assert!(is_known(agent(1), "walnut").await && is_known(agent(1), "quince").await);
    // One more that does not fit: the oldest goes, though it is small, and so on until the large one has gone.
    memory.put(&item(11, agent(1), "medlar", filler(2000))).await.unwrap();
    for gone in ["walnut", "jigsaw", "harbour", "quince"] {
        assert!(!is_known(agent(1), gone).await, "{gone}");
    }
    assert!(is_known(agent(1), "medlar").await && is_known(agent(2), "zebra").await);
}
