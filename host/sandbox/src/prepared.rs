//! A compiled component, linked and ready to be called any number of times.
//!
//! Making one checks that the component exports a served world and imports nothing else than what is linked. It holds no
//! state of any run. Made by [`crate::Sandbox::prepare`], used by its runs.

use crate::contract::VERSION;
use crate::contract::judge::JudgePre;
use crate::contract::skill::SkillPre;
use crate::link::Linkers;
use crate::resident::Uses;
use crate::state::State;
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
    Skill(SkillPre<State>),
    Judge(JudgePre<State>),
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
        let exports = link(linkers, component, &imports, &exported)?;
        let describe = component
            .get_export_index(None, format!("chimera:skill/describe@{VERSION}"))
            .and_then(|interface| component.get_export_index(Some(&interface), "describe"));
        // A component with modules among its imports or exports has none that are known; none is served.
        let weight = component.resources_required().map_or(1, |required| required.num_memories.max(1));
        let image = component.image_range();
        let code_bytes = (image.end as usize).saturating_sub(image.start as usize) as u64;
        Ok(Self { digest, imports, exports, describe, weight, code_bytes, uses: Uses::new() })
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
            .field("imports", &self.imports)
            .finish_non_exhaustive()
    }
}

fn link(linkers: &Linkers, component: &Component, imports: &[String], exported: &[String]) -> Result<Exports, Failure> {
    let has = |interface: &str| exported.iter().any(|name| *name == format!("chimera:skill/{interface}@{VERSION}"));
    if has("runner") {
        let instance = linkers.skill.instantiate_pre(component).map_err(|e| not_linkable(imports, &e))?;
        return SkillPre::new(instance).map(Exports::Skill).map_err(|e| not_exported("skill", &e));
    }
    if has("evaluator") {
        let instance = linkers.judge.instantiate_pre(component).map_err(|e| not_linkable(imports, &e))?;
        return JudgePre::new(instance).map(Exports::Judge).map_err(|e| not_exported("judge", &e));
    }
    let found = exported.iter().find(|name| name.starts_with("chimera:skill/"));
    let message = match found {
        Some(other) => format!("the component exports `{other}`; this host serves version {VERSION} of the contract"),
        None => format!(
            "the component exports neither `chimera:skill/runner@{VERSION}` (a skill) nor \
             `chimera:skill/evaluator@{VERSION}` (a judge)"
        ),
    };
    Err(failure(message))
}

fn failure(message: String) -> Failure {
    Failure::new(FailureKind::Permanent, codes::LINK, message)
}

fn not_exported(world: &str, error: &wasmtime::Error) -> Failure {
    failure(format!("the component does not fit the world `{world}` of the contract {VERSION}: {error:#}"))
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
