//! What the tests need besides Rust: found, or installed after asking.
//!
//! On Debian and its relatives missing programs come from apt; elsewhere the message says what to install. Nothing is
//! installed without consent (`--yes`, `CI=true`, or a yes at the prompt). Called by `cargo xtask test`.

use crate::run::{command, is_root, output, root, run};
use crate::services;
use anyhow::{Context, Result, bail};
use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

/// May missing programs be installed without asking?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consent {
    /// `--yes` or `CI=true`.
    Given,
    /// A prompt on the terminal decides.
    Ask,
}

impl Consent {
    /// From the flag and the environment.
    pub fn new(yes: bool) -> Self {
        if yes || std::env::var("CI").is_ok_and(|ci| ci == "true") { Self::Given } else { Self::Ask }
    }

    fn obtain(self, what: &str) -> Result<()> {
        println!("needed: {what}");
        if self == Self::Given {
            return Ok(());
        }
        if !std::io::stdin().is_terminal() {
            bail!("{what} is missing; install it, or run again with --yes to have it installed");
        }
        print!("install it now? [y/N] ");
        std::io::stdout().flush()?;
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer)?;
        if answer.trim().eq_ignore_ascii_case("y") { Ok(()) } else { bail!("{what} is missing and was not installed") }
    }
}

/// The guest target, compilers for C and C++, Chromium and Node for the browser test, Python and Node for skills.
///
/// # Errors
/// When something is missing and may not or cannot be installed.
pub fn ensure(consent: Consent) -> Result<()> {
    ensure_wasm_target(consent)?;
    let mut packages = Vec::new();
    // C for SQLite and the like, C++ for libFuzzer.
    if !on_path("cc") || !on_path("c++") {
        packages.push("build-essential");
    }
    if browser().is_none() {
        packages.push("chromium");
    }
    if !on_path("node") {
        packages.push("nodejs");
    }
    if !on_path("npm") {
        packages.push("npm");
    }
    if !has_venv() {
        packages.push("python3-venv");
    }
    if !packages.is_empty() {
        apt_install(&packages, consent)?;
    }
    ensure_browser_driver(consent)
}

/// The servers that the tests start for themselves, and what they make faults with.
///
/// # Errors
/// When something is missing and may not or cannot be installed.
pub fn ensure_services(consent: Consent) -> Result<()> {
    let mut packages = Vec::new();
    if services::postgres_bin().is_err() {
        packages.push("postgresql");
    }
    if !on_path(services::REDIS) {
        packages.push("redis-server");
    }
    // Builds Weaviate. One that is too old fetches the one that is asked for.
    if !on_path(services::GO) {
        packages.push("golang-go");
    }
    // Clocks that jump, and networks that are cut: by root, on Linux.
    if !has_wall_clocks() {
        packages.push("faketime");
    }
    if !on_path("ip") {
        packages.push("iproute2");
    }
    if packages.is_empty() { Ok(()) } else { apt_install(&packages, consent) }
}

/// Where Chromium is.
pub fn browser() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("CHIMERA_CHROMIUM").map(PathBuf::from) {
        return Some(path);
    }
    ["chromium", "chromium-browser", "google-chrome"].into_iter().find_map(which)
}

fn ensure_wasm_target(consent: Consent) -> Result<()> {
    let sysroot = output(&mut command("rustc", &["--print", "sysroot"]))?;
    let target = Path::new(sysroot.trim()).join("lib/rustlib/wasm32-wasip2");
    if target.is_dir() {
        return Ok(());
    }
    consent.obtain("the Rust target wasm32-wasip2, to build skills (rustup target add wasm32-wasip2)")?;
    run(&mut command("rustup", &["target", "add", "wasm32-wasip2"]))
}

fn apt_install(packages: &[&str], consent: Consent) -> Result<()> {
    if !on_path("apt-get") {
        bail!("please install {} and run again (this is not a Debian-like system)", packages.join(", "));
    }
    consent.obtain(&format!("the Debian packages {}", packages.join(", ")))?;
    let as_root = is_root()?;
    let apt = |args: &[&str]| {
        let mut command =
            if as_root { command("apt-get", args) } else { command("sudo", &[&["apt-get"], args].concat()) };
        command.env("DEBIAN_FRONTEND", "noninteractive");
        run(&mut command)
    };
    apt(&["update", "-qq"])?;
    apt(&[&["install", "-y", "-qq", "--no-install-recommends"], packages].concat())
}

fn ensure_browser_driver(consent: Consent) -> Result<()> {
    let folder = root().join("tests/browser");
    if folder.join("node_modules/playwright-core").is_dir() {
        return Ok(());
    }
    consent.obtain("the npm package playwright-core, inside tests/browser (npm ci)")?;
    run(command("npm", &["ci", "--silent"]).current_dir(&folder)).context("the browser test needs playwright-core")
}

/// Can Python make virtual environments? Debian has that in a package of its own.
fn has_venv() -> bool {
    output(&mut command("python3", &["-c", "import ensurepip, venv"])).is_ok()
}

/// Is there the library that gives a process a wall clock of its own?
fn has_wall_clocks() -> bool {
    let folders = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten().map(|entry| entry.path());
    folders.into_iter().any(|folder| folder.join("faketime/libfaketimeMT.so.1").is_file())
}

fn on_path(program: &str) -> bool {
    which(program).is_some()
}

/// Where a program is on the path.
pub fn which(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|folder| folder.join(program)).find(|path| path.is_file())
}
