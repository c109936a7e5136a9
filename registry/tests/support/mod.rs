//! Makes components for the tests: of WAT and WIT, so that no prebuilt file is needed.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use chimera_core::manifest::Manifest;
use serde_json::{Value, json};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::{LiftLowerAbi, ManglingAndAbi, Resolve, WorldId};

/// The text of the contract.
pub const CONTRACT: &str = include_str!("../../../wit/chimera-skill-0.1.0/skill.wit");
/// The text of its next version.
pub const CONTRACT_0_2: &str = include_str!("../../../wit/chimera-skill-0.2.0/skill.wit");

/// The contract, and what other packages a test needs, with a world of this body.
fn resolve(contract: &str, world: &str, more: &[&str]) -> (Resolve, WorldId) {
    let mut resolve = Resolve::default();
    resolve.push_str("skill.wit", contract).unwrap();
    for (number, package) in more.iter().enumerate() {
        resolve.push_str(format!("more{number}.wit"), package).unwrap();
    }
    let package = resolve.push_str("case.wit", &format!("package test:made;\nworld made {{ {world} }}")).unwrap();
    let world = resolve.select_world(&[package], Some("made")).unwrap();
    (resolve, world)
}

fn encode(mut module: Vec<u8>, resolve: &Resolve, world: WorldId) -> Vec<u8> {
    embed_component_metadata(&mut module, resolve, world, StringEncoding::UTF8, false).unwrap();
    ComponentEncoder::default().module(&module).unwrap().validate(true).encode().unwrap()
}

/// A component of that world in which every function traps.
pub fn dummy(world: &str, more: &[&str]) -> Vec<u8> {
    dummy_of(CONTRACT, world, more)
}

/// The same, built against another text of the contract.
pub fn dummy_of(contract: &str, world: &str, more: &[&str]) -> Vec<u8> {
    let (resolve, world) = resolve(contract, world, more);
    let module = wit_component::dummy_module(&resolve, world, ManglingAndAbi::Legacy(LiftLowerAbi::Sync));
    encode(module, &resolve, world)
}

/// A component of that world with this core module.
pub fn of_wat(world: &str, module: &str) -> Vec<u8> {
    let (resolve, world) = resolve(CONTRACT, world, &[]);
    encode(wat::parse_str(module).unwrap(), &resolve, world)
}

const RUNNER: &str = "export chimera:skill/runner@0.1.0;";

/// Grows memory as it is asked; nothing is freed, every call is a fresh instance.
const REALLOC: &str = r#"
    (memory (export "memory") 2)
    (global $top (mut i32) (i32.const 4096))
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
        (local $at i32)
        (local.set $at (i32.and (i32.add (global.get $top) (i32.const 7)) (i32.const -8)))
        (global.set $top (i32.add (local.get $at) (local.get 3)))
        (local.get $at))"#;

/// Returns its input as its output, with confidence 0.9.
pub fn echo() -> Vec<u8> {
    of_wat(
        RUNNER,
        &format!(
            r#"(module {REALLOC}
            (func (export "chimera:skill/runner@0.1.0#run")
                (param i32 i32 i32 i32 i32) (param $input i32) (param $length i32) (param i64) (result i32)
                (i32.store (i32.const 24) (local.get $input))
                (i32.store (i32.const 28) (local.get $length))
                (f64.store (i32.const 32) (f64.const 0.9))
                (i32.const 16)))"#
        ),
    )
}

/// Computes until it is stopped.
pub fn spins() -> Vec<u8> {
    of_wat(
        RUNNER,
        &format!(
            r#"(module {REALLOC}
            (func (export "chimera:skill/runner@0.1.0#run")
                (param i32 i32 i32 i32 i32) (param i32 i32) (param i64) (result i32)
                (loop $on (br $on)) unreachable))"#
        ),
    )
}

/// Returns what is under the key `k` in scratch, or the failure `denied`/`no-scratch`.
pub fn reads_scratch() -> Vec<u8> {
    of_wat(
        &format!("import chimera:skill/scratch@0.1.0; {RUNNER}"),
        &format!(
            r#"(module
            (import "chimera:skill/scratch@0.1.0" "get" (func $get (param i32 i32 i32)))
            {REALLOC}
            (data (i32.const 8) "k") (data (i32.const 200) "no-scratch")
            (func (export "chimera:skill/runner@0.1.0#run")
                (param i32 i32 i32 i32 i32) (param i32 i32) (param i64) (result i32)
                (call $get (i32.const 8) (i32.const 1) (i32.const 104))
                (if (i32.load8_u (i32.const 104)) (then
                    (i32.store8 (i32.const 16) (i32.const 1))
                    (i32.store8 (i32.const 24) (i32.const 3))
                    (i32.store (i32.const 28) (i32.const 200)) (i32.store (i32.const 32) (i32.const 10))
                    (i32.store (i32.const 36) (i32.const 200)) (i32.store (i32.const 40) (i32.const 10))
                    (return (i32.const 16))))
                (i32.store (i32.const 24) (i32.load (i32.const 116)))
                (i32.store (i32.const 28) (i32.load (i32.const 120)))
                (f64.store (i32.const 32) (f64.const 0.5))
                (i32.const 16)))"#
        ),
    )
}

/// A judge that approves everything with confidence 0.8.
pub fn approving_judge() -> Vec<u8> {
    of_wat(
        "export chimera:skill/evaluator@0.1.0;",
        &format!(
            r#"(module {REALLOC}
            (data (i32.const 200) "fine")
            (func (export "chimera:skill/evaluator@0.1.0#evaluate")
                (param i32 i32 i32 i32 i32 i32 i32 i32 f64 i32 i32) (result i32)
                (f64.store (i32.const 32) (f64.const 0.8))
                (i32.store (i32.const 40) (i32.const 200)) (i32.store (i32.const 44) (i32.const 4))
                (i32.const 16)))"#
        ),
    )
}

/// A manifest of `test/made` 0.1.0 with these fields put over it.
pub fn manifest(over: Value) -> Manifest {
    let mut value = json!({
        "manifest": 1,
        "skill": { "name": "test/made", "version": "0.1.0", "summary": "Made by a test.", "license": "MIT", "effects": "none" },
        "io": { "input": {}, "output": {} },
    });
    merge(&mut value, over);
    Manifest::from_value(value).unwrap()
}

fn merge(value: &mut Value, over: Value) {
    match (value, over) {
        (Value::Object(value), Value::Object(over)) => {
            for (key, item) in over {
                merge(value.entry(key).or_insert(Value::Null), item);
            }
        }
        (value, over) => *value = over,
    }
}

/// The component with that manifest inside.
pub fn with_manifest(component: &[u8], over: Value) -> Vec<u8> {
    chimera_registry::embed_manifest(component, &manifest(over))
}

/// The component with a raw custom section at its end.
pub fn with_section(component: &[u8], name: &str, payload: &[u8]) -> Vec<u8> {
    let leb = |mut value: usize| {
        let mut out = Vec::new();
        loop {
            let byte = (value & 0x7f) as u8;
            value >>= 7;
            out.push(if value == 0 { byte } else { byte | 0x80 });
            if value == 0 {
                return out;
            }
        }
    };
    let mut body = leb(name.len());
    body.extend_from_slice(name.as_bytes());
    body.extend_from_slice(payload);
    [component, &[0], &leb(body.len()), &body].concat()
}
