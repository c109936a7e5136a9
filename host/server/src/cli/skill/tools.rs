//! The builders of Python and JavaScript skills: componentize-py and componentize-js, of exactly one version each.
//!
//! They are set up on first use, with Python's own pip and Node's own npm, in a folder that belongs to this program
//! alone, and never change what is installed on the machine. Called by the builds of Python and JavaScript skills.

use crate::cli::Env;
use crate::cli::error::{CliError, CliResult};
use crate::cli::output::tell;
use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::process::Command;

/// The version of componentize-py that Python skills are built with.
pub(super) const COMPONENTIZE_PY: &str = "0.25.1";
/// The version of componentize-js that JavaScript skills are built with; `package.json` beside the lock says the same.
pub(super) const COMPONENTIZE_JS: &str = "0.23.0";
/// Where componentize-js lies below a folder that npm filled.
const JS_PACKAGE: &str = "node_modules/@bytecodealliance/componentize-js";
/// What npm is told to install, and everything that belongs to it, by version and digest.
const JS_FILES: [(&str, &str); 2] = [
    ("package.json", include_str!("javascript/tools/package.json")),
    ("package-lock.json", include_str!("javascript/tools/package-lock.json")),
];
/// Written last into a folder of tools: only what is complete has it.
const READY: &str = "ready";
/// Most that is kept of what a tool printed, in bytes.
const MAX_MESSAGES: usize = 16 * 1024;

/// How to start a builder.
pub(super) struct Tool {
    program: PathBuf,
    first_args: Vec<PathBuf>,
    /// Its name and version.
    pub(super) name: String,
}

impl Tool {
    /// A command that starts it, with nothing of the caller's Python or Node settings.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.first_args);
        // A builder looks for packages beside the Python it finds: what it finds must not depend on the caller's shell.
        if let Some(own) = self.program.parent() {
            let path = std::env::var_os("PATH").unwrap_or_default();
            let folders = std::iter::once(own.to_owned()).chain(std::env::split_paths(&path));
            if let Ok(path) = std::env::join_paths(folders) {
                command.env("PATH", path);
            }
        }
        for name in ["VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME", "NODE_OPTIONS", "NODE_PATH"] {
            command.env_remove(name);
        }
        command.env("PYTHONNOUSERSITE", "1").env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }
}

/// How a tool that was waited for ended.
pub(super) struct Ended {
    /// Did it succeed?
    pub(super) is_success: bool,
    /// The end of what it printed, both streams.
    pub(super) messages: String,
}

/// Runs a command to its end.
///
/// # Errors
/// When it cannot be started.
pub(super) async fn wait(command: &mut Command) -> std::io::Result<Ended> {
    let done = command.stdin(Stdio::null()).kill_on_drop(true).output().await?;
    let mut all = String::from_utf8_lossy(&done.stdout).into_owned();
    all.push_str(&String::from_utf8_lossy(&done.stderr));
    let from = chimera_core::text::floor_char_boundary(&all, all.len().saturating_sub(MAX_MESSAGES));
    Ok(Ended { is_success: done.status.success(), messages: chimera_core::text::printable(&all[from..]) })
}

/// The folder that the tools are kept in: `CHIMERA_TOOLS_DIR`, or `tools` in the data folder.
fn folder(env: &Env) -> CliResult<PathBuf> {
    match std::env::var_os("CHIMERA_TOOLS_DIR").filter(|folder| !folder.is_empty()) {
        Some(folder) => std::path::absolute(&folder).map_err(|e| CliError::unreadable(Path::new(&folder), &e)),
        None => Ok(env.config()?.data_dir.value.join("tools")),
    }
}

/// Makes a folder and its parents for this user alone: a data folder that others can write into is refused later.
fn make_private(folder: &Path) -> CliResult<()> {
    let mut builder = std::fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(builder.recursive(true), 0o700);
    builder.create(folder).map_err(|error| CliError::unwritable(folder, &error))
}

/// Holds one tool's folder against other processes that would set it up at the same time, until it is dropped.
struct Claim {
    folder: PathBuf,
    _lock: File,
}

async fn claim(env: &Env, name: &str) -> CliResult<Claim> {
    let tools = folder(env)?;
    make_private(&tools)?;
    let path = tools.join(format!("{name}.lock"));
    let unwritable = |error: std::io::Error| CliError::unwritable(&path, &error);
    let file = File::create(&path).map_err(unwritable)?;
    let lock = tokio::task::spawn_blocking(move || file.lock().map(|()| file)).await;
    let lock = lock.map_err(|_| CliError::failed("waiting for another build was given up", "try again"))?;
    Ok(Claim { folder: tools.join(name), _lock: lock.map_err(unwritable)? })
}

impl Claim {
    fn is_ready(&self) -> bool {
        self.folder.join(READY).is_file()
    }

    /// Empties the folder of what an interrupted set-up left.
    fn restart(&self) -> CliResult<()> {
        match std::fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(CliError::unwritable(&self.folder, &error));
            }
            _ => {}
        }
        make_private(&self.folder)
    }

    fn finish(&self) -> CliResult<()> {
        let path = self.folder.join(READY);
        std::fs::write(&path, "").map_err(|error| CliError::unwritable(&path, &error))
    }
}

/// componentize-py: the one on the PATH if it is of the right version, else one in a virtual environment of its own.
pub(super) async fn componentize_py(env: &Env) -> CliResult<Tool> {
    let name = format!("componentize-py {COMPONENTIZE_PY}");
    let tool = |program: PathBuf| Tool { program, first_args: Vec::new(), name: name.clone() };
    if let Some(program) = on_path("componentize-py")
        && is_of_version(&program).await
    {
        return Ok(tool(program));
    }
    let claim = claim(env, &format!("componentize-py-{COMPONENTIZE_PY}")).await?;
    let program = claim.folder.join("bin/componentize-py");
    if claim.is_ready() && is_of_version(&program).await {
        return Ok(tool(program));
    }
    let Some(python) = on_path("python3").or_else(|| on_path("python")) else {
        return Err(CliError::failed(
            format!("a Python skill is built with {name}, which needs Python, and there is no python3 on the PATH"),
            "install Python 3.10 or newer with venv and pip (on Debian: apt install python3-venv) and build again",
        ));
    };
    tell(&format!("Setting up {name} in {} (once; about 45 MB from PyPI).", claim.folder.display()));
    claim.restart()?;
    set_up(
        Command::new(python).args(["-m", "venv"]).arg(&claim.folder),
        "Python could not make a virtual environment",
        "install Python's venv and pip (on Debian: apt install python3-venv), or put componentize-py on the PATH",
    )
    .await?;
    set_up(
        Command::new(claim.folder.join("bin/python"))
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"])
            .args(["--only-binary", ":all:"])
            .arg(format!("componentize-py=={COMPONENTIZE_PY}")),
        &format!("pip could not install {name}"),
        &format!(
            "build where the network reaches PyPI (or set PIP_INDEX_URL), or install it yourself: \
             pipx install componentize-py=={COMPONENTIZE_PY}"
        ),
    )
    .await?;
    claim.finish()?;
    Ok(tool(program))
}

async fn is_of_version(program: &Path) -> bool {
    let mut ask = Command::new(program);
    ask.arg("--version");
    wait(&mut ask)
        .await
        .is_ok_and(|told| told.is_success && told.messages.split_whitespace().last() == Some(COMPONENTIZE_PY))
}

/// componentize-js: the project's own if npm installed one there, else one in a folder of its own.
pub(super) async fn componentize_js(env: &Env, project: &Path) -> CliResult<Tool> {
    let Some(node) = on_path("node") else {
        return Err(CliError::failed(
            format!(
                "a JavaScript skill is built with componentize-js {COMPONENTIZE_JS}, which needs Node, and there is no node on the PATH"
            ),
            "install Node 20 or newer with npm (on Debian: apt install nodejs npm) and build again",
        ));
    };
    let tool = |at: &Path, version: &str| Tool {
        program: node.clone(),
        first_args: vec![at.join(JS_PACKAGE).join("src/cli.js")],
        name: format!("componentize-js {version}"),
    };
    if let Some(version) = installed_js(project) {
        return Ok(tool(project, &version));
    }
    let claim = claim(env, &format!("componentize-js-{COMPONENTIZE_JS}")).await?;
    if claim.is_ready() && installed_js(&claim.folder).as_deref() == Some(COMPONENTIZE_JS) {
        return Ok(tool(&claim.folder, COMPONENTIZE_JS));
    }
    let Some(npm) = on_path("npm") else {
        return Err(CliError::failed(
            format!("componentize-js {COMPONENTIZE_JS} is set up with npm, and there is no npm on the PATH"),
            "install npm (on Debian: apt install npm) and build again",
        ));
    };
    tell(&format!(
        "Setting up componentize-js {COMPONENTIZE_JS} in {} (once; about 60 MB from npm).",
        claim.folder.display()
    ));
    claim.restart()?;
    for (name, text) in JS_FILES {
        let path = claim.folder.join(name);
        std::fs::write(&path, text).map_err(|error| CliError::unwritable(&path, &error))?;
    }
    set_up(
        // No package's own script runs: what is needed are files, whose digests the lock holds.
        Command::new(npm).args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(&claim.folder),
        &format!("npm could not install componentize-js {COMPONENTIZE_JS}"),
        "build where the network reaches npm's registry (or configure npm for yours), or install it in the project: \
         npm install --save-dev --save-exact @bytecodealliance/componentize-js",
    )
    .await?;
    claim.finish()?;
    Ok(tool(&claim.folder, COMPONENTIZE_JS))
}

/// The version of componentize-js that npm installed in a folder.
fn installed_js(folder: &Path) -> Option<String> {
    let text = std::fs::read_to_string(folder.join(JS_PACKAGE).join("package.json")).ok()?;
    let package: serde_json::Value = serde_json::from_str(&text).ok()?;
    Some(package.get("version")?.as_str()?.to_owned())
}

async fn set_up(command: &mut Command, what: &str, fix: &str) -> CliResult<()> {
    let ended = wait(command.env_remove("VIRTUAL_ENV").env_remove("PYTHONHOME"))
        .await
        .map_err(|error| CliError::failed(format!("{what}: {error}"), fix))?;
    if ended.is_success {
        return Ok(());
    }
    tell(ended.messages.trim_end());
    Err(CliError::failed(format!("{what}; its messages are above"), fix))
}

fn on_path(program: impl AsRef<OsStr>) -> Option<PathBuf> {
    let program = program.as_ref();
    std::env::split_paths(&std::env::var_os("PATH")?)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_pins_what_the_program_names_and_no_registry() {
        let [(_, package), (_, lock)] = JS_FILES;
        let package: serde_json::Value = serde_json::from_str(package).expect("JSON");
        assert_eq!(package["dependencies"]["@bytecodealliance/componentize-js"], COMPONENTIZE_JS);
        let lock: serde_json::Value = serde_json::from_str(lock).expect("JSON");
        assert_eq!(lock["packages"][JS_PACKAGE]["version"], COMPONENTIZE_JS);
        for (name, package) in lock["packages"].as_object().expect("packages") {
            assert!(package.get("resolved").is_none(), "{name} names a registry");
            assert!(name.is_empty() || package["integrity"].is_string(), "{name} has no digest");
        }
    }
}
