//! `chimera skill`: make, build, test, run and install skills.
//!
//! Building and testing happen here, in this process's own sandbox; installing is the running server's. A skill that is
//! tested or run here reaches nothing. Called by the dispatcher, and by the demo to build the bundled skills.

pub(super) mod build;
mod check;
pub(super) mod compiling;
pub(super) mod guest;
pub(super) mod language;
pub(super) mod new;
mod route;
mod script;
mod tools;
mod watch;
mod world;

use super::args::SkillCommand;
use super::client::segment;
use super::error::{CliError, CliResult, Exit};
use super::inputs::read_capped;
use super::output::{Format, Table, bytes, print_json, say};
use super::{Env, list, text};
use chimera_core::digest::Digest;
use chimera_core::manifest::Manifest;
use chimera_registry::{Inspection, MAX_COMPONENT_BYTES, Refusal};
use chimera_sandbox::{Compiler, Confinement, Sandbox, SandboxConfig};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(super) async fn run(env: Env, command: SkillCommand) -> CliResult {
    match command {
        SkillCommand::New { name, lang, world, path, sdk } => {
            new::run(&env, new::Wish { name, language: lang, world, path, sdk })
        }
        SkillCommand::Build { folder } => {
            let built =
                build::build(&env, &folder, &sandbox(env.config()?.sandbox_confinement.value)?, guest::Chatter::Shown)
                    .await?;
            let report = json!({
                "path": built.path, "name": built.manifest.skill.name, "version": built.manifest.skill.version,
                "digest": built.digest, "size": built.size, "warnings": built.warnings,
            });
            env.show(&report, |_| {
                say(&format!("Built {} ({}, {})", built.path.display(), bytes(built.size), built.digest));
                built.warnings.iter().for_each(|warning| say(&format!("warning: {warning}")));
                say("Test it with `chimera skill test`, install it with `chimera skill install`.");
            });
            Ok(Exit::Done)
        }
        SkillCommand::Test { what } => check::test(&env, &what).await,
        SkillCommand::Run { what, input, watch: false } => check::run_once(&env, &what, &input).await,
        SkillCommand::Run { what, input, watch: true } => watch::run(&env, &what, &input).await,
        SkillCommand::Install { what, no_activate, canary } => install(&env, &what, no_activate, canary).await,
        SkillCommand::Activate { version } => route::activate(&env, &version).await,
        SkillCommand::Rollback { name } => route::rollback(&env, &name).await,
        SkillCommand::Unload { version } => route::unload(&env, &version).await,
        SkillCommand::Canary(args) => route::canary(&env, &args).await,
        SkillCommand::Info { what } => info(&env, &what).await,
        SkillCommand::List => {
            let found = env.client()?.get("/api/v1/skills", &[]).await?;
            env.show(&found, |found| print_versions(list(found, "skills")));
            Ok(Exit::Done)
        }
    }
}

/// A sandbox that compiles strangers' components in a child process and keeps nothing on disk.
pub(super) fn sandbox(confinement: Confinement) -> CliResult<Sandbox> {
    let this = crate::executable::this_program().map_err(|error| {
        CliError::failed(format!("this program cannot find itself: {error}"), "start it by its full path")
    })?;
    let config = SandboxConfig { compiler: Compiler::Child(this), confinement, ..SandboxConfig::default() };
    Sandbox::new(config).map_err(|error| CliError::failed(error.message, "see `chimera doctor`"))
}

/// A component that was read, or built and read.
pub(super) struct Component {
    /// Where it is.
    pub(super) path: PathBuf,
    /// Its bytes.
    pub(super) bytes: Vec<u8>,
}

/// Reads a component file, or builds a folder and reads what came out.
async fn component(env: &Env, what: &Path, sandbox: &Sandbox) -> CliResult<Component> {
    let path = if what.is_dir() {
        build::build(env, what, sandbox, guest::Chatter::Shown).await?.path
    } else {
        what.to_owned()
    };
    let bytes = read_capped(&path, MAX_COMPONENT_BYTES as u64)?;
    Ok(Component { path, bytes })
}

/// Looks into a component as admission does.
fn inspect(component: &Component) -> CliResult<(Inspection, Arc<Manifest>)> {
    let inspection = chimera_registry::inspect(&component.bytes).map_err(|refusal| refused(&refusal))?;
    let manifest = Arc::new(inspection.manifest.clone());
    Ok((inspection, manifest))
}

/// A refusal as an error: rule, evidence, fix.
fn refused(refusal: &Refusal) -> CliError {
    CliError::refused(format!("refused by rule {}: {}", refusal.rule, refusal.evidence), refusal.fix.clone())
}

async fn install(env: &Env, what: &Path, no_activate: bool, canary: Option<u8>) -> CliResult {
    // Without a server there is no point in building first.
    let client = env.client()?;
    let component = component(env, what, &sandbox(env.config()?.sandbox_confinement.value)?).await?;
    let path = match canary {
        Some(share) => format!("/api/v1/skills?canary={share}"),
        None if no_activate => "/api/v1/skills?activate=false".to_owned(),
        None => "/api/v1/skills".to_owned(),
    };
    let digest = Digest::of(&component.bytes);
    let sending = client.post_bytes(&path, "application/wasm", component.bytes);
    let done = compiling::told_by_server(&client, &digest, sending).await?;
    env.show(&done, |done| {
        let skill =
            ["/skill", "/version", ""].iter().find(|at| !text(done, &format!("{at}/name")).is_empty()).unwrap_or(&"");
        let name = text(done, &format!("{skill}/name"));
        say(&format!(
            "Installed {name}@{} ({}).",
            text(done, &format!("{skill}/version")),
            text(done, &format!("{skill}/state"))
        ));
        route::print(done.get("route").unwrap_or(&Value::Null));
        for warning in list(done.get("warnings").unwrap_or(&Value::Null), "warnings") {
            say(&format!("warning: {}", warning.as_str().unwrap_or("")));
        }
    });
    Ok(Exit::Done)
}

async fn info(env: &Env, what: &str) -> CliResult {
    if Path::new(what).is_file() {
        let component =
            Component { path: PathBuf::from(what), bytes: read_capped(Path::new(what), MAX_COMPONENT_BYTES as u64)? };
        let (inspection, manifest) = inspect(&component)?;
        let report = json!({ "path": component.path, "digest": inspection.survey.digest, "size": inspection.survey.size,
            "manifest": *manifest, "warnings": inspection.warnings });
        env.show(&report, |report| print_manifest(report.get("manifest").unwrap_or(&Value::Null)));
        return Ok(Exit::Done);
    }
    let name: chimera_core::skill::SkillName = what
        .parse()
        .map_err(|error| CliError::usage(format!("{error}"), "name an installed skill, or a component file"))?;
    let path = format!("/api/v1/skills/{}/{}", segment(name.namespace()), segment(name.name()));
    let found = env.client()?.get(&path, &[]).await?;
    match env.format {
        Format::Json => print_json(&found),
        Format::Human => {
            let versions = list(&found, "versions");
            print_versions(versions);
            route::print(found.get("route").unwrap_or(&Value::Null));
            route::print_loaded(list(&found, "loaded"));
            if let Some(manifest) = versions.first().and_then(|version| version.get("manifest")) {
                say("");
                print_manifest(manifest);
            }
        }
    }
    Ok(Exit::Done)
}

fn print_versions(versions: &[Value]) {
    let mut table = Table::new(&["SKILL", "VERSION", "STATE", "ROUTE", "SIZE", "SUMMARY"]);
    for version in versions {
        let size = version.get("size").and_then(Value::as_u64).unwrap_or(0);
        table.row([
            text(version, "/name"),
            text(version, "/version"),
            text(version, "/state"),
            text(version, "/route"),
            &bytes(size),
            ["/summary", "/manifest/skill/summary"]
                .map(|at| text(version, at))
                .into_iter()
                .find(|s| !s.is_empty())
                .unwrap_or(""),
        ]);
    }
    table.print("No skills are installed. Install one with `chimera skill install`.");
}

fn print_manifest(manifest: &Value) {
    let mut table = Table::new(&["FIELD", "VALUE"]);
    for (name, pointer) in [
        ("name", "/skill/name"),
        ("version", "/skill/version"),
        ("summary", "/skill/summary"),
        ("licence", "/skill/license"),
        ("world", "/skill/world"),
        ("effects", "/skill/effects"),
        ("contract", "/skill/contract"),
        ("may reach", "/capabilities"),
        ("limits", "/limits"),
    ] {
        let value = manifest.pointer(pointer).cloned().unwrap_or(Value::Null);
        let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        table.row([name, if shown == "{}" { "nothing" } else { &shown }]);
    }
    table.print("");
}
