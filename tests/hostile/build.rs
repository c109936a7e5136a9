//! Turns WebAssembly text into a component with a manifest, as a stranger would hand it in.
//!
//! A file holds the fields of a core module, which gets a memory, an allocator and some helpers unless it brings its own;
//! or a whole `(module …)` or `(component …)`, which is left as it is. Nothing is checked beyond what building needs.
//! Called for every attack.

use anyhow::{Context, Result};
use chimera_core::manifest::MANIFEST_SECTION;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// Memory, unless the guest has its own. Addresses below 2048 belong to the helpers, those from 65536 to the allocator.
const MEMORY: &str = r#"(memory (export "memory") 4)"#;
/// A bump allocator; `$ok` and `$fine` make outcomes; `$pass_on` returns a host's failure as the guest's own.
const HELPERS: &str = r#"
(data (i32.const 1100) "{}")
(global $heap (mut i32) (i32.const 65536))
(func $alloc (param i32 i32 i32 i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
    (global.set $heap (i32.add (local.get $at) (local.get 3)))
    (block $fits
        (loop $more
            (br_if $fits (i32.le_u (global.get $heap) (i32.mul (memory.size) (i32.const 65536))))
            (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))
            unreachable))
    (local.get $at))
(func $ok (param $ptr i32) (param $len i32) (param $confidence f64) (result i32)
    (i32.store8 (i32.const 1024) (i32.const 0))
    (i32.store (i32.const 1032) (local.get $ptr))
    (i32.store (i32.const 1036) (local.get $len))
    (f64.store (i32.const 1040) (local.get $confidence))
    (i32.store (i32.const 1048) (i32.const 0))
    (i32.store (i32.const 1052) (i32.const 0))
    (i32.const 1024))
(func $fine (result i32) (call $ok (i32.const 1100) (i32.const 2) (f64.const 1)))
(func $pass_on (param $at i32) (result i32)
    (if (result i32) (i32.load8_u (local.get $at)) (then (local.get $at)) (else (call $fine))))
"#;
const ALLOCATOR: &str = r#"(export "cabi_realloc" (func $alloc))"#;
/// What `(run …)` stands for.
const RUN: &str = r#"(func (export "chimera:skill/runner@0.1.0#run")
    (param i32 i32 i32 i32 i32) (param $input i32) (param $input_len i32) (param $left i64) (result i32)"#;

/// The folder of the attacks.
pub fn folder() -> PathBuf {
    chimera_tests::root().join("tests/hostile")
}

/// The bytes of an attack that is written as text, without its manifest.
///
/// # Errors
/// When the text cannot be read or made into a component.
pub fn component(text: &str) -> Result<Vec<u8>> {
    let fields = fields(text);
    let is_whole = fields.first().is_some_and(|first| first.starts_with("(component") || first.starts_with("(module"));
    if is_whole {
        return Ok(wat::parse_str(text)?);
    }
    guest(&wat::parse_str(module(&fields))?)
}

/// The text of a whole module around these fields.
pub fn module_of(text: &str) -> String {
    module(&fields(text))
}

/// A component of the contract's world, of a core module.
///
/// # Errors
/// When the module does not fit the world.
pub fn guest(module: &[u8]) -> Result<Vec<u8>> {
    let mut core = module.to_vec();
    let mut resolve = Resolve::default();
    resolve.push_path(chimera_tests::root().join("wit/chimera-skill-0.1.0"))?;
    let wit = std::fs::read_to_string(folder().join("world.wit"))?;
    let package = resolve.push_str(Path::new("world.wit"), &wit)?;
    let world = resolve.select_world(&[package], Some("guest"))?;
    embed_component_metadata(&mut core, &resolve, world, StringEncoding::UTF8, false)?;
    ComponentEncoder::default().module(&core)?.validate(false).encode().context("making a component of it")
}

/// A whole module around these fields.
fn module(fields: &[&str]) -> String {
    let starts = |prefix: &str| fields.iter().any(|field| field.starts_with(prefix));
    let has = |what: &str| fields.iter().any(|field| field.contains(what));
    let (imports, rest): (Vec<&str>, Vec<&str>) = fields.iter().partition(|field| field.starts_with("(import"));
    // Types first: a guest that is lengthened counts on their numbers.
    let (types, rest): (Vec<&str>, Vec<&str>) = rest.into_iter().partition(|field| field.starts_with("(type"));
    let mut module = format!("(module {} {}", types.join("\n"), imports.join("\n"));
    if !starts("(memory") {
        module.push_str(MEMORY);
    }
    module.push_str(HELPERS);
    if !has("\"cabi_realloc\"") {
        module.push_str(ALLOCATOR);
    }
    for field in rest {
        let expanded = field.strip_prefix("(run").map_or_else(|| field.to_owned(), |body| format!("{RUN}{body}"));
        // Writing to a string cannot fail.
        let _ = writeln!(module, "{expanded}");
    }
    module.push(')');
    module
}

/// The top-level forms of a text, without the comments between them.
fn fields(text: &str) -> Vec<&str> {
    let (mut found, mut depth, mut start) = (Vec::new(), 0_u32, 0);
    let mut rest = text.char_indices();
    let (mut is_text, mut is_comment) = (false, false);
    while let Some((at, c)) = rest.next() {
        match c {
            '\n' => is_comment = false,
            _ if is_comment => {}
            '\\' if is_text => drop(rest.next()),
            '"' => is_text = !is_text,
            _ if is_text => {}
            ';' => is_comment = true,
            '(' => {
                if depth == 0 {
                    start = at;
                }
                depth += 1;
            }
            ')' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    found.push(&text[start..=at]);
                }
            }
            _ => {}
        }
    }
    found
}

/// A valid manifest of a skill of this name.
pub fn manifest(name: &str, capabilities: &Value, limits: &Value) -> Value {
    json!({
        "manifest": 1,
        "skill": {
            "name": format!("hostile/{name}"), "version": "0.1.0", "summary": "An attack.", "license": "Apache-2.0",
            "effects": "write", "world": "skill", "contract": "0.1",
        },
        "io": { "input": {}, "output": {} },
        "capabilities": capabilities,
        "limits": limits,
    })
}

/// Appends a custom section with the manifest.
pub fn embed(component: &mut Vec<u8>, manifest: &[u8]) {
    custom_section(component, MANIFEST_SECTION, manifest);
}

/// Appends a custom section.
pub fn custom_section(out: &mut Vec<u8>, name: &str, payload: &[u8]) {
    let mut body = Vec::with_capacity(name.len() + payload.len() + 5);
    leb(&mut body, name.len());
    body.extend_from_slice(name.as_bytes());
    body.extend_from_slice(payload);
    section(out, 0, &body);
}

/// Appends a section.
pub fn section(out: &mut Vec<u8>, id: u8, body: &[u8]) {
    out.push(id);
    leb(out, body.len());
    out.extend_from_slice(body);
}

/// Appends an unsigned LEB128.
pub fn leb(out: &mut Vec<u8>, mut value: usize) {
    loop {
        let byte = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            out.push(byte);
            return;
        }
        out.push(byte | 0x80);
    }
}
