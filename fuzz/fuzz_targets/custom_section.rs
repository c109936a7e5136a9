//! The custom sections of a stranger's component, in any number and order: a manifest is read only where there is exactly
//! one, and embedding one leaves exactly that one.
//! Run by `cargo fuzz run custom_section`.

#![no_main]

use chimera_core::manifest::{MANIFEST_SECTION, Manifest};
use chimera_registry::{Rule, embed_manifest, inspect};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

/// The beginning of a component.
const HEADER: &[u8] = b"\0asm\x0d\0\x01\0";

#[derive(Debug, Arbitrary)]
enum Section {
    /// A section of the manifest's name.
    Manifest(Vec<u8>),
    /// The same with the manifest of a real skill.
    Real,
    /// A section of another name.
    Other { name: String, content: Vec<u8> },
    /// Anything at all.
    Raw(Vec<u8>),
}

static REAL: LazyLock<Manifest> =
    LazyLock::new(|| Manifest::from_json(include_bytes!("../seeds/manifest/every-field.json")).expect("a manifest"));

fn leb(mut value: usize, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn custom(name: &str, content: &[u8], out: &mut Vec<u8>) {
    let mut body = Vec::new();
    leb(name.len(), &mut body);
    body.extend(name.as_bytes());
    body.extend(content);
    out.push(0);
    leb(body.len(), out);
    out.extend(body);
}

fuzz_target!(|sections: Vec<Section>| {
    let mut wasm = HEADER.to_vec();
    let (mut manifests, mut is_whole) = (0, true);
    for section in &sections {
        match section {
            Section::Manifest(content) => custom(MANIFEST_SECTION, content, &mut wasm),
            Section::Real => {
                custom(MANIFEST_SECTION, &serde_json::to_vec(&*REAL).expect("JSON"), &mut wasm);
            }
            Section::Other { name, content } => custom(name, content, &mut wasm),
            Section::Raw(bytes) => wasm.extend(bytes),
        }
        manifests += usize::from(match section {
            Section::Manifest(_) | Section::Real => true,
            Section::Other { name, .. } => name == MANIFEST_SECTION,
            Section::Raw(_) => false,
        });
        is_whole &= !matches!(section, Section::Raw(bytes) if !bytes.is_empty());
    }
    // It exports nothing, so it is never admitted; the rule that it breaks tells how far it came.
    let rule = inspect(&wasm).expect_err("it exports nothing").rule;
    if is_whole {
        match (manifests, sections.as_slice()) {
            (0, _) => assert_eq!(rule, Rule::ManifestMissing),
            (1, [.., Section::Real]) => assert!(!is_about_the_section(rule), "{rule:?}"),
            (1, _) => {}
            _ => assert_eq!(rule, Rule::ManifestDuplicate),
        }
    }
    let embedded = embed_manifest(&wasm, &REAL);
    let rule = inspect(&embedded).expect_err("it exports nothing").rule;
    if is_whole {
        assert!(!is_about_the_section(rule), "{rule:?}");
        assert_eq!(embed_manifest(&embedded, &REAL), embedded, "embedding again changes something");
    }
});

fn is_about_the_section(rule: Rule) -> bool {
    matches!(rule, Rule::ManifestMissing | Rule::ManifestDuplicate | Rule::ManifestInvalid)
}
