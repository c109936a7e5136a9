//! Runs the self-tests of a `skill.toml` natively.
//! It reads that one file and nothing else; the host runs the same tests again, in the sandbox, before it admits a skill.
//! Called by `run_selftests!` in a skill's tests.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::harness::{Harness, HarnessError, Run};
use super::manifest::{Manifest, Selftest, World};
use super::recorded::subset;
use crate::context::Context;
use crate::failure::Failure;
use crate::judge::{Case, JudgeContext, Verdict};
use crate::outcome::Outcome;
use crate::runtime::{SkillInput, SkillOutput};

/// Why the self-tests did not pass.
#[derive(Debug, thiserror::Error)]
pub enum SelftestError {
    /// The manifest cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The manifest is wrong.
    #[error("{}: {problem}", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Some self-tests failed.
    #[error("{} of {total} self-tests of {skill} failed:{}", failures.len(), list(failures))]
    Failed {
        /// The skill's name.
        skill: String,
        /// How many self-tests there are.
        total: usize,
        /// Those that failed.
        failures: Vec<SelftestFailure>,
    },
}

/// One self-test that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelftestFailure {
    /// The self-test's name.
    pub name: String,
    /// What was expected and what came.
    pub reason: String,
}

fn list(failures: &[SelftestFailure]) -> String {
    failures.iter().map(|it| format!("\n- {}: {}", it.name, it.reason)).collect()
}

/// Runs every `[[selftest]]` of the `skill.toml` in `crate_dir`; returns the names of those that ran.
/// With `version`, the manifest's version must be the same.
///
/// # Errors
/// [`SelftestError`]; a manifest without any self-test is one too.
pub fn selftests<I: SkillInput, O: SkillOutput>(
    crate_dir: impl AsRef<Path>,
    version: Option<&str>,
    skill: impl Fn(&mut Context, I) -> Result<Outcome<O>, Failure>,
) -> Result<Vec<String>, SelftestError> {
    run_all(crate_dir.as_ref(), version, World::Skill, |harness, input| harness.try_run_json(&skill, input))
}

/// Runs every `[[selftest]]` of a judge's `skill.toml` as [`selftests`] does: `input` is a case `{goal, skill, input,
/// output, confidence, evidence}` (what is absent is empty), `expect` a part of `{decision, confidence, reason}`.
///
/// # Errors
/// As [`selftests`].
pub fn judge_selftests(
    crate_dir: impl AsRef<Path>,
    version: Option<&str>,
    judge: impl Fn(&mut JudgeContext, Case) -> Result<Verdict, Failure>,
) -> Result<Vec<String>, SelftestError> {
    run_all(crate_dir.as_ref(), version, World::Judge, |harness, case| harness.try_judge_json(&judge, case))
}

/// Runs what a self-test tests on its input.
type Act<'a> = &'a dyn Fn(Harness, &Value) -> Result<Run<Value>, HarnessError>;

fn run_all(
    crate_dir: &Path,
    version: Option<&str>,
    world: World,
    act: impl Fn(Harness, &Value) -> Result<Run<Value>, HarnessError>,
) -> Result<Vec<String>, SelftestError> {
    let path = crate_dir.join("skill.toml");
    let text = std::fs::read_to_string(&path).map_err(|source| SelftestError::Read { path: path.clone(), source })?;
    let wrong = |problem: String| SelftestError::Manifest { path: path.clone(), problem };
    let manifest = Manifest::parse(&text).map_err(wrong)?;
    if let Some(version) = version.filter(|version| *version != manifest.skill.version) {
        return Err(wrong(format!(
            "version is {} here and {version} in Cargo.toml; make them equal",
            manifest.skill.version
        )));
    }
    if manifest.skill.world != world {
        let (found, wanted) = (manifest.skill.world.name(), world.name());
        return Err(wrong(format!(
            "world is \"{found}\", and what is tested is a {wanted}; write `world = \"{wanted}\"`"
        )));
    }
    if manifest.selftest.is_empty() {
        return Err(wrong("there is no [[selftest]]; write at least one".to_owned()));
    }
    let failures: Vec<SelftestFailure> = manifest
        .selftest
        .iter()
        .filter_map(|test| {
            let reason = run_one(test, &manifest, &act).err()?;
            Some(SelftestFailure { name: test.name.clone(), reason })
        })
        .collect();
    if failures.is_empty() {
        Ok(manifest.selftest.into_iter().map(|test| test.name).collect())
    } else {
        Err(SelftestError::Failed { skill: manifest.skill.name, total: manifest.selftest.len(), failures })
    }
}

fn run_one(test: &Selftest, manifest: &Manifest, act: Act<'_>) -> Result<(), String> {
    let mut harness = Harness::new(test.answers.clone())
        .declared(manifest.capabilities.clone())
        .limits(manifest.limits.told())
        .seed(test.seed);
    if let Some(clock) = &test.clock {
        let time = OffsetDateTime::parse(clock, &Rfc3339)
            .map_err(|error| format!("clock `{clock}` is not RFC 3339: {error}"))?;
        harness = harness.clock(SystemTime::from(time));
    }
    let run = act(harness, &test.input).map_err(|error| error.to_string())?;
    match (run.result, &test.expect_failure) {
        (Ok(outcome), None) => {
            if let Some(expected) = &test.expect {
                subset(expected, &outcome.output)?;
            }
            match test.min_confidence {
                Some(least) if outcome.confidence < least => {
                    Err(format!("confidence {} is below {least}; output {}", outcome.confidence, outcome.output))
                }
                _ => Ok(()),
            }
        }
        (Err(failure), Some(expected)) => {
            let code_differs = expected.code.as_ref().is_some_and(|code| *code != failure.code);
            if failure.kind != expected.kind || code_differs {
                return Err(format!(
                    "expected the failure {} ({}), got {failure}",
                    expected.kind,
                    expected.code.as_deref().unwrap_or("any code")
                ));
            }
            Ok(())
        }
        (Ok(outcome), Some(expected)) => {
            Err(format!("expected the failure {}, got the output {}", expected.kind, outcome.output))
        }
        (Err(failure), None) => Err(format!("the skill failed: {failure}")),
    }
}

#[cfg(test)]
mod tests;
