//! What a store tells its listeners, over tokio's broadcast channel.
//!
//! What one commit brings is handed over together: a listener that waits is woken once for it, and not for each event. It only
//! passes on; a slow listener loses notices and is told so. Kept by the stores; its listeners are made by their `subscribe`.

use async_trait::async_trait;
use chimera_core::ports::Notice;
use chimera_core::ports::listen::{Heard, Listener};
use std::sync::Arc;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

/// Lots of notices kept for the slowest listener; older ones are lost to it.
const CAPACITY: usize = 1024;
/// Most notices of a lot, so that what is kept is bounded.
const MOST_AT_ONCE: usize = 16;

/// The telling end.
#[derive(Debug, Clone)]
pub(crate) struct Notices(broadcast::Sender<Arc<[Notice]>>);

impl Default for Notices {
    fn default() -> Self {
        Self(broadcast::channel(CAPACITY).0)
    }
}

impl Notices {
    /// Tells of one thing.
    pub(crate) fn send(&self, notice: Notice) {
        // Nobody listening is no error.
        let _ = self.0.send(Arc::new([notice]));
    }

    /// Tells of several things, in their order.
    pub(crate) fn send_all(&self, notices: impl IntoIterator<Item = Notice>) {
        let mut notices = notices.into_iter();
        loop {
            let lot: Arc<[Notice]> = notices.by_ref().take(MOST_AT_ONCE).collect();
            if lot.is_empty() {
                return;
            }
            let _ = self.0.send(lot);
        }
    }

    /// Is anybody listening?
    pub(crate) fn are_heard(&self) -> bool {
        self.0.receiver_count() > 0
    }

    /// Listens from now on.
    pub(crate) fn listen(&self) -> BroadcastListener {
        BroadcastListener { lots: self.0.subscribe(), lot: Arc::new([]), heard: 0 }
    }
}

/// A listener's end.
pub(crate) struct BroadcastListener {
    lots: broadcast::Receiver<Arc<[Notice]>>,
    lot: Arc<[Notice]>,
    /// How many of the lot were heard.
    heard: usize,
}

impl BroadcastListener {
    /// One to whom nobody speaks any more.
    pub(crate) fn closed() -> Self {
        Notices::default().listen()
    }
}

#[async_trait]
impl Listener for BroadcastListener {
    async fn next(&mut self) -> Heard {
        loop {
            if let Some(notice) = self.lot.get(self.heard) {
                self.heard += 1;
                return Heard::Notice(notice.clone());
            }
            // A lot is never empty, and giving up here loses nothing.
            match self.lots.recv().await {
                Ok(lot) => (self.lot, self.heard) = (lot, 0),
                Err(RecvError::Lagged(_)) => return Heard::Missed,
                Err(RecvError::Closed) => return Heard::Closed,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may end with a panic")]

    use super::*;
    use chimera_core::change::OutboxTopic;
    use futures::FutureExt as _;

    #[test]
    fn notices_are_heard_in_their_order_and_losses_are_told() {
        let notices = Notices::default();
        assert!(!notices.are_heard());
        let mut listener = notices.listen();
        assert!(notices.are_heard());
        let told: Vec<Notice> = (0..MOST_AT_ONCE * 2 + 3)
            .map(|number| if number % 2 == 0 { Notice::Queued } else { Notice::Outbox(OutboxTopic::Plan) })
            .collect();
        notices.send_all(told.clone());
        notices.send_all([]);
        notices.send(Notice::Elsewhere);
        for notice in told.into_iter().chain([Notice::Elsewhere]) {
            assert_eq!(listener.next().now_or_never(), Some(Heard::Notice(notice)));
        }
        assert_eq!(listener.next().now_or_never(), None);
        for _ in 0..=CAPACITY {
            notices.send(Notice::Queued);
        }
        assert_eq!(listener.next().now_or_never(), Some(Heard::Missed));
        assert_eq!(listener.next().now_or_never(), Some(Heard::Notice(Notice::Queued)));
        drop(notices);
        while listener.next().now_or_never() != Some(Heard::Closed) {}
        assert_eq!(BroadcastListener::closed().next().now_or_never(), Some(Heard::Closed));
    }
}
