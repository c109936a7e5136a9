//! How a command ends: the exit codes, and errors that say what happened and what to do.
//!
//! An error is one clear line of what happened and one of what to do; it never shows a secret. This module prints
//! nothing but the error itself. Used by every command.

use super::output::{Style, tell};
use chimera_core::text::printable;
use std::process::ExitCode;

/// The exit codes of `chimera`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Done,
    /// It was tried and failed.
    Failed,
    /// The command, or what it was given, makes no sense.
    Usage,
    /// A rule or a human said no.
    Refused,
}

impl Exit {
    /// The number the shell sees.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Refused => 3,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a command could not do what it was asked to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub(crate) struct CliError {
    /// How the process ends.
    pub(crate) exit: Exit,
    /// What happened, in one line.
    pub(crate) what: String,
    /// What to do, in one line; empty when there is nothing to add.
    pub(crate) fix: String,
}

/// What a command gives back.
pub(crate) type CliResult<T = Exit> = Result<T, CliError>;

impl CliError {
    /// It was tried and failed.
    pub(crate) fn failed(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { exit: Exit::Failed, what: what.into(), fix: fix.into() }
    }

    /// What was asked makes no sense.
    pub(crate) fn usage(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, what: what.into(), fix: fix.into() }
    }

    /// A rule said no.
    pub(crate) fn refused(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { exit: Exit::Refused, what: what.into(), fix: fix.into() }
    }

    /// A file could not be read.
    pub(crate) fn unreadable(path: &std::path::Path, error: &std::io::Error) -> Self {
        Self::failed(format!("{} cannot be read: {error}", path.display()), "check the path and its permissions")
    }

    /// A file could not be written.
    pub(crate) fn unwritable(path: &std::path::Path, error: &std::io::Error) -> Self {
        Self::failed(format!("{} cannot be written: {error}", path.display()), "check the path and its permissions")
    }

    /// Writes the error to standard error.
    pub(crate) fn print(&self) {
        let style = Style::stderr();
        tell(&format!("{} {}", style.red("error:"), printable(&self.what)));
        if !self.fix.is_empty() {
            tell(&format!("  {} {}", style.bold("→"), printable(&self.fix)));
        }
    }
}

impl From<chimera_core::ports::PortError> for CliError {
    fn from(error: chimera_core::ports::PortError) -> Self {
        Self::failed(error.message, "see `chimera doctor` for the state of the data folder")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_those_of_the_contract() {
        assert_eq!([Exit::Done, Exit::Failed, Exit::Usage, Exit::Refused].map(Exit::code), [0, 1, 2, 3]);
        assert_eq!(CliError::usage("a", "b").exit, Exit::Usage);
        assert_eq!(CliError::refused("a", "b").exit, Exit::Refused);
        assert_eq!(CliError::failed("a", "b").exit, Exit::Failed);
    }
}
