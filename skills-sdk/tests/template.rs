//! What `chimera skill new` writes compiles, passes its own self-tests, and is complete.

#![allow(clippy::unwrap_used, reason = "a test may end with a panic")]

use std::path::{Path, PathBuf};

#[allow(unreachable_pub, reason = "in its own crate it is the root")]
#[path = "../templates/rust/src/lib.rs"]
mod template;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("templates/rust")
}

#[test]
fn the_self_tests_of_the_template_pass() {
    let names = chimera_skill::testing::selftests(folder(), Some("0.1.0"), template::run)
        .unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(names.len(), 2);
}

#[test]
fn every_placeholder_is_a_known_one() {
    let files = ["Cargo.toml.tmpl", ".gitignore", "src/lib.rs", "tests/selftest.rs", "skill.toml", "README.md"];
    let mut seen = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(folder().join(file)).unwrap();
        for part in text.split("{{").skip(1) {
            if let Some((name, _)) = part.split_once("}}") {
                assert!(["namespace", "name", "crate_name", "sdk"].contains(&name), "{file}: {name}");
                seen.push(name.to_owned());
            }
        }
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen, ["crate_name", "name", "namespace", "sdk"]);
}

#[allow(unreachable_pub, reason = "in its own crate it is the root")]
#[path = "../templates/rust-judge/src/lib.rs"]
mod judge;

#[test]
fn the_self_tests_of_the_judge_s_template_pass() {
    let folder = folder().with_file_name("rust-judge");
    let names = chimera_skill::testing::judge_selftests(&folder, Some("0.1.0"), judge::evaluate)
        .unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(names.len(), 4);
    let wrong = chimera_skill::testing::selftests(folder, None, template::run).unwrap_err().to_string();
    assert!(wrong.contains("world is \"judge\"") && wrong.contains("write `world = \"skill\"`"), "{wrong}");
}
