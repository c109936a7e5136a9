//! A compiled component, linked and ready to be called any number of times.
//!
//! Making one checks that the component exports a served world and imports nothing else than what is linked. It holds no
//! state of any run. Made by [`crate::Sandbox::prepare`], used by its runs.

use crate::contract::{Contract, Judge, Skill};
use crate::link::Linkers;
use crate::resident::Uses;
use crate::state::State;
use chimera_core::contract::{PACKAGE, served_versions};
use chimera_core::digest::Digest;
use chimera_core::failure::{Failure, FailureKind, codes};
use chimera_core::manifest::World;
use chimera_core::text::{printable, truncated};
use std::fmt;
use wasmtime::Engine;
use wasmtime::component::{Component, ComponentExportIndex, InstancePre};

/// A compiled component, ready to be called.
pub struct Prepared {
    digest: Digest,
    imports: Vec<String>,
    contract: Contract,
    pub(crate) exports: Exports,
    pub(crate) describe: Option<ComponentExportIndex>,
    /// Places in the pool that one run takes.
    weight: u32,
    /// Size of the compiled code and data in bytes.
    code_bytes: u64,
    pub(crate) uses: Uses,
}

/// What a component exports.
pub(crate) enum Exports {
    Skill(Skill),
    Judge(Judge),
}

impl Prepared {
    pub(crate) fn new(
        engine: &Engine,
        linkers: &Linkers,
        digest: Digest,
        component: &Component,
    ) -> Result<Self, Failure> {
        let ty = component.component_type();
        let names = |name: &str| printable(&truncated(name.to_owned(), 200));
        let imports: Vec<String> = ty.imports(engine).map(|(name, _)| names(name)).collect();
        let exported: Vec<String> = ty.exports(engine).map(|(name, _)| names(name)).collect();
        let contract = contract_of(&imports, &exported)?;
        let exports = link(linkers, component, contract, &imports, &exported)?;
        let describe = component
            .get_export_index(None, contract.name("describe"))
            .and_then(|interface| component.get_export_index(Some(&interface), "describe"));
        // A component with modules among its imports or exports has none that are known; none is served.
        let weight = component.resources_required().map_or(1, |required| required.num_memories.max(1));
        let image = component.image_range();
        let code_bytes = (image.end as usize).saturating_sub(image.start as usize) as u64;
        Ok(Self { digest, imports, contract, exports, describe, weight, code_bytes, uses: Uses::new() })
    }

    /// The digest of the component's bytes.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Size of the compiled code and data in bytes.
    pub const fn code_bytes(&self) -> u64 {
        self.code_bytes
    }

    /// The world that the component exports.
    pub fn world(&self) -> World {
        match self.exports {
            Exports::Skill(_) => World::Skill,
            Exports::Judge(_) => World::Judge,
        }
    }

    /// The version of the contract that it is built against, such as `0.1.0`.
    pub fn contract(&self) -> &'static str {
        self.contract.version()
    }

    /// The full names of the interfaces that the component imports, such as `chimera:skill/mcp@0.1.0`.
    pub fn imports(&self) -> &[String] {
        &self.imports
    }

    /// Does the component export `describe`, so that [`crate::Sandbox::describe`] can be called?
    pub fn can_describe(&self) -> bool {
        self.describe.is_some()
    }

    /// Places in the pool that one run takes: memories are what there are fewest of.
    pub(crate) fn weight(&self) -> u32 {
        self.weight
    }

    pub(crate) fn instance(&self) -> &InstancePre<State> {
        match &self.exports {
            Exports::Skill(skill) => skill.instance_pre(),
            Exports::Judge(judge) => judge.instance_pre(),
        }
    }
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared")
            .field("digest", &self.digest)
            .field("world", &self.world())
            .field("contract", &self.contract())
            .field("imports", &self.imports)
            .finish_non_exhaustive()
    }
}

/// The one version of the contract that all of its names have.
fn contract_of(imports: &[String], exported: &[String]) -> Result<Contract, Failure> {
    let mut found: Option<(&str, Contract)> = None;
    for name in exported.iter().chain(imports) {
        let Some(interface) = name.strip_prefix(PACKAGE).and_then(|rest| rest.strip_prefix('/')) else { continue };
        let version = interface.split_once('@').map_or("", |(_, version)| version);
        let Some(contract) = Contract::of(version) else {
            let served = served_versions();
            return Err(failure(format!(
                "the component uses `{name}`; this host serves the versions {served} of the contract: build it against \
                 one of them"
            )));
        };
        match found {
            Some((first, other)) if other != contract => {
                return Err(failure(format!(
                    "the component uses `{first}` and `{name}`, two versions of the contract; build all of it against \
                     one of {}",
                    served_versions()
                )));
            }
            _ => _ = found.get_or_insert((name, contract)),
        }
    }
    found.map(|(_, contract)| contract).ok_or_else(no_world)
}

fn no_world() -> Failure {
    failure(format!(
        "the component exports neither `{PACKAGE}/runner` (a skill) nor `{PACKAGE}/evaluator` (a judge) of one of the \
         versions {} of the contract",
        served_versions()
    ))
}

fn link(
    linkers: &Linkers,
    component: &Component,
    contract: Contract,
    imports: &[String],
    exported: &[String],
) -> Result<Exports, Failure> {
    if exported.contains(&contract.name("runner")) {
        let instance = linkers.skill.instantiate_pre(component).map_err(|e| not_linkable(imports, &e))?;
        return Skill::new(contract, instance).map(Exports::Skill).map_err(|e| not_exported("skill", contract, &e));
    }
    if exported.contains(&contract.name("evaluator")) {
        let instance = linkers.judge.instantiate_pre(component).map_err(|e| not_linkable(imports, &e))?;
        return Judge::new(contract, instance).map(Exports::Judge).map_err(|e| not_exported("judge", contract, &e));
    }
    Err(no_world())
}

fn failure(message: String) -> Failure {
    Failure::new(FailureKind::Permanent, codes::LINK, message)
}

fn not_exported(world: &str, contract: Contract, error: &wasmtime::Error) -> Failure {
    let version = contract.version();
    failure(format!("the component does not fit the world `{world}` of the contract {version}: {error:#}"))
}

fn not_linkable(imports: &[String], error: &wasmtime::Error) -> Failure {
    let never = imports.iter().find(|name| name.starts_with("wasi:sockets/") || name.starts_with("wasi:http/"));
    match never {
        Some(name) => failure(format!(
            "the component imports `{name}`, which no skill gets; build it without networking (componentize-py: leave \
             out `wasi:sockets`; componentize-js: `--disable http`) and reach the outside through MCP"
        )),
        None => failure(format!("the component imports something that is not served: {error:#}")),
    }
}
