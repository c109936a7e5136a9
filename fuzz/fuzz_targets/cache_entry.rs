//! A file in the cache of compiled skills that somebody changed, cut, copied or made up: it is loaded only if it is, to the
//! last byte, what the sandbox wrote for that component.
//! Loads and runs no machine code.
//! Run by `cargo fuzz run cache_entry`.

#![no_main]

use chimera_core::digest::Digest;
use chimera_sandbox::fuzzing::Cache;
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

/// What happens to the file between writing and looking.
#[derive(Debug, Arbitrary)]
enum Change {
    Nothing,
    Replace(Vec<u8>),
    Flip {
        at: usize,
        bit: u8,
    },
    Splice {
        at: usize,
        bytes: Vec<u8>,
    },
    Cut {
        length: usize,
    },
    Append(Vec<u8>),
    /// It is put under another component's name.
    OtherName,
    /// It is what another sandbox wrote, with a key of its own.
    OtherKey,
}

#[derive(Debug, Arbitrary)]
struct Input {
    code: Vec<u8>,
    change: Change,
}

static CACHES: LazyLock<[Cache; 2]> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("chimera-fuzz-cache-{}", std::process::id()));
    ["one", "two"].map(|name| Cache::open(&folder.join(name)).expect("a cache"))
});

fuzz_target!(|input: Input| {
    let [cache, other] = &*CACHES;
    let digest = Digest::of(b"a component");
    cache.put(&digest, &input.code).expect("an entry is written");
    let written = std::fs::read(cache.path(&digest)).expect("an entry is there");
    let (mut found, mut asked) = (written.clone(), digest);
    match input.change {
        Change::Nothing => {}
        Change::Replace(bytes) => found = bytes,
        Change::Flip { at, bit } => {
            let at = at % found.len();
            found[at] ^= 1 << (bit % 8);
        }
        Change::Splice { at, bytes } => {
            let at = at % found.len();
            found.iter_mut().skip(at).zip(bytes).for_each(|(old, new)| *old = new);
        }
        Change::Cut { length } => found.truncate(length % (found.len() + 1)),
        Change::Append(bytes) => found.extend(bytes),
        Change::OtherName => asked = Digest::of(b"another component"),
        Change::OtherKey => {
            other.put(&digest, &input.code).expect("an entry is written");
            found = std::fs::read(other.path(&digest)).expect("an entry is there");
        }
    }
    let path = cache.path(&asked);
    // Entries are read-only; a new file takes their place.
    let _ = std::fs::remove_file(&path);
    std::fs::write(&path, &found).expect("a file is written");
    let is_genuine = found == written && asked == digest && !input.code.is_empty();
    match cache.get(&asked) {
        Some(code) => assert!(is_genuine && code == input.code, "what nobody wrote was taken"),
        None => {
            assert!(!is_genuine, "what was written was refused");
            assert!(!path.exists(), "what was refused is still there");
        }
    }
});
