//! Where a demo works: a temporary folder, or one that is kept.
//!
//! A demo grants, publishes and answers; it must never do so in a folder with somebody's real campaigns. So it takes a
//! folder that is new or empty, or that carries the mark of an earlier demo, and no other. Called by the demo.

use crate::cli::error::{CliError, CliResult};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

/// The file that says that a demo made the folder.
const MARK: &str = ".chimera-demo";
/// What is in it, for whoever wonders.
const MARK_TEXT: &str = "`chimera demo` made this folder, and may work in it again.\n";
/// What to do when a folder is not taken.
const NAME_ANOTHER: &str = "name a folder that does not exist yet with --keep DIR";

/// The data folder of the run.
#[derive(Debug)]
pub(super) enum Place {
    /// Goes away with the run.
    Temporary(tempfile::TempDir),
    /// Stays.
    Kept(PathBuf),
}

impl Place {
    /// The folder that `--keep` or, meaning the same here, `--data-dir` names, marked; else a temporary one.
    pub(super) fn open(keep: Option<&Path>, data_dir: Option<&Path>) -> CliResult<Self> {
        if let (Some(keep), Some(data_dir)) = (keep, data_dir)
            && keep != data_dir
        {
            return Err(CliError::usage(
                "--keep and --data-dir mean the same folder to a demo, and name two",
                "give one of them",
            ));
        }
        match keep.or(data_dir) {
            Some(folder) => {
                let folder = std::path::absolute(folder).map_err(|error| CliError::unwritable(folder, &error))?;
                refuse_others(&folder)?;
                mark(&folder).map_err(|error| CliError::unwritable(&folder, &error))?;
                Ok(Self::Kept(folder))
            }
            None => temporary().map(Self::Temporary).map_err(|error| {
                CliError::failed(
                    format!("no temporary folder could be made: {error}"),
                    "name a folder with --keep DIR, or set TMPDIR",
                )
            }),
        }
    }

    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Temporary(folder) => folder.path(),
            Self::Kept(folder) => folder,
        }
    }

    /// The folder, if it stays.
    pub(super) fn kept(&self) -> Option<&Path> {
        match self {
            Self::Temporary(_) => None,
            Self::Kept(folder) => Some(folder),
        }
    }

    /// Where the bundled server keeps its posts.
    pub(super) fn social_state(&self) -> PathBuf {
        self.path().join("social.json")
    }
}

/// Only what is new, empty or marked may be worked in.
fn refuse_others(folder: &Path) -> CliResult<()> {
    let mut entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) if error.kind() == ErrorKind::NotADirectory => {
            return Err(CliError::usage(format!("{} is not a folder", folder.display()), NAME_ANOTHER));
        }
        Err(error) => return Err(CliError::unreadable(folder, &error)),
    };
    let is_marked = folder.join(MARK).symlink_metadata().is_ok_and(|found| found.is_file());
    if is_marked || entries.next().is_none() {
        return Ok(());
    }
    let what = format!("{} holds something that no demo made, so the demo does not work in it", folder.display());
    Err(CliError::usage(what, NAME_ANOTHER))
}

/// Makes the folder, for this user only as it will hold a token, and marks it before anything else is in it.
fn mark(folder: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)?;
    match std::fs::File::create_new(folder.join(MARK)) {
        Ok(mut file) => file.write_all(MARK_TEXT.as_bytes()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// A folder for this user only: it holds a token.
fn temporary() -> std::io::Result<tempfile::TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("chimera-demo-");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
    builder.tempdir()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may end with a panic")]

    use super::*;
    use crate::cli::error::Exit;

    #[test]
    fn only_a_new_an_empty_or_a_marked_folder_is_worked_in() {
        let place = tempfile::tempdir().unwrap();
        for name in ["new/below", "empty"] {
            let folder = place.path().join(name);
            if name == "empty" {
                std::fs::create_dir(&folder).unwrap();
            }
            assert_eq!(Place::open(Some(&folder), None).unwrap().kept(), Some(folder.as_path()));
            std::fs::write(folder.join("chimera.db"), "of a demo").unwrap();
            assert!(Place::open(None, Some(&folder)).is_ok(), "a demo may come back to its own");
            assert!(Place::open(Some(&folder), Some(&folder)).is_ok(), "twice the same is the same");
        }
        assert_eq!(Place::open(None, None).unwrap().kept(), None);
    }

    #[test]
    fn a_folder_of_the_operator_s_is_refused_and_left_as_it_is() {
        let place = tempfile::tempdir().unwrap();
        let (folder, file) = (place.path().join("data"), place.path().join("file"));
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("chimera.db"), "real campaigns").unwrap();
        std::fs::write(&file, "a file").unwrap();
        for (keep, data_dir) in [(Some(&folder), None), (None, Some(&folder)), (Some(&file), None)] {
            let error = Place::open(keep.map(PathBuf::as_path), data_dir.map(PathBuf::as_path)).unwrap_err();
            assert_eq!(error.exit, Exit::Usage, "{error}");
            assert!(error.fix.contains("--keep DIR"), "{error:?}");
        }
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "nothing was added");
        let two = Place::open(Some(&place.path().join("a")), Some(&place.path().join("b"))).unwrap_err();
        assert_eq!(two.exit, Exit::Usage);
        assert!(!place.path().join("a").exists());
    }
}
