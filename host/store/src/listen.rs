//! A listener over tokio's broadcast channel.
//!
//! It only passes on; a slow listener loses notices and is told so. Made by the stores' `subscribe`.

use async_trait::async_trait;
use chimera_core::ports::Notice;
use chimera_core::ports::listen::{Heard, Listener};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

/// Notices kept for the slowest listener; older ones are lost to it.
pub(crate) const CAPACITY: usize = 4096;

/// A listener's end of the broadcast.
pub(crate) struct BroadcastListener(pub(crate) broadcast::Receiver<Notice>);

#[async_trait]
impl Listener for BroadcastListener {
    async fn next(&mut self) -> Heard {
        match self.0.recv().await {
            Ok(notice) => Heard::Notice(notice),
            Err(RecvError::Lagged(_)) => Heard::Missed,
            Err(RecvError::Closed) => Heard::Closed,
        }
    }
}
