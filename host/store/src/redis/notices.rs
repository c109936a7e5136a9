//! Notices from one process to the others: the channel `chimera:notices`.
//!
//! They are hints, and are dropped rather than waited for: who missed some is told so, and reads the truth again. What comes
//! from Redis is believed to be no more than a hint either: it is bounded, and read strictly or not at all. It never sends
//! on what it has received. Opened by the binary.

use super::link::Redis;
use ::redis::Pipeline;
use async_trait::async_trait;
use chimera_core::ports::Notice;
use chimera_core::ports::listen::{self, Heard, Listener};
use futures::StreamExt as _;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

/// Largest message in bytes; of a larger notice the others hear only that there was one.
const MAX_MESSAGE: usize = 64 * 1024;
/// Longest message of a task's progress that is taken from others, in bytes.
const MAX_PROGRESS: usize = 4096;
/// Notices that wait to be sent; more are dropped.
const WAITING: usize = 1024;
/// Notices of others kept for the slowest listener; older ones are lost to it.
const CAPACITY: usize = 4096;
/// Most notices of one round trip.
const AT_ONCE: usize = 64;
/// How often a connection that is silent is asked whether it is one.
const ASKED: Duration = Duration::from_secs(10);
/// How long nothing is tried after the first failure to connect, and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// One message on the channel.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Message {
    /// The process that sends it.
    from: Uuid,
    what: What,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum What {
    Notice(Notice),
    /// Something was not sent.
    Missed,
}

/// What became of notices so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct NoticeStats {
    /// Sent to Redis.
    pub sent: u64,
    /// Not sent, because Redis did not take them in time or they were too large.
    pub dropped: u64,
    /// Heard of others.
    pub heard: u64,
    /// Messages on the channel that were none.
    pub refused: u64,
}

/// The notices of all processes on one Redis. Cloning it is cheap; the clones share everything, and what runs for them
/// ends with the last one.
#[derive(Clone)]
pub struct RedisNotices {
    shared: Arc<Shared>,
    outgoing: mpsc::Sender<Notice>,
    _stop: Arc<DropGuard>,
}

struct Shared {
    redis: Redis,
    instance: Uuid,
    heard: broadcast::Sender<Heard>,
    /// Something was dropped that the others have not been told of.
    owes: AtomicBool,
    sent: AtomicU64,
    dropped: AtomicU64,
    received: AtomicU64,
    refused: AtomicU64,
}

impl fmt::Debug for RedisNotices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisNotices").field("redis", &self.shared.redis).finish_non_exhaustive()
    }
}

impl RedisNotices {
    /// Starts to send and to hear, as soon as Redis can be reached. To be called within a runtime.
    pub fn start(redis: Redis) -> Self {
        let (outgoing, waiting) = mpsc::channel(WAITING);
        let shared = Arc::new(Shared {
            redis,
            instance: Uuid::now_v7(),
            heard: broadcast::channel(CAPACITY).0,
            owes: AtomicBool::new(false),
            sent: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            received: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        });
        let stop = CancellationToken::new();
        tokio::spawn(stop.clone().run_until_cancelled_owned(send(shared.clone(), waiting)));
        tokio::spawn(stop.clone().run_until_cancelled_owned(hear(shared.clone())));
        Self { shared, outgoing, _stop: Arc::new(stop.drop_guard()) }
    }

    /// Tells the other processes; returns at once, whatever Redis does. Not to be given what was heard of others.
    pub fn publish(&self, notice: Notice) {
        if let Err(TrySendError::Full(_) | TrySendError::Closed(_)) = self.outgoing.try_send(notice) {
            self.shared.drop_some(1);
        }
    }

    /// Tells the other processes whatever this listener hears, until it hears that no more will come.
    pub async fn forward(&self, mut local: listen::Receiver) {
        loop {
            match local.next().await {
                Heard::Notice(notice) => self.publish(notice),
                Heard::Missed => self.shared.owes.store(true, Ordering::Release),
                Heard::Closed => return,
            }
        }
    }

    /// Hears what the other processes tell from now on; [`Heard::Missed`] after every time that Redis could not be reached.
    /// Hints from outside: nothing may be decided by them but to read the truth.
    pub fn listen(&self) -> listen::Receiver {
        Box::new(Others(self.shared.heard.subscribe()))
    }

    /// Hears both what `local` hears and what the other processes tell, until `local` hears that no more will come.
    pub fn join(&self, local: listen::Receiver) -> listen::Receiver {
        Box::new(Joined { local, others: Others(self.shared.heard.subscribe()) })
    }

    /// What became of notices so far.
    pub fn stats(&self) -> NoticeStats {
        let read = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
        NoticeStats {
            sent: read(&self.shared.sent),
            dropped: read(&self.shared.dropped),
            heard: read(&self.shared.received),
            refused: read(&self.shared.refused),
        }
    }
}

impl Shared {
    fn channel(&self) -> String {
        format!("{}chimera:notices", self.redis.prefix())
    }

    fn drop_some(&self, count: usize) {
        self.dropped.fetch_add(count as u64, Ordering::Relaxed);
        self.owes.store(true, Ordering::Release);
    }

    fn message(&self, what: What) -> Option<Vec<u8>> {
        let message = serde_json::to_vec(&Message { from: self.instance, what }).ok()?;
        (message.len() <= MAX_MESSAGE).then_some(message)
    }

    fn read(&self, payload: &[u8]) -> Option<Message> {
        if payload.len() > MAX_MESSAGE {
            return None;
        }
        let message: Message = serde_json::from_slice(payload).ok()?;
        let is_sound = match &message.what {
            What::Notice(Notice::Progress { fraction, message, .. }) => {
                (0.0..=1.0).contains(fraction) && message.len() <= MAX_PROGRESS
            }
            What::Notice(_) | What::Missed => true,
        };
        is_sound.then_some(message)
    }

    fn receive(&self, payload: &[u8]) {
        let Some(message) = self.read(payload) else {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return;
        };
        if message.from == self.instance {
            return;
        }
        self.received.fetch_add(1, Ordering::Relaxed);
        // Nobody listening is no error.
        let _ = self.heard.send(match message.what {
            What::Notice(notice) => Heard::Notice(notice),
            What::Missed => Heard::Missed,
        });
    }
}

/// Sends what waits, several at once.
async fn send(shared: Arc<Shared>, mut waiting: mpsc::Receiver<Notice>) {
    let channel = shared.channel();
    let mut batch = Vec::with_capacity(AT_ONCE);
    while waiting.recv_many(&mut batch, AT_ONCE).await > 0 {
        let count = batch.len();
        let mut messages: Vec<Vec<u8>> =
            batch.drain(..).filter_map(|notice| shared.message(What::Notice(notice))).collect();
        if messages.len() < count {
            shared.drop_some(count - messages.len());
        }
        let sending = messages.len();
        let owes = shared.owes.swap(false, Ordering::AcqRel);
        messages.extend(owes.then(|| shared.message(What::Missed)).flatten());
        let mut publish = Pipeline::with_capacity(messages.len());
        for message in &messages {
            publish.cmd("PUBLISH").arg(&channel).arg(message).ignore();
        }
        match shared.redis.pipeline::<()>(&publish).await {
            Ok(()) => _ = shared.sent.fetch_add(sending as u64, Ordering::Relaxed),
            // Redis says itself in the log when it cannot be reached.
            Err(_) => shared.drop_some(sending),
        }
    }
}

/// Hears what the others send, and connects again whenever the connection ends.
async fn hear(shared: Arc<Shared>) {
    let mut failures = 0_u32;
    let mut has_missed = false;
    loop {
        if let Ok(connection) = shared.redis.listening().await {
            let (mut sink, messages) = connection.split();
            let subscribed = tokio::time::timeout(ASKED, sink.subscribe(shared.channel())).await;
            if matches!(subscribed, Ok(Ok(()))) {
                failures = 0;
                if has_missed {
                    let _ = shared.heard.send(Heard::Missed);
                }
                listen_to(&shared, sink, messages).await;
            }
        }
        has_missed = true;
        let pause = FIRST_PAUSE.saturating_mul(1 << failures.min(10)).min(LONGEST_PAUSE);
        failures = failures.saturating_add(1);
        tokio::time::sleep(pause.mul_f64(0.5 + rand::random::<f64>() / 2.0)).await;
    }
}

/// Until the connection ends, or says nothing when it is asked.
async fn listen_to(shared: &Shared, mut sink: ::redis::aio::PubSubSink, mut messages: ::redis::aio::PubSubStream) {
    loop {
        match tokio::time::timeout(ASKED, messages.next()).await {
            Ok(Some(message)) => shared.receive(message.get_payload_bytes()),
            Ok(None) => return,
            Err(_) => {
                let asked = tokio::time::timeout(ASKED, sink.ping::<::redis::Value>()).await;
                if !matches!(asked, Ok(Ok(_))) {
                    return;
                }
            }
        }
    }
}

/// Hears the others.
struct Others(broadcast::Receiver<Heard>);

#[async_trait]
impl Listener for Others {
    async fn next(&mut self) -> Heard {
        match self.0.recv().await {
            Ok(heard) => heard,
            Err(RecvError::Lagged(_)) => Heard::Missed,
            Err(RecvError::Closed) => Heard::Closed,
        }
    }
}

/// Hears two, until the first says that no more will come.
struct Joined {
    local: listen::Receiver,
    others: Others,
}

#[async_trait]
impl Listener for Joined {
    async fn next(&mut self) -> Heard {
        tokio::select! {
            heard = self.local.next() => heard,
            heard = self.others.next() => heard,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis::RedisOptions;
    use proptest::prelude::*;

    fn shared() -> Shared {
        Shared {
            redis: Redis::lazy(RedisOptions::new("redis://127.0.0.1:1")).expect("an address"),
            instance: Uuid::nil(),
            heard: broadcast::channel(4).0,
            owes: AtomicBool::new(false),
            sent: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            received: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let shared = shared();
        let id = Uuid::now_v7();
        let progress = |fraction: &str, message: &str| {
            format!(
                r#"{{"from":"{id}","what":{{"notice":{{"Progress":{{"campaign":null,"task":"{id}","fraction":{fraction},"message":"{message}"}}}}}}}}"#
            )
        };
        let mut heard = shared.heard.subscribe();
        for refused in [
            String::new(),
            "{".to_owned(),
            format!(r#"{{"from":"{id}","what":"missed","more":1}}"#),
            r#"{"from":"me","what":"missed"}"#.to_owned(),
            progress("2", ""),
            progress("1e999", ""),
            progress("0.5", &"x".repeat(MAX_PROGRESS + 1)),
            format!("{}{}", progress("0.5", ""), " ".repeat(MAX_MESSAGE)),
            "[".repeat(60_000),
        ] {
            shared.receive(refused.as_bytes());
        }
        assert_eq!(shared.refused.load(Ordering::Relaxed), 9);
        assert!(heard.try_recv().is_err());
        shared.receive(progress("0.5", "half").as_bytes());
        assert!(matches!(heard.try_recv(), Ok(Heard::Notice(Notice::Progress { .. }))));
        let own = shared.message(What::Missed).expect("short");
        shared.receive(&own);
        assert!(heard.try_recv().is_err(), "its own");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            shared().receive(&bytes);
        }
    }
}
