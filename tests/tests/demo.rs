//! The main job, end to end: a goal becomes tasks, skills run, verdicts fall, a human decides, one post leaves.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test may end with a panic")]

use chimera_tests::{binary, guest_target, said};
use serde_json::Value;
use std::process::{Command, Output, Stdio};

fn demo(arguments: &[&str]) -> Output {
    Command::new(binary())
        .arg("demo")
        .args(arguments)
        .env("CARGO_TARGET_DIR", guest_target())
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("not one JSON object: {error}\n{}", said(output)))
}

#[test]
fn approved_it_publishes_one_post_and_keeps_its_promises() {
    let output = demo(&["--approve", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let report = report(&output);
    assert_eq!(report["status"], "completed", "{report:#}");
    let tasks = report["tasks"].as_array().unwrap();
    let skills: Vec<&str> = tasks.iter().map(|task| task["skill"].as_str().unwrap()).collect();
    assert_eq!(
        skills,
        [
            "chimera/find-trends",
            "chimera/summarize",
            "chimera/draft-post",
            "chimera/check-policy",
            "chimera/publish-post"
        ]
    );
    for task in tasks {
        assert_eq!(task["status"], "approved", "{task:#}");
        for figure in ["fuel", "peak_memory_bytes", "attempts"] {
            assert!(task[figure].as_u64().unwrap() > 0, "{figure}: {task:#}");
        }
        assert!(
            task["confidence"].as_f64().is_some_and(|confidence| confidence > 0.0 && confidence <= 1.0),
            "{task:#}"
        );
    }
    let published = report["published"].as_array().unwrap();
    assert_eq!(published.len(), 1, "{published:#?}");
    let text = published[0]["text"].as_str().unwrap();
    assert!((40..=280).contains(&text.chars().count()), "{text}");
    assert_eq!(report["approvals"][0]["decision"], "approved", "{report:#}");
    let timings = &report["timings"];
    assert!(timings["plan_ms"].as_u64().unwrap() < 5_000, "{timings}");
    assert!(timings["verdict_ms_max"].as_u64().unwrap() < 3_000, "{timings}");
    assert!(timings["task_ms_max"].as_u64().unwrap() < 30_000, "{timings}");
    assert_eq!(report["audit"]["valid"], true, "{report:#}");
    assert!(report["audit"]["events"].as_u64().unwrap() > 15, "{report:#}");
}

#[test]
fn rejected_it_publishes_nothing() {
    let output = demo(&["--reject", "--json"]);
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    let report = report(&output);
    assert_eq!(report["status"], "rejected", "{report:#}");
    assert_eq!(report["published"].as_array().unwrap().len(), 0, "{report:#}");
    assert_eq!(report["audit"]["valid"], true, "{report:#}");
}

#[test]
fn for_people_it_prints_a_report() {
    let output = demo(&["--approve"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("audit chain: valid"), "{text}");
    assert!(text.contains("chimera/publish-post"), "{text}");
}

#[test]
fn a_feed_of_ones_own_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let feed = folder.path().join("feed.xml");
    let items: String = [
        "The new tram line opened and the ride to the harbour takes ten minutes.",
        "Tram line number four: everybody at the harbour talks about the new tram.",
        "The harbour bakery sells rye bread to passengers of the new tram line.",
        "Library hours: the city wants to close the library on Sundays.",
        "Petition to keep the library open on Sundays passes ten thousand names.",
        "Readers ask the city council to keep the library open on Sundays.",
    ]
    .iter()
    .enumerate()
    .map(|(index, text)| {
        format!("<item><guid>{index}</guid><title>News {index}</title><description>{text}</description></item>")
    })
    .collect();
    std::fs::write(
        &feed,
        format!("<?xml version=\"1.0\"?><rss version=\"2.0\"><channel><title>t</title>{items}</channel></rss>"),
    )
    .unwrap();
    let output = demo(&["--approve", "--json", "--input", feed.to_str().unwrap()]);
    let report = report(&output);
    // Six items are little to go by: the judge may ask the human about more than the publishing.
    assert!(report["tasks"].as_array().unwrap().len() >= 2, "{report:#}");
    assert_eq!(report["audit"]["valid"], true, "{report:#}");
}

#[test]
fn without_a_terminal_it_wants_to_know_what_to_answer() {
    let output = demo(&[]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("--approve"), "{}", said(&output));
}
