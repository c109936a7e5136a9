//! Why a component is not admitted: the rule, what was seen, and what to do about it.
//!
//! A refusal is a value that people and programs read; this module decides nothing. Made by [`crate::inspect`] and
//! [`crate::Registry`]; printed by the CLI and the API.

use chimera_core::text::{printable, truncated};
use std::fmt;

/// The rule of admission that a component broke. The codes are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rule {
    /// Larger than [`crate::MAX_COMPONENT_BYTES`].
    SizeLimit,
    /// A core module, text, or something else that is no component.
    NotAComponent,
    /// A component that does not validate, or uses a WebAssembly feature that is not served.
    InvalidComponent,
    /// No manifest inside.
    ManifestMissing,
    /// Two manifests inside: nobody can say which one counts.
    ManifestDuplicate,
    /// A manifest that cannot be accepted.
    ManifestInvalid,
    /// Built against a version of the contract that this host does not serve.
    ContractNotServed,
    /// The manifest names another contract or world than the bytes.
    ContractMismatch,
    /// Imports an interface of the contract that the manifest does not declare.
    ImportUndeclared,
    /// Imports sockets or HTTP, which no skill gets.
    ImportRefused,
    /// Imports something that this host does not know.
    ImportUnknown,
    /// Does not export what its world must export.
    ExportMissing,
    /// Exports something that no served world has.
    ExportUnknown,
    /// Exports a function of the contract with other parameters or another result.
    ExportMismatch,
    /// This name and version is taken by other bytes.
    VersionImmutable,
    /// Could not be compiled or linked within limits.
    CompileFailed,
    /// One of its own self-tests failed.
    SelfTestFailed,
}

impl Rule {
    /// Every rule, in the order in which they are checked.
    pub const ALL: [Self; 17] = [
        Self::SizeLimit,
        Self::NotAComponent,
        Self::InvalidComponent,
        Self::ManifestMissing,
        Self::ManifestDuplicate,
        Self::ManifestInvalid,
        Self::ContractNotServed,
        Self::ContractMismatch,
        Self::ImportUndeclared,
        Self::ImportRefused,
        Self::ImportUnknown,
        Self::ExportMissing,
        Self::ExportUnknown,
        Self::ExportMismatch,
        Self::VersionImmutable,
        Self::CompileFailed,
        Self::SelfTestFailed,
    ];

    /// The rule's stable kebab-case code.
    pub const fn code(self) -> &'static str {
        match self {
            Self::SizeLimit => "size-limit",
            Self::NotAComponent => "not-a-component",
            Self::InvalidComponent => "invalid-component",
            Self::ManifestMissing => "manifest-missing",
            Self::ManifestDuplicate => "manifest-duplicate",
            Self::ManifestInvalid => "manifest-invalid",
            Self::ContractNotServed => "contract-not-served",
            Self::ContractMismatch => "contract-mismatch",
            Self::ImportUndeclared => "import-undeclared",
            Self::ImportRefused => "import-refused",
            Self::ImportUnknown => "import-unknown",
            Self::ExportMissing => "export-missing",
            Self::ExportUnknown => "export-unknown",
            Self::ExportMismatch => "export-mismatch",
            Self::VersionImmutable => "version-immutable",
            Self::CompileFailed => "compile-failed",
            Self::SelfTestFailed => "selftest-failed",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// A component that is not admitted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("refused by rule `{rule}`: {evidence}. To fix it: {fix}")]
pub struct Refusal {
    /// Which rule.
    pub rule: Rule,
    /// What was seen; safe to print, at most 2 KiB.
    pub evidence: String,
    /// What the author can do.
    pub fix: String,
}

impl Refusal {
    /// Longest evidence in bytes.
    pub const MAX_EVIDENCE: usize = 2048;

    /// A refusal; the evidence may quote hostile text, so it is cut and made printable.
    pub fn new(rule: Rule, evidence: impl Into<String>, fix: impl Into<String>) -> Self {
        let evidence = printable(&truncated(evidence.into(), Self::MAX_EVIDENCE));
        Self { rule, evidence, fix: fix.into() }
    }
}
