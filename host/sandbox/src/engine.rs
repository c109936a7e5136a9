//! The one engine: its settings, its pool, and the thread that ticks its epochs.
//!
//! Settings that change the machine code are the same in [`runtime`] and [`compiling`], so a child's output fits the
//! parent. Nothing here knows skills. Called by [`crate::Sandbox::new`] and by the compiling child.

use crate::config::{SandboxConfig, SandboxError};
use std::num::NonZeroUsize;
use std::time::Duration;
use wasmtime::{Config, Enabled, Engine, PoolingAllocationConfig};

/// Longest linear memory of any guest: the largest limit a manifest may ask for.
const MAX_MEMORY_BYTES: usize = chimera_core::manifest::Limits::MAX.memory_bytes();

/// The settings that decide about the machine code.
fn base() -> Config {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .consume_fuel(true)
        .epoch_interruption(true)
        // A guest that recurses forever meets this wall; the fiber around it has room for the host's own frames.
        .max_wasm_stack(256 << 10)
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
        // What no served guest needs stays off: most of an engine's recent advisories were in these.
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

/// Room for the guests that run at once. A small Rust component is 4 core instances, 1 memory and 3 tables; a Python one
/// is up to 40 core instances, 8 memories and 30 tables of 60,000 elements. The totals assume that most are small; when
/// many large ones run at once, the pool is full earlier and a run is told to come back later.
fn pool(config: &SandboxConfig, pagemap_scan: Enabled) -> PoolingAllocationConfig {
    let runs = u32::try_from(config.max_concurrent).unwrap_or(u32::MAX / 64).clamp(1, 16_384);
    // A skill that calls another holds its own place while the other runs.
    let instances = runs * 2;
    let keep = pagemap_scan != Enabled::No;
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_stacks(instances)
        .total_core_instances(instances * 8 + 80)
        .total_memories(instances + 16)
        .total_tables(instances * 4 + 60)
        .max_core_instances_per_component(40)
        .max_memories_per_component(8)
        .max_tables_per_component(30)
        .max_memories_per_module(1)
        .max_tables_per_module(4)
        .table_elements(60_000)
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
    fn a_child_compiles_for_the_parent() {
        let runtime = runtime(&SandboxConfig { max_concurrent: 4, ..SandboxConfig::default() }).unwrap();
        assert_eq!(compatibility(&runtime), compatibility(&compiling().unwrap()));
    }
}
