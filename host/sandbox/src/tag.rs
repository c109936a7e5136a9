//! The tag that shows that a cache entry is what this sandbox wrote.
//!
//! A keyed BLAKE3 in two levels: each segment of the code has a tag of its own, so that several threads share the work,
//! and the entry's tag is that of all segments' tags and the length. The keys of an entry are derived from the folder's
//! key, the engine and the component's digest, so a tag fits no other entry. It reads with `read`, never through a
//! mapping: a failing disk is an error here and not a signal. Called by the cache.

use chimera_core::digest::Digest;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Length of a tag, which follows the code in the file.
pub(crate) const TAG_BYTES: usize = blake3::OUT_LEN;
/// Stays in the second-level cache of a core, and is long enough for the widest instructions.
const SEGMENT: usize = 256 << 10;
/// Less than this for each is not worth starting a thread.
const SEGMENTS_A_THREAD: usize = 8;
/// Memory does not feed more.
const MAX_THREADS: usize = 4;

type Tag = [u8; TAG_BYTES];

/// The keys of one entry.
pub(crate) struct EntryKeys {
    segment: Tag,
    entry: Tag,
}

impl EntryKeys {
    pub(crate) fn new(folder: &[u8; 64], engine: &[u8; 32], digest: &Digest) -> Self {
        // Parts of fixed lengths: no two entries have the same material.
        let material = [&folder[..], &engine[..], &digest.as_bytes()[..]].concat();
        // The number is that of the format: a change of it makes all entries strangers.
        let derived = |purpose: &str| blake3::derive_key(purpose, &material);
        Self {
            segment: derived("chimera sandbox 2026-11-23 compiled component v2: segment"),
            entry: derived("chimera sandbox 2026-11-23 compiled component v2: entry"),
        }
    }

    /// The tag of code in memory.
    pub(crate) fn tag(&self, code: &[u8]) -> Tag {
        let tags: Vec<Tag> = code.chunks(SEGMENT).map(|segment| self.of_segment(segment)).collect();
        *self.of_entry(code.len() as u64, &tags).as_bytes()
    }

    /// Does the tag after the first `length` bytes of the file fit them?
    pub(crate) fn fits(&self, file: &File, length: u64) -> io::Result<bool> {
        let segments = usize::try_from(length.div_ceil(SEGMENT as u64)).map_err(io::Error::other)?;
        let read = Reading {
            keys: self,
            file,
            length,
            tags: Mutex::new(vec![[0; TAG_BYTES]; segments]),
            next: AtomicUsize::new(0),
            failed: AtomicBool::new(false),
        };
        read.all(threads(segments))?;
        let mut found = [0; TAG_BYTES];
        file.read_exact_at(&mut found, length)?;
        let tags = read.tags.into_inner().unwrap_or_else(PoisonError::into_inner);
        // Compared in a time that does not depend on where they differ.
        Ok(self.of_entry(length, &tags) == blake3::Hash::from_bytes(found))
    }

    fn of_segment(&self, segment: &[u8]) -> Tag {
        *blake3::keyed_hash(&self.segment, segment).as_bytes()
    }

    fn of_entry(&self, length: u64, tags: &[Tag]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.entry);
        hasher.update(&length.to_le_bytes());
        hasher.update(tags.as_flattened());
        hasher.finalize()
    }
}

fn threads(segments: usize) -> usize {
    match segments / SEGMENTS_A_THREAD {
        0 | 1 => 1,
        wanted => wanted.min(MAX_THREADS).min(std::thread::available_parallelism().map_or(1, usize::from)),
    }
}

/// The segments of a file, taken one after another by whoever has time.
struct Reading<'a> {
    keys: &'a EntryKeys,
    file: &'a File,
    length: u64,
    tags: Mutex<Vec<Tag>>,
    next: AtomicUsize,
    failed: AtomicBool,
}

impl Reading<'_> {
    fn all(&self, threads: usize) -> io::Result<()> {
        std::thread::scope(|scope| {
            // A machine that has no more threads has one: this one.
            let helpers: Vec<_> = (1..threads)
                .filter_map(|_| std::thread::Builder::new().spawn_scoped(scope, || self.some()).ok())
                .collect();
            let mut result = self.some();
            for helper in helpers {
                result = result.and(helper.join().unwrap_or_else(|_| Err(io::Error::other("the reader gave up"))));
            }
            result
        })
    }

    fn some(&self) -> io::Result<()> {
        let segments = usize::try_from(self.length.div_ceil(SEGMENT as u64)).map_err(io::Error::other)?;
        let mut buffer = vec![0; SEGMENT.min(usize::try_from(self.length).unwrap_or(SEGMENT))];
        while !self.failed.load(Ordering::Relaxed) {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            if index >= segments {
                return Ok(());
            }
            let start = index as u64 * SEGMENT as u64;
            let length = usize::try_from(self.length - start).unwrap_or(SEGMENT).min(SEGMENT);
            if let Err(e) = self.file.read_exact_at(&mut buffer[..length], start) {
                self.failed.store(true, Ordering::Relaxed);
                return Err(e);
            }
            let tag = self.keys.of_segment(&buffer[..length]);
            self.tags.lock().unwrap_or_else(PoisonError::into_inner)[index] = tag;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn keys(digest: &[u8]) -> EntryKeys {
        EntryKeys::new(&[1; 64], &[2; 32], &Digest::of(digest))
    }

    fn file(parts: &[&[u8]]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        parts.iter().for_each(|part| file.write_all(part).unwrap());
        file
    }

    #[test]
    fn what_is_read_is_what_was_written_at_every_length() {
        let bytes: Vec<u8> = (0..20 * SEGMENT + 1).map(|i| (i / 7) as u8).collect();
        for length in [1, 100, SEGMENT - 1, SEGMENT, SEGMENT + 1, 17 * SEGMENT, 20 * SEGMENT + 1] {
            let code = &bytes[..length];
            let tag = keys(b"a").tag(code);
            assert!(keys(b"a").fits(&file(&[code, &tag]), length as u64).unwrap(), "{length}");
            assert!(!keys(b"b").fits(&file(&[code, &tag]), length as u64).unwrap(), "{length}");
        }
    }

    #[test]
    fn a_single_changed_bit_anywhere_shows() {
        let code = vec![7; 3 * SEGMENT + 5];
        let tag = keys(b"a").tag(&code);
        for at in [0, SEGMENT - 1, SEGMENT, 2 * SEGMENT + 77, code.len() - 1] {
            let mut changed = code.clone();
            changed[at] ^= 0x10;
            assert!(!keys(b"a").fits(&file(&[&changed, &tag]), code.len() as u64).unwrap(), "{at}");
        }
        for at in 0..TAG_BYTES {
            let mut changed = tag;
            changed[at] ^= 1;
            assert!(!keys(b"a").fits(&file(&[&code, &changed]), code.len() as u64).unwrap(), "tag {at}");
        }
    }

    #[test]
    fn segments_cannot_change_places_and_a_short_file_is_an_error() {
        let code: Vec<u8> = [vec![1; SEGMENT], vec![2; SEGMENT]].concat();
        let tag = keys(b"a").tag(&code);
        let swapped: Vec<u8> = [vec![2; SEGMENT], vec![1; SEGMENT]].concat();
        assert!(!keys(b"a").fits(&file(&[&swapped, &tag]), code.len() as u64).unwrap());
        assert!(keys(b"a").fits(&file(&[&code[1..], &tag]), code.len() as u64).is_err());
    }
}
