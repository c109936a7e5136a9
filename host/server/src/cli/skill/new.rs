//! `chimera skill new`: a new skill's folder from a template that this program carries.
//!
//! Writes only into a folder that is not there yet, or is empty; never overwrites. Called by the dispatcher.

use super::language::Language;
use crate::cli::Env;
use crate::cli::error::{CliError, CliResult, Exit};
use crate::cli::output::say;
use chimera_core::skill::SkillName;
use serde_json::json;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// What a new component is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum NewWorld {
    /// Does tasks
    Skill,
    /// Gives opinions on finished tasks
    Judge,
}

/// The files of a template, by path. `.tmpl` keeps a file from being taken for what it is in the template's own place.
type Template = &'static [(&'static str, &'static str)];

/// Files of one or more folders of templates.
macro_rules! template {
    ($($folder:literal: $($path:literal),*);* $(;)?) => {
        &[$($(($path, include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"), "/../../skills-sdk/templates/", $folder, "/", $path
        )))),*),*]
    };
}

const RUST: Template =
    template!["rust": "Cargo.toml.tmpl", "skill.toml", "README.md", ".gitignore", "src/lib.rs", "tests/selftest.rs"];
const PYTHON: Template = template![
    "python": "skill.py", "chimera_skill.py", "skill.toml", "schemas/input.json", "schemas/output.json",
    "tests/__init__.py", "tests/test_skill.py", "README.md", ".gitignore"
];
const JAVASCRIPT: Template = template![
    "javascript": "skill.js", "chimera-skill.js", "skill.toml", "schemas/input.json", "schemas/output.json",
    "tests/skill.test.js", "package.json", "README.md", ".gitignore"
];
const RUST_JUDGE: Template = template![
    "rust": "Cargo.toml.tmpl", ".gitignore";
    "rust-judge": "skill.toml", "README.md", "src/lib.rs", "tests/selftest.rs"
];
const PYTHON_JUDGE: Template = template![
    "python": "chimera_skill.py", "tests/__init__.py", ".gitignore";
    "python-judge": "skill.py", "skill.toml", "tests/test_skill.py", "README.md"
];
const JAVASCRIPT_JUDGE: Template = template![
    "javascript": "chimera-skill.js", "package.json", ".gitignore";
    "javascript-judge": "skill.js", "skill.toml", "tests/skill.test.js", "README.md"
];

const fn template(language: Language, world: NewWorld) -> Template {
    match (language, world) {
        (Language::Rust, NewWorld::Skill) => RUST,
        (Language::Python, NewWorld::Skill) => PYTHON,
        (Language::Javascript, NewWorld::Skill) => JAVASCRIPT,
        (Language::Rust, NewWorld::Judge) => RUST_JUDGE,
        (Language::Python, NewWorld::Judge) => PYTHON_JUDGE,
        (Language::Javascript, NewWorld::Judge) => JAVASCRIPT_JUDGE,
    }
}

/// The command that runs a new skill's unit tests.
const fn unit_tests(language: Language) -> &'static str {
    match language {
        Language::Rust => "cargo test",
        Language::Python => "python3 -m unittest",
        Language::Javascript => "npm test",
    }
}

/// Names that no Rust crate can have.
const RESERVED: &[&str] = &[
    "abstract",
    "alloc",
    "as",
    "async",
    "await",
    "become",
    "box",
    "break",
    "const",
    "continue",
    "core",
    "crate",
    "do",
    "dyn",
    "else",
    "enum",
    "extern",
    "false",
    "final",
    "fn",
    "for",
    "gen",
    "if",
    "impl",
    "in",
    "let",
    "loop",
    "macro",
    "match",
    "mod",
    "move",
    "mut",
    "override",
    "priv",
    "proc-macro",
    "pub",
    "ref",
    "return",
    "self",
    "static",
    "std",
    "struct",
    "super",
    "test",
    "trait",
    "true",
    "try",
    "type",
    "typeof",
    "unsafe",
    "unsized",
    "use",
    "virtual",
    "where",
    "while",
    "yield",
    "chimera-skill",
    "schemars",
    "serde",
];

/// What shall be made.
pub(super) struct Wish {
    /// `namespace/name`.
    pub(super) name: String,
    /// What it is written in.
    pub(super) language: Language,
    /// What it is for.
    pub(super) world: NewWorld,
    /// Where; a folder of the name otherwise.
    pub(super) path: Option<PathBuf>,
    /// The SDK for Rust: a folder or a version.
    pub(super) sdk: Option<String>,
}

pub(super) fn run(env: &Env, wish: Wish) -> CliResult {
    let Wish { name, language, world, path, sdk } = wish;
    let name: SkillName = name
        .parse()
        .map_err(|error| CliError::usage(format!("{error}"), "write for example `chimera skill new acme/hello`"))?;
    let sdk = match language {
        Language::Rust => {
            check_crate_name(&name)?;
            sdk_dependency(sdk.as_deref())?
        }
        _ if sdk.is_some() => {
            return Err(CliError::usage(
                "--sdk names the SDK for Rust, and other languages need none",
                "leave --sdk out, or write the skill in Rust",
            ));
        }
        _ => String::new(),
    };
    let folder = path.unwrap_or_else(|| PathBuf::from(name.name()));
    claim(&folder)?;
    for (file, content) in template(language, world) {
        write(&folder.join(file.trim_end_matches(".tmpl")), &fill(content, &name, &sdk))?;
    }
    let mut report = json!({ "path": folder, "name": name, "language": language.to_string() });
    if language == Language::Rust {
        report["sdk"] = json!(sdk);
    }
    env.show(&report, |_| {
        say(&format!("Wrote {}.", folder.display()));
        say("Next:");
        say(&format!("  cd {}", folder.display()));
        say(&format!("  {:<24}its unit tests, natively", unit_tests(language)));
        say("  chimera skill build     the component");
        say("  chimera skill test      its self-tests in the sandbox");
    });
    Ok(Exit::Done)
}

/// A skill in Rust has its crate's name.
fn check_crate_name(name: &SkillName) -> CliResult<()> {
    if !RESERVED.contains(&name.name()) {
        return Ok(());
    }
    Err(CliError::usage(
        format!(
            "a skill cannot be called `{}`: it is also the name of its Rust crate, where that word is taken",
            name.name()
        ),
        format!("choose another, for example {}/{}-skill", name.namespace(), name.name()),
    ))
}

fn fill(content: &str, name: &SkillName, sdk: &str) -> String {
    content
        .replace("{{namespace}}", name.namespace())
        .replace("{{name}}", name.name())
        .replace("{{crate_name}}", &name.name().replace('-', "_"))
        .replace("{{sdk}}", sdk)
}

/// The right side of `chimera-skill =` in the new Cargo.toml.
fn sdk_dependency(wish: Option<&str>) -> CliResult<String> {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../skills-sdk");
    match wish {
        Some(wish) if wish.contains(['/', '\\']) || Path::new(wish).is_dir() => path_dependency(Path::new(wish)),
        Some(version) => match semver::VersionReq::parse(version) {
            Ok(_) => Ok(quoted(version)),
            Err(error) => Err(CliError::usage(
                format!("`{version}` is neither a folder nor a version: {error}"),
                "write a folder such as ../chimera/skills-sdk, or a version such as 0.1",
            )),
        },
        None if checkout.join("Cargo.toml").is_file() => path_dependency(&checkout),
        None => Ok(quoted(&format!("{}.{}", env!("CARGO_PKG_VERSION_MAJOR"), env!("CARGO_PKG_VERSION_MINOR")))),
    }
}

fn path_dependency(folder: &Path) -> CliResult<String> {
    let folder = folder.canonicalize().map_err(|error| CliError::unreadable(folder, &error))?;
    if !folder.join("Cargo.toml").is_file() {
        return Err(CliError::usage(
            format!("{} is not the SDK: it has no Cargo.toml", folder.display()),
            "name the folder skills-sdk",
        ));
    }
    Ok(format!("{{ path = {} }}", quoted(&folder.display().to_string())))
}

/// A TOML string.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// Makes the folder, which must not hold anything yet.
fn claim(folder: &Path) -> CliResult<()> {
    match std::fs::read_dir(folder) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(CliError::failed(
                format!("{} is not empty, and nothing is overwritten", folder.display()),
                "choose another folder with --path",
            )),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            std::fs::create_dir_all(folder).map_err(|error| CliError::unwritable(folder, &error))
        }
        Err(error) => Err(CliError::unwritable(folder, &error)),
    }
}

fn write(path: &Path, content: &str) -> CliResult<()> {
    let unwritable = |error| CliError::unwritable(path, &error);
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(unwritable)?;
    }
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).open(path).map_err(unwritable)?;
    file.write_all(content.as_bytes()).map_err(unwritable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::Global;
    use chimera_core::manifest::World;

    fn env() -> Env {
        Env::new(Global { data_dir: None, config: None, log: None, json: true })
    }

    fn wish(name: &str, language: Language, folder: &Path, sdk: Option<&str>) -> Wish {
        let (name, path, sdk) = (name.to_owned(), Some(folder.to_owned()), sdk.map(str::to_owned));
        Wish { name, language, world: NewWorld::Skill, path, sdk }
    }

    fn new(name: &str, folder: &Path, sdk: &str) -> CliResult {
        run(&env(), wish(name, Language::Rust, folder, Some(sdk)))
    }

    #[test]
    fn templates_of_judges_are_filled_whole_and_are_judges() {
        let place = tempfile::tempdir().expect("a folder");
        for language in [Language::Rust, Language::Python, Language::Javascript] {
            let folder = place.path().join(language.to_string());
            let judge = Wish { world: NewWorld::Judge, ..wish("acme/strict", language, &folder, None) };
            assert_eq!(run(&env(), judge), Ok(Exit::Done));
            assert_eq!(Language::of(&folder), Ok(language));
            for (file, _) in template(language, NewWorld::Judge) {
                let text = std::fs::read_to_string(folder.join(file.trim_end_matches(".tmpl"))).expect("a file");
                assert!(!text.contains("{{"), "{file} has a placeholder left: {text}");
            }
            let toml = std::fs::read_to_string(folder.join("skill.toml")).expect("skill.toml");
            let manifest = chimera_registry::assemble_manifest(&toml, None, &folder).expect("a manifest");
            assert_eq!((manifest.skill.world, manifest.selftests.len()), (World::Judge, 4));
        }
    }

    #[test]
    fn templates_in_other_languages_are_filled_whole_and_need_no_sdk() {
        let place = tempfile::tempdir().expect("a folder");
        for language in [Language::Python, Language::Javascript] {
            let folder = place.path().join(language.to_string());
            // A name that no Rust crate could have.
            assert_eq!(run(&env(), wish("acme/match", language, &folder, None)), Ok(Exit::Done));
            assert_eq!(Language::of(&folder), Ok(language));
            for (file, _) in template(language, NewWorld::Skill) {
                let text = std::fs::read_to_string(folder.join(file)).expect("a file");
                assert!(!text.contains("{{"), "{file} has a placeholder left: {text}");
            }
            let toml = std::fs::read_to_string(folder.join("skill.toml")).expect("skill.toml");
            let manifest = chimera_registry::assemble_manifest(&toml, None, &folder).expect("a manifest");
            assert!(manifest.selftests.len() >= 2);
            let other = place.path().join("other");
            let error = run(&env(), wish("acme/x", language, &other, Some("0.1"))).expect_err("no SDK");
            assert_eq!(error.exit, Exit::Usage);
        }
    }

    #[test]
    fn the_template_is_filled_whole() {
        let place = tempfile::tempdir().expect("a folder");
        let folder = place.path().join("hello-world");
        assert_eq!(new("acme/hello-world", &folder, "0.1"), Ok(Exit::Done));
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).expect("a file");
        assert!(read("Cargo.toml").contains("chimera-skill = \"0.1\""));
        assert!(read("Cargo.toml").contains("name = \"hello-world\""));
        assert!(read("skill.toml").contains("name = \"acme/hello-world\""));
        assert!(read("tests/selftest.rs").contains("hello_world::run"));
        for (file, _) in RUST {
            let text = read(file.trim_end_matches(".tmpl"));
            assert!(!text.contains("{{"), "{file} has a placeholder left: {text}");
        }
        toml::from_str::<toml::Table>(&read("Cargo.toml")).expect("TOML");
    }

    #[test]
    fn nothing_is_overwritten() {
        let place = tempfile::tempdir().expect("a folder");
        std::fs::write(place.path().join("mine"), "precious").expect("a file");
        let error = new("acme/hello", place.path(), "0.1").expect_err("not empty");
        assert_eq!(error.exit, Exit::Failed);
        assert_eq!(std::fs::read_dir(place.path()).expect("a folder").count(), 1);
    }

    #[test]
    fn an_empty_folder_is_taken() {
        let place = tempfile::tempdir().expect("a folder");
        assert_eq!(new("acme/hello", place.path(), "0.1"), Ok(Exit::Done));
    }

    #[test]
    fn names_and_sdks_that_make_no_sense_are_wrong_usage() {
        let place = tempfile::tempdir().expect("a folder");
        let exit = |name: &str, sdk: &str| new(name, &place.path().join("x"), sdk).expect_err("refused").exit;
        assert_eq!(exit("hello", "0.1"), Exit::Usage);
        assert_eq!(exit("acme/Hello", "0.1"), Exit::Usage);
        assert_eq!(exit("acme/match", "0.1"), Exit::Usage);
        assert_eq!(exit("acme/hello", "newest"), Exit::Usage);
        assert_eq!(exit("acme/hello", &place.path().display().to_string()), Exit::Usage);
        assert!(!place.path().join("x").exists(), "nothing is written before everything is checked");
    }

    #[test]
    fn the_sdk_is_the_checkout_s_where_there_is_one() {
        let sdk = sdk_dependency(None).expect("an SDK");
        assert!(sdk.starts_with("{ path = ") && sdk.contains("skills-sdk"), "{sdk}");
    }
}
