//! Every rule of admission that needs no running has a component here that breaks it, and only it.

#![allow(clippy::unwrap_used)]

mod support;

use chimera_core::manifest::MANIFEST_SECTION;
use chimera_registry::{MAX_COMPONENT_BYTES, Refusal, Rule, embed_manifest, inspect, survey};
use proptest::prelude::*;
use serde_json::json;
use std::time::{Duration, Instant};
use support::{dummy, echo, manifest, with_manifest, with_section};

const RUNNER: &str = "export chimera:skill/runner@0.1.0;";

fn refusal(wasm: &[u8]) -> Refusal {
    let refusal = inspect(wasm).unwrap_err();
    assert!(!refusal.evidence.is_empty() && !refusal.fix.is_empty(), "{refusal}");
    refusal
}

#[track_caller]
fn refused(wasm: &[u8], rule: Rule, evidence: &str) {
    let refusal = refusal(wasm);
    assert_eq!(refusal.rule, rule, "{refusal}");
    assert!(refusal.evidence.contains(evidence), "{refusal}");
}

#[test]
fn an_honest_skill_passes() {
    let inspection = inspect(&with_manifest(&echo(), json!({}))).unwrap();
    assert_eq!(inspection.contract.to_string(), "0.1.0");
    assert!(inspection.warnings.is_empty());
    let exports: Vec<String> = inspection.survey.exports.iter().map(ToString::to_string).collect();
    assert_eq!(exports, ["chimera:skill/runner@0.1.0"]);
}

#[test]
fn a_described_skill_and_a_judge_pass() {
    let described = dummy("export chimera:skill/runner@0.1.0; export chimera:skill/describe@0.1.0;", &[]);
    inspect(&with_manifest(&described, json!({}))).unwrap();
    let judge = dummy("import chimera:skill/progress@0.1.0; export chimera:skill/evaluator@0.1.0;", &[]);
    inspect(&with_manifest(&judge, json!({ "skill": { "world": "judge" } }))).unwrap();
}

#[test]
fn size_limit() {
    let mut huge = b"\0asm\x0d\0\x01\0".to_vec();
    huge.resize(MAX_COMPONENT_BYTES + 1, 0);
    refused(&huge, Rule::SizeLimit, "33554433 bytes");
}

/// A component whose parts compare a type of 300,000 leaves, a few hundred bytes long, again and again.
fn unfolding(users: &str) -> Vec<u8> {
    let times = |of: &str, count: usize| format!("(tuple {})", vec![of; count].join(" "));
    let mut types = format!("(type $t0 {})", times("u8", 10));
    for step in 1..5 {
        types.push_str(&format!("(type $t{step} {})", times(&format!("$t{}", step - 1), 10)));
    }
    types.push_str(&format!("(type $t5 {})", times("$t4", 3)));
    wat::parse_str(format!("(component {types} {})", users.replace("TYPES", &types))).unwrap()
}

#[test]
fn work_limit() {
    let started = Instant::now();
    let inner = r#"(component $inner TYPES (import "f" (func (param "x" $t5))))"#;
    let instances = r#"(instance (instantiate $inner (with "f" (func $f))))"#;
    let imported = r#"(import "f" (func $f (param "x" $t5)))"#;
    // The first few are taken: a large type alone is no offence.
    let few = unfolding(&format!("{imported} {inner} {}", instances.repeat(3)));
    assert_ne!(refusal(&few).rule, Rule::SizeLimit);
    for users in [
        format!("{imported} {inner} {}", instances.repeat(4_000)),
        // The same inside a component inside it, which starts to count anew.
        format!(
            r#"(component (alias outer 1 4 (type $u)) (import "f" (func $f (param "x" $u)))
                (component $inner (alias outer 2 4 (type $u)) (import "f" (func (param "x" $u)))) {})"#,
            instances.repeat(400)
        ),
        format!(
            r#"(type $ft (func (param "x" $t5))) {}"#,
            (0..2_000).map(|at| format!(r#"(import "f{at}" (func (type $ft)))"#)).collect::<String>()
        ),
        format!("{imported} {}", (0..2_000).map(|at| format!(r#"(export "f{at}" (func $f))"#)).collect::<String>()),
        r#"(type (instance (type (func (param "x" $t5))) (export "f" (func (type 0)))))"#.repeat(2_000).replace("$t5", "5"),
        r#"(type (instance TYPES (export "f" (func (param "x" $t5)))))"#.repeat(2_000),
    ] {
        refused(&unfolding(&users), Rule::SizeLimit, "too much work to validate");
    }
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
}

#[test]
fn a_component_of_many_plain_parts_is_valid() {
    let inner = r#"(component $inner
        (type $row (record (field "name" string) (field "tags" (list string)) (field "at" (tuple u64 u32))))
        (import "api" (instance (type (tuple u8 u8)) (export "f" (func (param "x" (list u8)) (result (result string)))))))"#;
    let api =
        r#"(import "test:a/api" (instance $api (export "f" (func (param "x" (list u8)) (result (result string))))))"#;
    let instances = r#"(instance (instantiate $inner (with "api" (instance $api))))"#.repeat(1_000);
    let composed = wat::parse_str(format!("(component {api} {inner} {instances})")).unwrap();
    survey(&composed).unwrap();
}

#[test]
fn not_a_component() {
    refused(b"", Rule::NotAComponent, "not WebAssembly");
    refused(b"#!/bin/sh", Rule::NotAComponent, "not WebAssembly");
    refused(&wat::parse_str("(module)").unwrap(), Rule::NotAComponent, "core WebAssembly module");
}

#[test]
fn invalid_component() {
    let mut cut = with_manifest(&echo(), json!({}));
    cut.truncate(cut.len() - 3);
    refused(&cut, Rule::InvalidComponent, "does not validate");
    for (feature, module) in [
        ("threads", "(module (memory 1 1 shared))"),
        ("memory64", "(module (memory i64 1))"),
        ("gc", "(module (type (struct (field i32))))"),
        ("exceptions", "(module (tag))"),
        ("tail calls", "(module (func $f (return_call $f)))"),
        ("several memories", "(module (memory 1) (memory 1))"),
        ("the host's objects", "(module (table 1 externref))"),
        ("relaxed simd", "(module (func (param v128) (result v128) (i32x4.relaxed_trunc_f32x4_s (local.get 0))))"),
    ] {
        let component =
            wat::parse_str(format!("(component (core {}", module.replacen("(module", "module", 1)) + ")").unwrap();
        let refusal = refusal(&component);
        assert_eq!(refusal.rule, Rule::InvalidComponent, "{feature}: {refusal}");
    }
}

#[test]
fn manifest_missing() {
    refused(&echo(), Rule::ManifestMissing, MANIFEST_SECTION);
    // A section of the inner module does not count: only the component's own does.
    let inner = wat::parse_str(r#"(component (core module (@custom "chimera:manifest" "{}")))"#).unwrap();
    refused(&inner, Rule::ManifestMissing, MANIFEST_SECTION);
}

#[test]
fn manifest_duplicate() {
    let wasm = with_manifest(&echo(), json!({}));
    let second = json!(manifest(json!({ "capabilities": { "scratch": true } }))).to_string();
    refused(&with_section(&wasm, MANIFEST_SECTION, second.as_bytes()), Rule::ManifestDuplicate, "2 custom sections");
}

#[test]
fn manifest_invalid() {
    for (payload, evidence) in [
        (&b"not json"[..], "is not JSON"),
        (b"[]", "invalid"),
        (br#"{"manifest":2}"#, "missing field"),
        (&[b' '; 600 * 1024], "bytes"),
    ] {
        refused(&with_section(&echo(), MANIFEST_SECTION, payload), Rule::ManifestInvalid, evidence);
    }
}

#[test]
fn contract_not_served() {
    for (version, minor) in [("0.0.9", "0.0"), ("0.1.1", "0.1"), ("0.3.0", "0.3"), ("1.0.0", "1.0")] {
        let other = format!("package chimera:skill@{version}; interface runner {{ run: func() -> string; }}");
        let wasm = support::dummy_of(&other, &format!("export chimera:skill/runner@{version};"), &[]);
        let refusal = refusal(&with_manifest(&wasm, json!({ "skill": { "contract": minor } })));
        assert_eq!(refusal.rule, Rule::ContractNotServed);
        assert!(refusal.evidence.contains(&format!("chimera:skill/runner@{version}")), "{refusal}");
        assert!(refusal.evidence.contains("0.1.0 and 0.2.0"), "{refusal}");
    }
    let mixed = dummy("import chimera:skill/mcp@0.2.0; export chimera:skill/runner@0.1.0;", &[support::CONTRACT_0_2]);
    let mcp = json!({ "mcp": [{ "slot": "s", "tools": ["t"], "reason": "to see" }] });
    let with_mcp = json!({ "skill": { "effects": "read" }, "capabilities": mcp });
    refused(
        &with_manifest(&mixed, with_mcp),
        Rule::ContractNotServed,
        "built against 0.1.0 and uses `chimera:skill/mcp@0.2.0`",
    );
}

#[test]
fn every_served_contract_passes_with_its_own_shapes() {
    let of = |world: &str| support::dummy_of(support::CONTRACT_0_2, world, &[]);
    let runner = "export chimera:skill/runner@0.2.0;";
    let minor = json!({ "skill": { "contract": "0.2" } });
    let inspection = inspect(&with_manifest(&of(runner), minor.clone())).unwrap();
    assert_eq!(inspection.contract.to_string(), "0.2.0");
    refused(&with_manifest(&of(runner), json!({})), Rule::ContractMismatch, "the bytes say 0.2.0");
    let judge = of("import chimera:skill/progress@0.2.0; export chimera:skill/evaluator@0.2.0;");
    inspect(&with_manifest(&judge, json!({ "skill": { "contract": "0.2", "world": "judge" } }))).unwrap();
    let remembering = of(&format!("import chimera:skill/memory@0.2.0; {runner}"));
    refused(&with_manifest(&remembering, minor.clone()), Rule::ImportUndeclared, "chimera:skill/memory@0.2.0");
    let forgetful = json!({ "skill": { "contract": "0.2" }, "capabilities": { "memory": ["forget"] } });
    inspect(&with_manifest(&remembering, forgetful)).unwrap();
    // The shapes of another version are not its own.
    let old = support::CONTRACT.replace("package chimera:skill@0.1.0", "package chimera:skill@0.2.0");
    refused(&with_manifest(&support::dummy_of(&old, runner, &[]), minor), Rule::ExportMismatch, "limits:record");
    let new = support::CONTRACT_0_2.replace("package chimera:skill@0.2.0", "package chimera:skill@0.1.0");
    refused(&with_manifest(&support::dummy_of(&new, RUNNER, &[]), json!({})), Rule::ExportMismatch, "limits:record");
}

#[test]
fn contract_mismatch() {
    let wasm = with_manifest(&echo(), json!({ "skill": { "contract": "0.7" } }));
    refused(&wasm, Rule::ContractMismatch, "0.7");
}

#[test]
fn import_undeclared() {
    for interface in ["mcp", "memory", "scratch", "trends", "skills", "secrets"] {
        let wasm = dummy(&format!("import chimera:skill/{interface}@0.1.0; {RUNNER}"), &[]);
        refused(&with_manifest(&wasm, json!({})), Rule::ImportUndeclared, interface);
    }
    let free = dummy(&format!("import chimera:skill/progress@0.1.0; {RUNNER}"), &[]);
    inspect(&with_manifest(&free, json!({}))).unwrap();
}

#[test]
fn declared_imports_pass_and_unused_ones_warn() {
    let declared = json!({ "capabilities": { "scratch": true, "memory": ["recall"] } });
    let wasm = dummy(&format!("import chimera:skill/scratch@0.1.0; {RUNNER}"), &[]);
    let inspection = inspect(&with_manifest(&wasm, declared)).unwrap();
    assert_eq!(inspection.warnings.len(), 1);
    assert!(inspection.warnings[0].contains("`memory` is declared but not imported"));
}

#[test]
fn import_refused() {
    for (package, fix) in [("sockets", "--stub-wasi"), ("http", "--disable http")] {
        let more = format!("package wasi:{package}@0.2.6; interface some {{ f: func(); }}");
        let wasm = dummy(&format!("import wasi:{package}/some@0.2.6; {RUNNER}"), &[&more]);
        let refusal = refusal(&with_manifest(&wasm, json!({})));
        assert_eq!(refusal.rule, Rule::ImportRefused);
        assert!(refusal.fix.contains(fix), "{refusal}");
    }
}

#[test]
fn wasi_that_is_linked_passes() {
    for name in [
        "cli/environment",
        "cli/exit",
        "cli/stdin",
        "cli/terminal-stdout",
        "clocks/wall-clock",
        "random/random",
        "io/streams",
        "filesystem/preopens",
    ] {
        let (package, interface) = name.split_once('/').unwrap();
        let more = format!("package wasi:{package}@0.2.3; interface {interface} {{ f: func(); }}");
        let wasm = dummy(&format!("import wasi:{name}@0.2.3; {RUNNER}"), &[&more]);
        inspect(&with_manifest(&wasm, json!({}))).unwrap_or_else(|refusal| panic!("{name}: {refusal}"));
    }
}

#[test]
fn import_unknown() {
    for (import, more) in [
        ("wasi:cli/run@0.2.3", "package wasi:cli@0.2.3; interface run { f: func(); }"),
        ("wasi:cli/exit@0.3.0", "package wasi:cli@0.3.0; interface exit { f: func(); }"),
        ("wasi:nn/graph@0.2.0", "package wasi:nn@0.2.0; interface graph { f: func(); }"),
        ("evil:host/files@0.2.0", "package evil:host@0.2.0; interface files { f: func(); }"),
        ("chimera:skill-admin/keys@0.1.0", "package chimera:skill-admin@0.1.0; interface keys { f: func(); }"),
    ] {
        let wasm = dummy(&format!("import {import}; {RUNNER}"), &[more]);
        refused(&with_manifest(&wasm, json!({})), Rule::ImportUnknown, import);
    }
    // Of the contract's package, but an interface that only guests export.
    let own = dummy(&format!("import chimera:skill/describe@0.1.0; {RUNNER}"), &[]);
    refused(&with_manifest(&own, json!({})), Rule::ImportUnknown, "describe");
    // A bare function, a core module.
    refused(
        &with_manifest(&dummy(&format!("import shell: func(); {RUNNER}"), &[]), json!({})),
        Rule::ImportUnknown,
        "shell",
    );
    let module = wat::parse_str(r#"(component (import "m" (core module)))"#).unwrap();
    refused(&with_manifest(&module, json!({})), Rule::ImportUnknown, "`m`");
}

#[test]
fn export_missing() {
    let nothing = wat::parse_str("(component)").unwrap();
    refused(&with_manifest(&nothing, json!({})), Rule::ExportMissing, "runner");
    let judge = dummy("export chimera:skill/evaluator@0.1.0;", &[]);
    refused(&with_manifest(&judge, json!({})), Rule::ExportMissing, "runner");
    refused(&with_manifest(&echo(), json!({ "skill": { "world": "judge" } })), Rule::ExportMissing, "evaluator");
}

#[test]
fn what_componentize_py_exports_of_its_own_is_admitted() {
    let python = dummy(&format!("{RUNNER} export exports: interface {{ init: func(); }}"), &[]);
    inspect(&with_manifest(&python, json!({}))).unwrap();
    let bare = dummy(&format!("{RUNNER} export exports: func();"), &[]);
    refused(&with_manifest(&bare, json!({})), Rule::ExportUnknown, "`exports`");
}

#[test]
fn export_unknown() {
    let more = "package wasi:http@0.2.3; interface incoming-handler { f: func(); }";
    let server = dummy(&format!("{RUNNER} export wasi:http/incoming-handler@0.2.3;"), &[more]);
    refused(&with_manifest(&server, json!({})), Rule::ExportUnknown, "incoming-handler");
    let both = dummy(&format!("{RUNNER} export chimera:skill/evaluator@0.1.0;"), &[]);
    refused(&with_manifest(&both, json!({})), Rule::ExportUnknown, "evaluator");
    let bare = dummy(&format!("{RUNNER} export run: func();"), &[]);
    refused(&with_manifest(&bare, json!({})), Rule::ExportUnknown, "`run`");
}

#[test]
fn export_mismatch() {
    let bare = wat::parse_str(
        r#"(component
            (core module $m (func (export "f")))
            (core instance $i (instantiate $m))
            (func $f (canon lift (core func $i "f")))
            (instance $r (export "run" (func $f)))
            (export "chimera:skill/runner@0.1.0" (instance $r)))"#,
    )
    .unwrap();
    refused(&with_manifest(&bare, json!({})), Rule::ExportMismatch, "runner@0.1.0#run` is `func()`");
    for (from, to, found) in [
        ("time-left-ms: u64", "time-left-ms: u32", "time-left-ms:u32"),
        ("evidence: list<string>", "evidence: list<json>, attempt: u32", "attempt:u32"),
        ("run: func(task: task)", "run: func(work: task)", "func(work:"),
        ("run: func(task: task)", "start: func(task: task)", "is `missing`"),
        ("permanent,", "permanent, security,", "permanent,security"),
    ] {
        let contract = support::CONTRACT.replacen(from, to, 1);
        assert_ne!(contract, support::CONTRACT, "{from}");
        let wasm = support::dummy_of(&contract, RUNNER, &[]);
        refused(&with_manifest(&wasm, json!({})), Rule::ExportMismatch, found);
    }
}

#[test]
fn a_type_that_grows_without_end_is_written_out_only_in_part() {
    let mut types = String::from("record t0 { a: string }\n");
    for level in 1..14 {
        types.push_str(&format!("record t{level} {{ a: t{}, b: t{} }}\n", level - 1, level - 1));
    }
    let package = format!("package chimera:skill@0.1.0; interface runner {{ {types} run: func(task: t13) -> t13; }}");
    let wasm = support::dummy_of(&package, RUNNER, &[]);
    let refusal = refusal(&with_manifest(&wasm, json!({})));
    assert_eq!(refusal.rule, Rule::ExportMismatch);
    assert!(refusal.evidence.len() <= Refusal::MAX_EVIDENCE);
}

#[test]
fn embedding_replaces_the_manifest_and_nothing_else() {
    let plain = with_section(&echo(), "author", b"kept");
    let once = with_manifest(&plain, json!({ "skill": { "summary": "First." } }));
    let twice = embed_manifest(&once, &manifest(json!({ "skill": { "summary": "Second." } })));
    let inspection = inspect(&twice).unwrap();
    assert_eq!(inspection.manifest.skill.summary, "Second.");
    assert_eq!(embed_manifest(&twice, &manifest(json!({ "skill": { "summary": "First." } }))), once);
    assert!(once.starts_with(&plain), "what was there before is still there, in its place");
    assert_eq!(survey(&plain).unwrap().imports, inspection.survey.imports);
}

#[test]
fn a_refusal_reads_as_a_sentence_with_a_fix() {
    let told = refusal(&echo()).to_string();
    assert_eq!(
        told,
        "refused by rule `manifest-missing`: the component has no custom section `chimera:manifest`. To fix it: build \
         with `chimera skill build`, which embeds skill.toml"
    );
    let mut codes: Vec<&str> = Rule::ALL.iter().map(|rule| rule.code()).collect();
    codes.sort_unstable();
    codes.dedup();
    assert_eq!(codes.len(), Rule::ALL.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        prop_assert!(inspect(&bytes).is_err());
        let with_header = [b"\0asm\x0d\0\x01\0", bytes.as_slice()].concat();
        prop_assert!(inspect(&with_header).is_err());
        let embedded = embed_manifest(&bytes, &manifest(json!({})));
        prop_assert!(inspect(&embedded).is_err());
    }

    #[test]
    fn cut_and_damaged_components_never_panic(at in any::<prop::sample::Index>(), to in any::<u8>(), cut in any::<bool>()) {
        let mut wasm = sample();
        let place = at.index(wasm.len());
        if cut {
            wasm.truncate(place);
            prop_assert!(inspect(&wasm).is_err());
        } else {
            wasm[place] = to;
            let _ = inspect(&wasm);
            let _ = embed_manifest(&wasm, &manifest(json!({})));
        }
    }
}

fn sample() -> Vec<u8> {
    static SAMPLE: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    SAMPLE
        .get_or_init(|| with_manifest(&support::reads_scratch(), json!({ "capabilities": { "scratch": true } })))
        .clone()
}
