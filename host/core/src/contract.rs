//! Which versions of the contract `chimera:skill` this host serves.
//!
//! It says nothing about what is in them: that is `wit/`, and the sandbox's part. Called wherever a component is looked
//! at: admission, linking, the fuzz target.

use semver::Version;

/// The package of the contract.
pub const PACKAGE: &str = "chimera:skill";

/// The versions that are served, oldest first: the current minor and the one before. Of a minor, older patches are
/// served too: what they have, its newest has as well.
pub const SERVED: [Version; 2] = [Version::new(0, 1, 0), Version::new(0, 2, 0)];

/// The served version that a component built against `version` gets; none if it is not served.
pub fn served(version: &Version) -> Option<&'static Version> {
    const { &SERVED }.iter().find(|newest| {
        (version.major, version.minor) == (newest.major, newest.minor)
            && version.patch <= newest.patch
            && version.pre.is_empty()
            && version.build.is_empty()
    })
}

/// The served versions, as people read them: `0.1.0 and 0.2.0`.
pub fn served_versions() -> String {
    SERVED.map(|version| version.to_string()).join(" and ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_current_and_the_previous_minor_are_served() {
        assert_eq!(served_versions(), "0.1.0 and 0.2.0");
        let serves = |text: &str| served(&Version::parse(text).expect("a version")).map(ToString::to_string);
        assert_eq!(serves("0.1.0").as_deref(), Some("0.1.0"));
        assert_eq!(serves("0.2.0").as_deref(), Some("0.2.0"));
        for other in ["0.0.9", "0.1.1", "0.2.0-rc.1", "0.2.0+x", "0.3.0", "1.0.0", "1.2.0"] {
            assert_eq!(serves(other), None, "{other}");
        }
    }
}
