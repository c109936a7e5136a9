//! The floor: what a call of a component costs with the engine alone, without anything of ours around it.
//!
//! It is what the benchmarks compare a run with, and nothing else uses it: a bare call has no limits of ours, no ports, no
//! journal and no report. The same engine, pool, machine code and call, in the same process. Its host functions do
//! nothing, but for `mcp.call-tool`, which waits for a gate, so that guests can be parked. Called by `chimera bench`.

use crate::contract::Told;
// The version that the SDK builds against, and so the benchmarks' guests.
use crate::contract::limits_to_guest;
use crate::contract::v0_2::{SkillPre, mcp, progress, types};
use crate::prepared::Prepared;
use crate::sandbox::Sandbox;
use chimera_core::contract::PACKAGE;
use chimera_core::manifest::Limits;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Semaphore;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, HasSelf, Linker, ResourceTable};
use wasmtime::{Engine, Error, Store};
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

/// What a bare guest may print.
const OUTPUT: usize = 64 << 10;

/// Where parked guests wait.
#[derive(Debug)]
pub struct Gate {
    arrived: AtomicUsize,
    open: Semaphore,
}

impl Gate {
    /// A closed gate.
    #[expect(clippy::new_without_default, reason = "a gate is made to be waited at, never by default")]
    pub fn new() -> Self {
        Self { arrived: AtomicUsize::new(0), open: Semaphore::new(0) }
    }

    /// How many have come to it so far.
    pub fn arrived(&self) -> usize {
        self.arrived.load(Ordering::Relaxed)
    }

    /// Lets everybody through.
    pub fn open(&self) {
        self.open.close();
    }

    /// Waits until it is open.
    pub async fn pass(&self) {
        self.arrived.fetch_add(1, Ordering::Relaxed);
        // There is no permit, ever: what ends the waiting is that the semaphore is closed.
        let _ = self.open.acquire().await;
    }
}

/// A skill that is called without anything of ours around it.
#[derive(Clone)]
pub struct Bare {
    engine: Engine,
    skill: Arc<SkillPre<BareState>>,
    gate: Arc<Gate>,
}

/// What a bare store holds: the same WASI context that every embedder gives a guest.
struct BareState {
    wasi: WasiCtx,
    table: ResourceTable,
    gate: Arc<Gate>,
}

impl types::Host for BareState {}

impl progress::Host for BareState {
    fn report(&mut self, _: f64, _: String) -> wasmtime::Result<()> {
        Ok(())
    }

    fn log(&mut self, _: progress::Level, _: String) -> wasmtime::Result<()> {
        Ok(())
    }
}

impl mcp::Host for BareState {
    async fn list_tools(&mut self, _: String) -> wasmtime::Result<Told<Vec<mcp::Tool>>> {
        Ok(Ok(Vec::new()))
    }

    async fn call_tool(&mut self, _: mcp::Call) -> wasmtime::Result<Told<mcp::Answer>> {
        self.gate.pass().await;
        Ok(Ok(mcp::Answer { text: "open".to_owned(), structured: None, is_error: false }))
    }

    async fn call_tools(&mut self, _: Vec<mcp::Call>) -> wasmtime::Result<Vec<Told<mcp::Answer>>> {
        Ok(Vec::new())
    }

    async fn read_resource(&mut self, _: String, _: String) -> wasmtime::Result<Told<String>> {
        Ok(Ok(String::new()))
    }
}

impl WasiView for BareState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// Links `mcp` and `progress`, and a trap for whatever else of the contract is imported.
///
/// The engine's own `define_unknown_imports_as_traps` is no help: it knows a name only letter by letter, so it would put
/// traps before the clocks of every guest that was built against another patch version of WASI.
fn add_traps(linker: &mut Linker<BareState>, component: &Component) -> wasmtime::Result<()> {
    mcp::add_to_linker::<BareState, HasSelf<BareState>>(linker, |state| state)?;
    progress::add_to_linker::<BareState, HasSelf<BareState>>(linker, |state| state)?;
    let engine = linker.engine().clone();
    for (name, import) in component.component_type().imports(&engine) {
        let interface = name.strip_prefix(PACKAGE).and_then(|rest| rest.strip_prefix('/')).unwrap_or_default();
        let is_linked = ["", "mcp", "progress"].contains(&interface.split('@').next().unwrap_or_default());
        let ComponentItem::ComponentInstance(interface) = import.ty else { continue };
        if is_linked {
            continue;
        }
        let mut instance = linker.instance(name)?;
        for (function, export) in interface.exports(&engine) {
            if matches!(export.ty, ComponentItem::ComponentFunc(_)) {
                let called = format!("{name}#{function}");
                instance.func_new(function, move |_, _, _, _| Err(Error::msg(format!("{called} is not there"))))?;
            }
        }
    }
    Ok(())
}

impl std::fmt::Debug for Bare {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bare").finish_non_exhaustive()
    }
}

impl Bare {
    /// The same machine code as a prepared skill's; it traps when it calls anything but WASI, `mcp` and `progress`.
    ///
    /// # Errors
    /// What the engine says when it is no skill.
    pub fn new(sandbox: &Sandbox, prepared: &Prepared, gate: Arc<Gate>) -> Result<Self, String> {
        let engine = sandbox.0.engine.clone();
        let mut linker = Linker::new(&engine);
        let component = prepared.instance().component();
        let linked = wasmtime_wasi::p2::add_to_linker_async(&mut linker)
            .and_then(|()| add_traps(&mut linker, component))
            .and_then(|()| linker.instantiate_pre(component))
            .and_then(SkillPre::new);
        let skill = linked.map_err(|error| format!("{error:#}"))?;
        Ok(Self { engine, skill: Arc::new(skill), gate })
    }

    /// One call in a fresh store; the output's text.
    ///
    /// # Errors
    /// What the engine says when the guest traps, or the guest's own failure.
    pub async fn call(&self, input: &str) -> Result<String, String> {
        let mut wasi = WasiCtx::builder();
        wasi.stdout(MemoryOutputPipe::new(OUTPUT)).stderr(MemoryOutputPipe::new(OUTPUT));
        let state = BareState { wasi: wasi.build(), table: ResourceTable::new(), gate: self.gate.clone() };
        let mut store = Store::new(&self.engine, state);
        // The engine counts fuel and epochs in every guest; without these two no guest would get anywhere.
        let _ = store.set_fuel(u64::MAX);
        store.set_epoch_deadline(1 << 40);
        let task = types::Task {
            id: "bare".to_owned(),
            campaign: None,
            input: input.to_owned(),
            time_left_ms: 1000,
            limits: limits_to_guest(&Limits::MAX),
        };
        let told = |error: wasmtime::Error| format!("{error:#}");
        let guest = self.skill.instantiate_async(&mut store).await.map_err(told)?;
        let returned = guest.chimera_skill_runner().call_run(&mut store, &task).await.map_err(told)?;
        returned.map(|outcome| outcome.output).map_err(|failure| failure.message)
    }
}
