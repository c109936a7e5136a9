//! What a new version of a skill may reach that the one before it could not.
//!
//! It compares declarations only, as sets: limits are not authority, so they do not count. Called by
//! [`crate::Registry`] at installation.

use chimera_core::manifest::{Effects, Manifest};
use std::collections::BTreeSet;

/// Every wish of `new` that `old` did not have, each in words; empty if it wants nothing more.
pub fn widening(old: &Manifest, new: &Manifest) -> Vec<String> {
    let had = wishes(old);
    let mut wider: Vec<String> = wishes(new).difference(&had).cloned().collect();
    if new.skill.effects > old.skill.effects {
        wider.push(format!("effects \"{}\" instead of \"{}\"", name(new.skill.effects), name(old.skill.effects)));
    }
    wider
}

/// Every wish of a manifest, as if nothing had been agreed to before.
pub(crate) fn all_wishes(manifest: &Manifest) -> Vec<String> {
    let mut all: Vec<String> = wishes(manifest).into_iter().collect();
    if manifest.skill.effects > Effects::None {
        all.push(format!("effects \"{}\"", name(manifest.skill.effects)));
    }
    all
}

const fn name(effects: Effects) -> &'static str {
    match effects {
        Effects::None => "none",
        Effects::Read => "read",
        Effects::Write => "write",
    }
}

fn wishes(manifest: &Manifest) -> BTreeSet<String> {
    let capabilities = &manifest.capabilities;
    let mut wishes = BTreeSet::new();
    for slot in &capabilities.mcp {
        wishes.extend(slot.tools.iter().map(|tool| format!("tool `{tool}` of slot `{}`", slot.slot)));
        wishes.extend(slot.resources.iter().map(|uri| format!("resource `{uri}` of slot `{}`", slot.slot)));
    }
    wishes.extend(capabilities.memory.iter().map(|op| format!("memory {op:?}").to_lowercase()));
    wishes.extend(capabilities.trends.iter().map(|op| format!("trends {op:?}").to_lowercase()));
    wishes.extend(capabilities.scratch.then(|| "scratch".to_owned()));
    wishes.extend(capabilities.secrets.iter().map(|secret| format!("knowing whether secret `{secret}` exists")));
    // Another range of versions of the same skill is another wish: it may name code that was never consented to.
    wishes.extend(capabilities.skills.iter().map(|skill| format!("skill `{}` {}", skill.name, skill.version)));
    wishes
}
