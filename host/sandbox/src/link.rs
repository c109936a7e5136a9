//! What guests are linked with: one linker a world, made once, for all versions of the contract.
//!
//! World `skill` gets the contract's interfaces, world `judge` only `progress`; both get the WASI that guests of every
//! language import, with environment, arguments, terminals and files linked but empty. Sockets and HTTP are never linked.
//! Called once, by [`crate::Sandbox::new`].

use crate::contract;
use crate::state::State;
use wasmtime::Engine;
use wasmtime::component::{HasData, HasSelf, Linker, ResourceTable};
use wasmtime_wasi::cli::{WasiCli, WasiCliView};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemView};
use wasmtime_wasi::p2::bindings::{cli, clocks, filesystem, io, random};

/// The linkers of both worlds.
pub(crate) struct Linkers {
    pub(crate) skill: Linker<State>,
    pub(crate) judge: Linker<State>,
}

impl Linkers {
    pub(crate) fn new(engine: &Engine) -> wasmtime::Result<Self> {
        let mut judge = Linker::new(engine);
        add_wasi(&mut judge)?;
        contract::link_judge(&mut judge)?;
        let mut skill = judge.clone();
        contract::link_skill(&mut skill)?;
        Ok(Self { skill, judge })
    }
}

type Itself = HasSelf<State>;

/// The table that WASI's streams live in.
struct Table;

impl HasData for Table {
    type Data<'a> = &'a mut ResourceTable;
}

fn add_wasi(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    // Real, and journalled by this crate.
    clocks::wall_clock::add_to_linker::<State, Itself>(linker, |state| state)?;
    clocks::monotonic_clock::add_to_linker::<State, Itself>(linker, |state| state)?;
    io::poll::add_to_linker::<State, Itself>(linker, |state| state)?;
    // Real, and the same on every run: streams hold only what the guest itself wrote, numbers come from the seed.
    io::error::add_to_linker::<State, Table>(linker, |state| &mut state.table)?;
    io::streams::add_to_linker::<State, Table>(linker, |state| &mut state.table)?;
    random::random::add_to_linker::<State, Itself>(linker, |state| state)?;
    random::insecure::add_to_linker::<State, Itself>(linker, |state| state)?;
    random::insecure_seed::add_to_linker::<State, Itself>(linker, |state| state)?;
    cli::stdin::add_to_linker::<State, WasiCli>(linker, WasiCliView::cli)?;
    cli::stdout::add_to_linker::<State, WasiCli>(linker, WasiCliView::cli)?;
    cli::stderr::add_to_linker::<State, WasiCli>(linker, WasiCliView::cli)?;
    // Empty: guests of every language import these, and none of them gets anything out of them.
    cli::environment::add_to_linker::<State, WasiCli>(linker, WasiCliView::cli)?;
    cli::exit::add_to_linker::<State, WasiCli>(linker, WasiCliView::cli)?;
    cli::terminal_input::add_to_linker::<State, WasiCli>(linker, WasiCliView::cli)?;
    cli::terminal_output::add_to_linker::<State, WasiCli>(linker, WasiCliView::cli)?;
    cli::terminal_stdin::add_to_linker::<State, WasiCli>(linker, WasiCliView::cli)?;
    cli::terminal_stdout::add_to_linker::<State, WasiCli>(linker, WasiCliView::cli)?;
    cli::terminal_stderr::add_to_linker::<State, WasiCli>(linker, WasiCliView::cli)?;
    filesystem::preopens::add_to_linker::<State, WasiFilesystem>(linker, WasiFilesystemView::filesystem)?;
    filesystem::types::add_to_linker::<State, WasiFilesystem>(linker, WasiFilesystemView::filesystem)?;
    Ok(())
}
