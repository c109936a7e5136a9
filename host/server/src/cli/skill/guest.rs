//! The toolchain of guests: cargo, the wasm target, and one build.
//!
//! It says what it needs before it fails for lack of it, and installs nothing but the Rust target, through rustup. It
//! runs no code of a skill. Called by `skill build`, the demo and `doctor`.

use crate::cli::error::{CliError, CliResult};
use crate::cli::output::tell;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::process::Command;

/// The target that guests are built for.
pub(crate) const TARGET: &str = "wasm32-wasip2";
/// Most of a hidden build's messages that is kept, in bytes.
const MAX_MESSAGES: usize = 16 * 1024;

/// Whether cargo's own messages are shown while it builds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Chatter {
    /// They go to standard error as they come.
    Shown,
    /// They are kept and shown only if the build fails.
    Hidden,
}

/// Whether guests can be built for [`TARGET`] in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TargetState {
    /// It is there.
    Installed,
    /// It is not; rustup could install it.
    Missing,
    /// It is not, and there is no rustup.
    MissingWithoutRustup,
    /// There is no cargo, or no rustc.
    NoCargo,
}

/// What cargo made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Artifact {
    /// The `.wasm` file.
    pub(crate) wasm: PathBuf,
    /// The package's version.
    pub(crate) version: String,
    /// Cargo's target folder.
    pub(crate) target_dir: PathBuf,
}

async fn output(program: &str, args: &[&str], folder: &Path) -> Option<std::process::Output> {
    Command::new(program).args(args).current_dir(folder).stdin(Stdio::null()).kill_on_drop(true).output().await.ok()
}

/// Looks for the toolchain as it is used in `folder` (a `rust-toolchain.toml` there counts).
pub(crate) async fn target_state(folder: &Path) -> TargetState {
    match output("cargo", &["--version"], folder).await {
        Some(told) if told.status.success() => {}
        _ => return TargetState::NoCargo,
    }
    if let Some(told) = output("rustup", &["target", "list", "--installed"], folder).await
        && told.status.success()
    {
        let is_there = String::from_utf8_lossy(&told.stdout).lines().any(|line| line.trim() == TARGET);
        return if is_there { TargetState::Installed } else { TargetState::Missing };
    }
    // Without rustup the target may have come with the compiler's own packages.
    let libraries = output("rustc", &["--print", "target-libdir", "--target", TARGET], folder).await;
    let is_there = libraries
        .is_some_and(|told| told.status.success() && Path::new(String::from_utf8_lossy(&told.stdout).trim()).is_dir());
    if is_there { TargetState::Installed } else { TargetState::MissingWithoutRustup }
}

/// Makes sure that guests can be built, installing the target if rustup can.
pub(crate) async fn ensure_target(folder: &Path) -> CliResult<()> {
    match target_state(folder).await {
        TargetState::Installed => Ok(()),
        TargetState::NoCargo => Err(CliError::failed(
            "there is no `cargo` on the PATH, which builds skills",
            "install Rust with rustup, then run the command again",
        )),
        TargetState::MissingWithoutRustup => Err(CliError::failed(
            format!("the Rust target {TARGET} is missing, and there is no rustup to install it"),
            format!("install Rust with rustup, then run `rustup target add {TARGET}`"),
        )),
        TargetState::Missing => add_target(folder).await,
    }
}

async fn add_target(folder: &Path) -> CliResult<()> {
    tell(&format!("The Rust target {TARGET} is missing: running `rustup target add {TARGET}`."));
    let done = output("rustup", &["target", "add", TARGET], folder).await;
    if done.as_ref().is_some_and(|done| done.status.success()) {
        return Ok(());
    }
    let why = done.map(|done| String::from_utf8_lossy(&done.stderr).trim().to_owned()).unwrap_or_default();
    Err(CliError::failed(
        format!("the Rust target {TARGET} could not be installed: {}", crate::cli::output::one_line(&why, 300)),
        format!("run `rustup target add {TARGET}` in {} where the network allows it", folder.display()),
    ))
}

/// Builds the package in `folder` for guests and finds its component.
pub(crate) async fn cargo_build(folder: &Path, chatter: Chatter) -> CliResult<Artifact> {
    let manifest = folder.join("Cargo.toml");
    let manifest = manifest.canonicalize().map_err(|error| CliError::unreadable(&manifest, &error))?;
    let mut command = Command::new("cargo");
    command
        .args(["build", "--release", "--target", TARGET, "--message-format=json-render-diagnostics"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(match chatter {
            Chatter::Shown => Stdio::inherit(),
            Chatter::Hidden => Stdio::piped(),
        })
        .kill_on_drop(true);
    let done = command
        .spawn()
        .map_err(|error| CliError::failed(format!("cargo could not be started: {error}"), "install Rust with rustup"))?
        .wait_with_output()
        .await
        .map_err(|error| CliError::failed(format!("cargo could not be waited for: {error}"), ""))?;
    if !done.status.success() {
        let told = String::from_utf8_lossy(&done.stderr);
        let from = chimera_core::text::floor_char_boundary(&told, told.len().saturating_sub(MAX_MESSAGES));
        if !told.is_empty() {
            tell(&chimera_core::text::printable(&told[from..]));
        }
        return Err(CliError::failed(
            format!("{} could not be built", folder.display()),
            "cargo's messages above say why",
        ));
    }
    artifact(&String::from_utf8_lossy(&done.stdout), &manifest).ok_or_else(|| {
        CliError::failed(
            format!("cargo made no component of {}", folder.display()),
            "its Cargo.toml needs `[lib] crate-type = [\"cdylib\", \"rlib\"]`",
        )
    })
}

/// Finds the component of the package with this manifest in cargo's messages.
fn artifact(messages: &str, manifest: &Path) -> Option<Artifact> {
    messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).find_map(|message| {
        let is_ours = message.get("reason").and_then(Value::as_str) == Some("compiler-artifact")
            && message.get("manifest_path").and_then(Value::as_str).map(Path::new) == Some(manifest);
        let kinds = message.pointer("/target/crate_types").and_then(Value::as_array)?;
        if !is_ours || !kinds.iter().any(|kind| kind == "cdylib") {
            return None;
        }
        let files = message.get("filenames").and_then(Value::as_array)?;
        let wasm = files
            .iter()
            .filter_map(Value::as_str)
            .map(PathBuf::from)
            .find(|path| path.extension().is_some_and(|e| e == "wasm"))?;
        // <target dir>/wasm32-wasip2/release/<name>.wasm
        let target_dir = wasm.ancestors().nth(3)?.to_owned();
        Some(Artifact { version: version_of(message.get("package_id")?.as_str()?)?, wasm, target_dir })
    })
}

/// The version in a package id: what follows `#`, and `@` if the name stands before it.
fn version_of(package_id: &str) -> Option<String> {
    let (_, tail) = package_id.rsplit_once('#')?;
    Some(tail.rsplit_once('@').map_or(tail, |(_, version)| version).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_component_is_found_among_cargo_s_messages() {
        let messages = r#"not json
{"reason":"compiler-artifact","manifest_path":"/dep/Cargo.toml","package_id":"registry+x#serde@1.0.0","target":{"crate_types":["lib"]},"filenames":["/t/a.rlib"]}
{"reason":"compiler-artifact","manifest_path":"/s/Cargo.toml","package_id":"path+file:///s#hello@0.2.0","target":{"crate_types":["cdylib","rlib"]},"filenames":["/t/wasm32-wasip2/release/libhello.rlib","/t/wasm32-wasip2/release/hello.wasm"]}
{"reason":"build-finished","success":true}"#;
        let found = artifact(messages, Path::new("/s/Cargo.toml")).expect("an artifact");
        assert_eq!(found.wasm, Path::new("/t/wasm32-wasip2/release/hello.wasm"));
        assert_eq!(found.target_dir, Path::new("/t"));
        assert_eq!(found.version, "0.2.0");
        assert_eq!(artifact(messages, Path::new("/other/Cargo.toml")), None);
    }

    #[test]
    fn both_shapes_of_package_ids_are_read() {
        assert_eq!(version_of("path+file:///s/hello#0.1.0").as_deref(), Some("0.1.0"));
        assert_eq!(version_of("path+file:///s/x#hello@0.1.0-rc.1").as_deref(), Some("0.1.0-rc.1"));
        assert_eq!(version_of("nothing"), None);
    }
}
