//! The contract that is vendored here is the contract of the repository.

#![allow(clippy::unwrap_used, reason = "a test may end with a panic")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn texts(folder: &Path, root: &Path, found: &mut BTreeMap<PathBuf, String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            texts(&path, root, found);
        } else if path.extension().is_some_and(|it| it == "wit") {
            let name = path.strip_prefix(root).unwrap().to_owned();
            found.insert(name, std::fs::read_to_string(&path).unwrap());
        }
    }
}

fn all(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    texts(root, root, &mut found);
    found
}

#[test]
fn the_vendored_contract_equals_the_repository() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let source = here.join("../wit/chimera-skill-0.2.0");
    let vendored = all(&here.join("wit/chimera-skill-0.2.0"));
    assert!(vendored.contains_key(Path::new("skill.wit")));
    // Outside the repository (a published crate) there is nothing to compare with.
    if source.exists() {
        assert_eq!(vendored, all(&source), "copy wit/chimera-skill-0.2.0 into skills-sdk/wit");
    }
}
