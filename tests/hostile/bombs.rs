//! Attacks that would be too large for a file: what is small to hand in and large to look at, compile or keep.
//!
//! Each function makes the bytes of one attack, at full size with `cargo xtask test --full` and at a tenth of it else.
//! Nothing here is valid by accident: what is to reach the compiler passes admission. Called by the table.

use super::build::{self, custom_section, guest, leb, section};
use anyhow::{Context, Result};
use chimera_tests::is_full;
use std::fmt::Write as _;

/// Section ids of a core module.
const TYPE: u8 = 1;
const FUNCTION: u8 = 3;
const ELEMENT: u8 = 9;
const CODE: u8 = 10;
const DATA: u8 = 11;
/// Section ids of a component.
const COMPONENT: u8 = 4;
const INSTANCE: u8 = 5;
/// Magic number and version.
const HEADER: usize = 8;
/// `(func)`, first in every module here, so that its index is zero.
const NO_TYPE: &[u8] = &[0x60, 0, 0];

fn scaled(full: usize) -> usize {
    if is_full() { full } else { full / 10 }
}

/// The module of a skill that does nothing, with these fields.
fn plain(fields: &str) -> String {
    build::module_of(&format!("(type (func)) {fields} (run (call $fine))"))
}

/// The component of a skill that does nothing, with these fields.
fn plain_guest(fields: &str) -> Result<Vec<u8>> {
    guest(&wat::parse_str(plain(fields))?)
}

fn read_leb(bytes: &[u8], at: &mut usize) -> Option<usize> {
    let (mut value, mut shift) = (0_usize, 0);
    loop {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
}

/// The sections of a module or component: ids and bodies.
fn sections(bytes: &[u8]) -> Option<Vec<(u8, &[u8])>> {
    let (mut found, mut at) = (Vec::new(), HEADER);
    while at < bytes.len() {
        let id = bytes[at];
        at += 1;
        let size = read_leb(bytes, &mut at)?;
        found.push((id, bytes.get(at..at + size)?));
        at += size;
    }
    Some(found)
}

/// The module with `count` more items at the end of the list that is this section.
fn lengthened(module: &[u8], id: u8, count: usize, items: &[u8]) -> Result<Vec<u8>> {
    let mut out = module[..HEADER].to_vec();
    for (each, body) in sections(module).context("no sections")? {
        if each == id {
            let mut at = 0;
            let before = read_leb(body, &mut at).context("no list")?;
            let mut longer = Vec::with_capacity(body.len() + items.len() + 5);
            leb(&mut longer, before + count);
            longer.extend_from_slice(&body[at..]);
            longer.extend_from_slice(items);
            section(&mut out, id, &longer);
        } else {
            section(&mut out, each, body);
        }
    }
    Ok(out)
}

/// A skill that does nothing, with these functions besides, none of which is ever called.
fn with_functions(bodies: &[Vec<u8>], repeated: usize) -> Result<Vec<u8>> {
    let count = bodies.len() * repeated;
    let mut code = Vec::new();
    for _ in 0..repeated {
        for body in bodies {
            leb(&mut code, body.len());
            code.extend_from_slice(body);
        }
    }
    let module = wat::parse_str(plain(""))?;
    let module = lengthened(&module, FUNCTION, count, &vec![0; count])?;
    guest(&lengthened(&module, CODE, count, &code)?)
}

/// One function of almost the largest size that there is: blocks inside blocks, and jumps to all of them again and again.
pub fn one_function() -> Result<Vec<u8>> {
    let (depth, size) = (500, if is_full() { 7_000_000 } else { 20_000 });
    let mut body = vec![0];
    body.extend(std::iter::repeat_n([0x02, 0x40], depth).flatten());
    let mut jump = vec![0x02, 0x40, 0x41, 0, 0x28, 2, 0, 0x0e];
    leb(&mut jump, depth);
    for target in 0..=depth {
        leb(&mut jump, target);
    }
    jump.push(0x0b);
    while body.len() < size {
        body.extend_from_slice(&jump);
    }
    body.extend(std::iter::repeat_n(0x0b, depth + 1));
    with_functions(&[body], 1)
}

/// Functions with as many locals as there may be, all of them alive from one end to the other.
pub fn locals() -> Result<Vec<u8>> {
    let count = 49_000;
    let mut body = vec![1];
    leb(&mut body, count);
    body.push(0x7e);
    for local in 0..count {
        body.extend([0x41, 0, 0x29, 3, 0, 0x21]);
        leb(&mut body, local);
    }
    for local in 0..count {
        body.extend([0x41, 0, 0x20]);
        leb(&mut body, local);
        body.extend([0x37, 3, 0]);
    }
    body.push(0x0b);
    with_functions(&[body], if is_full() { 8 } else { 1 })
}

/// An honest skill, only large: it keeps the compiler busy for some seconds. Each number is another one.
pub fn large(number: usize) -> Result<Vec<u8>> {
    // One local; 40 times: local = local * 3 + memory[local].
    let mut body = vec![1, 1, 0x7f];
    for _ in 0..40 {
        body.extend([0x20, 0, 0x41, 3, 0x6c, 0x20, 0, 0x28, 2, 0, 0x6a, 0x21, 0]);
    }
    body.push(0x0b);
    with_functions(&[body], 4_000 + number)
}

/// A million functions that do nothing.
pub fn functions() -> Result<Vec<u8>> {
    with_functions(&[vec![0, 0x0b]], scaled(990_000))
}

/// A segment of data as large as a component may be, for a memory that it fits into.
pub fn data() -> Result<Vec<u8>> {
    let size = scaled(30 << 20);
    let module = wat::parse_str(plain(r#"(memory (export "memory") 500)"#))?;
    let mut segment = vec![0, 0x41];
    signed_leb(&mut segment, 4 << 16);
    segment.push(0x0b);
    leb(&mut segment, size);
    segment.resize(segment.len() + size, 0x5a);
    guest(&lengthened(&module, DATA, 1, &segment)?)
}

/// Almost as many segments of data as there may be, each for a page of its own, so that an image of them is large.
pub fn data_segments() -> Result<Vec<u8>> {
    let count: i64 = if is_full() { 90_000 } else { 2_000 };
    let module = wat::parse_str(plain(r#"(memory (export "memory") 900)"#))?;
    let mut segments = Vec::new();
    for number in 0..count {
        segments.extend([0, 0x41]);
        signed_leb(&mut segments, (number % 800 + 4) * 65_536 + number / 800);
        segments.extend([0x0b, 1, 0x5a]);
    }
    guest(&lengthened(&module, DATA, usize::try_from(count)?, &segments)?)
}

fn signed_leb(out: &mut Vec<u8>, mut value: i64) {
    loop {
        let byte = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 && byte & 0x40 == 0 {
            out.push(byte);
            return;
        }
        out.push(byte | 0x80);
    }
}

/// A segment of elements with millions of functions.
pub fn elements() -> Result<Vec<u8>> {
    let count = scaled(9_000_000);
    let module = wat::parse_str(plain("(table 1 funcref) (elem (i32.const 0) $fine)"))?;
    // Passive, of functions, by index.
    let mut segment = vec![1, 0];
    leb(&mut segment, count);
    segment.resize(segment.len() + count, 0);
    guest(&lengthened(&module, ELEMENT, 1, &segment)?)
}

/// Almost a million types.
pub fn types() -> Result<Vec<u8>> {
    let count = scaled(990_000);
    let module = wat::parse_str(plain(""))?;
    guest(&lengthened(&module, TYPE, count, &NO_TYPE.repeat(count))?)
}

/// A hundred thousand globals, and as many exports with long names: more than an instance has room for.
pub fn globals() -> Result<Vec<u8>> {
    let mut fields = String::new();
    for number in 0..scaled(500_000) {
        // Writing to a string cannot fail.
        let _ = write!(fields, "(global (mut i64) (i64.const {number}))");
    }
    plain_guest(&fields)
}

/// A value type that unfolds to 2^50 leaves.
pub fn type_size() -> Result<Vec<u8>> {
    let mut text = "(component (type $t0 (tuple u8 u8))".to_owned();
    for number in 1..50 {
        let _ = write!(text, "(type $t{number} (tuple $t{0} $t{0}))", number - 1);
    }
    text.push(')');
    Ok(wat::parse_str(text)?)
}

/// A value type of a hundred thousand lists inside each other.
pub fn type_depth() -> Result<Vec<u8>> {
    let mut text = "(component (type $t0 (list u8))".to_owned();
    for number in 1..scaled(1_000_000) {
        let _ = write!(text, "(type $t{number} (list $t{}))", number - 1);
    }
    text.push(')');
    Ok(wat::parse_str(text)?)
}

/// A thousand components inside each other.
pub fn component_depth() -> Result<Vec<u8>> {
    let mut inner = wat::parse_str("(component)")?;
    for _ in 0..1_000 {
        let mut outer = inner[..HEADER].to_vec();
        section(&mut outer, COMPONENT, &inner);
        inner = outer;
    }
    Ok(inner)
}

/// The skill that does nothing, with a component beside it that is instantiated and may contain anything.
fn beside(text: &str) -> Result<Vec<u8>> {
    let mut bytes = plain_guest("")?;
    let index = sections(&bytes).context("no sections")?.iter().filter(|(id, _)| *id == COMPONENT).count();
    section(&mut bytes, COMPONENT, &wat::parse_str(text)?);
    let mut instances = vec![1, 0];
    leb(&mut instances, index);
    instances.push(0);
    section(&mut bytes, INSTANCE, &instances);
    Ok(bytes)
}

/// Components that each instantiate the one before them twice: 2^`levels` instances of a module.
fn doubling(levels: usize) -> String {
    let mut text = "(component $all (component $c0 (core module $m) (core instance (instantiate $m)))".to_owned();
    for number in 1..=levels {
        let _ = write!(
            text,
            "(component $c{number} (alias outer $all $c{0} (component $c)) (instance (instantiate $c)) (instance (instantiate $c)))",
            number - 1
        );
    }
    let _ = write!(text, "(instance (instantiate $c{levels})))");
    text
}

/// A million instances in a kilobyte.
pub fn instances_doubled() -> Result<Vec<u8>> {
    beside(&doubling(if is_full() { 20 } else { 12 }))
}

/// 64 instances: few enough to be compiled, more than a component gets.
pub fn instances_some() -> Result<Vec<u8>> {
    beside(&doubling(6))
}

/// A thousand instances of one module, side by side.
pub fn instances_many() -> Result<Vec<u8>> {
    beside(&format!("(component (core module $m) {})", "(core instance (instantiate $m))".repeat(1_000)))
}

/// Eight modules with memories that are each within the limit.
pub fn memories() -> Result<Vec<u8>> {
    beside(&format!("(component (core module $m (memory 400)) {})", "(core instance (instantiate $m))".repeat(6)))
}

/// More memories than a component gets.
pub fn memories_many() -> Result<Vec<u8>> {
    beside(&format!("(component (core module $m (memory 1)) {})", "(core instance (instantiate $m))".repeat(30)))
}

/// Two components of which one hands the other a string in another encoding, and that gives an address beyond its memory
/// to write it to.
pub fn transcoding() -> Result<Vec<u8>> {
    beside(TRANSCODING)
}

const TRANSCODING: &str = r#"(component
    (component $taker
        (core module $m
            (memory (export "memory") 1)
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 65528))
            (func (export "take") (param i32 i32)))
        (core instance $i (instantiate $m))
        (func (export "take") (param "text" string)
            (canon lift (core func $i "take") (memory (core memory $i "memory")) (realloc (core func $i "realloc")) string-encoding=utf8)))
    (component $giver
        (import "take" (func $take (param "text" string)))
        (core module $memory (memory (export "memory") 1))
        (core instance $memory (instantiate $memory))
        (core func $take (canon lower (func $take) (memory (core memory $memory "memory")) string-encoding=utf16))
        (core module $m
            (import "host" "take" (func $take (param i32 i32)))
            (func $start (call $take (i32.const 0) (i32.const 20000)))
            (start $start))
        (core instance (instantiate $m (with "host" (instance (export "take" (func $take)))))))
    (instance $taker (instantiate $taker))
    (instance (instantiate $giver (with "take" (func $taker "take")))))"#;

/// Thousands of imports.
pub fn imports() -> Result<Vec<u8>> {
    let mut text = "(component".to_owned();
    for number in 0..4_000 {
        let _ = write!(text, "(import \"acme:private/door-a{number}@1.0.0\" (instance))");
    }
    text.push(')');
    Ok(wat::parse_str(text)?)
}

/// Thousands of exports.
pub fn exports() -> Result<Vec<u8>> {
    let mut text = "(component (instance $i)".to_owned();
    for number in 0..4_000 {
        let _ = write!(text, "(export \"acme:private/door-a{number}@1.0.0\" (instance $i))");
    }
    text.push(')');
    Ok(wat::parse_str(text)?)
}

/// An import with a name of 90 KB.
pub fn long_name() -> Result<Vec<u8>> {
    Ok(wat::parse_str(format!("(component (import \"acme:private/{}@1.0.0\" (instance)))", "a".repeat(90_000)))?)
}

/// Two hundred thousand custom sections, among them broken ones of names that tools read.
pub fn custom_sections() -> Result<Vec<u8>> {
    let mut bytes = plain_guest("")?;
    for _ in 0..scaled(200_000) {
        custom_section(&mut bytes, "component-name", &[0, 0xff, 0xff, 0xff, 0xff, 0x0f]);
        custom_section(&mut bytes, "producers", &[0xff, 0xff, 0xff, 0xff, 0x0f]);
        custom_section(&mut bytes, ".debug_info", b"x");
    }
    Ok(bytes)
}

fn whole(manifests: &[&[u8]]) -> Result<Vec<u8>> {
    let mut bytes = plain_guest("")?;
    manifests.iter().for_each(|manifest| build::embed(&mut bytes, manifest));
    Ok(bytes)
}

fn good_manifest(name: &str) -> String {
    build::manifest(name, &serde_json::json!({}), &serde_json::json!({})).to_string()
}

/// Two manifests: one to be looked at, one to be run by.
pub fn manifest_twice() -> Result<Vec<u8>> {
    whole(&[good_manifest("manifest-twice").as_bytes(), good_manifest("harmless").as_bytes()])
}

/// No manifest.
pub fn manifest_missing() -> Result<Vec<u8>> {
    whole(&[])
}

/// A manifest inside a component inside, where nobody may find it.
pub fn manifest_inside() -> Result<Vec<u8>> {
    let mut inner = wat::parse_str("(component)")?;
    build::embed(&mut inner, good_manifest("manifest-inside").as_bytes());
    let mut bytes = plain_guest("")?;
    section(&mut bytes, COMPONENT, &inner);
    Ok(bytes)
}

/// A manifest of a megabyte.
pub fn manifest_oversize() -> Result<Vec<u8>> {
    let padded = format!("{}{}", good_manifest("manifest-oversize"), " ".repeat(1 << 20));
    whole(&[padded.as_bytes()])
}

/// A manifest that is no text.
pub fn manifest_not_utf8() -> Result<Vec<u8>> {
    whole(&[b"\xff\xfe{\"manifest\":1}"])
}

/// A manifest that is no JSON.
pub fn manifest_not_json() -> Result<Vec<u8>> {
    whole(&[b"manifest = 1"])
}

/// A manifest of arrays inside each other.
pub fn manifest_deep() -> Result<Vec<u8>> {
    let depth = 200_000;
    whole(&[format!("{}{}", "[".repeat(depth), "]".repeat(depth)).as_bytes()])
}

/// A manifest that asks for more fuel than there is.
pub fn manifest_greedy() -> Result<Vec<u8>> {
    let limits = serde_json::json!({ "fuel": u64::MAX, "memory_mb": u32::MAX });
    whole(&[build::manifest("manifest-greedy", &serde_json::json!({}), &limits).to_string().as_bytes()])
}

/// A manifest whose name leaves the folder that it might be kept in.
pub fn manifest_path() -> Result<Vec<u8>> {
    whole(&[good_manifest("../../../etc/cron.d/x").as_bytes()])
}

/// More bytes than are admitted.
pub fn too_big() -> Result<Vec<u8>> {
    let mut bytes = plain_guest("")?;
    custom_section(&mut bytes, "padding", &vec![0; 33 << 20]);
    Ok(bytes)
}

/// Half a component.
pub fn truncated() -> Result<Vec<u8>> {
    let mut bytes = plain_guest("")?;
    bytes.truncate(bytes.len() / 2);
    Ok(bytes)
}

/// A component with a section that says it is four gigabytes long.
pub fn lying_section() -> Result<Vec<u8>> {
    let mut bytes = plain_guest("")?;
    bytes.extend([1, 0xff, 0xff, 0xff, 0xff, 0x0f]);
    Ok(bytes)
}

/// Nothing at all.
pub fn empty() -> Result<Vec<u8>> {
    Ok(Vec::new())
}

/// A machine's own program instead of a component, as compiled code might be handed in.
pub fn elf() -> Result<Vec<u8>> {
    Ok(std::fs::read(chimera_tests::binary())?.into_iter().take(1 << 20).collect())
}
