//! Who else could write into the data folder, and so take over what runs on it.
//!
//! Whoever can put a `chimera.toml` there runs a command as the operator, so such a folder is refused before anything in
//! it is believed. It looks only; mending is the operator's. Called by `serve` and `doctor`.

use std::path::{Path, PathBuf};

/// A data folder that is not its user's alone to write into.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}; {}", self.what(), self.fix())]
pub enum UnsafeFolder {
    /// The mode lets the group or everybody write.
    Writable {
        /// The folder.
        folder: PathBuf,
        /// Who besides the owner.
        by: Others,
    },
    /// It belongs to somebody else.
    Foreign {
        /// The folder.
        folder: PathBuf,
        /// The user it belongs to.
        owner: u32,
        /// The user that this process runs as.
        user: u32,
    },
}

/// Who besides the owner may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Others {
    /// The folder's group.
    Group,
    /// Every user of this machine.
    Everybody,
}

impl UnsafeFolder {
    /// What is wrong.
    pub(crate) fn what(&self) -> String {
        match self {
            Self::Writable { folder, by } => {
                let by = match by {
                    Others::Group => "every member of its group",
                    Others::Everybody => "every user of this machine",
                };
                format!("{by} can write into the data folder {}, and so take over the platform", folder.display())
            }
            Self::Foreign { folder, owner, user } => format!(
                "the data folder {} belongs to the user {owner} and not to {user}, who runs this: its owner could take \
                 over the platform",
                folder.display()
            ),
        }
    }

    /// The command that mends it.
    pub(crate) fn fix(&self) -> String {
        match self {
            Self::Writable { folder, .. } => {
                format!("run `chmod go-w {}`, or choose another with --data-dir", shell_word(folder))
            }
            Self::Foreign { folder, user, .. } => format!(
                "run as its owner, make it yours with `sudo chown -R {user} {}`, or choose another with --data-dir",
                shell_word(folder)
            ),
        }
    }
}

/// Looks whether only this user can write into the folder. One that is absent will be made for this user only; what
/// cannot be looked at is for whoever opens it to tell.
///
/// # Errors
/// [`UnsafeFolder`] with the command that mends it.
pub(crate) fn check(folder: &Path) -> Result<(), UnsafeFolder> {
    #[cfg(unix)]
    if let Some(found) = std::fs::metadata(folder).ok().filter(std::fs::Metadata::is_dir) {
        use std::os::unix::fs::MetadataExt as _;
        return judge(folder, found.mode(), found.uid(), rustix::process::geteuid().as_raw());
    }
    Ok(())
}

fn judge(folder: &Path, mode: u32, owner: u32, user: u32) -> Result<(), UnsafeFolder> {
    let folder = folder.to_owned();
    // An access list beyond the mode shows as the group's bits, so it is refused here as well.
    match mode & 0o022 {
        _ if owner != user => Err(UnsafeFolder::Foreign { folder, owner, user }),
        0 => Ok(()),
        0o020 => Err(UnsafeFolder::Writable { folder, by: Others::Group }),
        _ => Err(UnsafeFolder::Writable { folder, by: Others::Everybody }),
    }
}

/// The path as a word of a shell's command that can be copied.
pub(crate) fn shell_word(path: &Path) -> String {
    let text = path.display().to_string();
    if !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || "/._-+,:@%".contains(c)) {
        return text;
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_owner_may_write_into_it() {
        let judge = |mode, owner, user| judge(Path::new("/data"), mode, owner, user).map_err(|error| error.to_string());
        for mode in [0o700, 0o755, 0o750, 0o40_711] {
            assert_eq!(judge(mode, 1000, 1000), Ok(()), "{mode:o}");
            assert_eq!(judge(mode, 0, 0), Ok(()), "{mode:o}");
        }
        for (mode, who) in [(0o775, "its group"), (0o720, "its group"), (0o777, "every user"), (0o1777, "every user")] {
            let told = judge(mode, 1000, 1000).expect_err("writable");
            assert!(told.contains(who) && told.contains("`chmod go-w /data`"), "{mode:o}: {told}");
        }
        // Root is no exception: the owner would run commands as root.
        for (owner, user) in [(1000, 1001), (0, 1000), (1000, 0)] {
            let told = judge(0o700, owner, user).expect_err("somebody else's");
            assert!(told.contains(&format!("chown -R {user} /data")), "{told}");
        }
    }

    #[test]
    fn a_folder_that_is_not_there_is_nobody_s_yet() {
        let place = tempfile::tempdir().expect("a folder");
        assert_eq!(check(&place.path().join("absent")), Ok(()));
        #[cfg(unix)]
        std::fs::set_permissions(place.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("a mode");
        assert_eq!(check(place.path()), Ok(()));
    }

    #[test]
    fn a_command_can_be_copied() {
        assert_eq!(shell_word(Path::new("/home/a/b-c_1.d")), "/home/a/b-c_1.d");
        assert_eq!(shell_word(Path::new("/a b/$(x)")), "'/a b/$(x)'");
        assert_eq!(shell_word(Path::new("/it's")), r"'/it'\''s'");
    }
}
