//! A folder of bytes named by their SHA-256 digest.
//!
//! A file is written beside its place, synced and renamed, so a reader sees all of it or nothing; what is read is
//! checked against its name. It never deletes and never trusts a file because of where it lies. Called by
//! [`crate::Registry`].

use async_trait::async_trait;
use chimera_core::digest::Digest;
use chimera_core::ports::{Blobs, PortError, PortErrorKind};
use chimera_sandbox::write_in_pieces;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// Largest blob that is kept or read, in bytes.
pub const MAX_BLOB_BYTES: usize = 64 << 20;

/// Content-addressed bytes in a folder: `ab/cdef…` for the digest `sha256:abcdef…`.
#[derive(Debug, Clone)]
pub struct FolderBlobs {
    root: PathBuf,
}

impl FolderBlobs {
    /// Opens the folder; makes it, for this user only, if it is not there.
    ///
    /// # Errors
    /// [`PortErrorKind::Permanent`] naming the folder if it cannot be made or written.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, PortError> {
        let root = dir.into();
        let report = |e: io::Error| {
            PortError::new(PortErrorKind::Permanent, format!("the skill store {} cannot be used: {e}", root.display()))
        };
        make_private_dir(&root).map_err(report)?;
        tempfile::Builder::new().prefix(".probe-").tempfile_in(&root).map_err(report)?;
        Ok(Self { root })
    }

    fn path_of(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.root.join(&hex[..2]).join(&hex[2..])
    }

    fn put_now(&self, bytes: &[u8]) -> Result<Digest, PortError> {
        if bytes.len() > MAX_BLOB_BYTES {
            let message = format!("{} bytes are too many for the skill store: at most {MAX_BLOB_BYTES}", bytes.len());
            return Err(PortError::new(PortErrorKind::Permanent, message));
        }
        let digest = Digest::of(bytes);
        // A damaged file of the same name is replaced, so keeping the bytes again mends it.
        if matches!(self.get_now(&digest), Ok(Some(_))) {
            return Ok(digest);
        }
        write_atomically(&self.path_of(&digest), bytes).map_err(|e| {
            let kind = if e.kind() == io::ErrorKind::StorageFull {
                PortErrorKind::Unavailable
            } else {
                PortErrorKind::Permanent
            };
            PortError::new(kind, format!("the skill store {} cannot be written: {e}", self.root.display()))
        })?;
        Ok(digest)
    }

    fn get_now(&self, digest: &Digest) -> Result<Option<Vec<u8>>, PortError> {
        let bytes = match read_bounded(&self.path_of(digest)) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => {
                return Err(PortError::new(PortErrorKind::Unavailable, format!("{digest} cannot be read: {e}")));
            }
        };
        if Digest::of(&bytes) == *digest {
            return Ok(Some(bytes));
        }
        let message = format!("the bytes kept as {digest} are damaged; install the skill again");
        Err(PortError::new(PortErrorKind::Corrupt, message))
    }
}

fn make_private_dir(dir: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)?;
    #[cfg(unix)]
    fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
    Ok(())
}

fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().ok_or_else(|| io::Error::other("a blob has no folder"))?;
    make_private_dir(dir)?;
    let file = tempfile::Builder::new().prefix(".incoming-").tempfile_in(dir)?;
    write_in_pieces(file.as_file(), bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|e| e.error)?;
    // The name is durable only once its folder is, and the folder only once the one above it is.
    sync_dir(dir)?;
    dir.parent().map_or(Ok(()), sync_dir)
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    #[cfg(unix)]
    fs::File::open(dir)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = dir;
    Ok(())
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(MAX_BLOB_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[async_trait]
impl Blobs for FolderBlobs {
    async fn put(&self, bytes: &[u8]) -> Result<Digest, PortError> {
        let (store, bytes) = (self.clone(), bytes.to_vec());
        blocking(move || store.put_now(&bytes)).await
    }

    async fn get(&self, digest: &Digest) -> Result<Option<Vec<u8>>, PortError> {
        let (store, digest) = (self.clone(), *digest);
        blocking(move || store.get_now(&digest)).await
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PortError> + Send + 'static,
) -> Result<T, PortError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| PortError::new(PortErrorKind::Closed, format!("the skill store stopped: {e}")))?
}
