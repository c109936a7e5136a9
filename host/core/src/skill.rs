//! How a skill is named: `namespace/name`, a version, and the digest of its bytes.
//!
//! Names are validated once, here, and then carried as types. Nothing in this module resolves or loads anything.
//! Called by the manifest, the registry, the planner and the CLI.

use crate::clock::Timestamp;
use crate::digest::Digest;
use crate::manifest::Manifest;
use semver::Version;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// `namespace/name`; each part is 1 to 64 of `a-z 0-9 -`, starts with a letter and does not end with `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SkillName {
    full: Arc<str>,
    slash: usize,
}

/// A text that should have been a skill's name was not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a skill's name: expected `namespace/name`, each part 1 to 64 of a-z, 0-9 and `-`, starting with a letter"
)]
pub struct ParseSkillNameError {
    text: String,
}

impl SkillName {
    /// The part before the slash.
    pub fn namespace(&self) -> &str {
        &self.full[..self.slash]
    }

    /// The part after the slash.
    pub fn name(&self) -> &str {
        &self.full[self.slash + 1..]
    }

    /// `namespace/name`.
    pub fn as_str(&self) -> &str {
        &self.full
    }
}

/// Is this a valid kebab-case word of at most 64 bytes (a namespace, a name, a slot)?
pub fn is_kebab_word(part: &str) -> bool {
    (1..=64).contains(&part.len())
        && part.starts_with(|c: char| c.is_ascii_lowercase())
        && !part.ends_with('-')
        && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

impl FromStr for SkillName {
    type Err = ParseSkillNameError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('/') {
            Some((namespace, name)) if is_kebab_word(namespace) && is_kebab_word(name) => {
                Ok(Self { full: text.into(), slash: namespace.len() })
            }
            _ => {
                Err(ParseSkillNameError { text: crate::text::printable(&crate::text::truncated(text.to_owned(), 140)) })
            }
        }
    }
}

impl fmt::Display for SkillName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.full)
    }
}

impl Serialize for SkillName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.full)
    }
}

impl<'de> Deserialize<'de> for SkillName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// One immutable version of a skill.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SkillRef {
    /// `namespace/name`.
    pub name: SkillName,
    /// Strict semantic version.
    pub version: Version,
    /// The digest of the component's bytes.
    pub digest: Digest,
}

impl fmt::Display for SkillRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.version)
    }
}

/// Whether a version may be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SkillState {
    /// May be planned and run.
    Active,
    /// A security violation happened; it may not be run until an operator lifts it.
    Suspended,
    /// A new version that wants more than the one before it: waits for an operator's consent.
    AwaitingConsent,
    /// May run where it is already planned, is not chosen for new plans.
    Yanked,
}

/// One installed version (a row of `skill_versions`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SkillVersion {
    /// Name, version, digest.
    #[serde(flatten)]
    pub skill: SkillRef,
    /// What it says of itself; checked against the bytes at admission.
    pub manifest: Arc<Manifest>,
    /// Whether it may be run.
    pub state: SkillState,
    /// Size of the component in bytes.
    pub size: u64,
    /// When it was admitted.
    pub installed_at: Timestamp,
}
