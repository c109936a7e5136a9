//! The one engine: its settings, its pool, and the thread that ticks its epochs.
//!
//! Settings that change the machine code are the same in [`runtime`] and [`compiling`], so a child's output fits the
//! parent. Nothing here knows skills. Called by [`crate::Sandbox::new`] and by the compiling child.

use crate::config::{SandboxConfig, SandboxError};
use chimera_core::failure::{LimitName, LimitReached};
use std::num::NonZeroUsize;
use std::time::Duration;
use wasmtime::{Config, Enabled, Engine, PoolingAllocationConfig};

/// Longest linear memory of any guest: the largest limit a manifest may ask for.
const MAX_MEMORY_BYTES: usize = chimera_core::manifest::Limits::MAX.memory_bytes();

/// What a guest's own frames take at most, in bytes. A guest that recurses forever meets this wall.
pub(crate) const MAX_WASM_STACK: usize = 256 << 10;
/// What a component may be made of. A Python one has up to 40 core instances, 8 memories and 30 tables. A component with
/// more is refused when it is loaded, with the words of [`beyond_pool`].
pub(crate) const MAX_CORE_INSTANCES: u32 = 40;
pub(crate) const MAX_TABLES: u32 = 30;
pub(crate) const MAX_MEMORIES: u32 = 8;
/// Elements of one table.
pub(crate) const MAX_ELEMENTS_OF_TABLE: usize = 60_000;

/// The settings that decide about the machine code.
fn base() -> Config {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .consume_fuel(true)
        .epoch_interruption(true)
        // The fiber around the guest's frames has room for the host's own.
        .max_wasm_stack(MAX_WASM_STACK)
        .async_stack_size(1 << 20)
        // What an author is shown of a trap.
        .wasm_backtrace_max_frames(NonZeroUsize::new(12))
        // A backtrace names functions; offsets within them, and tables for unwinders of others, nobody reads here. Without
        // them the code of a Python skill is 5 MB smaller, and loading it registers nothing with the process.
        .generate_address_map(false)
        .native_unwind_info(false)
        // The whole 32-bit index range is reserved, so that bounds checks are page faults. Reservation costs only
        // address space.
        .memory_reservation(4 << 30)
        .memory_guard_size(32 << 20)
        // What no guest gets (`crate::features`) stays off here too, where the engine does not need it for itself.
        .wasm_tail_call(false)
        .wasm_memory64(false)
        .wasm_relaxed_simd(false)
        .wasm_wide_arithmetic(false)
        .wasm_custom_page_sizes(false)
        .shared_memory(false)
        .gc_support(false)
        .concurrency_support(false);
    config
}

/// An engine that only compiles: no pool, which would not fit into a child's address space.
pub(crate) fn compiling() -> Result<Engine, SandboxError> {
    Engine::new(&base()).map_err(|e| SandboxError::engine(format!("the compiler cannot be started: {e:#}")))
}

/// The engine that runs guests, and the thread that ticks its epochs until the engine is gone.
pub(crate) fn runtime(config: &SandboxConfig) -> Result<Engine, SandboxError> {
    check_mappings(config)?;
    // Whether the kernel can tell which pages a guest wrote (Linux 6.7 and newer) is found out by asking for it. With
    // it, keeping pages for the next guest is the fastest way; without it, keeping them costs more than it saves.
    let with_scan = Engine::new(base().allocation_strategy(pool(config, Enabled::Yes)));
    let engine = match with_scan {
        Ok(engine) => engine,
        Err(_) => Engine::new(base().allocation_strategy(pool(config, Enabled::No))).map_err(|e| {
            SandboxError::engine(format!(
                "the sandbox cannot reserve its memory pool: {e:#}; lower `max_concurrent` or lift the limit on \
                 address space (`ulimit -v`)"
            ))
        })?,
    };
    tick(&engine, config.tick)?;
    Ok(engine)
}

/// Most runs at once that the address space has room for.
const MAX_RUNS: u32 = 12_000;
/// Most runs at once that other runs asked for.
const MAX_CALLEES: u32 = 1_000;
/// Mappings of memory that one run takes at most: the parts of its memory, its table, its stack and the guard before it.
const MAPPINGS_OF_RUN: u64 = 6;
/// Mappings that the rest of the process takes, amply.
const MAPPINGS_OF_REST: u64 = 2_000;

/// Runs at once.
pub(crate) fn runs(config: &SandboxConfig) -> u32 {
    u32::try_from(config.max_concurrent).unwrap_or(u32::MAX).clamp(1, MAX_RUNS)
}

/// Runs at once that other runs asked for.
pub(crate) fn callees(config: &SandboxConfig) -> u32 {
    runs(config).min(MAX_CALLEES)
}

/// Does the kernel let one process map as often as so many runs do? Found out here, because no run could be told why.
fn check_mappings(config: &SandboxConfig) -> Result<(), SandboxError> {
    const FILE: &str = "/proc/sys/vm/max_map_count";
    let allowed = std::fs::read_to_string(FILE).ok().and_then(|text| text.trim().parse::<u64>().ok());
    // The stacks of callees are mapped from the start; that all of them run at once beside all others is not provided for.
    let needed = u64::from(runs(config)) * MAPPINGS_OF_RUN + u64::from(callees(config)) * 2 + MAPPINGS_OF_REST;
    match allowed {
        Some(allowed) if allowed < needed => Err(SandboxError::engine(format!(
            "{} runs at once may need {needed} mappings of memory, and the kernel allows {allowed}: lower \
             `max_concurrent`, or raise the limit with `sysctl -w vm.max_map_count={needed}`",
            runs(config)
        ))),
        _ => Ok(()),
    }
}

/// Room for the guests that [`crate::admission`] lets in: so many runs, and those that runs asked for. What a component
/// takes of memories is counted there; of everything else there is what the largest component may take, for each. That
/// costs only address space: the largest pool takes about 55 of the 128 TiB that a process has.
fn pool(config: &SandboxConfig, pagemap_scan: Enabled) -> PoolingAllocationConfig {
    let instances = runs(config) + callees(config);
    let keep = pagemap_scan != Enabled::No;
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_stacks(instances)
        .total_core_instances(instances * MAX_CORE_INSTANCES)
        // One component may weigh more than all places together.
        .total_memories(instances + MAX_MEMORIES)
        .total_tables(instances * MAX_TABLES)
        .max_core_instances_per_component(MAX_CORE_INSTANCES)
        .max_memories_per_component(MAX_MEMORIES)
        .max_tables_per_component(MAX_TABLES)
        .max_memories_per_module(1)
        .max_tables_per_module(4)
        .table_elements(MAX_ELEMENTS_OF_TABLE)
        .max_component_instance_size(4 << 20)
        .max_core_instance_size(4 << 20)
        .max_memory_size(MAX_MEMORY_BYTES)
        // Places that keep a skill's pages after it ended: bounds what an idle host holds on to.
        .max_unused_warm_slots(32)
        .linear_memory_keep_resident(if keep { 1 << 20 } else { 0 })
        .table_keep_resident(if keep { 64 << 10 } else { 0 })
        .pagemap_scan(pagemap_scan);
    pool
}

/// What the pool says of a component that does not fit into it: the limit, what is counted, and the words around the two
/// numbers, what the component has and what there is. The engine has no type for it; tests hold the words against it.
const BEYOND: [(LimitName, &str, &str, &str); 7] = [
    (
        LimitName::Instances,
        "core instances",
        "contains ",
        " core module instances, which exceeds the configured maximum of ",
    ),
    (LimitName::Instances, "memories", "contains ", " Wasm linear memories, which exceeds the configured maximum of "),
    (LimitName::Instances, "tables", "contains ", " tables, which exceeds the configured maximum of "),
    (LimitName::Instances, "memories in one module", "memories count of ", " exceeds the per-instance limit of "),
    (LimitName::Instances, "tables in one module", "tables count of ", " exceeds the per-instance limit of "),
    (LimitName::Memory, "bytes of memory to begin with", "byte size of ", " which exceeds the limit of "),
    (LimitName::Tables, "elements in a table to begin with", "element size of ", " which exceeds the limit of "),
];

/// Which limit of the pool a component that cannot be loaded is beyond, and of what that is; none if it is not about that.
pub(crate) fn beyond_pool(error: &wasmtime::Error) -> Option<(LimitReached, &'static str)> {
    let said = format!("{error:#}");
    // Some are written as `0x…`.
    let number = |text: &str| {
        let word = text.split(|c: char| !c.is_ascii_alphanumeric()).next()?;
        word.strip_prefix("0x").map_or_else(|| word.parse(), |hex| u64::from_str_radix(hex, 16)).ok()
    };
    BEYOND.iter().find_map(|(name, what, before, between)| {
        let (said, max) = said.split_once(between)?;
        let (_, used) = said.rsplit_once(before)?;
        Some((LimitReached { name: *name, max: number(max)?, used: number(used)? }, *what))
    })
}

/// Starts the ticking thread. It is an OS thread, so no guest and no busy runtime can hold it up.
fn tick(engine: &Engine, every: Duration) -> Result<(), SandboxError> {
    let weak = engine.weak();
    std::thread::Builder::new()
        .name("chimera-epoch".to_owned())
        .spawn(move || {
            loop {
                std::thread::sleep(every);
                match weak.upgrade() {
                    Some(engine) => engine.increment_epoch(),
                    None => return,
                }
            }
        })
        .map(|_| ())
        .map_err(|e| SandboxError::engine(format!("the epoch thread cannot be started: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};

    fn compatibility(engine: &Engine) -> u64 {
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        hasher.finish()
    }

    #[test]
    fn the_default_pool_fits_into_the_address_space() {
        runtime(&SandboxConfig::default()).unwrap();
    }

    #[test]
    fn ten_thousand_runs_fit_where_the_kernel_has_its_usual_limit() {
        let needed = 10_000 * MAPPINGS_OF_RUN + 1_000 * 2 + MAPPINGS_OF_REST;
        assert!(needed <= 65_530, "{needed}");
        let many = SandboxConfig { max_concurrent: 1_000_000, ..SandboxConfig::default() };
        assert_eq!((runs(&many), callees(&many)), (MAX_RUNS, MAX_CALLEES));
    }

    #[test]
    fn a_child_compiles_for_the_parent() {
        let runtime = runtime(&SandboxConfig { max_concurrent: 4, ..SandboxConfig::default() }).unwrap();
        assert_eq!(compatibility(&runtime), compatibility(&compiling().unwrap()));
    }
}
