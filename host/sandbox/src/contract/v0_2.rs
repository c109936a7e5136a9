//! The contract `chimera:skill@0.2.0`, the newest: its types are those that the host works with.
//!
//! Bindings made from the WIT, and what they are linked to. Called by [`super`], and by the host functions for the types.

use crate::calls::call_skill;
use crate::state::State;
use wasmtime::StoreContextMut;
use wasmtime::component::{HasSelf, Linker};

/// As it stands behind `@` in a component's imports and exports.
pub(crate) const VERSION: &str = "0.2.0";

#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated from documented WIT")]
pub(crate) mod skill {
    wasmtime::component::bindgen!({
        path: "../../wit/chimera-skill-0.2.0",
        world: "chimera:skill/skill",
        imports: {
            "chimera:skill/progress": trappable,
            default: async | trappable,
        },
        exports: { default: async },
    });
}

#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated from documented WIT")]
pub(crate) mod judge {
    wasmtime::component::bindgen!({
        path: "../../wit/chimera-skill-0.2.0",
        world: "chimera:skill/judge",
        imports: { default: trappable },
        exports: { default: async },
        with: {
            "chimera:skill/types": super::skill::chimera::skill::types,
            "chimera:skill/progress": super::skill::chimera::skill::progress,
        },
    });
}

pub(crate) use judge::JudgePre;
pub(crate) use judge::exports::chimera::skill::evaluator;
pub(crate) use skill::SkillPre;
pub(crate) use skill::chimera::skill::{mcp, memory, progress, scratch, secrets, skills, trends, types};

/// What a judge gets.
pub(super) fn link_judge(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    progress::add_to_linker::<State, HasSelf<State>>(linker, |state| state)
}

/// What a skill gets besides.
pub(super) fn link_skill(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    mcp::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    memory::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    scratch::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    trends::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    secrets::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    linker.instance(&super::Contract::V0_2.name("skills"))?.func_wrap_async(
        "call",
        |store: StoreContextMut<'_, State>, (name, input, budget): (String, String, Option<skills::Budget>)| {
            Box::new(async move { Ok((call_skill(store, name, input, budget).await?,)) })
        },
    )
}
