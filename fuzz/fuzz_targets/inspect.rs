//! The bytes of a stranger's component: looking at them never panics, and what passes is what its manifest declares.
//! Compiles and runs nothing of it.
//! Run by `cargo fuzz run inspect`.

#![no_main]

use chimera_core::contract::{PACKAGE, served};
use chimera_registry::{inspect, survey};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let surveyed = survey(bytes);
    match inspect(bytes) {
        Ok(inspection) => {
            assert_eq!(surveyed.as_ref().map(|survey| &survey.digest).ok(), Some(&inspection.survey.digest));
            assert!(served(&inspection.contract).is_some());
            let declared = inspection.manifest.capabilities.interfaces();
            for name in inspection.survey.imports.iter().filter(|name| name.package == PACKAGE) {
                let interface = name.interface.as_str();
                assert!(
                    matches!(interface, "types" | "progress") || declared.contains(interface),
                    "{name} passed undeclared"
                );
            }
        }
        Err(refusal) => {
            assert!(!refusal.to_string().is_empty());
        }
    }
});
