//! The WIT world of one skill: what its manifest declares and nothing else.
//!
//! componentize-py and componentize-js import every interface of the world they are given, so each skill gets a world
//! of its own, against the contract that this program carries. It writes into the build folder only. Called by the
//! builds of Python and JavaScript skills.

use crate::cli::error::{CliError, CliResult};
use chimera_core::manifest::{Manifest, World};
use std::fmt::Write as _;
use std::path::Path;

/// A contract's version and its files, by name.
type Contract = (&'static str, &'static [(&'static str, &'static str)]);

/// Every published version of the contract.
const CONTRACTS: &[Contract] = include!(concat!(env!("OUT_DIR"), "/contracts.rs"));
/// The name of the world that is written.
pub(super) const WORLD: &str = "guest";

/// The newest version of the contract with the `major.minor` that a manifest names.
fn contract(manifest: &Manifest) -> CliResult<&'static Contract> {
    let wanted = manifest.skill.contract.as_str();
    CONTRACTS
        .iter()
        .filter_map(|contract| Some((semver::Version::parse(contract.0).ok()?, contract)))
        .filter(|(version, _)| format!("{}.{}", version.major, version.minor) == wanted)
        .max_by_key(|(version, _)| (version.minor, version.patch))
        .map(|(_, contract)| contract)
        .ok_or_else(|| {
            let known: Vec<&str> = CONTRACTS.iter().map(|(version, _)| *version).collect();
            CliError::usage(
                format!("this program does not know the contract {wanted}; it knows {}", known.join(", ")),
                "write one of them as `contract` in skill.toml, such as \"0.2\", or build with a newer chimera",
            )
        })
}

/// The interfaces that the skill imports, in order: what is declared, and `progress`, which always is.
pub(super) fn imports(manifest: &Manifest) -> Vec<&'static str> {
    let mut names = manifest.capabilities.interfaces();
    names.insert("progress");
    names.into_iter().collect()
}

/// The contract's version that a skill is built against.
pub(super) fn version(manifest: &Manifest) -> CliResult<&'static str> {
    contract(manifest).map(|(version, _)| *version)
}

/// Writes the skill's world and the contract beside it into an empty folder.
pub(super) fn write(manifest: &Manifest, folder: &Path) -> CliResult<()> {
    let (version, files) = contract(manifest)?;
    let contract = folder.join("deps/chimera-skill");
    let unwritable = |error| CliError::unwritable(&contract, &error);
    std::fs::create_dir_all(&contract).map_err(unwritable)?;
    for (name, text) in *files {
        std::fs::write(contract.join(name), text).map_err(unwritable)?;
    }
    std::fs::write(folder.join("world.wit"), text(manifest, version)).map_err(unwritable)
}

fn text(manifest: &Manifest, version: &str) -> String {
    let exported = match manifest.skill.world {
        World::Skill => "runner",
        World::Judge => "evaluator",
    };
    let mut text = format!("package chimera:guest;\n\nworld {WORLD} {{\n");
    for name in imports(manifest) {
        let _ = writeln!(text, "    import chimera:skill/{name}@{version};");
    }
    let _ = writeln!(text, "    export chimera:skill/{exported}@{version};\n}}");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(contract: &str, capabilities: &str) -> Manifest {
        let toml = format!(
            "manifest = 1\n[skill]\nname = \"a/b\"\nversion = \"0.1.0\"\nsummary = \"x\"\nlicense = \"MIT\"\n\
             effects = \"none\"\nworld = \"skill\"\ncontract = \"{contract}\"\n[io]\ninput = {{}}\noutput = {{}}\n\
             [capabilities]\n{capabilities}\n"
        );
        chimera_registry::assemble_manifest(&toml, None, Path::new(".")).expect("a manifest")
    }

    #[test]
    fn only_what_is_declared_is_imported() {
        let folder = tempfile::tempdir().expect("a folder");
        let manifest = manifest("0.1", "scratch = true");
        write(&manifest, folder.path()).expect("written");
        let world = std::fs::read_to_string(folder.path().join("world.wit")).expect("the world");
        assert_eq!(world.matches("import ").count(), 2, "{world}");
        assert!(world.contains("import chimera:skill/scratch@0.1.0;"), "{world}");
        assert!(folder.path().join("deps/chimera-skill/skill.wit").is_file());
    }

    #[test]
    fn a_judge_exports_its_opinion_and_imports_only_progress() {
        let toml = "manifest = 1\n[skill]\nname = \"a/b\"\nversion = \"0.1.0\"\nsummary = \"x\"\nlicense = \"MIT\"\n\
                    effects = \"none\"\nworld = \"judge\"\ncontract = \"0.2\"\n";
        let manifest = chimera_registry::assemble_manifest(toml, None, Path::new(".")).expect("a manifest");
        let world = text(&manifest, version(&manifest).expect("a version"));
        assert!(world.contains("export chimera:skill/evaluator@0.2.0;"), "{world}");
        assert!(
            world.contains("import chimera:skill/progress@0.2.0;") && world.matches("import").count() == 1,
            "{world}"
        );
    }

    #[test]
    fn an_unknown_contract_is_named_with_the_known_ones() {
        let error = version(&manifest("7.3", "")).expect_err("unknown");
        assert!(error.what.contains("7.3") && error.what.contains("0.1.0"), "{error:?}");
    }
}
