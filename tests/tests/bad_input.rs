//! Bad input: one clear message that says what to do, the exit code of the contract, and nothing lost.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test may end with a panic")]

use anyhow::{Result, ensure};
use chimera_tests::{Server, chimera, said};
use serde_json::json;
use std::path::Path;
use std::process::Output;

/// One clear message: an error, short, and without a panic or a debug dump.
fn assert_clear(output: &Output, code: i32, words: &[&str]) {
    let text = said(output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(!text.contains("panicked") && !text.contains("RUST_BACKTRACE"), "{text}");
    assert!(text.lines().filter(|line| !line.trim().is_empty()).count() <= 8, "not one clear message:\n{text}");
    for word in words {
        assert!(text.to_lowercase().contains(&word.to_lowercase()), "`{word}` is not in:\n{text}");
    }
}

fn write(folder: &Path, name: &str, content: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_campaigns_are_refused_and_nothing_is_lost() -> Result<()> {
    let data = tempfile::tempdir()?;
    let files = tempfile::tempdir()?;
    let server = Server::start(data.path()).await?;
    server.install_bundled().await?;

    let malformed = write(files.path(), "malformed.yaml", "goal: [unclosed\nsteps: {{{");
    assert_clear(&chimera(data.path(), &["campaign", "run", &malformed]), 2, &["malformed.yaml"]);

    let unknown_field = write(files.path(), "field.yaml", "goal: publish something\ngaol: typo\n");
    assert_clear(&chimera(data.path(), &["campaign", "run", &unknown_field]), 2, &["gaol"]);

    let unknown_skill = write(
        files.path(),
        "skill.yaml",
        "goal: sum up\nsteps:\n  - id: a\n    skill: chimera/sumarize\n    input: { texts: [] }\n",
    );
    assert_clear(
        &chimera(data.path(), &["campaign", "run", &unknown_skill]),
        2,
        &["chimera/sumarize", "chimera/summarize"],
    );

    let cyclic = write(
        files.path(),
        "cycle.yaml",
        "goal: go round\nsteps:\n  - id: a\n    skill: chimera/summarize\n    input: { texts: [\"x\"] }\n    depends_on: [b]\n  \
         - id: b\n    skill: chimera/summarize\n    input: { texts: [\"x\"] }\n    depends_on: [a]\n",
    );
    assert_clear(&chimera(data.path(), &["campaign", "run", &cyclic]), 2, &["circle"]);

    let huge = write(files.path(), "huge.yaml", &format!("goal: \"{}\"\n", "publish this ".repeat(80_000)));
    assert_clear(&chimera(data.path(), &["campaign", "run", &huge]), 2, &["goal"]);

    assert_clear(&chimera(data.path(), &["campaign", "run", "/does/not/exist.yaml"]), 1, &["/does/not/exist.yaml"]);
    assert_clear(&chimera(data.path(), &["campaign", "explode"]), 2, &["explode"]);
    assert_clear(&chimera(data.path(), &["task", "show", "not-an-id"]), 2, &["not-an-id"]);

    let (status, problem) =
        server.request("POST", "/api/v1/campaigns", Some(&json!({ "goal": "x".repeat(1 << 20) }))).await?;
    ensure!((400..500).contains(&status), "{status} {problem}");
    ensure!(problem["code"].is_string(), "not a problem document: {problem}");

    let skills = server.get("/api/v1/skills").await?;
    ensure!(skills.to_string().matches("\"digest\"").count() >= 5, "something was lost: {skills}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_and_a_taken_folder_are_told() -> Result<()> {
    let data = tempfile::tempdir()?;
    let server = Server::start(data.path()).await?;
    let address = server.url.trim_start_matches("http://").to_owned();

    let other = tempfile::tempdir()?;
    assert_clear(&chimera(other.path(), &["serve", "--listen", &address]), 1, &[&address, "--listen"]);
    assert_clear(
        &chimera(data.path(), &["serve", "--listen", "127.0.0.1:0"]),
        1,
        &["another", &server.pid().to_string()],
    );
    assert_clear(&chimera(other.path(), &["serve", "--listen", "0.0.0.0:0"]), 2, &["own machine"]);
    ensure!(server.get("/readyz").await.is_ok(), "the first server must not suffer");
    Ok(())
}

#[test]
fn an_unusable_data_folder_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a-file");
    std::fs::write(&file, "not a folder").unwrap();
    assert_clear(&chimera(&file, &["serve", "--listen", "127.0.0.1:0"]), 1, &["a-file"]);

    let broken = folder.path().join("broken");
    std::fs::create_dir(&broken).unwrap();
    std::fs::write(broken.join("chimera.db"), "this is no database, but it is somebody's file").unwrap();
    assert_clear(&chimera(&broken, &["serve", "--listen", "127.0.0.1:0"]), 1, &["chimera.db"]);
    let kept = std::fs::read_to_string(broken.join("chimera.db")).unwrap();
    assert_eq!(kept, "this is no database, but it is somebody's file", "nothing may be lost");
}

#[test]
fn without_a_server_the_cli_says_how_to_start_one() {
    let folder = tempfile::tempdir().unwrap();
    assert_clear(&chimera(folder.path(), &["campaign", "status"]), 1, &["chimera serve"]);
}

#[test]
fn a_refused_component_names_rule_evidence_and_fix() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let data = tempfile::tempdir().unwrap();
        let _server = Server::start(data.path()).await.unwrap();
        let file = data.path().join("not-wasm.wasm");
        std::fs::write(&file, b"\0asm\x01\0\0\0").unwrap();
        let output = chimera(data.path(), &["skill", "install", file.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(3), "{}", said(&output));
        assert!(said(&output).contains("component"), "{}", said(&output));
    });
}
