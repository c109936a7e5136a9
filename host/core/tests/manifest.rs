//! What an author is told about a manifest that cannot be accepted.

#![allow(clippy::unwrap_used)]

use chimera_core::manifest::{Limits, MAX_MANIFEST_BYTES, Manifest};
use serde_json::{Value, json};

fn good() -> Value {
    json!({
        "manifest": 1,
        "skill": {
            "name": "acme/trend-scan", "version": "0.1.0", "summary": "Scans.", "license": "MIT", "effects": "read",
            "keywords": ["trends"], "examples": ["find trends"],
        },
        "io": { "input": { "type": "object" }, "output": {} },
        "capabilities": {
            "mcp": [{ "slot": "social", "tools": ["search_posts"], "reason": "find what is talked about" }],
            "memory": ["recall", "remember"], "scratch": true, "trends": ["observe", "top"],
            "secrets": ["social_token"], "skills": [{ "name": "chimera/summarize", "version": "^0.1" }],
        },
        "limits": { "time_ms": 5000 },
        "selftest": [{ "name": "t", "input": {}, "expect": {} }],
    })
}

fn told(pointer: &str, value: Value) -> String {
    let mut manifest = good();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    match manifest.pointer_mut(parent).unwrap() {
        Value::Object(map) => drop(map.insert(key.to_owned(), value)),
        Value::Array(items) if key == "-" => items.push(value),
        Value::Array(items) => items[key.parse::<usize>().unwrap()] = value,
        other => panic!("{other}"),
    }
    match Manifest::from_value(manifest) {
        Ok(_) => "accepted".to_owned(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_good_manifest_survives_its_own_json() {
    let manifest = Manifest::from_value(good()).unwrap();
    assert_eq!(manifest.limits, Limits { time_ms: 5000, ..Limits::default() });
    let names: Vec<_> = manifest.capabilities.interfaces().into_iter().collect();
    assert_eq!(names, ["mcp", "memory", "scratch", "secrets", "skills", "trends"]);
    assert_eq!(Manifest::from_json(json!(manifest).to_string().as_bytes()).unwrap(), manifest);
}

#[test]
fn each_problem_is_told_with_its_field() {
    let long = "x".repeat(301);
    let cases = [
        ("/manifest", json!(2), "skill.toml: manifest: format 2 is not read by this host; write `manifest = 1`"),
        ("/skill/name", json!("Acme/x"), "is not a skill's name"),
        ("/skill/name", json!("acme"), "is not a skill's name"),
        ("/skill/version", json!("1.0"), "unexpected end of input"),
        (
            "/skill/version",
            json!("1.0.0+5"),
            "skill.toml: skill.version: `1.0.0+5` has build metadata, which a registry's tag cannot carry; drop the `+5`",
        ),
        ("/skill/summary", json!(""), "skill.toml: skill.summary: must be 1 to 300 bytes"),
        ("/skill/summary", json!(long), "skill.toml: skill.summary: must be 1 to 300 bytes"),
        ("/skill/summary", json!("a\u{1b}[2J"), "skill.toml: skill.summary: must not contain control characters"),
        ("/skill/license", json!(" "), "skill.license: must be 1 to 100 bytes"),
        ("/skill/effects", json!("some"), "unknown variant `some`"),
        ("/skill/keywords", json!(vec!["k"; 21]), "skill.keywords: at most 20 entries"),
        ("/skill/examples", json!([""]), "skill.examples: must be 1 to 300 bytes"),
        ("/skill/contract", json!("1"), "skill.contract: `1` is not a contract version; write for example \"0.2\""),
        ("/skill/contract", json!("0.1.0"), "is not a contract version"),
        ("/skill/extra", json!(1), "unknown field `extra`"),
        (
            "/skill/effects",
            json!("none"),
            "skill.effects: is \"none\" but MCP tools are declared; write \"read\" or \"write\"",
        ),
        ("/skill/world", json!("judge"), "capabilities: a judge can reach nothing; remove the section"),
        ("/capabilities/mcp/0/slot", json!("So cial"), "a slot is 1 to 64 of a-z, 0-9 and `-`, starting with a letter"),
        ("/capabilities/mcp/0/tools", json!([]), "capabilities.mcp.social: names no tool and no resource"),
        ("/capabilities/mcp/0/tools", json!([""]), "capabilities.mcp.social.tools: must be 1 to 128 bytes"),
        ("/capabilities/mcp/0/reason", json!(""), "capabilities.mcp.social.reason: must be 1 to 300 bytes"),
        (
            "/capabilities/mcp/-",
            json!({ "slot": "social", "tools": ["b"], "reason": "again" }),
            "capabilities.mcp.social: is declared twice; merge the two",
        ),
        ("/capabilities/memory", json!(["erase"]), "unknown variant `erase`"),
        ("/capabilities/memory", json!(["forget"]), "`forget` is there since contract 0.2"),
        ("/capabilities/skills", json!([{ "name": "a/b", "version": "what" }]), "version"),
        ("/limits/time_ms", json!(30_001), "limits.time_ms: 30001 is outside 1 to 30000"),
        ("/limits/fuel", json!(0), "limits.fuel: 0 is outside 1 to 50000000000"),
        ("/limits/memory_mb", json!(513), "limits.memory_mb: 513 is outside 1 to 512"),
        ("/limits/output_kb", json!(0), "limits.output_kb: 0 is outside 1 to 1024"),
        ("/limits/mcp_calls", json!(257), "limits.mcp_calls: 257 is outside 0 to 256"),
        ("/limits/mcp_calls", json!(0), "accepted"),
        ("/io/input", json!(true), "io.input: must be a JSON Schema object"),
        ("/io/output", json!({ "type": "strin" }), "io.output: is not a JSON Schema"),
        ("/selftest/0/name", json!(""), "selftest.name: must be 1 to 200 bytes"),
        (
            "/selftest/0/expect_failure",
            json!({ "kind": "permanent" }),
            "selftest.t: expects both an output and a failure; keep one",
        ),
        ("/selftest/0/clock", json!("yesterday"), "`yesterday` is not a time"),
    ];
    for (pointer, value, expected) in cases {
        let told = told(pointer, value);
        assert!(told.contains(expected), "{pointer}: expected {expected:?}, told {told:?}");
    }
}

#[test]
fn a_schema_that_wants_something_fetched_is_not_fetched() {
    let told = told("/io/input", json!({ "$ref": "https://example.org/schema.json" }));
    assert!(told.contains("io.input: is not a JSON Schema"), "{told}");
}

#[test]
fn hostile_bytes_are_refused_at_once() {
    assert!(Manifest::from_json(&vec![b'['; MAX_MANIFEST_BYTES + 1]).unwrap_err().to_string().contains("bytes"));
    assert!(Manifest::from_json(&vec![b'['; 100_000]).unwrap_err().to_string().contains("is not JSON"));
    assert!(Manifest::from_json(b"\xff\xfe").unwrap_err().to_string().contains("is not JSON"));
}
