//! A third party's first hour: `skill new`, `skill build`, `skill test`, `skill install`, outside the repository.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test may end with a panic")]

use anyhow::{Result, ensure};
use chimera_tests::{Server, binary, guest_target, root, said};
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn chimera_in(folder: &Path, data: &Path, args: &[&str]) -> Output {
    Command::new(binary())
        .args(args)
        .current_dir(folder)
        .env("CHIMERA_DATA_DIR", data)
        .env("CARGO_TARGET_DIR", guest_target())
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_skill_is_built_tested_and_installed_outside_the_repository() -> Result<()> {
    let home = tempfile::tempdir()?;
    let data = home.path().join("data");
    let sdk = root().join("skills-sdk");

    let made = chimera_in(home.path(), &data, &["skill", "new", "acme/hello", "--sdk", sdk.to_str().unwrap()]);
    ensure!(made.status.success(), "{}", said(&made));
    let folder = home.path().join("hello");
    ensure!(folder.join("skill.toml").is_file(), "{}", said(&made));

    let again = chimera_in(home.path(), &data, &["skill", "new", "acme/hello"]);
    ensure!(again.status.code() == Some(1), "it must not overwrite: {}", said(&again));

    let built = chimera_in(&folder, &data, &["skill", "build"]);
    ensure!(built.status.success(), "{}", said(&built));
    let tested = chimera_in(&folder, &data, &["skill", "test"]);
    ensure!(tested.status.success(), "{}", said(&tested));

    let server = Server::start(&data).await?;
    let installed = chimera_in(&folder, &data, &["skill", "install", "."]);
    ensure!(installed.status.success(), "{}", said(&installed));
    let skill = server.get("/api/v1/skills/acme/hello").await?;
    ensure!(skill.to_string().contains("acme/hello"), "{skill}");

    // A version is immutable: other bytes under the same name and version are refused.
    let source = folder.join("src/lib.rs");
    let text = std::fs::read_to_string(&source)?;
    std::fs::write(
        &source,
        format!("{text}\n/// One more constant.\n#[unsafe(no_mangle)]\npub static CHANGED: u32 = 7;\n"),
    )?;
    let changed = chimera_in(&folder, &data, &["skill", "install", "."]);
    ensure!(changed.status.code() == Some(3), "{}", said(&changed));
    Ok(())
}
