//! The manifest: what a skill says of itself and the most it may ever reach.
//!
//! It is read from `skill.toml` at build time and from the custom section `chimera:manifest` of the component
//! afterwards; [`Manifest::from_value`] is the only way in and validates everything. It grants nothing: an operator's
//! grant does. Called by the registry, the sandbox's capability gate and the planner.

use crate::json::{MAX_DEPTH, is_deeper_than};
use crate::schema::Schema;
use crate::skill::{SkillName, is_kebab_word};
use semver::{Version, VersionReq};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::Duration;

/// Name of the custom section that holds the manifest as JSON.
pub const MANIFEST_SECTION: &str = "chimera:manifest";
/// Largest manifest in bytes.
pub const MAX_MANIFEST_BYTES: usize = 512 * 1024;
/// Deepest nesting of a manifest: a schema, an input or an answer inside it, and what is around them.
const MAX_MANIFEST_DEPTH: usize = MAX_DEPTH + 8;
/// The one manifest format that this host reads.
pub const MANIFEST_FORMAT: u32 = 1;

/// A manifest that cannot be accepted: where, what, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("skill.toml: {field}: {problem}")]
pub struct ManifestError {
    /// Dotted path of the field.
    pub field: String,
    /// What is wrong and what to write instead.
    pub problem: String,
}

impl ManifestError {
    fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }
}

/// What a skill says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The format of the manifest itself: 1.
    pub manifest: u32,
    /// Who it is.
    pub skill: SkillSection,
    /// What goes in and what comes out.
    pub io: IoSection,
    /// The most it may reach.
    #[serde(default)]
    pub capabilities: Capabilities,
    /// The most it may use.
    #[serde(default)]
    pub limits: Limits,
    /// Runs that must pass before it is admitted.
    #[serde(default, rename = "selftest")]
    pub selftests: Vec<SelfTest>,
}

/// Who a skill is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SkillSection {
    /// `namespace/name`.
    pub name: SkillName,
    /// Strict semantic version without build metadata.
    pub version: Version,
    /// One sentence, 1 to 300 bytes.
    pub summary: String,
    /// SPDX expression.
    pub license: String,
    /// Whether it changes the outside world.
    pub effects: Effects,
    /// The world it exports.
    #[serde(default)]
    pub world: World,
    /// The contract's minor version it is built for, such as `0.2`; "0.1" where a manifest says none.
    #[serde(default = "default_contract")]
    pub contract: String,
    /// Words that help to find it; at most 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keywords: Vec<String>,
    /// Phrases of a goal that it fits; at most 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub examples: Vec<String>,
}

fn default_contract() -> String {
    "0.1".to_owned()
}

/// Whether a skill changes the outside world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effects {
    /// It only computes.
    None,
    /// It reads through MCP.
    Read,
    /// It changes things through MCP.
    Write,
}

/// The world a component exports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum World {
    /// Does tasks.
    #[default]
    Skill,
    /// Gives opinions on finished tasks.
    Judge,
}

/// JSON Schemas (draft 2020-12) of the input and the output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IoSection {
    /// Schema of `task.input`.
    pub input: Schema,
    /// Schema of `outcome.output`.
    pub output: Schema,
}

/// The most a skill may reach. Empty means nothing.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Capabilities {
    /// MCP slots; an operator binds each to a server.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mcp: Vec<McpSlot>,
    /// Operations of long-term memory.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub memory: BTreeSet<MemoryOp>,
    /// Ephemeral memory.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub scratch: bool,
    /// Operations on content trends.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub trends: BTreeSet<TrendsOp>,
    /// Names of secrets it may ask about.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub secrets: BTreeSet<String>,
    /// Other skills it may call.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub skills: Vec<SkillDependency>,
}

impl Capabilities {
    /// The declared slot of that name.
    pub fn slot(&self, name: &str) -> Option<&McpSlot> {
        self.mcp.iter().find(|slot| slot.slot == name)
    }

    /// The contract's interfaces that a component with these capabilities may import (besides `types` and `progress`).
    pub fn interfaces(&self) -> BTreeSet<&'static str> {
        let declared = [
            ("mcp", !self.mcp.is_empty()),
            ("memory", !self.memory.is_empty()),
            ("scratch", self.scratch),
            ("trends", !self.trends.is_empty()),
            ("secrets", !self.secrets.is_empty()),
            ("skills", !self.skills.is_empty()),
        ];
        declared.into_iter().filter_map(|(name, is_declared)| is_declared.then_some(name)).collect()
    }
}

/// One slot: a name that an operator's grant binds to a server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct McpSlot {
    /// Kebab-case word.
    pub slot: String,
    /// The tools it may call; exact names, at most 64.
    #[serde(default)]
    pub tools: BTreeSet<String>,
    /// The resources it may read; exact URIs, at most 64.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub resources: BTreeSet<String>,
    /// Why, for the operator who is asked to grant it.
    pub reason: String,
}

/// An operation of the memory interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemoryOp {
    /// Write.
    Remember,
    /// Read.
    Recall,
    /// Make room; since contract 0.2.
    Forget,
}

/// An operation of the trends interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrendsOp {
    /// Write.
    Observe,
    /// Read.
    Top,
}

/// Another skill that may be called.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SkillDependency {
    /// `namespace/name`.
    pub name: SkillName,
    /// Which versions will do.
    pub version: VersionReq,
}

/// The most a run may use. Every one is enforced by the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Wall time in milliseconds, waiting included; 1 to 30,000.
    pub time_ms: u64,
    /// Wasm instructions, roughly; 1 to 50 billion.
    pub fuel: u64,
    /// Linear memory in MiB over all memories of the component; 1 to 512.
    pub memory_mb: u32,
    /// JSON output in KiB; 1 to 1,024.
    pub output_kb: u32,
    /// MCP calls; 0 to 256.
    pub mcp_calls: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { time_ms: 10_000, fuel: 2_000_000_000, memory_mb: 64, output_kb: 256, mcp_calls: 32 }
    }
}

impl Limits {
    /// The largest limits a manifest may ask for.
    pub const MAX: Self =
        Self { time_ms: 30_000, fuel: 50_000_000_000, memory_mb: 512, output_kb: 1024, mcp_calls: 256 };

    /// Wall time.
    pub const fn time(&self) -> Duration {
        Duration::from_millis(self.time_ms)
    }

    /// Linear memory in bytes.
    pub const fn memory_bytes(&self) -> usize {
        (self.memory_mb as usize) << 20
    }

    /// Output in bytes.
    pub const fn output_bytes(&self) -> usize {
        (self.output_kb as usize) << 10
    }
}

/// A run with recorded host answers that must pass before the skill is admitted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SelfTest {
    /// Shown when it fails.
    pub name: String,
    /// The input.
    pub input: Value,
    /// What the clock shows, RFC 3339; 2026-01-01T00:00:00Z if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock: Option<crate::clock::Timestamp>,
    /// Seed of the random numbers.
    #[serde(default)]
    pub seed: u64,
    /// The host's answers, in the order of the calls.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<RecordedAnswer>,
    /// A JSON subset that the output must contain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<Value>,
    /// The failure that must come instead of an output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect_failure: Option<ExpectedFailure>,
    /// The least confidence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_confidence: Option<f64>,
}

/// One recorded answer of the host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedAnswer {
    /// `interface.function`, such as `mcp.call-tool`.
    pub call: String,
    /// A JSON subset that the call's arguments must contain.
    #[serde(default)]
    pub args: Value,
    /// What the host answered.
    #[serde(default)]
    pub answer: Value,
    /// What the host failed with, instead of an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<crate::failure::Failure>,
}

/// The failure a self-test expects.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectedFailure {
    /// Its kind.
    pub kind: crate::failure::FailureKind,
    /// Its code, if that matters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

impl Manifest {
    /// Reads and validates a manifest.
    ///
    /// # Errors
    /// [`ManifestError`] with the field, the problem and what to write instead.
    pub fn from_value(value: Value) -> Result<Self, ManifestError> {
        if is_deeper_than(&value, MAX_MANIFEST_DEPTH) {
            return Err(ManifestError::new("manifest", format!("is nested deeper than {MAX_MANIFEST_DEPTH}")));
        }
        let manifest: Self =
            serde_json::from_value(value).map_err(|e| ManifestError::new("manifest", e.to_string()))?;
        manifest.validate()?;
        Ok(manifest)
    }

    /// Reads and validates the JSON of the custom section.
    ///
    /// # Errors
    /// [`ManifestError`], also when it is larger than [`MAX_MANIFEST_BYTES`].
    pub fn from_json(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() > MAX_MANIFEST_BYTES {
            return Err(ManifestError::new(
                "manifest",
                format!("is {} bytes; at most {MAX_MANIFEST_BYTES} are read", bytes.len()),
            ));
        }
        let value =
            serde_json::from_slice(bytes).map_err(|e| ManifestError::new("manifest", format!("is not JSON: {e}")))?;
        Self::from_value(value)
    }

    /// The effective limit of a wish: never more than the manifest's, and at least 1.
    fn validate(&self) -> Result<(), ManifestError> {
        if self.manifest != MANIFEST_FORMAT {
            return Err(ManifestError::new(
                "manifest",
                format!("format {} is not read by this host; write `manifest = {MANIFEST_FORMAT}`", self.manifest),
            ));
        }
        self.validate_skill()?;
        self.validate_capabilities()?;
        self.validate_limits()?;
        for (field, schema) in [("io.input", &self.io.input), ("io.output", &self.io.output)] {
            validate_schema(field, schema)?;
        }
        validate_selftests(&self.selftests)
    }

    fn validate_skill(&self) -> Result<(), ManifestError> {
        let skill = &self.skill;
        if !skill.version.build.is_empty() {
            return Err(ManifestError::new(
                "skill.version",
                format!(
                    "`{}` has build metadata, which a registry's tag cannot carry; drop the `+{}`",
                    skill.version, skill.version.build
                ),
            ));
        }
        check_text("skill.summary", &skill.summary, 300)?;
        check_text("skill.license", &skill.license, 100)?;
        check_list("skill.keywords", &skill.keywords, 20, 64)?;
        check_list("skill.examples", &skill.examples, 20, 300)?;
        let is_minor = skill
            .contract
            .split_once('.')
            .is_some_and(|(major, minor)| major.parse::<u32>().is_ok() && minor.parse::<u32>().is_ok());
        if !is_minor {
            return Err(ManifestError::new(
                "skill.contract",
                format!("`{}` is not a contract version; write for example \"0.2\"", skill.contract),
            ));
        }
        Ok(())
    }

    fn validate_capabilities(&self) -> Result<(), ManifestError> {
        let capabilities = &self.capabilities;
        let mut seen = BTreeSet::new();
        if capabilities.mcp.len() > 16 {
            return Err(ManifestError::new("capabilities.mcp", "at most 16 slots"));
        }
        for slot in &capabilities.mcp {
            let field = format!("capabilities.mcp.{}", crate::text::truncated(slot.slot.clone(), 64));
            if !is_kebab_word(&slot.slot) {
                return Err(ManifestError::new(field, "a slot is 1 to 64 of a-z, 0-9 and `-`, starting with a letter"));
            }
            if !seen.insert(&slot.slot) {
                return Err(ManifestError::new(field, "is declared twice; merge the two"));
            }
            if slot.tools.is_empty() && slot.resources.is_empty() {
                return Err(ManifestError::new(field, "names no tool and no resource; name what is called"));
            }
            if slot.tools.len() > 64 || slot.resources.len() > 64 {
                return Err(ManifestError::new(field, "at most 64 tools and 64 resources"));
            }
            for name in &slot.tools {
                check_text(&format!("{field}.tools"), name, 128)?;
            }
            for uri in &slot.resources {
                check_text(&format!("{field}.resources"), uri, 1024)?;
            }
            check_text(&format!("{field}.reason"), &slot.reason, 300)?;
        }
        if !capabilities.mcp.is_empty() && self.skill.effects == Effects::None {
            return Err(ManifestError::new(
                "skill.effects",
                "is \"none\" but MCP tools are declared; write \"read\" or \"write\"",
            ));
        }
        if self.skill.world == World::Judge && *capabilities != Capabilities::default() {
            return Err(ManifestError::new("capabilities", "a judge can reach nothing; remove the section"));
        }
        if capabilities.memory.contains(&MemoryOp::Forget) && self.skill.contract == "0.1" {
            return Err(ManifestError::new(
                "capabilities.memory",
                "`forget` is there since contract 0.2, and skill.contract is \"0.1\"; leave it out, or build against 0.2",
            ));
        }
        if capabilities.secrets.len() > 32 || capabilities.skills.len() > 32 {
            return Err(ManifestError::new("capabilities", "at most 32 secrets and 32 skills"));
        }
        Ok(())
    }

    fn validate_limits(&self) -> Result<(), ManifestError> {
        let (limits, max) = (&self.limits, Limits::MAX);
        let checks: [(&str, u64, u64, u64); 5] = [
            ("limits.time_ms", limits.time_ms, 1, max.time_ms),
            ("limits.fuel", limits.fuel, 1, max.fuel),
            ("limits.memory_mb", limits.memory_mb.into(), 1, max.memory_mb.into()),
            ("limits.output_kb", limits.output_kb.into(), 1, max.output_kb.into()),
            ("limits.mcp_calls", limits.mcp_calls.into(), 0, max.mcp_calls.into()),
        ];
        for (field, value, least, most) in checks {
            if !(least..=most).contains(&value) {
                return Err(ManifestError::new(field, format!("{value} is outside {least} to {most}")));
            }
        }
        Ok(())
    }
}

fn validate_schema(field: &str, schema: &Value) -> Result<(), ManifestError> {
    if !schema.is_object() {
        return Err(ManifestError::new(field, "must be a JSON Schema object"));
    }
    crate::schema::admit(schema)
        .map_err(|problem| ManifestError::new(field, format!("is not a JSON Schema that can be used here: {problem}")))
}

fn validate_selftests(selftests: &[SelfTest]) -> Result<(), ManifestError> {
    if selftests.len() > 32 {
        return Err(ManifestError::new("selftest", "at most 32 self-tests"));
    }
    for test in selftests {
        check_text("selftest.name", &test.name, 200)?;
        if is_deeper_than(&test.input, MAX_DEPTH) {
            let problem = format!("its input is nested deeper than {MAX_DEPTH}");
            return Err(ManifestError::new(format!("selftest.{}", test.name), problem));
        }
        if test.expect.is_some() && test.expect_failure.is_some() {
            return Err(ManifestError::new(
                format!("selftest.{}", test.name),
                "expects both an output and a failure; keep one",
            ));
        }
    }
    Ok(())
}

fn check_text(field: &str, text: &str, max: usize) -> Result<(), ManifestError> {
    if text.trim().is_empty() || text.len() > max {
        return Err(ManifestError::new(field, format!("must be 1 to {max} bytes")));
    }
    if text.chars().any(char::is_control) {
        return Err(ManifestError::new(field, "must not contain control characters"));
    }
    Ok(())
}

fn check_list(field: &str, items: &[String], most: usize, max: usize) -> Result<(), ManifestError> {
    if items.len() > most {
        return Err(ManifestError::new(field, format!("at most {most} entries")));
    }
    items.iter().try_for_each(|item| check_text(field, item, max))
}
