//! Manifests made of folders, and bytes kept in them.

#![allow(clippy::unwrap_used)]

use chimera_core::digest::Digest;
use chimera_core::ports::{Blobs as _, PortErrorKind};
use chimera_registry::{FolderBlobs, assemble_manifest};
use serde_json::json;
use std::fs;

const HEAD: &str = r#"
manifest = 1
[skill]
name = "acme/hello"
version = "0.1.0"
summary = "Says hello."
license = "MIT"
effects = "none"
"#;

fn problem(toml: &str, base: &std::path::Path) -> String {
    assemble_manifest(toml, None, base).unwrap_err().to_string()
}

#[test]
fn schemas_come_inline_from_files_or_from_the_component() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("schemas")).unwrap();
    fs::write(folder.path().join("schemas/in.json"), r#"{"type":"string"}"#).unwrap();
    let described = json!({ "input": { "type": "number" }, "output": { "type": "boolean" } });
    let toml = format!("{HEAD}\n[io]\ninput = \"schemas/in.json\"\n");
    let manifest = assemble_manifest(&toml, Some(described.clone()), folder.path()).unwrap();
    assert_eq!(
        (manifest.io.input, manifest.io.output),
        (json!({ "type": "string" }).into(), json!({ "type": "boolean" }).into())
    );
    let manifest = assemble_manifest(HEAD, Some(described), folder.path()).unwrap();
    assert_eq!(manifest.io.input, json!({ "type": "number" }));
    let toml = format!("{HEAD}\n[io]\ninput = {{ type = \"null\" }}\noutput = {{}}\n");
    assert_eq!(assemble_manifest(&toml, None, folder.path()).unwrap().io.input, json!({ "type": "null" }));
}

#[test]
fn a_judge_needs_no_schemas_and_may_still_name_them() {
    let folder = tempfile::tempdir().unwrap();
    let judge = format!("{HEAD}world = \"judge\"\n");
    let manifest = assemble_manifest(&judge, None, folder.path()).unwrap();
    assert_eq!(manifest.io.output["properties"]["decision"]["enum"][3], "escalate");
    assert_eq!(manifest.io.input["properties"]["evidence"]["items"]["type"], "string");
    let own = format!("{judge}[io]\ninput = {{ type = \"object\" }}\n");
    let manifest = assemble_manifest(&own, None, folder.path()).unwrap();
    assert_eq!(manifest.io.input, json!({ "type": "object" }));
    assert_eq!(manifest.io.output["required"][0], "decision");
}

#[test]
fn everything_of_a_skill_toml_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let toml = format!(
        "{HEAD}\nkeywords = [\"greet\"]\n[io]\ninput = {{}}\noutput = {{}}\n[capabilities]\nscratch = true\n\
         mcp = [{{ slot = \"social\", tools = [\"search\"], reason = \"look\" }}]\n[limits]\ntime_ms = 5_000\n\
         [[selftest]]\nname = \"t\"\ninput = {{ at = 1 }}\nclock = 2026-02-03T04:05:06Z\nmin_confidence = 0.5\n"
    )
    .replace("effects = \"none\"", "effects = \"read\"");
    let manifest = assemble_manifest(&toml, None, folder.path()).unwrap();
    assert_eq!(manifest.limits.time_ms, 5000);
    assert!(manifest.capabilities.scratch && manifest.capabilities.slot("social").is_some());
    assert_eq!(manifest.selftests[0].clock.unwrap().to_string(), "2026-02-03T04:05:06Z");
}

#[test]
fn a_wrong_skill_toml_is_told_field_by_field() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path();
    assert!(problem("manifest = ", base).starts_with("skill.toml: manifest: is not TOML"));
    assert!(problem(HEAD, base).contains("io.input: is missing"));
    assert!(problem(&format!("io = 5\n{HEAD}"), base).contains("io: must be a table"));
    let with_io = |input: &str| format!("{HEAD}\n[io]\ninput = {input}\noutput = {{}}\n");
    assert!(problem(&with_io("\"nowhere.json\""), base).contains("`nowhere.json` cannot be read"));
    assert!(problem(&with_io("5"), base).contains("io.input: must be a JSON Schema object"));
    assert!(problem(&with_io("{ type = 5 }"), base).contains("io.input: is not a JSON Schema"));
    assert!(problem(&with_io("{}").replace("0.1.0", "0.1"), base).contains("version"));
    assert!(problem(&with_io("{}").replace("acme/hello", "Hello"), base).contains("not a skill's name"));
    assert!(problem(&format!("{}\nextra = 1", with_io("{}")), base).contains("unknown field"));
}

#[test]
fn a_schema_never_comes_from_outside_the_folder() {
    let outer = tempfile::tempdir().unwrap();
    let base = outer.path().join("skill");
    fs::create_dir(&base).unwrap();
    fs::write(outer.path().join("secret.json"), "{}").unwrap();
    let with_io = |input: &str| format!("{HEAD}\n[io]\ninput = \"{input}\"\noutput = {{}}\n");
    for file in ["../secret.json", "/etc/hostname", "", "a/../../secret.json"] {
        assert!(problem(&with_io(file), &base).contains("leaves the skill's folder"), "{file}");
    }
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(outer.path().join("secret.json"), base.join("link.json")).unwrap();
        assert!(problem(&with_io("link.json"), &base).contains("leaves the skill's folder"));
    }
    assert!(problem(&with_io("."), &base).contains("must be a file"));
}

#[tokio::test]
async fn bytes_are_kept_once_under_their_digest_and_only_for_this_user() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("deep/blobs");
    let blobs = FolderBlobs::open(&root).unwrap();
    let digest = blobs.put(b"some bytes").await.unwrap();
    assert_eq!(digest, Digest::of(b"some bytes"));
    assert_eq!(blobs.put(b"some bytes").await.unwrap(), digest);
    assert_eq!(blobs.get(&digest).await.unwrap().as_deref(), Some(&b"some bytes"[..]));
    assert_eq!(blobs.get(&Digest::of(b"others")).await.unwrap(), None);
    let hex = digest.hex();
    let files: Vec<_> = fs::read_dir(root.join(&hex[..2])).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(files, [hex[2..].to_owned().as_str()], "nothing half-written lies beside it");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        for dir in [root.clone(), root.join(&hex[..2])] {
            assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
        }
        assert_eq!(fs::metadata(root.join(&hex[..2]).join(&hex[2..])).unwrap().permissions().mode() & 0o077, 0);
    }
}

#[tokio::test]
async fn damaged_bytes_are_never_given_out() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = FolderBlobs::open(folder.path()).unwrap();
    let digest = blobs.put(b"some bytes").await.unwrap();
    let hex = digest.hex();
    fs::write(folder.path().join(&hex[..2]).join(&hex[2..]), b"some bytez").unwrap();
    assert_eq!(blobs.get(&digest).await.unwrap_err().kind, PortErrorKind::Corrupt);
    blobs.put(b"some bytes").await.unwrap();
    assert!(blobs.get(&digest).await.unwrap().is_some(), "keeping them again mends it");
}

#[test]
fn a_folder_that_cannot_be_used_is_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let error = FolderBlobs::open(&file).unwrap_err();
    assert!(error.message.contains("cannot be used"), "{error}");
}
