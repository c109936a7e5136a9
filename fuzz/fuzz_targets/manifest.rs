//! The manifest section of a stranger's component: reading it never panics, and what is valid reads back as itself.
//! Admits nothing.
//! Run by `cargo fuzz run manifest`.

#![no_main]

use chimera_core::manifest::{Limits, MAX_MANIFEST_BYTES, Manifest};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(manifest) = Manifest::from_json(bytes) else { return };
    let (limits, most) = (manifest.limits, Limits::MAX);
    assert!((1..=most.time_ms).contains(&limits.time_ms) && (1..=most.fuel).contains(&limits.fuel));
    assert!(limits.memory_mb <= most.memory_mb && limits.mcp_calls <= most.mcp_calls);
    for slot in &manifest.capabilities.mcp {
        assert_eq!(manifest.capabilities.slot(&slot.slot), Some(slot), "two slots of one name");
    }
    let written = serde_json::to_vec(&manifest).expect("a manifest is JSON");
    if written.len() <= MAX_MANIFEST_BYTES {
        let again = Manifest::from_json(&written).expect("a valid manifest is written validly");
        assert_eq!(again, manifest);
    }
});
