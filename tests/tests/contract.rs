//! The contract with skill authors: released versions are frozen, and the SDK's copy is the same.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test may end with a panic")]

use chimera_core::digest::Digest;
use std::path::Path;

fn folder_digest(folder: &Path) -> Digest {
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut all = Vec::new();
    for file in files {
        all.extend(file.file_name().unwrap().as_encoded_bytes());
        all.push(0);
        all.extend(std::fs::read(&file).unwrap());
        all.push(0);
    }
    Digest::of(&all)
}

#[test]
fn frozen_versions_do_not_change() {
    let wit = chimera_tests::root().join("wit");
    let frozen = std::fs::read_to_string(wit.join("FROZEN")).unwrap();
    assert!(frozen.contains("chimera-skill-0.1.0 sha256:"), "the first version is frozen");
    for line in frozen.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        let (version, digest) = line.split_once(' ').unwrap();
        assert_eq!(
            folder_digest(&wit.join(version)).to_string(),
            digest.trim(),
            "{version} is frozen: make a new version"
        );
    }
}

#[test]
fn the_sdk_carries_the_same_contract() {
    // Of the versions, the SDK carries those that it builds against.
    let root = chimera_tests::root();
    let copies = std::fs::read_dir(root.join("skills-sdk/wit")).unwrap().map(|entry| entry.unwrap().path());
    let copies: Vec<_> = copies.filter(|copy| copy.is_dir()).collect();
    assert!(!copies.is_empty());
    for copy in copies {
        let folder = root.join("wit").join(copy.file_name().unwrap());
        assert_eq!(folder_digest(&folder), folder_digest(&copy), "copy {} to {}", folder.display(), copy.display());
    }
}
