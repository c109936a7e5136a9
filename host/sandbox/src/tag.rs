//! The tag that shows that a cache entry is what this sandbox wrote.
//!
//! AEGIS-256X4 used as a MAC (draft-irtf-cfrg-aegis-aead): it reads the 40 MB of a Python skill in a millisecond, where
//! BLAKE3 takes eight and HMAC-SHA256 over twenty. Its key is of this one entry: HMAC-SHA256 of the engine and the
//! component's digest under the folder's key, so a tag fits no other entry. Called by the cache.

use aegis::aegis256x4::Aegis256X4Mac;
use chimera_core::digest::Digest;
use hmac::{Hmac, KeyInit, Mac};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};
use sha2::Sha256;
use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::ptr;

/// Length of a tag, which follows the code in the file.
pub(crate) const TAG_BYTES: usize = 32;
/// Length of a folder's key: one block of the hash, which HMAC takes as it is.
pub(crate) const KEY_BYTES: usize = 64;
/// Says what the derived key is for. The number is that of the format: another one makes all entries strangers.
const PURPOSE: &[u8] = b"chimera compiled skill 2";

pub(crate) type Tag = [u8; TAG_BYTES];

/// The key of one entry.
pub(crate) struct EntryKey([u8; 32]);

impl EntryKey {
    pub(crate) fn new(folder: &[u8; KEY_BYTES], engine: &[u8; 32], digest: &Digest) -> Self {
        // Parts of fixed lengths: no two entries have the same material.
        let mut mac = Hmac::<Sha256>::new(&(*folder).into());
        mac.update(PURPOSE);
        mac.update(engine);
        mac.update(digest.as_bytes());
        Self(mac.finalize().into_bytes().into())
    }

    /// The tag of machine code.
    pub(crate) fn tag(&self, code: &[u8]) -> Tag {
        self.mac(code).finalize()
    }

    /// Is the file machine code with its tag after it? `length` is the whole file's.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn fits(&self, file: &File, length: usize) -> io::Result<bool> {
        let mapped = Mapped::new(file, length)?;
        let Some((code, tag)) = mapped.bytes().split_last_chunk::<TAG_BYTES>() else { return Ok(false) };
        // Compared in a time that does not depend on where they differ.
        Ok(self.mac(code).verify(tag).is_ok())
    }

    fn mac(&self, code: &[u8]) -> Aegis256X4Mac<TAG_BYTES> {
        let mut mac = Aegis256X4Mac::new(&self.0);
        mac.update(code);
        mac
    }
}

/// A file's bytes, mapped: copying them would take longer than all the rest.
struct Mapped {
    start: *mut c_void,
    length: usize,
}

impl Mapped {
    #[expect(unsafe_code, reason = "a file cannot be mapped otherwise")]
    fn new(file: &File, length: usize) -> io::Result<Self> {
        // SAFETY: a new read-only mapping at an address that the kernel chooses; nothing else lies there.
        let start = unsafe { mmap(ptr::null_mut(), length, ProtFlags::READ, MapFlags::SHARED, file, 0)? };
        let mapped = Self { start, length };
        mapped.fault_in()?;
        Ok(mapped)
    }

    /// Brings all pages in at once, which is quicker than one after another; and what the disk cannot read is an error
    /// here instead of a signal later.
    #[cfg(target_os = "linux")]
    #[expect(unsafe_code, reason = "advice about a mapping is given by its address")]
    fn fault_in(&self) -> io::Result<()> {
        // SAFETY: the range is exactly this mapping, and populating it changes no content.
        match unsafe { madvise(self.start, self.length, Advice::LinuxPopulateRead) } {
            // Before Linux 5.14 they come in as they are read.
            Ok(()) | Err(rustix::io::Errno::INVAL) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn fault_in(&self) -> io::Result<()> {
        Ok(())
    }

    #[expect(unsafe_code, reason = "a mapping is known by its address alone")]
    fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping is readable, `length` long, and lives as long as `self`. Its file is one that nobody but
        // this program's user can write, and this program never writes into or shortens an entry that has its name.
        unsafe { std::slice::from_raw_parts(self.start.cast(), self.length) }
    }
}

impl Drop for Mapped {
    #[expect(unsafe_code, reason = "a mapping is known by its address alone")]
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and no slice of it outlives it.
        let _ = unsafe { munmap(self.start, self.length) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn key(digest: &[u8]) -> EntryKey {
        EntryKey::new(&[1; 64], &[2; 32], &Digest::of(digest))
    }

    fn fits(key: &EntryKey, parts: &[&[u8]]) -> bool {
        let mut file = tempfile::tempfile().unwrap();
        parts.iter().for_each(|part| file.write_all(part).unwrap());
        key.fits(&file, parts.concat().len()).unwrap()
    }

    #[test]
    fn what_is_read_is_what_was_written_at_every_length() {
        let bytes: Vec<u8> = (0..300_001_u32).map(|i| (i / 7) as u8).collect();
        for length in [0, 1, 63, 64, 65, 4096, 300_001] {
            let code = &bytes[..length];
            let tag = key(b"a").tag(code);
            assert!(fits(&key(b"a"), &[code, &tag]), "{length}");
            assert!(!fits(&key(b"b"), &[code, &tag]), "{length}");
            assert!(!fits(&key(b"a"), &[code, b"\0", &tag]), "{length}");
        }
        assert!(!fits(&key(b"a"), &[&[7; TAG_BYTES - 1]]));
    }

    #[test]
    fn a_single_changed_bit_anywhere_shows() {
        let code: Vec<u8> = (0..5_000_u32).map(|i| (i / 3) as u8).collect();
        let tag = key(b"a").tag(&code);
        for at in (0..code.len()).step_by(61) {
            let mut changed = code.clone();
            changed[at] ^= 0x10;
            assert!(!fits(&key(b"a"), &[&changed, &tag]), "{at}");
        }
        for at in 0..TAG_BYTES {
            let mut changed = tag;
            changed[at] ^= 1;
            assert!(!fits(&key(b"a"), &[&code, &changed]), "tag {at}");
        }
    }
}
