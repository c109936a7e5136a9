//! The skill store of a host among many: a folder of its own in front of what all share.
//!
//! What is kept is kept for all before anybody is told; what is read comes from the folder, or into it from the others'.
//! Both check the bytes against their digest. It never deletes. Called by [`crate::Registry`].

use crate::FolderBlobs;
use async_trait::async_trait;
use chimera_core::digest::Digest;
use chimera_core::ports::{Blobs, PortError, PortErrorKind};
use std::fmt;
use std::sync::Arc;

/// A [`FolderBlobs`] in front of bytes that other hosts see too.
#[derive(Clone)]
pub struct LayeredBlobs {
    near: FolderBlobs,
    far: Arc<dyn Blobs>,
}

impl fmt::Debug for LayeredBlobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LayeredBlobs").field("near", &self.near).finish_non_exhaustive()
    }
}

impl LayeredBlobs {
    /// This folder in front of these.
    pub fn new(near: FolderBlobs, far: Arc<dyn Blobs>) -> Self {
        Self { near, far }
    }
}

#[async_trait]
impl Blobs for LayeredBlobs {
    async fn put(&self, bytes: &[u8]) -> Result<Digest, PortError> {
        let digest = self.far.put(bytes).await?;
        self.keep_near(bytes).await;
        Ok(digest)
    }

    async fn get(&self, digest: &Digest) -> Result<Option<Vec<u8>>, PortError> {
        match self.near.get(digest).await {
            Ok(Some(bytes)) => return Ok(Some(bytes)),
            // A folder that lost or damaged them is filled again.
            Ok(None) | Err(PortError { kind: PortErrorKind::Corrupt, .. }) => {}
            Err(error) => {
                tracing::warn!(%digest, %error, "the bytes of a skill are read from where all hosts keep them")
            }
        }
        let Some(bytes) = self.far.get(digest).await? else { return Ok(None) };
        self.keep_near(&bytes).await;
        Ok(Some(bytes))
    }
}

impl LayeredBlobs {
    /// Nothing is lost if it cannot be kept here: it is asked for again.
    async fn keep_near(&self, bytes: &[u8]) {
        if let Err(error) = self.near.put(bytes).await {
            tracing::warn!(%error, "the bytes of a skill are not kept on this host");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may end with a panic")]

    use super::*;

    #[tokio::test]
    async fn one_host_reads_what_another_kept() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = |name: &str| FolderBlobs::open(folder.path().join(name)).unwrap();
        let host = |name: &str| LayeredBlobs::new(blobs(name), Arc::new(blobs("shared")));
        let digest = host("a").put(b"component").await.unwrap();
        assert_eq!(host("b").get(&digest).await.unwrap().as_deref(), Some(&b"component"[..]));
        assert_eq!(blobs("b").get(&digest).await.unwrap().as_deref(), Some(&b"component"[..]), "kept on the way");
        assert_eq!(host("b").get(&Digest::of(b"another")).await.unwrap(), None);
        // A folder that is damaged is mended from what all share.
        let hex = digest.hex();
        std::fs::write(folder.path().join("b").join(&hex[..2]).join(&hex[2..]), b"damaged").unwrap();
        assert_eq!(host("b").get(&digest).await.unwrap().as_deref(), Some(&b"component"[..]));
        assert_eq!(blobs("b").get(&digest).await.unwrap().as_deref(), Some(&b"component"[..]), "mended");
    }
}
