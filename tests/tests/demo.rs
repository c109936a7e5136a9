//! The main job, end to end: a goal becomes tasks, skills run, verdicts fall, a human decides, one post leaves.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test may end with a panic")]

use chimera_tests::{PATIENCE, binary, chimera, guest_target, root, said};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.arg("demo").args(arguments).env("CARGO_TARGET_DIR", guest_target()).stdin(Stdio::null());
    command
}

fn demo(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

/// The names and contents of a folder's files.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.display().to_string(), std::fs::read(&path).unwrap()))
        .collect();
    files.sort();
    files
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
fn for_people_it_prints_a_report_and_leaves_their_data_folder_alone() {
    let place = tempfile::tempdir().unwrap();
    let operators = place.path().join("operators");
    std::fs::create_dir(&operators).unwrap();
    std::fs::write(operators.join("chimera.toml"), "[mcp.servers.social]\ncommand = \"/my/own/server\"\n").unwrap();
    let before = files(&operators);
    let kept = place.path().join("kept");
    let output =
        command(&["--approve", "--keep", kept.to_str().unwrap()]).env("CHIMERA_DATA_DIR", &operators).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("audit chain: valid"), "{text}");
    assert!(text.contains("chimera/publish-post"), "{text}");
    assert!(kept.join("operator.token").is_file(), "{text}");
    assert_eq!(files(&operators), before, "a demo works in a folder of its own");
}

#[test]
fn the_example_in_its_help_is_done() {
    let help = chimera(Path::new("/nonexistent"), &["demo", "--help"]);
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    let goal = help.split_once("--goal \"").and_then(|(_, rest)| rest.split_once('"')).map(|(goal, _)| goal);
    let goal = goal.unwrap_or_else(|| panic!("no example with a goal:\n{help}"));
    let posts = root().join("host/server/demo/posts.jsonl");
    let output = demo(&["--approve", "--json", "--input", posts.to_str().unwrap(), "--goal", goal]);
    assert_eq!(output.status.code(), Some(0), "{goal}: {}", said(&output));
    assert_eq!(report(&output)["published"].as_array().unwrap().len(), 1, "{goal}");
}

#[test]
fn a_goal_that_publishes_nothing_is_told_what_it_must_lead_to() {
    let output = demo(&["--approve", "--goal", "Find the trends in these posts and summarise them"]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("publish it"), "{}", said(&output));
    assert!(!said(&output).contains("audit chain"), "it is told before the work is done: {}", said(&output));
}

#[test]
fn sigterm_leaves_no_folder_behind() {
    let place = tempfile::tempdir().unwrap();
    let mut demo = command(&["--approve", "--no-build"])
        .env("TMPDIR", place.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let has_token = || {
        let mut entries = std::fs::read_dir(place.path()).unwrap().flatten();
        entries.any(|entry| entry.path().join("operator.token").exists())
    };
    let started = Instant::now();
    while !has_token() {
        assert_eq!(demo.try_wait().unwrap(), None, "it ended before it could be stopped");
        assert!(started.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(2));
    }
    let pid = rustix::process::Pid::from_raw(i32::try_from(demo.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(demo.wait().unwrap().code(), Some(1), "it ends in order, and was not done");
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0, "the token's folder is left behind");
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
