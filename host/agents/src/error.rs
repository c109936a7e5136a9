//! What an agent answers when it cannot do what it was asked.
//!
//! The kind decides what the caller does (which HTTP status, which exit code); the text only explains. It never carries
//! a skill's own failure: that is [`chimera_core::failure::Failure`]. Made by every module here, read by the API.

use chimera_core::machine::Refused;
use chimera_core::ports::PortError;
use chimera_registry::Unfit;

/// Why an agent did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AgentError {
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// It does not fit what is already so: decided before, fenced off, final, or given with other content.
    #[error("{0}")]
    Conflict(String),
    /// The request itself is wrong; the text says what to write instead.
    #[error("{0}")]
    Invalid(String),
    /// It may work later.
    #[error("{0}")]
    Unavailable(String),
}

/// Decides what the caller does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgentErrorKind {
    /// There is no such thing.
    NotFound,
    /// It does not fit what is already so.
    Conflict,
    /// The request itself is wrong.
    Invalid,
    /// It may work later.
    Unavailable,
}

impl AgentError {
    /// The error's kind.
    pub const fn kind(&self) -> AgentErrorKind {
        match self {
            Self::NotFound(_) => AgentErrorKind::NotFound,
            Self::Conflict(_) => AgentErrorKind::Conflict,
            Self::Invalid(_) => AgentErrorKind::Invalid,
            Self::Unavailable(_) => AgentErrorKind::Unavailable,
        }
    }

    /// A value that was asked for and is not what its schema says, or could not be looked at in time.
    pub(crate) fn unfit(unfit: Unfit, about: &str) -> Self {
        let message = format!("{about}: {unfit}");
        match unfit {
            Unfit::Misfit(_) => Self::Invalid(message),
            Unfit::Late => Self::Unavailable(message),
        }
    }
}

impl From<PortError> for AgentError {
    fn from(error: PortError) -> Self {
        Self::Unavailable(error.message)
    }
}

impl From<Refused> for AgentError {
    fn from(refused: Refused) -> Self {
        Self::Conflict(refused.to_string())
    }
}
