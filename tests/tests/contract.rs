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
    let root = chimera_tests::root();
    for entry in std::fs::read_dir(root.join("wit")).unwrap() {
        let folder = entry.unwrap().path();
        if folder.is_dir() {
            let copy = root.join("skills-sdk/wit").join(folder.file_name().unwrap());
            assert_eq!(folder_digest(&folder), folder_digest(&copy), "copy {} to {}", folder.display(), copy.display());
        }
    }
}
