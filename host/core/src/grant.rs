//! Grants: what an operator permits a skill, slot by slot and tool by tool, and which other skills it may call.
//!
//! Everything not granted is denied. A grant never widens a manifest: both must allow a call. This module only
//! decides; the gateway and the worker ask it. Called by them, the API and the CLI.

use crate::audit::Actor;
use crate::clock::Timestamp;
use crate::digest::Digest;
use crate::ids::{CampaignId, GrantId};
use crate::skill::SkillName;
use semver::{Version, VersionReq};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// An operator's permission for one skill: to use one slot, or to call one other skill.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Grant {
    /// Its id.
    pub id: GrantId,
    /// The skill that may.
    pub skill: SkillName,
    /// Only within this campaign; in every campaign if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub campaign: Option<CampaignId>,
    /// What it may.
    #[serde(flatten)]
    pub permits: Permits,
    /// Who granted it.
    pub granted_by: Actor,
    /// When.
    pub granted_at: Timestamp,
    /// From this moment on it covers nothing; for good if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// When it was taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
}

/// What a grant permits. Written as the fields of the one or the other: those of a slot, or `callee` and `version`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Permits {
    /// To use a slot.
    Slot(SlotGrant),
    /// To call another skill.
    Call(CallGrant),
}

/// A slot, bound to a server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SlotGrant {
    /// The slot of the skill's manifest.
    pub slot: String,
    /// The operator's server that the slot is bound to.
    pub server: String,
    /// The tools it may call, each with its policy.
    pub tools: BTreeMap<String, ToolPolicy>,
    /// The resources it may read.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub resources: BTreeSet<String>,
}

/// Another skill that may be called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallGrant {
    /// The skill that is called.
    pub callee: SkillName,
    /// Which of its versions, as [`CallGrant::allows`] says.
    pub version: VersionReq,
}

impl CallGrant {
    /// May this version be called? `*` allows every version, pre-releases included; any other requirement allows what
    /// semantic versioning says.
    pub fn allows(&self, version: &Version) -> bool {
        self.version == VersionReq::STAR || self.version.matches(version)
    }
}

/// What a granted tool may do, and what the operator saw when granting it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolPolicy {
    /// Read-only, or an effect that may want a human first.
    pub mode: ToolMode,
    /// Digest of name, description and schema as they were at the time of the grant; a change quarantines the tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<Digest>,
}

/// How a granted tool is treated. The default for a tool not marked read-only is [`ToolMode::EffectWithApproval`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ToolMode {
    /// Changes nothing: may be asked again at will, is not in the ledger.
    Read,
    /// Changes the world: in the ledger, sent at most once, and a human sees it first.
    EffectWithApproval,
    /// Changes the world: in the ledger, sent at most once, without asking.
    Effect,
}

/// What a skill wants to do through MCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want<'a> {
    /// Call a tool.
    Tool(&'a str),
    /// Read a resource.
    Resource(&'a str),
    /// List the tools of the slot.
    List,
}

/// Who wants something, where and when.
#[derive(Debug, Clone, Copy)]
pub struct Asker<'a> {
    /// The skill.
    pub skill: &'a SkillName,
    /// The campaign that it runs in.
    pub campaign: Option<CampaignId>,
    /// The present.
    pub now: Timestamp,
}

impl Grant {
    /// The slot that it permits to use; none if it permits a call.
    pub const fn slot(&self) -> Option<&SlotGrant> {
        match &self.permits {
            Permits::Slot(slot) => Some(slot),
            Permits::Call(_) => None,
        }
    }

    /// The call that it permits; none if it permits to use a slot.
    pub const fn call(&self) -> Option<&CallGrant> {
        match &self.permits {
            Permits::Slot(_) => None,
            Permits::Call(call) => Some(call),
        }
    }

    /// Is it in force at this moment: neither taken back nor expired?
    pub fn is_in_force(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|end| now < end)
    }

    fn is_for(&self, asker: Asker<'_>) -> bool {
        self.skill == *asker.skill
            && (self.campaign.is_none() || self.campaign == asker.campaign)
            && self.is_in_force(asker.now)
    }

    /// Among grants that cover a wish: the campaign's own before a general one, the newest first.
    fn rank(&self) -> (bool, Timestamp, GrantId) {
        (self.campaign.is_some(), self.granted_at, self.id)
    }
}

/// The grant that covers a wish, and the slot that it permits: the campaign's own before a general one, the newest first.
pub fn covering<'g>(
    grants: &'g [Grant],
    asker: Asker<'_>,
    slot: &str,
    want: Want<'_>,
) -> Option<(&'g Grant, &'g SlotGrant)> {
    grants
        .iter()
        .filter(|grant| grant.is_for(asker))
        .filter_map(|grant| Some((grant, grant.slot().filter(|permitted| permitted.slot == slot)?)))
        .filter(|(_, permitted)| match want {
            Want::Tool(tool) => permitted.tools.contains_key(tool),
            Want::Resource(uri) => permitted.resources.contains(uri),
            Want::List => true,
        })
        .max_by_key(|(grant, _)| grant.rank())
}

/// What an operator's grants say of a call of one skill by another.
#[derive(Debug, Clone, PartialEq)]
pub enum Calling<'g> {
    /// This grant covers it: the campaign's own before a general one, the newest first.
    Granted(&'g Grant),
    /// The callee may be called, and not in this version: this is the nearest grant.
    OtherVersions(&'g CallGrant),
    /// No grant names the callee.
    NotGranted,
}

/// May `asker` call `version` of `callee`? Any version of it, when there is no particular one.
pub fn calling<'g>(
    grants: &'g [Grant],
    asker: Asker<'_>,
    callee: &SkillName,
    version: Option<&Version>,
) -> Calling<'g> {
    let allows = |permitted: &CallGrant| version.is_none_or(|version| permitted.allows(version));
    let named = grants
        .iter()
        .filter(|grant| grant.is_for(asker))
        .filter_map(|grant| Some((grant, grant.call().filter(|permitted| permitted.callee == *callee)?)));
    match named.max_by_key(|(grant, permitted)| (allows(permitted), grant.rank())) {
        Some((grant, permitted)) if allows(permitted) => Calling::Granted(grant),
        Some((_, permitted)) => Calling::OtherVersions(permitted),
        None => Calling::NotGranted,
    }
}

/// The command with which an operator lets a skill call another; every version of it if none is named.
pub fn call_command(caller: &SkillName, callee: &SkillName, version: Option<&Version>) -> String {
    let version = version.map(|version| format!("@^{version}")).unwrap_or_default();
    format!("chimera grant add {caller} --skill {callee}{version}")
}
