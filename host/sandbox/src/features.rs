//! What of WebAssembly a guest may be made of: the one list.
//!
//! Everything that is not on it is refused before anything is compiled, by admission (the registry's inspection asks here)
//! and again by the sandbox itself, whoever hands in the bytes. It validates nothing by itself.

use wasmparser::WasmFeatures;

/// What a guest may be made of: WebAssembly 2.0 without references to the host's objects, constant expressions as current
/// compilers write them, and components. No tail calls, no module with several memories, no threads, 64-bit memories,
/// exceptions, garbage collection, relaxed SIMD (it is not deterministic) or component-model async: no compiler of a served
/// language needs them by default, and most of an engine's recent advisories were there.
///
/// The engine has as little of the rest as it lets be turned off. Several memories it needs for itself: its adapters
/// between the parts of one component copy from one memory into another.
pub const fn served_features() -> WasmFeatures {
    WasmFeatures::WASM2
        .difference(WasmFeatures::GC_TYPES)
        .union(WasmFeatures::EXTENDED_CONST)
        .union(WasmFeatures::COMPONENT_MODEL)
}
