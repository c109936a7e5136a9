//! `chimera skill build`: a component with its manifest inside, from a skill's folder.
//!
//! Cargo builds, the sandbox asks the component what its types are, the registry makes the manifest and puts it in; a
//! skill in another language names its schemas, and its builder is given the manifest's world. The result is written
//! whole or not at all. Called by the other skill commands and by the demo.

use super::compiling;
use super::guest::{self, Chatter};
use super::language::Language;
use super::{refused, script};
use crate::cli::Env;
use crate::cli::error::{CliError, CliResult};
use crate::cli::inputs::read_capped;
use chimera_core::digest::Digest;
use chimera_core::failure::Failure;
use chimera_core::manifest::{MAX_MANIFEST_BYTES, Manifest};
use chimera_registry::MAX_COMPONENT_BYTES;
use chimera_sandbox::Sandbox;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A component on disk, ready to be installed.
#[derive(Debug)]
pub(crate) struct Built {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// What it says of itself.
    pub(crate) manifest: Manifest,
    /// The digest of its bytes.
    pub(crate) digest: Digest,
    /// Its size in bytes.
    pub(crate) size: u64,
    /// What admission would warn of.
    pub(crate) warnings: Vec<String>,
}

/// Builds a skill's folder.
pub(crate) async fn build(env: &Env, folder: &Path, sandbox: &Sandbox, chatter: Chatter) -> CliResult<Built> {
    let toml_path = folder.join("skill.toml");
    if !toml_path.is_file() {
        return Err(CliError::usage(
            format!("there is no skill.toml in {}", folder.display()),
            "name a skill's folder, or make one with `chimera skill new NAMESPACE/NAME`",
        ));
    }
    let skill_toml = String::from_utf8(read_capped(&toml_path, MAX_MANIFEST_BYTES as u64)?)
        .map_err(|_| CliError::usage(format!("{} is not UTF-8 text", toml_path.display()), "save it as UTF-8"))?;
    match Language::of(folder)? {
        Language::Rust => build_rust(folder, &skill_toml, sandbox, chatter).await,
        language => {
            let manifest = assemble(folder, &skill_toml, None)?;
            let guest = script::build(env, language, folder, &manifest, chatter).await?;
            put_together(&guest, &manifest, &script::target_dir(folder).join("chimera"))
        }
    }
}

async fn build_rust(folder: &Path, skill_toml: &str, sandbox: &Sandbox, chatter: Chatter) -> CliResult<Built> {
    guest::ensure_target(folder).await?;
    let artifact = guest::cargo_build(folder, chatter).await?;
    let guest_bytes = read_capped(&artifact.wasm, MAX_COMPONENT_BYTES as u64)?;

    let out = artifact.target_dir.join("chimera");
    let stamp = stamp(&guest_bytes, skill_toml);
    if let Some(built) = unchanged(&out, &stamp, folder) {
        return Ok(built);
    }
    let described = describe(&guest_bytes, sandbox).await.map_err(|failure| {
        CliError::failed(
            format!("{} cannot tell its schemas: {}", artifact.wasm.display(), failure.message),
            "build it with the SDK, or name the schemas in skill.toml under [io]",
        )
    })?;
    let manifest = assemble(folder, skill_toml, described)?;
    check_version(&manifest, &artifact.version, folder)?;
    let built = put_together(&guest_bytes, &manifest, &out)?;
    // The stamp is only a shortcut: without it the next build does the same work again.
    let _ = write_whole(&stamp_path(&built.path), stamp.as_bytes());
    Ok(built)
}

fn assemble(folder: &Path, skill_toml: &str, described: Option<Value>) -> CliResult<Manifest> {
    chimera_registry::assemble_manifest(skill_toml, described, folder).map_err(|error| {
        let path = folder.join("skill.toml");
        CliError::usage(format!("{}: {error}", path.display()), "mend the field and build again")
    })
}

/// The component with its manifest inside, looked at as admission does and written into `out`.
fn put_together(guest: &[u8], manifest: &Manifest, out: &Path) -> CliResult<Built> {
    let bytes = chimera_registry::embed_manifest(guest, manifest);
    let path = out.join(file_name(manifest));
    write_whole(&path, &bytes)?;
    look_into(path, &bytes)
}

/// What the component says of its types; none if it cannot say.
async fn describe(guest: &[u8], sandbox: &Sandbox) -> Result<Option<Value>, Failure> {
    let prepared = compiling::told_by(sandbox, sandbox.prepare(&Digest::of(guest), guest)).await?;
    if !prepared.can_describe() {
        return Ok(None);
    }
    sandbox.describe(&prepared).await.map(Some)
}

/// What was built before, without building: for `demo --no-build`.
pub(crate) fn built_before(out: &Path, name: &str, version: &str) -> CliResult<Built> {
    let path = out.join(format!("{}-{version}.wasm", name.replace('/', "-")));
    let bytes = read_capped(&path, MAX_COMPONENT_BYTES as u64)?;
    look_into(path, &bytes)
}

fn look_into(path: PathBuf, bytes: &[u8]) -> CliResult<Built> {
    let inspection = chimera_registry::inspect(bytes).map_err(|refusal| refused(&refusal))?;
    Ok(Built {
        path,
        digest: inspection.survey.digest,
        size: inspection.survey.size,
        manifest: inspection.manifest,
        warnings: inspection.warnings,
    })
}

fn check_version(manifest: &Manifest, cargo: &str, folder: &Path) -> CliResult<()> {
    let skill = manifest.skill.version.to_string();
    if skill == cargo {
        return Ok(());
    }
    Err(CliError::usage(
        format!("skill.toml says version {skill} and Cargo.toml says {cargo} in {}", folder.display()),
        "write the same version in both",
    ))
}

fn file_name(manifest: &Manifest) -> String {
    let name = &manifest.skill.name;
    format!("{}-{}-{}.wasm", name.namespace(), name.name(), manifest.skill.version)
}

/// What a built component was made of, and by which program.
fn stamp(guest: &[u8], skill_toml: &str) -> String {
    let parts = format!("{}\n{}\n{}", Digest::of(guest), Digest::of(skill_toml.as_bytes()), env!("CARGO_PKG_VERSION"));
    Digest::of(parts.as_bytes()).to_string()
}

fn stamp_path(component: &Path) -> PathBuf {
    component.with_extension("stamp")
}

/// The component that was built of the same things before. Schemas in files of their own are not part of the stamp, so
/// a folder that has them is always assembled anew.
fn unchanged(out: &Path, stamp: &str, folder: &Path) -> Option<Built> {
    let table: toml::Table = toml::from_str(&std::fs::read_to_string(folder.join("skill.toml")).ok()?).ok()?;
    let has_schema_files =
        table.get("io").and_then(toml::Value::as_table).is_some_and(|io| io.values().any(toml::Value::is_str));
    let skill = table.get("skill")?.as_table()?;
    let (name, version) = (skill.get("name")?.as_str()?, skill.get("version")?.as_str()?);
    // Both become part of a path: anything but a valid name and version is left to the whole way, which refuses it.
    name.parse::<chimera_core::skill::SkillName>().ok()?;
    version.parse::<semver::Version>().ok()?;
    let built = built_before(out, name, version).ok()?;
    let is_same = std::fs::read_to_string(stamp_path(&built.path)).is_ok_and(|kept| kept == stamp);
    (is_same && !has_schema_files).then_some(built)
}

/// Writes a file so that it is there whole or not at all.
fn write_whole(path: &Path, bytes: &[u8]) -> CliResult<()> {
    use std::io::Write as _;
    let unwritable = |error| CliError::unwritable(path, &error);
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(unwritable)?;
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(unwritable)?;
    file.write_all(bytes).map_err(unwritable)?;
    file.as_file().sync_all().map_err(unwritable)?;
    file.persist(path).map_err(|error| CliError::unwritable(path, &error.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::Global;
    use crate::cli::error::Exit;

    #[tokio::test]
    async fn a_folder_without_skill_toml_is_wrong_usage() {
        let folder = tempfile::tempdir().expect("a folder");
        let sandbox = Sandbox::new(chimera_sandbox::SandboxConfig::default()).expect("a sandbox");
        let env = Env::new(Global { data_dir: None, config: None, log: None, json: true });
        let error = build(&env, folder.path(), &sandbox, Chatter::Hidden).await.expect_err("no skill");
        assert_eq!(error.exit, Exit::Usage);
        assert!(error.fix.contains("skill new"), "{error:?}");
    }

    #[test]
    fn files_are_written_whole_and_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a/b.wasm");
        write_whole(&path, b"one").expect("written");
        write_whole(&path, b"two").expect("replaced");
        assert_eq!(std::fs::read(&path).expect("read"), b"two");
        assert_eq!(std::fs::read_dir(folder.path().join("a")).expect("a folder").count(), 1);
    }

    #[test]
    fn the_stamp_tells_what_changed() {
        assert_eq!(stamp(b"a", "b"), stamp(b"a", "b"));
        assert_ne!(stamp(b"a", "b"), stamp(b"a", "c"));
        assert_ne!(stamp(b"a", "b"), stamp(b"c", "b"));
    }
}
