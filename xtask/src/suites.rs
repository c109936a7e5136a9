//! The suites, in the order in which they run.
//!
//! Host tests are built once; the guests are built by the `chimera` binary under test; the end-to-end tests find both
//! through environment variables that are set here and nowhere else. Called by `main`.

use crate::TestOptions;
use crate::fuzz::{Effort, fuzz};
use crate::prerequisites::{self, Consent};
use crate::run::{Totals, cargo, command, root, run, run_tests, target_dir};
use crate::services;
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::process::Command;

/// One part of the tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Suite {
    /// Formatting and clippy.
    Lint,
    /// Native tests of the bundled skills.
    Guests,
    /// Unit, property, contract and end-to-end tests of the host workspace.
    Host,
    /// The dashboard in a real browser.
    Browser,
    /// Fuzz targets: the core's for seconds, or all for five minutes each with `--full`.
    Fuzz,
    /// What is held against a bound of time, with the server as it is shipped and nothing beside it; only with `--full` or by
    /// name.
    Timed,
}

const SUITES: [Suite; 5] = [Suite::Lint, Suite::Guests, Suite::Host, Suite::Browser, Suite::Fuzz];
/// End-to-end tests with times that are held against bounds, and which of them.
const TIMED: [(&str, &str); 2] = [("hostile", "who_behaves"), ("hotload", "")];

/// `cargo xtask test`.
///
/// # Errors
/// When something could not be set up, or a test failed.
pub fn test(options: &TestOptions) -> Result<()> {
    prerequisites::ensure(Consent::new(options.yes))?;
    let mut chosen: Vec<Suite> = if options.only.is_empty() { SUITES.to_vec() } else { options.only.clone() };
    if options.only.is_empty() && options.full {
        chosen.push(Suite::Timed);
    }
    let mut totals = Totals::default();
    if chosen.contains(&Suite::Lint) {
        lint()?;
    }
    // The fuzz targets are a workspace of their own; in full they begin from the guests, which the program builds.
    let is_fuzz_alone = chosen == [Suite::Fuzz];
    match (is_fuzz_alone, options.full) {
        // The binary under test and all test programs, in one build: the end-to-end tests need `chimera` beside them.
        (false, _) => run(&mut cargo(&["test", "--workspace", "--all-targets", "--no-run"]))?,
        (true, true) => run(&mut cargo(&["build", "--package", "chimera"]))?,
        (true, false) => {}
    }
    let environment = Environment::new()?;
    if !is_fuzz_alone || options.full {
        environment.build("skills")?;
        environment.build("tests/guests")?;
    }
    for suite in chosen {
        let counted = match suite {
            Suite::Lint => Totals::default(),
            Suite::Guests => guests(&environment)?,
            Suite::Host => host(options, &environment)?,
            Suite::Browser => browser(&environment)?,
            Suite::Fuzz => {
                let effort = if options.full { Effort::Full } else { Effort::Reduced };
                fuzz(effort, &target_dir()?, &environment.guests)?
            }
            Suite::Timed => timed(&environment)?,
        };
        totals.add(counted);
    }
    println!("\n{} passed, {} failed, {} skipped", totals.passed, totals.failed, totals.skipped);
    if totals.failed > 0 {
        bail!("{} tests failed", totals.failed);
    }
    if totals.passed == 0 {
        bail!("no test ran");
    }
    Ok(())
}

fn host(options: &TestOptions, environment: &Environment) -> Result<Totals> {
    let mut totals = Totals::default();
    let running = services::ensure(Consent::new(options.yes))?;
    let model = environment.model()?;
    let size = if options.full { "full" } else { "reduced" };
    totals.add(run_tests(
        environment
            .apply(&mut cargo(&["test", "--workspace", "--all-targets", "--no-fail-fast"]))
            .envs(running.services.environment())
            .env("CHIMERA_TEST_MODEL", model)
            .env("CHIMERA_TEST_SIZE", size),
    )?);
    totals.add(run_tests(&mut cargo(&["test", "--workspace", "--doc", "--no-fail-fast"]))?);
    Ok(totals)
}

fn timed(environment: &Environment) -> Result<Totals> {
    run(&mut cargo(&["build", "--release", "--package", "chimera"]))?;
    let shipped = target_dir()?.join("release/chimera");
    let mut totals = Totals::default();
    for (test, filter) in TIMED {
        let mut tests = cargo(&["test", "--package", "chimera-tests", "--test", test, "--", "--nocapture"]);
        environment.apply(tests.arg(filter)).env("CHIMERA_BIN", &shipped).env("CHIMERA_TEST_TIMED", "1");
        totals.add(run_tests(&mut tests)?);
    }
    Ok(totals)
}

/// The bundled skills natively, each with the tests of its language.
fn guests(environment: &Environment) -> Result<Totals> {
    let skills = root().join("skills");
    let mut totals = Totals::default();
    let mut rust = cargo(&["test", "--quiet"]);
    totals.add(run_tests(rust.current_dir(&skills).env("CARGO_TARGET_DIR", &environment.guests))?);
    let mut python = command("python3", &["-c", UNITTEST]);
    totals.add(run_tests(python.current_dir(skills.join("keywords")).env("PYTHONDONTWRITEBYTECODE", "1"))?);
    let mut node = command("node", &["--test", "--test-reporter=tap", "tests/skill.test.js"]);
    totals.add(run_tests(node.current_dir(skills.join("readability")))?);
    Ok(totals)
}

/// `python3 -m unittest` with its report on standard output, where it is counted.
const UNITTEST: &str = "import sys, unittest; unittest.main(None, argv=['unittest', 'discover'], \
                        testRunner=unittest.TextTestRunner(stream=sys.stdout))";

fn browser(environment: &Environment) -> Result<Totals> {
    let chromium = prerequisites::browser().context("Chromium is missing")?;
    let mut node = command("node", &["--test", "--test-reporter=tap"]);
    node.current_dir(root().join("tests/browser")).env("CHIMERA_CHROMIUM", chromium);
    run_tests(environment.apply(&mut node))
}

/// `cargo xtask lint`.
///
/// # Errors
/// When something is not formatted or clippy has something to say.
pub fn lint() -> Result<()> {
    for workspace in [root(), root().join("skills"), root().join("tests/guests")] {
        run(cargo(&["fmt", "--all", "--", "--check"]).current_dir(&workspace))?;
    }
    // Not `--all` here: that would be the host's crates once more, which it depends on by path.
    run(cargo(&["fmt", "--", "--check"]).current_dir(root().join("fuzz")))?;
    run(&mut cargo(&["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]))?;
    let guests = target_dir()?.join("guests");
    for workspace in ["skills", "tests/guests"] {
        run(cargo(&["clippy", "--workspace", "--quiet", "--target", "wasm32-wasip2", "--", "-D", "warnings"])
            .current_dir(root().join(workspace))
            .env("CARGO_TARGET_DIR", &guests))?;
    }
    Ok(())
}

/// `cargo xtask deny`.
///
/// # Errors
/// When cargo-deny cannot be installed or finds something.
pub fn deny(yes: bool) -> Result<()> {
    if cargo(&["deny", "--version"]).output().map_or(true, |output| !output.status.success()) {
        println!("needed: cargo-deny");
        if Consent::new(yes) == Consent::Ask {
            bail!("cargo-deny is missing; `cargo install --locked cargo-deny`, or run again with --yes");
        }
        run(&mut cargo(&["install", "--locked", "--quiet", "cargo-deny"]))?;
    }
    run(&mut cargo(&["deny", "check"]))
}

/// What the end-to-end tests are told.
pub struct Environment {
    binary: PathBuf,
    /// Cargo's target folder of the guests; the finished components are in `chimera/` below it.
    guests: PathBuf,
}

impl Environment {
    /// Where the builders of Python and JavaScript skills are set up.
    fn tools(&self) -> PathBuf {
        self.guests.join("tools")
    }

    fn apply<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command
            .env("CHIMERA_BIN", &self.binary)
            .env("CHIMERA_GUEST_TARGET", &self.guests)
            .env("CHIMERA_TOOLS_DIR", self.tools())
    }
}

/// Builds the bundled skills with the binary of the dev profile.
///
/// # Errors
/// When a build fails.
pub fn build_skills() -> Result<()> {
    run(&mut cargo(&["build", "--quiet", "--package", "chimera"]))?;
    let environment = Environment::new()?;
    environment.build("skills")?;
    println!("the components are in {}", environment.guests.join("chimera").display());
    Ok(())
}

impl Environment {
    fn new() -> Result<Self> {
        let target = target_dir()?;
        Ok(Self { binary: target.join("debug/chimera"), guests: target.join("guests") })
    }

    /// The folder of the language model, fetched by the program under test if it is not there.
    fn model(&self) -> Result<PathBuf> {
        let folder = target_dir()?.join("models/minilm-l6-v2");
        run(Command::new(&self.binary).args(["model", "fetch"]).arg(&folder).current_dir(root()))?;
        Ok(folder)
    }

    /// Builds every skill folder of a guest workspace with the program under test.
    fn build(&self, workspace: &str) -> Result<()> {
        let workspace = root().join(workspace);
        let mut folders: Vec<PathBuf> = std::fs::read_dir(&workspace)
            .with_context(|| format!("cannot read {}", workspace.display()))?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.join("skill.toml").is_file())
            .collect();
        folders.sort();
        for folder in folders {
            let mut build = Command::new(&self.binary);
            build.args(["skill", "build"]).arg(&folder).current_dir(root()).env("CARGO_TARGET_DIR", &self.guests);
            run(build.env("CHIMERA_TOOLS_DIR", self.tools()))?;
        }
        Ok(())
    }
}
