//! The walls: which crate may depend on which, and who alone may use the heavy libraries.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test may end with a panic")]

use cargo_metadata::{DependencyKind, MetadataCommand, Package};

/// Shipped crates from the inside out. A crate may depend only on crates of an earlier row.
const ROWS: [&[&str]; 5] = [
    &["chimera-core"],
    &["chimera-sandbox", "chimera-store", "chimera-index", "chimera-mcp"],
    &["chimera-registry"],
    &["chimera-agents"],
    &["chimera"],
];

/// Libraries that only one crate may use.
const OWNERS: [(&str, &str); 11] = [
    ("wasmtime", "chimera-sandbox"),
    ("wasmtime-wasi", "chimera-sandbox"),
    ("sqlx", "chimera-store"),
    ("rusqlite", "chimera-store"),
    ("redis", "chimera-store"),
    ("weaviate-community", "chimera-index"),
    ("candle-core", "chimera-index"),
    ("candle-nn", "chimera-index"),
    ("tokenizers", "chimera-index"),
    ("usearch", "chimera-index"),
    ("rmcp", "chimera-mcp"),
];

fn packages() -> Vec<Package> {
    let manifest = chimera_tests::root().join("Cargo.toml");
    MetadataCommand::new().manifest_path(manifest).no_deps().exec().unwrap().packages
}

fn shipped_dependencies(package: &Package) -> impl Iterator<Item = &str> {
    package.dependencies.iter().filter(|dep| dep.kind != DependencyKind::Development).map(|dep| dep.name.as_str())
}

#[test]
fn arrows_point_one_way() {
    let row_of = |name: &str| ROWS.iter().position(|row| row.contains(&name));
    let mut seen = 0;
    for package in packages() {
        let Some(row) = row_of(&package.name) else { continue };
        seen += 1;
        for dependency in shipped_dependencies(&package) {
            if let Some(other) = row_of(dependency) {
                assert!(
                    other < row,
                    "{} must not depend on {dependency}: arrows point from the outside in",
                    package.name
                );
            }
            assert!(
                !dependency.starts_with("chimera-skill") && dependency != "chimera-tests",
                "{} depends on {dependency}",
                package.name
            );
        }
    }
    assert_eq!(seen, ROWS.iter().map(|row| row.len()).sum::<usize>(), "a shipped crate was renamed or removed");
}

#[test]
fn heavy_libraries_have_one_owner() {
    // The tests look into the database from outside, as an operator would.
    for package in packages().into_iter().filter(|package| package.name.as_str() != "chimera-tests") {
        for dependency in package.dependencies.iter().map(|dep| dep.name.as_str()) {
            if let Some((library, owner)) = OWNERS.iter().find(|(library, _)| *library == dependency) {
                assert_eq!(package.name.as_str(), *owner, "only {owner} may depend on {library}");
            }
        }
    }
}

#[test]
fn only_the_sandbox_may_say_unsafe() {
    let root = chimera_tests::root();
    let mut found = Vec::new();
    for room in ["host", "registry", "xtask"] {
        visit(&root.join(room), &mut |path, text| {
            let says_it = text.lines().any(|line| {
                let code = line.split("//").next().unwrap_or("");
                ["unsafe {", "unsafe fn", "unsafe impl"].iter().any(|word| code.contains(word))
            });
            if says_it && !path.starts_with(root.join("host/sandbox")) {
                found.push(path.to_path_buf());
            }
        });
    }
    assert!(found.is_empty(), "unsafe outside the sandbox: {found:?}");
}

fn visit(folder: &std::path::Path, act: &mut impl FnMut(&std::path::Path, &str)) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !name.starts_with('.') && name != "target" && name != "node_modules" {
            visit(&path, act);
        } else if name.ends_with(".rs") {
            act(&path, &std::fs::read_to_string(&path).unwrap());
        }
    }
}
