//! Compiled components on disk, authenticated.
//!
//! Loading machine code is running it, so an entry is used only if its MAC, made with a key that never leaves the folder,
//! fits the component's digest, the engine's settings and the code. Anything else is ignored and compiled again. The
//! folder is 0700 and belongs to the sandbox alone. Called when a component is prepared.

use crate::config::SandboxError;
use chimera_core::digest::Digest;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest as _, Sha256};
use std::fs;
use std::hash::{Hash as _, Hasher};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use wasmtime::Engine;

const MAC_BYTES: usize = 32;
/// One block of the hash: the length that HMAC takes as it is.
const KEY_BYTES: usize = 64;
const KEY_FILE: &str = "key";
/// A file that has been half written for so long is nobody's any more.
const HALF_WRITTEN: Duration = Duration::from_secs(3600);

/// A folder of compiled components.
pub(crate) struct DiskCache {
    folder: PathBuf,
    key: [u8; KEY_BYTES],
    /// Hash of the engine's version and settings: code made for others is never loaded.
    engine: [u8; 32],
    /// Most bytes of one compiled component.
    max_bytes: u64,
    /// Most bytes of all of them together.
    max_total: u64,
}

impl DiskCache {
    /// Opens the folder, making it and its key if they are not there.
    pub(crate) fn open(folder: &Path, engine: &Engine, max_bytes: u64, max_total: u64) -> Result<Self, SandboxError> {
        let refused = |what: &str, e: &dyn std::fmt::Display| {
            SandboxError::cache(format!("{what} {} cannot be used: {e}", folder.display()))
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|e| refused("the folder for compiled skills", &e))?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
            .map_err(|e| refused("the folder for compiled skills", &e))?;
        let key = key(folder).map_err(|e| refused("the key of the folder for compiled skills", &e))?;
        let cache = Self { folder: folder.to_owned(), key, engine: engine_hash(engine), max_bytes, max_total };
        cache.prune();
        Ok(cache)
    }

    /// The compiled component, if there is one that this sandbox wrote for this engine.
    pub(crate) fn get(&self, digest: &Digest) -> Option<Vec<u8>> {
        let path = self.path(digest);
        if fs::metadata(&path).ok()?.len() > self.max_bytes + MAC_BYTES as u64 {
            return None;
        }
        let mut entry = fs::read(&path).ok()?;
        let (mac, code) = entry.split_at_checked(MAC_BYTES)?;
        if self.mac(digest, code).verify_slice(mac).is_err() {
            tracing::warn!(path = %path.display(), "a compiled skill was not written by this sandbox; compiling it again");
            let _ = fs::remove_file(&path);
            return None;
        }
        entry.drain(..MAC_BYTES);
        // Its time is when it was last used: what nobody uses any more goes first.
        let _ = fs::File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
        Some(entry)
    }

    /// Keeps a compiled component; written beside its place and moved there, so that nobody reads half of it.
    pub(crate) fn put(&self, digest: &Digest, code: &[u8]) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
        file.write_all(&self.mac(digest, code).finalize().into_bytes())?;
        file.write_all(code)?;
        file.persist(self.path(digest)).map_err(|e| e.error)?;
        self.prune();
        Ok(())
    }

    /// Removes what was not used for longest until the rest fits, and halves of entries that a killed process left. What
    /// is removed is compiled again when it is wanted, so nothing here is an error.
    fn prune(&self) {
        let mut entries = Vec::new();
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let (path, Ok(metadata)) = (entry.path(), entry.metadata()) else { continue };
            let Ok(used) = metadata.modified() else { continue };
            if path.extension().is_some_and(|extension| extension == "cwasm") {
                entries.push((used, metadata.len(), path));
            } else if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".tmp"))
                && used.elapsed().is_ok_and(|age| age > HALF_WRITTEN)
            {
                let _ = fs::remove_file(path);
            }
        }
        entries.sort_unstable();
        let mut total: u64 = entries.iter().map(|(_, bytes, _)| bytes).sum();
        // The newest stays even if it alone is too much: it is the one that is wanted now.
        entries.pop();
        for (_, bytes, path) in entries {
            if total <= self.max_total {
                return;
            }
            let _ = fs::remove_file(path);
            total -= bytes;
        }
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join(format!("{}-{}.cwasm", digest.hex(), hex::encode(&self.engine[..8])))
    }

    fn mac(&self, digest: &Digest, code: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new(&self.key.into());
        mac.update(b"chimera compiled skill 1");
        mac.update(&self.engine);
        mac.update(digest.as_bytes());
        mac.update(code);
        mac
    }
}

/// The folder's key; made once, by whoever comes first.
fn key(folder: &Path) -> io::Result<[u8; KEY_BYTES]> {
    let path = folder.join(KEY_FILE);
    if !path.exists() {
        let mut fresh = [0; KEY_BYTES];
        getrandom::fill(&mut fresh).map_err(|e| io::Error::other(e.to_string()))?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.as_file().set_permissions(fs::Permissions::from_mode(0o600))?;
        file.write_all(&fresh)?;
        file.as_file().sync_all()?;
        match file.persist_noclobber(&path) {
            Ok(_) => {}
            Err(e) if e.error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e.error),
        }
    }
    let found = fs::read(&path)?;
    found.try_into().map_err(|_| io::Error::other(format!("{} is not a key; delete it", path.display())))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn open(folder: &Path) -> DiskCache {
        DiskCache::open(folder, &crate::engine::compiling().unwrap(), 1 << 20, 1 << 20).unwrap()
    }

    #[test]
    fn an_entry_comes_back_only_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let cache = open(folder.path());
        let (one, two) = (Digest::of(b"one"), Digest::of(b"two"));
        cache.put(&one, b"code").unwrap();
        assert_eq!(open(folder.path()).get(&one).as_deref(), Some(&b"code"[..]), "the key is kept");
        assert_eq!(cache.get(&two), None);

        fs::copy(cache.path(&one), cache.path(&two)).unwrap();
        assert_eq!(cache.get(&two), None, "another component's code is not loaded");

        let mut bytes = fs::read(cache.path(&one)).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(cache.path(&one), bytes).unwrap();
        assert_eq!(cache.get(&one), None, "changed code is not loaded");
        assert!(!cache.path(&one).exists());
        fs::write(cache.path(&one), b"short").unwrap();
        assert_eq!(cache.get(&one), None);
    }

    #[test]
    fn what_was_not_used_for_longest_goes_when_there_is_too_much() {
        let folder = tempfile::tempdir().unwrap();
        let cache = DiskCache { max_total: 2 * (MAC_BYTES as u64 + 100), ..open(folder.path()) };
        let digests = [Digest::of(b"one"), Digest::of(b"two"), Digest::of(b"three")];
        let aged = |path: &Path, seconds: u64| {
            let then = SystemTime::now() - Duration::from_secs(seconds);
            fs::File::open(path).unwrap().set_modified(then).unwrap();
        };
        for (digest, age) in digests.iter().zip([200, 100]) {
            cache.put(digest, &[7; 100]).unwrap();
            aged(&cache.path(digest), age);
        }
        assert!(cache.get(&digests[0]).is_some(), "both fit; and now it is the one used last");
        let (old, fresh) = (folder.path().join(".tmpold"), folder.path().join(".tmpfresh"));
        fs::write(&old, b"half").unwrap();
        fs::write(&fresh, b"half").unwrap();
        aged(&old, 2 * HALF_WRITTEN.as_secs());
        cache.put(&digests[2], &[7; 100]).unwrap();
        let there: Vec<bool> = digests.iter().map(|digest| cache.get(digest).is_some()).collect();
        assert_eq!(there, [true, false, true]);
        assert_eq!((old.exists(), fresh.exists()), (false, true), "somebody may be writing the fresh one");
        assert!(folder.path().join(KEY_FILE).exists());
    }

    #[test]
    fn folder_and_key_are_the_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let _ = open(folder.path());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(folder.path()), 0o700);
        assert_eq!(mode(&folder.path().join(KEY_FILE)), 0o600);
    }
}
