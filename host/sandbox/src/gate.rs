//! The capability gate: the one place where a guest's call is held against its manifest.
//!
//! It hands out a [`Pass`], and no host answer can be asked for without one. It grants nothing: that is the ports' part,
//! by the operator's grants. Called by every host function of the contract.

use chimera_core::failure::{Failure, FailureKind, codes};
use chimera_core::manifest::{Manifest, MemoryOp, TrendsOp};
use chimera_core::text::{printable, truncated};
use std::fmt;
use std::sync::Arc;

/// What a guest wants to reach.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wish<'a> {
    /// The tools of a slot.
    ListTools { slot: &'a str },
    /// One tool of a slot.
    CallTool { slot: &'a str, tool: &'a str },
    /// One resource of a slot.
    ReadResource { slot: &'a str, uri: &'a str },
    /// Long-term memory.
    Memory(MemoryOp),
    /// Ephemeral memory.
    Scratch,
    /// Content trends.
    Trends(TrendsOp),
    /// Whether a secret is configured.
    Secret(&'a str),
    /// Another skill.
    Skill(&'a str),
}

/// Proof that a wish was held against the manifest. Only [`Gate::check`] makes one.
#[derive(Debug)]
pub(crate) struct Pass(());

/// What a guest may reach at most.
#[derive(Debug, Clone)]
pub(crate) enum Gate {
    /// What the manifest declares.
    Manifest(Arc<Manifest>),
    /// Nothing: describing, judging.
    Closed,
}

impl Gate {
    /// Is the wish within the manifest?
    ///
    /// # Errors
    /// A [`FailureKind::Security`] failure that names the wish; it ends the run.
    pub(crate) fn check(&self, wish: Wish<'_>) -> Result<Pass, Failure> {
        let declared = match self {
            Self::Manifest(manifest) => is_declared(manifest, wish),
            Self::Closed => false,
        };
        if declared {
            return Ok(Pass(()));
        }
        let message = format!("the skill reached for {wish}, which its manifest does not declare");
        Err(Failure::new(FailureKind::Security, codes::NOT_DECLARED, message))
    }
}

fn is_declared(manifest: &Manifest, wish: Wish<'_>) -> bool {
    let capabilities = &manifest.capabilities;
    match wish {
        Wish::ListTools { slot } => capabilities.slot(slot).is_some(),
        Wish::CallTool { slot, tool } => capabilities.slot(slot).is_some_and(|slot| slot.tools.contains(tool)),
        Wish::ReadResource { slot, uri } => capabilities.slot(slot).is_some_and(|slot| slot.resources.contains(uri)),
        Wish::Memory(operation) => capabilities.memory.contains(&operation),
        Wish::Scratch => capabilities.scratch,
        Wish::Trends(operation) => capabilities.trends.contains(&operation),
        Wish::Secret(name) => capabilities.secrets.contains(name),
        Wish::Skill(name) => capabilities.skills.iter().any(|skill| skill.name.as_str() == name),
    }
}

impl fmt::Display for Wish<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |text: &str| printable(&truncated(text.to_owned(), 128));
        match self {
            Self::ListTools { slot } => write!(f, "the slot `{}`", shown(slot)),
            Self::CallTool { slot, tool } => write!(f, "the tool `{}` of the slot `{}`", shown(tool), shown(slot)),
            Self::ReadResource { slot, uri } => {
                write!(f, "the resource `{}` of the slot `{}`", shown(uri), shown(slot))
            }
            Self::Memory(MemoryOp::Remember) => f.write_str("`memory.remember`"),
            Self::Memory(MemoryOp::Recall) => f.write_str("`memory.recall`"),
            Self::Memory(MemoryOp::Forget) => f.write_str("`memory.forget`"),
            Self::Scratch => f.write_str("`scratch`"),
            Self::Trends(TrendsOp::Observe) => f.write_str("`trends.observe`"),
            Self::Trends(TrendsOp::Top) => f.write_str("`trends.top`"),
            Self::Secret(name) => write!(f, "the secret `{}`", shown(name)),
            Self::Skill(name) => write!(f, "the skill `{}`", shown(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn manifest() -> Arc<Manifest> {
        let value = json!({
            "manifest": 1,
            "skill": {"name": "acme/x", "version": "0.1.0", "summary": "x", "license": "MIT", "effects": "read"},
            "io": {"input": {}, "output": {}},
            "capabilities": {
                "mcp": [{"slot": "social", "tools": ["search"], "resources": ["a://b"], "reason": "to see"}],
                "memory": ["recall"], "trends": ["top"], "secrets": ["key"],
                "skills": [{"name": "acme/other", "version": "^1"}],
            },
        });
        Arc::new(Manifest::from_value(value).unwrap())
    }

    #[test]
    fn what_is_declared_passes_and_everything_else_is_a_security_failure() {
        let gate = Gate::Manifest(manifest());
        for wish in [
            Wish::ListTools { slot: "social" },
            Wish::CallTool { slot: "social", tool: "search" },
            Wish::ReadResource { slot: "social", uri: "a://b" },
            Wish::Memory(MemoryOp::Recall),
            Wish::Trends(TrendsOp::Top),
            Wish::Secret("key"),
            Wish::Skill("acme/other"),
        ] {
            assert!(gate.check(wish).is_ok(), "{wish}");
            assert_eq!(Gate::Closed.check(wish).unwrap_err().kind, FailureKind::Security, "{wish}");
        }
        for wish in [
            Wish::ListTools { slot: "wallet" },
            Wish::CallTool { slot: "social", tool: "publish" },
            Wish::CallTool { slot: "wallet", tool: "search" },
            Wish::ReadResource { slot: "social", uri: "a://c" },
            Wish::Memory(MemoryOp::Remember),
            Wish::Memory(MemoryOp::Forget),
            Wish::Scratch,
            Wish::Trends(TrendsOp::Observe),
            Wish::Secret("other"),
            Wish::Skill("acme/x"),
        ] {
            let failure = gate.check(wish).unwrap_err();
            assert_eq!(failure.kind, FailureKind::Security, "{wish}");
            assert_eq!(failure.code, codes::NOT_DECLARED);
        }
    }
}
