//! The JSON texts that guests hand out: outcomes, arguments, metadata. What is taken is within the limits and reads back as
//! itself; nothing panics, and nothing that is refused was within the limits and JSON.
//! Run by `cargo fuzz run payload`.

#![no_main]

use chimera_core::json::{Extent, MAX_DEPTH, MAX_VALUES, is_deeper_than, parse};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

/// Values in a value, itself included.
fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(map) => map.values().map(count).sum(),
        _ => 0,
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for most in [1, 16, MAX_VALUES] {
        let extent = Extent::of(text);
        match parse(text, most) {
            Ok(value) => {
                assert!(!is_deeper_than(&value, MAX_DEPTH), "deeper than allowed");
                assert!(count(&value) <= most, "more values than allowed");
                let written = value.to_string();
                assert_eq!(parse(&written, most).as_ref(), Ok(&value), "it does not read back as itself");
                assert_eq!(parse(&written, most).map(|again| again.to_string()), Ok(written));
            }
            Err(why) => {
                assert!(!why.is_empty());
                let is_json = serde_json::from_str::<Value>(text).is_ok();
                assert!(!is_json || extent.depth > MAX_DEPTH || extent.values > most, "refused without need: {why}");
            }
        }
    }
});
