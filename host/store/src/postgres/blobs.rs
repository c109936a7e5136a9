//! The bytes of skills in the database, for hosts that share it.
//!
//! Bytes are kept under their digest and checked against it when they are read, so a damaged row is never taken for a
//! component. It knows nothing of skills. Called by the registry, through a cache of its own.

use super::PostgresStore;
use crate::error::postgres_error;
use crate::rows::PortResult;
use async_trait::async_trait;
use chimera_core::clock::Clock as _;
use chimera_core::digest::Digest;
use chimera_core::ports::{Blobs, PortError, PortErrorKind};
use sqlx::{query, query_scalar};

/// Largest blob that is kept, in bytes.
const MAX_BYTES: usize = 64 << 20;

#[async_trait]
impl Blobs for PostgresStore {
    async fn put(&self, bytes: &[u8]) -> PortResult<Digest> {
        if bytes.len() > MAX_BYTES {
            let message = format!("{} bytes are too many for the skill store: at most {MAX_BYTES}", bytes.len());
            return Err(PortError::new(PortErrorKind::Permanent, message));
        }
        let digest = Digest::of(bytes);
        let known = query_scalar("SELECT octet_length(bytes) FROM blobs WHERE digest = $1").bind(digest.to_string());
        let known: Option<i32> = known.fetch_optional(self.reader()).await.map_err(postgres_error)?;
        // What is there is read and compared only if it may be what it should be: it is replaced if it is not.
        if known.is_some_and(|length| usize::try_from(length) == Ok(bytes.len()))
            && matches!(self.get(&digest).await, Ok(Some(_)))
        {
            return Ok(digest);
        }
        let put = query(
            "INSERT INTO blobs (digest, created_at, bytes) VALUES ($1, $2, $3)
             ON CONFLICT (digest) DO UPDATE SET bytes = excluded.bytes",
        );
        let put = put.bind(digest.to_string()).bind(self.shared.clock.now().as_millis()).bind(bytes);
        put.execute(self.reader()).await.map_err(postgres_error)?;
        Ok(digest)
    }

    async fn get(&self, digest: &Digest) -> PortResult<Option<Vec<u8>>> {
        let get = query_scalar("SELECT bytes FROM blobs WHERE digest = $1").bind(digest.to_string());
        let bytes: Option<Vec<u8>> = get.fetch_optional(self.reader()).await.map_err(postgres_error)?;
        match bytes {
            Some(bytes) if Digest::of(&bytes) != *digest => {
                let message = format!("the bytes kept as {digest} are damaged; install the skill again");
                Err(PortError::new(PortErrorKind::Corrupt, message))
            }
            found => Ok(found),
        }
    }
}
