//! Search among ten thousand skills: quick, and still right.

#![allow(clippy::unwrap_used)]

use chimera_core::clock::Timestamp;
use chimera_core::digest::Digest;
use chimera_core::manifest::Manifest;
use chimera_core::ports::SkillIndex;
use chimera_core::skill::{SkillRef, SkillState, SkillVersion};
use chimera_index::LexicalIndex;
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};

const VERBS: [&str; 20] = [
    "convert",
    "resize",
    "encrypt",
    "translate",
    "classify",
    "route",
    "measure",
    "archive",
    "deploy",
    "render",
    "parse",
    "merge",
    "sort",
    "filter",
    "schedule",
    "validate",
    "index",
    "sample",
    "compress",
    "annotate",
];
const NOUNS: [&str; 25] = [
    "invoice",
    "image",
    "video",
    "ticket",
    "contract",
    "recipe",
    "sensor",
    "playlist",
    "calendar",
    "ledger",
    "menu",
    "shipment",
    "genome",
    "podcast",
    "blueprint",
    "voucher",
    "glossary",
    "subtitle",
    "timesheet",
    "backup",
    "firmware",
    "portfolio",
    "petition",
    "survey",
    "itinerary",
];
const WAYS: [&str; 20] = [
    "weekly",
    "encrypted",
    "regional",
    "historic",
    "nightly",
    "bilingual",
    "anonymous",
    "seasonal",
    "redundant",
    "portable",
    "certified",
    "volatile",
    "layered",
    "mirrored",
    "provisional",
    "thermal",
    "acoustic",
    "municipal",
    "orbital",
    "ceramic",
];

fn skill(number: usize) -> SkillVersion {
    let (verb, noun, way) = (VERBS[number % 20], NOUNS[number / 20 % 25], WAYS[number / 500 % 20]);
    let name = format!("acme/{verb}-{way}-{noun}");
    let manifest = Manifest::from_value(json!({
        "manifest": 1,
        "skill": {
            "name": name, "version": "1.0.0", "license": "MIT", "effects": "none",
            "summary": format!("Can {verb} a {way} {noun} and tell what was done with it, step by step."),
            "keywords": [verb, noun, way],
            "examples": [format!("{verb} the {way} {noun}"), format!("please {verb} every {noun} of the {way} kind")],
        },
        "io": { "input": { "properties": { noun: { "type": "string" } } }, "output": {} },
    }))
    .unwrap();
    SkillVersion {
        skill: SkillRef {
            name: name.parse().unwrap(),
            version: "1.0.0".parse().unwrap(),
            digest: Digest::of(name.as_bytes()),
        },
        manifest: Arc::new(manifest),
        state: SkillState::Active,
        size: 1,
        installed_at: Timestamp::EPOCH,
    }
}

#[tokio::test]
async fn ten_thousand_skills_are_searched_in_milliseconds() {
    let index = LexicalIndex::new();
    let filled = Instant::now();
    for number in 0..10_000 {
        index.put(&skill(number)).await.unwrap();
    }
    assert_eq!(index.len(), 10_000);
    println!("10,000 skills put in {:?}", filled.elapsed());
    let mut times: Vec<Duration> = Vec::new();
    let mut right = 0;
    for number in (0..10_000).step_by(25) {
        let (verb, noun, way) = (VERBS[number % 20], NOUNS[number / 20 % 25], WAYS[number / 500 % 20]);
        let query = format!("I would like to {verb} our {way} {noun}s tonight");
        let started = Instant::now();
        let hits = index.search(&query, 10).await.unwrap();
        times.push(started.elapsed());
        right += usize::from(hits[0].skill.name.as_str() == format!("acme/{verb}-{way}-{noun}"));
    }
    times.sort_unstable();
    let (median, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    println!("{} searches: p50 {median:?}, p99 {p99:?}, right {right}", times.len());
    assert!(right * 100 >= times.len() * 95, "{right} of {} were right", times.len());
    // Measured 2-4 ms; the bound is loose because other work may share the machine.
    assert!(p99 < Duration::from_millis(250), "{p99:?}");
}
