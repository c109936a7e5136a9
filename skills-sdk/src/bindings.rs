//! The bindings that `wit-bindgen` generates from the vendored contract.
//! Nothing here is written by hand, and nothing but `host/guest.rs`, `runtime.rs` and `judge.rs` uses it directly.
//! The export macros are called by the expansions of `#[skill]` and `#[judge]` in the author's crate; a component has the
//! imports of what it calls and the exports of the one macro that was called.
#![allow(missing_docs, unsafe_code, unreachable_pub, clippy::all, reason = "generated code")]

wit_bindgen::generate!({
    path: "wit/chimera-skill-0.2.0",
    world: "described-skill",
    pub_export_macro: true,
    export_macro_name: "__export_skill",
    default_bindings_module: "chimera_skill::__bindings",
    runtime_path: "::chimera_skill::__wit_rt",
    generate_all,
});

pub mod judge {
    wit_bindgen::generate!({
        path: "wit/chimera-skill-0.2.0",
        world: "judge",
        pub_export_macro: true,
        export_macro_name: "__export_judge",
        default_bindings_module: "chimera_skill::__bindings::judge",
        runtime_path: "::chimera_skill::__wit_rt",
        with: {
            "chimera:skill/types@0.2.0": crate::__bindings::chimera::skill::types,
            "chimera:skill/progress@0.2.0": crate::__bindings::chimera::skill::progress,
        },
    });
}
