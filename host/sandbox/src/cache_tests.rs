//! What may be found in the cache's folder, and that only what was written there is loaded.

use super::*;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, symlink};
use std::time::SystemTime;

const CODE: &[u8] = b"machine code of some length";

fn open(folder: &Path) -> DiskCache {
    DiskCache::open(folder, &crate::engine::compiling().unwrap(), 1 << 20, 1 << 20).unwrap()
}

/// What an entry holds, read through the descriptor that was verified.
fn code(cache: &DiskCache, digest: &Digest) -> Option<Vec<u8>> {
    let file = cache.get(digest)?.file;
    let mut found = vec![0; file.metadata().unwrap().len() as usize - TAG_BYTES];
    file.read_exact_at(&mut found, 0).unwrap();
    Some(found)
}

/// A folder with one entry, the entry's digest and its path.
fn with_entry() -> (tempfile::TempDir, DiskCache, Digest, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let (cache, digest) = (open(folder.path()), Digest::of(b"one"));
    cache.put(&digest, CODE).unwrap();
    let path = folder.path().join(cache.name(&digest));
    (folder, cache, digest, path)
}

/// Writes over what is there: entries are read-only for their owner too.
fn overwrite(path: &Path, bytes: &[u8]) {
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn an_entry_comes_back_only_under_its_own_digest() {
    let (folder, cache, one, path) = with_entry();
    let two = Digest::of(b"two");
    assert_eq!(code(&open(folder.path()), &one).as_deref(), Some(CODE), "the key is kept");
    assert!(cache.get(&two).is_none());
    let copy = folder.path().join(cache.name(&two));
    fs::copy(&path, &copy).unwrap();
    assert!(cache.get(&two).is_none(), "another component's code is not loaded");
    assert!(!copy.exists());
    assert_eq!(code(&cache, &one).as_deref(), Some(CODE));
}

#[test]
fn a_flipped_bit_anywhere_is_found() {
    let (_folder, cache, digest, path) = with_entry();
    let good = fs::read(&path).unwrap();
    assert_eq!(good.len(), CODE.len() + TAG_BYTES);
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        overwrite(&path, &bytes);
        assert!(cache.get(&digest).is_none(), "byte {at}");
        assert!(!path.exists(), "byte {at}");
        cache.put(&digest, CODE).unwrap();
    }
    assert!(cache.get(&digest).is_some());
}

#[test]
fn an_entry_of_another_length_is_refused() {
    let (_folder, cache, digest, path) = with_entry();
    let good = fs::read(&path).unwrap();
    let longer = [&good[..], b"x"].concat();
    let too_long = vec![0; (1 << 20) + TAG_BYTES + 1];
    for bytes in [&[][..], &good[..1], &good[..TAG_BYTES], &good[..good.len() - 1], &longer, &too_long] {
        overwrite(&path, bytes);
        assert!(cache.get(&digest).is_none(), "{} bytes", bytes.len());
        assert!(!path.exists());
        cache.put(&digest, CODE).unwrap();
    }
}

#[test]
fn an_entry_of_another_key_or_engine_is_refused() {
    let (_folder, cache, digest, path) = with_entry();
    let (_other_folder, other, _, other_path) = with_entry();
    assert_ne!(fs::read(&path).unwrap(), fs::read(&other_path).unwrap(), "the keys differ");
    overwrite(&path, &fs::read(other_path).unwrap());
    assert!(cache.get(&digest).is_none(), "written with another folder's key");

    // Another engine looks for another name; and does not take the code under that name either.
    let later = DiskCache { engine: [9; 32], ..other };
    assert!(later.get(&digest).is_none());
    let theirs = later.path.join(later.name(&digest));
    cache.put(&digest, CODE).unwrap();
    fs::copy(&path, &theirs).unwrap();
    assert!(later.get(&digest).is_none());
    assert!(!theirs.exists());
}

#[test]
fn links_pipes_and_folders_are_refused_and_removed() {
    let (folder, cache, digest, path) = with_entry();
    let elsewhere = folder.path().join("elsewhere");
    fs::rename(&path, &elsewhere).unwrap();
    let absent = |what: &str| {
        assert!(cache.get(&digest).is_none(), "{what}");
        assert!(path.symlink_metadata().is_err(), "{what} is removed");
    };
    symlink(&elsewhere, &path).unwrap();
    absent("a symbolic link");
    symlink("/nonexistent", &path).unwrap();
    absent("a dangling link");
    fs::hard_link(&elsewhere, &path).unwrap();
    absent("a second name of a file");
    assert!(elsewhere.exists(), "what a link points to stays");
    fs::create_dir(&path).unwrap();
    absent("a folder");
    rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, Mode::RWXU, 0).unwrap();
    absent("a pipe");
    let _socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
    absent("a socket");
    fs::rename(&elsewhere, &path).unwrap();
    assert_eq!(code(&cache, &digest).as_deref(), Some(CODE));
}

#[test]
fn a_folder_with_something_in_it_is_left_alone() {
    let (_folder, cache, digest, path) = with_entry();
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    fs::write(path.join("somebody's"), "work").unwrap();
    assert!(cache.get(&digest).is_none());
    assert!(cache.put(&digest, CODE).is_err());
    assert!(path.join("somebody's").exists());
    let left: Vec<_> = fs::read_dir(&cache.path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "nothing half written stays: {left:?}");
}

#[test]
fn what_others_own_or_may_write_is_refused() {
    let (_folder, cache, digest, path) = with_entry();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o620)).unwrap();
    assert!(cache.get(&digest).is_none());
    assert!(!path.exists());
    cache.put(&digest, CODE).unwrap();
    // Only root can give a file away.
    if std::os::unix::fs::chown(&path, Some(65_534), None).is_ok() {
        assert!(cache.get(&digest).is_none());
        assert!(!path.exists());
    }
}

#[test]
fn what_was_not_used_for_longest_goes_when_there_is_too_much() {
    let folder = tempfile::tempdir().unwrap();
    let cache = DiskCache { max_total: 2 * (TAG_BYTES as u64 + 100), ..open(folder.path()) };
    let digests = [Digest::of(b"one"), Digest::of(b"two"), Digest::of(b"three")];
    let path = |digest: &Digest| folder.path().join(cache.name(digest));
    let aged = |path: &Path, seconds: u64| {
        let then = SystemTime::now() - Duration::from_secs(seconds);
        File::open(path).unwrap().set_modified(then).unwrap();
    };
    for (digest, age) in digests.iter().zip([200, 100]) {
        cache.put(digest, &[7; 100]).unwrap();
        aged(&path(digest), age);
    }
    assert!(cache.get(&digests[0]).is_some(), "both fit; and now it is the one used last");
    let (old, fresh) = (folder.path().join(".tmp-old"), folder.path().join(".tmp-fresh"));
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
fn folder_key_and_entries_are_the_owners_alone() {
    let (folder, _cache, _, path) = with_entry();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(folder.path()), 0o700);
    assert_eq!(mode(&folder.path().join(KEY_FILE)), 0o600);
    assert_eq!(mode(&path), 0o400);
}

#[test]
fn a_key_that_is_none_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join(KEY_FILE);
    let engine = crate::engine::compiling().unwrap();
    let refused = |what: &str| {
        let error = DiskCache::open(folder.path(), &engine, 1, 1).err().unwrap_or_else(|| panic!("{what} was taken"));
        assert_eq!(error.kind, crate::SandboxErrorKind::Cache);
        fs::remove_file(&key).unwrap();
    };
    fs::write(&key, [0; KEY_BYTES - 1]).unwrap();
    refused("a short key");
    symlink("/dev/zero", &key).unwrap();
    refused("a link");
    rustix::fs::mknodat(rustix::fs::CWD, &key, FileType::Fifo, Mode::RWXU, 0).unwrap();
    refused("a pipe");
    open(folder.path());
}
