//! Grants: what an operator permits a skill, slot by slot, tool by tool.
//!
//! Everything not granted is denied. A grant never widens a manifest: both must allow a call. This module only
//! decides; the gateway asks it. Called by the MCP gateway, the API and the CLI.

use crate::audit::Actor;
use crate::clock::Timestamp;
use crate::digest::Digest;
use crate::ids::{CampaignId, GrantId};
use crate::skill::SkillName;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// An operator's permission for one skill to use one slot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Grant {
    /// Its id.
    pub id: GrantId,
    /// The skill that may.
    pub skill: SkillName,
    /// Only within this campaign; in every campaign if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub campaign: Option<CampaignId>,
    /// The slot of its manifest.
    pub slot: String,
    /// The operator's server that the slot is bound to.
    pub server: String,
    /// The tools it may call, each with its policy.
    pub tools: BTreeMap<String, ToolPolicy>,
    /// The resources it may read.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub resources: BTreeSet<String>,
    /// Who granted it.
    pub granted_by: Actor,
    /// When.
    pub granted_at: Timestamp,
    /// When it was taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
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

/// The grant that covers a wish: the campaign's own before a general one, the newest first.
pub fn covering<'g>(
    grants: &'g [Grant],
    skill: &SkillName,
    campaign: Option<CampaignId>,
    slot: &str,
    want: Want<'_>,
) -> Option<&'g Grant> {
    grants
        .iter()
        .filter(|grant| grant.revoked_at.is_none() && grant.skill == *skill && grant.slot == slot)
        .filter(|grant| grant.campaign.is_none() || grant.campaign == campaign)
        .filter(|grant| match want {
            Want::Tool(tool) => grant.tools.contains_key(tool),
            Want::Resource(uri) => grant.resources.contains(uri),
            Want::List => true,
        })
        .max_by_key(|grant| (grant.campaign.is_some(), grant.granted_at, grant.id))
}
