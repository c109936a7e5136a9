//! The languages that a skill can be written in, and how a folder tells which one it is.
//!
//! It looks at file names only. Called by `skill new` and `skill build`, and by the demo, which builds Rust alone.

use crate::cli::error::{CliError, CliResult};
use std::path::Path;

/// A language that `chimera skill` has a template and a build for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Language {
    /// Rust, with the SDK `chimera-skill`
    Rust,
    /// Python, built with componentize-py
    #[value(alias = "py")]
    Python,
    /// JavaScript, built with componentize-js
    #[value(alias = "js")]
    Javascript,
}

impl Language {
    const ALL: [Self; 3] = [Self::Rust, Self::Python, Self::Javascript];

    /// The file that a skill in this language always has.
    pub(crate) const fn main_file(self) -> &'static str {
        match self {
            Self::Rust => "Cargo.toml",
            Self::Python => "skill.py",
            Self::Javascript => "skill.js",
        }
    }

    /// The language of the skill in a folder.
    ///
    /// # Errors
    /// When the folder has the main file of no language, or of several.
    pub(crate) fn of(folder: &Path) -> CliResult<Self> {
        let found: Vec<Self> =
            Self::ALL.into_iter().filter(|language| folder.join(language.main_file()).is_file()).collect();
        match *found.as_slice() {
            [language] => Ok(language),
            [] => Err(CliError::usage(
                format!("there is no skill to build in {}: no Cargo.toml, skill.py or skill.js", folder.display()),
                "name the folder that holds one of them beside skill.toml",
            )),
            [first, second, ..] => Err(CliError::usage(
                format!(
                    "{} holds both {} and {}, and a skill is written in one language",
                    folder.display(),
                    first.main_file(),
                    second.main_file()
                ),
                "remove or rename the one that is not the skill",
            )),
        }
    }
}

impl std::fmt::Display for Language {
    /// As it is written after `--lang`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Rust => "rust",
            Self::Python => "python",
            Self::Javascript => "javascript",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::error::Exit;

    #[test]
    fn a_folder_tells_its_language_by_one_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let of = || Language::of(folder.path());
        assert_eq!(of().expect_err("none").exit, Exit::Usage);
        std::fs::write(folder.path().join("skill.py"), "").expect("a file");
        assert_eq!(of(), Ok(Language::Python));
        std::fs::write(folder.path().join("skill.js"), "").expect("a file");
        let error = of().expect_err("two");
        assert!(error.what.contains("skill.py") && error.what.contains("skill.js"), "{error:?}");
    }
}
