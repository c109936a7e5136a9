//! The fuzz targets: built with the stable compiler's coverage instrumentation, each run for a while from its seeds.
//!
//! The flags are those of cargo-fuzz without a sanitizer, so neither a nightly compiler nor cargo-fuzz is needed here; the
//! fuzzed code is safe Rust. What a target finds is kept in the target folder and named. Called by the suites.

use crate::run::{Totals, cargo, output, root, run, succeeds};
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Coverage as libFuzzer reads it. See `cargo fuzz build -s none -v`.
const INSTRUMENTATION: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Cllvm-args=-simplifycfg-branch-fold-threshold=0 \
    -Ccodegen-units=1 --cfg fuzzing";

/// Targets that need the core alone: built in a minute.
const CORE: &[&str] = &["ledger", "machine", "manifest", "payload", "template"];
/// Targets that need more of the host, and with it wasmtime.
const HOST: &[&str] = &["cache_entry", "campaign_file", "custom_section", "inspect"];

/// Most files, and most bytes, of the corpus that the repository keeps of one target.
const MAX_KEPT: (usize, u64) = (400, 512 << 10);

/// How much is fuzzed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// The core's targets, a few seconds each.
    Reduced,
    /// Every target, five minutes each.
    Full,
}

impl Effort {
    fn seconds(self) -> u32 {
        match self {
            Self::Reduced => 5,
            Self::Full => 300,
        }
    }
}

/// Builds the targets and runs each; one that finds something counts as a failed test. `guests` is where built components
/// are, to begin from.
///
/// # Errors
/// When the targets cannot be built or a corpus cannot be laid out.
pub fn fuzz(effort: Effort, target_dir: &Path, guests: &Path) -> Result<Totals> {
    let folder = target_dir.join("fuzz");
    let triple = host_triple()?;
    let mut build = cargo(&["build", "--quiet", "--manifest-path", "fuzz/Cargo.toml", "--target", &triple]);
    if effort == Effort::Reduced {
        build.arg("--no-default-features");
    }
    run(build.env("CARGO_TARGET_DIR", &folder).env("RUSTFLAGS", INSTRUMENTATION))?;

    let mut totals = Totals::default();
    // What a target writes while it runs; an aborted one cannot tidy up after itself.
    let scratch = folder.join("scratch");
    let more = if effort == Effort::Full { HOST } else { &[] };
    for name in CORE.iter().chain(more) {
        let corpus = corpus(name, &folder, guests)?;
        let found = folder.join("found").join(name);
        std::fs::create_dir_all(&found).with_context(|| format!("cannot make {}", found.display()))?;
        let mut target = Command::new(folder.join(&triple).join("debug").join(name));
        target
            .arg(format!("-max_total_time={}", effort.seconds()))
            .args(["-rss_limit_mb=2048", "-timeout=10", "-max_len=600000", "-len_control=200"])
            .args(["-verbosity=0", "-print_final_stats=1"])
            .arg(format!("-artifact_prefix={}/", found.display()))
            .arg(&corpus)
            .env("TMPDIR", &scratch)
            .current_dir(root());
        std::fs::create_dir_all(&scratch).with_context(|| format!("cannot make {}", scratch.display()))?;
        let is_well = succeeds(&mut target)?;
        std::fs::remove_dir_all(&scratch).with_context(|| format!("cannot remove {}", scratch.display()))?;
        if is_well {
            totals.passed += 1;
        } else {
            eprintln!("error: {name} found something: see {}", found.display());
            totals.failed += 1;
        }
    }
    Ok(totals)
}

/// The inputs that a target begins with: those written by hand, the corpus that is kept in the repository, and what earlier
/// runs here came upon.
fn corpus(name: &str, folder: &Path, guests: &Path) -> Result<PathBuf> {
    let corpus = folder.join("corpus").join(name);
    std::fs::create_dir_all(&corpus).with_context(|| format!("cannot make {}", corpus.display()))?;
    let mut seeds = files(&root().join("fuzz/seeds").join(name));
    seeds.extend(kept(name)?);
    match name {
        "inspect" => seeds.extend(files(&guests.join("chimera")).into_iter().filter(|path| is(path, "wasm"))),
        "campaign_file" => seeds.push(root().join("host/server/demo/campaign.yaml")),
        _ => {}
    }
    for seed in seeds {
        let Some(file) = seed.file_name() else { continue };
        std::fs::copy(&seed, corpus.join(file)).with_context(|| format!("cannot copy {}", seed.display()))?;
    }
    Ok(corpus)
}

/// The corpus of a target that is kept in the repository.
///
/// # Errors
/// When it is more than belongs into one: it was put there without being minimised.
fn kept(name: &str) -> Result<Vec<PathBuf>> {
    let kept = files(&root().join("fuzz/corpus").join(name));
    let bytes: u64 = kept.iter().filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum();
    ensure!(
        kept.len() <= MAX_KEPT.0 && bytes <= MAX_KEPT.1,
        "fuzz/corpus/{name} has {} files with {bytes} bytes; minimise it as fuzz/README.md says",
        kept.len()
    );
    Ok(kept)
}

fn is(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|it| it == extension)
}

/// The files of a folder; none if there is no such folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_file()).collect()
}

/// Named as the target, the host's triple keeps the flags away from build scripts and macros.
fn host_triple() -> Result<String> {
    let version = output(&mut crate::run::command("rustc", &["-vV"]))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc -vV names no host")?.to_owned())
}
