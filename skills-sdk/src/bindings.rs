//! The bindings that `wit-bindgen` generates from the vendored contract.
//! Nothing here is written by hand, and nothing but `host/guest.rs` and `runtime.rs` uses it directly.
//! The export macro is called by the expansion of `#[skill]` in the author's crate.
#![allow(missing_docs, unsafe_code, unreachable_pub, clippy::all, reason = "generated code")]

wit_bindgen::generate!({
    path: "wit/chimera-skill-0.1.0",
    world: "described-skill",
    pub_export_macro: true,
    export_macro_name: "__export_skill",
    default_bindings_module: "chimera_skill::__bindings",
    runtime_path: "::chimera_skill::__wit_rt",
    generate_all,
});
