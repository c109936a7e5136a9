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

/// Unpacks the SDK as it would be published and lets `folder` and what lies in it take it for the published one.
fn publish_sdk_for(folder: &Path) -> Result<()> {
    let target = folder.join("packaged");
    let packaged = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["package", "-p", "chimera-skill-macros", "-p", "chimera-skill"])
        .args(["--no-verify", "--allow-dirty", "--exclude-lockfile", "--quiet"])
        .current_dir(root())
        .env("CARGO_TARGET_DIR", &target)
        .output()?;
    ensure!(packaged.status.success(), "{}", said(&packaged));
    let mut config = "[patch.crates-io]\n".to_owned();
    for name in ["chimera-skill-macros", "chimera-skill"] {
        let version = env!("CARGO_PKG_VERSION");
        let package = target.join(format!("package/{name}-{version}.crate"));
        let unpacked = Command::new("tar").arg("-xzf").arg(&package).arg("-C").arg(folder).output()?;
        ensure!(unpacked.status.success(), "{}", said(&unpacked));
        config.push_str(&format!("{name} = {{ path = {:?} }}\n", folder.join(format!("{name}-{version}"))));
    }
    std::fs::create_dir(folder.join(".cargo"))?;
    std::fs::write(folder.join(".cargo/config.toml"), config)?;
    Ok(())
}

/// The SDK is not published yet, so its package stands in for it: what is asked for is the version alone, and nothing of
/// the checkout is in reach but what the package holds.
#[test]
fn a_new_skill_is_built_and_tested_with_the_sdk_by_version() -> Result<()> {
    let home = tempfile::tempdir()?;
    let data = home.path().join("data");
    publish_sdk_for(home.path())?;

    let made = chimera_in(home.path(), &data, &["skill", "new", "acme/hello-by-version", "--sdk", "0.1"]);
    ensure!(made.status.success(), "{}", said(&made));
    let folder = home.path().join("hello-by-version");
    let cargo_toml = std::fs::read_to_string(folder.join("Cargo.toml"))?;
    ensure!(cargo_toml.contains("chimera-skill = \"0.1\""), "{cargo_toml}");

    let built = chimera_in(&folder, &data, &["skill", "build"]);
    ensure!(built.status.success(), "{}", said(&built));
    let tested = chimera_in(&folder, &data, &["skill", "test"]);
    ensure!(tested.status.success(), "{}", said(&tested));
    let lock = std::fs::read_to_string(folder.join("Cargo.lock"))?;
    ensure!(lock.contains("name = \"chimera-skill\""), "{lock}");
    Ok(())
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

#[tokio::test(flavor = "multi_thread")]
async fn a_new_judge_is_built_tested_and_installed_outside_the_repository() -> Result<()> {
    let home = tempfile::tempdir()?;
    let data = home.path().join("data");
    let sdk = root().join("skills-sdk");
    let new = ["skill", "new", "acme/strict", "--world", "judge", "--sdk", sdk.to_str().unwrap()];
    let made = chimera_in(home.path(), &data, &new);
    ensure!(made.status.success(), "{}", said(&made));
    let folder = home.path().join("strict");

    let tested = chimera_in(&folder, &data, &["skill", "test"]);
    ensure!(tested.status.success() && said(&tested).contains("4 passed, 0 failed"), "{}", said(&tested));
    let server = Server::start(&data).await?;
    let installed = chimera_in(&folder, &data, &["skill", "install", "."]);
    ensure!(installed.status.success(), "{}", said(&installed));
    let skill = server.get("/api/v1/skills/acme/strict").await?;
    ensure!(skill["versions"][0]["manifest"]["skill"]["world"] == "judge", "{skill:#}");
    Ok(())
}
