//! Compiled components on disk, authenticated.
//!
//! Loading machine code is running it, so an entry is used only if its tag, made with a key that never leaves the folder,
//! fits the component's digest, the engine's settings and every byte of the code. It is opened once, looked at and read
//! through that one descriptor, and loaded through it too: there is no second look by name that could find another file.
//! Anything else is thrown away and compiled again. The folder is 0700 and belongs to the sandbox alone. Called when a
//! component is prepared.

use crate::config::SandboxError;
use crate::disk::write_in_pieces;
use crate::tag::{EntryKey, KEY_BYTES, TAG_BYTES};
use chimera_core::digest::Digest;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
use sha2::{Digest as _, Sha256};
use std::fs::{self, File};
use std::hash::{Hash as _, Hasher};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use wasmtime::Engine;

const KEY_FILE: &str = "key";
const EXTENSION: &str = "cwasm";
/// What a file is called until it is whole.
const HALF_WRITTEN_PREFIX: &str = ".tmp";
/// A file that has been half written for so long is nobody's any more.
const HALF_WRITTEN: Duration = Duration::from_secs(3600);
/// Whatever is found under the name: no symbolic link is followed, and opening a pipe or a terminal does not wait.
const LOOK: OFlags =
    OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// A folder of compiled components.
pub(crate) struct DiskCache {
    path: PathBuf,
    /// The folder itself: entries are found in it whatever becomes of its path.
    folder: OwnedFd,
    key: [u8; KEY_BYTES],
    /// Hash of the engine's version and settings: code made for others is never loaded.
    engine: [u8; 32],
    /// Most bytes of one compiled component.
    max_bytes: u64,
    /// Most bytes of all of them together.
    max_total: u64,
}

/// An entry whose bytes are known to be those that this sandbox wrote: the machine code, and a tag after it.
pub(crate) struct Entry {
    pub(crate) file: File,
}

/// Why something in the folder is not used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Unfit {
    #[error("is not a plain file")]
    Kind,
    #[error("belongs to somebody else, or others may write it")]
    Owner,
    #[error("has a second name")]
    Linked,
    #[error("is not of a length that this sandbox writes")]
    Length,
    #[error("was not written by this sandbox")]
    Tag,
    #[error("cannot be read: {0}")]
    Unreadable(io::ErrorKind),
}

impl DiskCache {
    /// Opens the folder, making it and its key if they are not there.
    pub(crate) fn open(path: &Path, engine: &Engine, max_bytes: u64, max_total: u64) -> Result<Self, SandboxError> {
        let refused =
            |what: &str, e: io::Error| SandboxError::cache(format!("{what} {} cannot be used: {e}", path.display()));
        let folder = open_folder(path).map_err(|e| refused("the folder for compiled skills", e))?;
        let key = key(&folder).map_err(|e| refused("the key of the folder for compiled skills", e))?;
        let cache = Self { path: path.to_owned(), folder, key, engine: engine_hash(engine), max_bytes, max_total };
        cache.prune();
        Ok(cache)
    }

    /// The compiled component, if there is one that this sandbox wrote for this engine.
    pub(crate) fn get(&self, digest: &Digest) -> Option<Entry> {
        let name = self.name(digest);
        let unfit = match rustix::fs::openat(&self.folder, &name, LOOK, Mode::empty()) {
            Ok(found) => match self.verified(digest, File::from(found)) {
                Ok(entry) => return Some(entry),
                Err(unfit) => unfit,
            },
            Err(rustix::io::Errno::NOENT) => return None,
            Err(rustix::io::Errno::LOOP | rustix::io::Errno::NXIO) => Unfit::Kind,
            Err(rustix::io::Errno::ACCESS | rustix::io::Errno::PERM) => Unfit::Owner,
            // Nothing is known about the entry: it may be good when there are descriptors or memory again.
            Err(e) => {
                tracing::warn!(entry = name, "a compiled skill cannot be opened: {e}; compiling it again");
                return None;
            }
        };
        tracing::warn!(entry = name, "a compiled skill in the cache {unfit}; it is removed and compiled again");
        self.remove(&name);
        None
    }

    /// Looks at the file and at every byte in it.
    fn verified(&self, digest: &Digest, file: File) -> Result<Entry, Unfit> {
        let found = rustix::fs::fstat(&file).map_err(|e| Unfit::Unreadable(e.kind()))?;
        is_ours_alone(&found)?;
        let longest = self.max_bytes.saturating_add(TAG_BYTES as u64);
        let length =
            u64::try_from(found.st_size).ok().filter(|length| (TAG_BYTES as u64 + 1..=longest).contains(length));
        let length = length.and_then(|length| usize::try_from(length).ok()).ok_or(Unfit::Length)?;
        match self.entry_key(digest).fits(&file, length) {
            Ok(true) => {}
            Ok(false) => return Err(Unfit::Tag),
            Err(e) => return Err(Unfit::Unreadable(e.kind())),
        }
        // Its time is when it was last used: what nobody uses any more goes first.
        let now = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        };
        let _ = rustix::fs::futimens(&file, &now);
        Ok(Entry { file })
    }

    /// Keeps a compiled component; written beside its place and moved there, so that nobody reads half of it.
    pub(crate) fn put(&self, digest: &Digest, code: &[u8]) -> io::Result<()> {
        let tag = self.entry_key(digest).tag(code);
        let half = HalfWritten::new(&self.folder, Mode::RUSR)?;
        write_in_pieces(&half.file, code)?;
        write_in_pieces(&half.file, &tag)?;
        half.publish(&self.name(digest))?;
        self.prune();
        Ok(())
    }

    /// Takes a name out of the folder; what it pointed to elsewhere stays. A folder is removed only if it is empty.
    fn remove(&self, name: &str) {
        let removed = rustix::fs::unlinkat(&self.folder, name, AtFlags::empty())
            .or_else(|_| rustix::fs::unlinkat(&self.folder, name, AtFlags::REMOVEDIR));
        if let Err(e) = removed
            && e != rustix::io::Errno::NOENT
        {
            tracing::warn!(entry = name, folder = %self.path.display(), "it cannot be removed: {e}; remove it by hand");
        }
    }

    /// Removes what was not used for longest until the rest fits, and halves of entries that a killed process left. What
    /// is removed is compiled again when it is wanted, so nothing here is an error.
    fn prune(&self) {
        let mut entries = Vec::new();
        for entry in fs::read_dir(&self.path).into_iter().flatten().flatten() {
            let (Ok(name), Ok(metadata)) = (entry.file_name().into_string(), entry.metadata()) else { continue };
            let Ok(used) = metadata.modified() else { continue };
            if name.strip_suffix(EXTENSION).is_some_and(|stem| stem.ends_with('.')) {
                entries.push((used, metadata.len(), name));
            } else if name.starts_with(HALF_WRITTEN_PREFIX) && used.elapsed().is_ok_and(|age| age > HALF_WRITTEN) {
                self.remove(&name);
            }
        }
        entries.sort_unstable();
        let mut total: u64 = entries.iter().map(|(_, bytes, _)| bytes).sum();
        // The newest stays even if it alone is too much: it is the one that is wanted now.
        entries.pop();
        for (_, bytes, name) in entries {
            if total <= self.max_total {
                return;
            }
            self.remove(&name);
            total -= bytes;
        }
    }

    fn name(&self, digest: &Digest) -> String {
        format!("{}-{}.{EXTENSION}", digest.hex(), hex::encode(&self.engine[..8]))
    }

    fn entry_key(&self, digest: &Digest) -> EntryKey {
        EntryKey::new(&self.key, &self.engine, digest)
    }
}

/// Is it a plain file that nobody else can change? One that was thrown out since it was opened has no name left.
fn is_ours_alone(found: &Stat) -> Result<(), Unfit> {
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
        return Err(Unfit::Kind);
    }
    let others = Mode::WGRP | Mode::WOTH;
    if found.st_uid != rustix::process::geteuid().as_raw() || Mode::from_raw_mode(found.st_mode).intersects(others) {
        return Err(Unfit::Owner);
    }
    if found.st_nlink > 1 {
        return Err(Unfit::Linked);
    }
    Ok(())
}

fn open_folder(path: &Path) -> io::Result<OwnedFd> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(path, flags, Mode::empty())?;
    if rustix::fs::fstat(&folder)?.st_uid != rustix::process::geteuid().as_raw() {
        return Err(io::Error::other("it belongs to somebody else"));
    }
    rustix::fs::fchmod(&folder, Mode::RWXU)?;
    Ok(folder)
}

/// The folder's key; made once, by whoever comes first.
fn key(folder: &OwnedFd) -> io::Result<[u8; KEY_BYTES]> {
    let found = match rustix::fs::openat(folder, KEY_FILE, LOOK, Mode::empty()) {
        Err(rustix::io::Errno::NOENT) => {
            make_key(folder)?;
            rustix::fs::openat(folder, KEY_FILE, LOOK, Mode::empty())?
        }
        found => found?,
    };
    let unfit = |why: &dyn std::fmt::Display| io::Error::other(format!("the file `{KEY_FILE}` {why}; delete it"));
    let stat = rustix::fs::fstat(&found)?;
    is_ours_alone(&stat).map_err(|e| unfit(&e))?;
    if stat.st_size != KEY_BYTES as i64 {
        return Err(unfit(&"is not a key"));
    }
    // Made by an older version or copied: nobody else reads it from here on.
    rustix::fs::fchmod(&found, Mode::RUSR | Mode::WUSR)?;
    let mut key = [0; KEY_BYTES];
    File::from(found).read_exact(&mut key)?;
    Ok(key)
}

fn make_key(folder: &OwnedFd) -> io::Result<()> {
    let mut fresh = [0; KEY_BYTES];
    getrandom::fill(&mut fresh).map_err(|e| io::Error::other(e.to_string()))?;
    let half = HalfWritten::new(folder, Mode::RUSR | Mode::WUSR)?;
    let mut file = &half.file;
    file.write_all(&fresh)?;
    file.sync_all()?;
    match rustix::fs::linkat(folder, &half.name, folder, KEY_FILE, AtFlags::empty()) {
        // Another process was first: its key is the one.
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// A file that is not yet in its place; gone again when it never gets there.
struct HalfWritten<'folder> {
    folder: &'folder OwnedFd,
    name: String,
    file: File,
}

impl<'folder> HalfWritten<'folder> {
    fn new(folder: &'folder OwnedFd, mode: Mode) -> io::Result<Self> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|e| io::Error::other(e.to_string()))?;
        let name = format!("{HALF_WRITTEN_PREFIX}-{}", hex::encode(random));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(folder.as_fd(), &name, flags, mode)?);
        Ok(Self { folder, name, file })
    }

    fn publish(&self, name: &str) -> io::Result<()> {
        Ok(rustix::fs::renameat(self.folder, &self.name, self.folder, name)?)
    }
}

impl Drop for HalfWritten<'_> {
    fn drop(&mut self) {
        // After it was published there is nothing under this name.
        let _ = rustix::fs::unlinkat(self.folder, &self.name, AtFlags::empty());
    }
}

fn engine_hash(engine: &Engine) -> [u8; 32] {
    struct Feed(Sha256);
    impl Hasher for Feed {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
        fn finish(&self) -> u64 {
            0
        }
    }
    let mut feed = Feed(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut feed);
    feed.0.finalize().into()
}

#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing {
    use super::{Digest, DiskCache, Path, PathBuf, TAG_BYTES};
    use std::os::unix::fs::FileExt as _;

    /// The cache of an engine with the settings of this version.
    pub struct Cache(DiskCache);

    impl Cache {
        /// Opens a folder.
        pub fn open(folder: &Path) -> Result<Self, String> {
            let engine = crate::engine::compiling().map_err(|e| e.message)?;
            DiskCache::open(folder, &engine, 1 << 20, 1 << 30).map(Self).map_err(|e| e.message)
        }

        /// Keeps bytes as machine code.
        pub fn put(&self, digest: &Digest, code: &[u8]) -> Result<(), String> {
            self.0.put(digest, code).map_err(|e| e.to_string())
        }

        /// The code that would be loaded, read through the descriptor that was verified.
        pub fn get(&self, digest: &Digest) -> Option<Vec<u8>> {
            let file = self.0.get(digest)?.file;
            let length = usize::try_from(file.metadata().ok()?.len()).ok()?.checked_sub(TAG_BYTES)?;
            let mut code = vec![0; length];
            file.read_exact_at(&mut code, 0).ok()?;
            Some(code)
        }

        /// Where an entry is.
        pub fn path(&self, digest: &Digest) -> PathBuf {
            self.0.path.join(self.0.name(digest))
        }
    }
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
