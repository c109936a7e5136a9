//! What schemas of strangers are taken, and that none of them is more work than it may be.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test may end with a panic")]

use chimera_core::json::{Extent, MAX_DEPTH, MAX_VALUES, has_too_many_values, is_deeper_than, parse};
use chimera_core::manifest::Manifest;
use chimera_core::schema::{MAX_SCHEMA_BYTES, admit, check, check_in_passing};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use std::time::{Duration, Instant};

fn manifest(input: &Value) -> Value {
    json!({
        "manifest": 1,
        "skill": { "name": "acme/x", "version": "0.1.0", "summary": "s", "license": "MIT", "effects": "none" },
        "io": { "input": input, "output": {} },
    })
}

#[track_caller]
fn refused(schema: &Value, why: &str) {
    let started = Instant::now();
    let told = admit(schema).unwrap_err();
    assert!(told.contains(why), "{told}");
    let told = Manifest::from_value(manifest(schema)).unwrap_err().to_string();
    assert!(told.contains(why) && (told.contains("io.input") || told.contains("nested")), "{told}");
    assert!(check(schema, &json!([])).unwrap_err().contains("the schema cannot be used"));
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

fn chain(length: usize, link: impl Fn(Value) -> Value) -> Value {
    let mut defs: Map<String, Value> =
        (0..length).map(|at| (format!("a{at}"), link(json!({ "$ref": format!("#/$defs/a{}", at + 1) })))).collect();
    defs.insert(format!("a{length}"), json!({}));
    json!({ "$ref": "#/$defs/a0", "$defs": defs })
}

fn nested(depth: usize, mut inner: Value) -> Value {
    for _ in 0..depth {
        inner = json!([inner]);
    }
    inner
}

#[test]
fn references_that_double_are_refused() {
    refused(&chain(60, |next| json!({ "allOf": [next, next] })), "unfold to more than");
    refused(&chain(60, |next| json!({ "anyOf": [next, { "not": next }] })), "unfold to more than");
    refused(&chain(60, |next| json!({ "items": { "allOf": [next, next] } })), "unfold to more than");
    refused(&json!({ "items": { "allOf": [{ "$ref": "#" }, { "$ref": "#" }] } }), "doubles with every level");
    refused(&json!({ "items": { "anyOf": [{ "$ref": "#" }, { "$ref": "#" }] } }), "doubles with every level");
    refused(&json!({ "allOf": [{ "items": { "$ref": "#" } }, { "items": { "$ref": "#" } }] }), "doubles");
    refused(&json!({ "items": { "$ref": "#" }, "contains": { "$ref": "#" } }), "doubles");
}

#[test]
fn references_that_go_nowhere_or_in_circles_are_refused() {
    refused(&json!({ "$ref": "#" }), "leads back to itself");
    refused(&json!({ "$ref": "#/$defs/a", "$defs": { "a": { "not": { "$ref": "#/$defs/a" } } } }), "back to itself");
    refused(&json!({ "$ref": "#/$defs/b" }), "leads to no schema");
    refused(&json!({ "$ref": "https://example.com/schema.json" }), "only references inside the schema");
    refused(&json!({ "$ref": "#name", "$defs": { "a": {} } }), "only references inside the schema");
    refused(&json!({ "$defs": { "a": { "$anchor": "name" } } }), "`$anchor` is taken at the root");
    refused(&json!({ "properties": { "a": { "$id": "https://example.com/b" } } }), "`$id` is taken at the root");
    refused(&json!({ "$dynamicRef": "#" }), "`$dynamicRef` is not taken");
    refused(&json!({ "x-data": { "$id": "x" }, "$ref": "#/x-data" }), "`$id` is taken at the root");
}

#[test]
fn schemas_that_are_deeper_than_a_stack_are_refused() {
    let nots = |count: usize, mut inner: Value| {
        for _ in 0..count {
            inner = json!({ "not": inner });
        }
        inner
    };
    refused(&chain(400, |next| nots(120, next)), "is nested deeper than");
    refused(&chain(400, |next| nots(12, next)), "inside each other");
    refused(&chain(900, |next| next), "inside each other");
    refused(&chain(900, |next| json!({ "items": next })), "inside each other");
}

#[test]
fn patterns_that_explode_are_refused() {
    let many: Map<String, Value> =
        (0..600).map(|at| (format!("p{at}"), json!({ "pattern": format!("a\\p{{L}}{{140}}{at:04}") }))).collect();
    refused(&json!({ "properties": many }), "more than 64 patterns");
    let names: Map<String, Value> = (0..65).map(|at| (format!("^a{at}"), json!({}))).collect();
    refused(&json!({ "patternProperties": names }), "more than 64 patterns");
    let huge: Map<String, Value> = (0..60)
        .map(|at| (format!("p{at}"), json!({ "pattern": format!("((\\p{{L}}{{99}}){{99}}){{{at}}}a") })))
        .collect();
    refused(&json!({ "properties": huge }), "regex");
    refused(&json!({ "pattern": "a\\p{L}{140}0001" }), "regex");
    refused(&json!({ "pattern": "a".repeat(2000) }), "at most 1024");
    refused(&json!({ "description": "d".repeat(MAX_SCHEMA_BYTES) }), "at most 65536");
}

#[test]
fn patterns_of_honest_authors_are_taken() {
    for (pattern, fits, does_not) in [
        ("^[a-z0-9-]{1,64}$", "a-b", "A"),
        ("^\\d{4}-\\d{2}-\\d{2}$", "2026-01-01", "today"),
        ("^.{1,280}$", "hello", ""),
        ("^[^@\\s]+@[^@\\s]+\\.[a-z]{2,}$", "a@b.org", "a b"),
        ("^https?://[^\\s/$.?#].[^\\s]*$", "https://example.com/x", "ftp://x"),
        ("^(?!.*--)[a-z-]+$", "a-b", "a--b"),
        ("^(['\"]).*\\1$", "'a'", "'a\""),
        ("^\\p{L}{1,20}$", "Größe", "1"),
    ] {
        let schema = json!({ "type": "string", "pattern": pattern });
        admit(&schema).unwrap_or_else(|problem| panic!("{pattern}: {problem}"));
        check(&schema, &json!(fits)).unwrap_or_else(|problem| panic!("{pattern}: {problem}"));
        assert!(check(&schema, &json!(does_not)).is_err(), "{pattern}");
    }
}

#[test]
fn a_pattern_on_a_long_text_ends() {
    let started = Instant::now();
    let slow = json!({ "pattern": "^(?=(a+)+$)(a|aa)+\\1b$" });
    assert!(check(&slow, &json!("a".repeat(8_000))).is_err());
    assert!(check(&slow, &json!("a".repeat(900_000))).unwrap_err().contains("too much work"));
    let long = json!({ "pattern": "(a|b)*a(a|b){200}c" });
    assert!(check(&long, &json!("ab".repeat(100_000))).is_err());
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
}

/// As schemars writes a recursive struct with an optional box, a list and a map of itself.
fn tree() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Input", "type": "object", "required": ["root"],
        "properties": { "root": { "$ref": "#/$defs/Node" } },
        "$defs": {
            "Node": {
                "type": "object", "required": ["name", "children"],
                "properties": {
                    "name": { "type": "string" },
                    "next": { "anyOf": [{ "$ref": "#/$defs/Node" }, { "type": "null" }] },
                    "children": { "type": "array", "items": { "$ref": "#/$defs/Node" } },
                    "named": { "type": "object", "additionalProperties": { "$ref": "#/$defs/Node" } },
                },
            },
        },
    })
}

/// As schemars writes `#[serde(tag = "kind")] enum Rule { All { of: Vec<Rule> }, Any { of: Vec<Rule> }, Is { … } }`.
fn rules() -> Value {
    let many = |kind: &str| {
        json!({ "type": "object", "required": ["kind", "of"], "properties": {
            "kind": { "type": "string", "const": kind }, "of": { "type": "array", "items": { "$ref": "#" } } } })
    };
    json!({ "$schema": "https://json-schema.org/draft/2020-12/schema", "oneOf": [
        many("all"), many("any"),
        { "type": "object", "required": ["kind", "text"], "properties": {
            "kind": { "type": "string", "const": "is" }, "text": { "type": ["string", "null"] } } },
    ] })
}

#[test]
fn recursive_types_of_honest_authors_are_taken() {
    admit(&tree()).unwrap();
    let mut node = json!({ "name": "leaf", "children": [] });
    for _ in 0..20 {
        node =
            json!({ "name": "n", "next": null, "children": [node], "named": { "x": { "name": "y", "children": [] } } });
    }
    check(&tree(), &json!({ "root": node })).unwrap();
    let told = check(&tree(), &json!({ "root": { "name": 1, "children": [] } })).unwrap_err();
    assert!(told.contains("`/root/name`"), "{told}");

    admit(&rules()).unwrap();
    let rule = json!({ "kind": "all", "of": [{ "kind": "any", "of": [{ "kind": "is", "text": "x" }] }] });
    check(&rules(), &rule).unwrap();
    assert!(check(&rules(), &json!({ "kind": "all", "of": [{ "kind": "none" }] })).is_err());

    let mutual = json!({ "$ref": "#/definitions/a", "definitions": {
        "a": { "properties": { "b": { "$ref": "#/definitions/b" }, "c": { "$ref": "#/definitions/b" } } },
        "b": { "properties": { "a": { "items": { "$ref": "#/definitions/a" } } }, "allOf": [{ "$ref": "#/definitions/c" }] },
        "c": { "properties": { "id": { "type": "string" } } } } });
    admit(&mutual).unwrap();
}

#[test]
fn words_of_a_schema_may_be_names_and_data() {
    let schema = json!({ "type": "object", "default": { "$id": "x", "$ref": "nowhere" }, "properties": {
        "$id": { "type": "string" }, "$ref": { "type": "string" }, "pattern": { "type": "string" },
        "kind": { "enum": [{ "$id": "y" }] } } });
    admit(&schema).unwrap();
    check(&schema, &json!({ "$id": "a", "$ref": "b" })).unwrap();
    let spaced = json!({ "$ref": "#/$defs/a%20b~1c", "$defs": { "a b/c": { "type": "string" } } });
    check(&spaced, &json!("x")).unwrap();
    admit(&json!({ "$schema": "http://json-schema.org/draft-07/schema#", "$id": "https://example.com/a",
        "properties": { "x": { "$ref": "#/definitions/x" } }, "definitions": { "x": { "format": "uri" } } }))
    .unwrap();
    admit(&json!(true)).unwrap();
}

#[test]
fn alternatives_that_recurse_cost_no_more_than_they_may() {
    let branch = |at: usize| json!({ "properties": { "x": { "$ref": "#" } }, "title": format!("{at}") });
    let schema = json!({ "allOf": [{ "anyOf": [branch(0), branch(1), branch(2)] }], "required": ["y"] });
    let mut value = json!({});
    for _ in 0..40 {
        value = json!({ "x": value });
    }
    let started = Instant::now();
    let told = check(&schema, &value).unwrap_err();
    assert!(told.contains("too much work"), "{told}");
    let fibonacci = json!({ "items": { "anyOf": [{ "$ref": "#" }, { "items": { "$ref": "#" } }] } });
    let _ = check(&fibonacci, &nested(60, json!(1)));
    let unevaluated = json!({ "allOf": [{ "$ref": "#/$defs/a" }], "unevaluatedProperties": false, "$defs": {
        "a": { "allOf": [{ "$ref": "#/$defs/b" }], "unevaluatedProperties": { "not": {} } },
        "b": { "allOf": [{ "properties": { "p0": {} } }], "unevaluatedProperties": false } } });
    let wide: Map<String, Value> = (0..2_000).map(|at| (format!("p{at}"), json!(1))).collect();
    assert!(check(&unevaluated, &Value::Object(wide)).is_err());
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
}

#[test]
fn the_deepest_that_is_taken_fits_a_small_stack() {
    let deepest = || {
        let schema = chain(250, |next| next);
        admit(&schema).unwrap();
        check(&schema, &json!(1)).unwrap();
        let mut links = json!({ "$ref": "#" });
        for _ in 0..6 {
            links = json!({ "allOf": [links] });
        }
        let list = json!({ "items": links, "type": ["array", "string"] });
        admit(&list).unwrap();
        // Valid or too deep, and never an overflow; what does not fit is told with its place.
        check(&list, &nested(60, json!("x"))).unwrap();
        assert!(check(&list, &nested(60, json!(1))).is_err());
        let alternatives = json!({ "anyOf": [{ "items": { "anyOf": [{ "anyOf": [{ "$ref": "#" }] }] } }, false] });
        let _ = check(&alternatives, &nested(60, json!(1)));
    };
    std::thread::Builder::new().stack_size(2 << 20).spawn(deepest).unwrap().join().unwrap();
}

#[test]
fn a_long_list_is_checked_and_told_of() {
    let schema = json!({ "type": "array", "uniqueItems": true, "items": { "type": "integer", "minimum": 0 } });
    let numbers: Vec<u32> = (0..60_000).collect();
    check(&schema, &json!(numbers)).unwrap();
    let texts = vec!["x"; 60_000];
    assert!(check(&schema, &json!(texts)).unwrap_err().contains("does not fit"));
}

#[test]
fn only_little_work_is_done_in_passing() {
    check_in_passing(&tree(), &json!({ "root": { "name": "a", "children": [] } })).unwrap().unwrap();
    check_in_passing(&tree(), &json!({ "root": { "name": 1, "children": [] } })).unwrap().unwrap_err();
    check_in_passing(&json!({ "$ref": "#" }), &json!(1)).unwrap().unwrap_err();
    assert_eq!(check_in_passing(&json!({ "pattern": "a" }), &json!("a")), None);
    assert_eq!(check_in_passing(&json!({}), &json!("a".repeat(9_000))), None);
    let branch = json!({ "properties": { "x": { "$ref": "#" } } });
    let mut value = json!({});
    for _ in 0..30 {
        value = json!({ "x": value });
    }
    assert_eq!(check_in_passing(&json!({ "anyOf": [branch, branch] }), &value), None);
}

#[test]
fn a_manifest_that_could_not_be_read_back_is_refused() {
    let deep = manifest(&json!({ "default": nested(80, json!(1)) }));
    assert!(Manifest::from_value(deep).unwrap_err().to_string().contains("nested deeper than"));
    let mut manifest = manifest(&json!({}));
    manifest["selftest"] = json!([{ "name": "t", "input": nested(MAX_DEPTH + 1, json!(1)) }]);
    let told = Manifest::from_json(manifest.to_string().as_bytes()).unwrap_err().to_string();
    assert!(told.contains("selftest.t: its input is nested deeper"), "{told}");
    manifest["selftest"] = json!([{ "name": "t", "input": nested(MAX_DEPTH, json!(1)) }]);
    Manifest::from_value(manifest).unwrap();
}

#[test]
fn texts_are_measured_before_they_are_parsed() {
    assert_eq!(Extent::of(r#"{"a,[\"": [1, 2], "b\\": {}}"#), Extent { depth: 2, values: 6 });
    assert_eq!(parse(&nested(MAX_DEPTH, json!(1)).to_string(), 100).unwrap(), nested(MAX_DEPTH, json!(1)));
    let told = parse(&nested(MAX_DEPTH + 1, json!(1)).to_string(), 100).unwrap_err();
    assert_eq!(told, "is nested deeper than 64");
    let zeros = format!("[{}0]", "0,".repeat(MAX_VALUES));
    assert!(has_too_many_values(&zeros) && parse(&zeros, MAX_VALUES).unwrap_err().contains("at most 65536"));
    assert!(!has_too_many_values(&json!(",[{".repeat(MAX_VALUES)).to_string()), "commas in a text are no values");
    assert!(parse("{", 10).unwrap_err().contains("is not JSON"));
    let deep = nested(MAX_DEPTH + 1, json!(1));
    assert!(is_deeper_than(&deep, MAX_DEPTH) && !is_deeper_than(&deep[0], MAX_DEPTH));
}

proptest! {
    #[test]
    fn an_extent_is_never_less_than_the_value(values in prop::collection::vec(".{0,8}", 0..8), depth in 0..9_usize) {
        let value = nested(depth, json!(values));
        let extent = Extent::of(&value.to_string());
        prop_assert_eq!(extent.depth, depth + 1);
        prop_assert!(extent.values >= values.len());
    }
}
