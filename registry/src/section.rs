//! The custom section that carries a manifest inside a component.
//!
//! It walks the top-level sections of a component's bytes and nothing deeper, and never validates them: that is
//! [`crate::inspect`]'s. Called by `chimera skill build`.

use chimera_core::manifest::{MANIFEST_SECTION, Manifest};
use serde_json::json;
use std::ops::Range;

/// Magic number and version of a component, or of a module.
const HEADER: usize = 8;
const CUSTOM: u8 = 0;

/// The component with this manifest inside, in place of any manifest it had before.
///
/// Bytes that cannot be read as sections are kept as they are; admission will refuse them.
pub fn embed_manifest(component: &[u8], manifest: &Manifest) -> Vec<u8> {
    let payload = json!(manifest).to_string().into_bytes();
    let mut out = Vec::with_capacity(component.len() + payload.len() + 64);
    let header = component.len().min(HEADER);
    out.extend_from_slice(&component[..header]);
    let mut at = header;
    while at < component.len() {
        let Some(section) = section_at(component, at) else {
            out.extend_from_slice(&component[at..]);
            break;
        };
        if !is_manifest(component, &section) {
            out.extend_from_slice(&component[at..section.body.end]);
        }
        at = section.body.end;
    }
    append_custom(&mut out, MANIFEST_SECTION, &payload);
    out
}

struct Section {
    id: u8,
    body: Range<usize>,
}

fn section_at(bytes: &[u8], at: usize) -> Option<Section> {
    let id = *bytes.get(at)?;
    let (size, start) = read_leb(bytes, at + 1)?;
    let end = start.checked_add(size)?;
    (end <= bytes.len()).then_some(Section { id, body: start..end })
}

fn is_manifest(bytes: &[u8], section: &Section) -> bool {
    let body = &bytes[section.body.clone()];
    section.id == CUSTOM
        && read_leb(body, 0).is_some_and(|(length, start)| {
            start.checked_add(length).and_then(|end| body.get(start..end)) == Some(MANIFEST_SECTION.as_bytes())
        })
}

/// Reads an unsigned LEB128 of at most 32 bits; returns the value and the place after it.
fn read_leb(bytes: &[u8], mut at: usize) -> Option<(usize, usize)> {
    let mut value: u64 = 0;
    for shift in (0..35).step_by(7) {
        let byte = *bytes.get(at)?;
        at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((usize::try_from(value).ok()?, at));
        }
    }
    None
}

fn write_leb(out: &mut Vec<u8>, mut value: usize) {
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

fn append_custom(out: &mut Vec<u8>, name: &str, payload: &[u8]) {
    let mut body = Vec::with_capacity(name.len() + payload.len() + 5);
    write_leb(&mut body, name.len());
    body.extend_from_slice(name.as_bytes());
    body.extend_from_slice(payload);
    out.push(CUSTOM);
    write_leb(out, body.len());
    out.extend_from_slice(&body);
}
