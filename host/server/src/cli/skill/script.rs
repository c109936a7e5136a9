//! Builds of skills in Python and JavaScript.
//!
//! The sources are copied into a build folder beside the skill's world and the glue that this program carries, and a
//! builder of one version makes the component of them; nothing is written into the author's folder but `target/`. The
//! builder runs the top level of the author's modules. Called by `skill build`.

use super::guest::Chatter;
use super::language::Language;
use super::tools::{self, Tool};
use super::world::{self, WORLD};
use crate::cli::Env;
use crate::cli::error::{CliError, CliResult};
use crate::cli::inputs::read_capped;
use crate::cli::output::tell;
use chimera_core::digest::Digest;
use chimera_core::manifest::{Manifest, World};
use chimera_registry::MAX_COMPONENT_BYTES;
use std::path::{Path, PathBuf};

/// Most files that are copied of a skill's folder.
const MAX_FILES: usize = 2_000;
/// Most bytes of one source file.
const MAX_FILE_BYTES: u64 = 8 << 20;
/// Folders that hold no source of the component.
const NOT_SOURCES: [&str; 6] = ["target", "tests", "test", "node_modules", "venv", "__pycache__"];

/// The name that the glue of Python is given in the build folder.
const PYTHON_GLUE: &str = "chimera_guest.py";
/// The same of JavaScript.
const JAVASCRIPT_GLUE: &str = "chimera-guest.js";
/// What is imported of the host, for the glue of JavaScript: written for each skill.
const JAVASCRIPT_HOST: &str = "chimera-host.js";

/// Where a build works and what it makes.
struct Place {
    /// The copied sources and the glue.
    app: PathBuf,
    /// The skill's world.
    wit: PathBuf,
    /// The component without its manifest.
    wasm: PathBuf,
    /// What the component was made of.
    stamp: PathBuf,
}

/// Where components of skills without cargo are put: cargo's target folder if one is named, else `target` in the folder.
pub(super) fn target_dir(folder: &Path) -> PathBuf {
    let named = std::env::var_os("CARGO_TARGET_DIR").filter(|path| !path.is_empty());
    named.map_or_else(|| folder.join("target"), PathBuf::from)
}

/// Builds the component of the skill in `folder`, without its manifest, if anything changed since it was last built.
pub(super) async fn build(
    env: &Env,
    language: Language,
    folder: &Path,
    manifest: &Manifest,
    chatter: Chatter,
) -> CliResult<Vec<u8>> {
    let place = stage(language, folder, manifest)?;
    let tool = match language {
        Language::Python => tools::componentize_py(env).await?,
        Language::Rust | Language::Javascript => tools::componentize_js(env, &absolute(folder)?).await?,
    };
    let stamp = fingerprint(&place, &tool)?;
    if std::fs::read_to_string(&place.stamp).is_ok_and(|kept| kept == stamp)
        && let Ok(bytes) = read_capped(&place.wasm, MAX_COMPONENT_BYTES as u64)
    {
        return Ok(bytes);
    }
    if chatter == Chatter::Shown {
        tell(&format!("Building {} with {} (some 10 to 20 seconds).", manifest.skill.name, tool.name));
    }
    componentize(language, folder, &place, &tool).await?;
    let bytes = read_capped(&place.wasm, MAX_COMPONENT_BYTES as u64)?;
    // Only a shortcut for the next build.
    let _ = std::fs::write(&place.stamp, stamp);
    Ok(bytes)
}

/// Builders run in the build folder, so every other path they are given must be whole.
fn absolute(folder: &Path) -> CliResult<PathBuf> {
    folder.canonicalize().map_err(|error| CliError::unreadable(folder, &error))
}

/// Makes the build folder anew: sources, glue, world.
fn stage(language: Language, folder: &Path, manifest: &Manifest) -> CliResult<Place> {
    let name = &manifest.skill.name;
    let out = target_dir(folder).join("chimera/build").join(format!("{}-{}", name.namespace(), name.name()));
    let unwritable = |error| CliError::unwritable(&out, &error);
    std::fs::create_dir_all(&out).map_err(unwritable)?;
    let out = out.canonicalize().map_err(unwritable)?;
    let place =
        Place { app: out.join("app"), wit: out.join("wit"), wasm: out.join("guest.wasm"), stamp: out.join("stamp") };
    for stale in [&place.app, &place.wit] {
        if stale.exists() {
            std::fs::remove_dir_all(stale).map_err(unwritable)?;
        }
        std::fs::create_dir(stale).map_err(unwritable)?;
    }
    let kinds: &[&str] = if language == Language::Python { &["py"] } else { &["js", "mjs", "json"] };
    copy_sources(folder, &place.app, kinds, &mut 0)?;
    world::write(manifest, &place.wit)?;
    let (glue_name, text) = glue(language, manifest.skill.world);
    put_glue(&place.app.join(glue_name), text)?;
    if language == Language::Javascript {
        put_glue(&place.app.join(JAVASCRIPT_HOST), &javascript_host(manifest)?)?;
    }
    Ok(place)
}

/// What stands between the contract and the author: its name in the build folder, and its text.
fn glue(language: Language, world: World) -> (&'static str, &'static str) {
    match (language, world) {
        (Language::Python, World::Skill) => (PYTHON_GLUE, include_str!("python/chimera_guest.py")),
        (Language::Python, World::Judge) => (PYTHON_GLUE, include_str!("python/chimera_judge.py")),
        (Language::Rust | Language::Javascript, World::Skill) => {
            (JAVASCRIPT_GLUE, include_str!("javascript/chimera-guest.js"))
        }
        (Language::Rust | Language::Javascript, World::Judge) => {
            (JAVASCRIPT_GLUE, include_str!("javascript/chimera-judge.js"))
        }
    }
}

fn put_glue(path: &Path, text: &str) -> CliResult<()> {
    if path.exists() {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        return Err(CliError::usage(
            format!("the skill has a file {name}, and the build needs that name"),
            "rename the file",
        ));
    }
    std::fs::write(path, text).map_err(|error| CliError::unwritable(path, &error))
}

/// Copies the source files of a folder; links, hidden files and what is no source stay behind.
fn copy_sources(from: &Path, to: &Path, kinds: &[&str], copied: &mut usize) -> CliResult<()> {
    let unreadable = |error| CliError::unreadable(from, &error);
    let mut entries: Vec<std::fs::DirEntry> =
        std::fs::read_dir(from).map_err(unreadable)?.collect::<Result<_, _>>().map_err(unreadable)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let (path, name) = (entry.path(), entry.file_name());
        let kind = entry.file_type().map_err(unreadable)?;
        let is_hidden = name.to_str().is_none_or(|name| name.starts_with('.') || NOT_SOURCES.contains(&name));
        if is_hidden {
            continue;
        }
        let target = to.join(&name);
        if kind.is_dir() {
            copy_sources(&path, &target, kinds, copied)?;
        } else if kind.is_file() && path.extension().and_then(|e| e.to_str()).is_some_and(|e| kinds.contains(&e)) {
            *copied += 1;
            if *copied > MAX_FILES {
                return Err(CliError::usage(
                    format!("{} has more than {MAX_FILES} source files", from.display()),
                    "keep what is not the skill's in another folder, or under tests/",
                ));
            }
            let bytes = read_capped(&path, MAX_FILE_BYTES)?;
            std::fs::create_dir_all(to).map_err(|error| CliError::unwritable(to, &error))?;
            std::fs::write(&target, bytes).map_err(|error| CliError::unwritable(&target, &error))?;
        }
    }
    Ok(())
}

/// `import`s must be written out in JavaScript, so the declared ones are written for each skill.
fn javascript_host(manifest: &Manifest) -> CliResult<String> {
    let (names, version) = (world::imports(manifest), world::version(manifest)?);
    let mut text: String =
        names.iter().map(|name| format!("import * as {name} from 'chimera:skill/{name}@{version}';\n")).collect();
    text.push_str(&format!("export const host = {{ {} }};\nexport const version = '{version}';\n", names.join(", ")));
    Ok(text)
}

async fn componentize(language: Language, folder: &Path, place: &Place, tool: &Tool) -> CliResult<()> {
    let mut command = tool.command();
    command.current_dir(&place.app);
    match language {
        Language::Python => command
            .args(["--quiet", "--world", WORLD, "--wit-path"])
            .arg(&place.wit)
            // Sockets would come in with the WASI of Python; without it there is no clock and no chance either.
            .args(["componentize", "chimera_guest", "--stub-wasi", "--python-path", ".", "--output"])
            .arg(&place.wasm),
        Language::Rust | Language::Javascript => command
            .args([JAVASCRIPT_GLUE, "--world-name", WORLD, "--wit"])
            .arg(&place.wit)
            .args(["--disable", "http", "fetch-event", "--out"])
            .arg(&place.wasm),
    };
    let ended = tools::wait(&mut command).await.map_err(|error| {
        CliError::failed(format!("{} could not be started: {error}", tool.name), "remove it and build again")
    })?;
    if ended.is_success {
        return Ok(());
    }
    tell(ended.messages.trim_end());
    Err(CliError::failed(
        format!("{} could not be built", folder.display()),
        format!("the messages of {} above say why", tool.name),
    ))
}

/// A digest of everything that the component is made of.
fn fingerprint(place: &Place, tool: &Tool) -> CliResult<String> {
    let mut parts = format!("{}\n{}\n", tool.name, env!("CARGO_PKG_VERSION"));
    for root in [&place.app, &place.wit] {
        digest_files(root, root, &mut parts)?;
    }
    Ok(Digest::of(parts.as_bytes()).to_string())
}

fn digest_files(root: &Path, folder: &Path, parts: &mut String) -> CliResult<()> {
    let unreadable = |error| CliError::unreadable(folder, &error);
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .map_err(unreadable)?
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<_>>()
        .map_err(unreadable)?;
    paths.sort();
    for path in paths {
        if path.is_dir() {
            digest_files(root, &path, parts)?;
        } else {
            let digest = Digest::of(&read_capped(&path, MAX_FILE_BYTES)?);
            let name = path.strip_prefix(root).unwrap_or(&path).display().to_string();
            parts.push_str(&format!("{name:?} {digest}\n"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sources_are_copied() {
        let place = tempfile::tempdir().expect("a folder");
        let (from, to) = (place.path().join("from"), place.path().join("to"));
        for file in ["skill.py", "lib/rules.py", "tests/test_skill.py", ".hidden/x.py", "target/old.py", "notes.txt"] {
            let path = from.join(file);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            std::fs::write(path, file).expect("a file");
        }
        std::os::unix::fs::symlink("/etc/hostname", from.join("linked.py")).expect("a link");
        let mut copied = 0;
        copy_sources(&from, &to, &["py"], &mut copied).expect("copied");
        assert_eq!(copied, 2);
        assert!(to.join("skill.py").is_file() && to.join("lib/rules.py").is_file());
        assert!(!to.join("tests").exists() && !to.join("linked.py").exists());
    }

    #[test]
    fn a_source_with_the_glue_s_name_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(PYTHON_GLUE);
        std::fs::write(&path, "mine").expect("a file");
        let error = put_glue(&path, "ours").expect_err("taken");
        assert!(error.what.contains(PYTHON_GLUE), "{error:?}");
        assert_eq!(std::fs::read_to_string(&path).expect("a file"), "mine");
    }
}
