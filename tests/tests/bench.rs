//! `chimera bench` runs to its end, and every figure that needs a baseline has one. What the figures are is not tested: the
//! machine is shared, and a debug build measures itself.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test may end with a panic")]

use chimera_tests::{binary, guest_target};
use serde_json::Value;
use std::process::Command;

#[test]
fn the_benchmark_of_the_sandbox_reports_its_figures() {
    let output = Command::new(binary())
        .args(["bench", "sandbox", "--quick", "--json"])
        .env("CARGO_TARGET_DIR", guest_target())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    for field in ["commit", "machine", "kernel"] {
        assert!(report[field].as_str().is_some_and(|text| !text.is_empty()), "{field}: {report:#}");
    }
    assert_eq!(report["name"], "sandbox");
    let figure = |metric: &str| {
        let results = report["results"].as_array().unwrap();
        results.iter().find(|figure| figure["metric"] == metric).unwrap_or_else(|| panic!("no {metric}: {report:#}"))
    };
    for metric in ["call_p50_us", "call_p99_us", "scaling_2_threads", "parked_kib"] {
        let figure = figure(metric);
        let (value, baseline) = (figure["value"].as_f64().unwrap(), figure["baseline"].as_f64().unwrap());
        assert!(value > 0.0 && baseline > 0.0, "{figure:#}");
        assert!((figure["ratio"].as_f64().unwrap() - value / baseline).abs() < 1e-9, "{figure:#}");
    }
    assert!(figure("call_added_p50_us")["baseline"].is_null());
    assert!(figure("cold_start_ms_rust")["value"].as_f64().unwrap() > 0.0);
    assert_eq!(figure("parked_and_answered")["value"], 1000.0);
}
