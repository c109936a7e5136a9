//! What a component is, recomputed from its bytes, and whether it may be admitted without running it.
//!
//! Nothing the author claims is believed: imports, exports and the contract's version are read from the bytes and
//! compared with the manifest. This module never compiles or runs anything. Called by [`crate::Registry`] before
//! anything else, and by `chimera skill build`, `test` and `info`.

use crate::MAX_COMPONENT_BYTES;
use crate::refusal::{Refusal, Rule};
use crate::shape;
use crate::toll::{self, Problem};
use chimera_core::contract::{PACKAGE, served, served_versions};
use chimera_core::digest::Digest;
use chimera_core::manifest::{MANIFEST_SECTION, Manifest, World};
use chimera_sandbox::served_features;
use semver::Version;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use wasmparser::types::TypesRef;
use wasmparser::{ComponentExternName, ComponentExternalKind, Parser, Payload};

/// Interfaces of the contract that a manifest can declare.
const GATED: [&str; 6] = ["mcp", "memory", "scratch", "trends", "skills", "secrets"];
/// Interfaces of the contract that need no declaration: shapes, and what a watching human sees.
const FREE: [&str; 2] = ["types", "progress"];
/// Packages of WASI that are linked, some of them empty.
const WASI_LINKED: [&str; 5] = ["cli", "clocks", "random", "io", "filesystem"];
/// Interfaces of `wasi:cli` that are linked.
const WASI_CLI: [&str; 10] = [
    "environment",
    "exit",
    "stdin",
    "stdout",
    "stderr",
    "terminal-input",
    "terminal-output",
    "terminal-stdin",
    "terminal-stdout",
    "terminal-stderr",
];

/// A name such as `chimera:skill/runner@0.1.0`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct InterfaceName {
    /// `chimera:skill`.
    pub package: String,
    /// `runner`.
    pub interface: String,
    /// `0.1.0`.
    pub version: Option<Version>,
}

impl InterfaceName {
    fn parse(text: &str) -> Option<Self> {
        let (path, version) = match text.split_once('@') {
            Some((path, version)) => (path, Some(Version::parse(version).ok()?)),
            None => (text, None),
        };
        let (package, interface) = path.split_once('/')?;
        let is_plain = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        let (namespace, name) = package.split_once(':')?;
        (is_plain(namespace) && is_plain(name) && is_plain(interface)).then(|| Self {
            package: package.to_owned(),
            interface: interface.to_owned(),
            version,
        })
    }

    fn is_contract(&self) -> bool {
        self.package == PACKAGE
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.package, self.interface)?;
        self.version.iter().try_for_each(|version| write!(f, "@{version}"))
    }
}

/// What a component's bytes say, before anything is compared with a manifest.
#[derive(Debug, Clone, PartialEq)]
pub struct Survey {
    /// The digest of the bytes.
    pub digest: Digest,
    /// Their number.
    pub size: u64,
    /// The interfaces it imports.
    pub imports: BTreeSet<InterfaceName>,
    /// The interfaces it exports.
    pub exports: BTreeSet<InterfaceName>,
    manifests: Vec<Range<usize>>,
    /// Exported functions of the contract whose shape is not the contract's.
    misshapen: Vec<Misshapen>,
}

#[derive(Debug, Clone, PartialEq)]
struct Misshapen {
    function: String,
    wanted: String,
    found: Option<String>,
}

impl Survey {
    /// The version of the contract that the component is built against: that of the runner or evaluator it exports,
    /// else of anything of the contract that it exports or imports.
    pub fn contract(&self) -> Option<&Version> {
        let main = |name: &&InterfaceName| name.is_contract() && ["runner", "evaluator"].contains(&&*name.interface);
        let any = |name: &&InterfaceName| name.is_contract();
        self.exports
            .iter()
            .find(main)
            .or_else(|| self.exports.iter().find(any))
            .or_else(|| self.imports.iter().find(any))
            .and_then(|name| name.version.as_ref())
    }

    /// Does it export this interface of the contract?
    pub fn exports_contract(&self, interface: &str) -> bool {
        self.exports.iter().any(|name| name.is_contract() && name.interface == interface)
    }
}

/// A component that passed every check that needs no running.
#[derive(Debug, Clone, PartialEq)]
pub struct Inspection {
    /// What its bytes say.
    pub survey: Survey,
    /// What it says of itself; compared with the bytes.
    pub manifest: Manifest,
    /// The version of the contract it is built against.
    pub contract: Version,
    /// Not refused, but somebody should know.
    pub warnings: Vec<String>,
}

/// Reads and validates a component; needs no manifest, so a component can be surveyed while it is being built.
///
/// # Errors
/// [`Refusal`] by [`Rule::SizeLimit`], [`Rule::NotAComponent`], [`Rule::InvalidComponent`] or [`Rule::ImportUnknown`]
/// / [`Rule::ExportUnknown`] for names that are no interfaces.
pub fn survey(wasm: &[u8]) -> Result<Survey, Refusal> {
    if wasm.len() > MAX_COMPONENT_BYTES {
        return Err(Refusal::new(
            Rule::SizeLimit,
            format!("the component is {} bytes; at most {MAX_COMPONENT_BYTES} are admitted", wasm.len()),
            "build in release mode, strip debug sections, and leave out what is not used",
        ));
    }
    check_is_component(wasm)?;
    let types = toll::validate(wasm, served_features()).map_err(|problem| match problem {
        Problem::Invalid(error) => invalid(&error),
        Problem::Heavy(why) => toll::too_heavy(&why),
    })?;
    let mut survey = Survey {
        digest: Digest::of(wasm),
        size: wasm.len() as u64,
        imports: BTreeSet::new(),
        exports: BTreeSet::new(),
        manifests: Vec::new(),
        misshapen: Vec::new(),
    };
    let mut depth = 0_u32;
    for payload in Parser::new(0).parse_all(wasm) {
        match payload.map_err(|error| invalid(&error))? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            payload if depth == 0 => survey.read(&payload, types.as_ref())?,
            _ => {}
        }
    }
    Ok(survey)
}

fn check_is_component(wasm: &[u8]) -> Result<(), Refusal> {
    if Parser::is_component(wasm) {
        return Ok(());
    }
    let seen = if Parser::is_core_wasm(wasm) {
        "the file is a core WebAssembly module, not a component"
    } else {
        "the file is not WebAssembly"
    };
    let fix = "build with `chimera skill build`, or for Rust with `--target wasm32-wasip2`";
    Err(Refusal::new(Rule::NotAComponent, seen, fix))
}

fn invalid(error: &wasmparser::Error) -> Refusal {
    Refusal::new(
        Rule::InvalidComponent,
        format!("the component does not validate: {error}"),
        "build it again with current tools, without tail calls, several memories in a module, threads, 64-bit memories, \
         garbage collection, relaxed SIMD or component-model async",
    )
}

impl Survey {
    fn read(&mut self, payload: &Payload<'_>, types: TypesRef<'_>) -> Result<(), Refusal> {
        match payload {
            Payload::ComponentImportSection(section) => {
                for import in section.clone() {
                    let import = import.map_err(|error| invalid(&error))?;
                    let name = interface_of(&import.name, import.ty.kind())
                        .ok_or_else(|| unknown_import(&import.name.full_name()))?;
                    self.imports.insert(name);
                }
            }
            Payload::ComponentExportSection(section) => {
                for export in section.clone() {
                    let export = export.map_err(|error| invalid(&error))?;
                    if is_builder_s_own(&export.name, export.kind) {
                        continue;
                    }
                    let name = interface_of(&export.name, export.kind)
                        .ok_or_else(|| unknown_export(&export.name.full_name()))?;
                    self.misshapen.extend(misshapen(&name, export.name.name, types));
                    self.exports.insert(name);
                }
            }
            Payload::CustomSection(section) if section.name() == MANIFEST_SECTION => {
                let end = usize::try_from(section.data_offset()).unwrap_or(usize::MAX);
                self.manifests.push(end..end.saturating_add(section.data().len()));
            }
            _ => {}
        }
        Ok(())
    }
}

fn misshapen(name: &InterfaceName, exported_as: &str, types: TypesRef<'_>) -> Option<Misshapen> {
    // What is not served has no shape, and is refused for that.
    let version = name.version.as_ref().filter(|_| name.is_contract())?;
    let (function, wanted) = shape::wanted(&name.interface, version)?;
    let found = shape::exported(types, exported_as, function);
    (found.as_ref() != Some(&wanted)).then(|| Misshapen { function: format!("{name}#{function}"), wanted, found })
}

fn interface_of(name: &ComponentExternName<'_>, kind: ComponentExternalKind) -> Option<InterfaceName> {
    let is_plain = name.implements.is_none() && name.external_id.is_none();
    (kind == ComponentExternalKind::Instance && is_plain).then(|| InterfaceName::parse(&name.full_name())).flatten()
}

/// componentize-py exports the interface through which it starts Python while it builds, under the plain name `exports`.
/// No host ever calls it: the sandbox looks exports up by the contract's names.
fn is_builder_s_own(name: &ComponentExternName<'_>, kind: ComponentExternalKind) -> bool {
    kind == ComponentExternalKind::Instance && name.full_name() == "exports"
}

fn unknown_import(name: &str) -> Refusal {
    Refusal::new(
        Rule::ImportUnknown,
        format!("it imports `{name}`, which this host does not serve"),
        format!("import only interfaces of {PACKAGE} {} and of WASI 0.2", served_versions()),
    )
}

fn unknown_export(name: &str) -> Refusal {
    Refusal::new(
        Rule::ExportUnknown,
        format!("it exports `{name}`, which no served world has"),
        "export only `runner` (and `describe`), or only `evaluator` for a judge",
    )
}

/// Everything that can be said of a component without running it.
///
/// # Errors
/// The first [`Rule`] it breaks, in the order of [`Rule::ALL`] up to the exports.
pub fn inspect(wasm: &[u8]) -> Result<Inspection, Refusal> {
    let survey = survey(wasm)?;
    let manifest = read_manifest(wasm, &survey)?;
    let contract = check_contract(&survey, &manifest)?;
    check_imports(&survey, &manifest)?;
    check_exports(&survey, &manifest)?;
    let warnings = unused_capabilities(&survey, &manifest);
    Ok(Inspection { survey, manifest, contract, warnings })
}

fn read_manifest(wasm: &[u8], survey: &Survey) -> Result<Manifest, Refusal> {
    let section = match survey.manifests.as_slice() {
        [only] => only.clone(),
        [] => {
            return Err(Refusal::new(
                Rule::ManifestMissing,
                format!("the component has no custom section `{MANIFEST_SECTION}`"),
                "build with `chimera skill build`, which embeds skill.toml",
            ));
        }
        many => {
            return Err(Refusal::new(
                Rule::ManifestDuplicate,
                format!("the component has {} custom sections `{MANIFEST_SECTION}`", many.len()),
                "build with `chimera skill build`, which embeds exactly one",
            ));
        }
    };
    Manifest::from_json(wasm.get(section).unwrap_or_default())
        .map_err(|error| Refusal::new(Rule::ManifestInvalid, error.to_string(), "mend skill.toml and build again"))
}

fn check_contract(survey: &Survey, manifest: &Manifest) -> Result<Version, Refusal> {
    let Some(built) = survey.contract() else {
        return Err(missing_export(manifest.skill.world));
    };
    let names = survey.exports.iter().chain(&survey.imports).filter(|name| name.is_contract());
    for name in names {
        check_version(name, built)?;
    }
    let minor = format!("{}.{}", built.major, built.minor);
    if manifest.skill.contract != minor {
        return Err(Refusal::new(
            Rule::ContractMismatch,
            format!("skill.toml says contract \"{}\", the bytes say {built}", manifest.skill.contract),
            format!("write `contract = \"{minor}\"` in skill.toml"),
        ));
    }
    Ok(built.clone())
}

/// Is the name's version served, and that of the whole component?
fn check_version(name: &InterfaceName, built: &Version) -> Result<(), Refusal> {
    let versions = served_versions();
    let Some(version) = name.version.as_ref().and_then(served) else {
        return Err(Refusal::new(
            Rule::ContractNotServed,
            format!("it uses `{name}`; this host serves {PACKAGE} {versions}"),
            format!("build against one of {versions}, or install it into a host that serves its version"),
        ));
    };
    if served(built).is_some_and(|whole| whole != version) {
        return Err(Refusal::new(
            Rule::ContractNotServed,
            format!(
                "it is built against {built} and uses `{name}`; this host serves {PACKAGE} {versions}, one at a time"
            ),
            format!("build all of it against one of {versions}"),
        ));
    }
    Ok(())
}

fn check_imports(survey: &Survey, manifest: &Manifest) -> Result<(), Refusal> {
    let declared = manifest.capabilities.interfaces();
    for name in &survey.imports {
        if name.is_contract() {
            check_contract_import(name, &declared)?;
        } else {
            check_wasi_import(name)?;
        }
    }
    Ok(())
}

fn check_contract_import(name: &InterfaceName, declared: &BTreeSet<&str>) -> Result<(), Refusal> {
    let interface = name.interface.as_str();
    if FREE.contains(&interface) || declared.contains(interface) {
        return Ok(());
    }
    if !GATED.contains(&interface) {
        return Err(unknown_import(&name.to_string()));
    }
    let fix = match interface {
        "mcp" => "declare the slots and tools under `[[capabilities.mcp]]` in skill.toml, or do not call MCP",
        "memory" => {
            "write `memory = [\"recall\", \"remember\"]` under `[capabilities]` in skill.toml, or do not use memory"
        }
        "scratch" => "write `scratch = true` under `[capabilities]` in skill.toml, or do not use scratch",
        "trends" => {
            "write `trends = [\"observe\", \"top\"]` under `[capabilities]` in skill.toml, or do not use trends"
        }
        "skills" => "declare the skills under `[[capabilities.skills]]` in skill.toml, or do not call any",
        _ => "name the secrets under `[capabilities] secrets` in skill.toml, or do not ask for any",
    };
    Err(Refusal::new(
        Rule::ImportUndeclared,
        format!("it imports `{name}`, which its manifest does not declare"),
        format!("{fix}; `chimera skill build` imports only what is declared"),
    ))
}

fn check_wasi_import(name: &InterfaceName) -> Result<(), Refusal> {
    let Some(package) = name.package.strip_prefix("wasi:") else {
        return Err(unknown_import(&name.to_string()));
    };
    let fix = match package {
        "sockets" => {
            "a skill reaches the outside only through MCP. Rust: use nothing of `std::net`; Python: build with \
             `componentize-py componentize --stub-wasi`"
        }
        "http" => {
            "a skill reaches the outside only through MCP. JavaScript: build with `jco componentize --disable http \
             --disable fetch-event` (`disableFeatures: ['http', 'fetch-event']`); Python: `--stub-wasi`"
        }
        _ => return check_linked_wasi(package, name),
    };
    Err(Refusal::new(Rule::ImportRefused, format!("it imports `{name}`"), fix))
}

fn check_linked_wasi(package: &str, name: &InterfaceName) -> Result<(), Refusal> {
    let is_known = WASI_LINKED.contains(&package) && (package != "cli" || WASI_CLI.contains(&&*name.interface));
    let is_version = name.version.as_ref().is_some_and(|version| version.major == 0 && version.minor == 2);
    if is_known && is_version { Ok(()) } else { Err(unknown_import(&name.to_string())) }
}

fn missing_export(world: World) -> Refusal {
    let (wanted, name) = match world {
        World::Skill => ("runner", "skill"),
        World::Judge => ("evaluator", "judge"),
    };
    Refusal::new(
        Rule::ExportMissing,
        format!("its world is `{name}`, but it does not export `{PACKAGE}/{wanted}` of {}", served_versions()),
        format!(
            "export `{wanted}` (in Rust: put `#[chimera_skill::{name}]` on a function), or set `world` in skill.toml"
        ),
    )
}

fn check_exports(survey: &Survey, manifest: &Manifest) -> Result<(), Refusal> {
    let (wanted, allowed): (&str, &[&str]) = match manifest.skill.world {
        World::Skill => ("runner", &["runner", "describe"]),
        World::Judge => ("evaluator", &["evaluator"]),
    };
    if !survey.exports_contract(wanted) {
        return Err(missing_export(manifest.skill.world));
    }
    let is_allowed = |name: &InterfaceName| name.is_contract() && allowed.contains(&&*name.interface);
    if let Some(extra) = survey.exports.iter().find(|name| !is_allowed(name)) {
        return Err(unknown_export(&extra.to_string()));
    }
    match survey.misshapen.first() {
        Some(Misshapen { function, wanted, found }) => Err(Refusal::new(
            Rule::ExportMismatch,
            format!("`{function}` is `{}`; the contract has `{wanted}`", found.as_deref().unwrap_or("missing")),
            format!("generate the bindings from the WIT of {PACKAGE} in the version that it names, and build again"),
        )),
        None => Ok(()),
    }
}

fn unused_capabilities(survey: &Survey, manifest: &Manifest) -> Vec<String> {
    let imported: BTreeSet<&str> =
        survey.imports.iter().filter(|name| name.is_contract()).map(|name| name.interface.as_str()).collect();
    let unused = manifest.capabilities.interfaces().into_iter().filter(|declared| !imported.contains(declared));
    unused
        .map(|name| {
            format!("capability-unused: `{name}` is declared but not imported; remove it from skill.toml, so that nobody grants what is not needed")
        })
        .collect()
}
