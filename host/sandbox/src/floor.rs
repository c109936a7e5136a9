//! The floor: what a call of a component costs with the engine alone, without anything of ours around it.
//!
//! It is what the benchmarks compare a run with, and nothing else uses it: a bare call has no limits of ours, no ports, no
//! journal and no report. The same engine, pool, machine code and call, in the same process. Called by `chimera bench`.

use crate::contract::skill::SkillPre;
use crate::contract::types;
use crate::prepared::Prepared;
use crate::sandbox::Sandbox;
use std::sync::Arc;
use wasmtime::component::{Linker, ResourceTable};
use wasmtime::{Engine, Store};
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

/// What a bare guest may print.
const OUTPUT: usize = 64 << 10;

/// A skill that is called without anything of ours around it.
#[derive(Clone)]
pub struct Bare {
    engine: Engine,
    skill: Arc<SkillPre<BareState>>,
}

/// What a bare store holds: the same WASI context that every embedder gives a guest.
struct BareState {
    wasi: WasiCtx,
    table: ResourceTable,
}

impl WasiView for BareState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl std::fmt::Debug for Bare {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bare").finish_non_exhaustive()
    }
}

impl Bare {
    /// The same machine code as a prepared skill's; it traps when it calls anything but WASI.
    ///
    /// # Errors
    /// What the engine says when it is no skill.
    pub fn new(sandbox: &Sandbox, prepared: &Prepared) -> Result<Self, String> {
        let engine = sandbox.0.engine.clone();
        let mut linker = Linker::new(&engine);
        let component = prepared.instance().component();
        // What the SDK links in and an echo never calls (`progress.log`) has nothing behind it here.
        let linked = wasmtime_wasi::p2::add_to_linker_async(&mut linker)
            .and_then(|()| linker.define_unknown_imports_as_traps(component))
            .and_then(|()| linker.instantiate_pre(component))
            .and_then(SkillPre::new);
        Ok(Self { engine, skill: Arc::new(linked.map_err(|error| format!("{error:#}"))?) })
    }

    /// One call in a fresh store; the output's text.
    ///
    /// # Errors
    /// What the engine says when the guest traps, or the guest's own failure.
    pub async fn call(&self, input: &str) -> Result<String, String> {
        let mut wasi = WasiCtx::builder();
        wasi.stdout(MemoryOutputPipe::new(OUTPUT)).stderr(MemoryOutputPipe::new(OUTPUT));
        let mut store = Store::new(&self.engine, BareState { wasi: wasi.build(), table: ResourceTable::new() });
        // The engine counts fuel and epochs in every guest; without these two no guest would get anywhere.
        let _ = store.set_fuel(u64::MAX);
        store.set_epoch_deadline(1 << 40);
        let task = types::Task { id: "bare".to_owned(), campaign: None, input: input.to_owned(), time_left_ms: 1000 };
        let told = |error: wasmtime::Error| format!("{error:#}");
        let guest = self.skill.instantiate_async(&mut store).await.map_err(told)?;
        let returned = guest.chimera_skill_runner().call_run(&mut store, &task).await.map_err(told)?;
        returned.map(|outcome| outcome.output).map_err(|failure| failure.message)
    }
}
