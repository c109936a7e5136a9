//! The program as a person meets it: exit codes, messages that say what to do, and no server needed for any of it.

#![allow(clippy::expect_used, reason = "a test may end with a panic")]

use std::path::Path;
use std::process::{Command, Output, Stdio};

fn chimera(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_chimera"))
        .args(args)
        .current_dir(folder)
        .env("CHIMERA_DATA_DIR", folder.join("data"))
        .env_remove("CHIMERA_LOG")
        .stdin(Stdio::null())
        .output()
        .expect("the program runs")
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

#[test]
fn help_and_version_are_no_errors() {
    let place = folder();
    let help = chimera(place.path(), &["--help"]);
    assert_eq!(code(&help), Some(0));
    let text = String::from_utf8_lossy(&help.stdout);
    assert!(text.contains("Exit codes: 0 done, 1 failed, 2 wrong usage, 3 refused by policy."), "{text}");
    assert!(!text.contains("compile-component"), "what is internal is hidden: {text}");
    assert_eq!(code(&chimera(place.path(), &["--version"])), Some(0));
    assert_eq!(code(&chimera(place.path(), &["campaign", "run", "--help"])), Some(0));
}

#[test]
fn help_is_a_command_too() {
    let place = folder();
    for args in [&["help"][..], &["help", "demo"], &["help", "campaign", "run"], &["campaign", "help", "run"]] {
        let output = chimera(place.path(), args);
        assert_eq!(code(&output), Some(0), "{args:?}: {}", errors(&output));
        assert!(String::from_utf8_lossy(&output.stdout).contains("Usage: chimera"), "{args:?}");
    }
}

#[test]
fn a_broken_configuration_is_told_without_a_command_advising_itself() {
    let place = folder();
    std::fs::create_dir(place.path().join("data")).expect("a folder");
    std::fs::write(place.path().join("data/chimera.toml"), "wokers = 3\n").expect("a file");
    for args in [&["doctor"][..], &["campaign", "status"]] {
        let output = chimera(place.path(), args);
        let said = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(said.contains("chimera.toml") && said.contains("wokers"), "{args:?}: {said}");
        assert!(!said.contains("chimera doctor"), "{args:?}: {said}");
        assert_ne!(code(&output), Some(0), "{args:?}: {said}");
    }
}

#[test]
fn wrong_usage_ends_with_two() {
    let place = folder();
    for args in [
        &["frobnicate"][..],
        &[],
        &["campaign", "run"],
        &["demo", "--approve", "--reject"],
        &["skill", "new", "NoNamespace"],
        &["serve", "--listen", "0.0.0.0:7700"],
        &["serve", "--workers", "0"],
    ] {
        let output = chimera(place.path(), args);
        assert_eq!(code(&output), Some(2), "{args:?}: {}", errors(&output));
    }
}

#[test]
fn without_a_server_the_message_says_how_to_start_one() {
    let place = folder();
    for args in [&["campaign", "status"][..], &["approvals", "list"], &["search", "x"], &["audit", "verify"]] {
        let output = chimera(place.path(), args);
        assert_eq!(code(&output), Some(1), "{args:?}");
        assert!(errors(&output).contains("chimera serve"), "{}", errors(&output));
    }
    assert!(!place.path().join("data").exists(), "asking made no data folder");
}

#[test]
fn the_demo_needs_a_terminal_or_a_flag_and_says_so_before_it_builds() {
    let place = folder();
    let output = chimera(place.path(), &["demo"]);
    assert_eq!(code(&output), Some(2));
    assert!(errors(&output).contains("--approve or --reject"), "{}", errors(&output));
    std::fs::write(place.path().join("posts.jsonl"), "{\"text\": \"one\"}\n{broken\n").expect("a file");
    let output = chimera(place.path(), &["demo", "--approve", "--input", "posts.jsonl"]);
    assert_eq!(code(&output), Some(2));
    assert!(errors(&output).contains("line 2"), "{}", errors(&output));
}

#[test]
fn the_demo_does_not_work_in_a_folder_that_holds_something() {
    let place = folder();
    let data = place.path().join("data");
    std::fs::create_dir(&data).expect("a folder");
    std::fs::write(data.join("chimera.db"), "real campaigns").expect("a file");
    for flag in ["--keep", "--data-dir"] {
        let output = chimera(place.path(), &["demo", "--approve", flag, "data"]);
        assert_eq!(code(&output), Some(2), "{flag}: {}", errors(&output));
        assert!(errors(&output).contains("--keep DIR"), "{flag}: {}", errors(&output));
    }
    assert_eq!(std::fs::read_dir(&data).expect("the folder").count(), 1, "nothing was added to it");
}

#[test]
fn a_malformed_campaign_is_refused_before_a_server_is_looked_for() {
    let place = folder();
    std::fs::write(place.path().join("c.yaml"), "goal: [").expect("a file");
    let output = chimera(place.path(), &["campaign", "run", "c.yaml"]);
    assert_eq!(code(&output), Some(2));
    assert!(errors(&output).contains("c.yaml") && errors(&output).contains("line 1"), "{}", errors(&output));
}

#[test]
fn a_new_skill_is_written_once() {
    let place = folder();
    assert_eq!(code(&chimera(place.path(), &["skill", "new", "acme/hello", "--sdk", "0.1"])), Some(0));
    assert!(place.path().join("hello/skill.toml").is_file());
    let again = chimera(place.path(), &["skill", "new", "acme/hello", "--sdk", "0.1"]);
    assert_eq!(code(&again), Some(1));
    assert!(errors(&again).contains("nothing is overwritten"), "{}", errors(&again));
}

#[test]
fn what_is_no_component_is_refused_by_a_rule() {
    let place = folder();
    std::fs::write(place.path().join("x.wasm"), "not wasm").expect("a file");
    let output = chimera(place.path(), &["skill", "test", "x.wasm"]);
    assert_eq!(code(&output), Some(3), "{}", errors(&output));
    assert!(errors(&output).contains("not-a-component"), "{}", errors(&output));
}

#[test]
fn the_doctor_tells_where_each_value_came_from() {
    let place = folder();
    let output = chimera(place.path(), &["doctor", "--json"]);
    assert_eq!(code(&output), Some(0), "{}", errors(&output));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let source = |name: &str| {
        let settings = report["settings"].as_array().cloned().unwrap_or_default();
        let found = settings.into_iter().find(|setting| setting["name"] == name);
        found.map(|setting| setting["source"].as_str().unwrap_or("").to_owned())
    };
    assert_eq!(source("listen").as_deref(), Some("default"));
    assert_eq!(source("data_dir").as_deref(), Some("$CHIMERA_DATA_DIR"));
    assert!(report["checks"].as_array().is_some_and(|checks| checks.len() >= 5));
    let named = chimera(place.path(), &["doctor", "--json", "--data-dir", "other"]);
    assert!(String::from_utf8_lossy(&named.stdout).contains("\"--data-dir\""), "the flag has the last word");
}

#[test]
fn the_page_of_the_configuration_has_every_setting() {
    let place = folder();
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md"));
    let page = page.expect("the page");
    let output = chimera(place.path(), &["doctor", "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    for setting in report["settings"].as_array().expect("settings") {
        let name = setting["name"].as_str().expect("a name");
        assert!(page.contains(&format!("| `{name}` | `CHIMERA_{}`", name.to_uppercase())), "{name} is not told of");
    }
}

#[test]
fn nothing_is_coloured_in_a_pipe() {
    let place = folder();
    for args in [&["doctor"][..], &["campaign", "status"]] {
        let output = chimera(place.path(), args);
        let all = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
        assert!(!all.contains(&0x1b), "{args:?}");
    }
}
