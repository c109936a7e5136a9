//! The bundled skills, built from their sources.
//!
//! They are built like anybody's skills and only when something changed; nothing is prebuilt or fetched. Called by the
//! demo before it starts.

use crate::cli::Env;
use crate::cli::error::{CliError, CliResult};
use crate::cli::inputs::read_capped;
use crate::cli::output::{span, tell};
use crate::cli::skill::build::{Built, build, built_before};
use crate::cli::skill::guest::{self, Chatter};
use crate::cli::skill::language::Language;
use chimera_core::manifest::MAX_MANIFEST_BYTES;
use chimera_sandbox::Confinement;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Where the sources of the bundled skills are: the checkout that this program was built from.
fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../skills")
}

/// Builds what changed, or finds what was built before; returns the components.
pub(super) async fn prepare(env: &Env, no_build: bool, confinement: Confinement) -> CliResult<Vec<PathBuf>> {
    let sources = sources();
    let sources = sources.canonicalize().map_err(|_| {
        CliError::failed(
            format!("the sources of the bundled skills are not in {}", sources.display()),
            "run the demo from the checkout that this program was built from",
        )
    })?;
    let folders = folders(&sources)?;
    if no_build {
        let out = target_dir(&sources).join("chimera");
        return folders.iter().map(|folder| found(&out, folder).map(|built| built.path)).collect();
    }
    guest::ensure_target(&sources).await?;
    let sandbox = crate::cli::skill::sandbox(confinement)?;
    let mut components = Vec::with_capacity(folders.len());
    tell(&format!("building {} bundled skills (the first time takes a minute or two)", folders.len()));
    for folder in &folders {
        let started = Instant::now();
        let spinner = spinner(folder);
        let built = build(env, folder, &sandbox, Chatter::Hidden).await;
        spinner.finish_and_clear();
        let built = built?;
        tell(&format!(
            "built {}@{} in {}",
            built.manifest.skill.name,
            built.manifest.skill.version,
            span(started.elapsed())
        ));
        components.push(built.path);
    }
    Ok(components)
}

/// The folders that hold a skill in Rust, by name: the demo needs no other tools than its own, and no others' network.
fn folders(sources: &Path) -> CliResult<Vec<PathBuf>> {
    let unreadable = |error| CliError::unreadable(sources, &error);
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(sources).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.join("skill.toml").is_file() && path.join(Language::Rust.main_file()).is_file() {
            folders.push(path);
        }
    }
    folders.sort();
    if folders.is_empty() {
        return Err(CliError::failed(format!("there are no skills in {}", sources.display()), "restore the checkout"));
    }
    Ok(folders)
}

fn found(out: &Path, folder: &Path) -> CliResult<Built> {
    let not_built =
        || CliError::failed(format!("{} was not built before", folder.display()), "run the demo without --no-build");
    let bytes = read_capped(&folder.join("skill.toml"), MAX_MANIFEST_BYTES as u64)?;
    let table: toml::Table =
        String::from_utf8(bytes).ok().and_then(|text| toml::from_str(&text).ok()).ok_or_else(not_built)?;
    let field = |name: &str| table.get("skill")?.as_table()?.get(name)?.as_str();
    match (field("name"), field("version")) {
        (Some(name), Some(version)) => built_before(out, name, version).map_err(|_| not_built()),
        _ => Err(not_built()),
    }
}

/// Cargo's target folder of the bundled skills.
fn target_dir(sources: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| sources.join("target"), PathBuf::from)
}

fn spinner(folder: &Path) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let spinner = ProgressBar::new_spinner().with_message(format!("building {name}"));
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
        spinner.set_style(style);
    }
    spinner.enable_steady_tick(Duration::from_millis(120));
    spinner
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bundled_skills_are_found() {
        let folders = folders(&sources().canonicalize().expect("the checkout")).expect("folders");
        let names: Vec<_> = folders.iter().filter_map(|f| f.file_name()?.to_str().map(str::to_owned)).collect();
        for name in ["check-policy", "draft-post", "find-trends", "publish-post", "summarize"] {
            assert!(names.iter().any(|found| found == name), "{name} is not among {names:?}");
        }
        assert!(folders.iter().all(|folder| Language::of(folder) == Ok(Language::Rust)), "{names:?}");
    }

    #[test]
    fn what_was_not_built_says_so() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("skill.toml"), "[skill]\nname = \"a/b\"\nversion = \"0.1.0\"\n")
            .expect("a file");
        let error = found(folder.path(), folder.path()).expect_err("not built");
        assert!(error.fix.contains("--no-build"), "{error:?}");
    }
}
